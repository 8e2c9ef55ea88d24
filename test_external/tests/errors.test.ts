/** The table of error codes in docs/API.md, code by code. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { readApiDocument } from "../src/document.ts";
import type { Reply } from "../src/http.ts";
import { Member } from "../src/kept-group.ts";
import { importEvents, lines, outcome, record } from "../src/import.ts";
import { NOT_OBSERVABLE } from "../src/rules.ts";
import { sharedServer, test } from "../src/suite.ts";

const open = sharedServer();
const production = sharedServer({ mode: "production" });
const message = { type: "T", data: {} };

/** The codes that the tests of this file provoke, `DATA_DAMAGED`, which those of damage do, and those of bounds. */
const provoked = new Set(["INVALID_JSON", "POSITION_EXISTS", "BACKEND_UNAVAILABLE", "DATA_DAMAGED", "RATE_LIMITED", "OVERLOADED", "QUOTA_EXCEEDED"]);

/** A test that this request is answered with this code and status. */
function provokes(code: string, status: number, by: () => Promise<Reply>): () => Promise<void> {
  provoked.add(code);
  return async () => {
    const failure = failureOf(await by());
    assert.deepEqual([failure.code, failure.status], [code, status]);
  };
}

test("[R-error.1] a bad request", provokes("INVALID_REQUEST", 400, () => open.fresh().post("[")));

test("[R-error.1] a wrong verb", provokes("INVALID_REQUEST", 405, () => open.fresh().send({ path: "/rpc", method: "GET" })));

test("[R-error.2] no token", provokes("AUTH_REQUIRED", 401, () => production.get().client().call("ns.list")));

test("[R-error.3] no such token", provokes("AUTH_INVALID_TOKEN", 401, () => production.get().client("nonsense").call("ns.list")));

test("[R-error.4] not allowed", provokes("AUTH_UNAUTHORIZED", 403, () => production.get().client(tokenFor("nobody")).call("ns.list")));

test("[R-error.5] no such method", provokes("METHOD_NOT_FOUND", 404, () => open.fresh().call("stream.writ")));

test("[R-error.6] no such path", provokes("NOT_FOUND", 404, () => open.fresh().send({ path: "/nowhere" })));

test("[R-error.7] no such namespace", provokes("NAMESPACE_NOT_FOUND", 404, () => open.fresh().call("ns.info", unique("nobody"))));

test("[R-error.20] no such token", provokes("TOKEN_NOT_FOUND", 404, () => open.fresh().call("token.revoke", randomUUID())));

test("[R-error.8] a namespace that exists", provokes("NAMESPACE_EXISTS", 409, () => open.fresh().call("ns.create", "default")));

test("[R-error.9] another version", provokes("STREAM_VERSION_CONFLICT", 409, () => open.fresh().call("stream.write", "a-1", message, { expectedVersion: 9 })));

test("[R-error.22] a condition that does not hold", provokes("CONDITION_FAILED", 409, async () => {
  const client = open.fresh();
  await client.write("a-1");
  return client.call("streams.append", [{ stream: "b-1", messages: [message] }], { checks: [{ absent: { categories: ["a"] } }] });
}));

test("[R-error.10] another message of that id", provokes("MESSAGE_ID_CONFLICT", 409, () => writtenTwice(open.fresh())));

test("[R-error.11] a message too large", provokes("PAYLOAD_TOO_LARGE", 413, () => {
  return open.fresh().call("stream.write", "a-1", { type: "T", data: { x: "x".repeat(2 ** 20) } });
}));

const groupCodes: [string, number, (client: Client, group: string) => Promise<Reply>][] = [
  ["GROUP_NOT_FOUND", 404, (client, group) => client.call("group.status", `${group}-2`)],
  ["GROUP_EXISTS", 409, (client, group) => client.call("group.create", group, { categories: ["other"] })],
  ["GROUP_BUSY", 409, async (client, group) => {
    await Member.join(client, group);
    await client.rpc("group.resize", group, { partitions: 5 });
    return client.call("group.reset", group, { to: "end" });
  }],
  ["FENCED", 409, (client, group) => client.call("group.heartbeat", group, randomUUID())],
  ["PARK_FULL", 409, async (client, group) => {
    const member = await Member.join(client, group);
    for (const stream of [1, 2]) await client.write(`${group}-${stream}`);
    await member.park(1);
    return client.call("group.park", group, member.id, { partition: 0, epoch: member.epoch(), position: 2 });
  }],
];
for (const [code, status, by] of groupCodes) {
  test(`[R-error.1] ${code}`, provokes(code, status, async () => {
    const client = open.fresh();
    await client.rpc("group.create", "orders", { categories: ["orders"], partitions: 1, maxParked: 1 });
    return by(client, "orders");
  }));
}

test("[R-error.17] codes of import events", async () => {
  const client = open.fresh();
  assert.equal((await outcome(client, "nonsense")).error, "INVALID_JSON");
  await client.write("a-1");
  assert.equal((await outcome(client, lines([record({ gpos: 1 })]))).error, "POSITION_EXISTS");
  for (const event of await importEvents(client, "nonsense")) assert.deepEqual(Object.keys(event), ["error", "message", "line"]);
});

test("[R-error.5 R-error.6] an unknown method is not an unknown path", async () => {
  const unknown = ["", "stream", "Stream.write", "stream.write ", "stream.write\n", "stream_write", "__proto__", "constructor", "x".repeat(10_000)];
  for (const method of unknown) {
    assert.equal((await open.fresh().failure(method, "a-1", message)).code, "METHOD_NOT_FOUND", JSON.stringify(method.slice(0, 40)));
  }
  for (const [method, nearest] of [["Stream.Write", "stream.write"], ["stream_write", "stream.write"], ["ns.catgories", "ns.categories"], ["category.read", "category.get"]] as const) {
    const { message } = await open.fresh().failure(method);
    assert.ok(message.endsWith(`did you mean ${nearest}?`), message);
  }
});

test("[R-error.4] an error tells no token and nothing of the inside", async () => {
  const secret = tokenFor("nobody");
  const replies = [
    await production.get().client(secret).call("ns.list"),
    await production.get().client(`${secret}x`).call("ns.list"),
    await open.fresh().post("["),
  ];
  for (const { text } of replies) {
    assert.ok(!text.includes(secret));
    assert.doesNotMatch(text, /\.rs\b|SELECT|INSERT|panicked|\/home\/|\/tmp\//);
  }
});

test("[R-error.1] every code of the document is provoked here, or is one that no client can provoke", () => {
  const rules = [...readApiDocument().matchAll(/^- \*\*(R-error\.\d+)\*\* (.*)/gm)].map((match) => ({ id: match[1]!, text: match[2]! }));
  const codes = rules.flatMap(({ id, text }) => [...text.matchAll(/`([A-Z]+(?:_[A-Z]+)*)`/g)].map((match) => ({ id, code: match[1]! })));
  const impossible = new Set(codes.filter(({ id }) => id in NOT_OBSERVABLE).map(({ code }) => code));
  assert.deepEqual(codes.map(({ code }) => code).filter((code) => !provoked.has(code) && !impossible.has(code)), []);
  assert.deepEqual([...impossible].sort(), ["BACKEND_ERROR", "IMPORT_FAILED", "TIMEOUT"]);
});

async function writtenTwice(client: Client): Promise<Reply> {
  const id = randomUUID();
  await client.rpc("stream.write", "a-1", message, { id });
  return client.call("stream.write", "a-2", message, { id });
}
