/** The bytes of an event stream. */
import assert from "node:assert/strict";
import type { Client } from "../src/client.ts";
import { FrameReader, pokesOf, subscribe, type Query } from "../src/sse.ts";
import { Socket } from "../src/socket.ts";
import { type Context, sharedServer, startServer, test } from "../src/suite.ts";

const { get, fresh } = sharedServer();

/** Everything that a subscription to a namespace was sent, chunk by chunk, from its start to the namespace's end. */
async function wholeStream(t: Context, client: Client, namespace: string): Promise<{ head: string; chunks: string[] }> {
  const socket = await Socket.connect(t, get().port);
  socket.send(`GET /subscribe?all=true&position=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${client.token}\r\n\r\n`);
  await socket.expect(/: caught-up \d+\n/);
  for (let i = 0; i < 20; i++) {
    const { globalPosition } = await client.write("live-1");
    await socket.expect(new RegExp(`"globalPosition":${globalPosition}}`));
  }
  await client.fill("live-2", 500);
  await socket.expect(/"stream":"live-2","position":499,/);
  await client.rpc("ns.delete", namespace);
  await socket.expect(/\r\n0\r\n\r\n/);
  const [head = "", ...rest] = socket.text.split("\r\n\r\n");
  return { head, chunks: dechunked(rest.join("\r\n\r\n")) };
}

