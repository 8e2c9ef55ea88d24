/** Making, listing, revoking and rotating tokens, and protected namespaces. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { assertFails, failureOf, TIME, TOKEN, tokenFor, unique, UUID, type Client } from "../src/client.ts";
import { lines, outcome, record } from "../src/import.ts";
import { Socket } from "../src/socket.ts";
import { sharedServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

// These tests show more wrong tokens than the default bound lets a client try.
const { get } = sharedServer({ mode: "production", flags: ["--max-wrong-tokens", "0"] });
const administrator = () => get().client(get().madeToken);

async function tenant(): Promise<{ name: string; admin: Client }> {
  const name = unique("tenant-");
  return { name, admin: get().client((await administrator().rpc("ns.create", name)).token) };
}

const opens = async (admin: Client, token: string) => (await admin.as(token).call("stream.version", "a-1")).status === 200;
const inMs = (ms: number) => new Date(Date.now() + ms).toISOString();

test("[R-token.13] a token is shown once, with all that it may", async () => {
  const { name, admin } = await tenant();
  const expiresAt = "2100-01-01T00:00:00.000000Z";
  const { token, id, createdAt, ...about } = await admin.rpc("token.create", {
    rights: ["write", "read"], categories: ["order*", "account"], description: "reports", expiresAt,
  });
  assert.match(token, TOKEN);
  assert.match(id, UUID);
  assert.match(createdAt, TIME);
  assert.deepEqual(about, { namespace: name, description: "reports", rights: ["read", "write"], categories: ["account", "order*"], expiresAt });
  const plain = await admin.rpc("token.create", { rights: ["read"] });
  assert.deepEqual([plain.description, plain.categories, plain.expiresAt], ["", null, null]);
  assert.deepEqual(Object.keys(plain).sort(), ["categories", "createdAt", "description", "expiresAt", "id", "namespace", "rights", "token"]);
});

test("[R-token.14] the same call again returns the same token", async () => {
  const { name, admin } = await tenant();
  const options = { token: tokenFor(name), rights: ["read"], categories: ["account"], expiresAt: "2100-01-01T00:00:00Z" };
  const first = await admin.rpc("token.create", options);
  assert.deepEqual(await admin.rpc("token.create", options), first);
  for (const other of [{ rights: ["write"] }, { categories: ["order"] }, { categories: null }, { expiresAt: null }, { token: admin.token }]) {
    await assertFails(admin.failure("token.create", { ...options, ...other }), 400, "INVALID_REQUEST");
  }
  await assertFails(admin.failure("token.create", { ...options, token: tokenFor("another") }), 400, "INVALID_REQUEST", /token/);
  await admin.rpc("token.revoke", first.id);
  await assertFails(admin.failure("token.create", options), 400, "INVALID_REQUEST");
  assert.equal(await opens(admin, options.token), false, "a revoked token does not come back");
});

test("[R-token.15] tokens that make no sense", async () => {
  const { admin } = await tenant();
  for (const [options, message] of [
    [{}, /rights/], [{ rights: [] }, /rights/], [{ rights: ["reed"] }, /did you mean read/], [{ rights: ["read"], categories: [] }, /categories/],
    [{ rights: ["read"], categories: ["a-b"] }, /-/], [{ rights: ["read"], categories: ["*"] }, /\*/], [{ rights: ["admin"], categories: ["a"] }, /admin/],
    [{ rights: ["read"], expiresAt: "2020-01-01T00:00:00Z" }, /expiresAt/], [{ rights: ["read"], expiresAt: "soon" }, /expiresAt/],
    [{ rights: ["read"], expiresAt: "9999-12-31T23:59:59Z" }, /expiresAt: a time is at most 9999-12-30T22:00:00/],
    [{ rights: ["read"], categories: Array.from({ length: 101 }, (_, i) => `c${i}`) }, /100/],
  ] as [object, RegExp][]) {
    await assertFails(admin.failure("token.create", options), 400, "INVALID_REQUEST", message);
  }
  assert.equal((await admin.rpc<any[]>("token.list")).length, 1);
});

test("[R-token.16 R-auth.6] an expired token is as good as an unknown one", async () => {
  const { name, admin } = await tenant();
  const { token } = await admin.rpc("token.create", { rights: ["read"], expiresAt: inMs(2000) });
  assert.equal(await opens(admin, token), true);
  await until("the token's end", async () => !(await opens(admin, token)));
  const [expired, unknown] = [await admin.as(token).call("stream.version", "a-1"), await admin.as(tokenFor(name)).call("stream.version", "a-1")];
  assert.deepEqual([expired.status, expired.text], [unknown.status, unknown.text]);
});

