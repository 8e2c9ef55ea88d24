/** What one client may have: connections, requests and wrong tokens. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { assertFails, failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { Socket, rpcBytes } from "../src/socket.ts";
import { subscribe } from "../src/sse.ts";
import { startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const VERSION = '["stream.version","a-1"]';
const call = (client: Client, headers: Record<string, string> = {}) => client.send({ path: "/rpc", headers, body: VERSION });

/** The statuses of a call that is sent this often, one after the other. */
async function statuses(times: number, send: () => ReturnType<Client["send"]>): Promise<number[]> {
  const found = [];
  for (let i = 0; i < times; i++) {
    const reply = await send();
    if (reply.status === 429) {
      assert.equal(failureOf(reply).code, "RATE_LIMITED");
      assert.match(reply.headers["retry-after"] as string, /^[1-3]$/);
    }
    found.push(reply.status);
  }
  return found;
}

const count = (found: number[], status: number) => found.filter((one) => one === status).length;

test("[R-limit.7 R-error.12] requests of an address, and with a token, have a rate where one is configured", async (t) => {
  for (const flag of ["--max-requests-per-address", "--max-requests-per-token"]) {
    const server = await startServer(t, { flags: [flag, "1"] });
    const client = server.fresh();
    const found = await statuses(20, () => call(client));
    assert.equal(found[0], 200);
    assert.ok(count(found, 429) >= 10, `${flag}: ${found}`);
    for (const path of ["/health", "/health/ready", "/version"]) assert.equal((await client.send({ path })).status, 200, path);
    const refused = await statuses(5, () => client.send({ path: "/subscribe?all=true" }).then((reply) => reply));
    assert.ok(count(refused, 429) >= 1, `${flag}: ${refused}`);
  }
});

test("[R-limit.7] the body of a refused request is not waited for", async (t) => {
  const server = await startServer(t, { flags: ["--max-requests-per-address", "1"] });
  const sockets = await Promise.all(Array.from({ length: 10 }, () => Socket.connect(t, server.port)));
  for (const socket of sockets) socket.send("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n[");
  // One or more are taken in and waited for: how many depends on how long all of them take.
  await until("a refusal", () => sockets.some((socket) => /^HTTP\/1\.1 429 [^]*RATE_LIMITED/.test(socket.text)));
});

test("[R-limit.17] wrong tokens of an address have a rate, and right ones have none", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const wrong = server.client(tokenFor(unique("nobody-")));
  const found = await statuses(300, () => call(wrong));
  assert.ok(count(found, 403) >= 20, `${found}`);
  assert.ok(count(found, 429) >= 1, `${found}`);
  const right = server.client(server.madeToken);
  assert.equal(count(await statuses(50, () => call(right)), 200), 50);
  const anonymous = server.client();
  assert.equal(count(await statuses(50, () => call(anonymous)), 401), 50, "no token is not a wrong one");
});

test("[R-limit.18] connections of an address", async (t) => {
  const server = await startServer(t, { flags: ["--max-connections-per-address", "3"] });
  const sockets = [];
  for (let i = 0; i < 3; i++) {
    const socket = await Socket.connect(t, server.port);
    socket.send(rpcBytes('["sys.version"]'));
    await socket.expect(/^HTTP\/1\.1 200 /);
    sockets.push(socket);
  }
  // Over TLS the handshake fails.
  const refused = await Socket.connect(t, server.port).catch(() => undefined);
  if (refused) await refused.end();
  assert.equal(refused?.text ?? "", "");
  sockets[0]!.send(rpcBytes('["sys.version"]'));
  await sockets[0]!.expect(/^HTTP\/1\.1 200 [^]*HTTP\/1\.1 200 /);
});

test("[R-limit.19] headers name a client only where a trusted proxy wrote them", async (t) => {
  for (const trusted of [false, true]) {
    const proxy = trusted ? "127.0.0.0/8" : "192.0.2.0/24";
    const server = await startServer(t, { flags: ["--max-requests-per-address", "1", "--trusted-proxy", `${proxy},2001:db8::/32`] });
    const client = server.fresh();
    for (const name of ["X-Forwarded-For", "Forwarded"]) {
      const value = (address: string) => (name === "Forwarded" ? `for="${address}"` : address);
      const each = (of: (i: number) => string) => {
        let i = 0;
        return statuses(20, () => call(client, { [name]: value(of(++i)) }));
      };
      const network = name === "Forwarded" ? 1 : 2;
      const apart = await each((i) => `198.51.${network}.${i}`);
      assert.equal(count(apart, 200) === 20, trusted, `${name}: ${apart}`);
      const together = await each((i) => `[fd00:0:0:${network}::${i}]:80`);
      assert.ok(count(together, 429) >= 10, `${name}: ${together}`);
      const malformed = await each((i) => `nobody${i}`);
      assert.ok(count(malformed, 429) >= 10, `${name}: ${malformed}`);
    }
  }
});

/** The message of a refusal as overload. */
async function overloaded(reply: ReturnType<Client["send"]>): Promise<string> {
  const { status, code, message } = failureOf(await reply);
  assert.deepEqual([status, code], [503, "OVERLOADED"]);
  assert.match(String((await reply).headers["retry-after"]), /^[1-3]$/);
  return message;
}

