/** ns.* in test mode, where everyone may call them; who may call what in production is in auth.test.ts. */
import assert from "node:assert/strict";
import { assertFails, TIME, tokenFor, TOKEN, unique, type CategoryMessage } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();

test("[R-ns.1 R-message.16] a new namespace and its token", async () => {
  const client = fresh();
  const name = unique("shop ");
  const created = await client.rpc("ns.create", name, { description: "the shop", metadata: { owner: "Ada" } });
  assert.deepEqual(Object.keys(created), ["namespace", "token", "createdAt"]);
  assert.equal(created.namespace, name);
  assert.match(created.createdAt, TIME);
  assert.equal(created.token, TOKEN.exec(created.token)?.[0]);
  assert.ok(created.token.startsWith(`ns_${Buffer.from(name).toString("base64url")}_`));
  await client.as(created.token).write("a-1");
  assert.equal((await client.rpc("ns.info", name)).messageCount, 1);
});

test("[R-ns.2] a token given must be a token of that namespace", async () => {
  const client = fresh();
  const name = unique("n");
  const good = tokenFor(name);
  const bad = ["", "x", good.slice(0, -1), `${good}0`, good.replace(/.$/, "g"), tokenFor("other"), `ns_${name}_${"0".repeat(64)}`, ` ${good}`];
  for (const token of bad) await assertFails(client.failure("ns.create", name, { token }), 400, "INVALID_REQUEST");
  await assertFails(client.failure("ns.info", name), 404, "NAMESPACE_NOT_FOUND");
  assert.equal((await client.rpc("ns.create", name, { token: good })).token, good);
});

test("[R-ns.3 R-error.8] a namespace is created once", async () => {
  const client = fresh();
  const name = unique("n");
  await client.rpc("ns.create", name);
  await assertFails(client.failure("ns.create", name), 409, "NAMESPACE_EXISTS");
  await assertFails(client.failure("ns.create", name, { token: tokenFor(name) }), 409, "NAMESPACE_EXISTS");
  await assertFails(client.failure("ns.create", "default"), 409, "NAMESPACE_EXISTS");
});

test("[R-ns.4 R-ns.6 R-ns.8 R-message.16] the list of all namespaces", async () => {
  const client = fresh();
  const prefix = unique("list");
  for (const suffix of ["b", "é", "a", "Z"]) await client.rpc("ns.create", prefix + suffix, suffix === "a" ? { description: "the first" } : {});
  const token = tokenFor(`${prefix}a`);
  await client.as(token).fill("x-1", 7);
  const list = await client.rpc<any[]>("ns.list");
  const mine = list.filter((each) => each.namespace.startsWith(prefix));
  assert.deepEqual(mine.map((each) => [each.namespace.slice(prefix.length), each.description, each.messageCount]), [
    ["Z", "", 0], ["a", "the first", 7], ["b", "", 0], ["é", "", 0],
  ]);
  for (const each of list) {
    assert.deepEqual(Object.keys(each), ["namespace", "description", "createdAt", "messageCount"]);
    assert.match(each.createdAt, TIME);
  }
  assert.ok(list.some((each) => each.namespace === "default"));
});

test("[R-ns.5 R-ns.6 R-ns.7 R-ns.8 R-message.16] what is known of a namespace", async () => {
  const client = fresh();
  const name = unique("n");
  const { token, createdAt } = await client.rpc("ns.create", name);
  const unlimited = { protected: false, quota: { messages: null, bytes: null } };
  const empty = await client.rpc("ns.info", name);
  assert.deepEqual(empty, { namespace: name, description: "", createdAt, messageCount: 0, streamCount: 0, lastActivity: null, ...unlimited });
  assert.deepEqual(Object.keys(empty), ["namespace", "description", "createdAt", "messageCount", "streamCount", "lastActivity", "protected", "quota"]);
  const own = client.as(token);
  for (const stream of ["a-1", "a-1", "b-1", "c"]) await own.write(stream);
  const [last] = await own.rpc<CategoryMessage[]>("category.get", "", { direction: "backward", batchSize: 1 });
  const info = await client.rpc("ns.info", name);
  assert.deepEqual(info, { ...empty, messageCount: 4, streamCount: 3, lastActivity: last![7] });
  await own.failure("stream.write", "a-1", { type: "T", data: {} }, { expectedVersion: 50 });
  assert.equal((await client.rpc("ns.info", name)).messageCount, 4, "a refused write does not count");
});

