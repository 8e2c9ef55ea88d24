/** What a subscription is about: its parameters, and which pokes follow from them. */
import assert from "node:assert/strict";
import { failureOf, type Client } from "../src/client.ts";
import { pokesOf, subscribe, type Poke, type Query } from "../src/sse.ts";
import { type Context, sharedServer, test } from "../src/suite.ts";

const { get, fresh } = sharedServer();
const ids = (pokes: Poke[]) => pokes.map((poke) => poke.id);

/** a-1 at 1, 3, 5, 7; b-1 at 2, 4, 6, 8. */
async function twoStreams(): Promise<Client> {
  const client = fresh();
  for (let i = 0; i < 4; i++) {
    await client.write("a-1");
    await client.write("b-1");
  }
  return client;
}

/** The pokes about what is there. */
async function past(t: Context, client: Client, query: Query): Promise<number[]> {
  return ids(await (await subscribe(t, client, query)).history());
}

test("[R-sub.1] exactly one of stream, category and all=true", async () => {
  for (const query of ["", "position=0", "stream=a-1&category=a", "stream=a-1&all=true", "category=a&all=true", "all=false", "stream=&category="]) {
    await assertRefused(query);
  }
});

test("[R-sub.2 R-sub.3 R-category.8] consumer groups are for categories, and whole", async () => {
  const group = ["consumer=0&size=2", "consumerGroupMember=0&consumerGroupSize=2"];
  for (const parameters of group) {
    await assertRefused(`stream=a-1&${parameters}`);
    await assertRefused(`all=true&${parameters}`);
  }
  const bad = ["consumer=0", "size=2", "consumer=2&size=2", "consumer=-1&size=2", "consumer=0&size=0", "consumer=x&size=2", "consumer=0&size=x", "consumer=0.0&size=2"];
  for (const parameters of bad) {
    await assertRefused(`category=a&${parameters}`);
    await assertRefused(`category=a&${parameters.replace("consumer", "consumerGroupMember").replace("size", "consumerGroupSize")}`);
  }
});

test("[R-sub.4] a position or a Last-Event-ID that is no number", async () => {
  for (const value of ["x", "1.5", "1e3", "0x10", "9223372036854775808", "--1", "1,2"]) {
    await assertRefused(`stream=a-1&position=${value}`);
    await assertRefused(`category=a&position=${value}`);
    await assertRefused(`all=true&lastEventId=${value}`);
    const reply = await fresh().send({ path: "/subscribe?all=true", headers: { "Last-Event-ID": value } });
    assert.deepEqual([reply.status, failureOf(reply).code], [400, "INVALID_REQUEST"], value);
  }
});

test("[R-sub.5] a query that is not UTF-8", async () => {
  for (const query of ["stream=%ff", "category=a%c3", "stream=%ed%a0%80-1", "all=true&token=%ff"]) await assertRefused(query);
});

test("[R-sub.6 R-sub.7] position: in the stream, or global", async (t) => {
  const client = await twoStreams();
  assert.deepEqual(await past(t, client, { stream: "a-1", position: 2 }), [5, 7]);
  assert.deepEqual(await past(t, client, { stream: "b-1", position: 3 }), [8]);
  assert.deepEqual(await past(t, client, { category: "a", position: 3 }), [3, 5, 7]);
  assert.deepEqual(await past(t, client, { category: "a", position: 4 }), [5, 7]);
  assert.deepEqual(await past(t, client, { all: "true", position: 6 }), [6, 7, 8]);
});

test("[R-sub.7] a position that is still to come", async (t) => {
  const client = await twoStreams();
  const stream = await subscribe(t, client, { stream: "a-1", position: 4 });
  const all = await subscribe(t, client, { all: "true", position: 9 });
  assert.deepEqual([await stream.history(), await all.history()], [[], []]);
  await client.write("a-1");
  assert.deepEqual([ids(await stream.pokes(1)), ids(await all.pokes(1))], [[9], [9]]);
});

test("[R-sub.8 R-sub.9] negative and missing are 0", async (t) => {
  const client = await twoStreams();
  for (const query of [{ stream: "a-1" }, { category: "a" }]) {
    assert.deepEqual(await past(t, client, query), [1, 3, 5, 7]);
    assert.deepEqual(await past(t, client, { ...query, position: 0 }), [1, 3, 5, 7]);
    assert.deepEqual(await past(t, client, { ...query, position: -5 }), [1, 3, 5, 7]);
  }
});

