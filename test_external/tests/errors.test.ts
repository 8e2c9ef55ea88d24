/** The table of error codes in docs/API.md, code by code. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { readApiDocument } from "../src/document.ts";
import type { Reply } from "../src/http.ts";
import { importEvents, lines, outcome, record } from "../src/import.ts";
import { NOT_OBSERVABLE } from "../src/rules.ts";
import { sharedServer, test } from "../src/suite.ts";

const open = sharedServer();
const production = sharedServer({ mode: "production" });
const message = { type: "T", data: {} };

type Provocation = { code: string; status: number; by: () => Promise<Reply> };
const PROVOCATIONS: Provocation[] = [
  { code: "INVALID_REQUEST", status: 400, by: () => open.fresh().post("[") },
  { code: "INVALID_REQUEST", status: 405, by: () => open.fresh().send({ path: "/rpc", method: "GET" }) },
  { code: "AUTH_REQUIRED", status: 401, by: () => production.get().client().call("ns.list") },
  { code: "AUTH_INVALID_TOKEN", status: 401, by: () => production.get().client("nonsense").call("ns.list") },
  { code: "AUTH_UNAUTHORIZED", status: 403, by: () => production.get().client(tokenFor("nobody")).call("ns.list") },
  { code: "METHOD_NOT_FOUND", status: 404, by: () => open.fresh().call("stream.writ") },
  { code: "NOT_FOUND", status: 404, by: () => open.fresh().send({ path: "/nowhere" }) },
  { code: "NAMESPACE_NOT_FOUND", status: 404, by: () => open.fresh().call("ns.info", unique("nobody")) },
  { code: "NAMESPACE_EXISTS", status: 409, by: () => open.fresh().call("ns.create", "default") },
  { code: "STREAM_VERSION_CONFLICT", status: 409, by: () => open.fresh().call("stream.write", "a-1", message, { expectedVersion: 9 }) },
  { code: "MESSAGE_ID_CONFLICT", status: 409, by: () => writtenTwice(open.fresh()) },
  { code: "PAYLOAD_TOO_LARGE", status: 413, by: () => open.fresh().call("stream.write", "a-1", { type: "T", data: { x: "x".repeat(2 ** 20) } }) },
];
const IMPORT_CODES = ["INVALID_JSON", "POSITION_EXISTS"];

for (const { code, status, by } of PROVOCATIONS) {
  test(`[R-error.1 R-error.2 R-error.3 R-error.4 R-error.5 R-error.6 R-error.7 R-error.8 R-error.9 R-error.10 R-error.11] ${code} is ${status}`, async () => {
    const failure = failureOf(await by());
    assert.deepEqual([failure.code, failure.status], [code, status]);
  });
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
});

test("[R-error.4] an error tells no token and nothing of the inside", async () => {
  const secret = tokenFor("nobody");
  const replies = [await production.get().client(secret).call("ns.list"), await production.get().client(`${secret}x`).call("ns.list"), await open.fresh().post("[")];
  for (const { text } of replies) {
    assert.ok(!text.includes(secret));
    assert.doesNotMatch(text, /\.rs\b|SELECT|INSERT|panicked|\/home\/|\/tmp\//);
  }
});

test("[R-error.1] every code of the document is provoked here, or is one that no client can provoke", () => {
  const rules = [...readApiDocument().matchAll(/^- \*\*(R-error\.\d+)\*\* (.*)/gm)].map((match) => ({ id: match[1]!, text: match[2]! }));
  const codes = rules.flatMap(({ id, text }) => [...text.matchAll(/`([A-Z]+(?:_[A-Z]+)+)`/g)].map((match) => ({ id, code: match[1]! })));
  const impossible = new Set(codes.filter(({ id }) => id in NOT_OBSERVABLE).map(({ code }) => code));
  const provoked = new Set([...PROVOCATIONS.map(({ code }) => code), ...IMPORT_CODES]);
  assert.deepEqual(codes.map(({ code }) => code).filter((code) => !provoked.has(code) && !impossible.has(code)), []);
  assert.deepEqual([...impossible].sort(), ["BACKEND_ERROR", "BACKEND_UNAVAILABLE", "IMPORT_FAILED", "OVERLOADED", "RATE_LIMITED", "TIMEOUT"]);
});

async function writtenTwice(client: Client): Promise<Reply> {
  const id = randomUUID();
  await client.rpc("stream.write", "a-1", message, { id });
  return client.call("stream.write", "a-2", message, { id });
}
