/** Tokens in production mode. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { OutgoingHttpHeaders } from "node:http";
import { assertFails, failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, test } from "../src/suite.ts";

// These tests show more wrong tokens than the default bound lets a client try.
const { get } = sharedServer({ mode: "production", flags: ["--max-wrong-tokens", "0"] });
const admin = () => get().client(get().madeToken);
const anonymous = () => get().client();

/** A namespace of its own, and a client with its token. */
async function tenant(): Promise<{ name: string; client: Client }> {
  const name = unique("tenant-");
  return { name, client: get().client((await admin().rpc("ns.create", name)).token) };
}

/** The error of a call with these headers, by /rpc, /subscribe and /import alike. */
async function refusal(headers: OutgoingHttpHeaders, query = ""): Promise<[number, string]> {
  const failures = await Promise.all([
    anonymous().send({ path: `/rpc?${query}`, headers, body: '["stream.version","a-1"]' }),
    anonymous().send({ path: `/subscribe?all=true&${query}`, headers }),
    anonymous().send({ path: `/import?${query}`, headers, body: "" }),
  ]);
  const [first, ...others] = failures.map(failureOf).map(({ status, code }) => [status, code] as [number, string]);
  for (const other of others) assert.deepEqual(other, first);
  return first!;
}

test("[R-token.1 R-token.2] a token in the header or in the query", async (t) => {
  const { client } = await tenant();
  await client.write("a-1");
  const byQuery = await anonymous().send({ path: `/rpc?token=${client.token}`, body: '["stream.version","a-1"]' });
  assert.equal(byQuery.text, "0");
  const subscription = await subscribe(t, anonymous(), { all: "true", position: 1, token: client.token! });
  assert.equal((await subscription.history()).length, 1);
  const imported = await anonymous().send({ path: `/import?token=${client.token}`, body: "" });
  assert.match(imported.text, /"done":true/);
});

test("[R-token.3] a non-empty token in the query wins", async () => {
  const [one, two] = [await tenant(), await tenant()];
  await one.client.write("a-1");
  const version = (query: string) => one.client.send({ path: `/rpc?token=${query}`, body: '["stream.version","a-1"]' });
  assert.equal((await version(two.client.token!)).text, "null");
  assert.equal((await version("")).text, "0");
  assert.equal(failureOf(await version("nonsense")).code, "AUTH_INVALID_TOKEN");
});

test("[R-token.4 R-auth.8] what needs no token does not look at one", async () => {
  for (const Authorization of ["", "Bearer", "Bearer nonsense", "Basic eDp5", `Bearer ${tokenFor("nobody")}`]) {
    const headers = Authorization === "" ? {} : { Authorization };
    for (const method of ["sys.version", "sys.health"]) {
      assert.equal((await anonymous().send({ path: "/rpc", headers, body: `["${method}"]` })).status, 200, method);
      assert.equal((await anonymous().send({ path: "/rpc?token=nonsense", headers, body: `["${method}"]` })).status, 200, method);
    }
    for (const path of ["/health", "/version"]) assert.equal((await anonymous().send({ path, headers })).status, 200, path);
  }
});

test("[R-token.5 R-token.6] a namespace whose base64url has an underline", async () => {
  const name = `???${unique("")}`;
  const { token } = await admin().rpc("ns.create", name);
  assert.match(token, /^ns_Pz8_[A-Za-z0-9_-]+_[0-9a-f]{64}$/);
  assert.deepEqual(await get().client(token).write("a-1"), { position: 0, globalPosition: 1 });
  assert.equal((await get().client(token).rpc("ns.info", name)).namespace, name);
});

test("[R-token.7] any hex digits are valid, and their case matters", async () => {
  const name = unique("case");
  const digits = `${randomBytes(30).toString("hex").toUpperCase()}aBcD`;
  const { token } = await admin().rpc("ns.create", name, { token: tokenFor(name, digits) });
  await get().client(token).write("a-1");
  for (const other of [digits.toLowerCase(), digits.toUpperCase()]) {
    await assertFails(get().client(tokenFor(name, other)).failure("stream.version", "a-1"), 403, "AUTH_UNAUTHORIZED");
  }
});

test("[R-auth.1 R-auth.2 R-error.2] no token, or none after Bearer", async () => {
  for (const headers of [{}, { Authorization: "Bearer" }, { Authorization: "Bearer " }]) {
    assert.deepEqual(await refusal(headers), [401, "AUTH_REQUIRED"], JSON.stringify(headers));
    assert.deepEqual(await refusal(headers, "token="), [401, "AUTH_REQUIRED"], JSON.stringify(headers));
  }
});

test("[R-auth.3 R-token.5 R-error.3] what is not of a token's form", async () => {
  const digits = "0".repeat(64);
  const name = Buffer.from("default").toString("base64url");
  const malformed = [
    "nonsense", "ns_", `ns_${name}`, `ns_${name}_`, `ns_${name}_${digits.slice(1)}`, `ns_${name}_${digits}0`, `ns_${name}_${digits.slice(1)}g`,
    `NS_${name}_${digits}`, `ns-${name}-${digits}`, `ns_!_${digits}`, `ns_${name}=_${digits}`, `${name}_${digits}`,
  ];
  for (const token of malformed) {
    assert.deepEqual(await refusal({ Authorization: `Bearer ${token}` }), [401, "AUTH_INVALID_TOKEN"], token);
    assert.deepEqual(await refusal({}, `token=${encodeURIComponent(token)}`), [401, "AUTH_INVALID_TOKEN"], token);
  }
});

