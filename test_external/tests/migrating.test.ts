/**
 * The commands of docs/MIGRATING.md, run while others write: EVENTODB_TEST_MIGRATION is how many messages a Message DB has before
 * (2,000 if left out). Blocks `sh settings` stand for what the test sets.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { ROOT } from "../src/command.ts";
import { Client, tokenFor } from "../src/client.ts";
import { fencedBlocks, readDocument, type Block } from "../src/document.ts";
import { memberOf } from "../src/group.ts";
import { send } from "../src/http.ts";
import { importAll } from "../src/import.ts";
import { dense, elements } from "../src/json.ts";
import { MessageDb } from "../src/message-db.ts";
import { Subscription } from "../src/sse.ts";
import { directoryFor, startServer, test, type Context } from "../src/suite.ts";
import type { Server } from "../src/server.ts";
import { terminalIn } from "../src/terminal.ts";
import { until } from "../src/wait.ts";

const COUNT = Number(process.env.EVENTODB_TEST_MIGRATION || 2000);
/** For a block of commands: an hour for 100,000 messages, each of which a process handles. */
const LIMIT_MS = 60_000 + COUNT * 30;
/** How long the stand-in of an EventoDB-Go hides some messages. */
const HIDDEN_MS = 500;

const blocks = fencedBlocks(readDocument("MIGRATING.md"));
const named = (words: string): Block => {
  const found = blocks.filter((block) => block.words.join(" ") === words);
  assert.equal(found.length, 1, words);
  return found[0]!;
};

test("[R-export.11 R-export.12 R-export.9 R-import.2] a namespace of an EventoDB-Go moves while clients write, and they go on unchanged", async (t) => {
  await Promise.all(["eventodb-go-sqlite.ndjson", "eventodb-go-pg.ndjson"].map((fixture) => moveFromGo(t, fixture)));
});

async function moveFromGo(t: Context, fixture: string): Promise<void> {
  const old = await startServer(t, { mode: "production" });
  const server = await startServer(t, { mode: "production" });
  const token = tokenFor("shop");
  await old.client(old.madeToken).rpc("ns.create", "shop", { token });
  const lines = readFileSync(join(ROOT, "test_external/fixtures", fixture), "utf8").split("\n").slice(0, -1);
  await importAll(old.client(token), lines);

  const { run, set, directory } = terminal(t);
  const map = join(directory, "moved.map");
  const shown = await standIn(t, old);
  await set("settings go", { OLD: shown, NEW: server.url, TOKEN: token, ADMIN_TOKEN: server.madeToken, MAP: map });
  await run(`export SETTLE=${(2 * HIDDEN_MS) / 1000}`);
  const proxy = new Client(await startProxy(t, directory, old), token);
  const writers = [1, 2, 3].map((id) => new Writer(proxy, `written-${id}`));
  const follower = new Follower(proxy);
  t.after(() => follower.stop());
  await until("a write of each", () => writers.every(({ written }) => written > 0));
  await run(named("run go create").text);
  await run(named("run go copy").text);
  await run("copy");
  await run(named("run go close").text);
  await expectOutput(run, "run go window");

  const moved = await everything(old.client(token));
  assertSame(await everything(server.client(token)), moved);
  const before = writers.map(({ written }) => written);
  await run(named("run go switch").text);
  await until("a write of each", () => writers.every(({ written }, i) => written > before[i]!));
  await Promise.all(writers.map((writer) => writer.stop()));
  for (const { stream, written } of writers) assert.equal(await server.client(token).rpc("stream.version", stream), written - 1);
  assertSame(await everything(old.client(token)), moved);
  assert.ok(writers.every(({ refused }) => refused > 0), "the window was closed");
  assert.deepEqual(readFileSync(map, "utf8").split("\n").map((line) => line.split(" ")[1]), ["127.0.0.1:1;", `127.0.0.1:${server.port};`, undefined]);
  const last = (await everything(server.client(token))).length;
  await until("a poke about each message", () => follower.poked.length >= last);
  assert.deepEqual(follower.poked, Array.from({ length: last }, (_, i) => i + 1), "once, in order");
}

