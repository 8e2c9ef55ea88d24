/** data and metadata come back as they were sent, character by character. */
import assert from "node:assert/strict";
import type { Client } from "../src/client.ts";
import { dense, elements } from "../src/json.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();

/** Writes this text as data and as metadata, and returns both as every read gives them. */
async function roundTrips(client: Client, text: string): Promise<string[]> {
  const written = await client.post(`["stream.write","a-1",{"type":"T","data":${text},"metadata":${text}}]`);
  assert.equal(written.status, 200, `${text}: ${written.text}`);
  const [last, stream, category] = await Promise.all([
    client.call("stream.last", "a-1"),
    client.call("stream.get", "a-1", { direction: "backward", batchSize: 1 }),
    client.call("category.get", "a", { direction: "backward", batchSize: 1 }),
  ]);
  const ofLast = elements(last.text);
  const ofStream = elements(elements(stream.text)[0]!);
  const ofCategory = elements(elements(category.text)[0]!);
  return [ofLast[4]!, ofLast[5]!, ofStream[4]!, ofStream[5]!, ofCategory[5]!, ofCategory[6]!];
}

async function assertKept(texts: string[]): Promise<void> {
  const client = fresh();
  for (const text of texts) assert.deepEqual((await roundTrips(client, text)).map(dense), Array(6).fill(dense(text)));
}

test("[R-message.10] numbers keep their digits", async () => {
  const numbers = [
    "9007199254740993", "12345678901234567890123", "-12345678901234567890123", "1e400", "-1e400", "1E+2", "1e-999", "-0", "0",
    "-0.0", "1.10", "1.0", "0.1e1", "0.30000000000000004", "1.000000000000000000000000000001", "123456789.25", "5e-324",
    "9223372036854775808", "18446744073709551616", `1${"0".repeat(500)}`, `0.${"3".repeat(500)}`,
  ];
  await assertKept(numbers.map((number) => `{"n":${number},"list":[${number},[${number}]]}`));
});

test("[R-message.11] strings keep their escapes", async () => {
  const strings = [
    "\\u0041", "A", "\\/", "/", "\\u0000", "\\u001f", "\\ud800", "\\udc00", "\\udc00\\ud800", "\\ud83c\\udf89", "🎉", "\\u00FC",
    "\\u00fc", "ü", "\\u003cscript\\u003e", "<script>&amp;", "\\b\\f\\n\\r\\t\\\"\\\\", "\\\\u0041", "\u007f", "\u0080", "\u2028\u2029",
    "\\u2028", "\ufeff", "\ufffd", "e\u0301", "  spaces  ", "", "{\\\"a\\\": [1, 2]}", "\u{10ffff}", "//", "/* no comment */",
  ];
  await assertKept(strings.map((string) => `{"s":"${string}","${string}":["${string}"]}`));
});

test("[R-message.12] keys keep their order, and duplicates stay", async () => {
  await assertKept([
    '{"b":1,"a":2,"10":3,"9":4,"":5}',
    '{"a":1,"a":2,"a":3}',
    '{"a":{"x":1,"x":2},"a":{"x":3}}',
    '{"a":1,"\\u0061":2}',
    '{"__proto__":1,"constructor":2,"__proto__":3}',
    '{"type":"x","data":{},"metadata":null,"id":"y"}',
  ]);
});

test("[R-message.13] nothing but white space between tokens may go", async () => {
  const spaced = '{ "a" :\t[ 1 ,\n\r\n {"b" : " two  words "} , { } , [ ] ] , "c\\n d" : null }';
  await assertKept([spaced, ` ${spaced}\n`, "{}", "{ }", '{"deep":[[[[[[{"x":[{}]}]]]]]]}', '{"a":true,"b":false,"c":null}']);
});

test("[R-message.10 R-message.11 R-message.12] what was appended in a batch is kept as well", async () => {
  const client = fresh();
  const text = '{"n":1e400,"n":-0,"s":"\\u0041\\ud800\\/"}';
  const message = `{"metadata":${text},"type":"T","data":${text}}`;
  assert.equal((await client.post(`["stream.append","a-1",[${message},${message}]]`)).status, 200);
  assert.equal((await client.post(`["streams.append",[{"messages":[${message}],"stream":"a-1"}]]`)).status, 200);
  const found = elements((await client.call("stream.get", "a-1")).text).map(elements);
  assert.deepEqual(found.map((each) => [each[4], each[5]]), Array(3).fill([text, text]));
});

test("[R-message.11] a large message is kept whole", async () => {
  await assertKept([`{"s":"${"\\u00e9é\\n".repeat(50_000)}"}`, `{"list":[${Array(60_000).fill("-0").join(",")}]}`]);
});

test("[R-category.6 R-message.11] correlation is found behind escapes and duplicate keys", async () => {
  const client = fresh();
  const write = (metadata: string) => client.post(`["stream.write","a-1",{"type":"T","data":{},"metadata":${metadata}}]`);
  await write('{"correlationStreamName":"\\u006frder-1"}');
  await write('{"x":{"correlationStreamName":"order-1"}}');
  await write('{"correlation\\u0053treamName":"order-1"}');
  const found = await client.rpc<unknown[][]>("category.get", "a", { correlation: "order" });
  assert.deepEqual(found.map((message) => message[4]), [1, 3]);
});
