/** What is logged, and what is not. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { connect } from "node:net";
import { tokenFor } from "../src/client.ts";
import type { Server } from "../src/server.ts";
import { startServer, test } from "../src/suite.ts";
import { until, within } from "../src/wait.ts";

const lines = (text: string) => text.split("\n").filter((line) => line.trim() !== "");

/** Makes calls that succeed, and then one that fails. */
async function someCalls(server: Server, failing = ["no.such.method"]): Promise<void> {
  const client = server.client();
  await client.rpc("stream.write", "a-1", { type: "T", data: { secret: "swordfish" } });
  for (const method of ["ns.list", "ns.streams", "sys.version", "sys.health"]) await client.rpc(method);
  await client.send({ path: "/health" });
  await client.send({ path: "/import", body: "" });
  await client.post(JSON.stringify(failing));
}

test("[R-cli.15 R-cli.17] at the default level only what failed is logged", async (t) => {
  const server = await startServer(t);
  const failures = () => lines(server.stderr).filter((line) => line.includes("a request was refused")).length;
  // That a namespace's tables were made is told too, with its first use.
  await someCalls(server);
  await until("the failure in the log", () => failures() === 1);
  const before = lines(server.stderr).length;
  // A second one of the same kind would only be counted.
  await someCalls(server, ["stream.get", ""]);
  await until("the second failure in the log", () => failures() === 2);
  const added = lines(server.stderr).slice(before);
  assert.equal(added.length, 1, added.join("\n"));
  for (const line of added) assert.doesNotMatch(line, /stream\.write|ns\.|sys\.|health|import|swordfish/);
});

test("[R-cli.16] the access log has one line for each request, and no secrets", async (t) => {
  const server = await startServer(t, { flags: ["--access-log"] });
  const client = server.client(tokenFor("shop"));
  const secret = client.token!.slice(-64);
  for (let i = 0; i < 25; i++) await client.rpc("stream.write", "a-1", { type: "T", data: { secret: "swordfish" } });
  await client.send({ path: `/rpc?token=${client.token}`, body: '["stream.version","a-1"]' });
  await until("the last request in the log", () => server.stderr.includes("stream.version"));
  assert.equal(lines(server.stderr).filter((line) => line.includes("stream.write")).length, 25);
  assert.equal(lines(server.stderr).filter((line) => line.includes("stream.version")).length, 1);
  for (const word of [secret, "swordfish"]) assert.ok(!server.stderr.includes(word), word);
});

test("[R-cli.25] frames of HTTP/2 have no lines, and what cannot be read of them is not shown", async (t) => {
  const server = await startServer(t, { flags: ["--log-level", "debug", "--log-format", "json"] });
  const port = Number(new URL(server.url).port);
  const raw = connect(port, "127.0.0.1");
  // The preface, empty settings, and answers to pings that nobody has sent: each had a line.
  raw.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  raw.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  const answer = Buffer.from([0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
  raw.write(Buffer.concat(Array.from({ length: 200 }, () => answer)));
  const token = tokenFor("shop");
  const session = http2.connect(server.url);
  const request = session.request({ ":path": `/bad path?token=${token}` });
  request.on("error", () => {});
  await within("the end of the request", new Promise((resolve) => request.on("close", resolve)));
  session.close();
  await server.client().failure("no.such.method");
  await until("the last request in the log", () => server.stderr.includes("METHOD_NOT_FOUND"));
  raw.destroy();
  const from = lines(server.stderr).map((line) => JSON.parse(line).target as string);
  assert.deepEqual(from.filter((target) => target.startsWith("h2")), []);
  assert.ok(!server.stderr.includes(token.slice(-64)));
});

test("[R-cli.18] logging never blocks a request", async (t) => {
  const server = await startServer(t, { flags: ["--access-log"], ignoreLog: true });
  const client = server.client();
  const calls = async () => {
    for (let i = 0; i < 500; i++) await client.call(`no.such.method.${"x".repeat(100)}`);
  };
  await within("20,000 calls", Promise.all(Array.from({ length: 40 }, calls)), 60_000);
  await client.write("a-1");
});

test("[R-cli.19] a log of JSON objects", async (t) => {
  const server = await startServer(t, { flags: ["--access-log", "--log-format", "json"] });
  await someCalls(server);
  await until("the last request in the log", () => server.stderr.includes("METHOD_NOT_FOUND"));
  const stopped = await server.stop();
  const logged = lines(stopped.stderr).map((line) => JSON.parse(line));
  const messages = logged.map(({ message }) => message);
  for (const message of ["starting", "ready", "draining", "stopped"]) assert.ok(messages.includes(message), message);
  assert.equal(logged.find(({ message }) => message === "ready").address, server.url);
  assert.equal(stopped.stdout, "", "nothing but the log");
});
