/** Expected versions and what happens when they are wrong. */
import assert from "node:assert/strict";
import { assertFails, type StreamMessage } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "T", data: {} };

test("[R-version.1 R-version.4] the position of the last message is expected, anything else is a conflict", async () => {
  const client = fresh();
  await client.fill("a-1", 2);
  for (const expected of [5, 2, 0]) {
    const failure = await client.failure("stream.write", "a-1", message, { expectedVersion: expected });
    assert.deepEqual(failure, {
      status: 409,
      code: "STREAM_VERSION_CONFLICT",
      message: `Expected version ${expected}, stream is at version 1`,
      details: { expected, actual: 1 },
    });
  }
  assert.deepEqual(await client.rpc("stream.write", "a-1", message, { expectedVersion: 1 }), { position: 2, globalPosition: 3 });
});

test("[R-version.2 R-version.4 R-version.5 R-version.7] -1 and noStream expect that there is no stream", async () => {
  const client = fresh();
  await client.rpc("stream.write", "a-1", message, { expectedVersion: -1 });
  await client.rpc("stream.write", "a-2", message, { expectedVersion: "noStream" });
  for (const expectedVersion of [-1, "noStream"]) {
    const failure = await client.failure("stream.write", "a-1", message, { expectedVersion });
    assert.deepEqual([failure.status, failure.code, failure.details], [409, "STREAM_VERSION_CONFLICT", { expected: -1, actual: 0 }]);
  }
  const missing = await client.failure("stream.write", "a-3", message, { expectedVersion: 4 });
  assert.deepEqual(missing.details, { expected: 4, actual: -1 });
});

test("[R-version.3] below -1 is a bad request", async () => {
  const client = fresh();
  for (const expectedVersion of [-2, -1000]) {
    await assertFails(client.failure("stream.write", "a-1", message, { expectedVersion }), 400, "INVALID_REQUEST", /expectedVersion/);
  }
});

test("[R-version.6] any takes every version", async () => {
  const client = fresh();
  for (const position of [0, 1, 2]) {
    const written = await client.rpc("stream.write", "a-1", message, { expectedVersion: "any" });
    assert.equal(written.position, position);
  }
  await client.rpc("stream.append", "a-1", [message], { expectedVersion: "any" });
  await client.rpc("streams.append", [{ stream: "a-1", messages: [message], expectedVersion: "any" }]);
  assert.equal(await client.rpc("stream.version", "a-1"), 4);
});

test("[R-version.8] exists expects a message", async () => {
  const client = fresh();
  const failure = await client.failure("stream.write", "a-1", message, { expectedVersion: "exists" });
  assert.deepEqual([failure.status, failure.code, failure.details], [409, "STREAM_VERSION_CONFLICT", { expected: "exists", actual: -1 }]);
  await client.write("a-1");
  assert.deepEqual(await client.rpc("stream.write", "a-1", message, { expectedVersion: "exists" }), { position: 1, globalPosition: 2 });
});

test("[R-version.6 R-version.7 R-version.8] the words are taken wherever a version is", async () => {
  const client = fresh();
  await client.write("old-1");
  const entry = (stream: string, expectedVersion: unknown) => ({ stream, messages: [message], expectedVersion });
  await client.rpc("stream.append", "new-1", [message], { expectedVersion: "noStream" });
  await client.rpc("stream.append", "old-1", [message], { expectedVersion: "exists" });
  await client.rpc("streams.append", [entry("new-2", "noStream"), entry("old-1", "exists")], {
    checks: [{ stream: "new-1", expectedVersion: "exists" }, { stream: "none-1", expectedVersion: "noStream" }, { stream: "none-2", expectedVersion: "any" }],
  });
  const failure = await client.failure("streams.append", [entry("none-1", "exists")], {
    checks: [{ stream: "old-1", expectedVersion: "noStream" }],
  });
  assert.deepEqual(failure.details.conflicts, [
    { stream: "none-1", expected: "exists", actual: -1 },
    { check: 0, stream: "old-1", expected: -1, actual: 2 },
  ]);
});

test("[R-write.2] a refused write takes no position", async () => {
  const client = fresh();
  await client.write("a-1");
  await client.failure("stream.write", "a-1", message, { expectedVersion: 9 });
  await client.failure("stream.write", "a-1", { type: "", data: {} });
  await client.failure("stream.append", "a-1", [message, message], { expectedVersion: 9 });
  await client.failure("streams.append", [{ stream: "b-1", messages: [message] }], { checks: [{ stream: "a-1", expectedVersion: 9 }] });
  await client.failure("stream.write", "b-1", { type: "T", data: { x: "x".repeat(2 ** 20) } });
  await client.write("b-1");
  const found = await client.rpc<StreamMessage[]>("category.get", "");
  assert.deepEqual(found.map((each) => each.slice(1, 5)), [["a-1", "Happened", 0, 1], ["b-1", "Happened", 0, 2]]);
});
