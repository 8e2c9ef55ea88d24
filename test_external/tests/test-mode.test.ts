/** Test mode, line by line. */
import assert from "node:assert/strict";
import { chmodSync, readdirSync } from "node:fs";
import { assertFails, failureOf, tokenFor, TOKEN, unique } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { directoryFor, sharedServer, startServer, test } from "../src/suite.ts";

const { get, fresh } = sharedServer();

test("[R-test.1] no token is rejected, whatever its digits", async () => {
  const name = unique("n");
  const digits = ["0".repeat(64), "F".repeat(64), undefined];
  for (const [written, given] of digits.entries()) {
    assert.equal((await get().client(tokenFor(name, given)).write("a-1")).position, written);
  }
});

test("[R-test.2] without a token, or with one that does not parse, it is default", async () => {
  const stream = unique("a-");
  await get().client().write(stream);
  for (const token of ["nonsense", "", "ns_x_y", `ns_!_${"0".repeat(64)}`]) await get().client(token).write(stream);
  const basic = await get().client().send({ path: "/rpc", headers: { Authorization: "Basic eDp5" }, body: `["stream.version","${stream}"]` });
  assert.equal(basic.text, "4");
  assert.equal(await get().client(tokenFor("default")).rpc("stream.version", stream), 4);
});

test("[R-test.3] a call that uses a namespace creates it, reads included", async (t) => {
  const calls: [string, ...unknown[]][] = [
    ["stream.write", "a-1", { type: "T", data: {} }], ["stream.get", "a-1"], ["stream.last", "a-1"], ["stream.version", "a-1"],
    ["category.get", "a"], ["ns.streams"], ["ns.categories"],
  ];
  const exists = async (name: string) => (await fresh().rpc<any[]>("ns.list")).some((each) => each.namespace === name);
  for (const [method, ...args] of calls) {
    const name = unique("n");
    await get().client(tokenFor(name)).rpc(method, ...args);
    assert.ok(await exists(name), method);
  }
  const subscribed = unique("n");
  await subscribe(t, get().client(tokenFor(subscribed)), { all: "true" });
  assert.ok(await exists(subscribed), "/subscribe");
  const imported = unique("n");
  await get().client(tokenFor(imported)).send({ path: "/import", body: "" });
  assert.ok(await exists(imported), "/import");
});

test("[R-test.4 R-test.5] only ns.create brings a deleted namespace back", async () => {
  const name = unique("n");
  const client = get().client(tokenFor(name));
  await client.write("a-1");
  await get().client().rpc("ns.delete", name);
  for (const token of [client.token, tokenFor(name)]) {
    const late = get().client(token);
    await assertFails(late.failure("stream.version", "a-1"), 403, "AUTH_UNAUTHORIZED");
    await assertFails(late.failure("stream.write", "a-1", { type: "T", data: {} }), 403, "AUTH_UNAUTHORIZED");
    assert.equal(failureOf(await late.send({ path: "/subscribe?all=true" })).code, "AUTH_UNAUTHORIZED");
    assert.equal(failureOf(await late.send({ path: "/import", body: "" })).code, "AUTH_UNAUTHORIZED");
  }
  await get().client().rpc("ns.create", name);
  assert.equal(await client.rpc("stream.version", "a-1"), null, "any token will do again");
});

test("[R-test.6] a reply to a request without a token carries the token of default", async () => {
  const bodies = ['["stream.version","a-1"]', '["sys.version"]', '["no.such.method"]', "[", '["stream.write","",{}]'];
  const replies = await Promise.all(bodies.map((body) => get().client().post(body)));
  const tokens = replies.map((reply) => String(reply.headers["x-eventodb-token"]));
  assert.equal(new Set(tokens).size, 1);
  assert.equal(tokens[0], TOKEN.exec(tokens[0]!)?.[0]);
  assert.ok(tokens[0]!.startsWith(`ns_${Buffer.from("default").toString("base64url")}_`));
  const stream = unique("a-");
  await get().client(tokens[0]).write(stream);
  assert.equal(await get().client().rpc("stream.version", stream), 0);
});

