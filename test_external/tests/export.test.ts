/** eventodb export and eventodb import. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import type { Client } from "../src/client.ts";
import { ROOT, run, type Finished } from "../src/command.ts";
import { importAll, outcome, record } from "../src/import.ts";
import { dense, members } from "../src/json.ts";
import { type Context, directoryFor, sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const FIELDS = ["id", "stream", "type", "pos", "gpos", "data", "meta", "time"];
const ODD = '{"n":1e400,"n":-0,"big":12345678901234567890123,"s":"\\u0041\\ud800\\/\\u0000"}';

function workplace(t: Context): (name: string) => string {
  const directory = directoryFor(t);
  return (name) => join(directory, name);
}

async function command(name: "export" | "import", client: Client, ...flags: string[]): Promise<Finished> {
  const result = await run([name, "--url", client.url, "--token", client.token!, ...flags]);
  assert.equal(result.code, 0, result.stderr);
  return result;
}

/** The records in a file, each field as its text. */
function recordsIn(text: string): Record<string, string>[] {
  return text.trimEnd().split("\n").filter((line) => line !== "").map((line) => Object.fromEntries(members(line)) as Record<string, string>);
}

async function exported(t: Context, client: Client, ...flags: string[]): Promise<Record<string, string>[]> {
  const file = workplace(t)("out.ndjson");
  await command("export", client, "--output", file, ...flags);
  return recordsIn(readFileSync(file, "utf8"));
}

const gposOf = (records: Record<string, string>[]) => records.map((each) => Number(each.gpos));

test("[R-export.1 R-import.1] one record a line, in global order", async (t) => {
  const client = fresh();
  for (const stream of ["a-1", "b-1", "a-1"]) await client.rpc("stream.write", stream, { type: "T", data: { x: 1 }, metadata: { y: 2 } });
  const records = await exported(t, client);
  assert.deepEqual(records.map((each) => Object.keys(each)), Array(3).fill(FIELDS));
  const messages = await client.rpc<any[]>("category.get", "");
  assert.deepEqual(records.map((each) => FIELDS.map((name) => JSON.parse(each[name]!))), messages);
});

test("[R-export.1] more than one page", async (t) => {
  const client = fresh();
  await client.fill("a-1", 23_000);
  assert.deepEqual(gposOf(await exported(t, client)), Array.from({ length: 23_000 }, (_, i) => i + 1));
});

test("[R-export.2] only some categories", async (t) => {
  const client = fresh();
  for (const stream of ["a-1", "b-1", "c-1", "a-2", "ab-1"]) await client.write(stream);
  assert.deepEqual(gposOf(await exported(t, client, "--categories", "a")), [1, 4]);
  assert.deepEqual(gposOf(await exported(t, client, "--categories", "c,a")), [1, 3, 4]);
  assert.deepEqual(gposOf(await exported(t, client, "--categories=none")), []);
});

