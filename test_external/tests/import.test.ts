/** Imports that go well. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assertFails, failureOf, type CategoryMessage } from "../src/client.ts";
import { ROOT } from "../src/command.ts";
import { eventsOf, importAll, importEvents, lines, outcome, record } from "../src/import.ts";
import { dense, elements, members } from "../src/json.ts";
import { Socket } from "../src/socket.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";
import { until, within } from "../src/wait.ts";

const { get, fresh } = sharedServer();
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

test("[R-import.1 R-import.2 R-import.3 R-import.4] positions are kept, gaps too", async () => {
  const client = fresh();
  const records = [
    record({ stream: "a-1", pos: 3, gpos: 10, data: { x: 1 }, meta: { y: 2 } }),
    record({ stream: "b-1", pos: 0, gpos: 11 }),
    record({ stream: "a-1", pos: 4, gpos: 15, type: "Other type" }),
    record({ stream: "a-1", pos: 90, gpos: 400 }),
  ];
  await importAll(client, records);
  const found = await client.rpc<CategoryMessage[]>("category.get", "");
  assert.deepEqual(found, records.map((each) => [each.id, each.stream, each.type, each.pos, each.gpos, each.data, each.meta, each.time]));
  assert.equal(await client.rpc("stream.version", "a-1"), 90);
});

test("[R-import.2 R-message.10 R-message.11 R-message.12] data and meta are kept byte for byte", async () => {
  const client = fresh();
  const text = '{"n":1e400,"big":12345678901234567890123,"n":-0,"s":"\\u0041\\ud800\\/","x":{"b":1.10,"a":2}}';
  const line = `{"data":${text},"meta":${text},"gpos":1,"pos":0,"id":"00000000-0000-0000-0000-00000000000A","type":"\\u0054","time":"2026-01-02T03:04:05Z","stream":"a-1"}`;
  await importAll(client, [line]);
  const [message] = elements((await client.call("stream.get", "a-1")).text).map(elements);
  assert.deepEqual(message, ['"00000000-0000-0000-0000-00000000000a"', '"T"', "0", "1", text, text, '"2026-01-02T03:04:05.000000Z"']);
});

test("[R-import.2] positions up to 2^53-1 are kept exactly", async (t) => {
  const client = fresh();
  const highest = Number.MAX_SAFE_INTEGER;
  await importAll(client, [record({ gpos: highest - 1, stream: "a-1", pos: 0 })]);
  const written = await client.call("stream.write", "a-1", { type: "T", data: {} });
  assert.equal(written.text, `{"position":1,"globalPosition":${highest}}`);
  const subscription = await subscribe(t, client, { category: "a" });
  assert.deepEqual((await subscription.history()).map((poke) => poke.id), [highest - 1, highest]);
});

test("[R-import.28 R-error.15] a namespace or a stream without a position left is read and not written", async () => {
  const highest = Number.MAX_SAFE_INTEGER;
  const client = fresh();
  await importAll(client, [record({ gpos: 1, stream: "a-1", pos: highest })]);
  await assertFails(client.failure("stream.write", "a-1", { type: "T", data: {} }), 503, "BACKEND_UNAVAILABLE", /a-1 has no position left/);
  assert.deepEqual(await client.rpc("stream.write", "b-1", { type: "T", data: {} }), { position: 0, globalPosition: 2 });
  await importAll(client, [record({ gpos: highest, stream: "c-1", pos: 0 })]);
  for (const stream of ["a-1", "b-1", "new-1"]) {
    await assertFails(client.failure("stream.write", stream, { type: "T", data: {} }), 503, "BACKEND_UNAVAILABLE", /namespace has no position left/);
  }
  assert.deepEqual((await client.rpc<CategoryMessage[]>("category.get", "")).map((each) => each[4]), [1, 2, highest]);
});

test("[R-import.5 R-import.6] times are kept, cut to microseconds, in any order", async () => {
  const times: [given: string, kept: string][] = [
    ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"],
    ["2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100000Z"],
    ["2020-02-29T23:59:59.999999999Z", "2020-02-29T23:59:59.999999Z"],
    ["2026-01-02T03:04:05.12345678Z", "2026-01-02T03:04:05.123456Z"],
    ["2019-12-31T00:00:00.000000Z", "2019-12-31T00:00:00.000000Z"],
    ["2026-01-02T03:04:05.0000009Z", "2026-01-02T03:04:05.000000Z"],
  ];
  const client = fresh();
  await importAll(client, times.map(([time], i) => record({ gpos: i + 1, time })));
  const found = await client.rpc<CategoryMessage[]>("category.get", "");
  assert.deepEqual(found.map((each) => each[7]), times.map(([, kept]) => kept));
});

test("[R-import.7 R-import.12] blank lines and empty bodies", async () => {
  const client = fresh();
  for (const body of ["", "\n", "\n\n\n", " \n\t\n"]) {
    const events = await importEvents(client, body);
    assert.deepEqual([events.length, events[0]!.done, events[0]!.imported], [1, true, 0], JSON.stringify(body));
  }
  const [one, two] = [1, 2].map((gpos) => JSON.stringify(record({ gpos })));
  assert.equal((await outcome(client, `\n${one}\n\n\n${two}`)).imported, 2, "and no line end is needed at the end");
  assert.equal((await outcome(client, `${JSON.stringify(record({ gpos: 3 }))}\r\n`)).imported, 1, "nor does a carriage return matter");
});

test("[R-import.8 R-import.10 R-import.11] an event stream with progress and an end", async () => {
  const reply = await fresh().send({ path: "/import", body: lines(range(1, 2500).map((i) => record({ gpos: i * 2 }))) });
  const events = eventsOf(reply);
  const last = events.pop()!;
  assert.deepEqual(Object.keys(last), ["done", "imported", "elapsed"]);
  assert.deepEqual([last.done, last.imported], [true, 2500]);
  assert.match(last.elapsed!, /^\d+(\.\d+)?s$/);
  for (const event of events) assert.deepEqual(event, { imported: event.imported, gpos: event.imported! * 2 });
  const told = events.map((event) => event.imported);
  assert.deepEqual(told, [1000, 2000, 2500].filter((count) => told.includes(count)));
});

test("[R-import.8 R-http.3] a bad query or an unauthorised caller gets an error as for any call", async (t) => {
  const query = await fresh().send({ path: "/import?force=perhaps", body: "" });
  assert.deepEqual([query.status, failureOf(query).code], [400, "INVALID_REQUEST"]);
  const production = await startServer(t, { mode: "production" });
  await assertFails(production.client().send({ path: "/import", body: "" }).then(failureOf), 401, "AUTH_REQUIRED");
});

test("[R-import.9 R-import.10 R-import.22] a batch is stored while the rest is still to come", async (t) => {
  const client = fresh();
  const socket = await Socket.connect(t, get().port);
  const part = (from: number, to: number) => {
    const text = lines(range(from, to).map((gpos) => record({ gpos })));
    return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
  };
  socket.send(`POST /import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${client.token}\r\nTransfer-Encoding: chunked\r\n\r\n`);
  socket.send(part(1, 1500));
  await socket.expect(/data: \{"imported":1000,"gpos":1000\}/);
  assert.equal((await client.rpc<unknown[]>("category.get", "", { batchSize: -1 })).length, 1000);
  socket.send(`${part(1501, 2100)}0\r\n\r\n`);
  await socket.expect(/data: \{"done":true,"imported":2100,/);
});

test("[R-import.21] progress that nobody reads does not hold up the import", async (t) => {
  const client = fresh();
  const total = 30_000;
  const body = Buffer.from(lines(range(1, total).map((gpos) => record({ gpos, stream: "a-1", pos: gpos }))));
  const socket = await Socket.connect(t, get().port);
  socket.connection.pause();
  socket.send(`POST /import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${client.token}\r\nContent-Length: ${body.length}\r\n\r\n`);
  socket.send(body);
  await until("the whole import", async () => (await client.rpc("stream.version", "a-1")) === total, 60_000);
});

test("[R-import.23] force replaces what the namespace holds", async () => {
  const client = fresh();
  await client.fill("old-1", 5);
  assert.equal((await outcome(client, lines([record({ gpos: 3 })]))).error, "POSITION_EXISTS");
  assert.equal((await outcome(client, lines([record({ gpos: 3 })]), "?force=true")).imported, 1);
  assert.deepEqual((await client.rpc<CategoryMessage[]>("category.get", "")).map((each) => [each[1], each[4]]), [["a-3", 3]]);
  assert.equal((await outcome(client, lines([record({ gpos: 4 })]), "?force=false")).imported, 1);
  assert.equal((await client.rpc<unknown[]>("category.get", "")).length, 2);
});

test("[R-import.24 R-message.15] new writes go on after the highest gpos", async () => {
  const client = fresh();
  await client.write("a-1");
  await importAll(client, [record({ stream: "a-1", pos: 7, gpos: 50, time: "2099-01-01T00:00:00Z" })]);
  assert.deepEqual(await client.write("a-1"), { position: 8, globalPosition: 51 });
  assert.deepEqual(await client.write("new-1"), { position: 0, globalPosition: 52 });
  await assertFails(client.failure("stream.write", "a-1", { type: "T", data: {} }, { expectedVersion: 7 }), 409, "STREAM_VERSION_CONFLICT");
  assert.equal((await client.rpc("ns.info", nameIn(client.token!))).messageCount, 4);
});

for (const fixture of ["eventodb-go-sqlite.ndjson", "eventodb-go-pg.ndjson"]) {
  test(`[R-import.1 R-import.2] the export of another server, ${fixture}, is imported exactly`, async () => {
    const client = fresh();
    const text = readFileSync(join(ROOT, "test_external/fixtures", fixture), "utf8");
    const records = text.trimEnd().split("\n").map((line) => new Map(members(line)));
    assert.equal((await within("the import", outcome(client, text))).imported, 300);
    const found = elements((await client.call("category.get", "")).text).map(elements);
    assert.equal(found.length, records.length);
    for (const [i, message] of found.entries()) {
      const { data, meta, time, ...plain } = Object.fromEntries(records[i]!) as Record<string, string>;
      const values = [plain.id, plain.stream, plain.type, plain.pos, plain.gpos].map((value) => JSON.parse(value!));
      assert.deepEqual(message.slice(0, 5).map((value) => JSON.parse(value)), values, `line ${i + 1}`);
      assert.deepEqual(message.slice(5, 7), [dense(data!), dense(meta!)], `line ${i + 1}`);
      assert.equal(message[7], time!.replace("Z", ".000000Z"), `line ${i + 1}`);
    }
  });
}

function nameIn(token: string): string {
  return Buffer.from(token.slice(3, token.lastIndexOf("_")), "base64url").toString();
}
