/** Groups that the server keeps: reading, parking, retrying, waiting. */
import assert from "node:assert/strict";
import { assertFails, type Client } from "../src/client.ts";
import { memberOf } from "../src/group.ts";
import { Member, newGroup, placesOf, type Page } from "../src/kept-group.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";
import { until, within } from "../src/wait.ts";

const { fresh } = sharedServer();

/** A group of one partition with these streams written in this order; a position is its place in the list, from 1. */
async function started(streams: string[], options: object = {}): Promise<{ client: Client; group: string; member: Member; named: (id: string) => string }> {
  const client = fresh();
  const { group, category } = await newGroup(client, options);
  const named = (id: string) => `${category}-${id}`;
  for (const stream of streams) await client.write(named(stream));
  return { client, group, member: await Member.join(client, group), named };
}

test("[R-group-read.2 R-group-read.3] messages in order within each partition, and none is missing", async () => {
  const streams = Array.from({ length: 60 }, (_, i) => `${i % 11}`);
  const { client, member, named } = await started(streams, { partitions: 4 });
  await client.write("other-1");
  const page = await member.read();
  assert.deepEqual(Object.keys(page).sort(), ["assigned", "drained", "fenced", "generation", "messages", "retries", "revoking", "sessionMs", "upTo"]);
  assert.deepEqual(placesOf(page.messages).sort((a, b) => a - b), streams.map((_, i) => i + 1));
  for (let partition = 0; partition < 4; partition++) {
    const own = page.messages.filter((row) => row[8] === partition);
    assert.deepEqual(placesOf(own), placesOf(own).sort((a, b) => a - b));
    assert.ok(own.every((row) => memberOf(row[1], 4) === partition));
    assert.equal(page.upTo[partition], 61, "complete up to the head, although the last message is of no interest");
  }
  const [id, stream, type, position, , data, metadata] = page.messages.find((row) => row[4] === 1)!;
  assert.deepEqual([typeof id, stream, type, position, typeof data, metadata], ["string", named("0"), "Happened", 0, "object", null]);
});

test("[R-group-read.3 R-group-read.4] a partition that is far behind does not hold up the others, and a cut page says so", async () => {
  const { client, member, group, named } = await started(Array.from({ length: 30 }, () => "1"), { partitions: 3 });
  const busy = memberOf(named("1"), 3);
  const ids = Array.from({ length: 20 }, (_, i) => `${i}`).filter((id) => memberOf(named(id), 3) !== busy);
  for (const id of ids) await client.write(named(id));
  const page = await member.read({ batchSize: 9 });
  assert.equal(page.messages.length, 9);
  assert.equal(new Set(page.messages.map((row) => row[8])).size, 3, "each has its share");
  for (const partition of [0, 1, 2]) {
    const next = await client.rpc<Page>("group.read", group, member.id, { partitions: [partition], after: member.at({ [partition]: page.upTo[partition]! }) });
    const last = placesOf(page.messages.filter((row) => row[8] === partition)).at(-1)!;
    assert.ok(last <= page.upTo[partition]!);
    assert.ok(next.messages.every((row) => row[8] === partition && row[4] > page.upTo[partition]!));
  }
});

test("[R-group-read.1 R-group-read.4 R-group-read.7] one loop of reads is a consumer", async () => {
  const streams = Array.from({ length: 50 }, (_, i) => `${i % 7}`);
  const { client, group, member } = await started(streams, { partitions: 4 });
  const seen: number[] = [];
  for (let page = await member.read({ batchSize: 7 }); page.messages.length > 0; ) {
    seen.push(...placesOf(page.messages));
    page = await member.read({ batchSize: 7, checkpoints: member.at(page.upTo) });
  }
  assert.deepEqual(seen.sort((a, b) => a - b), streams.map((_, i) => i + 1));
  const { partitions } = await client.rpc("group.status", group);
  assert.ok(partitions.every(({ lag }: any) => lag.messages === 0));
});

test("[R-group-read.2] batchSize as in other reads, types as the group has them", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client, { types: ["Wanted"] });
  for (const type of ["Other", "Wanted", "Other", "Wanted"]) await client.write(`${category}-1`, type);
  const member = await Member.join(client, group);
  const places = async (batchSize: number) => placesOf((await member.read({ batchSize })).messages);
  assert.deepEqual([await places(0), await places(1), await places(-1)], [[], [2], [2, 4]]);
  for (const batchSize of [-2, 10_001]) {
    await assertFails(client.failure("group.read", group, member.id, { batchSize }), 400, "INVALID_REQUEST", /batchSize/);
  }
});

