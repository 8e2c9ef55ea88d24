/** Options of both reads, and how far a read looked. */
import assert from "node:assert/strict";
import { assertFails, type Client, type StreamMessage } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
type Read = { globals: number[]; head: string | undefined };

async function read(client: Client, method: string, name: string | string[], options?: object): Promise<Read> {
  const reply = await client.call(method, name, options);
  assert.equal(reply.status, 200, reply.text);
  const place = method === "stream.get" ? 3 : 4;
  return { globals: JSON.parse(reply.text).map((each: unknown[]) => each[place]), head: reply.headers["x-eventodb-head"] as string | undefined };
}

/** a-1 at 1, 3, 5, 7, 9 with types Red, Blue, Red, …; b-1 at 2, 4, 6, 8, 10. */
async function twoStreams(): Promise<Client> {
  const client = fresh();
  for (let i = 0; i < 5; i++) {
    await client.write("a-1", i % 2 === 0 ? "Red" : "Blue");
    await client.write("b-1", "Red");
  }
  return client;
}

test("[R-read.5 R-read.6 R-read.7] backward in a stream: positions in the stream", async () => {
  const client = await twoStreams();
  const globals = async (options: object) => (await read(client, "stream.get", "a-1", { direction: "backward", ...options })).globals;
  assert.deepEqual(await globals({}), [9, 7, 5, 3, 1]);
  assert.deepEqual(await globals({ position: 2 }), [5, 3, 1]);
  assert.deepEqual(await globals({ position: 2, batchSize: 2 }), [5, 3]);
  assert.deepEqual(await globals({ position: 0 }), [1]);
  assert.deepEqual(await globals({ position: -1 }), [], "who reads on before the first message is done");
  assert.deepEqual(await globals({ position: 99 }), [9, 7, 5, 3, 1]);
  assert.deepEqual(await globals({ batchSize: 1 }), [9]);
});

test("[R-read.6 R-read.7] backward in a category: global positions", async () => {
  const client = await twoStreams();
  const globals = async (category: string | string[], options: object) =>
    (await read(client, "category.get", category, { direction: "backward", ...options })).globals;
  assert.deepEqual(await globals("a", {}), [9, 7, 5, 3, 1]);
  assert.deepEqual(await globals("a", { position: 5 }), [5, 3, 1]);
  assert.deepEqual(await globals("a", { position: 6, batchSize: 2 }), [5, 3]);
  assert.deepEqual(await globals("", { batchSize: 3 }), [10, 9, 8]);
  assert.deepEqual(await globals(["a", "b"], { position: 4 }), [4, 3, 2, 1]);
});

test("[R-read.6] forward is the other word", async () => {
  const client = await twoStreams();
  assert.deepEqual((await read(client, "stream.get", "a-1", { direction: "forward", batchSize: 2 })).globals, [1, 3]);
});

test("[R-read.8] only some types", async () => {
  const client = await twoStreams();
  assert.deepEqual((await read(client, "stream.get", "a-1", { types: ["Blue"] })).globals, [3, 7]);
  assert.deepEqual((await read(client, "stream.get", "a-1", { types: ["Red"], batchSize: 2 })).globals, [1, 5]);
  assert.deepEqual((await read(client, "category.get", "", { types: ["Blue", "Green"] })).globals, [3, 7]);
  assert.deepEqual((await read(client, "category.get", "", { types: ["Blue", "Red"], position: 7 })).globals, [7, 8, 9, 10]);
  assert.deepEqual((await read(client, "category.get", "", { types: ["blue"] })).globals, []);
  assert.deepEqual((await read(client, "category.get", "", { types: ["Blue"], direction: "backward" })).globals, [7, 3]);
});

test("[R-read.9] until is inclusive", async () => {
  const client = await twoStreams();
  assert.deepEqual((await read(client, "category.get", "a", { until: 5 })).globals, [1, 3, 5]);
  assert.deepEqual((await read(client, "category.get", "a", { position: 3, until: 8 })).globals, [3, 5, 7]);
  assert.deepEqual((await read(client, "category.get", "", { position: 5, until: 4 })).globals, []);
  assert.deepEqual((await read(client, "category.get", "", { until: 4, direction: "backward" })).globals, [4, 3, 2, 1]);
  assert.deepEqual((await read(client, "stream.get", "a-1", { until: 2 })).globals, [1, 3, 5], "a position in the stream");
  assert.deepEqual((await read(client, "stream.get", "a-1", { position: 1, until: 2 })).globals, [3, 5]);
  assert.deepEqual((await read(client, "stream.get", "a-1", { globalPosition: 2, until: 5 })).globals, [3, 5], "a global one");
});

