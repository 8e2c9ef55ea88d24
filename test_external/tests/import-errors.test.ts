/** Imports that fail: which error, at which line, and what is kept. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type CategoryMessage } from "../src/client.ts";
import { importAll, importEvents, lines, outcome, record } from "../src/import.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const good = (gpos: number, more = {}) => record({ gpos, ...more });
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** The outcome of an import that must fail with this code, and with this line. */
async function fails(client: ReturnType<typeof fresh>, records: (object | string)[], code: string, line: number): Promise<void> {
  const last = await outcome(client, lines(records));
  const what = JSON.stringify(records.at(-1)).slice(0, 300);
  assert.deepEqual([last.error, last.line], [code, line], `${what}: ${JSON.stringify(last)}`);
  assert.ok(typeof last.message === "string" && last.message !== "");
}

test("[R-import.14 R-error.17] a gpos that is not above the head", async () => {
  const client = fresh();
  await client.fill("a-x", 5);
  for (const gpos of [1, 4, 5]) await fails(client, [good(gpos)], "POSITION_EXISTS", 1);
  await importAll(client, [good(6)]);
});

test("[R-import.15] a pos that is not above its stream's last", async () => {
  const client = fresh();
  await client.fill("a-1", 3);
  for (const pos of [0, 1, 2]) await fails(client, [good(10, { stream: "a-1", pos })], "POSITION_EXISTS", 1);
  await fails(client, [good(10, { stream: "b-1", pos: 4 }), good(11), good(12, { stream: "b-1", pos: 4 })], "POSITION_EXISTS", 3);
  await fails(client, [good(10, { stream: "b-1", pos: 4 }), good(11, { stream: "b-1", pos: 3 })], "POSITION_EXISTS", 2);
  await importAll(client, [good(10, { stream: "a-1", pos: 3 })]);
});

test("[R-import.16] an id that exists", async () => {
  const client = fresh();
  const id = randomUUID();
  await client.rpc("stream.write", "x-1", { type: "T", data: {} }, { id });
  await fails(client, [good(2), good(3, { id })], "POSITION_EXISTS", 2);
  await fails(client, [good(2), good(3, { id: id.toUpperCase() })], "POSITION_EXISTS", 2);
  const twice = randomUUID();
  await fails(client, [good(2, { id: twice }), good(3), good(4, { id: twice })], "POSITION_EXISTS", 3);
});

test("[R-import.17 R-error.17] a missing field or one of a wrong type", async () => {
  const client = fresh();
  const wrong: Record<string, unknown[]> = {
    id: [1, null, {}], stream: [1, null, []], type: [1, null], pos: ["0", null, 1.5, {}], gpos: ["1", null, 1.5, true],
    data: [null, "x", 1, []], meta: ["x", 1, []], time: [1, null, "", "yesterday", "2026-13-01T00:00:00Z"],
  };
  for (const [name, values] of Object.entries(wrong)) {
    const { [name as "id"]: _, ...without } = good(1);
    if (name !== "meta") await fails(client, [without], "INVALID_JSON", 1);
    for (const value of values) await fails(client, [{ ...good(1), [name]: value }], "INVALID_JSON", 1);
  }
  assert.deepEqual(await client.rpc("category.get", ""), []);
});

test("[R-import.27] a position above 2^53-1", async () => {
  const client = fresh();
  for (const name of ["pos", "gpos"]) {
    for (const number of ["9007199254740992", "9223372036854775807", "18446744073709551616"]) {
      const line = lines([good(1)]).trim().replace(new RegExp(`"${name}":\\d+`), `"${name}":${number}`);
      const last = await outcome(client, line);
      assert.deepEqual([last.error, last.line], ["INVALID_JSON", 1], line);
      assert.match(last.message ?? "", new RegExp(`^${name} .*9007199254740991`));
    }
  }
  assert.deepEqual(await client.rpc("category.get", ""), []);
});

test("[R-import.18 R-import.3] a descending or non-positive gpos", async () => {
  const client = fresh();
  await fails(client, [good(5), good(7), good(6)], "INVALID_JSON", 3);
  for (const gpos of [0, -1]) await fails(client, [good(gpos)], "INVALID_JSON", 1);
});

test("[R-import.19] a negative pos", async () => {
  for (const pos of [-1, -100]) await fails(fresh(), [good(1, { pos })], "INVALID_JSON", 1);
});

test("[R-import.20 R-import.13] lines that are no records", async () => {
  const client = fresh();
  const bad: (object | string)[] = [
    "{", "nonsense", "[]", "1", "null", '"x"', `${JSON.stringify(good(3))}}`, `${JSON.stringify(good(3))} ${JSON.stringify(good(4))}`,
    good(3, { id: "x" }), good(3, { id: "6f9619ff8b86d011b42d00c04fc964ff" }), good(3, { stream: "" }), good(3, { type: "" }),
    good(3, { stream: "a\nb" }), good(3, { type: "x".repeat(256) }), good(3, { time: "2026-02-30T00:00:00Z" }),
    JSON.stringify(good(3)).replace('"gpos":3', '"gpos":9223372036854775808'), JSON.stringify(good(3)).replace('"gpos":3', '"gpos":3e0'),
    JSON.stringify(good(3)).replace('"stream":"a', '"stream":"\\ud800a'),
    JSON.stringify(good(3)).replace('"data":{', `"data":{"deep":${"[".repeat(10_000)}${"]".repeat(10_000)},`),
  ];
  for (const line of bad) await fails(client, [good(1), "", good(2), line], "INVALID_JSON", 4);
  const broken = Buffer.concat([Buffer.from(lines([good(1)])), Buffer.from('{"id":"\xff"}\n', "latin1")]);
  const last = await outcome(client, broken);
  assert.deepEqual([last.error, last.line], ["INVALID_JSON", 2], "broken UTF-8");
  assert.deepEqual(await client.rpc("category.get", ""), []);
});

test("[R-import.9 R-import.13] a batch is kept whole or not at all, and the batches before it stay", async () => {
  const client = fresh();
  const records: (object | string)[] = range(1, 2600).map((gpos) => good(gpos));
  records[2400] = "nonsense";
  const events = await importEvents(client, lines(records));
  const last = events.pop()!;
  assert.deepEqual([last.error, last.line], ["INVALID_JSON", 2401]);
  for (const event of events) assert.ok([1000, 2000].includes(event.imported!), JSON.stringify(event));
  const found = await client.rpc<CategoryMessage[]>("category.get", "", { batchSize: -1 });
  assert.deepEqual(found.map((message) => message[4]), range(1, 2000));
  await importAll(client, range(2001, 2010).map((gpos) => good(gpos)));
});

test("[R-import.13 R-import.14] importing the same twice changes nothing", async () => {
  const client = fresh();
  const records = range(1, 50).map((gpos) => good(gpos));
  await importAll(client, records);
  const before = (await client.call("category.get", "")).text;
  await fails(client, records, "POSITION_EXISTS", 1);
  assert.equal((await client.call("category.get", "")).text, before);
});

test("[R-import.13] a failed import leaves its ids and positions free", async () => {
  const client = fresh();
  const records = range(1, 3).map((gpos) => good(gpos));
  await fails(client, [...records, "x"], "INVALID_JSON", 4);
  await importAll(client, records);
});
