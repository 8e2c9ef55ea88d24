/** Bodies that are no calls: each gets the documented answer, and others are served meanwhile. Wrong types are in arguments.test.ts. */
import assert from "node:assert/strict";
import { failureOf, type Client } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const latin1 = (text: string) => Buffer.from(text, "latin1");
const deep = (open: string, close: string, depth: number, inner = "") => open.repeat(depth) + inner + close.repeat(depth);

const NOT_CALLS: (string | Uint8Array)[] = [
  "", " ", "\n", "[", "]", "{}", "null", "true", "1", '"sys.version"', "[]", "[ ]", "[null]", "[1]", "[true]", "[{}]", '[["sys.version"]]',
  '{"method":"sys.version"}', '{"jsonrpc":"2.0","method":"sys.version","id":1}', "sys.version", "method=sys.version", "<xml/>",
];

const NOT_JSON: (string | Uint8Array)[] = [
  '["sys.version"', '["sys.version"]]', '["sys.version"] x', '["sys.version"]["sys.version"]', '["sys.version"]\0', '["sys.version",]',
  '[,"sys.version"]', "['sys.version']", '["sys.version" "x"]', '["sys.version"],', '// call\n["sys.version"]', '["sys.version"/**/]',
  '\ufeff["sys.version"]', '["sys.version",undefined]', '["sys.version",NaN]', '["sys.version",Infinity]', '["sys.version",tru]',
  '["sys.version",nul]', '["sys.version",TRUE]', '["sys.version",01]', '["sys.version",+1]', '["sys.version",.5]', '["sys.version",1.]',
  '["sys.version",1e]', '["sys.version",1e+]', '["sys.version",-]', '["sys.version",0x10]', '["sys.version",1_000]', '["sys.version",--1]',
  '["sys.version","unclosed]', '["sys.version","a\tb"]', '["sys.version","a\nb"]', '["sys.version","a\0b"]', '["sys.version","\\x41"]',
  '["sys.version","\\u12"]', '["sys.version","\\u12g4"]', '["sys.version","\\U0041"]', '["sys.version","\\"]', '["sys.version",{a:1}]',
  '["sys.version",{"a" 1}]', '["sys.version",{"a":}]', '["sys.version",{"a":1,}]', '["sys.version",{"a":1 "b":2}]', '["sys.version",{1:2}]',
  '["sys.version",{"a":1]', '["sys.version",[1}]', '["sys.version",{"a"}]', '["sys.version",{,}]',
];

const NOT_UTF8: Uint8Array[] = [
  latin1('["sys.version\xff"]'), latin1('["sys.version","\xc3"]'), latin1('["sys.version","\xc0\x80"]'), latin1('["sys.version","\xed\xa0\x80"]'),
  latin1('["sys.version","\xf8\x88\x80\x80\x80"]'), latin1('["sys.version","\xf4\x90\x80\x80"]'), latin1('["sys.version",{"\xfe":1}]'),
  latin1('["stream.write","a-\xe9",{"type":"T","data":{}}]'), latin1('["stream.write","a-1",{"type":"T","data":{"x":"\xe9"}}]'),
  latin1('["sys.version"]\xff'), Buffer.from('["sys.version"]', "utf16le"), latin1("\x1f\x8b\x08\x00\x00\x00\x00\x00"), Buffer.alloc(1000, 0xff),
];

const TOO_DEEP: string[] = [10_000, 100_000].flatMap((depth) => [
  deep("[", "]", depth), `["stream.get",${deep("[", "]", depth)}]`, `["category.get","a",{"consumerGroup":${deep("[", "]", depth)}}]`,
  `["stream.write","a-1",{"type":"T","data":{"x":${deep("[", "]", depth)}}}]`,
  `["stream.write","a-1",{"type":"T","data":${deep('{"a":', "}", depth, "{}")}}]`,
  `["stream.write","a-1",{"type":"T","data":{},"metadata":${deep('{"a":[', "]}", depth)}}]`,
  `["ns.create","n",{"metadata":${deep('{"a":', "}", depth, "{}")}}]`, "[".repeat(depth), '{"a":'.repeat(depth), '[{"a":'.repeat(depth),
]);

const BAD_VALUES = ['{"a":01}', '{"a":1e}', '{"a":"\x01"}', '{"a":tru}', "{'a':1}", '{"a" 1}', '{"a":1,}', "{a:1}", '{"a":"\\q"}', '{"a":1}}', '{"a":[1,]}', '{"a":-}', "{", '{"a":1'];

const TABLE: Record<string, (string | Uint8Array)[]> = {
  "no calls": NOT_CALLS,
  "no JSON": NOT_JSON,
  "no UTF-8": NOT_UTF8,
  "far too deep": TOO_DEEP,
  "no JSON in data": BAD_VALUES.map((value) => `["stream.write","a-1",{"type":"T","data":${value}}]`),
  "no JSON in metadata": BAD_VALUES.map((value) => `["stream.append","a-1",[{"type":"T","data":{},"metadata":${value}}]]`),
};

for (const [what, bodies] of Object.entries(TABLE)) {
  test(`[R-http.1 R-http.3 R-error.1 R-limit.5] ${bodies.length} bodies that are ${what}`, async () => {
    const [client, other] = [fresh(), fresh()];
    for (const [i, body] of bodies.entries()) {
      const failure = failureOf(await client.post(body));
      assert.deepEqual([failure.status, failure.code], [400, "INVALID_REQUEST"], `${show(body)}: ${failure.message}`);
      assert.ok(failure.message.length < 1000, "a message does not repeat a large body");
      await serves(other, i);
    }
    assert.deepEqual(await client.rpc("category.get", ""), [], "nothing was written");
  });
}

test("[R-http.1] what looks odd and is a call", async () => {
  const client = fresh();
  const odd = ['\r\n\t [ "sys.version" ] \n', '["sys\\u002eversion"]', '["\\u0073ys.version",1e999,-0.0,{"a":1,"a":2},"\\ud800"]', `["sys.version"${",null".repeat(1000)}]`];
  for (const body of odd) assert.equal((await client.post(body)).status, 200, show(body));
});

test("[R-error.1] depth where nobody looks is refused or ignored, and survived", async () => {
  for (const depth of [1000, 10_000, 1_000_000]) {
    const bodies = [`["sys.version",${deep("[", "]", depth)}]`, `["stream.get","a-1",{"unknown":${deep("[", "]", depth)}}]`];
    for (const body of bodies) {
      const reply = await fresh().post(body);
      assert.ok(reply.status === 200 || failureOf(reply).code === "INVALID_REQUEST", `${depth}: ${reply.text.slice(0, 200)}`);
    }
  }
});

test("[R-error.1] bad calls beside good ones, all at the same time", async () => {
  const client = fresh();
  const bad = [...NOT_CALLS, ...NOT_JSON, ...NOT_UTF8, ...TOO_DEEP].map((body) => client.post(body));
  const good = Array.from({ length: 200 }, (_, i) => client.write(`a-${i % 7}`));
  assert.ok((await Promise.all(bad)).every((reply) => reply.status === 400));
  assert.deepEqual((await Promise.all(good)).map((each) => each.globalPosition).sort((a, b) => a - b), good.map((_, i) => i + 1));
});

/** The server still writes and reads for others. */
async function serves(other: Client, position: number): Promise<void> {
  assert.equal((await other.write("witness-1")).position, position);
}

function show(body: string | Uint8Array): string {
  return JSON.stringify(Buffer.from(body).toString("latin1").slice(0, 80));
}
