/** Tokens, passwords and data of messages stay out of the log, whatever goes wrong with a request that has them. */
import assert from "node:assert/strict";
import { tokenFor } from "../src/client.ts";
import { lines, record } from "../src/import.ts";
import { PLANTED } from "../src/secrets.ts";
import { Socket } from "../src/socket.ts";
import { startServer, test } from "../src/suite.ts";

const data = { [PLANTED]: PLANTED };
const message = { type: "T", data, metadata: data };

test("[R-audit.4 R-cli.16] no line at level debug has a token or data", async (t) => {
  const server = await startServer(t, { mode: "production", flags: ["--access-log", "--log-level", "debug"] });
  const client = server.client(server.madeToken);
  const stranger = tokenFor("stranger");
  const { token } = await client.rpc("ns.create", "shop", { description: PLANTED, metadata: data });

  // What succeeds.
  await client.rpc("stream.write", "a-1", message, { id: "7d9f6a0e-5f3c-4e0a-9a55-0f6a3b2c1d00" });
  await client.rpc("stream.append", "a-1", [message, message]);
  await client.rpc("streams.append", [{ stream: "b-1", messages: [message] }]);
  await client.rpc("stream.get", "a-1");
  await client.send({ path: `/rpc?token=${server.madeToken}`, body: '["category.get","a"]' });
  await client.send({ path: "/import", body: lines([record({ gpos: 100, data })]) });

  // What is refused because of its form or its place.
  const attempts = [
    ["stream.write", "a-1", { ...message, id: "7d9f6a0e-5f3c-4e0a-9a55-0f6a3b2c1d00", data: { other: PLANTED } }],
    ["stream.write", "a-1", message, { expectedVersion: 77 }],
    ["stream.write", "a-1", { type: "T", data: [PLANTED] }],
    ["stream.write", "a-1", { type: "T", data: PLANTED }],
    ["stream.write", "a-1", { ...message, metdata: PLANTED }],
    ["stream.write", "a-1", message, { [PLANTED]: PLANTED }],
    ["stream.append", "a-1", [message, PLANTED]],
    [`stream.${PLANTED}`, "a-1", message],
    ["ns.create", "shop", { token: stranger }],
    ["ns.delete", stranger],
    ["ns.info", token],
    ["stream.write", "a-1", { type: "T", data: { x: `${PLANTED}${"x".repeat(1_100_000)}` } }],
  ];
  for (const [method, ...args] of attempts) assert.ok((await client.call(String(method), ...args)).status >= 400, JSON.stringify([method, ...args]).slice(0, 200));
  for (const body of [`["stream.write","a-1",{"type":"T","data":{"x":"${PLANTED}"`, `{"${PLANTED}":1}`, `"${PLANTED}"`]) {
    assert.equal((await client.post(body)).status, 400);
  }
  for (const line of [`{"${PLANTED}":`, `"${PLANTED}"`, JSON.stringify({ ...record({ gpos: 200, data }), time: PLANTED }), JSON.stringify({ ...record({ gpos: 200 }), data: PLANTED })]) {
    for (const query of ["", "?force=true"]) await client.send({ path: `/import${query}`, body: `${line}\n` });
  }

  // What is refused because of its token.
  for (const given of [stranger, `${token}0`, token.slice(0, -1), `Basic ${token}`]) {
    await server.client(given).call("stream.write", "a-1", message);
    await server.client().send({ path: `/subscribe?all=true&token=${encodeURIComponent(given)}` });
    await server.client().send({ path: `/rpc?token=${encodeURIComponent(given)}&${PLANTED}=${PLANTED}`, body: "[]" });
  }
  await server.client().send({ path: "/rpc", body: "[]", headers: { Authorization: `Basic ${token}`, "X-Request-Id": "a" } });
  await client.send({ path: `/${token}/${PLANTED}` });
  await client.send({ path: `/subscribe?stream=a-1&position=${PLANTED}` });

  // What is no HTTP, and what is cut off.
  for (const bytes of [`GET /${PLANTED} HTTP/1.1\r\n${token}\r\n\r\n`, `POST /rpc HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.madeToken}\r\nContent-Length: 100000\r\n\r\n["stream.write","a-1",{"type":"T","data":{"x":"${PLANTED}`]) {
    const socket = await Socket.connect(t, server.port);
    socket.send(bytes);
    socket.finish();
    await socket.end();
  }

  const { stdout, stderr } = await server.stop();
  assert.match(stderr, / DEBUG /);
  for (const secret of [server.madeToken.slice(-64), token.slice(-64), stranger.slice(-64), token.slice(-65, -1), PLANTED]) {
    const line = `${stdout}\n${stderr}`.split("\n").find((each) => each.includes(secret));
    assert.equal(line, undefined);
  }
});