/** The chunks of a chunked body, as the server wrote them. */
function dechunked(body: string): string[] {
  const chunks: string[] = [];
  for (let at = 0; ; ) {
    const lineEnd = body.indexOf("\r\n", at);
    const size = parseInt(body.slice(at, lineEnd), 16);
    if (!(size > 0)) return chunks;
    chunks.push(body.slice(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}

async function recorded(t: Context): Promise<{ text: string; chunks: string[] }> {
  const client = fresh();
  const namespace = Buffer.from(client.token!.split("_")[1]!, "base64url").toString();
  await client.fill("past-1", 300);
  const { chunks } = await wholeStream(t, client, namespace);
  return { text: chunks.join(""), chunks };
}

test("[R-frame.11 R-frame.12 R-frame.13 R-frame.14] line ends, spaces and empty lines", async (t) => {
  const { text } = await recorded(t);
  assert.ok(!text.includes("\r"), "LF only");
  assert.ok(!text.startsWith("\n") && !text.includes("\n\n\n"), "no empty line but the one at the end of a frame");
  assert.ok(text.endsWith("\n\n"));
  const line = /^(?:|retry: 1000|: ready|: caught-up \d+|: heartbeat \d+|id: \d+|event: poke|data: \{"stream":"[^"]+","position":\d+,"globalPosition":\d+\})$/;
  for (const each of text.split("\n")) assert.match(each, line);
  for (const frame of text.trimEnd().split("\n\n")) {
    if (frame.includes("event:")) assert.match(frame, /^id: \d+\nevent: poke\ndata: .*$/);
  }
});

test("[R-frame.1 R-frame.2 R-frame.3] 820 pokes, data lines in them only, one retry", async (t) => {
  const { text } = await recorded(t);
  const frames = new FrameReader().push(Buffer.from(text));
  assert.deepEqual(pokesOf(frames).map((poke) => poke.id), Array.from({ length: 820 }, (_, i) => i + 1));
  assert.equal(text.match(/^data:/gm)!.length, 820);
  assert.equal(text.match(/^event: poke$/gm)!.length, 820);
  assert.equal(text.match(/^retry:/gm)!.length, 1);
  assert.ok(text.startsWith("retry: 1000\n\n"));
});

test("[R-frame.15] whatever is written at once is whole frames", async (t) => {
  const { chunks } = await recorded(t);
  for (const chunk of chunks) assert.ok(/^(retry|id|:)/.test(chunk) && chunk.endsWith("\n\n"), JSON.stringify(chunk.slice(-200)));
});

test("[R-frame.1] a poke tells the stream by its exact name", async (t) => {
  const client = fresh();
  const names = ['a-"quoted"', "a-back\\slash", "a-日本🎉", "a-\u2028", "a-</script>", "a- spaces ", "a-'"];
  for (const name of names) await client.write(name);
  const subscription = await subscribe(t, client, { category: "a" });
  assert.deepEqual((await subscription.history()).map((poke) => poke.stream), names);
  await client.write(names[2]!);
  assert.deepEqual((await subscription.pokes(1)).map((poke) => [poke.stream, poke.position]), [[names[2], 1]]);
});

test("[R-sub.13] headers", async (t) => {
  const subscription = await subscribe(t, fresh(), { all: "true" });
  const { headers } = subscription.response;
  assert.equal(headers["content-type"], "text/event-stream");
  assert.equal(headers["cache-control"], "no-cache");
  assert.equal(headers["x-accel-buffering"], "no");
  assert.equal(headers["access-control-allow-origin"], undefined, "in test mode no page of elsewhere");
  const production = await startServer(t, { mode: "production" });
  const open = await subscribe(t, production.client(production.madeToken), { all: "true" });
  assert.equal(open.response.headers["access-control-allow-origin"], "*");
});

test("[R-sub.14 R-frame.3 R-frame.9] retry and ready come first, before any history", async (t) => {
  const client = fresh();
  await client.fill("a-1", 3000);
  const expected: [Query, number][] = [
    [{ all: "true", position: 1 }, 0],
    [{ category: "a" }, 0],
    [{ category: "a", position: 1200 }, 1199],
    [{ all: "true", lastEventId: 2000 }, 2000],
    [{ stream: "a-1", lastEventId: 2000 }, 2000],
    [{ all: "true" }, 3000],
  ];
  for (const [query, id] of expected) {
    const subscription = await subscribe(t, client, query);
    assert.deepEqual(await subscription.next(), { kind: "retry", milliseconds: 1000 });
    assert.deepEqual(await subscription.next(), { kind: "ready", id }, JSON.stringify(query));
    subscription.close();
  }
});

test("[R-frame.4] what is acknowledged after ready is poked", async (t) => {
  const client = fresh();
  for (let i = 1; i <= 20; i++) {
    const subscription = await subscribe(t, client, { all: "true" });
    await subscription.upTo("ready");
    await client.write("a-1");
    assert.deepEqual((await subscription.pokes(1)).map((poke) => poke.id), [i]);
    subscription.close();
  }
});

test("[R-frame.5 R-frame.8 R-frame.9] caught-up tells how far this subscription was served", async (t) => {
  const client = fresh();
  const empty = await subscribe(t, client, { all: "true" });
  assert.deepEqual((await empty.upTo("caught-up")).at(-1), { kind: "caught-up", head: 0, id: 0 });
  for (const stream of ["a-1", "b-1", "a-1", "b-1"]) await client.write(stream);
  for (const [query, pokes] of [[{ category: "a" }, 2], [{ stream: "b-1" }, 2], [{ stream: "c-1" }, 0], [{ category: "x-y" }, 0]] as const) {
    const frames = await (await subscribe(t, client, query)).upTo("caught-up");
    assert.equal(pokesOf(frames).length, pokes);
    assert.deepEqual(frames.at(-1), { kind: "caught-up", head: 4, id: 4 }, JSON.stringify(query));
  }
});

test("[R-frame.10] a position above the head", async (t) => {
  const client = fresh();
  await client.fill("a-1", 3);
  for (const query of [{ all: "true", position: 50 }, { category: "a", position: 50 }, { all: "true", lastEventId: 50 }, { stream: "a-1", lastEventId: 50 }]) {
    const subscription = await subscribe(t, client, query);
    const told = (await subscription.upTo("ahead-of-head")).at(-1);
    assert.ok(told?.kind === "ahead-of-head");
    assert.equal(told.head, 3, JSON.stringify(query));
  }
});

test("[R-frame.11 R-frame.13 R-frame.14] the reader of this suite refuses what breaks a rule", () => {
  const start = "retry: 1000\n\n";
  const poke = 'id: 1\nevent: poke\ndata: {"stream":"a","position":0,"globalPosition":1}\n\n';
  new FrameReader().push(Buffer.from(`${start}: ready\nid: 0\n\n${poke}`));
  const broken = [
    `\n${start}`, poke, `${start}\n${poke}`, `${start}${start}`, `${start}: ready\n\n`, `${start}:ready\nid: 0\n\n`, `${start}: ready \nid: 0\n\n`,
    start + poke.replaceAll("\n", "\r\n"), start + poke.replace("id: 1", "id:1"), start + poke.replace("id: 1", "id: 2"),
    start + 'event: poke\nid: 1\ndata: {"stream":"a","position":0,"globalPosition":1}\n\n', `${start}: caught-up 1\nid: 2\n\n`,
    `${start}data: {"stream":"a","position":0,"globalPosition":1}\n\n`, `${start}: ready\nid: 0\ndata: {}\n\n`,
    `${start}: ready\nid: 0\n\nretry: 700\n\n${poke}`, start + poke.replace(",", ",\ndata: "), start + poke.replace('"position":0,', ""),
  ];
  for (const text of broken) assert.throws(() => new FrameReader().push(Buffer.from(text)), JSON.stringify(text));
});
