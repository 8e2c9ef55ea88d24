/** Imports that replace what a namespace holds: nothing is destroyed before the last record is in. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertFails, failureOf, type CategoryMessage, type Client } from "../src/client.ts";
import { run } from "../src/command.ts";
import { lines, outcome, record } from "../src/import.ts";
import { Socket } from "../src/socket.ts";
import { subscribe } from "../src/sse.ts";
import { type Context, directoryFor, durableStorage, sharedServer, startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const { get, fresh } = sharedServer();
const WRITE = ["stream.write", "old-1", { type: "T", data: {} }] as const;

interface Joined {
  member: string;
  assigned: { epoch: number }[];
}

interface Status {
  head: number;
  partitions: { checkpoint: number; epoch: number; owner: unknown }[];
}

const records = (count: number) => Array.from({ length: count }, (_, i) => record({ gpos: 10 * (i + 1), stream: "new-1", pos: i }));

/** A forced import of so many records whose last chunk is still to come, once 1,000 are told as imported. */
async function begin(t: Context, port: number, client: Client, count: number): Promise<Socket> {
  const socket = await Socket.connect(t, port);
  const text = lines(records(count));
  socket.send(`POST /import?force=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${client.token}\r\nTransfer-Encoding: chunked\r\n\r\n`);
  socket.send(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
  await socket.expect(/data: \{"imported":1000,"gpos":10000\}/);
  return socket;
}

async function streams(client: Client): Promise<string[]> {
  return (await client.rpc<CategoryMessage[]>("category.get", "", { batchSize: -1 })).map((each) => each[1]);
}

/** The position of a write, tried again while the namespace is being replaced. */
async function written(client: Client): Promise<number> {
  const reply = await until("a write that is taken", async () => {
    const reply = await client.call(...WRITE);
    return reply.status === 200 ? reply : undefined;
  }, 60_000);
  return JSON.parse(reply.text).globalPosition;
}

test("[R-import.23 R-import.26] what it held is read until all is in, and nothing is written to it", async (t) => {
  const client = fresh();
  await client.fill("old-1", 3);
  const subscription = await subscribe(t, client, { all: "true", position: "1" });
  await subscription.history();
  const socket = await begin(t, get().port, client, 1500);
  assert.deepEqual(await streams(client), ["old-1", "old-1", "old-1"]);
  await assertFails(client.failure(...WRITE), 503, "BACKEND_UNAVAILABLE");
  for (const path of ["/import", "/import?force=true"]) {
    const refused = await client.send({ path, body: "" });
    assert.deepEqual([refused.status, failureOf(refused).code], [503, "BACKEND_UNAVAILABLE"]);
    assert.match(refused.headers["retry-after"] as string, /^[1-3]$/);
  }
  socket.send("0\r\n\r\n");
  await socket.expect(/data: \{"done":true,"imported":1500,/);
  assert.deepEqual(new Set(await streams(client)), new Set(["new-1"]));
  assert.deepEqual(await subscription.ended(), []);
  assert.equal(await written(client), 15_001);
});

test("[R-import.29] groups are kept or dropped as asked, and it must be said which", async () => {
  const client = fresh();
  await client.fill("old-1", 3);
  await client.rpc("group.create", "g", { start: 3, partitions: 1 });
  const { member, assigned } = await client.rpc<Joined>("group.join", "g");
  for (const query of ["force=true", "force=true&groups=both", "groups=keep"]) {
    const refused = await client.send({ path: `/import?${query}`, body: "" });
    assert.deepEqual([refused.status, failureOf(refused).code], [400, "INVALID_REQUEST"], query);
  }
  assert.equal((await streams(client)).length, 3);
  const kept = await client.send({ path: "/import?force=true&groups=keep", body: lines(records(2)) });
  assert.match(kept.text, /"done":true,"imported":2,/);
  const { head, partitions } = await client.rpc<Status>("group.status", "g");
  assert.deepEqual([head, partitions[0]?.checkpoint, partitions[0]?.owner], [20, 3, null]);
  assert.ok((partitions[0]?.epoch ?? 0) > (assigned[0]?.epoch ?? 0));
  await assertFails(client.failure("group.heartbeat", "g", member, {}), 409, "FENCED");
  const cut = await client.send({ path: "/import?force=true&groups=keep", body: lines([record({ gpos: 1 })]) });
  assert.match(cut.text, /"done":true,"imported":1,/);
  assert.equal((await client.rpc<Status>("group.status", "g")).partitions[0]?.checkpoint, 1);
  const dropped = await client.send({ path: "/import?force=true&groups=drop", body: lines(records(1)) });
  assert.match(dropped.text, /"done":true,"imported":1,/);
  assert.deepEqual(await client.rpc("group.list"), []);
});

test("[R-import.30] a body without a record replaces nothing", async () => {
  const client = fresh();
  await client.fill("old-1", 3);
  for (const body of ["", "\n"]) {
    const last = await outcome(client, body, "?force=true");
    assert.equal(last.error, "IMPORT_FAILED");
    assert.equal((await streams(client)).length, 3);
  }
});

test("[R-import.25] a bad record, also behind whole batches", async () => {
  const client = fresh();
  await client.fill("old-1", 3);
  for (const count of [0, 1500]) {
    const last = await outcome(client, lines([...records(count), "nonsense"]), "?force=true");
    assert.deepEqual([last.error, last.line], ["INVALID_JSON", count + 1]);
  }
  assert.deepEqual(await streams(client), ["old-1", "old-1", "old-1"]);
  assert.equal(await written(client), 4);
});

test("[R-import.25] a connection that is cut", async (t) => {
  const client = fresh();
  await client.fill("old-1", 3);
  const socket = await begin(t, get().port, client, 1500);
  socket.connection.destroy();
  assert.equal(await written(client), 4);
  assert.deepEqual(await streams(client), ["old-1", "old-1", "old-1", "old-1"]);
});

test("[R-import.25] a namespace that is deleted meanwhile, and made anew", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const admin = server.client(server.madeToken);
  const create = async () => server.client((await admin.rpc<{ token: string }>("ns.create", "shop")).token);
  const first = await create();
  await first.fill("old-1", 3);
  const socket = await begin(t, server.port, first, 1500);
  await admin.rpc("ns.delete", "shop");
  const second = await create();
  await second.fill("other-1", 2);
  socket.send("0\r\n\r\n");
  await socket.expect(/data: \{"error":"IMPORT_FAILED","message":"[^"]*(deleted|replaced)/);
  assert.deepEqual(await streams(second), ["other-1", "other-1"]);
});

test("[R-import.25] a server that is killed", async (t) => {
  const storage = await durableStorage(t);
  const server = await startServer(t, { storage });
  const token = fresh().token;
  await server.client(token).fill("old-1", 3);
  await begin(t, server.port, server.client(token), 1500);
  await server.stop("SIGKILL");
  const client = (await startServer(t, { storage })).client(token);
  assert.deepEqual(await streams(client), ["old-1", "old-1", "old-1"]);
  assert.equal(await written(client), 4);
});

test("[R-export.8] the command looks at its input first", async (t) => {
  const [client, directory] = [fresh(), directoryFor(t)];
  await client.fill("old-1", 3);
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  for (const input of [join(directory, "missing"), file("bad", "\nnonsense\n"), file("empty", "")]) {
    const { code, stderr } = await run(["import", "--url", client.url, "--token", client.token!, "--input", input, "--force"]);
    assert.notEqual(code, 0, stderr);
    assert.match(stderr, /cannot open|line 2|no record/);
    assert.deepEqual(await streams(client), ["old-1", "old-1", "old-1"]);
  }
});
