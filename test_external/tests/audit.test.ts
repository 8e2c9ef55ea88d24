/** The audit: who administered what, and who was refused, as lines of the log. */
import assert from "node:assert/strict";
import { tokenFor } from "../src/client.ts";
import { lines, record } from "../src/import.ts";
import type { Server, StartOptions } from "../src/server.ts";
import { startServer, test, type Context } from "../src/suite.ts";
import { until } from "../src/wait.ts";

type Line = Record<string, any>;

const audited = (server: Server): Line[] =>
  server.stderr.split("\n").filter((line) => line.includes('"target":"audit"')).map((line) => JSON.parse(line));

const start = (t: Context, options: StartOptions = {}) =>
  startServer(t, { mode: "production", ...options, flags: ["--log-format", "json", ...(options.flags ?? [])] });

/** The next line that the audit gets by `call`. */
async function lineOf(server: Server, call: () => Promise<unknown>): Promise<Line> {
  const before = audited(server).length;
  await call();
  await until("a line of the audit", () => audited(server).length > before);
  assert.equal(audited(server).length, before + 1);
  return audited(server)[before]!;
}

test("[R-audit.1] the audit is logged at every level", async (t) => {
  const server = await startServer(t, { mode: "production", flags: ["--log-level", "error"] });
  await server.client(server.madeToken).rpc("ns.create", "shop");
  await until("the line", () => /audit act="ns.create" object="shop" outcome="done"/.test(server.stderr));
  assert.ok(!server.stderr.includes("starting"));
});

test("[R-audit.1] each administrative act has a line", async (t) => {
  const server = await start(t);
  const administrator = server.client(server.madeToken);
  const created = await lineOf(server, () =>
    administrator.send({ path: "/rpc", body: '["ns.create","shop"]', headers: { "X-Request-Id": "mine" } }));
  assert.equal(created.level, "INFO");
  assert.match(created.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/);
  assert.deepEqual([created.act, created.object, created.outcome], ["ns.create", "shop", "done"]);
  assert.deepEqual([created.address, created.request_id], ["127.0.0.1", "mine"]);

  const again = await lineOf(server, () => administrator.failure("ns.create", "shop"));
  assert.deepEqual([again.act, again.object, again.outcome], ["ns.create", "shop", "NAMESPACE_EXISTS"]);

  const force = (body: string) => () => administrator.send({ path: "/import?force=true", body });
  const replaced = await lineOf(server, force(lines([record({ gpos: 1 })])));
  assert.deepEqual([replaced.act, replaced.object, replaced.outcome], ["import?force", "default", "done"]);
  const kept = await lineOf(server, force("nonsense"));
  assert.deepEqual([kept.act, kept.object, kept.outcome], ["import?force", "default", "INVALID_JSON"]);

  await lineOf(server, () => administrator.rpc("ns.update", "default", { protected: true }));
  const refused = await lineOf(server, force(""));
  assert.deepEqual([refused.act, refused.object, refused.outcome], ["import?force", "default", "INVALID_REQUEST"]);
  await lineOf(server, () => administrator.rpc("ns.update", "default", { protected: false }));

  await administrator.rpc("group.create", "balances");
  await administrator.rpc("group.reset", "balances", { to: "end", dryRun: true });
  const paused = await lineOf(server, () => administrator.rpc("group.pause", "balances"));
  assert.deepEqual([paused.act, paused.object, paused.outcome], ["group.pause", "balances", "done"]);

  const deleted = await lineOf(server, () => administrator.rpc("ns.delete", "shop"));
  assert.deepEqual([deleted.act, deleted.object, deleted.outcome], ["ns.delete", "shop", "done"]);
});