test("[R-ns.9 R-error.7] an unknown namespace", async () => {
  const client = fresh();
  for (const method of ["ns.info", "ns.delete"]) {
    await assertFails(client.failure(method, unique("nobody")), 404, "NAMESPACE_NOT_FOUND");
  }
});

test("[R-ns.10] naming a namespace never creates it", async () => {
  const client = fresh();
  const name = unique("n");
  await client.failure("ns.info", name);
  await client.failure("ns.delete", name);
  await client.failure("ns.create", name, { token: "x" });
  const names = (await client.rpc<any[]>("ns.list")).map((each) => each.namespace);
  assert.ok(!names.includes(name));
});

test("[R-ns.11 R-message.16] deleting tells how much was deleted", async () => {
  const client = fresh();
  const name = unique("n");
  const { token } = await client.rpc("ns.create", name);
  await client.as(token).fill("a-1", 12);
  const deleted = await client.rpc("ns.delete", name);
  assert.deepEqual(Object.keys(deleted), ["namespace", "deletedAt", "messagesDeleted"]);
  assert.deepEqual([deleted.namespace, deleted.messagesDeleted], [name, 12]);
  assert.match(deleted.deletedAt, TIME);
  await assertFails(client.failure("ns.delete", name), 404, "NAMESPACE_NOT_FOUND");
  assert.ok(!(await client.rpc<any[]>("ns.list")).some((each) => each.namespace === name));
});

test("[R-ns.12] a deleted name can be created again at once, and is empty", async () => {
  const client = fresh();
  const name = unique("n");
  for (let round = 0; round < 5; round++) {
    const { token } = await client.rpc("ns.create", name);
    const own = client.as(token);
    assert.deepEqual(await own.rpc("category.get", ""), []);
    assert.equal(await own.rpc("stream.version", "a-1"), null);
    assert.deepEqual(await own.rpc("ns.streams"), []);
    const id = "00000000-0000-0000-0000-000000000001";
    assert.deepEqual(await own.rpc("stream.write", "a-1", { type: "T", data: { round } }, { id }), { position: 0, globalPosition: 1 });
    assert.equal((await client.rpc("ns.delete", name)).messagesDeleted, 1);
  }
});

test("[R-ns.13 R-resume.5] deleting does not wait for subscribers, it ends their streams", async (t) => {
  const client = fresh();
  const name = unique("n");
  const own = client.as((await client.rpc("ns.create", name)).token);
  await own.write("a-1");
  const queries = [{ all: "true" }, { category: "a" }, { stream: "a-1" }];
  const subscriptions = await Promise.all(queries.map((query) => subscribe(t, own, query)));
  for (const subscription of subscriptions) await subscription.upTo("caught-up");
  assert.equal((await client.rpc("ns.delete", name)).messagesDeleted, 1);
  for (const subscription of subscriptions) assert.deepEqual(await subscription.ended(), []);
});

test("[R-streams.1 R-streams.2 R-message.16] streams in the order of their bytes", async () => {
  const client = fresh();
  const names = ["b-1", "a-10", "a-2", "B-1", "a", "a-é", "a-z", "日-1", "🎉-1", "\ufb00-1"];
  for (const name of names) await client.fill(name, 2);
  const streams = await client.rpc<any[]>("ns.streams");
  const expected = [...names].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
  assert.deepEqual(streams.map((each) => [each.stream, each.version]), expected.map((name) => [name, 1]));
  for (const each of streams) {
    assert.deepEqual(Object.keys(each), ["stream", "version", "lastActivity"]);
    assert.equal(each.lastActivity, (await client.rpc("stream.last", each.stream))[6]);
  }
});

