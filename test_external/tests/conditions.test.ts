/** Conditions: a write that happens only if no such message has come meanwhile. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, type Appended, type Client } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "Taken", data: {} };
const range = (length: number) => Array.from({ length }, (_, i) => i);

/** Takes a seat under these checks. */
const take = (client: Client, checks: object[], stream = "seat-1", entry: object = message) =>
  client.call("streams.append", [{ stream, messages: [entry] }], { checks });
const taking = (client: Client, checks: object[]) => client.failure("streams.append", [{ stream: "seat-1", messages: [message] }], { checks });

/** `Red` in a-1 at 1 and 4, `Blue` in b-1 at 2 and 5, `Red` in c-1 at 3 and 6. */
async function six(): Promise<Client> {
  const client = fresh();
  for (let i = 0; i < 2; i++) {
    await client.write("a-1", "Red");
    await client.write("b-1", "Blue");
    await client.write("c-1", "Red");
  }
  return client;
}

test("[R-condition.1] a message that matches above a position", async () => {
  const client = await six();
  const lasts: [object, number][] = [
    [{ categories: ["a"] }, 4], [{ types: ["Red"] }, 6], [{ categories: ["a", "b"], types: ["Blue"] }, 5], [{ categories: ["a"], types: ["Blue"] }, 0],
    [{ categories: ["none"] }, 0], [{ types: ["red"] }, 0], [{ categories: ["a", "b", "c"], types: ["Red", "Blue"] }, 6],
  ];
  for (const [match, last] of lasts) {
    for (const after of range(7)) {
      const reply = await take(client, [{ match, after }]);
      assert.equal(reply.status, after < last ? 409 : 200, `${JSON.stringify(match)} after ${after}: ${reply.text}`);
    }
  }
});

test("[R-condition.2] no message at all", async () => {
  const client = await six();
  for (const absent of [{ categories: ["a"] }, { types: ["Blue"] }, { categories: ["c"], types: ["Red", "Green"] }]) {
    await assertFails(taking(client, [{ absent }]), 409, "CONDITION_FAILED");
  }
  for (const absent of [{ categories: ["none"] }, { types: ["Green"] }, { categories: ["c"], types: ["Blue"] }]) {
    assert.equal((await take(client, [{ absent }])).status, 200, JSON.stringify(absent));
  }
});

test("[R-condition.3] lists that are left out, and empty ones", async () => {
  const client = await six();
  for (const names of [{}, { categories: null }, { categories: [] }, { types: [] }, { categories: ["a"], types: [] }, { categories: [], types: ["Red"] }]) {
    await assertFails(taking(client, [{ absent: names }]), 400, "INVALID_REQUEST", /checks\[0\]\.absent/);
    await assertFails(taking(client, [{ match: names, after: 0 }]), 400, "INVALID_REQUEST", /checks\[0\]\.match/);
  }
  await assertFails(taking(client, [{ absent: { categories: [""] } }]), 409, "CONDITION_FAILED");
  assert.equal((await take(client, [{ absent: { categories: ["a-1"] } }])).status, 200, "no category has that name");
});

test("[R-condition.4] of racing writes that exclude each other exactly one happens", async () => {
  const client = fresh();
  for (const round of range(10)) {
    const type = `Taken${round}`;
    const check = round % 2 === 0 ? { absent: { types: [type] } } : { match: { categories: ["seat"], types: [type] }, after: round };
    const replies = await Promise.all(range(16).map((i) => take(client, [check], `seat-${i}`, { ...message, type })));
    const statuses = replies.map(({ status }) => status).sort();
    assert.deepEqual(statuses, [200, ...Array(15).fill(409)], `round ${round}`);
  }
  assert.equal((await client.rpc<unknown[]>("category.get", "seat")).length, 10);
});

test("[R-condition.4] messages of the same call do not count", async () => {
  const client = fresh();
  const entries = ["seat-1", "seat-2"].map((stream) => ({ stream, messages: [message, message] }));
  const [, second] = await client.rpc<Appended[]>("streams.append", entries, { checks: [{ absent: { types: ["Taken"] } }] });
  assert.equal(second!.lastGlobalPosition, 4);
  await assertFails(client.failure("streams.append", entries, { checks: [{ absent: { types: ["Taken"] } }] }), 409, "CONDITION_FAILED");
});