test("[R-group-read.5] a read waits for a message", async () => {
  const { client, group, member, named } = await started(["1"]);
  const { upTo } = await member.read();
  const waiting = within("the message", client.rpc<Page>("group.read", group, member.id, { waitMs: 9_000, after: member.at({ 0: upTo["0"]! }) }), 8_000);
  await client.write(named("2"));
  assert.deepEqual(placesOf((await waiting).messages), [2]);
  const empty = await member.read({ waitMs: 20, after: member.at({ 0: 2 }) });
  assert.deepEqual([empty.messages, empty.upTo], [[], { 0: 2 }]);
});

test("[R-group-read.5] a read stops waiting for a stale epoch, and when the server stops", async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const { group } = await newGroup(client);
  const member = await Member.join(client, group);
  const stale = await member.read({ waitMs: 9_000, checkpoints: { 0: { epoch: member.epoch() - 1, position: 0 } } });
  assert.deepEqual(stale.fenced, [0]);
  const waiting = client.call("group.read", group, member.id, { waitMs: 9_000 });
  const arrived = await client.rpc("group.status", group);
  assert.equal(arrived.members.length, 1);
  const stopped = server.stop();
  const reply = await within("the answer", waiting, 8_000);
  assert.ok(reply.status === 200 || reply.status === 503, reply.text);
  await stopped;
});

test("[R-group-read.6] positions above the head are refused", async () => {
  const { client, group, member } = await started(["1"]);
  for (const options of [{ after: { 0: { epoch: member.epoch(), position: 2 } } }, { waitMs: -1 }]) {
    await assertFails(client.failure("group.read", group, member.id, options), 400, "INVALID_REQUEST");
  }
});

test("[R-group-park.1 R-group-park.2 R-group-park.6] a stream is parked, and the others go on", async () => {
  const { client, group, member, named } = await started(["bad", "good", "bad", "good"]);
  assert.deepEqual(await member.park(1, { reason: "why" }), { attempts: 1 });
  assert.deepEqual(await member.park(1, { reason: "why", attempt: 1 }), { attempts: 1 }, "a late copy");
  const page = await member.read();
  assert.deepEqual([placesOf(page.messages), page.upTo], [[2, 4], { 0: 4 }]);
  await member.heartbeat({ checkpoints: member.at({ 0: 4 }) });
  const [parked, ...others] = await client.rpc<any[]>("group.parked", group);
  const { parkedAt: _, ...rest } = parked;
  assert.deepEqual([rest, others], [{ stream: named("bad"), partition: 0, position: 1, attempts: 1, reason: "why", retryAt: null }, []]);
  assert.deepEqual(await member.park(1, { attempt: 3 }), { attempts: 3 });
  const { lag, parked: count } = (await client.rpc("group.status", group)).partitions[0];
  assert.deepEqual([lag.messages, count.streams], [0, 1]);
});

test("[R-group-park.4] what cannot be parked", async () => {
  const { client, group, member, named } = await started(["1", "1"]);
  await client.write("other-1");
  await member.heartbeat({ checkpoints: member.at({ 0: 1 }) });
  const park = (options: object) => client.failure("group.park", group, member.id, { partition: 0, epoch: member.epoch(), ...options });
  for (const position of [0, 3, 4]) await assertFails(park({ position }), 400, "INVALID_REQUEST");
  assert.deepEqual((await assertFails(park({ position: 1 }), 409, "FENCED")).details, { reason: "handled", partition: 0 });
  assert.deepEqual((await assertFails(park({ position: 2, epoch: member.epoch() + 1 }), 409, "FENCED")).details, { reason: "epoch", partition: 0 });
  assert.deepEqual(await client.rpc("group.parked", group), [], named("1"));
});

test("[R-group-park.5 R-error.27] no more streams than maxParked", async () => {
  const { client, group, member } = await started(["1", "2", "3"], { maxParked: 2 });
  await member.park(1);
  await member.park(2);
  const third = { partition: 0, epoch: member.epoch(), position: 3 };
  await assertFails(client.failure("group.park", group, member.id, third), 409, "PARK_FULL");
  await client.rpc("group.update", group, { maxParked: 3 });
  await member.park(3);
});