test("[R-token.17 R-right.3] only the administrator makes tokens of other namespaces", async () => {
  const [one, two] = [await tenant(), await tenant()];
  for (const namespace of [two.name, "default", unique("nobody")]) {
    await assertFails(one.admin.failure("token.create", { namespace, rights: ["read"] }), 403, "AUTH_UNAUTHORIZED");
    await assertFails(one.admin.failure("token.list", { namespace }), 403, "AUTH_UNAUTHORIZED");
  }
  const { token } = await administrator().rpc("token.create", { namespace: two.name, rights: ["read"] });
  assert.equal(await opens(two.admin, token), true);
  assert.equal((await administrator().rpc<any[]>("token.list", { namespace: two.name })).length, 2);
  await assertFails(administrator().failure("token.create", { namespace: unique("nobody"), rights: ["read"] }), 404, "NAMESPACE_NOT_FOUND");
  const other = await administrator().rpc("token.create", { rights: ["read", "write", "consume"], expiresAt: inMs(60_000) });
  for (const [method, ...args] of [["ns.list"], ["ns.info", two.name], ["token.list"], ["ns.create", unique("n")]] as [string, ...unknown[]][]) {
    await assertFails(get().client(other.token).failure(method, ...args), 403, "AUTH_UNAUTHORIZED");
  }
});

test("[R-token.18 R-right.4] the living tokens are listed, without the tokens", async () => {
  const { name, admin } = await tenant();
  const read = await admin.rpc("token.create", { rights: ["read"], description: "one" });
  const gone = await admin.rpc("token.create", { rights: ["read"], description: "two" });
  await admin.rpc("token.revoke", gone.id);
  const [first, second, ...rest] = await admin.rpc<any[]>("token.list");
  assert.deepEqual(rest, []);
  assert.deepEqual([first.rights, first.categories], [["read", "write", "consume", "admin"], null]);
  const { token: _, ...about } = read;
  assert.deepEqual(second, { ...about, lastUsedAt: null });
  const reply = await admin.call("token.list", { namespace: name });
  assert.doesNotMatch(reply.text, TOKEN);
});

test("[R-token.19 R-auth.6] a revoked token opens nothing any more", async () => {
  const { name, admin } = await tenant();
  const { token, id } = await admin.rpc("token.create", { rights: ["read"] });
  assert.equal(await opens(admin, token), true);
  const revoked = await admin.rpc("token.revoke", id);
  assert.match(revoked.revokedAt, TIME);
  assert.deepEqual(revoked, { id, revokedAt: revoked.revokedAt });
  assert.deepEqual(await admin.rpc("token.revoke", id), revoked);
  const [ended, unknown] = [await admin.as(token).call("stream.version", "a-1"), await admin.as(tokenFor(name)).call("stream.version", "a-1")];
  assert.deepEqual([ended.status, ended.text], [403, unknown.text]);
});

test("[R-token.20] a rotated token is followed by one that may the same", async () => {
  const { name, admin } = await tenant();
  const old = await admin.rpc("token.create", { rights: ["read"], categories: ["a"], description: "reports", expiresAt: "2100-01-01T00:00:00.000000Z" });
  const { token, id, createdAt, ...about } = await admin.rpc("token.rotate", old.id);
  const { token: _token, id: _id, createdAt: _createdAt, ...before } = old;
  assert.deepEqual(about, before);
  assert.deepEqual([await opens(admin, token), await opens(admin, old.token)], [true, true]);
  const listed = (await admin.rpc<any[]>("token.list")).find((each) => each.id === old.id);
  const left = Date.parse(listed.expiresAt) - Date.now();
  assert.ok(left > 240_000 && left <= 300_000, `the old one ends in ${left} ms`);
  const given = { token: tokenFor(name), graceMs: 0 };
  const next = await admin.rpc("token.rotate", id, given);
  assert.equal(next.token, given.token);
  assert.equal(await opens(admin, token), false);
  assert.deepEqual(await admin.rpc("token.rotate", id, given), next, "a lost reply loses nothing");
  await assertFails(admin.failure("token.rotate", next.id, { token: tokenFor("another") }), 400, "INVALID_REQUEST");
  for (const graceMs of [-1, 7 * 24 * 3_600_000 + 1]) await assertFails(admin.failure("token.rotate", next.id, { graceMs }), 400, "INVALID_REQUEST", /graceMs/);
  const own = await admin.rpc("token.rotate", null, { graceMs: 0 });
  assert.deepEqual([await opens(admin, own.token), await opens(admin, admin.token!)], [true, false]);
});

