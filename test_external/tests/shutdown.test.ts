/** Stopping, and who may have the port. */
import assert from "node:assert/strict";
import { failureOf, type Client, type Written } from "../src/client.ts";
import { run } from "../src/command.ts";
import { Socket, rpcBytes } from "../src/socket.ts";
import { subscribe } from "../src/sse.ts";
import { durableStorage, startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

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
  for (const subscription of subscriptions) {
    const [retry, ...more] = await subscription.ended();
    assert.ok(retry?.kind === "retry" && retry.milliseconds >= 500 && retry.milliseconds <= 2000, JSON.stringify(retry));
    assert.deepEqual(more, []);
  }
});

test("[R-stop.4 R-probe.2] for --drain-grace the port stays open, requests are answered and connections closed, and the server is not ready", async (t) => {
  const server = await startServer(t, { flags: ["--drain-grace", "600000"] });
  const client = server.fresh();
  const subscription = await subscribe(t, client, { all: "true" });
  await subscription.upTo("ready");
  const used = await Socket.connect(t, server.port);
  used.send(rpcBytes('["sys.version"]'));
  await used.expect(/^HTTP\/1\.1 200 /);
  server.signal("SIGTERM");
  const ready = () => client.send({ path: "/health/ready" });
  const refused = await until("the server is not ready", async () => {
    const reply = await ready();
    return reply.status === 503 && reply;
  });
  assert.equal(failureOf(refused).code, "BACKEND_UNAVAILABLE");
  assert.equal((await client.send({ path: "/health/live" })).status, 200);
  used.send(rpcBytes('["sys.version"]'));
  await used.expect(/^HTTP\/1\.1 200 [^]*\r\nconnection: close\r\n/i);
  await used.end();
  await client.write("a-1");
  assert.deepEqual((await subscription.pokes(1)).map((poke) => poke.id), [1], "subscriptions go on");
  // A second signal ends it at once.
  assert.equal((await server.stop()).code, 0);
});

test("[R-stop.4 R-stop.5 R-frame.3] after the grace the server stops", async (t) => {
  const server = await startServer(t, { flags: ["--drain-grace", "200"] });
  const client = server.fresh();
  const subscriptions = await Promise.all(Array.from({ length: 20 }, () => subscribe(t, client, { all: "true" })));
  for (const subscription of subscriptions) await subscription.upTo("ready");
  const before = performance.now();
  const { code } = await server.stop();
  assert.equal(code, 0);
  assert.ok(performance.now() - before >= 200, "not before its time");
  const retries = new Set<number>();
  for (const subscription of subscriptions) {
    const last = (await subscription.ended()).at(-1);
    assert.ok(last?.kind === "retry" && last.milliseconds >= 500 && last.milliseconds <= 2000, JSON.stringify(last));
    retries.add(last.milliseconds);
  }
  assert.ok(retries.size > 10, "their clients do not come back at once");
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
