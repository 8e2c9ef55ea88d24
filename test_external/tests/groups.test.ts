/** Groups that the server keeps: creating, changing, listing, deleting, and what waits on them. */
import assert from "node:assert/strict";
import { assertFails, failureOf, TIME, unique } from "../src/client.ts";
import { memberOf } from "../src/group.ts";
import { Member, newGroup, placesOf, type Page } from "../src/kept-group.ts";
import { sharedServer, test } from "../src/suite.ts";
import { within } from "../src/wait.ts";

const { fresh } = sharedServer();

test("[R-group-call.1 R-error.23] an unknown group is told before a wrong argument", async () => {
  const client = fresh();
  const calls: [string, ...unknown[]][] = [
    ["group.update", { sessionMs: "x" }], ["group.delete"], ["group.status"], ["group.pause"], ["group.resume"], ["group.resize", {}],
    ["group.reset", {}], ["group.join", { name: 1 }], ["group.heartbeat"], ["group.read", 7], ["group.park", "m", 1], ["group.handled", "m"],
    ["group.leave"], ["group.parked", { limit: 0 }], ["group.retry", {}], ["group.skip", {}], ["group.audit", { cursor: "x" }], ["group.wait", {}],
  ];
  for (const [call, ...rest] of calls) await assertFails(client.failure(call, "none", ...rest), 404, "GROUP_NOT_FOUND");
});

test("[R-group-create.1 R-group-list.1] a group as it is made, with its defaults", async () => {
  const client = fresh();
  await client.write("a-1");
  const { createdAt, ...group } = await client.rpc("group.create", "b", { categories: ["y", "x", "x"], types: ["T"] });
  assert.match(createdAt, TIME);
  assert.deepEqual(group, {
    group: "b", description: "", categories: ["x", "y"], types: ["T"], partitionCount: 16, sessionMs: 30_000, maxParked: 1000, paused: false,
    resizing: false, resizingTo: null, head: 1,
  });
  await client.rpc("group.create", "a", { partitions: 1024, description: "d" });
  const listed = await client.rpc<any[]>("group.list");
  assert.deepEqual(listed.map(({ createdAt: _, ...rest }) => rest), [
    { group: "a", description: "d", categories: [], partitionCount: 1024, members: 0, paused: false },
    { group: "b", description: "", categories: ["x", "y"], partitionCount: 16, members: 0, paused: false },
  ]);
  const { partitions, members, ...status } = await client.rpc("group.status", "b");
  assert.deepEqual([status, partitions.length, members], [{ ...group, createdAt }, 16, []]);
});

test("[R-group-create.2 R-group-create.3 R-group-call.2 R-error.24] the same group again, and another one of its name", async () => {
  const client = fresh();
  const first = await client.rpc("group.create", "g", { categories: ["a", "b"], partitions: 3 });
  assert.deepEqual(await client.rpc("group.create", "g", { categories: ["b", "a"], partitions: 5, start: "end" }), first);
  const failure = await assertFails(client.failure("group.create", "g", { categories: ["a"], types: ["T"] }), 409, "GROUP_EXISTS");
  assert.deepEqual(failure.details, { categories: ["a", "b"], types: [] });
});

test("[R-group-create.4 R-group-create.6] numbers out of their bounds, positions above the head", async () => {
  const client = fresh();
  await client.write("a-1");
  const refused: object[] = [
    { partitions: 0 }, { partitions: 1025 }, { sessionMs: 999 }, { sessionMs: 600_001 }, { maxParked: -1 }, { start: 2 }, { start: -1 },
    { description: "x".repeat(1025) }, { adopt: { size: 2, checkpoints: [1] } }, { adopt: { size: 1, checkpoints: [2] } },
    { adopt: { size: 1, checkpoints: [1] }, start: "end" }, { categories: Array.from({ length: 101 }, (_, i) => `c${i}`) },
  ];
  for (const options of refused) await assertFails(client.failure("group.create", "g", options), 400, "INVALID_REQUEST");
  assert.deepEqual(await client.rpc("group.list"), []);
});