test("[R-group-retry.1 R-group-retry.2 R-group-retry.3 R-group-retry.4] a stream is tried again, in order, and flows", async () => {
  const { client, group, member, named } = await started(["bad", "good", "bad"]);
  const stream = named("bad");
  await member.park(1, { retryInMs: 0 });
  assert.deepEqual((await member.read()).retries, [], "not above the checkpoint");
  const page = await member.read({ checkpoints: member.at({ 0: 3 }) });
  assert.deepEqual(page.retries.map((row) => [row[1], row[4], row[8], row[9]]), [[stream, 1, 0, 2], [stream, 3, 0, 1]]);
  const rev = page.retries[0]![10];
  assert.deepEqual((await member.read()).retries, [], "handed out once");
  const first = await member.handled(stream, 1, { readTo: 3, rev });
  assert.equal(first.flowing, false, "one is left");
  assert.equal((await member.handled(stream, 3, { readTo: 3, rev })).flowing, false, "by an old number it never flows");
  const { drained } = await member.read();
  assert.deepEqual(drained.map((each) => [each.stream, each.position]), [[stream, 3]]);
  const last = await member.handled(stream, 3, { readTo: 3, rev: drained[0]!.rev });
  assert.equal(last.flowing, true);
  assert.deepEqual(await client.rpc("group.parked", group), []);
  await client.write(stream);
  assert.deepEqual(placesOf((await member.read()).messages), [4]);
});

test("[R-group-retry.4 R-group-retry.5] a stream that has grown flows only once the rest is handled", async () => {
  const { client, member, named } = await started(["bad"]);
  const stream = named("bad");
  await member.park(1, { retryInMs: 0 });
  const page = await member.read({ checkpoints: member.at({ 0: 1 }) });
  await client.write(stream);
  const ahead = await member.read({ after: member.at({ 0: 1 }) });
  assert.deepEqual([ahead.messages, ahead.upTo], [[], { 0: 2 }], "withheld, and read past");
  const reply = await member.handled(stream, 1, { readTo: 2, rev: page.retries[0]![10] });
  assert.equal(reply.flowing, false, "one message is left at or below what was read");
  const more = await member.read({ checkpoints: member.at({ 0: 2 }) });
  assert.deepEqual(placesOf(more.retries), [2]);
  assert.equal((await member.handled(stream, 2, { readTo: 2, rev: more.retries[0]![10] })).flowing, true);
});

test("[R-group-retry.1] retries take at most half of a page", async () => {
  const { member } = await started(["bad", "bad", "bad", "bad", "good"]);
  await member.park(1, { retryInMs: 0 });
  const page = await member.read({ batchSize: 4, checkpoints: member.at({ 0: 4 }) });
  assert.deepEqual([placesOf(page.retries), placesOf(page.messages)], [[1, 2], [5]]);
  const { member: one } = await started(["bad", "good"]);
  await one.park(1, { retryInMs: 0 });
  assert.deepEqual(placesOf((await one.read({ batchSize: 1, checkpoints: one.at({ 0: 1 }) })).retries), [1], "at least one");
});

test("[R-group-retry.6] what cannot be handled as a retry", async () => {
  const { client, group, member, named } = await started(["1", "2"]);
  assert.deepEqual(await member.handled(named("1"), 1), { flowing: true }, "it is not parked");
  await member.park(1);
  const above = { partition: 0, epoch: member.epoch(), stream: named("1"), position: 1 };
  await assertFails(client.failure("group.handled", group, member.id, above), 400, "INVALID_REQUEST");
});

test("[R-group-park.3 R-group-read.5] a retry comes when its time has come", async () => {
  const { client, group, member } = await started(["1"]);
  await member.park(1, { retryInMs: 300 });
  await member.heartbeat({ checkpoints: member.at({ 0: 1 }) });
  assert.deepEqual((await member.read()).retries, []);
  const page = await within("the retry", client.rpc<Page>("group.read", group, member.id, { waitMs: 9_000 }), 8_000);
  assert.deepEqual(placesOf(page.retries), [1]);
});