test("[R-audit.1] the life of a token is told by its id", async (t) => {
  const server = await start(t);
  const administrator = server.client(server.madeToken);
  const own = (await administrator.rpc("token.list"))[0].id;
  const { id } = await administrator.rpc("token.create", { rights: ["read"] });
  await administrator.rpc("token.rotate", id);
  await administrator.rpc("token.revoke", id);
  await administrator.rpc("ns.update", "default", { description: "changed" });
  await server.stop();
  const told = audited(server).map(({ act, object, outcome, token_id }) => [act, object, outcome, token_id]);
  assert.deepEqual(told.slice(1), [
    ["token.rotate", id, "done", own],
    ["token.revoke", id, "done", own],
    ["ns.update", "default", "done", own],
  ]);
  assert.deepEqual([told[0]![0], told[0]![2], told[0]![3]], ["token.create", "done", own]);
});

test("[R-audit.1] what is not administrative has no line", async (t) => {
  const server = await start(t);
  const administrator = server.client(server.madeToken);
  await administrator.write("a-1");
  await administrator.rpc("ns.list");
  await administrator.send({ path: "/import", body: "" });
  await administrator.failure("stream.get", "");
  const created = await lineOf(server, () => administrator.rpc("ns.create", "shop"));
  assert.equal(created.act, "ns.create");
});

test("[R-audit.2] refusals have lines", async (t) => {
  const server = await start(t);
  const administrator = server.client(server.madeToken);
  const { token } = await administrator.rpc("ns.create", "shop");
  const { id, token: reader } = await server.client(token).rpc("token.create", { rights: ["read"] });
  await until("the lines of what was made", () => audited(server).length === 2);
  for (const [given, body, outcome] of [
    [undefined, '["ns.list"]', "AUTH_REQUIRED"],
    ["nonsense", '["ns.list"]', "AUTH_INVALID_TOKEN"],
    [tokenFor("nobody"), '["ns.list"]', "AUTH_UNAUTHORIZED"],
    [token, '["ns.delete","other"]', "AUTH_UNAUTHORIZED"],
    [reader, '["stream.write","a-1",{"type":"T","data":{}}]', "AUTH_UNAUTHORIZED"],
  ] as const) {
    const line = await lineOf(server, () => server.client(given).post(body));
    assert.equal(line.namespace, given === token || given === reader ? "shop" : undefined);
    if (given === reader) assert.equal(line.token_id, id);
    assert.deepEqual([line.act, line.outcome, line.address], [JSON.parse(body)[0], outcome, "127.0.0.1"]);
    assert.match(line.request_id, /^[0-9a-f]{8}-\d+$/);
  }
});

test("[R-audit.2] load that is shed has lines", async (t) => {
  const server = await start(t, { mode: "test", flags: ["--test-namespaces", "1"] });
  await server.fresh().write("a-1");
  const shed = await lineOf(server, () => server.fresh().failure("stream.write", "a-1", { type: "T", data: {} }));
  assert.deepEqual([shed.act, shed.outcome], ["stream.write", "OVERLOADED"]);
  await server.stop();
  assert.ok(!server.stderr.includes("a request failed"), "no second line");
});

test("[R-audit.3] refusals of one kind have few lines, and the others are counted", async (t) => {
  const server = await start(t);
  const stranger = server.client(tokenFor("nobody"));
  await Promise.all(Array.from({ length: 300 }, () => stranger.call("ns.list")));
  await server.stop();
  const lines = audited(server).filter(({ act }) => act === "ns.list");
  const counted = lines.filter(({ more }) => more !== undefined);
  const single = lines.length - counted.length;
  assert.ok(single <= 20, `${single} lines`);
  assert.equal(single + counted.reduce((sum, { more }) => sum + more, 0), 300);
});

test("[R-audit.4] no line has a token or data", async (t) => {
  const server = await start(t);
  const administrator = server.client(server.madeToken);
  const { token } = await administrator.rpc("ns.create", "shop", { description: "swordfish" });
  const other = tokenFor("other");
  await administrator.failure("ns.delete", other);
  await server.client(other).failure("stream.write", "a-1", { type: "T", data: { secret: "swordfish" } });
  await server.client(token).failure("ns.create", token, { token: other });
  await server.stop();
  assert.ok(audited(server).length >= 4);
  for (const word of [server.madeToken, token, other].map((secret: string) => secret.slice(-64)).concat("swordfish")) {
    assert.ok(!server.stderr.includes(word), word);
  }
});
