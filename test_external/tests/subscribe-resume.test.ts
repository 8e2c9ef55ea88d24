/** Nothing is lost: from history to live, behind a slow reader, over reconnects and restarts. */
import assert from "node:assert/strict";
import type { CategoryMessage, Client } from "../src/client.ts";
import { memberOf } from "../src/group.ts";
import { subscribe, type Poke, type Query } from "../src/sse.ts";
import { durableStorage, sharedServer, startServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const ids = (pokes: Poke[]) => pokes.map((poke) => poke.id);

/** Several clients writing one message at a time, `count` in all. */
async function writeAlong(client: Client, count: number): Promise<void> {
  await Promise.all(range(1, 16).map(async (writer) => {
    for (let i = 0; i < count / 16; i++) await client.write(`a-${(writer + i) % 40}`);
  }));
}

test("[R-sub.15] from history to live: every position once, in order", async (t) => {
  const client = fresh();
  await client.fill("a-x", 3000);
  const writing = writeAlong(client, 3200);
  const queries: Query[] = [{ all: "true", position: 1 }, { category: "a" }, { category: "a", position: 1500 }, { all: "true", lastEventId: 2990 }];
  const subscriptions = await Promise.all(queries.map((query) => subscribe(t, client, query)));
  const firsts = [1, 1, 1500, 2991];
  for (const [i, subscription] of subscriptions.entries()) {
    assert.deepEqual(ids(await subscription.pokes(6200 - firsts[i]! + 1)), range(firsts[i]!, 6200), JSON.stringify(queries[i]));
  }
  await writing;
});

test("[R-sub.15] one stream and one member of a group, while others write", async (t) => {
  const client = fresh();
  await client.fill("a-1", 500);
  const writing = writeAlong(client, 1600);
  const stream = await subscribe(t, client, { stream: "a-1", position: 100 });
  const members = await Promise.all(range(0, 2).map((consumer) => subscribe(t, client, { category: "a", consumer, size: 3 })));
  await writing;
  await client.rpc("streams.append", range(0, 39).map((i) => ({ stream: `a-${i}`, messages: [{ type: "Last", data: {} }] })));
  const version = await client.rpc<number>("stream.version", "a-1");
  assert.deepEqual((await stream.pokes(version - 100 + 1)).map((poke) => poke.position), range(100, version));
  const all = await client.rpc<CategoryMessage[]>("category.get", "a", { batchSize: -1 });
  for (const [i, member] of members.entries()) {
    const expected = all.filter((message) => memberOf(message[1], 3) === i).map((message) => message[4]);
    assert.deepEqual(ids(await member.pokes(expected.length)), expected, `member ${i}`);
  }
});

test("[R-frame.6 R-frame.8 R-sub.15] a reader that stops for a while loses nothing, and is told when it has caught up again", async (t) => {
  const client = fresh();
  const subscription = await subscribe(t, client, { all: "true", position: 1 });
  await subscription.upTo("caught-up");
  subscription.pause();
  const total = 40_000; // some 14 MB of pokes, more than the sockets in between hold
  for (let i = 0; i < 4; i++) await client.fill(`a-${String(i).repeat(250)}`, total / 4);
  subscription.resume();
  assert.deepEqual(ids(await subscription.pokes(total)), range(1, total));
  const again = (await subscription.upTo("caught-up")).at(-1);
  assert.deepEqual(again, { kind: "caught-up", head: total, id: total });
});

test("[R-resume.1 R-resume.2] Last-Event-ID in the header or in the query, whatever the subscription", async (t) => {
  const client = fresh();
  for (let i = 0; i < 5; i++) await client.rpc("streams.append", ["a-1", "b-1"].map((stream) => ({ stream, messages: [{ type: "T", data: {} }] })));
  const expected: [Query, number[]][] = [
    [{ stream: "a-1" }, [5, 7, 9]], [{ stream: "b-1" }, [4, 6, 8, 10]], [{ category: "a" }, [5, 7, 9]], [{ category: "a,b" }, range(4, 10)], [{ all: "true" }, range(4, 10)],
  ];
  for (const [query, pokes] of expected) {
    const byHeader = await subscribe(t, client, query, { "Last-Event-ID": "3" });
    const byQuery = await subscribe(t, client, { ...query, lastEventId: 3 });
    assert.deepEqual(ids(await byHeader.history()), pokes, JSON.stringify(query));
    assert.deepEqual(ids(await byQuery.history()), pokes, JSON.stringify(query));
  }
  const fromZero = await subscribe(t, client, { all: "true", lastEventId: 0 });
  assert.deepEqual(ids(await fromZero.history()), range(1, 10), "after 0 is everything");
});

test("[R-resume.3] Last-Event-ID wins over position", async (t) => {
  const client = fresh();
  await client.fill("a-1", 10);
  for (const query of [{ stream: "a-1", position: 2 }, { category: "a", position: 9 }, { all: "true", position: 0 }]) {
    const subscription = await subscribe(t, client, query, { "Last-Event-ID": "6" });
    assert.deepEqual(ids(await subscription.history()), [7, 8, 9, 10], JSON.stringify(query));
  }
});

test("[R-resume.1 R-sub.15] reconnecting again and again loses nothing", async (t) => {
  const client = fresh();
  const writing = writeAlong(client, 1600);
  const seen: number[] = [];
  while (seen.length < 1600) {
    const subscription = await subscribe(t, client, { all: "true", lastEventId: seen.at(-1) ?? 0 });
    const wanted = Math.min(1 + (seen.length * 7) % 90, 1600 - seen.length);
    seen.push(...ids(await subscription.pokes(wanted)));
    subscription.close();
  }
  await writing;
  assert.deepEqual(seen, range(1, 1600));
});

test("[R-resume.4 R-frame.9] on shutdown the stream ends cleanly, and goes on after a restart", async (t) => {
  const storage = await durableStorage(t);
  const first = await startServer(t, { storage });
  await first.client().fill("a-1", 5);
  const subscriptions = await Promise.all([{ category: "a" }, { all: "true", position: 1 }].map((query) => subscribe(t, first.client(), query)));
  for (const subscription of subscriptions) assert.equal((await subscription.history()).length, 5);
  await first.stop();
  for (const subscription of subscriptions) assert.deepEqual((await subscription.ended()).map((frame) => frame.kind), ["retry"]);
  const second = await startServer(t, { storage });
  await second.client().write("a-1");
  for (const query of [{ category: "a" }, { all: "true" }]) {
    const resumed = await subscribe(t, second.client(), query, { "Last-Event-ID": "5" });
    assert.deepEqual(ids(await resumed.history()), [6]);
  }
});

test("[R-frame.9 R-resume.1] the id of a frame without data is a place to resume from", async (t) => {
  const client = fresh();
  for (const stream of ["a-1", "b-1", "b-1", "b-1"]) await client.write(stream);
  const first = await subscribe(t, client, { category: "a" });
  const caughtUp = (await first.upTo("caught-up")).at(-1);
  assert.ok(caughtUp?.kind === "caught-up" && caughtUp.id === 4);
  await client.write("a-1");
  const resumed = await subscribe(t, client, { category: "a" }, { "Last-Event-ID": String(caughtUp.id) });
  assert.deepEqual(ids(await resumed.history()), [5]);
});