/** The document's nginx in front of a server, with files of its own. */
async function startProxy(t: Context, directory: string, server: Server): Promise<string> {
  const port = await freePort();
  const shown = blocks.find(({ language }) => language === "nginx")!.text;
  const http = shown.replace("127.0.0.1:8081", `127.0.0.1:${server.port}`).replace("listen 8000", `listen 127.0.0.1:${port}`);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((what) => `${what}_temp_path ${directory}/${what};`).join("\n");
  writeFileSync(join(directory, "nginx.conf"), `worker_shutdown_timeout 1s;\npid nginx.pid;\nerror_log error.log;\nevents {}\nhttp {\naccess_log off;\n${temporary}\n${http}}\n`);
  // A namespace that has moved before.
  writeFileSync(join(directory, "moved.map"), `"~${tokenFor("earlier")}" 127.0.0.1:1;\n`);
  const program = join(directory, "programs/nginx");
  const path = `${process.env.PATH}:/usr/sbin`;
  writeFileSync(program, `#!/bin/sh\nexec env PATH='${path}' nginx -p ${directory} -c nginx.conf -e error.log "$@"\n`, { mode: 0o755 });
  execFileSync(program);
  t.after(() => execFileSync(program, ["-s", "stop"]));
  return `http://127.0.0.1:${port}`;
}

async function freePort(): Promise<number> {
  const taken = http.createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as AddressInfo;
  await new Promise((resolve) => taken.close(resolve));
  return port;
}

