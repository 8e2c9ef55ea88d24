/** Groups that the server keeps: members, leases, and partitions that move. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, type Client } from "../src/client.ts";
import { Member, newGroup, placesOf } from "../src/kept-group.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";
import { durableStorage } from "../src/suite.ts";
import { until, within } from "../src/wait.ts";

const { fresh } = sharedServer();

test("[R-group-join.1] the first member gets everything", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 3, sessionMs: 6000 });
  const { membership } = await Member.join(client, group, { name: "one" });
  const { member, generation, assigned, ...rest } = membership;
  assert.ok(typeof member === "string" && Number.isInteger(generation));
  assert.deepEqual(rest, { sessionMs: 6000, heartbeatMs: 2000, partitionCount: 3, revoking: [] });
  assert.deepEqual(assigned.map(({ partition, checkpoint }) => [partition, checkpoint]), [[0, 0], [1, 0], [2, 0]]);
  assert.equal(new Set(assigned.map(({ epoch }) => epoch)).size, 3, "each assignment has a number of its own");
});

test("[R-group-join.2 R-group-call.2 R-error.26] one membership for one instance", async () => {
  const client = fresh();
  const { group } = await newGroup(client);
  const instance = randomUUID();
  const member = await Member.join(client, group, { instance });
  assert.deepEqual((await Member.join(client, group, { instance })).membership, member.membership);
  await member.leave();
  const failure = await assertFails(client.failure("group.join", group, { instance }), 409, "FENCED");
  assert.equal(failure.details.reason, "unknown");
});

test("[R-group-join.3 R-group-lease.2] a younger member of the same name takes the place of the older one", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 2 });
  const [older, other] = [await Member.join(client, group, { name: "w" }), await Member.join(client, group, { name: "v" })];
  await older.release();
  await other.heartbeat();
  const held = older.partitions;
  const younger = await Member.join(client, group, { name: "w" });
  assert.deepEqual(younger.partitions, held, "at once");
  assert.notEqual(younger.epoch(held[0]), older.epoch(held[0]));
  for (const call of ["group.heartbeat", "group.read"]) {
    assert.equal((await assertFails(client.failure(call, group, older.id), 409, "FENCED")).details.reason, "replaced");
  }
});

test("[R-group-join.4 R-group-move.1 R-group-move.2] partitions move one by one, and shares differ by at most one", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 5 });
  const members: Member[] = [];
  for (let count = 1; count <= 6; count++) {
    members.push(await Member.join(client, group));
    for (const member of members) await member.release();
    for (const member of members) await member.heartbeat();
    const counts = members.map((member) => member.partitions.length);
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${counts}`);
    assert.deepEqual(members.flatMap((member) => member.partitions).sort(), [0, 1, 2, 3, 4]);
    assert.deepEqual(members.flatMap((member) => member.revoking), []);
  }
});

test("[R-group-move.1 R-group-move.2 R-group-move.3 R-group-read.8 R-group-lease.5] a partition that is asked back", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client, { partitions: 2 });
  const owner = await Member.join(client, group);
  const newcomer = await Member.join(client, group);
  assert.deepEqual(newcomer.partitions, [], "first it is given back");
  await owner.heartbeat();
  const [moving] = owner.revoking;
  const { deadlineMs, epoch } = owner.membership.revoking[0]!;
  assert.ok(deadlineMs > 0 && deadlineMs <= 30_000);
  for (let i = 0; i < 20; i++) await client.write(`${category}-${i}`);
  const page = await owner.read();
  assert.ok(page.messages.length > 0 && page.messages.every((row) => row[8] !== moving), "nothing more of it");
  // What it has in hand is finished, and then it is given back.
  await owner.heartbeat({ checkpoints: { [moving!]: { epoch, position: 1 } } });
  const told = within("the partition", client.rpc("group.heartbeat", group, newcomer.id, { waitMs: 9_000 }), 8_000);
  const released = await owner.heartbeat({ released: { [moving!]: epoch } });
  assert.deepEqual([released.fenced, released.revoking], [[], []]);
  const { assigned } = await told;
  assert.deepEqual(assigned.map(({ partition, checkpoint }: any) => [partition, checkpoint]), [[moving, 1]]);
  assert.ok(assigned[0].epoch > epoch);
  const late = await owner.heartbeat({ checkpoints: { [moving!]: { epoch, position: 2 }, 99: { epoch, position: 2 } } });
  assert.deepEqual(late.fenced, [moving, 99].sort((a, b) => a! - b!));
  await newcomer.heartbeat();
  assert.equal(newcomer.membership.assigned[0]!.checkpoint, 1, "the former owner changed nothing");
});

test("[R-group-lease.1 R-group-lease.2 R-group-read.7] a member that says nothing loses its lease, and what it had comes again", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client, { sessionMs: 3000 });
  await client.write(`${category}-1`);
  const silent = await Member.join(client, group);
  assert.deepEqual(placesOf((await silent.read()).messages), [1]);
  const other = await Member.join(client, group);
  await until("the partition", async () => (await other.heartbeat({ waitMs: 300 })).assigned.length > 0);
  assert.deepEqual(placesOf((await other.read()).messages), [1]);
  const failure = await assertFails(client.failure("group.heartbeat", group, silent.id), 409, "FENCED");
  assert.equal(failure.details.reason, "lease");
  assert.equal((await assertFails(client.failure("group.read", group, "nobody"), 409, "FENCED")).details.reason, "unknown");
});

test("[R-group-lease.1] calls keep a lease for longer than a session", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { sessionMs: 3000 });
  const member = await Member.join(client, group);
  const until = Date.now() + 7_000;
  while (Date.now() < until) await member.heartbeat({ waitMs: 300 });
  assert.deepEqual(member.partitions, [0]);
});

test("[R-group-lease.3 R-group-lease.4 R-group-call.2] checkpoints move forward, and none above the head", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client);
  for (let i = 0; i < 3; i++) await client.write(`${category}-1`);
  const member = await Member.join(client, group);
  const checkpoint = async (position: number) => (await member.heartbeat({ checkpoints: member.at({ 0: position }) })).assigned[0]!.checkpoint;
  assert.deepEqual([await checkpoint(2), await checkpoint(2), await checkpoint(1)], [2, 2, 2]);
  const above = { checkpoints: { 0: { epoch: member.epoch(), position: 4 } } };
  await assertFails(client.failure("group.heartbeat", group, member.id, above), 400, "INVALID_REQUEST");
  assert.equal(await checkpoint(0), 2);
});

test("[R-group-lease.6] a heartbeat waits for a change", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 2 });
  const member = await Member.join(client, group);
  const waiting = within("the change", client.rpc("group.heartbeat", group, member.id, { waitMs: 9_000 }), 8_000);
  await Member.join(client, group);
  assert.equal((await waiting).revoking.length, 1);
  await assertFails(client.failure("group.heartbeat", group, member.id, { waitMs: -1 }), 400, "INVALID_REQUEST");
});

test("[R-group-leave.1 R-group-call.2] a member that leaves", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client, { sessionMs: 60_000 });
  for (let i = 0; i < 2; i++) await client.write(`${category}-1`);
  const [leaving, staying] = [await Member.join(client, group), await Member.join(client, group)];
  const waiting = within("its partition", client.rpc("group.heartbeat", group, staying.id, { waitMs: 20_000 }), 8_000);
  assert.deepEqual(await leaving.leave({ checkpoints: leaving.at({ 0: 1 }) }), {});
  const { assigned } = await waiting;
  assert.deepEqual(assigned.map(({ partition, checkpoint }: any) => [partition, checkpoint]), [[0, 1]]);
  assert.deepEqual(await client.rpc("group.leave", group, leaving.id, { checkpoints: { 0: { epoch: assigned[0].epoch, position: 2 } } }), {});
  assert.deepEqual(await client.rpc("group.leave", group, "nobody"), {});
  assert.equal((await client.rpc("group.status", group)).partitions[0].checkpoint, 1, "nothing was stored for a former member");
});

test("[R-group-call.3] a group has at most 1,000 members", async () => {
  const client = fresh();
  const { group } = await newGroup(client);
  for (let i = 0; i < 50; i++) await Promise.all(Array.from({ length: 20 }, () => client.rpc("group.join", group)));
  await assertFails(client.failure("group.join", group), 503, "OVERLOADED");
});

test("[R-group-call.7] leases, epochs and checkpoints outlive the server", async (t) => {
  const storage = await durableStorage(t);
  const first = await startServer(t, { storage });
  const client = first.client();
  const { group, category } = await newGroup(client);
  for (let i = 0; i < 2; i++) await client.write(`${category}-1`);
  const member = await Member.join(client, group);
  await member.heartbeat({ checkpoints: member.at({ 0: 1 }) });
  await member.park(2, { reason: "bad" });
  await first.stop();
  const again = (await startServer(t, { storage })).client();
  const moved: Client = again;
  const beat = await moved.rpc("group.heartbeat", group, member.id);
  assert.deepEqual(beat.assigned, [{ partition: 0, epoch: member.epoch(), checkpoint: 1 }]);
  assert.deepEqual((await moved.rpc<any[]>("group.parked", group)).map(({ stream, reason }) => [stream, reason]), [[`${category}-1`, "bad"]]);
});
