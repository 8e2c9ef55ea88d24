/** streams.append: several streams in one atomic write, with checks on others. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, type Appended, type CategoryMessage } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "T", data: {} };
const entry = (stream: string, count = 1, expectedVersion?: number | string) => ({
  stream, messages: Array(count).fill(message), ...(expectedVersion !== undefined && { expectedVersion }),
});
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

test("[R-multi.1 R-multi.2] a result for each entry, in their order", async () => {
  const client = fresh();
  await client.write("b-1");
  const results = await client.rpc<Appended[]>("streams.append", [entry("a-1", 2), entry("b-1", 1, 0), entry("c-1", 3, -1)]);
  assert.deepEqual(results, [
    { firstPosition: 0, lastPosition: 1, firstGlobalPosition: 2, lastGlobalPosition: 3 },
    { firstPosition: 1, lastPosition: 1, firstGlobalPosition: 4, lastGlobalPosition: 4 },
    { firstPosition: 0, lastPosition: 2, firstGlobalPosition: 5, lastGlobalPosition: 7 },
  ]);
  const found = await client.rpc<CategoryMessage[]>("category.get", "", { position: 2 });
  assert.deepEqual(found.map((each) => [each[1], each[3]]), [["a-1", 0], ["a-1", 1], ["b-1", 1], ["c-1", 0], ["c-1", 1], ["c-1", 2]]);
});

test("[R-multi.2 R-multi.4] all expectations that failed are told, and nothing is written", async () => {
  const client = fresh();
  await client.write("a-1");
  await client.write("b-1");
  const failure = await client.failure(
    "streams.append",
    [entry("a-1", 1, 5), entry("c-1", 1, -1), entry("b-1", 1, "noStream"), entry("d-1", 1, "exists")],
    { checks: [{ stream: "e-1", expectedVersion: 3 }, { stream: "c-1", expectedVersion: -1 }] },
  );
  assert.deepEqual([failure.status, failure.code], [409, "STREAM_VERSION_CONFLICT"]);
  assert.deepEqual(failure.details.conflicts, [
    { stream: "a-1", expected: 5, actual: 0 },
    { stream: "b-1", expected: -1, actual: 0 },
    { stream: "d-1", expected: "exists", actual: -1 },
    { check: 0, stream: "e-1", expected: 3, actual: -1 },
  ]);
  assert.equal((await client.rpc<unknown[]>("category.get", "")).length, 2);
});

test("[R-multi.3] checks on streams that are not written", async () => {
  const client = fresh();
  await client.write("a-1");
  await client.rpc("streams.append", [entry("b-1")], { checks: [{ stream: "a-1", expectedVersion: 0 }, { stream: "x-1", expectedVersion: -1 }] });
  const failure = await client.failure("streams.append", [entry("b-1")], { checks: [{ stream: "a-1", expectedVersion: 1 }] });
  assert.deepEqual(failure.details.conflicts, [{ check: 0, stream: "a-1", expected: 1, actual: 0 }]);
  assert.equal(await client.rpc("stream.version", "b-1"), 0);
  assert.equal(await client.rpc("stream.version", "x-1"), null, "a check writes nothing");
});

test("[R-multi.3] a stream may be written and checked, and the check is about the time before", async () => {
  const client = fresh();
  await client.rpc("streams.append", [entry("a-1", 2)], { checks: [{ stream: "a-1", expectedVersion: -1 }] });
  await client.rpc("streams.append", [entry("a-1")], { checks: [{ stream: "a-1", expectedVersion: 1 }] });
  assert.equal(await client.rpc("stream.version", "a-1"), 2);
});

test("[R-multi.5 R-multi.6] a stream at most once among the entries, and once among the checks", async () => {
  const client = fresh();
  await assertFails(client.failure("streams.append", [entry("a-1"), entry("b-1"), entry("a-1")]), 400, "INVALID_REQUEST");
  const check = { stream: "b-1", expectedVersion: -1 };
  await assertFails(client.failure("streams.append", [entry("a-1")], { checks: [check, check] }), 400, "INVALID_REQUEST");
  assert.deepEqual(await client.rpc("category.get", ""), []);
});

test("[R-multi.7] 1 to 1,000 messages in all", async () => {
  const client = fresh();
  await assertFails(client.failure("streams.append", []), 400, "INVALID_REQUEST");
  await assertFails(client.failure("streams.append", [entry("a-1", 0)]), 400, "INVALID_REQUEST");
  await assertFails(client.failure("streams.append", [entry("a-1", 500), entry("b-1", 501)]), 400, "INVALID_REQUEST");
  const results = await client.rpc<Appended[]>("streams.append", [entry("a-1", 500), entry("b-1", 500)]);
  assert.equal(results[1]!.lastGlobalPosition, 1000);
});

test("[R-multi.8] at most 100 streams", async () => {
  const client = fresh();
  const entries = range(101).map((i) => entry(`a-${i}`));
  await assertFails(client.failure("streams.append", entries), 400, "INVALID_REQUEST");
  assert.equal((await client.rpc<Appended[]>("streams.append", entries.slice(1))).length, 100);
});

test("[R-multi.9] at most 100 checks", async () => {
  const client = fresh();
  const checks = range(101).map((i) => ({ stream: `b-${i}`, expectedVersion: -1 }));
  await assertFails(client.failure("streams.append", [entry("a-1")], { checks }), 400, "INVALID_REQUEST");
  await client.rpc("streams.append", [entry("a-1")], { checks: checks.slice(1) });
});

test("[R-multi.10 R-append.5 R-append.6] repeated by its ids", async () => {
  const client = fresh();
  const withIds = (stream: string) => ({ stream, messages: [{ ...message, id: randomUUID() }, { ...message, id: randomUUID() }], expectedVersion: -1 });
  const [a, b] = [withIds("a-1"), withIds("b-1")];
  const original = await client.rpc("streams.append", [a, b]);
  await client.write("a-1");
  const checks = [{ stream: "a-1", expectedVersion: 77 }];
  assert.deepEqual(await client.rpc("streams.append", [a, b]), original);
  assert.deepEqual(await client.rpc("streams.append", [a, b], { checks }), original, "checks were done the first time");
  const others = [[b, a], [a, withIds("c-1")], [{ ...a, stream: "c-1" }, b], [a, { ...b, messages: [...b.messages].reverse() }]];
  for (const entries of others) await assertFails(client.failure("streams.append", entries), 409, "MESSAGE_ID_CONFLICT");
  assert.equal((await client.rpc<unknown[]>("category.get", "")).length, 5);
});
