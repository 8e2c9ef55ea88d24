/** Connections that no well-behaved client would make. */
import assert from "node:assert/strict";
import { tokenFor, unique } from "../src/client.ts";
import { Socket, rpcBytes } from "../src/socket.ts";
import { Server } from "../src/server.ts";
import { sharedServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const { get, fresh } = sharedServer();
const call = rpcBytes('["sys.version"]');
const serves = async () => assert.equal((await fresh().write("a-1")).position, 0);

test("[R-http.17] calls sent without waiting are answered in order", async (t) => {
  const client = fresh();
  const socket = await Socket.connect(t, get().port);
  const write = rpcBytes('["stream.write","a-1",{"type":"T","data":{}}]', `Authorization: Bearer ${client.token}\r\n`);
  socket.send(write.repeat(20) + rpcBytes('["no.such"]') + call);
  await until("22 replies", () => socket.text.match(/HTTP\/1\.1 \d+/g)?.length === 22);
  const positions = [...socket.text.matchAll(/"position":(\d+)/g)].map((match) => Number(match[1]));
  assert.deepEqual(positions, Array.from({ length: 20 }, (_, i) => i));
  assert.match(socket.text, /HTTP\/1\.1 404 [^]*METHOD_NOT_FOUND[^]*HTTP\/1\.1 200 [^]*"$/);
});

test("[R-http.17] a client that has closed its side still gets its answer", async (t) => {
  const socket = await Socket.connect(t, get().port);
  socket.send(call);
  socket.finish();
  await socket.expect(/^HTTP\/1\.1 200 [^]*\r\n\r\n"\d/);
  await serves();
});

test("[R-http.17] HTTP/1.0, and a connection that is to be closed", async (t) => {
  for (const request of [rpcBytes('["sys.version"]').replace("HTTP/1.1", "HTTP/1.0"), rpcBytes('["sys.version"]', "Connection: close\r\n")]) {
    const socket = await Socket.connect(t, get().port);
    socket.send(request);
    await socket.expect(/^HTTP\/1\.[01] 200 [^]*\r\n\r\n"\d[^"]*"$/);
    await socket.end();
  }
});

test("[R-http.17] byte by byte, and with Expect: 100-continue", async (t) => {
  const slow = await Socket.connect(t, get().port);
  slow.connection.setNoDelay(true);
  for (const byte of call) await new Promise((sent) => slow.connection.write(byte, sent));
  await slow.expect(/^HTTP\/1\.1 200 /);
  const polite = await Socket.connect(t, get().port);
  const [head, body] = rpcBytes('["sys.version"]', "Expect: 100-continue\r\n").split("\r\n\r\n");
  polite.send(`${head}\r\n\r\n`);
  await polite.expect(/^HTTP\/1\.1 100 /);
  polite.send(body!);
  await polite.expect(/HTTP\/1\.1 200 /);
});

test("[R-http.1] a chunked body", async (t) => {
  const socket = await Socket.connect(t, get().port);
  socket.send('POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n["sys\r\n');
  socket.send('a;x=y\r\n.version"]\r\n0\r\n\r\n');
  await socket.expect(/^HTTP\/1\.1 200 /);
});

test("[R-http.17] slow and silent connections hold up nobody", async (t) => {
  const sockets = await Promise.all(Array.from({ length: 200 }, () => Socket.connect(t, get().port)));
  for (const [i, socket] of sockets.entries()) {
    if (i % 4 === 0) socket.send("POST /rpc HTT");
    if (i % 4 === 1) socket.send("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n");
    if (i % 4 === 2) socket.send('POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n["sys.v');
  }
  for (let i = 0; i < 20; i++) await serves();
  for (const [i, socket] of sockets.entries()) {
    if (i % 4 === 1) socket.send('["sys.version"]');
    if (i % 4 === 2) socket.send('ersion"]');
  }
  for (const socket of sockets.filter((_, i) => i % 4 === 1 || i % 4 === 2)) await socket.expect(/^HTTP\/1\.1 200 /);
});

test("[R-http.17] a body that ends too early", async (t) => {
  for (const end of ["finish", "reset"]) {
    const socket = await Socket.connect(t, get().port);
    socket.send('POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n["stream.write","early-1",{"type":"T","data":{}}]');
    if (end === "finish") {
      socket.finish();
      await socket.end();
    } else {
      socket.reset();
    }
    assert.doesNotMatch(socket.text, / 200 /);
    await serves();
  }
  assert.equal(await get().client().rpc("stream.version", "early-1"), null);
});

const GARBAGE = [
  "GARBAGE\r\n\r\n", "GET\r\n\r\n", "GET /health HTTP/9.9\r\n\r\n", "\0\x01\x02\x03\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
  "POST /rpc HTTP/1.1\r\nno colon\r\n\r\n", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
  "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n[]", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", "GET /he alth HTTP/1.1\r\n\r\n", "GET /health HTTP/1.1\r\nA\0B: x\r\n\r\n",
  `GET /${"x".repeat(200_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(2_000_000)}\r\n\r\n`,
  `GET /health HTTP/1.1\r\n${"X: y\r\n".repeat(20_000)}\r\n`,
];

test(`[R-http.3 R-http.17] ${GARBAGE.length} kinds of garbage`, async (t) => {
  for (const garbage of GARBAGE) {
    const socket = await Socket.connect(t, get().port);
    socket.send(Buffer.from(garbage, "latin1"));
    const what = JSON.stringify(garbage.slice(0, 60));
    await until(`an error or the end after ${what}`, () => socket.closed || socket.connection.readableEnded || /^HTTP\/1\.[01] 4\d\d /.test(socket.text));
    assert.doesNotMatch(socket.text, /^HTTP\/1\.[01] [235]/, what);
    await serves();
  }
});

test("[R-limit.14] a head without Host, and one that is too large", async (t) => {
  const nameless = await Socket.connect(t, get().port);
  nameless.send("GET /health HTTP/1.1\r\n\r\n");
  await nameless.expect(/^HTTP\/1\.1 400 [^]*INVALID_REQUEST/);
  const large = await Socket.connect(t, get().port);
  large.send(`GET /health HTTP/1.1\r\nHost: test\r\nX: ${"x".repeat(200_000)}\r\n\r\n`);
  await large.expect(/^HTTP\/1\.1 431 /);
  await serves();
});

test("[R-limit.16] idle connections without a token make room for others", async (t) => {
  const server = await Server.start({ flags: ["--max-connections=8"] });
  t.after(() => server.stop());
  for (let i = 0; i < 8; i++) {
    const idle = await Socket.connect(t, server.port);
    idle.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"); // now only the limit of 120 s would end it
    await idle.expect(/^HTTP\/1\.1 200 /);
  }
  assert.equal((await server.client(tokenFor(unique("room-"))).write("a-1")).position, 0);
});

test("[R-limit.16] connections whose token has ended make room for others, too", async (t) => {
  const server = await Server.start({ mode: "production", flags: ["--max-connections=8"] });
  t.after(() => server.stop());
  const administrator = server.client(server.madeToken);
  const { id, token } = await administrator.rpc("token.create", { rights: ["read"] });
  const last = rpcBytes('["stream.last","a-1"]', `Authorization: Bearer ${token}\r\n`);
  const held: Socket[] = [];
  for (let i = 0; i < 7; i++) {
    const socket = await Socket.connect(t, server.port);
    socket.send(last);
    await socket.expect(/^HTTP\/1\.1 200 /);
    held.push(socket);
  }
  await administrator.rpc("token.revoke", id);
  const more: Socket[] = [];
  for (let i = 0; i < 4; i++) {
    const other = await Socket.connect(t, server.port);
    other.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await other.expect(/^HTTP\/1\.1 200 /);
    more.push(other);
  }
  assert.ok(held.some((socket) => socket.closed || socket.connection.readableEnded), "one had to make room");
});