test("[R-read.10] a read that waits returns the first matching message", async () => {
  const client = await twoStreams();
  const waiting: [string, string, object][] = [
    ["stream.get", "a-1", { position: 5 }],
    ["stream.get", "new-1", {}],
    ["category.get", "a", { position: 11 }],
    ["category.get", "new", {}],
    ["category.get", "", { position: 11, types: ["Green"] }],
  ];
  const reads = waiting.map(([method, name, options]) => client.rpc<StreamMessage[]>(method, name, { ...options, waitMs: 30_000 }));
  await client.write("other-1");
  await client.write("a-1", "Green");
  await client.write("new-1", "Green");
  for (const [i, found] of (await Promise.all(reads)).entries()) {
    const stream = waiting[i]![0] === "stream.get" ? undefined : found[0]![1];
    assert.ok(found.length >= 1, JSON.stringify(waiting[i]));
    if (stream) assert.match(stream, waiting[i]![1] === "new" ? /^new-1$/ : /^a-1$/);
  }
});

test("[R-read.10] a read with something to return does not wait", async () => {
  const client = await twoStreams();
  const before = Date.now();
  assert.equal((await read(client, "stream.get", "a-1", { waitMs: 30_000 })).globals.length, 5);
  assert.ok(Date.now() - before < 20_000);
});

test("[R-read.11] a read waits waitMs at most", async () => {
  const client = fresh();
  const before = performance.now();
  assert.deepEqual(await client.rpc("stream.get", "a-1", { waitMs: 300 }), []);
  assert.ok(performance.now() - before >= 290, "it waited");
  assert.deepEqual(await client.rpc("category.get", "a", { waitMs: 0 }), []);
});

test("[R-read.12] waitMs is at most 30,000", async () => {
  const client = fresh();
  for (const waitMs of [30_001, -1, 2 ** 45]) {
    await assertFails(client.failure("stream.get", "a-1", { waitMs }), 400, "INVALID_REQUEST", /waitMs/);
    await assertFails(client.failure("category.get", "a", { waitMs }), 400, "INVALID_REQUEST", /waitMs/);
  }
});

test("[R-head.1 R-head.3] a complete answer reaches to the head of the log", async () => {
  const client = await twoStreams();
  const reads: [string, string | string[], object?][] = [
    ["stream.get", "a-1"], ["stream.get", "none-1"], ["stream.get", "a-1", { position: 5 }], ["stream.get", "a-1", { globalPosition: 9 }],
    ["category.get", "a"], ["category.get", "none"], ["category.get", ""], ["category.get", ["a", "none"]], ["category.get", "x-y"],
    ["category.get", "a", { position: 11 }], ["category.get", "a", { types: ["Green"] }], ["category.get", "a", { correlation: "x" }],
    ["category.get", "", { consumerGroup: { member: 0, size: 1 } }],
  ];
  for (const [method, name, options] of reads) {
    assert.equal((await read(client, method, name, options)).head, "10", JSON.stringify([method, name, options]));
  }
  assert.equal((await read(fresh(), "category.get", "a")).head, "0", "an empty log");
});

test("[R-head.2] a page that was cut reaches to its last message", async () => {
  const client = await twoStreams();
  assert.deepEqual(await read(client, "category.get", "a", { batchSize: 2 }), { globals: [1, 3], head: "3" });
  assert.deepEqual(await read(client, "category.get", "a", { position: 4, batchSize: 2 }), { globals: [5, 7], head: "7" });
  assert.deepEqual(await read(client, "stream.get", "a-1", { batchSize: 4 }), { globals: [1, 3, 5, 7], head: "7" });
  assert.deepEqual(await read(client, "category.get", "", { types: ["Blue"], batchSize: 1 }), { globals: [3], head: "3" });
});

test("[R-head.4] never above until", async () => {
  const client = await twoStreams();
  assert.deepEqual(await read(client, "category.get", "a", { until: 6 }), { globals: [1, 3, 5], head: "6" });
  assert.deepEqual(await read(client, "category.get", "none", { until: 4 }), { globals: [], head: "4" });
  assert.deepEqual(await read(client, "category.get", "a", { until: 99 }), { globals: [1, 3, 5, 7, 9], head: "10" });
  assert.deepEqual(await read(client, "stream.get", "a-1", { globalPosition: 1, until: 4 }), { globals: [1, 3], head: "4" });
});

test("[R-head.5] backward reads do not carry it", async () => {
  const client = await twoStreams();
  assert.equal((await read(client, "category.get", "a", { direction: "backward" })).head, undefined);
  assert.equal((await read(client, "stream.get", "a-1", { direction: "backward" })).head, undefined);
});

test("[R-head.1 R-read.10] the head of a read that waited covers what it returned", async () => {
  const client = fresh();
  const waiting = read(client, "category.get", "a", { waitMs: 30_000 });
  const { globalPosition } = await client.write("a-1");
  const { globals, head } = await waiting;
  assert.deepEqual(globals, [globalPosition]);
  assert.ok(Number(head) >= globalPosition);
});