test("[R-limit.20 R-error.14] subscriptions of a namespace and with a token", async (t) => {
  const server = await startServer(t, { flags: ["--max-subscriptions-per-namespace", "2", "--max-subscriptions-per-token", "1"] });
  const name = unique("crowded-");
  const [one, two, three] = [1, 2, 3].map(() => server.client(tokenFor(name))) as [Client, Client, Client];
  const held = await subscribe(t, one, { all: "true" });
  const more = (client: Client) => client.send({ path: "/subscribe?all=true" });
  assert.match(await overloaded(more(one)), /--max-subscriptions-per-token/);
  await subscribe(t, two, { category: "a" });
  assert.match(await overloaded(more(three)), /--max-subscriptions-per-namespace/);
  await subscribe(t, server.fresh(), { all: "true" });
  held.close();
  await until("room for another", async () => {
    try {
      return await subscribe(t, three, { all: "true" });
    } catch {
      return undefined;
    }
  });
});

test("[R-limit.20] waiting calls of a namespace and with a token", async (t) => {
  const server = await startServer(t, { flags: ["--max-waits-per-namespace", "2", "--max-waits-per-token", "1"] });
  const name = unique("crowded-");
  const [one, two, three] = [1, 2, 3].map(() => server.client(tokenFor(name))) as [Client, Client, Client];
  const wait = (client: Client) => client.call("category.get", "a", { waitMs: 20_000 });
  // One of two is refused at once, whichever comes later.
  const ofToken = [wait(one), wait(one)];
  assert.match(await overloaded(Promise.race(ofToken)), /--max-waits-per-token/);
  const ofNamespace = [wait(two), wait(three)];
  assert.match(await overloaded(Promise.race(ofNamespace)), /--max-waits-per-namespace/);
  assert.deepEqual(await one.rpc("category.get", "a"), [], "a call that does not wait needs no place");
  await one.write("a-1");
  for (const calls of [ofToken, ofNamespace]) {
    assert.deepEqual((await Promise.all(calls)).map((reply) => reply.status).sort(), [200, 503]);
  }
  assert.equal((await wait(three)).status, 200, "their places are free");
});

test("[R-limit.21 R-error.14] imports at once", async (t) => {
  const server = await startServer(t, { flags: ["--max-imports", "1"] });
  const socket = await Socket.connect(t, server.port);
  socket.send(`POST /import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.fresh().token}\r\nContent-Length: 10\r\n\r\n`);
  await socket.expect(/^HTTP\/1\.1 200 /);
  assert.match(await overloaded(server.fresh().send({ path: "/import", method: "POST", body: "" })), /--max-imports/);
});

test("[R-limit.22 R-error.21 R-ns.16] a quota of messages", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const administrator = server.client(server.madeToken);
  const name = unique("quota-");
  const client = server.client((await administrator.rpc("ns.create", name)).token);
  await administrator.rpc("ns.update", name, { quota: { messages: 3 } });
  const id = randomUUID();
  const first = await client.rpc("stream.write", "a-1", { type: "T", data: {} }, { id });
  await assertFails(client.failure("stream.append", "a-1", [1, 2, 3].map(() => ({ type: "T", data: {} }))), 507, "QUOTA_EXCEEDED");
  await client.write("a-1");
  await client.write("a-2");
  await assertFails(client.failure("stream.write", "a-1", { type: "T", data: {} }), 507, "QUOTA_EXCEEDED");
  assert.deepEqual(await client.rpc("stream.write", "a-1", { type: "T", data: {} }, { id }), first);
  const line = `{"id":"${randomUUID()}","stream":"b-1","type":"T","pos":0,"gpos":99,"data":{},"meta":null,"time":"2026-01-02T03:04:05Z"}`;
  const imported = await client.send({ path: "/import", method: "POST", body: line });
  assert.match(imported.text, /"error":"IMPORT_FAILED","message":"[^"]*quota/);
  assert.equal((await client.rpc("ns.info", name)).messageCount, 3);
  await administrator.rpc("ns.update", name, { quota: { messages: 4 } });
  assert.equal((await client.write("a-1")).position, 2);
});

test("[R-limit.22 R-ns.16] a quota and tokens are changed while others write", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const administrator = server.client(server.madeToken);
  const name = unique("quota-");
  const { token } = await administrator.rpc("ns.create", name);
  let isDone = false;
  const writer = async (number: number) => {
    const client = server.client(token);
    let written = 0;
    for (; !isDone; written++) await client.write(`load-${number}`);
    return written;
  };
  const writers = Array.from({ length: 8 }, (_, number) => writer(number));
  for (let round = 0; round < 20; round++) {
    await administrator.rpc("ns.update", name, { quota: { messages: 1_000_000 + round, bytes: 2 ** 40 } });
    const { id } = await administrator.rpc("token.create", { namespace: name, rights: ["read"] });
    await administrator.rpc("token.revoke", id);
    await administrator.rpc("ns.update", name, { quota: { messages: null, bytes: null } });
  }
  isDone = true;
  const written = (await Promise.all(writers)).reduce((sum, some) => sum + some, 0);
  assert.equal((await administrator.rpc("ns.info", name)).messageCount, written);
});

test("[R-limit.22] a quota of bytes", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const administrator = server.client(server.madeToken);
  const name = unique("quota-");
  const client = server.client((await administrator.rpc("ns.create", name)).token);
  await administrator.rpc("ns.update", name, { quota: { bytes: 3 * 2 ** 20 } });
  const large = { type: "T", data: { x: randomBytes(150_000).toString("hex") } };
  let written = 0;
  for (; written < 100; written++) {
    const reply = await client.call("stream.write", "a-1", large);
    if (reply.status !== 200) {
      assert.deepEqual([failureOf(reply).status, failureOf(reply).code], [507, "QUOTA_EXCEEDED"]);
      break;
    }
  }
  assert.ok(written >= 3 && written <= 20, `${written}`);
});
