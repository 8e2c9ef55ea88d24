/** Settings of a running server: sys.config and SIGHUP. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertFails, tokenFor } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { directoryFor, startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

type Layer = { value: string | null; from: string };
type Setting = Layer & { name: string; changeable: boolean; beneath?: Layer; afterRestart?: Layer };
type Configuration = { hash: string; settings: Setting[] };

const token = tokenFor("default");
const of = (all: Configuration, name: string) => all.settings.find((setting) => setting.name === name)!;

test("[R-config.1] every setting is shown without secrets", async (t) => {
  const flags = ["--token", token, "--heartbeat-ms", "900"];
  const server = await startServer(t, { args: ["--port", "0", "--db-url", "sqlite://:memory:", ...flags], env: { EVENTODB_MIN_FREE: "7" } });
  const all = await server.client(token).rpc<Configuration>("sys.config");
  assert.match(all.hash, /^[0-9a-f]{12}$/);
  assert.deepEqual(of(all, "heartbeat-ms"), { name: "heartbeat-ms", value: "900", from: "flag", changeable: false });
  assert.deepEqual(of(all, "min-free"), { name: "min-free", value: "7", from: "EVENTODB_MIN_FREE", changeable: false });
  assert.deepEqual(of(all, "max-wrong-tokens"), { name: "max-wrong-tokens", value: "20", from: "default", changeable: true });
  assert.ok(!JSON.stringify(all).includes(token) && of(all, "token").value === "…");
});

test("[R-config.2 R-config.3 R-config.4 R-config.5] changes are all or nothing, and can be withdrawn", async (t) => {
  const server = await startServer(t, { mode: "production", flags: ["--max-wrong-tokens", "30", "--log-format", "json"] });
  const administrator = server.client(server.madeToken);
  const config = (...change: unknown[]) => administrator.rpc<Configuration>("sys.config", ...change);
  const before = await config();
  for (const [change, culprit] of [
    [{ "read-only": true, "log-level": "loud" }, /loud.*it may be error/],
    [{ "read-only": true, "max-wrong-tokens": -1 }, /-1.*max-wrong-tokens/],
    [{ "read-only": true, port: 1 }, /port/],
    [{ "read-only": "maybe" }, /maybe/],
    [{ readOnly: true }, /did you mean read-only/],
    [{ "read-only": true, reset: ["read-only"] }, /set and reset/],
  ] as const) {
    assert.match((await administrator.failure("sys.config", change)).message, culprit);
    assert.deepEqual(await config(), before);
  }
  assert.deepEqual(await config({ "log-level": null }), before);
  const changed = await config({ "max-wrong-tokens": 40, "slow-query-threshold-ms": 250 });
  assert.notEqual(changed.hash, before.hash);
  const beneath = { value: "30", from: "flag" };
  assert.deepEqual(of(changed, "max-wrong-tokens"), { name: "max-wrong-tokens", value: "40", from: "sys.config", changeable: true, beneath });
  assert.deepEqual(await config({ reset: ["max-wrong-tokens", "slow-query-threshold-ms"] }), before);
  await until("the audit", () => server.stderr.includes('"object":"max-wrong-tokens=40,slow-query-threshold-ms=250","outcome":"done"'));
  await until("the audit", () => server.stderr.includes('"object":"max-wrong-tokens=30,slow-query-threshold-ms=100","outcome":"done"'));
});

test("[R-config.6] read-only mode refuses what may change the store, and says so", async (t) => {
  const server = await startServer(t, { mode: "production", flags: ["--read-only=false"] });
  const client = server.client(server.madeToken);
  await client.write("a-1");
  await client.rpc("sys.config", { "read-only": true });
  const message = { type: "T", data: {} };
  for (const call of [
    ["stream.write", "a-1", message], ["stream.append", "a-1", [message]], ["streams.append", [{ stream: "a-1", messages: [message] }]],
    ["ns.create", "shop"], ["ns.update", "default", { description: "x" }], ["ns.delete", "none"],
    ["token.create", { rights: ["read"] }], ["group.create", "g"], ["group.join", "g"],
  ] as [string, ...unknown[]][]) {
    await assertFails(client.failure(...call), 503, "BACKEND_UNAVAILABLE");
  }
  assert.equal((await client.send({ path: "/import", body: "" })).status, 503);
  for (const method of ["ns.list", "token.list", "ns.info", "group.list", "sys.config"]) await client.rpc(method, ...(method === "ns.info" ? ["default"] : []));
  assert.equal((await client.rpc<unknown[]>("stream.get", "a-1")).length, 1);
  await assertFails(server.client().failure("stream.write", "a-1", message), 401, "AUTH_REQUIRED");
  const ready = await client.send({ path: "/health/ready" });
  assert.equal(JSON.parse(ready.text).degraded[0].code, "READ_ONLY");
  assert.equal((await client.send({ path: "/health/ready?write=true" })).status, 503);
  await client.rpc("sys.config", { "read-only": false });
  assert.equal((await client.write("a-1")).position, 1);
});

test("[R-config.7] new subscriptions can be switched off", async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const there = await subscribe(t, client, { all: "true" });
  await there.upTo("caught-up");
  await client.rpc("sys.config", { subscriptions: "off" });
  const refused = await client.send({ method: "GET", path: "/subscribe?all=true" });
  assert.deepEqual([refused.status, JSON.parse(refused.text).error.code], [503, "OVERLOADED"]);
  await client.write("a-1");
  assert.equal((await there.pokes(1)).length, 1, "those that are there stay");
  await client.rpc("sys.config", { subscriptions: "on" });
  await (await subscribe(t, client, { all: "true" })).upTo("caught-up");
});

test("[R-config.8] SIGHUP reads the file again, all or nothing, beneath what sys.config has set", async (t) => {
  const file = join(directoryFor(t), "eventodb.toml");
  const write = (...lines: string[]) => writeFileSync(file, lines.map((line) => `${line}\n`).join(""));
  write("max-name-bytes = 99", "max-wrong-tokens = 31", "slow-query-threshold-ms = 500");
  const server = await startServer(t, { flags: ["--config", file] });
  const config = (...change: unknown[]) => server.client().rpc<Configuration>("sys.config", ...change);
  await config({ "slow-query-threshold-ms": 700 });
  const hangUp = async (line: RegExp) => {
    const already = server.stderr.length;
    server.signal("SIGHUP");
    await until("the line", () => line.test(server.stderr.slice(already)));
  };
  write("max-wrong-tokens = 32", "log-level = \"loud\"", "prot = 1");
  const before = await config();
  await hangUp(/eventodb\.toml:2:.*loud.*eventodb\.toml:3:.*did you mean port/);
  assert.deepEqual(await config(), before);
  write("max-wrong-tokens = 33", "max-name-bytes = 98", "slow-query-threshold-ms = 600");
  await hangUp(/was read again changed="max-wrong-tokens=33" after_restart="max-name-bytes"/);
  const after = await config();
  assert.deepEqual(of(after, "max-wrong-tokens"), { name: "max-wrong-tokens", value: "33", from: `${file}:1`, changeable: true });
  assert.deepEqual([of(after, "max-name-bytes").value, of(after, "max-name-bytes").afterRestart], ["99", { value: "98", from: `${file}:2` }]);
  const slow = of(after, "slow-query-threshold-ms");
  assert.deepEqual([slow.value, slow.beneath], ["700", { value: "600", from: `${file}:3` }]);
});