test("[R-auth.4] another scheme than Bearer", async () => {
  for (const Authorization of ["Basic eDp5", `Token ${get().madeToken}`, get().madeToken, "Digest x"]) {
    assert.deepEqual(await refusal({ Authorization }), [401, "AUTH_INVALID_TOKEN"], Authorization);
  }
});

test("[R-auth.5 R-auth.6 R-error.4] an unknown namespace and a wrong token get the same answer", async () => {
  const { name } = await tenant();
  const body = '["stream.version","a-1"]';
  const [unknown, wrong] = await Promise.all([tokenFor(unique("nobody")), tokenFor(name)].map((token) => get().client(token).post(body)));
  assert.deepEqual([unknown!.status, failureOf(unknown!).code], [403, "AUTH_UNAUTHORIZED"]);
  assert.equal(unknown!.text, wrong!.text);
  const { date: _one, "x-request-id": _first, ...ofUnknown } = unknown!.headers;
  const { date: _two, "x-request-id": _second, ...ofWrong } = wrong!.headers;
  assert.deepEqual(ofUnknown, ofWrong);
  assert.deepEqual(await refusal({ Authorization: `Bearer ${tokenFor(name)}` }), [403, "AUTH_UNAUTHORIZED"]);
});

test("[R-auth.9] ns.create and ns.list are the administrator's", async () => {
  const { client } = await tenant();
  await assertFails(client.failure("ns.create", unique("n")), 403, "AUTH_UNAUTHORIZED");
  await assertFails(client.failure("ns.list"), 403, "AUTH_UNAUTHORIZED");
  assert.ok((await admin().rpc<unknown[]>("ns.list")).length >= 2);
});

test("[R-auth.10] ns.info and ns.delete of another namespace too", async () => {
  const [one, two] = [await tenant(), await tenant()];
  for (const method of ["ns.info", "ns.delete"]) {
    for (const other of [two.name, "default", unique("nobody")]) {
      await assertFails(one.client.failure(method, other), 403, "AUTH_UNAUTHORIZED");
    }
  }
  assert.equal((await admin().rpc("ns.info", two.name)).namespace, two.name);
  assert.equal((await admin().rpc("ns.delete", two.name)).namespace, two.name);
  await assertFails(admin().failure("ns.info", two.name), 404, "NAMESPACE_NOT_FOUND");
  await assertFails(admin().failure("ns.delete", two.name), 404, "NAMESPACE_NOT_FOUND");
});

test("[R-auth.11] one's own namespace needs one's own token only", async () => {
  const { name, client } = await tenant();
  await client.write("a-1");
  assert.equal((await client.rpc("ns.info", name)).messageCount, 1);
  assert.deepEqual((await client.rpc<any[]>("ns.streams")).map((each) => each.stream), ["a-1"]);
  assert.deepEqual(await client.rpc("ns.categories"), [{ category: "a", streamCount: 1, messageCount: 1 }]);
  assert.equal((await client.rpc("ns.delete", name)).messagesDeleted, 1);
  await assertFails(client.failure("stream.version", "a-1"), 403, "AUTH_UNAUTHORIZED");
});

test("[R-auth.12] default cannot be deleted", async () => {
  await assertFails(admin().failure("ns.delete", "default"), 400, "INVALID_REQUEST");
  await admin().write("a-1");
});

test("[R-auth.5 R-ns.12] an old token does not reach a later namespace of the same name", async () => {
  const { name, client } = await tenant();
  await client.write("a-1");
  await admin().rpc("ns.delete", name);
  await admin().rpc("ns.create", name);
  await assertFails(client.failure("stream.get", "a-1"), 403, "AUTH_UNAUTHORIZED");
});

test("[R-auth.5] namespaces do not see each other", async (t) => {
  const [one, two] = [await tenant(), await tenant()];
  const subscription = await subscribe(t, two.client, { all: "true", position: 1 });
  await one.client.write("a-1");
  await two.client.write("b-1");
  assert.deepEqual((await subscription.pokes(1)).map((poke) => poke.stream), ["b-1"]);
  assert.deepEqual(await two.client.rpc("stream.get", "a-1"), []);
  assert.deepEqual((await two.client.rpc<any[]>("category.get", "")).map((each) => each[1]), ["b-1"]);
});

test("[R-auth.13] a token is judged before the arguments", async () => {
  for (const [body, wrong, right] of [
    ['["stream.get",', 403, 400], ['["stream.get",7]', 403, 400], ['["stream\\u002eget",7]', 403, 400],
    ['["no.such.method"]', 404, 404], ["{}", 400, 400],
  ] as const) {
    const statuses = await Promise.all([tokenFor("nobody"), get().madeToken].map(async (token) => (await get().client(token).post(body)).status));
    assert.deepEqual(statuses, [wrong, right], body);
  }
});

test("[R-limit.13] a large body without a valid token is refused before it is read", async () => {
  const body = `["sys.version"]${" ".repeat(5000)}`;
  assert.equal(failureOf(await anonymous().send({ path: "/rpc", body })).code, "AUTH_REQUIRED");
  const headers = { Authorization: `Bearer ${tokenFor("nobody")}` };
  assert.equal(failureOf(await anonymous().send({ path: "/rpc", headers, body })).code, "AUTH_UNAUTHORIZED");
  assert.equal((await admin().send({ path: "/rpc", headers: { Authorization: `Bearer ${get().madeToken}` }, body })).status, 200);
});