test("[R-group-create.5] a group goes on exactly where a static group was", async () => {
  const client = fresh();
  const streams = Array.from({ length: 40 }, (_, i) => `a-${i % 13}`);
  for (const stream of streams) await client.write(stream);
  const [size, checkpoints] = [3, [5, 17, 33]];
  await client.rpc("group.create", "g", { categories: ["a"], partitions: 4, adopt: { size, checkpoints } });
  const page = await (await Member.join(client, "g")).read();
  const left = streams.flatMap((stream, i) => (i + 1 > checkpoints[memberOf(stream, size)]! ? [i + 1] : []));
  assert.deepEqual(placesOf(page.messages).sort((a, b) => a - b), left);
});

test("[R-group-create.5] a group begins at its start", async () => {
  const client = fresh();
  for (let i = 0; i < 3; i++) await client.write("a-1");
  for (const [start, expected] of [["beginning", [1, 2, 3]], ["end", []], [2, [3]], [0, [1, 2, 3]]] as const) {
    const group = unique("g");
    await client.rpc("group.create", group, { start });
    assert.deepEqual(placesOf((await (await Member.join(client, group)).read()).messages), expected, String(start));
  }
});

test("[R-group-update.1 R-group-update.2] what may be changed", async () => {
  const client = fresh();
  const { group } = await newGroup(client, { sessionMs: 60_000 });
  const member = await Member.join(client, group);
  const changed = await client.rpc("group.update", group, { sessionMs: 1000, maxParked: 5, description: "new" });
  assert.deepEqual([changed.sessionMs, changed.maxParked, changed.description], [1000, 5, "new"]);
  const { members } = await client.rpc("group.status", group);
  assert.ok(members[0].leaseMs > 30_000, "the lease that runs is not shortened");
  assert.equal((await member.heartbeat()).sessionMs, 1000);
  const again = await client.rpc("group.update", group, {});
  assert.deepEqual([again.sessionMs, again.maxParked, again.description], [1000, 5, "new"]);
});

test("[R-group-delete.1 R-group-call.6] what waits on a group ends with it", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client);
  await client.write(`${category}-1`);
  const member = await Member.join(client, group);
  const page = await member.read();
  const waiting = [
    client.call("group.read", group, member.id, { waitMs: 9_000, after: member.at({ 0: page.upTo["0"]! }) }),
    client.call("group.heartbeat", group, member.id, { waitMs: 9_000 }),
    client.call("group.wait", group, { globalPosition: 1, timeoutMs: 30_000 }),
  ];
  // They have arrived once the lease was renewed; a call that comes too late gets the same answer.
  const deleted = await client.rpc("group.delete", group);
  assert.deepEqual([deleted.group, TIME.test(deleted.deletedAt)], [group, true]);
  for (const reply of await within("their answers", Promise.all(waiting), 8_000)) assert.equal(failureOf(reply).code, "GROUP_NOT_FOUND");
  assert.equal(await client.rpc("stream.version", `${category}-1`), 0, "the messages stay");
});

test("[R-group-call.3] a namespace has at most 1,000 groups", async () => {
  const client = fresh();
  const names = Array.from({ length: 1000 }, (_, i) => `g${i}`);
  while (names.length > 0) await Promise.all(names.splice(0, 20).map((name) => client.rpc("group.create", name, { partitions: 1 })));
  await assertFails(client.failure("group.create", "more"), 503, "OVERLOADED");
  await client.rpc("group.delete", "g7");
  await client.rpc("group.create", "more");
});

test("[R-group-pause.1] a paused group hands out nothing", async () => {
  const client = fresh();
  const { group, category } = await newGroup(client);
  await client.write(`${category}-1`);
  assert.equal((await client.rpc("group.pause", group)).paused, true);
  const member = await Member.join(client, group);
  const page = await member.read();
  assert.deepEqual([page.messages, page.upTo], [[], { 0: 0 }]);
  await member.heartbeat({ checkpoints: member.at({ 0: 0 }) });
  const waiting = client.rpc<Page>("group.read", group, member.id, { waitMs: 9_000 });
  assert.equal((await client.rpc("group.resume", group)).paused, false);
  assert.deepEqual(placesOf((await within("the message", waiting, 8_000)).messages), [1]);
});
