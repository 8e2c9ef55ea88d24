/** Groups that the server keeps: resizing, resetting, and what the status tells. */
import assert from "node:assert/strict";
import { assertFails, TIME, type Client } from "../src/client.ts";
import { memberOf } from "../src/group.ts";
import { Member, newGroup, placesOf } from "../src/kept-group.ts";
import { sharedServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const { fresh } = sharedServer();

/** A group whose partitions are at different checkpoints. */
async function uneven(client: Client, partitions: number): Promise<{ group: string; category: string; streams: string[]; checkpoints: number[]; member: Member }> {
  const { group, category } = await newGroup(client, { partitions });
  const streams = Array.from({ length: 40 }, (_, i) => `${category}-${i % 13}`);
  for (const stream of streams) await client.write(stream);
  const checkpoints = Array.from({ length: partitions }, (_, i) => [5, 17, 33, 0][i % 4]!);
  const member = await Member.join(client, group);
  await member.heartbeat({ checkpoints: member.at({ ...checkpoints }) });
  return { group, category, streams, checkpoints, member };
}

const whatIsLeft = (streams: string[], checkpoints: number[]) =>
  streams.flatMap((stream, i) => (i + 1 > checkpoints[memberOf(stream, checkpoints.length)]! ? [i + 1] : []));

test("[R-group-resize.1 R-group-call.2] a resize repeats nothing and skips nothing", async () => {
  const client = fresh();
  const { group, streams, checkpoints, member } = await uneven(client, 3);
  const resizing = await client.rpc("group.resize", group, { partitions: 5 });
  assert.deepEqual([resizing.partitionCount, resizing.resizing, resizing.resizingTo], [3, true, 5]);
  assert.deepEqual(await client.rpc("group.resize", group, { partitions: 5 }), resizing);
  await member.release();
  await member.heartbeat();
  assert.deepEqual([member.membership.partitionCount, member.partitions], [5, [0, 1, 2, 3, 4]]);
  const page = await member.read({ batchSize: -1 });
  assert.deepEqual(placesOf(page.messages).sort((a, b) => a - b), whatIsLeft(streams, checkpoints));
});

test("[R-group-resize.1] without owners a resize is done at once", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 4 });
  const resized = await client.rpc("group.resize", group, { partitions: 2 });
  assert.deepEqual([resized.partitionCount, resized.resizing, resized.resizingTo], [2, false, null]);
  for (const partitions of [0, 1025]) await assertFails(client.failure("group.resize", group, { partitions }), 400, "INVALID_REQUEST");
});

test("[R-group-resize.2] a parked stream stays parked", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client);
  await client.write(`${category}-1`);
  const member = await Member.join(client, group);
  await member.park(1, { reason: "why" });
  await client.rpc("group.resize", group, { partitions: 7 });
  await member.release();
  const [parked] = await client.rpc<any[]>("group.parked", group);
  assert.deepEqual([parked.partition, parked.reason, parked.position], [memberOf(`${category}-1`, 7), "why", 1]);
});

test("[R-group-resize.3 R-error.25] while a resize waits", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 2 });
  const member = await Member.join(client, group);
  await client.rpc("group.resize", group, { partitions: 5 });
  await assertFails(client.failure("group.reset", group, { to: "end" }), 409, "GROUP_BUSY");
  assert.equal((await client.rpc("group.resize", group, { partitions: 3 })).resizingTo, 3);
  await member.release();
  assert.equal((await client.rpc("group.status", group)).partitionCount, 3);
});

test("[R-group-reset.1 R-group-reset.2] partitions begin anew", async () => {
  const client = fresh();
  const { group, streams, checkpoints, member } = await uneven(client, 3);
  const count = (partition: number, from: number, to: number) =>
    streams.filter((stream, i) => memberOf(stream, 3) === partition && i + 1 > Math.min(from, to) && i + 1 <= Math.max(from, to)).length;
  const expected = (to: number) => [0, 1, 2].map((partition) => ({ partition, from: checkpoints[partition], to, messages: count(partition, checkpoints[partition]!, to) }));
  assert.deepEqual(await client.rpc("group.reset", group, { to: 20, dryRun: true }), { partitions: expected(20) });
  assert.deepEqual(await client.rpc("group.reset", group, { to: "end", dryRun: true }), { partitions: expected(40) });
  await member.heartbeat({ checkpoints: member.at({ 0: 6 }) });
  checkpoints[0] = 6;
  assert.deepEqual(await client.rpc("group.reset", group, { to: "beginning", partitions: [1, 0] }), { partitions: expected(0).slice(0, 2) });
  const stale = await member.heartbeat({ checkpoints: member.at({ 0: 40 }) });
  assert.deepEqual(stale.fenced, [0], "the epochs have changed");
  const page = await member.read({ batchSize: -1 });
  assert.deepEqual(placesOf(page.messages).sort((a, b) => a - b), whatIsLeft(streams, [0, 0, checkpoints[2]!]));
});

test("[R-group-reset.1] to a time, and to where another group is", async () => {
  const client = fresh();
  const { group, streams, checkpoints, category } = await uneven(client, 3);
  const third = (await client.rpc("category.get", category, { position: 3, batchSize: 1 }))[0];
  const toTime = await client.rpc("group.reset", group, { to: third[7], dryRun: true });
  assert.ok(toTime.partitions[0].to <= 2, JSON.stringify(toTime));
  const later = await client.rpc("group.reset", group, { to: "2100-01-01T00:00:00Z", dryRun: true });
  assert.equal(later.partitions[0].to, 40);
  await client.rpc("group.create", "green", { categories: [category], partitions: 5 });
  await client.rpc("group.reset", "green", { to: { group } });
  const page = await (await Member.join(client, "green")).read({ batchSize: -1 });
  assert.deepEqual(placesOf(page.messages).sort((a, b) => a - b), whatIsLeft(streams, checkpoints));
});