test("[R-group-parked.1 R-group-parked.2] parked streams, and an operator who has them tried again", async () => {
  const { client, group, member, named } = await started(["c", "a", "b"]);
  for (const position of [1, 2, 3]) await member.park(position);
  await member.heartbeat({ checkpoints: member.at({ 0: 3 }) });
  const listed = async (options?: object) => (await client.rpc<any[]>("group.parked", group, options)).map(({ stream }) => stream);
  assert.deepEqual([await listed(), await listed({ limit: 1 }), await listed({ cursor: named("a") })], [["a", "b", "c"].map(named), [named("a")], ["b", "c"].map(named)]);
  for (const limit of [0, 1001]) await assertFails(client.failure("group.parked", group, { limit }), 400, "INVALID_REQUEST");
  assert.deepEqual((await member.read()).retries, []);
  assert.deepEqual(await client.rpc("group.retry", group, { stream: named("b") }), { streams: 1 });
  assert.deepEqual(placesOf((await member.read()).retries), [3]);
  assert.deepEqual(await client.rpc("group.retry", group, { all: true }), { streams: 3 });
  assert.deepEqual(placesOf((await member.read()).retries).sort(), [1, 2, 3]);
  assert.deepEqual(await client.rpc("group.retry", group, { stream: named("none") }), { streams: 0 });
  for (const options of [{}, { all: false }, { all: true, stream: named("a") }]) {
    await assertFails(client.failure("group.retry", group, options), 400, "INVALID_REQUEST");
  }
});

test("[R-group-parked.3 R-group-parked.4 R-group-retry.5] a message is skipped on record", async () => {
  const { client, group, member, named } = await started(["bad", "bad"]);
  const stream = named("bad");
  await member.park(1);
  await member.heartbeat({ checkpoints: member.at({ 0: 2 }) });
  const skip = (position: number, dryRun?: boolean) => client.rpc("group.skip", group, { stream, position, ...(dryRun && { dryRun }) });
  assert.deepEqual([await skip(2, true), await skip(1, true)], [{ messages: 2 }, { messages: 1 }]);
  assert.deepEqual(await client.rpc("group.audit", group), [], "nothing has happened");
  assert.deepEqual([await skip(1), await skip(1)], [{ messages: 1 }, { messages: 0 }]);
  const [entry, ...others] = await client.rpc<any[]>("group.audit", group);
  assert.deepEqual([entry.act, others], ["skip", []]);
  assert.ok(JSON.stringify(entry.details).includes(stream), JSON.stringify(entry));
  assert.deepEqual(placesOf((await member.read()).retries), [2]);
  assert.deepEqual(await skip(2), { messages: 1 });
  const { drained } = await member.read();
  assert.equal((await member.handled(stream, drained[0]!.position, { readTo: 2, rev: drained[0]!.rev })).flowing, true);
  await assertFails(client.failure("group.skip", group, { stream, position: 3 }), 400, "INVALID_REQUEST");
  assert.deepEqual(await skip(2), { messages: 0 }, "it is not parked");
});

test("[R-group-wait.1 R-group-wait.2 R-group-wait.3] a writer waits for the projection", async () => {
  const { client, group, member, named } = await started(["1", "2"], { partitions: 8 });
  const wait = (options: object) => client.rpc("group.wait", group, { timeoutMs: 0, ...options });
  assert.deepEqual([await wait({ globalPosition: 0 }), await wait({ globalPosition: 2 })], [{ reached: true, parked: 0 }, { reached: false, parked: 0 }]);
  const waiting = within("the projection", client.rpc("group.wait", group, { globalPosition: 2, timeoutMs: 9_000 }), 8_000);
  const partition = (id: string) => memberOf(named(id), 8);
  await member.heartbeat({ checkpoints: member.at({ [partition("1")]: 2 }) });
  assert.equal((await wait({ globalPosition: 2, stream: named("1") })).reached, true);
  if (partition("1") !== partition("2")) assert.equal((await wait({ globalPosition: 2, stream: named("2") })).reached, false);
  await member.heartbeat({ checkpoints: member.at({ [partition("2")]: 2 }) });
  assert.deepEqual(await waiting, { reached: true, parked: 0 }, "idle partitions do not count");
  assert.equal((await wait({ globalPosition: 3 })).reached, false, "the head is lower");
  for (const timeoutMs of [-1, 30_001]) await assertFails(client.failure("group.wait", group, { globalPosition: 0, timeoutMs }), 400, "INVALID_REQUEST");
});

test("[R-group-wait.1] parked streams are counted", async () => {
  const { client, group, member } = await started(["1", "2"]);
  await member.park(1);
  await member.heartbeat({ checkpoints: member.at({ 0: 2 }) });
  assert.deepEqual(await client.rpc("group.wait", group, { globalPosition: 2 }), { reached: true, parked: 1 });
});

test("[R-group-read.5] the end of the wait is the end of the third of a session", async () => {
  const { member } = await started([], { sessionMs: 1200 });
  const before = Date.now();
  await until("an answer", async () => (await member.read({ waitMs: 30_000 })).messages.length === 0);
  assert.ok(Date.now() - before < 15_000);
});
