/** Reading one message by its id, and beginning at a time. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, failureOf, type CategoryMessage, type Client } from "../src/client.ts";
import { importAll, record } from "../src/import.ts";
import { subscribe, type Query } from "../src/sse.ts";
import { sharedServer, test, type Context } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const { fresh } = sharedServer();
const at = (seconds: number) => `2026-01-02T03:04:${String(seconds).padStart(2, "0")}Z`;

/** a-1 at 1, 7 and 9, b-1 at 2, 8 and 20, at the seconds 10, 10, 20, 20, 30 and 40. */
async function timed(): Promise<Client> {
  const client = fresh();
  const places = [[1, 10], [2, 10], [7, 20], [8, 20], [9, 30], [20, 40]] as const;
  await importAll(client, places.map(([gpos, seconds], i) => record({ gpos, pos: i >> 1, stream: i % 2 === 0 ? "a-1" : "b-1", time: at(seconds) })));
  return client;
}

async function globals(client: Client, method: string, name: string, options: object): Promise<number[]> {
  const found = await client.rpc<unknown[][]>(method, name, options);
  return found.map((each) => each[method === "stream.get" ? 3 : 4] as number);
}

test("[R-find.1] a message by its id, or null", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.write("a-1");
  await client.rpc("stream.write", "b-1", { type: "T", data: { x: 1 }, metadata: { y: 2 } }, { id });
  await client.write("b-1");
  const [, expected] = await client.rpc<CategoryMessage[]>("category.get", "");
  assert.deepEqual(await client.rpc("message.get", id), expected);
  assert.deepEqual(expected!.slice(0, 7), [id, "b-1", "T", 0, 2, { x: 1 }, { y: 2 }]);
  assert.equal(await client.rpc("message.get", randomUUID()), null);
  assert.equal(await fresh().rpc("message.get", id), null, "another namespace");
});

test("[R-find.2] an id in any case, and nothing else", async () => {
  const client = fresh();
  const id = `f${randomUUID().slice(1)}`;
  await client.rpc("stream.write", "a-1", { type: "T", data: {} }, { id });
  assert.equal((await client.rpc<CategoryMessage>("message.get", id.toUpperCase()))[0], id);
  for (const bad of [id.replaceAll("-", ""), `{${id}}`, "x", "", 7]) {
    await assertFails(client.failure("message.get", bad), 400, "INVALID_REQUEST", /id/);
  }
});

test("[R-read.14] a time stands for the position of the first message at or after it", async () => {
  const client = await timed();
  const firsts: [string, number][] = [[at(0), 1], [at(10), 1], [at(11), 7], [at(20), 7], [at(21), 9], [at(31), 20], [at(40), 20], ["2026-01-02T04:04:20+01:00", 7]];
  for (const [time, first] of firsts) {
    const all = [1, 2, 7, 8, 9, 20].filter((position) => position >= first);
    assert.deepEqual(await globals(client, "category.get", "", { time }), all, time);
    assert.deepEqual(await globals(client, "category.get", "b", { time }), all.filter((position) => [2, 8, 20].includes(position)), time);
    assert.deepEqual(await globals(client, "stream.get", "a-1", { time }), all.filter((position) => [1, 7, 9].includes(position)), time);
    assert.deepEqual(await globals(client, "category.get", "", { time, direction: "backward", batchSize: 1 }), [first], time);
  }
  assert.deepEqual(await globals(client, "stream.get", "a-1", { time: at(20), until: 8 }), [7], "until is a global position");
});

test("[R-read.14] behind the last message if there is none", async () => {
  const client = await timed();
  const reply = await client.call("category.get", "", { time: at(41) });
  assert.deepEqual([reply.text, reply.headers["x-eventodb-head"]], ["[]", "20"]);
  assert.deepEqual(await globals(client, "category.get", "", { time: at(41), direction: "backward", batchSize: 1 }), [20]);
  const waiting = globals(client, "category.get", "a", { time: "2100-01-01T00:00:00Z", waitMs: 30_000 });
  // The call may arrive after a write.
  const found = await until("the waiting read's answer", async () => {
    await client.write("a-1");
    return Promise.race([waiting, null]);
  });
  assert.ok(found[0]! > 20, `${found}`);
  assert.deepEqual(await globals(fresh(), "category.get", "", { time: at(1) }), [], "an empty log");
});