test("[R-token.20] a rotation that is repeated with a shorter grace ends the old token sooner, and never later", async () => {
  const { name, admin } = await tenant();
  const old = await admin.rpc("token.create", { rights: ["read"] });
  const token = tokenFor(name);
  const ends = async () => Date.parse((await admin.rpc<any[]>("token.list")).find((each) => each.id === old.id).expiresAt);
  const first = await admin.rpc("token.rotate", old.id, { token, graceMs: 604_800_000 });
  const late = await ends();
  assert.deepEqual(await admin.rpc("token.rotate", old.id, { token, graceMs: 600_000 }), first);
  const sooner = await ends();
  assert.ok(sooner < late, `${sooner} is not before ${late}`);
  assert.deepEqual(await admin.rpc("token.rotate", old.id, { token }).then(() => admin.rpc("token.rotate", old.id, { token, graceMs: 604_800_000 })), first);
  assert.ok(await ends() <= sooner);
  assert.equal(await opens(admin, old.token), true);
  assert.deepEqual(await admin.rpc("token.rotate", old.id, { token, graceMs: 0 }), first);
  assert.deepEqual([await opens(admin, old.token), await opens(admin, token)], [false, true]);
});

test("[R-token.21] an id of another namespace is unknown, but to the administrator", async () => {
  const [one, two] = [await tenant(), await tenant()];
  const { id, token } = await two.admin.rpc("token.create", { rights: ["read"] });
  for (const unknown of [id, randomUUID()]) {
    for (const method of ["token.revoke", "token.rotate"]) {
      const failure = await assertFails(one.admin.failure(method, unknown), 404, "TOKEN_NOT_FOUND");
      assert.equal(failure.message, (await one.admin.failure(method, randomUUID())).message);
    }
  }
  assert.equal(await opens(two.admin, token), true);
  const rotated = await administrator().rpc("token.rotate", id, { graceMs: 0 });
  assert.equal(await opens(two.admin, rotated.token), true);
  await administrator().rpc("token.revoke", rotated.id);
  assert.equal(await opens(two.admin, rotated.token), false);
});

test("[R-token.22] the last administrator's token stays", async () => {
  const tokens = await administrator().rpc<any[]>("token.list");
  const last = tokens.filter((each) => each.rights.includes("admin") && each.expiresAt === null);
  assert.equal(last.length, 1);
  await assertFails(administrator().failure("token.revoke", last[0].id), 400, "INVALID_REQUEST");
  await assertFails(administrator().failure("token.rotate", null, { graceMs: 0 }), 400, "INVALID_REQUEST");
  const expiring = await administrator().rpc("token.create", { rights: ["admin"], expiresAt: inMs(60_000) });
  await assertFails(get().client(expiring.token).failure("token.revoke", last[0].id), 400, "INVALID_REQUEST");
  await administrator().rpc("token.revoke", expiring.id);
  const { admin } = await tenant();
  const own = (await admin.rpc<any[]>("token.list"))[0];
  await admin.rpc("token.revoke", own.id);
  assert.equal(await opens(admin, admin.token!), false, "other namespaces may lose their last token");
});

test("[R-token.23] at most 100 living tokens", async () => {
  const { admin } = await tenant();
  const made = [];
  for (let i = 1; i < 100; i++) made.push(await admin.rpc("token.create", { rights: ["read"] }));
  await assertFails(admin.failure("token.create", { rights: ["read"] }), 503, "OVERLOADED");
  await admin.rpc("token.revoke", made[0].id);
  await admin.rpc("token.create", { rights: ["read"] });
});

test("[R-token.24 R-auth.5 R-ns.12] tokens stay with a replaced namespace, and end with a deleted one", async () => {
  const { name, admin } = await tenant();
  const { token } = await admin.rpc("token.create", { rights: ["read"] });
  assert.equal((await outcome(admin, lines([record({ gpos: 1 })]), "?force=true")).done, true);
  assert.equal(await opens(admin, token), true);
  await admin.rpc("ns.delete", name);
  await administrator().rpc("ns.create", name);
  for (const old of [token, admin.token!]) assert.equal(await opens(admin, old), false);
});

