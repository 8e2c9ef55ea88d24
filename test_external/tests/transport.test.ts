/** HTTP itself: paths, verbs, headers, queries. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { failureOf, VERSION } from "../src/client.ts";
import { send, utf8 } from "../src/http.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";
import { transportOf } from "../src/tls.ts";
import { within } from "../src/wait.ts";

const { get, fresh } = sharedServer();

test("[R-http.1 R-http.2 R-http.6] a call is an array, its result is bare JSON", async () => {
  const client = fresh();
  const written = await client.call("stream.write", "a-1", { type: "T", data: {} });
  assert.deepEqual([written.status, written.text], [200, '{"position":0,"globalPosition":1}']);
  assert.equal((await client.call("stream.version", "a-1")).text, "0");
  assert.equal((await client.call("stream.version", "a-2")).text, "null");
  assert.equal((await client.call("stream.get", "a-2")).text, "[]");
});

test("[R-http.3 R-http.4 R-http.6] an error has a code and a message, and details only where it has some", async () => {
  const client = fresh();
  const unknown = await client.call("no.such.method");
  assert.ok(unknown.text.startsWith('{"error":{') && unknown.text.endsWith("}}"), unknown.text);
  assert.notDeepEqual(failureOf(unknown).details, {}, "empty details are left out");
  assert.notDeepEqual(failureOf(unknown).details, null, "null details are left out");
  const conflict = await client.failure("stream.write", "a-1", { type: "T", data: {} }, { expectedVersion: 3 });
  assert.deepEqual(conflict.details, { expected: 3, actual: -1 });
});

test("[R-http.5] every reply says that it is JSON", async () => {
  const client = fresh();
  const replies = [
    await client.call("sys.version"),
    await client.call("no.such.method"),
    await client.post("["),
    await client.send({ path: "/health" }),
    await client.send({ path: "/version" }),
    await client.send({ path: "/nowhere" }),
    await client.send({ path: "/rpc", method: "GET" }),
    await client.send({ path: "/subscribe" }),
    await client.send({ path: "/import?force=perhaps", body: "" }),
  ];
  for (const reply of replies) assert.match(reply.headers["content-type"] ?? "none", /^application\/json(; ?charset=utf-8)?$/i);
});

test("[R-http.7] the request's Content-Type does not matter", async () => {
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "nonsense"]) {
    const reply = await fresh().send({ path: "/rpc", headers: { "Content-Type": type }, body: '["sys.version"]' });
    assert.equal(reply.status, 200, type);
  }
});

test("[R-http.8] health", async () => {
  const reply = await get().client().send({ path: "/health" });
  assert.deepEqual([reply.status, reply.text], [200, '{"status":"ok"}']);
});

test("[R-probe.1 R-auth.8] alive", async () => {
  const reply = await get().client().send({ path: "/health/live" });
  assert.deepEqual([reply.status, reply.text], [200, '{"status":"ok"}']);
});

test("[R-probe.2 R-probe.4 R-auth.8] ready", async () => {
  for (const path of ["/ready", "/health/ready", "/health/ready?write=true"]) {
    const reply = await get().client().send({ path });
    assert.deepEqual([reply.status, reply.text], [200, '{"status":"ok"}'], path);
  }
});

test("[R-http.9] version", async () => {
  const reply = await get().client().send({ path: "/version" });
  assert.equal(reply.status, 200);
  const { version, ...rest } = JSON.parse(reply.text);
  assert.match(version, VERSION);
  assert.deepEqual(rest, {});
});

test("[R-http.10] unknown paths", async () => {
  for (const path of ["/", "/nowhere", "/rpc/", "/rpc/x", "/healthz", "/Health", "/%00", "/subscribe/x"]) {
    for (const method of ["GET", "POST", "DELETE"]) {
      const failure = failureOf(await get().client().send({ path, method }));
      assert.deepEqual([failure.status, failure.code], [404, "NOT_FOUND"], `${method} ${path}`);
    }
  }
});

test("[R-http.11] wrong verbs", async () => {
  const verbs: Record<string, string[]> = {
    "/rpc": ["POST"], "/import": ["POST"], "/subscribe": ["GET"], "/health": ["GET", "HEAD"], "/version": ["GET", "HEAD"],
  };
  for (const [path, allowed] of Object.entries(verbs)) {
    for (const method of ["GET", "POST", "PUT", "DELETE", "PATCH"].filter((verb) => !allowed.includes(verb))) {
      const reply = await get().client().send({ path, method });
      const failure = failureOf(reply);
      assert.deepEqual([failure.status, failure.code], [405, "INVALID_REQUEST"], `${method} ${path}`);
      const allow = (reply.headers.allow ?? "").split(/, */);
      for (const verb of allowed) assert.ok(allow.includes(verb), `${method} ${path}: Allow is ${allow}`);
      assert.ok(!allow.includes(method), `${method} ${path}: Allow is ${allow}`);
    }
  }
});