test("[R-export.3 R-export.4 R-export.5] only some time", async (t) => {
  const client = fresh();
  const times = ["2026-01-01T00:00:00Z", "2026-01-01T23:59:59.999999Z", "2026-01-02T00:00:00Z", "2026-01-02T12:00:00.000001Z", "2026-01-03T00:00:00Z"];
  await importAll(client, times.map((time, i) => record({ gpos: i + 1, time })));
  const between = async (...flags: string[]) => gposOf(await exported(t, client, ...flags));
  assert.deepEqual(await between("--since", "2026-01-02"), [3, 4, 5]);
  assert.deepEqual(await between("--until", "2026-01-02"), [1, 2]);
  assert.deepEqual(await between("--since", "2026-01-02", "--until", "2026-01-03"), [3, 4]);
  assert.deepEqual(await between("--since", "2026-01-02T12:00:00.000001Z"), [4, 5]);
  assert.deepEqual(await between("--until", "2026-01-02T12:00:00.000001Z"), [1, 2, 3]);
  assert.deepEqual(await between("--since", "2026-01-02T01:00:00+01:00", "--until", "2026-01-02T13:00:00+01:00"), [3], "another time zone");
  for (const flag of ["--since", "--until"]) {
    const { code, stderr } = await run(["export", "--url", client.url, "--output", workplace(t)("x"), flag, "yesterday"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /yesterday|since|until/);
  }
});

test("[R-export.6] compressed", async (t) => {
  const [client, other, file] = [fresh(), fresh(), workplace(t)];
  await client.fill("a-1", 50);
  await command("export", client, "--output", file("plain"));
  await command("export", client, "--output", file("packed"), "--gzip");
  assert.deepEqual(gunzipSync(readFileSync(file("packed"))), readFileSync(file("plain")));
  writeFileSync(file("elsewhere"), gzipSync(readFileSync(file("plain"))));
  await command("import", other, "--input", file("elsewhere"), "--gzip");
  assert.equal((await other.call("category.get", "")).text, (await client.call("category.get", "")).text);
});

test("[R-export.13 R-export.14] a name says whether it is compressed, and nothing is overwritten without a word", async (t) => {
  const [client, file] = [fresh(), workplace(t)];
  await client.fill("a-1", 5);
  await command("export", client, "--output", file("all.ndjson.gz"));
  await command("export", client, "--output", file("all.ndjson"));
  const before = readFileSync(file("all.ndjson"));
  assert.deepEqual(gunzipSync(readFileSync(file("all.ndjson.gz"))), before);
  await client.fill("b-1", 5);
  const refused = await run(["export", "--url", client.url, "--token", client.token!, "--output", file("all.ndjson")]);
  assert.equal(refused.code, 73);
  assert.deepEqual(readFileSync(file("all.ndjson")), before);
  await command("export", client, "--output", file("all.ndjson"), "--force");
  assert.equal(recordsIn(readFileSync(file("all.ndjson"), "utf8")).length, 10);
});

test("[R-export.7 R-export.9] exported and imported again, every digit is the same", async (t) => {
  const [client, other, file] = [fresh(), fresh(), workplace(t)];
  await client.post(`["stream.write","a-1",{"type":"T \\"quoted\\"","data":${ODD},"metadata":${ODD}}]`);
  await client.post(`["stream.append","日本-🎉+x",[{"type":"é","data":{}},{"type":"U","data":{"a":[]},"metadata":{}}]]`);
  await importAll(client, [record({ gpos: 9_000, stream: "a-1", pos: 77, time: "2199-01-01T00:00:00.123456789Z" })]);
  await command("export", client, "--output", file("one"));
  await command("import", other, "--input", file("one"));
  await command("export", other, "--output", file("two"));
  assert.equal(readFileSync(file("two"), "utf8"), readFileSync(file("one"), "utf8"));
  assert.equal((await other.call("category.get", "")).text, (await client.call("category.get", "")).text);
  const [first] = recordsIn(readFileSync(file("one"), "utf8"));
  assert.deepEqual([first!.data, first!.meta], [ODD, ODD]);
});

test("[R-export.8] --force replaces what the namespace holds", async (t) => {
  const [client, other, file] = [fresh(), fresh(), workplace(t)];
  await client.fill("a-1", 3);
  await command("export", client, "--output", file("one"));
  await other.fill("old-1", 10);
  const refused = await run(["import", "--url", other.url, "--token", other.token!, "--input", file("one")]);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /POSITION_EXISTS/);
  await command("import", other, "--input", file("one"), "--force");
  assert.equal((await other.call("category.get", "")).text, (await client.call("category.get", "")).text);
});

test("[R-export.10] failures are told", async (t) => {
  const [client, file] = [fresh(), workplace(t)];
  writeFileSync(file("bad"), `${JSON.stringify(record({ gpos: 1 }))}\nnonsense\n`);
  const failing = [
    ["export", "--url", "http://127.0.0.1:1", "--output", file("x")],
    ["export", "--url", client.url, "--output", file("no/such/directory/x")],
    ["export", "--url", "nonsense", "--output", file("x")],
    ["import", "--url", "http://127.0.0.1:1", "--input", file("bad")],
    ["import", "--url", client.url, "--input", file("missing")],
    ["import", "--url", client.url, "--token", client.token!, "--input", file("bad")],
  ];
  for (const args of failing) {
    const { code, stderr } = await run(args);
    assert.ok(code !== 0 && code !== null, args.join(" "));
    assert.notEqual(stderr.trim(), "", args.join(" "));
    assert.ok(!stderr.includes("panicked"), stderr);
  }
});

for (const fixture of ["eventodb-go-sqlite.ndjson", "eventodb-go-pg.ndjson"]) {
  test(`[R-export.9 R-import.1 R-import.2] ${fixture}, imported and exported, is the same in every field`, async (t) => {
    const client = fresh();
    const text = readFileSync(join(ROOT, "test_external/fixtures", fixture), "utf8");
    assert.equal((await outcome(client, text)).imported, 300);
    const records = await exported(t, client);
    const expected = recordsIn(text).map((each) => ({ ...each, data: dense(each.data!), meta: dense(each.meta!), time: undefined }));
    assert.deepEqual(records.map((each) => ({ ...each, time: undefined })), expected);
    const instant = (each: Record<string, string>) => Date.parse(JSON.parse(each.time!));
    assert.deepEqual(records.map(instant), recordsIn(text).map(instant));
  });
}