test("[R-right.2] consume alone allows no call of this version", async () => {
  const { name, admin } = await tenant();
  const { token } = await admin.rpc("token.create", { rights: ["consume"] });
  for (const call of [["stream.get", "a-1"], ["category.get", "a"], ["ns.info", name], ["ns.streams"], ["stream.write", "a-1", { type: "T", data: {} }]] as [string, ...unknown[]][]) {
    await assertFails(admin.as(token).failure(...call), 403, "AUTH_UNAUTHORIZED");
  }
});

test("[R-ns.14] ns.update changes what it is given", async () => {
  const { name, admin } = await tenant();
  const before = await admin.rpc("ns.info", name);
  assert.deepEqual([before.description, before.protected, before.quota], ["", false, { messages: null, bytes: null }]);
  assert.deepEqual(await admin.rpc("ns.update", name), before);
  assert.deepEqual(await admin.rpc("ns.update", name, { description: "the shop" }), { ...before, description: "the shop" });
  assert.deepEqual(await admin.rpc("ns.update", name, { protected: true }), { ...before, description: "the shop", protected: true });
  assert.deepEqual(await administrator().rpc("ns.update", name, { description: "" }), { ...before, protected: true });
  await assertFails(administrator().failure("ns.update", unique("nobody"), {}), 404, "NAMESPACE_NOT_FOUND");
  await admin.rpc("ns.update", name, { protected: false });
});

test("[R-ns.15] a protected namespace is neither deleted nor replaced", async () => {
  const { name, admin } = await tenant();
  await admin.write("a-1");
  await admin.rpc("ns.update", name, { protected: true });
  for (const client of [admin, administrator()]) await assertFails(client.failure("ns.delete", name), 400, "INVALID_REQUEST", /protected/);
  const replaced = failureOf(await admin.send({ path: "/import?force=true", body: "" }));
  assert.deepEqual([replaced.status, replaced.code], [400, "INVALID_REQUEST"]);
  assert.equal(await admin.rpc("stream.version", "a-1"), 0);
  await admin.write("a-1");
  await admin.rpc("ns.update", name, { protected: false });
  assert.equal((await admin.rpc("ns.delete", name)).messagesDeleted, 2);
});

test("[R-ns.15 R-import.25 R-limit.22] what is set while an import with force runs holds at its end", async (t) => {
  for (const [set, told] of [[{ protected: true }, /is protected/], [{ quota: { messages: 999 } }, /quota of messages/]] as [object, RegExp][]) {
    const { name, admin } = await tenant();
    await admin.write("a-1");
    const socket = await Socket.connect(t, get().port);
    const text = lines(Array.from({ length: 1000 }, (_, i) => record({ gpos: i + 1, stream: "new-1", pos: i })));
    socket.send(`POST /import?force=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${admin.token}\r\nTransfer-Encoding: chunked\r\n\r\n`);
    socket.send(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
    await socket.expect(/data: \{"imported":1000,/);
    await administrator().rpc("ns.update", name, set);
    socket.send("0\r\n\r\n");
    assert.match((await socket.expect(/data: \{"error":"IMPORT_FAILED","message":"(.*)","line":1000\}/))[1]!, told);
    assert.deepEqual([await admin.rpc("stream.version", "a-1"), await admin.rpc("stream.version", "new-1")], [0, null]);
    await admin.write("a-1");
  }
});

test("[R-ns.16] a quota is the administrator's", async () => {
  const { name, admin } = await tenant();
  const failure = await admin.failure("ns.update", name, { quota: { messages: 7 } });
  assert.deepEqual([failure.status, failure.code], [403, "AUTH_UNAUTHORIZED"]);
  const quota = async (given: object) => (await administrator().rpc("ns.update", name, { quota: given })).quota;
  assert.deepEqual(await quota({ messages: 7 }), { messages: 7, bytes: null });
  assert.deepEqual(await quota({ bytes: 1_000_000, messages: null }), { messages: null, bytes: 1_000_000 });
  assert.deepEqual((await admin.rpc("ns.info", name)).quota, { messages: null, bytes: 1_000_000 });
  await assertFails(administrator().failure("ns.update", name, { quota: { messages: -1 } }), 400, "INVALID_REQUEST", /quota\.messages/);
});