test("[R-sub.8 R-sub.9 R-sub.10] for all, 0 is from now on and 1 is from the start", async (t) => {
  const client = await twoStreams();
  for (const query of [{ all: "true" }, { all: "true", position: 0 }, { all: "true", position: -1 }]) {
    const subscription = await subscribe(t, client, query);
    const [, ready] = await subscription.upTo("ready");
    assert.ok(ready?.kind === "ready");
    const { globalPosition } = await client.write("a-1");
    assert.equal(ready.id, globalPosition - 1, "it begins at the head");
    assert.deepEqual(ids(await subscription.pokes(1)), [globalPosition]);
  }
  assert.deepEqual((await past(t, client, { all: "true", position: 1 })).slice(0, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("[R-sub.11 R-sub.12] the longer names of the group's parameters", async (t) => {
  const client = fresh();
  for (let i = 0; i < 20; i++) await client.write(`a-${i}`);
  for (const consumer of [0, 1]) {
    const short = await past(t, client, { category: "a", consumer, size: 2 });
    const long = await past(t, client, { category: "a", consumerGroupMember: consumer, consumerGroupSize: 2 });
    assert.deepEqual(long, short);
    assert.ok(short.length > 0 && short.length < 20);
  }
});

test("[R-sub.16] several categories, in one order", async (t) => {
  const client = await twoStreams();
  await client.write("c-1");
  assert.deepEqual(await past(t, client, { category: "a,c" }), [1, 3, 5, 7, 9]);
  const live = await subscribe(t, client, { category: "b,c,none", position: 8 });
  assert.deepEqual(ids(await live.history()), [8, 9]);
  for (const stream of ["a-1", "c-2", "b-2"]) await client.write(stream);
  assert.deepEqual(ids(await live.pokes(2)), [11, 12]);
});

test("[R-sub.17] coalesce merges pokes into the newest one per stream", async (t) => {
  const client = fresh();
  const subscription = await subscribe(t, client, { all: "true", coalesce: 300 });
  await subscription.upTo("ready");
  const messages = (count: number) => Array(count).fill({ type: "T", data: {} });
  await client.rpc("streams.append", [{ stream: "a-1", messages: messages(600) }, { stream: "b-1", messages: messages(400) }]);
  const pokes = await subscription.pokes(2);
  assert.deepEqual(pokes.map((poke) => [poke.stream, poke.position, poke.id]), [["a-1", 599, 600], ["b-1", 399, 1000]]);
  await client.write("a-1");
  assert.deepEqual(ids(await subscription.pokes(1)), [1001]);
  for (const value of ["x", "-1", "1.5"]) await assertRefused(`all=true&coalesce=${value}`);
});

test("[R-sub.15] a subscription is poked about its own messages only", async (t) => {
  const client = fresh();
  const stream = await subscribe(t, client, { stream: "a-1" });
  const category = await subscribe(t, client, { category: "a" });
  await Promise.all([stream.upTo("caught-up"), category.upTo("caught-up")]);
  for (const name of ["a-2", "aa-1", "a", "A-1", "b-1", "a-1 ", "a-1"]) await client.write(name);
  assert.deepEqual((await stream.pokes(1)).map((poke) => poke.stream), ["a-1"]);
  assert.deepEqual((await category.pokes(4)).map((poke) => poke.stream), ["a-2", "a", "a-1 ", "a-1"]);
});

test("[R-sub.15] what was imported live is poked about too", async (t) => {
  const client = fresh();
  const subscription = await subscribe(t, client, { category: "a" });
  await subscription.upTo("caught-up");
  const id = "00000000-0000-0000-0000-000000000001";
  const record = { id, stream: "a-1", type: "T", pos: 4, gpos: 70, data: {}, meta: null, time: "2026-01-02T03:04:05Z" };
  await client.send({ path: "/import", body: JSON.stringify(record) });
  assert.deepEqual(pokesOf(await subscription.upTo("poke")), [{ kind: "poke", id: 70, stream: "a-1", position: 4, globalPosition: 70 }]);
});

async function assertRefused(query: string): Promise<void> {
  const reply = await get().fresh().send({ path: `/subscribe?${query}` });
  assert.deepEqual([reply.status, failureOf(reply).code], [400, "INVALID_REQUEST"], query);
}
