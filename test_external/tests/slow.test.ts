/** Rules that take their time. All of them wait at the same time, some 45 s together. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { describe } from "node:test";
import { Socket, rpcBytes } from "../src/socket.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, test } from "../src/suite.ts";
import { within } from "../src/wait.ts";

const { get, fresh } = sharedServer();

/** Longer than the 30 s after which a reader that takes nothing is cut. */
const STALL_MS = 40_000;
const stall = () => new Promise((resolve) => setTimeout(resolve, STALL_MS));

describe("at the same time", { concurrency: true }, () => {
  test("[R-frame.7 R-frame.8 R-frame.9] a heartbeat after 15 s without traffic", async (t) => {
    const client = fresh();
    await client.write("a-1");
    const quiet = await subscribe(t, client, { category: "a" });
    await quiet.upTo("caught-up");
    const before = performance.now();
    await client.write("b-1");
    await client.write("b-1");
    const frames = await quiet.upTo("heartbeat", 30_000);
    assert.deepEqual(frames, [{ kind: "heartbeat", head: 3, id: 3 }], "it tells of messages that were none of its own");
    assert.ok(performance.now() - before > 10_000, "not before its time");
    await client.write("a-1");
    assert.deepEqual((await quiet.pokes(1)).map((poke) => poke.id), [4]);
    assert.deepEqual(await quiet.next(30_000), { kind: "heartbeat", head: 4, id: 4 });
  });

  test("[R-limit.9] a reply of which nothing is taken for 30 s is cut", async (t) => {
    const client = fresh();
    const data = { x: "x".repeat(1_000_000) };
    for (let i = 0; i < 20; i++) await client.write("a-1", "T", data);
    const socket = await Socket.connect(t, get().port);
    socket.connection.pause();
    socket.send(rpcBytes('["stream.get","a-1"]', `Authorization: Bearer ${client.token}\r\n`));
    await stall();
    socket.connection.resume();
    await socket.end();
    assert.ok(socket.received.length < 20_000_000, `${socket.received.length} bytes came`);
    assert.equal((await client.rpc<unknown[]>("stream.get", "a-1")).length, 20, "others are served");
  });

  test("[R-limit.9] a whole HTTP/2 reply of which nothing is taken for 30 s is cut", async () => {
    const client = fresh();
    await client.write("a-1", "T", { x: "x".repeat(100_000) });
    const session = http2.connect(client.url, { settings: { initialWindowSize: 0 } });
    const received = new Promise<number>((resolve) => {
      let bytes = 0;
      const stream = session.request({ ":method": "POST", ":path": "/rpc", authorization: `Bearer ${client.token}` });
      for (const end of [session, stream]) end.on("error", () => resolve(bytes)).on("close", () => resolve(bytes));
      stream.on("data", (chunk) => (bytes += chunk.length)).end('["stream.get","a-1"]');
    });
    try {
      assert.equal(await within("the cut", received, 60_000), 0);
    } finally {
      session.destroy();
    }
    assert.equal((await client.rpc<unknown[]>("stream.get", "a-1")).length, 1, "others are served");
  });

  test("[R-limit.10] a subscription of which nothing is taken for 30 s is cut", async (t) => {
    const client = fresh();
    const total = 60_000; // some 21 MB of pokes
    for (let i = 0; i < 6; i++) await client.fill(`a-${String(i).repeat(250)}`, total / 6);
    const socket = await Socket.connect(t, get().port);
    socket.connection.pause();
    socket.send(`GET /subscribe?category=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${client.token}\r\n\r\n`);
    await stall();
    socket.connection.resume();
    await socket.end();
    assert.ok(!socket.text.includes("caught-up"), "it did not get to the end");
    assert.ok(socket.received.length < 20_000_000, `${socket.received.length} bytes came`);
  });

  test("[R-read.11] a read waits 30 s where it may", async () => {
    const client = fresh();
    const before = performance.now();
    assert.deepEqual(await client.rpc("category.get", "a", { waitMs: 30_000 }), []);
    assert.ok(performance.now() - before >= 29_900);
  });
});
