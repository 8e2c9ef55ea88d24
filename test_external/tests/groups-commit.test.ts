/** Groups that the server keeps: what happens to one in the commit of a write. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, type Client } from "../src/client.ts";
import { Member, newGroup, placesOf } from "../src/kept-group.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "T", data: {} };

async function started(count: number, options: object = {}): Promise<{ client: Client; group: string; category: string; member: Member; form: (more?: object) => object }> {
  const client = fresh();
  const { group, category } = await newGroup(client, options);
  for (let i = 0; i < count; i++) await client.write(`${category}-${i % 2}`);
  const member = await Member.join(client, group);
  return { client, group, category, member, form: (more = {}) => ({ group, partition: 0, epoch: member.epoch(), ...more }) };
}

const checkpointOf = async (client: Client, group: string) => (await client.rpc("group.status", group)).partitions[0].checkpoint;

test("[R-group-commit.1] the messages and the checkpoint, in all three calls", async () => {
  const { client, group, form } = await started(3);
  await client.rpc("stream.write", "out-1", message, { checkpoint: form({ position: 1 }) });
  assert.equal(await checkpointOf(client, group), 1);
  await client.rpc("stream.append", "out-1", [message, message], { checkpoint: form({ position: 2 }) });
  assert.equal(await checkpointOf(client, group), 2);
  await client.rpc("streams.append", [{ stream: "out-1", messages: [message] }, { stream: "out-2", messages: [message] }], { checkpoint: form({ position: 3 }) });
  assert.equal(await checkpointOf(client, group), 3);
  await client.rpc("stream.write", "out-1", message, { fence: form() });
  assert.equal(await client.rpc("stream.version", "out-1"), 4);
});

test("[R-group-commit.1] neither happens if the write is refused", async () => {
  const { client, group, form } = await started(1);
  await assertFails(client.failure("stream.write", "out-1", message, { expectedVersion: 7, checkpoint: form({ position: 1 }) }), 409, "STREAM_VERSION_CONFLICT");
  assert.equal(await checkpointOf(client, group), 0);
});

test("[R-group-commit.2] what is fenced writes nothing", async () => {
  const { client, group, category, member, form } = await started(3);
  const reasonOf = async (options: object) => (await assertFails(client.failure("stream.write", "out-1", message, options), 409, "FENCED")).details;
  for (const options of [{ fence: form({ epoch: 1 }) }, { checkpoint: form({ epoch: 1, position: 1 }) }]) {
    assert.deepEqual(await reasonOf(options), { reason: "epoch", partition: 0 });
  }
  await client.rpc("stream.write", "done-1", message, { checkpoint: form({ position: 1 }) });
  assert.equal((await reasonOf({ checkpoint: form({ position: 1 }) })).reason, "handled");
  assert.equal((await reasonOf({ handled: form({ stream: `${category}-0`, position: 1 }) })).reason, "handled");
  await member.park(2);
  assert.equal((await reasonOf({ checkpoint: form({ position: 2 }) })).reason, "parked");
  assert.equal(await client.rpc("stream.version", "out-1"), null);
  await assertFails(client.failure("stream.write", "out-1", message, { checkpoint: form({ position: 1000 }) }), 400, "INVALID_REQUEST");
  await assertFails(client.failure("stream.write", "out-1", message, { fence: { ...form(), group: "none" } }), 404, "GROUP_NOT_FOUND");
  assert.equal(await checkpointOf(client, group), 1);
});

test("[R-group-commit.1 R-group-retry.3] a retry and its results", async () => {
  const { client, group, category, member, form } = await started(2);
  await member.park(1, { retryInMs: 0 });
  const page = await member.read({ checkpoints: member.at({ 0: 2 }) });
  assert.deepEqual(placesOf(page.retries), [1]);
  await client.rpc("stream.write", "out-1", message, { handled: form({ stream: `${category}-0`, position: 1, readTo: 2 }) });
  assert.deepEqual(await client.rpc("group.parked", group), []);
});

test("[R-group-commit.3] the epoch stands until somebody else owns the partition", async () => {
  const { client, group, member, form } = await started(2, { sessionMs: 1000 });
  await member.leave();
  await client.rpc("stream.write", "out-1", message, { checkpoint: form({ position: 1 }) });
  const successor = await Member.join(client, group);
  assert.equal(successor.membership.assigned[0]!.checkpoint, 1);
  const failure = await assertFails(client.failure("stream.write", "out-1", message, { checkpoint: form({ position: 2 }) }), 409, "FENCED");
  assert.equal(failure.details.reason, "epoch");
});

test("[R-group-commit.4 R-group-call.2] a repeated write gets its first result", async () => {
  const { client, group, member, form } = await started(2);
  const [id, options] = [randomUUID(), { checkpoint: form({ position: 1 }) }];
  const first = await client.rpc("stream.write", "out-1", { ...message, id }, options);
  assert.deepEqual(await client.rpc("stream.write", "out-1", { ...message, id }, options), first);
  await member.leave();
  await Member.join(client, group);
  assert.deepEqual(await client.rpc("stream.write", "out-1", { ...message, id }, options), first);
  await client.rpc("group.delete", group);
  assert.deepEqual(await client.rpc("stream.write", "out-1", { ...message, id }, options), first);
});

test("[R-group-commit.5] one of them in a call", async () => {
  const { client, form } = await started(1);
  const both = { checkpoint: form({ position: 1 }), fence: form() };
  await assertFails(client.failure("stream.write", "out-1", message, both), 400, "INVALID_REQUEST");
});

test("[R-group-commit.6] the right to consume", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const admin = server.client(server.madeToken);
  await admin.rpc("group.create", "g", { categories: ["account"], partitions: 1 });
  const { assigned } = await admin.rpc("group.join", "g");
  const write = async (options: object) => {
    const { token } = await admin.rpc("token.create", options);
    return admin.as(token).call("stream.write", "out-1", message, { fence: { group: "g", partition: 0, epoch: assigned[0].epoch } });
  };
  assert.equal((await write({ rights: ["write", "read"] })).status, 403);
  assert.equal((await write({ rights: ["write", "consume"], categories: ["out"] })).status, 403);
  assert.equal((await write({ rights: ["write", "consume"], categories: ["out", "account"] })).status, 200);
});