test("[R-condition.5] the head of a read is what a decision stands on", async () => {
  const client = await six();
  const head = async () => Number((await client.call("category.get", "seat")).headers["x-eventodb-head"]);
  const match = { categories: ["seat"] };
  const first = await head();
  assert.equal((await take(client, [{ match, after: first }])).status, 200);
  await assertFails(taking(client, [{ match, after: first }]), 409, "CONDITION_FAILED");
  assert.equal((await take(client, [{ match, after: await head() }])).status, 200);
  await assertFails(taking(client, [{ match, after: -1 }]), 400, "INVALID_REQUEST", /after/);
  await assertFails(taking(client, [{ match }]), 400, "INVALID_REQUEST", /after/);
  await assertFails(taking(client, [{ absent: match, after: 3 }]), 400, "INVALID_REQUEST", /after/);
});

test("[R-condition.6] what failed is told as it was sent, with a message that is in the way", async () => {
  const client = await six();
  const match = { categories: ["c"], types: ["Red"] };
  const failure = await taking(client, [{ match, after: 3 }, { absent: { types: ["Green"] } }, { absent: { categories: ["b"], types: ["Blue"] } }]);
  const [first, second] = failure.details.conflicts;
  assert.deepEqual(failure.details.conflicts.length, 2);
  assert.deepEqual(first, { check: 0, match, after: 3, found: 6 });
  assert.deepEqual({ ...second, found: 0 }, { check: 2, absent: { categories: ["b"], types: ["Blue"] }, found: 0 });
  assert.ok([2, 5].includes(second.found), JSON.stringify(second));
  assert.equal(await client.rpc("stream.version", "seat-1"), null, "nothing was written");
});

test("[R-condition.7] a position above the head of the log", async () => {
  const client = await six();
  const match = { categories: ["none"] };
  const failure = await assertFails(taking(client, [{ match, after: 7 }]), 409, "CONDITION_FAILED");
  assert.deepEqual(failure.details.conflicts, [{ check: 0, match, after: 7, found: null, head: 6 }]);
  assert.equal((await take(client, [{ match, after: 6 }])).status, 200);
});

test("[R-condition.8 R-multi.4] conditions beside expected versions", async () => {
  const client = await six();
  const checks = [{ absent: { categories: ["a"] } }, { stream: "b-1", expectedVersion: 7 }];
  const both = await assertFails(taking(client, checks), 409, "STREAM_VERSION_CONFLICT");
  assert.deepEqual(both.details.conflicts.map((each: any) => each.check), [0, 1]);
  assert.deepEqual(both.details.conflicts[1], { check: 1, stream: "b-1", expected: 7, actual: 1 });
  const alone = await assertFails(taking(client, [checks[0]!, { stream: "b-1", expectedVersion: 1 }]), 409, "CONDITION_FAILED");
  assert.deepEqual(alone.details.conflicts.map((each: any) => each.check), [0]);
  for (const mixed of [{ stream: "b-1", absent: { types: ["T"] } }, { match: { types: ["T"] }, absent: { types: ["T"] }, after: 0 }, {}]) {
    await assertFails(taking(client, [mixed]), 400, "INVALID_REQUEST", /checks\[0\]/);
  }
});

test("[R-condition.9 R-multi.9] at most 100 names and 100 checks", async () => {
  const client = fresh();
  const names = (count: number) => range(count).map((i) => `n${i}`);
  const most = [{ absent: { categories: names(60), types: ["T"] } }, { match: { types: names(39) }, after: 0 }];
  assert.equal((await take(client, [...most, { stream: "x-1", expectedVersion: -1 }])).status, 200);
  for (const checks of [[...most, { absent: { types: ["U"] } }], [{ absent: { types: names(101) } }]]) {
    await assertFails(taking(client, checks), 400, "INVALID_REQUEST", /at most 100/);
  }
  const many = range(101).map((i) => (i % 2 === 0 ? { absent: { categories: [`m${i}`] } } : { stream: `x-${i}`, expectedVersion: -1 }));
  await assertFails(taking(client, many), 400, "INVALID_REQUEST", /at most 100/);
  assert.equal((await take(client, many.slice(1))).status, 200);
});

test("[R-condition.10] a repeated write is not checked again", async () => {
  const client = fresh();
  const checks = [{ absent: { types: ["Taken"] } }];
  const entry = { ...message, id: randomUUID() };
  const original = await take(client, checks, "seat-1", entry);
  assert.equal(original.status, 200);
  await client.write("a-1");
  assert.equal((await take(client, checks, "seat-1", entry)).text, original.text);
  assert.equal((await take(client, checks, "seat-1", message)).status, 409, "without its id it conflicts with itself");
});
