/** Stopping, and who may have the port. */
import assert from "node:assert/strict";
import type { Client, Written } from "../src/client.ts";
import { run } from "../src/command.ts";
import { Socket, rpcBytes } from "../src/socket.ts";
import { subscribe } from "../src/sse.ts";
import { durableStorage, startServer, test } from "../src/suite.ts";

const inMemory = (port: number) => ["--port", String(port), "--test-mode"];

test("[R-stop.1] on SIGTERM the port and idle connections are given up at once", async (t) => {
  const first = await startServer(t, { args: inMemory(0) });
  const idle = await Socket.connect(t, first.port);
  idle.send(rpcBytes('["sys.version"]'));
  await idle.expect(/^HTTP\/1\.1 200 /);
  const unused = await Socket.connect(t, first.port);
  const busy = await Socket.connect(t, first.port); // half a request keeps the old server busy
  busy.send('POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n["sys.');
  const ended = first.stop();
  await Promise.all([idle.end(), unused.end()]);
  const second = await startServer(t, { args: inMemory(first.port) });
  assert.equal(second.port, first.port);
  await second.client().write("a-1");
  busy.connection.destroy();
  assert.equal((await ended).code, 0);
});

test("[R-stop.2 R-resume.4] after SIGTERM subscriptions end and the exit code is 0", async (t) => {
  const server = await startServer(t);
  const client = server.fresh();
  await client.fill("a-1", 100);
  const queries = [{ all: "true" }, { all: "true", position: 1 }, { category: "a" }, { stream: "a-1", position: 50 }];
  const subscriptions = await Promise.all(queries.map((query) => subscribe(t, client, query)));
  for (const subscription of subscriptions) await subscription.upTo("caught-up");
  const { code, signal } = await server.stop();
  assert.deepEqual([code, signal], [0, null]);
  for (const subscription of subscriptions) assert.deepEqual(await subscription.ended(), []);
});

test("[R-stop.2] SIGINT, which is Ctrl-C, does the same", async (t) => {
  const server = await startServer(t);
  await server.client().write("a-1");
  assert.equal((await server.stop("SIGINT")).code, 0);
});

test("[R-stop.2 R-write.2] what was acknowledged before the end is there after it, and no more than was sent", async (t) => {
  const storage = await durableStorage(t);
  const first = await startServer(t, { storage });
  const acknowledged: Written[] = [];
  const writers = Array.from({ length: 8 }, (_, i) => writeUntilRefused(first.client(), `a-${i}`, acknowledged));
  while (acknowledged.length < 200) await Promise.race([...writers, first.client().rpc("sys.version")]);
  assert.equal((await first.stop()).code, 0);
  await Promise.all(writers);
  const second = await startServer(t, { storage });
  const found = await second.client().rpc<any[]>("category.get", "a", { batchSize: -1 });
  const stored = new Set(found.map((message) => message[4]));
  assert.deepEqual(acknowledged.filter(({ globalPosition }) => !stored.has(globalPosition)), []);
  assert.deepEqual([...stored], found.map((_, i) => i + 1), "without a hole");
});

test("[R-stop.3 R-cli.20] a port in use is a start-up error", async (t) => {
  const first = await startServer(t, { args: inMemory(0) });
  const { code, stdout, stderr } = await run(inMemory(first.port));
  assert.equal(code, 73, stderr);
  assert.equal((stdout + stderr).trim().split("\n").length, 1, "one clear line");
  assert.match(stderr, new RegExp(`${first.port}`));
  await first.client().write("a-1");
});

/** Writes one message after the other until the server is gone. */
async function writeUntilRefused(client: Client, stream: string, acknowledged: Written[]): Promise<void> {
  for (;;) {
    const reply = await client.call("stream.write", stream, { type: "T", data: {} }).catch(() => undefined);
    if (reply?.status !== 200) return;
    acknowledged.push(JSON.parse(reply.text));
  }
}
