/** The id of a request, in its reply and in the log. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { tokenFor } from "../src/client.ts";
import type { Reply } from "../src/http.ts";
import { Socket } from "../src/socket.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";
import { transportOf } from "../src/tls.ts";
import { until } from "../src/wait.ts";

const { get, fresh } = sharedServer();
const idOf = ({ headers }: Reply) => String(headers["x-request-id"]);

/** The head of a reply that goes on. */
function headOf(path: string, headers: Record<string, string>): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const request = transportOf(get().url).get(`${get().url}${path}`, { headers, agent: false }, (reply) => {
      resolve(reply.headers);
      request.destroy();
    });
    request.on("error", reject);
  });
}

test("[R-request.1] every reply has an id, and no two the same", async () => {
  const client = fresh();
  const replies = [
    await client.call("sys.version"),
    await client.call("stream.write", "a-1", { type: "T", data: {} }),
    await client.call("no.such.method"),
    await client.post("["),
    await client.send({ path: "/health" }),
    await client.send({ path: "/health", method: "HEAD" }),
    await client.send({ path: "/nowhere" }),
    await client.send({ path: "/rpc" }),
    await client.send({ path: "/rpc", method: "OPTIONS" }),
    await client.send({ path: "/import", body: "" }),
    await client.send({ path: "/subscribe" }),
    await client.send({ path: "/rpc", body: "[]", headers: { Origin: "https://elsewhere.example" } }),
  ];
  const ids = [...replies.map(idOf), String((await headOf("/subscribe?all=true", {}))["x-request-id"])];
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9]+$/);
  assert.equal(new Set(ids).size, ids.length, ids.join());
});

test("[R-request.1] a refusal in production mode has an id, before the body came too", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const headers = { "X-Request-Id": "mine" };
  for (const token of [undefined, "nonsense", tokenFor("shop")]) {
    for (const body of ['["stream.version","a-1"]', "x".repeat(50_000)]) {
      const reply = await server.client(token).send({ path: "/rpc", body, headers });
      assert.ok([401, 403].includes(reply.status), reply.text);
      assert.equal(idOf(reply), "mine");
    }
  }
});

test("[R-request.1] a reply to what is no HTTP has an id", async (t) => {
  for (const garbage of ["GARBAGE\r\n\r\n", "GET /he alth HTTP/1.1\r\n\r\n", "GET /health HTTP/1.1\r\nno colon\r\n\r\n", `GET / HTTP/1.1\r\nX: ${"x".repeat(200_000)}\r\n\r\n`]) {
    const socket = await Socket.connect(t, get().port);
    const good = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.send(good);
    await socket.expect(/"status":"ok"\}$/);
    socket.send(garbage);
    await socket.expect(/"ok"\}HTTP\/1\.1 4\d\d [^\r\n]+\r\nx-request-id: [0-9a-f]{8}-\d+\r\n[^]*\r\n\r\n$/);
  }
});

test("[R-request.1 R-request.2] over HTTP/2", async () => {
  const session = http2.connect(get().url);
  const reply = new Promise<Record<string, unknown>>((resolve, reject) => {
    const request = session.request({ ":path": "/health", "x-request-id": "over-2" });
    request.on("response", resolve).on("error", reject).resume();
  });
  assert.equal((await reply.finally(() => session.close()))["x-request-id"], "over-2");
});

test("[R-request.2] the id of the request comes back if it can be used", async () => {
  const client = fresh();
  for (const id of ["7", "a b/c~!\"", "x".repeat(128)]) {
    const headers = { "X-Request-Id": id };
    assert.equal(idOf(await client.send({ path: "/health", headers })), id);
    assert.equal(idOf(await client.send({ path: "/rpc", body: "[", headers })), id);
    assert.equal((await headOf("/subscribe?all=true", headers))["x-request-id"], id);
  }
  for (const id of ["", "x".repeat(129), "a\tb", "\u00e4"]) {
    const reply = await client.send({ path: "/health", headers: { "X-Request-Id": id } });
    assert.match(idOf(reply), /^[0-9a-f]{8}-[0-9]+$/, JSON.stringify(id));
  }
});

test("[R-request.3] the log has the id of each request", async (t) => {
  const server = await startServer(t, { flags: ["--access-log", "--log-format", "json"] });
  const send = (id: string, body: string) => server.client().send({ path: "/rpc", body, headers: { "X-Request-Id": id } });
  const given = ["first", "second\" forged=\"yes"];
  await send(given[0]!, '["sys.version"]');
  await send(given[1]!, '["no.such.method"]');
  const made = idOf(await server.client().call("sys.health"));
  await until("the last request in the log", () => server.stderr.includes(made));
  const logged = server.stderr.split("\n").filter((line) => line.includes("request_id")).map((line) => JSON.parse(line).request_id);
  assert.deepEqual(logged, [...given, made]);
});

test("[R-request.4] a page may send the id and read it", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const headers = { Origin: "https://shop.example" };
  const preflight = await server.client().send({ path: "/rpc", method: "OPTIONS", headers });
  assert.match(String(preflight.headers["access-control-allow-headers"]), /X-Request-Id/);
  const reply = await server.client().send({ path: "/health", headers });
  assert.match(String(reply.headers["access-control-expose-headers"]), /X-Request-Id/);
});
