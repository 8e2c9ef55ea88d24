/** Sizes and depths, each at its limit and one beyond. */
import assert from "node:assert/strict";
import { assertFails, failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { run } from "../src/command.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const MIB = 2 ** 20;
const NAMES = ["a".repeat(255), `a-${"1".repeat(253)}`, `${"é".repeat(127)}x`, `a-${"🎉".repeat(63)}.`];

/** Calls that use a name as stream, type and namespace. */
function uses(client: Client, name: string): [what: string, reply: ReturnType<Client["call"]>][] {
  const message = { type: "T", data: {} };
  return [
    ["stream.write", client.call("stream.write", name, message)],
    ["type", client.call("stream.write", "a-1", { type: name, data: {} })],
    ["stream.append", client.call("stream.append", name, [message])],
    ["streams.append", client.call("streams.append", [{ stream: name, messages: [message] }])],
    ["ns.create", client.call("ns.create", name)],
  ];
}

test("[R-limit.1] names of 1 to 255 bytes", async () => {
  for (const name of NAMES) {
    assert.equal(Buffer.byteLength(name), 255);
    for (const [what, reply] of uses(fresh(), name)) assert.equal((await reply).status, 200, what);
    for (const [what, reply] of uses(fresh(), `${name}x`)) {
      assert.equal(failureOf(await reply).code, "INVALID_REQUEST", what);
    }
  }
  for (const [what, reply] of uses(fresh(), "")) assert.equal(failureOf(await reply).code, "INVALID_REQUEST", what);
  const shortest = unique("").slice(0, 1);
  assert.equal((await fresh().call("stream.write", shortest, { type: shortest, data: {} })).status, 200);
});

test("[R-limit.1] a token may name a namespace of 255 bytes", async () => {
  const client = fresh();
  const name = `é${unique("")}`.padEnd(254, "x");
  const own = client.as(tokenFor(name));
  assert.deepEqual(await own.write("a-1"), { position: 0, globalPosition: 1 });
  assert.equal((await client.rpc("ns.info", name)).messageCount, 1);
});

test("[R-limit.2] names have no control characters", async () => {
  for (const character of ["\0", "\n", "\r", "\t", "\u0001", "\u001f", "\u007f"]) {
    for (const [what, reply] of uses(fresh(), `a${character}b`)) {
      assert.equal(failureOf(await reply).code, "INVALID_REQUEST", `${what} ${JSON.stringify(character)}`);
    }
  }
});

test("[R-name.8] a name that no write accepts is refused in reads and subscriptions", async () => {
  const client = fresh();
  for (const name of [`${"a".repeat(255)}x`, "a\0b", "a\nb", "a\u007f", "\u0085"]) {
    const calls: [string, ...unknown[]][] = [
      ["stream.get", name], ["stream.last", name], ["stream.version", name], ["category.get", name], ["category.get", ["a", name]],
      ["stream.get", "a-1", { types: [name] }], ["stream.last", "a-1", { type: name }], ["category.get", "a", { correlation: name }],
      ["ns.streams", { prefix: name }], ["ns.streams", { cursor: name }], ["ns.info", name],
    ];
    for (const call of calls) await assertFails(client.failure(...call), 400, "INVALID_REQUEST");
    for (const parameter of ["stream", "category"]) {
      const reply = await client.send({ path: `/subscribe?${parameter}=${encodeURIComponent(name)}` });
      assert.equal(failureOf(reply).code, "INVALID_REQUEST", `${parameter} ${JSON.stringify(name)}`);
    }
  }
});

test("[R-limit.11] 100 categories and 100 types", async () => {
  const client = fresh();
  await client.write("n99-1", "n99");
  const names = (count: number) => Array.from({ length: count }, (_, i) => `n${i}`);
  assert.equal((await client.rpc("category.get", names(100), { types: names(100) })).length, 1);
  for (const count of [101, 90_000]) {
    await assertFails(client.failure("category.get", names(count)), 400, "INVALID_REQUEST", /at most 100/);
    await assertFails(client.failure("category.get", "", { types: names(count) }), 400, "INVALID_REQUEST", /at most 100/);
    await assertFails(client.failure("stream.get", "n99-1", { types: names(count) }), 400, "INVALID_REQUEST", /at most 100/);
  }
  const reply = await client.send({ path: `/subscribe?category=${names(101).join(",")}` });
  assert.equal(failureOf(reply).code, "INVALID_REQUEST");
});

test("[R-limit.12] a description of 1 KiB", async () => {
  const client = fresh();
  const create = (description: string) => client.call("ns.create", unique("n"), { description });
  assert.equal((await create("é".repeat(512))).status, 200);
  for (const bad of ["é".repeat(512) + "x", "a\0b"]) assert.equal(failureOf(await create(bad)).code, "INVALID_REQUEST");
});

test("[R-limit.3 R-error.11] a message of 1 MiB", async () => {
  const client = fresh();
  const sized = (bytes: number) => ({ x: "x".repeat(bytes - '{"x":""}'.length) });
  await client.rpc("stream.write", "a-1", { type: "T", data: sized(MIB) });
  await client.rpc("stream.write", "a-1", { type: "T", data: sized(MIB / 2), metadata: sized(MIB / 2) });
  const tooLarge = [
    { type: "T", data: sized(MIB + 1) },
    { type: "T", data: sized(MIB / 2), metadata: sized(MIB / 2 + 1) },
    { type: "T", data: {}, metadata: sized(MIB) },
  ];
  for (const message of tooLarge) {
    await assertFails(client.failure("stream.write", "a-1", message), 413, "PAYLOAD_TOO_LARGE");
    await assertFails(client.failure("stream.append", "a-1", [{ type: "T", data: {} }, message]), 413, "PAYLOAD_TOO_LARGE");
    await assertFails(client.failure("streams.append", [{ stream: "a-1", messages: [message] }]), 413, "PAYLOAD_TOO_LARGE");
  }
  assert.equal(await client.rpc("stream.version", "a-1"), 1);
});

test("[R-limit.4 R-error.11] a body of 16 MiB", async () => {
  const client = fresh();
  const body = '["sys.version"]';
  assert.equal((await client.post(body.padEnd(16 * MIB))).status, 200);
  for (const bytes of [16 * MIB + 1, 17 * MIB]) {
    const failure = failureOf(await client.send({ path: "/rpc", headers: { "Content-Length": bytes }, body: pieces(body, bytes) }));
    assert.deepEqual([failure.status, failure.code], [413, "PAYLOAD_TOO_LARGE"]);
  }
  const unsized = failureOf(await client.send({ path: "/rpc", body: pieces(body, 17 * MIB) }));
  assert.deepEqual([unsized.status, unsized.code], [413, "PAYLOAD_TOO_LARGE"], "without a Content-Length");
  const batch = Array.from({ length: 15 }, () => ({ type: "T", data: { x: "x".repeat(MIB - 10) } }));
  assert.equal((await client.rpc("stream.append", "a-1", batch)).lastPosition, 14);
});

test("[R-limit.4] an import may be larger", async () => {
  const client = fresh();
  const body = (async function* () {
    const piece = Buffer.alloc(MIB, "\n");
    for (let i = 0; i < 17; i++) yield piece;
  })();
  const reply = await client.send({ path: "/import", body });
  assert.match(reply.text, /"done":true,"imported":0/);
});

test("[R-limit.5] data and metadata are nested 128 deep at most", async () => {
  const client = fresh();
  const objects = (depth: number) => `${'{"a":'.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`;
  const arrays = (depth: number) => `{"a":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}}`;
  for (const nested of [objects, arrays]) {
    const write = (data: string, metadata: string) => client.post(`["stream.write","a-1",{"type":"T","data":${data},"metadata":${metadata}}]`);
    assert.equal((await write(nested(128), nested(128))).status, 200);
    assert.equal(failureOf(await write(nested(129), "{}")).code, "INVALID_REQUEST");
    assert.equal(failureOf(await write("{}", nested(129))).code, "INVALID_REQUEST");
    assert.equal((await client.post(`["streams.append",[{"stream":"a-1","messages":[{"type":"T","data":${nested(128)}}]}]]`)).status, 200);
    assert.equal(failureOf(await client.post(`["stream.append","a-1",[{"type":"T","data":${nested(129)}}]]`)).code, "INVALID_REQUEST");
  }
  assert.equal(await client.rpc("stream.version", "a-1"), 3);
});

test("[R-limit.6] the limits are among the flags", async () => {
  const { stdout } = await run(["serve", "--help"]);
  const flags = [...stdout.matchAll(/--[a-z-]+/g)].map(([flag]) => flag);
  for (const limit of [/name/, /message/, /body/, /depth/]) {
    assert.ok(flags.some((flag) => limit.test(flag)), `${limit} among ${flags.join(" ")}`);
  }
});

/** The text and then spaces, in pieces, up to this size. */
async function* pieces(text: string, bytes: number): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
  for (let left = bytes - text.length; left > 0; left -= 65_536) yield Buffer.alloc(Math.min(left, 65_536), " ");
}