/** An address that answers as the server does, but shows every fifth message that is written only after some time. */
async function standIn(t: Context, server: Server): Promise<string> {
  const front = http.createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    const body = Buffer.concat(pieces).toString();
    const size = Number(/"batchSize":(\d+)/.exec(body)?.[1] ?? 1000);
    // More than is asked for, as some of it is left out.
    const more = body.replace(/"batchSize":\d+/, `"batchSize":${Math.min(size * 2 + 100, 10_000)}`);
    const reply = await send(server.url, { path: request.url!, body: more, headers: { authorization: request.headers.authorization } });
    const visible = body.startsWith('["category.get"') ? elements(reply.text).filter(isVisible).slice(0, size) : undefined;
    response.writeHead(reply.status, { "content-type": "application/json" });
    response.end(visible ? `[${visible.join(",")}]` : reply.text);
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  t.after(() => front.closeAllConnections());
  t.after(() => front.close());
  return `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
}

function isVisible(row: string): boolean {
  const fields = elements(row);
  return Number(fields[4]) % 5 !== 0 || Date.now() - Date.parse(JSON.parse(fields[7]!)) > HIDDEN_MS;
}

/** Writes to a stream, each time with the version that it expects. What is refused, or gets no reply, it writes again with the same id. */
class Writer {
  written = 0;
  refused = 0;
  private stopped = false;
  private work: Promise<void>;

  constructor(private client: Client, readonly stream: string) {
    this.work = this.go();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.work;
  }

  private async go(): Promise<void> {
    for (let id = randomUUID(); !this.stopped; ) {
      const message = { type: "Happened", data: { n: this.written } };
      const reply = await this.client.call("stream.write", this.stream, message, { id, expectedVersion: this.written - 1 }).catch(() => undefined);
      if (reply?.status === 200) {
        assert.equal(JSON.parse(reply.text).position, this.written++);
        id = randomUUID();
      } else {
        assert.ok(reply === undefined || reply.status === 503, reply?.text);
        this.refused += 1;
      }
    }
  }
}

/** Follows all messages, and comes back where it was cut off. */
class Follower {
  poked: number[] = [];
  private stopped = false;
  private subscription?: Subscription;
  private work: Promise<void>;

  constructor(private client: Client) {
    this.work = this.go();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.subscription?.close();
    await this.work;
  }

  private async go(): Promise<void> {
    while (!this.stopped) {
      try {
        this.subscription = await Subscription.open(this.client, { all: "true", position: 1, lastEventId: this.poked.at(-1) });
        for (;;) this.poked.push((await this.subscription.pokes(1))[0]!.id);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }
}

// The other backends of the suite have no PostgreSQL beside them.
const admin = process.env.EVENTODB_TEST_PG_URL;
if (admin) {
  test("[R-import.1 R-import.2 R-export.11 R-group-create.5] a Message DB moves under writes, and a group goes on where its members were", async (t) => {
    const db = await MessageDb.create(admin);
    t.after(() => db.remove());
    const share = Math.floor(COUNT * 0.7);
    await db.writeWithoutId("account");
    await db.write("account", share);
    await db.write("order", COUNT - share);
    await db.writeWithoutId("account");
    const server = await startServer(t, { mode: "production" });

    const { run, set, directory } = terminal(t);
    await set("settings message-db", { MESSAGE_DB_URL: db.url, EVENTODB_URL: server.url, EVENTODB_TOKEN: server.madeToken });
    // Transactions that stay open let messages become visible below others.
    const writers = Promise.all([db.writeUntilMoved("account", "0.02"), db.writeUntilMoved("order", "0.3"), db.writeUntilMoved("transfer", "0.1")]);
    const members = Promise.all([0.2, 0.25, 0.15].map((part, member) => db.member("account", member, Math.floor(share * part))));
    await run(named("run message-db copy").text);
    await run("copy");
    await expectOutput(run, "run message-db window");
    await writers;
    assertSame(await everything(server.client(server.madeToken)), await everythingOf(db));

    const statics = await members;
    await set("settings adopt", { CHECKPOINTS: statics.map(({ checkpoint }) => checkpoint).join(",") });
    writeFileSync(join(directory, "handle"), "#!/bin/sh\nexec cat >> handled\n", { mode: 0o755 });
    await run(named("run message-db adopt").text);
    await run(named("run message-db consume").text);
    const handled = readFileSync(join(directory, "handled"), "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line));
    const ids = [...statics.flatMap((each) => each.ids), ...handled.map(({ id }) => id)];
    // A stream without an id belongs to no member in Message DB, and to one here: the first such message counts as handled, the second does not.
    const { checkpoint } = statics[memberOf("account", statics.length)]!;
    const all = await db.rows(`SELECT id FROM messages WHERE category(stream_name) = 'account' AND (id(stream_name) IS NOT NULL OR global_position > ${checkpoint})`);
    assertSame(ids.sort(), all.sort());
    assert.equal(handled.filter(({ stream }) => stream === "account").length, 1);
    assert.ok(handled.length > share * 0.3 && handled.length < all.length, "the group began in the middle");
  });
}

/** Messages as the server returns them, as text without white space. */
async function everything(client: Client): Promise<string[]> {
  const rows: string[] = [];
  for (let next = 1, page: string[] = [""]; page.length > 0; next = Number(elements(page.at(-1)!)[4]) + 1) {
    const reply = await client.call("category.get", "", { globalPosition: next, batchSize: 1000 });
    page = elements(reply.text);
    rows.push(...page.map(dense));
    if (page.length === 0) break;
  }
  return rows;
}

async function everythingOf(db: MessageDb): Promise<string[]> {
  const time = `to_char(time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
  const fields = `id, stream_name, type, position, global_position, data, metadata, ${time}`;
  return (await db.rows(`SELECT json_build_array(${fields}) FROM messages ORDER BY global_position`)).map(dense);
}

/** Fails with the first difference; a hundred thousand rows would be no message. */
function assertSame(actual: string[], expected: string[]): void {
  const at = expected.findIndex((row, i) => row !== actual[i]);
  if (at >= 0) assert.equal(actual[at], expected[at], `row ${at}`);
  assert.equal(actual.length, expected.length);
}

/** A terminal that finds the program. */
function terminal(t: Context) {
  const directory = directoryFor(t);
  const shell = terminalIn(t, directory);
  const run = (commands: string) => shell.run(`${commands}\n`, LIMIT_MS);
  /** Exports these values, which must be those that the block exports. */
  const set = async (words: string, values: Record<string, string>) => {
    const shown = [...named(words).text.matchAll(/^export ([A-Z_]+)=/gm)].map((match) => match[1]!);
    assert.deepEqual(shown, Object.keys(values), words);
    for (const [name, value] of Object.entries(values)) await run(`export ${name}='${value}'`);
  };
  return { run, set, directory };
}

/** Runs a block, which must print what stands in the block after it. */
async function expectOutput(run: (commands: string) => Promise<string[]>, words: string): Promise<void> {
  const block = named(words);
  const shown = blocks[blocks.indexOf(block) + 1]!;
  assert.deepEqual(await run(block.text), shown.text.split("\n").slice(0, -1));
}