test("[R-streams.3] the prefix is compared literally", async () => {
  const client = fresh();
  for (const name of ["a_b-1", "aXb-1", "a%b-1", "A_b-1", "é-1", "è-1", "a*b-1", "a_"]) await client.write(name);
  const found = async (prefix: string) => (await client.rpc<any[]>("ns.streams", { prefix })).map((each) => each.stream);
  assert.deepEqual(await found("a_"), ["a_", "a_b-1"]);
  assert.deepEqual(await found("a%"), ["a%b-1"]);
  assert.deepEqual(await found("a*"), ["a*b-1"]);
  assert.deepEqual(await found("é"), ["é-1"]);
  assert.deepEqual(await found("a_b-1x"), []);
  assert.deepEqual(await found("%"), []);
});

test("[R-streams.4 R-streams.5] pages with limit and cursor", async () => {
  const client = fresh();
  const names = Array.from({ length: 130 }, (_, i) => `s-${String(i).padStart(3, "0")}`);
  for (let i = 0; i < names.length; i += 65) {
    await client.rpc("streams.append", names.slice(i, i + 65).map((stream) => ({ stream, messages: [{ type: "T", data: {} }] })));
  }
  const page = async (options?: object) => (await client.rpc<any[]>("ns.streams", options)).map((each) => each.stream);
  assert.deepEqual(await page(), names.slice(0, 100));
  assert.deepEqual(await page({ limit: 1000 }), names);
  assert.deepEqual(await page({ limit: 1 }), names.slice(0, 1));
  assert.deepEqual(await page({ limit: 3, cursor: "s-010" }), names.slice(11, 14));
  assert.deepEqual(await page({ cursor: "s-0105", limit: 1 }), ["s-011"], "a cursor need not be a stream");
  assert.deepEqual(await page({ prefix: "s-12", cursor: "s-124" }), names.slice(125, 130));
  assert.deepEqual(await page({ cursor: "s-129" }), []);
  for (const limit of [0, -1, 1001, 2 ** 33]) await assertFails(client.failure("ns.streams", { limit }), 400, "INVALID_REQUEST", /limit/);
});

test("[R-streams.6] an empty prefix or cursor counts as absent", async () => {
  const client = fresh();
  await client.write("a-1");
  assert.equal((await client.rpc<any[]>("ns.streams", { prefix: "", cursor: "" })).length, 1);
});

test("[R-categories.1] categories with their counts", async () => {
  const client = fresh();
  for (const stream of ["b-1", "a-1", "a-2", "a-2", "a", "B-1", "é-1"]) await client.write(stream);
  assert.deepEqual(await client.rpc("ns.categories"), [
    { category: "B", streamCount: 1, messageCount: 1 },
    { category: "a", streamCount: 3, messageCount: 4 },
    { category: "b", streamCount: 1, messageCount: 1 },
    { category: "é", streamCount: 1, messageCount: 1 },
  ]);
  assert.deepEqual(await fresh().rpc("ns.categories"), []);
});

test("[R-categories.2 R-categories.3 R-categories.4] pages of categories", async () => {
  const client = fresh();
  const names = Array.from({ length: 130 }, (_, i) => `c${String(i).padStart(3, "0")}`);
  for (let i = 0; i < names.length; i += 65) {
    await client.rpc("streams.append", names.slice(i, i + 65).map((name) => ({ stream: `${name}-1`, messages: [{ type: "T", data: {} }] })));
  }
  await client.write("c_1-1");
  const page = async (options?: object) => (await client.rpc<any[]>("ns.categories", options)).map((each) => each.category);
  assert.deepEqual(await page(), [...names, "c_1"], "all where no limit is given");
  assert.deepEqual(await page({ limit: 3, cursor: "c010" }), names.slice(11, 14));
  assert.deepEqual(await page({ cursor: "c0105", limit: 1 }), ["c011"], "a cursor need not be a category");
  assert.deepEqual(await page({ prefix: "c12", cursor: "c124" }), names.slice(125, 130));
  assert.deepEqual(await page({ prefix: "c_" }), ["c_1"], "compared literally");
  assert.deepEqual(await page({ cursor: "c_1" }), []);
  assert.deepEqual(await page({ prefix: "", cursor: "", limit: 2 }), names.slice(0, 2));
  for (const limit of [0, -1, 10_001, 2 ** 33]) await assertFails(client.failure("ns.categories", { limit }), 400, "INVALID_REQUEST", /limit/);
});