test("[R-test.6 R-test.7] it is never the token that was given", async (t) => {
  const token = tokenFor("default");
  const server = await startServer(t, { flags: ["--token", token] });
  const shown = String((await server.client().call("sys.version")).headers["x-eventodb-token"]);
  assert.match(shown, new RegExp(`^ns_${Buffer.from("default").toString("base64url")}_[0-9a-fA-F]{64}$`));
  assert.notEqual(shown, token);
  assert.equal(await server.client(shown).rpc("stream.version", "a-1"), null);
});

test("[R-test.8] everyone may call everything", async () => {
  const [client, name] = [fresh(), unique("n")];
  const { token } = await client.rpc("ns.create", name);
  assert.ok((await client.rpc<any[]>("ns.list")).length > 0);
  assert.equal((await client.rpc("ns.info", "default")).namespace, "default");
  await get().client(token).write("a-1");
  assert.equal((await client.rpc("ns.delete", name)).messagesDeleted, 1);
});

test("[R-test.9 R-sys.2] without --db-url nothing is stored and nothing locked", async (t) => {
  const directory = directoryFor(t);
  chmodSync(directory, 0o555);
  const args = ["serve", "--port", "0", "--test-mode", "--data-dir", directory];
  const [one, two] = [await startServer(t, { args }), await startServer(t, { args })];
  await one.client().write("a-1");
  assert.equal(await two.client().rpc("stream.version", "a-1"), null, "each has a memory of its own");
  assert.equal((await one.client().rpc("sys.health")).backend, "sqlite");
  await Promise.all([one.stop(), two.stop()]);
  assert.deepEqual(readdirSync(directory), []);
});

test("[R-test.10] a web page of elsewhere may nothing", async (t) => {
  const server = await startServer(t, { flags: ["--cors-origin", "https://shop.example,http://other.example:81"] });
  const from = (origin: string, path = "/rpc", method = "POST") =>
    server.client().send({ path, method, headers: { Origin: origin }, ...(method === "POST" ? { body: '["stream.version","a-1"]' } : {}) });
  for (const origin of ["https://evil.example", "null", "http://shop.example", "https://localhost.evil.example"]) {
    for (const reply of [await from(origin), await from(origin, "/subscribe?all=true", "GET"), await from(origin, "/rpc", "OPTIONS")]) {
      assert.equal(failureOf(reply).code, "AUTH_UNAUTHORIZED");
      assert.equal(reply.status, 403);
      assert.equal(reply.headers["access-control-allow-origin"], undefined);
    }
    assert.equal((await from(origin, "/health", "GET")).status, 200);
  }
  for (const origin of ["http://localhost:5173", "http://127.0.0.1", "http://[::1]:3000", "https://shop.example", "http://other.example:81"]) {
    const reply = await from(origin);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["access-control-allow-origin"], origin);
    assert.equal(reply.headers["vary"], "Origin");
    assert.equal((await from(origin, "/rpc", "OPTIONS")).headers["access-control-allow-origin"], origin);
  }
});

test("[R-test.11] a name that leads here is not enough", async (t) => {
  const server = await startServer(t, { flags: ["--allowed-host", "store.test"] });
  const to = (host: string) => server.client().send({ path: "/rpc", method: "POST", headers: { Host: host }, body: '["stream.version","a-1"]' });
  for (const host of ["evil.example", "evil.example:8080", "localhost.evil.example"]) assert.equal(failureOf(await to(host)).code, "AUTH_UNAUTHORIZED");
  for (const host of ["localhost", "LOCALHOST:81", "10.1.2.3:8080", "[::1]", "store.test:8080"]) assert.equal((await to(host)).status, 200, host);
});

test("[R-test.12] namespaces that come into being by use are bounded", async (t) => {
  const server = await startServer(t, { flags: ["--test-namespaces", "2"] });
  const use = (name: string) => server.client(tokenFor(name));
  await use("one").write("a-1");
  await use("two").write("a-1");
  await assertFails(use("three").failure("stream.version", "a-1"), 503, "OVERLOADED", /--test-namespaces/);
  await use("one").write("a-1");
  await server.client().rpc("ns.create", "four");
  await server.client().rpc("ns.delete", "one");
  assert.equal(await use("three").rpc("stream.version", "a-1"), null);
  await assertFails(use("five").failure("stream.version", "a-1"), 503, "OVERLOADED");
});