test("[R-http.12] HEAD is answered where GET is", async () => {
  for (const path of ["/health", "/version", "/nowhere"]) {
    const [head, got] = await Promise.all(["HEAD", "GET"].map((method) => get().client().send({ path, method })));
    assert.equal(head!.status, got!.status, path);
    assert.equal(head!.headers["content-type"], got!.headers["content-type"], path);
    assert.equal(head!.bytes.length, 0, path);
  }
  const stream = await get().client().send({ path: "/subscribe?all=true", method: "HEAD" });
  assert.deepEqual([stream.status, stream.bytes.length], [405, 0]);
});

test("[R-http.13] queries are form-encoded", async (t) => {
  const client = fresh();
  await client.write("two words-1");
  await client.write("a+b-1");
  const plus = await subscribe(t, client, { category: "two words" }); // URLSearchParams sends a plus
  assert.deepEqual((await plus.history()).map((poke) => poke.stream), ["two words-1"]);
  const escaped = await subscribe(t, client, { category: "a+b" }); // and %2B
  assert.deepEqual((await escaped.history()).map((poke) => poke.stream), ["a+b-1"]);
});

test("[R-http.14] queries may hold raw UTF-8 bytes", async () => {
  const client = fresh();
  await client.write("zählung-1");
  const raw = Buffer.from("/subscribe?stream=zählung-1").toString("latin1");
  const found = await firstPoke(client.url, raw, client.token!);
  assert.match(found, /"position":0,"globalPosition":1}/);
});

test("[R-http.15] an empty query parameter counts as absent", async (t) => {
  const client = fresh();
  await client.write("a-1");
  const query = { stream: "", category: "a", all: "", position: "", consumer: "", size: "", lastEventId: "", coalesce: "", token: "" };
  const subscription = await subscribe(t, client, query);
  assert.equal((await subscription.history()).length, 1);
});

test("[R-http.16] a browser's preflight is answered", async (t) => {
  const server = await startServer(t, { mode: "production" });
  for (const [path, method] of [["/rpc", "POST"], ["/import", "POST"], ["/subscribe", "GET"]] as const) {
    const reply = await send(server.url, {
      path,
      method: "OPTIONS",
      headers: {
        Origin: "https://app.example",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,last-event-id",
      },
    });
    assert.ok(reply.status === 200 || reply.status === 204, `${path}: ${reply.status}`);
    assert.match(String(reply.headers["access-control-allow-origin"]), /^\*$/);
    assert.match(String(reply.headers["access-control-allow-methods"]), new RegExp(`\\b${method}\\b|^\\*$`));
    // A browser does not take "*" for Authorization.
    for (const header of ["authorization", "content-type", "last-event-id", "traceparent"]) {
      assert.ok(String(reply.headers["access-control-allow-headers"]).toLowerCase().includes(header), `${path}: ${header}`);
    }
  }
  const call = await send(server.url, { path: "/rpc", headers: { Origin: "https://app.example" }, body: '["sys.version"]' });
  assert.match(String(call.headers["access-control-allow-origin"]), /^\*$/);
  const narrow = await startServer(t, { mode: "production", flags: ["--cors-origin", "https://shop.example"] });
  for (const [Origin, named] of [["https://shop.example", "https://shop.example"], ["https://app.example", undefined]] as const) {
    const reply = await send(narrow.url, { path: "/rpc", headers: { Origin }, body: '["sys.version"]' });
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["access-control-allow-origin"], named);
    assert.equal(reply.headers["vary"], "Origin");
  }
});

test("[R-http.17] many calls over one connection", async () => {
  const agent = new (transportOf(get().url).Agent)({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number>();
  agent.on("free", (socket) => ports.add(socket.localPort));
  for (let i = 0; i < 20; i++) await send(get().url, { path: "/rpc", body: '["sys.version"]', agent });
  assert.equal(ports.size, 1);
  agent.destroy();
});

test("[R-http.17] HTTP/2 without TLS", async () => {
  const client = fresh();
  const session = http2.connect(client.url);
  const call = (body: string) =>
    new Promise<string>((resolve, reject) => {
      const stream = session.request({ ":method": "POST", ":path": "/rpc", authorization: `Bearer ${client.token}` });
      const chunks: Buffer[] = [];
      stream.on("data", (chunk) => chunks.push(chunk)).on("end", () => resolve(utf8(Buffer.concat(chunks)))).on("error", reject);
      stream.end(body);
    });
  try {
    assert.equal(await within("a write", call('["stream.write","a-1",{"type":"T","data":{}}]')), '{"position":0,"globalPosition":1}');
    const many = Array.from({ length: 20 }, () => call('["stream.version","a-1"]'));
    assert.deepEqual(new Set(await within("calls at the same time", Promise.all(many))), new Set(["0"]));
  } finally {
    session.close();
  }
});

/** The first data line of a subscription opened with exactly this path. */
function firstPoke(url: string, path: string, token: string): Promise<string> {
  const found = new Promise<string>((resolve, reject) => {
    const { hostname: host, port } = new URL(url);
    const request = transportOf(url).get({ host, port, path, headers: { Authorization: `Bearer ${token}` }, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
        const line = /^data: .*$/m.exec(text);
        if (line) resolve(line[0]), request.destroy();
      });
    });
    request.on("error", reject);
  });
  return within("a poke", found);
}
