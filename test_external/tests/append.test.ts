/** stream.append: several messages to one stream. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, type Appended, type StreamMessage } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const batch = (count: number, withIds = false) =>
  Array.from({ length: count }, (_, n) => ({ type: "T", data: { n }, ...(withIds && { id: randomUUID() }) }));

test("[R-append.1] the messages stand together, in order", async () => {
  const client = fresh();
  await client.write("a-1");
  await client.write("b-1");
  const result = await client.rpc<Appended>("stream.append", "a-1", batch(3));
  assert.deepEqual(result, { firstPosition: 1, lastPosition: 3, firstGlobalPosition: 3, lastGlobalPosition: 5 });
  const found = await client.rpc<StreamMessage[]>("stream.get", "a-1", { position: 1 });
  assert.deepEqual(found.map((each) => [each[2], each[3], each[4].n]), [[1, 3, 0], [2, 4, 1], [3, 5, 2]]);
});

test("[R-append.2 R-version.1 R-version.4] a wrong version refuses all", async () => {
  const client = fresh();
  await client.rpc("stream.append", "a-1", batch(2), { expectedVersion: -1 });
  const failure = await client.failure("stream.append", "a-1", batch(2), { expectedVersion: 0 });
  assert.deepEqual([failure.code, failure.message, failure.details], [
    "STREAM_VERSION_CONFLICT", "Expected version 0, stream is at version 1", { expected: 0, actual: 1 },
  ]);
  await client.rpc("stream.append", "a-1", batch(2), { expectedVersion: 1 });
  assert.equal(await client.rpc("stream.version", "a-1"), 3);
});

test("[R-append.2] a bad message refuses all", async () => {
  const client = fresh();
  const bad: object[] = [{ type: "", data: {} }, { type: "T" }, { type: "T", data: {}, id: "x" }, { type: "T", data: {}, metadata: [] }];
  for (const message of bad) {
    await assertFails(client.failure("stream.append", "a-1", [...batch(2), message, ...batch(1)]), 400, "INVALID_REQUEST");
  }
  assert.equal(await client.rpc("stream.version", "a-1"), null);
});

test("[R-append.3] 1 to 1,000 messages", async () => {
  const client = fresh();
  await assertFails(client.failure("stream.append", "a-1", []), 400, "INVALID_REQUEST");
  await assertFails(client.failure("stream.append", "a-1", batch(1001)), 400, "INVALID_REQUEST");
  assert.equal((await client.rpc<Appended>("stream.append", "a-1", batch(1))).lastPosition, 0);
  assert.deepEqual(await client.rpc("stream.append", "a-1", batch(1000)), {
    firstPosition: 1, lastPosition: 1000, firstGlobalPosition: 2, lastGlobalPosition: 1001,
  });
});

test("[R-append.4 R-message.9] some messages with an id, some without", async () => {
  const client = fresh();
  const [given, other] = [randomUUID(), randomUUID()];
  await client.rpc("stream.append", "a-1", [{ type: "T", data: {}, id: given }, { type: "T", data: {} }, { type: "T", data: {}, id: other }]);
  const ids = (await client.rpc<StreamMessage[]>("stream.get", "a-1")).map((each) => each[0]);
  assert.deepEqual([ids[0], ids[2]], [given, other]);
  assert.match(ids[1]!, /^.{14}7/);
});

test("[R-append.5 R-idem.3] a repeated batch returns the original result, whatever version it expects", async () => {
  const client = fresh();
  const messages = batch(3, true);
  const original = await client.rpc<Appended>("stream.append", "a-1", messages, { expectedVersion: -1 });
  await client.write("a-1");
  for (const expectedVersion of [-1, 40, "any", "noStream"]) {
    assert.deepEqual(await client.rpc("stream.append", "a-1", messages, { expectedVersion }), original);
  }
  assert.equal(await client.rpc("stream.version", "a-1"), 3);
});

test("[R-append.5] a single written message may be repeated as a batch of one", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.rpc("stream.write", "a-1", { type: "T", data: {} }, { id });
  assert.deepEqual(await client.rpc("stream.append", "a-1", [{ type: "T", data: {}, id }]), {
    firstPosition: 0, lastPosition: 0, firstGlobalPosition: 1, lastGlobalPosition: 1,
  });
});

test("[R-append.6 R-append.2] any other batch with a known id is a conflict", async () => {
  const client = fresh();
  const known = batch(4, true);
  await client.rpc("stream.append", "a-1", known);
  const [first, second, third, fourth] = known;
  const others: [string, object[]][] = [
    ["reversed", [...known].reverse()],
    ["a gap", [first!, third!]],
    ["one more", [...known, ...batch(1, true)]],
    ["one more without an id", [...known, ...batch(1)]],
    ["one before", [...batch(1, true), ...known]],
    ["other content", [first!, second!, third!, { ...fourth!, data: { n: 99 } }]],
    ["other metadata", [{ ...first!, metadata: {} }, second!, third!, fourth!]],
    ["a known one among new ones", [...batch(2, true), second!, ...batch(2, true)]],
  ];
  for (const [what, messages] of others) {
    const failure = await client.failure("stream.append", "a-1", messages);
    assert.equal(failure.code, "MESSAGE_ID_CONFLICT", what);
  }
  await assertFails(client.failure("stream.append", "a-2", known), 409, "MESSAGE_ID_CONFLICT");
  assert.equal(await client.rpc("stream.version", "a-1"), 3);
});

test("[R-append.6 R-idem.6] an id twice in one batch is a conflict", async () => {
  const client = fresh();
  const id = randomUUID();
  const differing = [{ type: "T", data: { n: 1 }, id }, { type: "T", data: { n: 2 }, id }];
  const equal = [{ type: "T", data: {}, id }, { type: "T", data: {}, id: id.toUpperCase() }];
  for (const messages of [differing, equal]) {
    await assertFails(client.failure("stream.append", "a-1", messages), 409, "MESSAGE_ID_CONFLICT");
  }
  assert.equal(await client.rpc("stream.version", "a-1"), null);
});
