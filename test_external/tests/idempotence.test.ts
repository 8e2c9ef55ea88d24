/** Writing again with the same id. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, failureOf, tokenFor, type Client, type StreamMessage } from "../src/client.ts";
import { durableStorage, sharedServer, startServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "T", data: { a: 1 }, metadata: { b: 2 } };

test("[R-idem.1 R-idem.3] a repeated write returns the original positions, whatever version it expects", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.write("a-1");
  const original = await client.rpc("stream.write", "a-1", message, { id, expectedVersion: 0 });
  assert.deepEqual(original, { position: 1, globalPosition: 2 });
  await client.write("a-1");
  for (const expectedVersion of [undefined, 0, -1, 99, "noStream", "exists", "any"]) {
    assert.deepEqual(await client.rpc("stream.write", "a-1", message, { id, expectedVersion }), original, String(expectedVersion));
  }
  assert.deepEqual(await client.rpc("stream.write", "a-1", message, { id: id.toUpperCase() }), original, "case does not matter");
  assert.equal(await client.rpc("stream.version", "a-1"), 2);
  assert.deepEqual(await client.write("b-1"), { position: 0, globalPosition: 4 });
});

test("[R-idem.2] the same means byte-equal without white space", async () => {
  const client = fresh();
  const id = randomUUID();
  const write = (data: string, metadata = "") => client.post(`["stream.write","a-1",{"type":"T","data":${data}${metadata}},{"id":"${id}"}]`);
  const original = (await write('{"a":1.10,"b":"\\u0041"}')).text;
  const same: [string, string?][] = [['{ "a" : 1.10,\n"b":"\\u0041" }'], ['{"a":1.10,"b":"\\u0041"}', ',"metadata":null']];
  for (const [data, metadata] of same) assert.equal((await write(data, metadata)).text, original, data + metadata);
  const different: [string, string?][] = [
    ['{"a":1.1,"b":"\\u0041"}'], ['{"a":1.10,"b":"A"}'], ['{"b":"\\u0041","a":1.10}'], ['{"a":1.10,"b":"\\u0041","c":null}'],
    ['{"a":1.10,"b":"\\u0041"}', ',"metadata":{}'], ["{}"],
  ];
  for (const [data, metadata] of different) assert.equal(failureOf(await write(data, metadata)).code, "MESSAGE_ID_CONFLICT", data);
});

test("[R-idem.4 R-error.10] the same id with anything else is a conflict", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.rpc("stream.write", "a-1", message, { id });
  const others: [string, object][] = [
    ["a-2", message],
    ["b-1", message],
    ["a-1", { ...message, type: "U" }],
    ["a-1", { ...message, data: { a: 2 } }],
    ["a-1", { ...message, metadata: { b: 3 } }],
    ["a-1", { ...message, metadata: null }],
  ];
  for (const [stream, other] of others) {
    await assertFails(client.failure("stream.write", stream, other, { id }), 409, "MESSAGE_ID_CONFLICT");
    await assertFails(client.failure("stream.write", stream, other, { id, expectedVersion: 50 }), 409, "MESSAGE_ID_CONFLICT");
  }
  assert.equal((await client.rpc<unknown[]>("category.get", "")).length, 1);
});

test("[R-idem.1] ids of other namespaces do not matter", async () => {
  const id = randomUUID();
  for (const client of [fresh(), fresh()]) {
    assert.deepEqual(await client.rpc("stream.write", "a-1", message, { id }), { position: 0, globalPosition: 1 });
  }
});

test("[R-idem.1] a refused write leaves its id free", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.failure("stream.write", "a-1", message, { id, expectedVersion: 5 });
  assert.deepEqual(await client.rpc("stream.write", "a-2", { type: "U", data: {} }, { id }), { position: 0, globalPosition: 1 });
});

test("[R-idem.5] ids are remembered after a restart", async (t) => {
  const storage = await durableStorage(t);
  const id = randomUUID();
  const token = tokenFor("default");
  const options = { mode: "production", storage, flags: ["--token", token] } as const;
  const before = await startServer(t, options);
  const original = await before.client(token).rpc("stream.write", "a-1", message, { id });
  await before.stop();
  const client = (await startServer(t, options)).client(token);
  assert.deepEqual(await client.rpc("stream.write", "a-1", message, { id, expectedVersion: 7 }), original);
  await assertFails(client.failure("stream.write", "a-2", message, { id }), 409, "MESSAGE_ID_CONFLICT");
  assert.deepEqual(await ids(client), [id]);
});

test("[R-idem.6] of different messages with one id at the same time one is written", async () => {
  const client = fresh();
  const id = randomUUID();
  const replies = await Promise.all(
    Array.from({ length: 30 }, (_, n) => client.call("stream.write", "a-1", { type: "T", data: { n: n % 3 } }, { id })),
  );
  const written = replies.filter((reply) => reply.status === 200);
  assert.equal(written.length, 10);
  assert.deepEqual(new Set(written.map((reply) => reply.text)), new Set(['{"position":0,"globalPosition":1}']));
  for (const reply of replies.filter((each) => each.status !== 200)) assert.equal(failureOf(reply).code, "MESSAGE_ID_CONFLICT");
  assert.deepEqual(await ids(client), [id]);
});

async function ids(client: Client): Promise<string[]> {
  return (await client.rpc<StreamMessage[]>("stream.get", "a-1")).map((each) => each[0]);
}
