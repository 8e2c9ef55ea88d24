/** Writing and reading one stream. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, TIME, UUID, type StreamMessage } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "Happened", data: { n: 1 } };

test("[R-write.1 R-message.1 R-message.2] positions count from 0 in the stream and from 1 in the namespace", async () => {
  const client = fresh();
  assert.deepEqual(await client.rpc("stream.write", "a-1", message), { position: 0, globalPosition: 1 });
  assert.deepEqual(await client.rpc("stream.write", "b-1", message), { position: 0, globalPosition: 2 });
  assert.deepEqual(await client.rpc("stream.write", "a-1", message), { position: 1, globalPosition: 3 });
});

test("[R-get.1] a message of stream.get", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.rpc("stream.write", "a-1", { type: "T", data: { x: 1 }, metadata: { y: 2 } }, { id });
  const [found, ...rest] = await client.rpc<StreamMessage[]>("stream.get", "a-1");
  assert.deepEqual(rest, []);
  assert.deepEqual(found!.slice(0, 6), [id, "T", 0, 1, { x: 1 }, { y: 2 }]);
  assert.match(found![6], TIME);
  assert.equal(found!.length, 7);
});

test("[R-message.3 R-message.4 R-message.5] type, stream and data are what they must be", async () => {
  const client = fresh();
  const refused: [string, object][] = [
    ["", message],
    ["a-1", { type: "", data: {} }],
    ["a-1", { type: 7, data: {} }],
    ["a-1", { type: "T", data: [] }],
    ["a-1", { type: "T", data: "x" }],
    ["a-1", { type: "T" }],
  ];
  for (const [stream, bad] of refused) await assertFails(client.failure("stream.write", stream, bad), 400, "INVALID_REQUEST");
  assert.deepEqual(await client.rpc("category.get", ""), []);
});

test("[R-message.6] metadata is an object, null or absent", async () => {
  const client = fresh();
  await client.rpc("stream.write", "a-1", { type: "T", data: {} });
  await client.rpc("stream.write", "a-1", { type: "T", data: {}, metadata: null });
  await client.rpc("stream.write", "a-1", { type: "T", data: {}, metadata: {} });
  await client.rpc("stream.write", "a-1", { type: "T", data: {}, metadata: { a: [] } });
  const found = await client.rpc<StreamMessage[]>("stream.get", "a-1");
  assert.deepEqual(found.map((each) => each[5]), [null, null, {}, { a: [] }]);
  for (const metadata of ["x", 1, [], true]) {
    await assertFails(client.failure("stream.write", "a-1", { ...message, metadata }), 400, "INVALID_REQUEST", /metadata/);
  }
});

test("[R-message.7 R-message.8] any 8-4-4-4-12 hex digits are an id, returned in lower case", async () => {
  const client = fresh();
  // The first digits keep the three apart.
  const digits = randomUUID().slice(1);
  const ids = [`0${digits}`.toUpperCase(), `f${digits.slice(0, 13)}F${digits.slice(14, 18)}f${digits.slice(19)}`, `a${digits}`];
  for (const id of ids) await client.rpc("stream.write", "a-1", message, { id });
  const found = await client.rpc<StreamMessage[]>("stream.get", "a-1");
  assert.deepEqual(found.map((each) => each[0]), ids.map((id) => id.toLowerCase()));
});

test("[R-message.9] an id that was not given is a UUID of version 7", async () => {
  const client = fresh();
  await client.write("a-1");
  await client.fill("a-1", 20);
  const found = await client.rpc<StreamMessage[]>("stream.get", "a-1");
  assert.equal(new Set(found.map(([id]) => id)).size, 21);
  for (const [id, , , , , , time] of found) {
    assert.match(id, UUID);
    assert.match(id, /^.{14}7.{4}[89ab]/);
    const stamp = parseInt(id.replaceAll("-", "").slice(0, 12), 16);
    assert.ok(Math.abs(stamp - Date.parse(time)) < 60_000, "its time stamp is the time of the message");
  }
});

test("[R-message.14 R-message.15] times are UTC with microseconds, and never go backwards", async () => {
  const client = fresh();
  const before = Date.now();
  for (let i = 0; i < 30; i++) await client.write(`a-${i % 3}`);
  await client.fill("b-1", 30);
  const times = (await client.rpc<StreamMessage[]>("category.get", "")).map((each) => String(each.at(-1)));
  for (const time of times) assert.match(time, TIME);
  assert.deepEqual(times, [...times].sort());
  assert.ok(Math.abs(Date.parse(times[0]!) - before) < 60_000);
});

test("[R-get.2 R-read.5] position is the first that may come", async () => {
  const client = fresh();
  await client.fill("a-1", 5);
  const positions = async (position?: number) =>
    (await client.rpc<StreamMessage[]>("stream.get", "a-1", { position })).map((each) => each[2]);
  assert.deepEqual(await positions(), [0, 1, 2, 3, 4]);
  assert.deepEqual(await positions(0), [0, 1, 2, 3, 4]);
  assert.deepEqual(await positions(3), [3, 4]);
  assert.deepEqual(await positions(5), []);
  assert.deepEqual(await positions(-7), [0, 1, 2, 3, 4]);
});

test("[R-get.3 R-get.4 R-read.5] globalPosition keeps the later messages, and wins over position", async () => {
  const client = fresh();
  for (let i = 0; i < 4; i++) {
    await client.write("a-1"); // global positions 1, 3, 5, 7
    await client.write("b-1");
  }
  const globals = async (options: object) =>
    (await client.rpc<StreamMessage[]>("stream.get", "a-1", options)).map((each) => each[3]);
  assert.deepEqual(await globals({ globalPosition: 3 }), [3, 5, 7]);
  assert.deepEqual(await globals({ globalPosition: 4 }), [5, 7]);
  assert.deepEqual(await globals({ globalPosition: -1 }), [1, 3, 5, 7]);
  assert.deepEqual(await globals({ globalPosition: 3, position: 3 }), [3, 5, 7]);
  assert.deepEqual(await globals({ globalPosition: 7, position: 0 }), [7]);
});

test("[R-read.1 R-read.2 R-read.3 R-read.4] batchSize", async () => {
  const client = fresh();
  await client.fill("a-1", 10_002);
  for (const [method, name] of [["stream.get", "a-1"], ["category.get", "a"]] as const) {
    const count = async (options?: object) => (await client.rpc<unknown[]>(method, name, options)).length;
    assert.equal(await count(), 1000);
    assert.equal(await count({ batchSize: -1 }), 10_000);
    assert.equal(await count({ batchSize: 10_000 }), 10_000);
    assert.equal(await count({ batchSize: 0 }), 0);
    assert.equal(await count({ batchSize: 7 }), 7);
    for (const batchSize of [10_001, -2, 2 ** 40]) {
      await assertFails(client.failure(method, name, { batchSize }), 400, "INVALID_REQUEST", /batchSize/);
    }
  }
});

test("[R-last.1 R-last.2] the last message, or the last of a type", async () => {
  const client = fresh();
  assert.equal(await client.rpc("stream.last", "a-1"), null);
  await client.write("a-1", "Red", { n: 0 });
  await client.write("a-1", "Blue", { n: 1 });
  await client.write("a-1", "Red", { n: 2 });
  await client.write("a-1", "Green", { n: 3 });
  await client.write("b-1", "Blue", { n: 4 });
  const last = async (options?: object) => (await client.rpc<StreamMessage | null>("stream.last", "a-1", options))?.slice(1, 6);
  assert.deepEqual(await last(), ["Green", 3, 4, { n: 3 }, null]);
  assert.deepEqual(await last({ type: "Red" }), ["Red", 2, 3, { n: 2 }, null]);
  assert.deepEqual(await last({ type: "Blue" }), ["Blue", 1, 2, { n: 1 }, null]);
  assert.equal(await last({ type: "Yellow" }), undefined);
  const [whole] = await client.rpc<StreamMessage[]>("stream.get", "a-1", { position: 3 });
  assert.deepEqual(await client.rpc("stream.last", "a-1"), whole);
});

test("[R-version.9] the version of a stream", async () => {
  const client = fresh();
  assert.equal(await client.rpc("stream.version", "a-1"), null);
  await client.write("a-1");
  assert.equal(await client.rpc("stream.version", "a-1"), 0);
  await client.fill("a-1", 41);
  assert.equal(await client.rpc("stream.version", "a-1"), 41);
});

test("[R-get.1] streams whose names are alike are not mixed up", async () => {
  const client = fresh();
  const names = ["a-1", "A-1", "a-1 ", "a-10", "a-", "a", "a-%", "a-_", "é-1", "e\u0301-1"];
  for (const [n, name] of names.entries()) await client.write(name, "T", { n });
  for (const [n, name] of names.entries()) {
    assert.deepEqual((await client.rpc<StreamMessage[]>("stream.get", name)).map((each) => each[4]), [{ n }], name);
  }
});