test("[R-group-reset.3] parked streams above the new checkpoint leave the park", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client);
  for (const id of ["1", "2", "3"]) await client.write(`${category}-${id}`);
  const member = await Member.join(client, group);
  await member.park(1);
  await member.park(3);
  await member.heartbeat({ checkpoints: member.at({ 0: 3 }) });
  await client.rpc("group.reset", group, { to: 1 });
  assert.deepEqual((await client.rpc<any[]>("group.parked", group)).map(({ stream }) => stream), [`${category}-1`]);
  assert.deepEqual(placesOf((await member.read()).messages), [2, 3]);
});

test("[R-group-reset.4] what is refused as a place", async () => {
  const client = fresh();
  const { group } = await newGroup(client);
  const { group: other } = await newGroup(client);
  for (const options of [{ to: 1 }, { to: { group: other } }, { to: "end", partitions: [1] }, { to: "never" }]) {
    await assertFails(client.failure("group.reset", group, options), 400, "INVALID_REQUEST");
  }
  await assertFails(client.failure("group.reset", group, { to: { group: "none" } }), 404, "GROUP_NOT_FOUND");
});

test("[R-group-parked.4] resets, resizes and pauses are on record, newest first", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { partitions: 2 });
  await client.rpc("group.pause", group);
  await client.rpc("group.pause", group);
  await client.rpc("group.resume", group);
  await client.rpc("group.resize", group, { partitions: 3 });
  await client.rpc("group.reset", group, { to: "end" });
  const entries = await client.rpc<any[]>("group.audit", group);
  assert.deepEqual(entries.map(({ act }) => act), ["reset", "resize", "resume", "pause"]);
  assert.ok(entries.every((entry, i) => TIME.test(entry.at) && entry.tokenId === null && (i === 0 || entry.id < entries[i - 1].id)));
  assert.deepEqual(await client.rpc("group.audit", group, { limit: 1 }), entries.slice(0, 1));
  assert.deepEqual(await client.rpc("group.audit", group, { cursor: entries[1].id }), entries.slice(2));
});

test("[R-group-status.1 R-group-status.2] where a group stands", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client);
  for (let i = 0; i < 3; i++) await client.write(`${category}-${i}`);
  const member = await Member.join(client, group, { name: "worker" });
  await member.heartbeat({ checkpoints: member.at({ 0: 1 }) });
  await member.park(2);
  const { partitions, members } = await client.rpc("group.status", group);
  const { leaseMs, checkpointAt, lag, parked, why, ...rest } = partitions[0];
  assert.deepEqual(rest, { partition: 0, owner: { member: member.id, name: "worker" }, epoch: member.epoch(), checkpoint: 1 });
  assert.ok(leaseMs > 0 && leaseMs <= 30_000 && TIME.test(checkpointAt));
  assert.deepEqual([lag.messages, lag.atLeast, parked.streams, why.code], [1, false, 1, "working"]);
  const [{ leaseMs: lease, joinedAt, ...listed }] = members;
  assert.deepEqual(listed, { member: member.id, name: "worker", partitions: [0] });
  assert.ok(lease > 0 && TIME.test(joinedAt));
});

test("[R-group-status.3] why a checkpoint does not move", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client, { maxParked: 1 });
  const why = async () => (await client.rpc("group.status", group)).partitions[0].why;
  assert.equal((await why()).code, "caught_up");
  for (let i = 0; i < 3; i++) await client.write(`${category}-${i}`);
  assert.equal((await why()).code, "no_member");
  await client.rpc("group.pause", group);
  assert.equal((await why()).code, "paused");
  await client.rpc("group.resume", group);
  const member = await Member.join(client, group);
  assert.equal((await why()).code, "working");
  await client.rpc("group.resize", group, { partitions: 2 });
  assert.deepEqual(await why(), { code: "resizing", waitsFor: [0] });
  await client.rpc("group.resize", group, { partitions: 1 });
  await member.release();
  await member.heartbeat();
  await member.park(1);
  await member.heartbeat({ checkpoints: member.at({ 0: 1 }) });
  assert.equal((await why()).code, "parked_full");
});

test("[R-group-status.3] a member that says nothing, one that has to give a partition back, and one that does not get on", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client, { partitions: 2, sessionMs: 6_000 });
  for (let i = 0; i < 20; i++) await client.write(`${category}-${i}`);
  /** The reason of this code, while the members that are given call. */
  const why = (code: string, ...members: Member[]) =>
    until(code, async () => {
      for (const member of members) await member.heartbeat();
      const { partitions } = await client.rpc("group.status", group);
      return partitions.map((partition: any) => partition.why).find((why: any) => why.code === code);
    });
  const silent = await Member.join(client, group);
  const { leaseMs } = await why("silent_member");
  assert.ok(leaseMs > 0 && leaseMs < 2_000, `${leaseMs}`);
  await silent.leave();
  const [first, second] = [await Member.join(client, group), await Member.join(client, group)];
  const { deadlineMs } = await why("revoking", first, second);
  assert.ok(deadlineMs > 0 && deadlineMs <= 6_000, `${deadlineMs}`);
  await first.release();
  // They call in time, and no checkpoint moves.
  await why("slow_handler", first, second);
});