test("[R-read.14] written messages by their times", async () => {
  const client = fresh();
  for (let i = 0; i < 10; i++) await client.write(`a-${i % 3}`);
  const all = await client.rpc<CategoryMessage[]>("category.get", "");
  for (const [, , , , , , , time] of all) {
    const expected = all.filter((each) => each[7] >= time).map((each) => each[4]);
    assert.deepEqual(await globals(client, "category.get", "", { time }), expected);
  }
});

test("[R-read.15] a time beside a position, or one that is none", async () => {
  const client = await timed();
  for (const [method, name] of [["stream.get", "a-1"], ["category.get", "a"]] as const) {
    for (const other of ["position", "globalPosition"]) {
      const failure = await assertFails(client.failure(method, name, { time: at(1), [other]: 0 }), 400, "INVALID_REQUEST", /time/);
      assert.ok(failure.message.includes(other), failure.message);
    }
    for (const time of ["2026-01-02", "2026-01-02T03:04:05", "yesterday", 1767323045]) {
      await assertFails(client.failure(method, name, { time }), 400, "INVALID_REQUEST", /^time/);
    }
  }
});

test("[R-read.16] imported times that descend: one at or after the time, behind an earlier one", async () => {
  const client = fresh();
  const seconds = [30, 10, 40, 20, 20, 50, 5];
  await importAll(client, seconds.map((second, i) => record({ gpos: i + 1, time: at(second) })));
  for (let second = 0; second < 60; second++) {
    const [first] = await globals(client, "category.get", "", { time: at(second), batchSize: 1 });
    const place = (first ?? 8) - 1;
    assert.ok(place === 7 || seconds[place]! >= second, `${second}: ${first}`);
    assert.ok(place === 0 || seconds[place - 1]! < second, `${second}: ${first}`);
  }
});

test("[R-sub.18 R-resume.3 R-sub.14] a subscription from a time on", async (t) => {
  const client = await timed();
  const past = async (query: Query) => (await (await subscribe(t, client, query)).history()).map((poke) => poke.id);
  for (const [query, expected] of [
    [{ all: "true", time: at(20) }, [7, 8, 9, 20]],
    [{ all: "true", time: at(0) }, [1, 2, 7, 8, 9, 20]],
    [{ category: "a", time: at(11) }, [7, 9]],
    [{ category: "a,b", time: at(31) }, [20]],
    [{ stream: "b-1", time: at(20) }, [8, 20]],
    [{ stream: "b-1", time: at(20), lastEventId: 8 }, [20]],
    [{ all: "true", time: at(41) }, []],
  ] as [Query, number[]][]) assert.deepEqual(await past(query), expected, JSON.stringify(query));
  await assertReady(t, client, { all: "true", time: at(20) }, 6);
  await assertReady(t, client, { all: "true", time: at(41) }, 20);
});

/** The first frame tells the position, so that a client that is cut off then resumes there. */
async function assertReady(t: Context, client: Client, query: Query, expected: number): Promise<void> {
  const ready = (await (await subscribe(t, client, query)).upTo("ready")).at(-1);
  assert.deepEqual(ready, { kind: "ready", id: expected }, JSON.stringify(query));
}

test("[R-sub.19] a subscription with a time and a position, or with a time that is none", async () => {
  for (const query of [`all=true&time=${at(1)}&position=0`, "all=true&time=yesterday", "category=a&time=2026-01-02", "stream=a-1&time=2026-01-02T04:04:20+01:00"]) {
    const reply = await fresh().send({ path: `/subscribe?${query}` });
    assert.deepEqual([reply.status, failureOf(reply).code], [400, "INVALID_REQUEST"], query);
  }
});
