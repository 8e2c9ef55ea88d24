/** Who may do what: the table of docs/API.md, every call with every kind of token. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { readApiDocument } from "../src/document.ts";
import type { Reply } from "../src/http.ts";
import { lines, outcome, record } from "../src/import.ts";
import { METHODS } from "../src/methods.ts";
import { replyTo, subscribe, type Query } from "../src/sse.ts";
import { sharedServer, test, type Context } from "../src/suite.ts";
import { until, within } from "../src/wait.ts";

// These tests show more wrong tokens than the default bound lets a client try.
const { get } = sharedServer({ mode: "production", flags: ["--max-wrong-tokens", "0"] });
const administrator = () => get().client(get().madeToken);

type Right = "read" | "write" | "consume" | "admin";
type Row = { call: string; needs: string; limited: string };
/** Which category a call touches: one that a limited token is limited to, another, or both. */
type Touch = "own" | "other" | "both";
/** A namespace for one kind of token. Its administrator sets up what a call needs. */
type Tenant = { name: string; admin: Client };
type Kind = {
  name: string;
  /** The answer to every call that needs a token, where the token opens nothing. */
  refused?: [status: number, code: string];
  rights: Right[];
  categories?: string[];
  /** Whether the token is the administrator's, or of another namespace than the one that calls name. */
  of?: "default" | "another namespace";
  token: (tenant: Tenant) => Promise<string | undefined>;
};

const EVERY: Right[] = ["read", "write", "consume", "admin"];
const UNAUTHORIZED: [number, string] = [403, "AUTH_UNAUTHORIZED"];
const message = { type: "T", data: {} };

const made = (options: object) => async ({ admin }: Tenant) => (await admin.rpc("token.create", options)).token;
const kindWith = (rights: Right[], categories?: string[]): Kind => ({
  name: `${rights.join(", ")}${categories ? ` in ${categories}` : ""}`, rights, ...(categories && { categories }), token: made({ rights, categories }),
});

const KINDS: Kind[] = [
  { name: "none", refused: [401, "AUTH_REQUIRED"], rights: [], token: async () => undefined },
  { name: "malformed", refused: [401, "AUTH_INVALID_TOKEN"], rights: [], token: async () => "nonsense" },
  { name: "of an unknown namespace", refused: UNAUTHORIZED, rights: [], token: async () => tokenFor(unique("nobody")) },
  { name: "unknown", refused: UNAUTHORIZED, rights: [], token: async ({ name }) => tokenFor(name) },
  { name: "another namespace's", of: "another namespace", rights: EVERY, token: async () => (await newTenant()).admin.token },
  kindWith(["read"]),
  kindWith(["write"]),
  kindWith(["consume"]),
  kindWith(["admin"]),
  kindWith(["read", "write"]),
  kindWith(["read"], ["account"]),
  kindWith(["write"], ["account"]),
  kindWith(["read", "write", "consume"], ["acc*", "unused"]),
  { name: "expired", refused: UNAUTHORIZED, rights: EVERY, token: expired },
  { name: "revoked", refused: UNAUTHORIZED, rights: EVERY, token: revoked },
  { name: "rotated, within the grace", rights: EVERY, token: (tenant) => rotated(tenant, 600_000) },
  { name: "rotated, after the grace", refused: UNAUTHORIZED, rights: EVERY, token: async (tenant) => ended(tenant, await rotated(tenant, 1)) },
  kindWith(EVERY),
  { name: "of default, without admin", of: "another namespace", rights: ["read", "write", "consume"], token: ofDefault },
  { name: "the administrator's", of: "default", rights: EVERY, token: async () => get().madeToken },
];

/** How each call is made, and what it touches. Names of the namespace are the tenant's. */
const CALLS: Record<string, (client: Client, touch: Touch, tenant: Tenant) => Promise<Reply>> = {
  "stream.write": (client, touch) => client.call("stream.write", stream(touch), message),
  "stream.append": (client, touch) => client.call("stream.append", stream(touch), [message]),
  "streams.append": (client, touch) => client.call("streams.append", streams(touch).map((each) => ({ stream: each, messages: [message] }))),
  "stream.get": (client, touch) => client.call("stream.get", stream(touch)),
  "stream.last": (client, touch) => client.call("stream.last", stream(touch)),
  "stream.version": (client, touch) => client.call("stream.version", stream(touch)),
  "category.get": (client, touch) => client.call("category.get", touch === "both" ? ["account", "secret"] : category(touch)),
  "message.get": (client) => client.call("message.get", randomUUID()),
  "/subscribe": (client, touch) => replyTo(client, { category: touch === "both" ? "account,secret" : category(touch) }),
  "/import": (client) => client.send({ path: "/import", body: "" }),
  "/import?force=true": (client) => client.send({ path: "/import?force=true&groups=drop", body: "" }),
  "ns.streams": (client) => client.call("ns.streams"),
  "ns.categories": (client) => client.call("ns.categories"),
  "ns.info": (client, _touch, { name }) => client.call("ns.info", name),
  "ns.update": (client, _touch, { name }) => client.call("ns.update", name, { description: "changed" }),
  "ns.create": (client) => client.call("ns.create", unique("made-")),
  "ns.list": (client) => client.call("ns.list"),
  "ns.delete": (client, _touch, { name }) => client.call("ns.delete", name),
  "token.create": (client) => client.call("token.create", { rights: ["read"], expiresAt: "2100-01-01T00:00:00Z" }),
  "token.list": (client) => client.call("token.list"),
  "token.revoke": async (client, _touch, tenant) => client.call("token.revoke", await victim(tenant)),
  "token.rotate": async (client, _touch, tenant) => client.call("token.rotate", await victim(tenant), { graceMs: 0 }),
  "group.create": (client, touch) => client.call("group.create", unique("group-"), { categories: categoriesOf(touch) }),
  "group.update": async (client, touch, tenant) => client.call("group.update", await group(tenant, touch), { description: "changed" }),
  "group.delete": async (client, touch, tenant) => client.call("group.delete", await group(tenant, touch)),
  "group.list": (client) => client.call("group.list"),
  "group.status": async (client, touch, tenant) => client.call("group.status", await group(tenant, touch)),
  "group.pause": async (client, touch, tenant) => client.call("group.pause", await group(tenant, touch)),
  "group.resume": async (client, touch, tenant) => client.call("group.resume", await group(tenant, touch)),
  "group.resize": async (client, touch, tenant) => client.call("group.resize", await group(tenant, touch), { partitions: 2 }),
  "group.reset": async (client, touch, tenant) => client.call("group.reset", await group(tenant, touch), { to: "end" }),
  "group.join": async (client, touch, tenant) => client.call("group.join", await group(tenant, touch)),
  "group.heartbeat": async (client, touch, tenant) => client.call("group.heartbeat", ...(await membership(tenant, touch)).names),
  "group.read": async (client, touch, tenant) => client.call("group.read", ...(await membership(tenant, touch)).names),
  "group.park": async (client, touch, tenant) => {
    const { names, epoch } = await membership(tenant, touch);
    const { globalPosition: position } = await tenant.admin.write(stream(touch));
    return client.call("group.park", ...names, { partition: 0, epoch, position });
  },
  "group.handled": async (client, touch, tenant) => {
    const { names, epoch } = await membership(tenant, touch);
    return client.call("group.handled", ...names, { partition: 0, epoch, stream: stream(touch), position: 0 });
  },
  "group.leave": async (client, touch, tenant) => client.call("group.leave", ...(await membership(tenant, touch)).names),
  "group.parked": async (client, touch, tenant) => client.call("group.parked", await group(tenant, touch)),
  "group.retry": async (client, touch, tenant) => client.call("group.retry", await group(tenant, touch), { all: true }),
  "group.skip": async (client, touch, tenant) => client.call("group.skip", await group(tenant, touch), { stream: stream(touch), position: 1 }),
  "group.audit": async (client, touch, tenant) => client.call("group.audit", await group(tenant, touch)),
  "group.wait": async (client, touch, tenant) => client.call("group.wait", await group(tenant, touch), { globalPosition: 0 }),
  "sys.version": (client) => client.call("sys.version"),
  "sys.health": (client) => client.call("sys.health"),
  "/metrics": (client) => client.send({ path: "/metrics" }),
  "sys.config": (client) => client.call("sys.config"),
  "/api/v1/performance": (client) => client.send({ path: "/api/v1/performance" }),
  "/api/v1/performance/queries": (client) => client.send({ path: "/api/v1/performance/queries" }),
  "/api/v1/performance/cache": (client) => client.send({ path: "/api/v1/performance/cache" }),
  "/api/v1/performance/database": (client) => client.send({ path: "/api/v1/performance/database" }),
  "/api/v1/performance/groups": (client) => client.send({ path: "/api/v1/performance/groups" }),
  "/api/v1/performance/reset": (client) => client.send({ method: "POST", path: "/api/v1/performance/reset" }),
  "/health": (client) => client.send({ path: "/health" }),
  "/health/live": (client) => client.send({ path: "/health/live" }),
  "/health/ready": (client) => client.send({ path: "/health/ready" }),
  "/ready": (client) => client.send({ path: "/ready" }),
  "/version": (client) => client.send({ path: "/version" }),
};

const ROWS = readRows(readApiDocument());

test("[R-right.1] the table has a row for every call, and there is a way to make each", () => {
  const calls = ROWS.map((row) => row.call);
  assert.deepEqual(Object.keys(CALLS).sort(), [...calls].sort());
  assert.equal(new Set(calls).size, calls.length);
  assert.deepEqual(METHODS.map(({ name }) => name).filter((name) => !calls.includes(name)), []);
});

for (const kind of KINDS) {
  test(`[R-right.1 R-right.2 R-right.3 R-right.4 R-right.5 R-right.6 R-auth.9 R-auth.10 R-auth.11] a token that is ${kind.name}`, async () => {
    const tenant = await newTenant();
    const client = get().client(await kind.token(tenant));
    for (const row of ROWS) {
      const touches: Touch[] = row.limited === "its categories only" ? ["own", "other", "both"] : ["own"];
      for (const touch of touches) {
        const reply = await CALLS[row.call]!(client, touch, tenant);
        const expected = expectation(row, kind, touch);
        const got = reply.status === 200 ? "200" : `${reply.status} ${failureOf(reply).code}`;
        assert.equal(got, expected.answer, `${row.call}, ${touch} category: ${reply.text}`);
        if (expected.names) assert.ok(failureOf(reply).message.includes(expected.names), `${row.call}: ${reply.text}`);
      }
    }
  });
}

/** What the table says about a call with a token of this kind, and what the message of a refusal names. */
function expectation(row: Row, kind: Kind, touch: Touch): { answer: string; names?: string } {
  if (row.needs === "nothing") return { answer: "200" };
  if (kind.refused) return { answer: kind.refused.join(" ") };
  const refused = UNAUTHORIZED.join(" ");
  const isAdministrator = kind.of === "default";
  if (row.needs === "the administrator") return isAdministrator ? { answer: "200" } : { answer: refused, names: "administrator" };
  const right = /^`(\w+)`/.exec(row.needs)![1] as Right;
  if (!kind.rights.includes(right) && !kind.rights.includes("admin")) return { answer: refused, names: right };
  if (row.needs.includes("`default` as its namespace")) {
    const isOfDefault = isAdministrator || kind.token === ofDefault;
    return { answer: isOfDefault ? "200" : refused };
  }
  if (row.needs.includes("of the named namespace") && kind.of === "another namespace") return { answer: refused };
  if (["token.revoke", "token.rotate"].includes(row.call) && kind.of === "another namespace") return { answer: "404 TOKEN_NOT_FOUND" };
  const namesGroup = row.call.startsWith("group.") && !["group.create", "group.list"].includes(row.call);
  if (namesGroup && kind.of) return { answer: "404 GROUP_NOT_FOUND" };
  const isOutside = row.limited === "refused" || (row.limited === "its categories only" && touch !== "own");
  if (kind.categories && isOutside) return { answer: refused, names: right };
  return { answer: "200" };
}

function readRows(document: string): Row[] {
  const section = document.slice(document.indexOf("### Rights"), document.indexOf("- **R-right.1**"));
  const rows = [...section.matchAll(/^\| `([^`]+)` \| (.+?) \| (.+?) \|$/gm)];
  return rows.map(([, call, needs, limited]) => ({ call: call!, needs: needs!, limited: limited! }));
}

async function newTenant(): Promise<Tenant> {
  const name = unique("tenant-");
  const admin = get().client((await administrator().rpc("ns.create", name)).token);
  await admin.rpc("streams.append", ["account-1", "secret-1"].map((stream) => ({ stream, messages: [message] })));
  return { name, admin };
}

/** The categories of a group: none are all. */
const categoriesOf = (touch: Touch) => (touch === "both" ? [] : [category(touch)]);

async function group({ admin }: Tenant, touch: Touch): Promise<string> {
  const name = unique("group-");
  await admin.rpc("group.create", name, { categories: categoriesOf(touch), partitions: 1 });
  return name;
}

/** A group, and the member that has its only partition. */
async function membership(tenant: Tenant, touch: Touch): Promise<{ names: [group: string, member: string]; epoch: number }> {
  const name = await group(tenant, touch);
  const { member, assigned } = await tenant.admin.rpc("group.join", name);
  return { names: [name, member], epoch: assigned[0].epoch };
}

const category = (touch: Touch) => (touch === "own" ? "account" : touch === "other" ? "secret" : "");
const stream = (touch: Touch) => (touch === "own" ? "account-1" : "secret-1");
const streams = (touch: Touch) => (touch === "both" ? ["account-1", "secret-1"] : [stream(touch)]);

/** The id of a token that a call may end. */
async function victim({ admin }: Tenant): Promise<string> {
  return (await admin.rpc("token.create", { rights: ["read"], expiresAt: new Date(Date.now() + 60_000).toISOString() })).id;
}

/** A token that had every right, and ended by itself after it was used. */
async function expired(tenant: Tenant): Promise<string> {
  const expiresAt = new Date(Date.now() + 300).toISOString();
  return ended(tenant, (await tenant.admin.rpc("token.create", { rights: EVERY, expiresAt })).token);
}

async function revoked({ admin }: Tenant): Promise<string> {
  const { id, token } = await admin.rpc("token.create", { rights: EVERY });
  await admin.as(token).rpc("stream.version", "a-1");
  await admin.rpc("token.revoke", id);
  return token;
}

async function rotated({ admin }: Tenant, graceMs: number): Promise<string> {
  const { id, token } = await admin.rpc("token.create", { rights: EVERY });
  await admin.as(token).rpc("stream.version", "a-1");
  const successor = await admin.rpc("token.rotate", id, { graceMs });
  assert.deepEqual([successor.rights, successor.categories], [EVERY, null]);
  return token;
}

/** The token, once it has ended. */
async function ended({ admin }: Tenant, token: string): Promise<string> {
  await until("the token's end", async () => (await admin.as(token).call("stream.version", "a-1")).status === 403 || null);
  return token;
}

async function ofDefault(): Promise<string> {
  return (await administrator().rpc("token.create", { rights: ["read", "write", "consume"], expiresAt: new Date(Date.now() + 60_000).toISOString() })).token;
}

test("[R-right.9] checks need the right to read the categories of their streams", async () => {
  const { admin } = await newTenant();
  const append = async (options: object, checked: string) => {
    const { token } = await admin.rpc("token.create", options);
    const reply = await admin.as(token).call("streams.append", [{ stream: "account-1", messages: [message] }], {
      checks: [{ stream: checked, expectedVersion: 7 }],
    });
    return failureOf(reply);
  };
  assert.equal((await append({ rights: ["read", "write"] }, "secret-1")).code, "STREAM_VERSION_CONFLICT");
  const outside = await append({ rights: ["read", "write"], categories: ["account"] }, "secret-1");
  assert.deepEqual([outside.status, outside.message.includes('"secret"')], [403, true], outside.message);
  const unread = await append({ rights: ["write"] }, "account-2");
  assert.deepEqual([unread.status, unread.message.includes("read")], [403, true], unread.message);
});

test("[R-right.12] conditions need the right to read their categories", async () => {
  const { admin } = await newTenant();
  const failure = async (options: object, condition: object) => {
    const client = admin.as((await admin.rpc("token.create", options)).token);
    return failureOf(await client.call("streams.append", [{ stream: "account-1", messages: [message] }], { checks: [condition] }));
  };
  const secret = { match: { categories: ["account", "secret"] }, after: 0 };
  assert.equal((await failure({ rights: ["read", "write"] }, secret)).code, "CONDITION_FAILED");
  const limited = { rights: ["read", "write"], categories: ["account"] };
  const outside = await failure(limited, secret);
  assert.deepEqual([outside.status, outside.message.includes('"secret"')], [403, true], outside.message);
  assert.equal((await failure(limited, { absent: { types: ["T"] } })).code, "AUTH_UNAUTHORIZED", "all categories");
  assert.equal((await failure(limited, { absent: { categories: ["account"] } })).code, "CONDITION_FAILED");
  const unread = await failure({ rights: ["write"] }, { absent: { categories: ["account"] } });
  assert.deepEqual([unread.status, unread.message.includes("read")], [403, true], unread.message);
});

test("[R-right.5 R-right.6] what a limited token may subscribe to, and write at once", async (t) => {
  const { admin } = await newTenant();
  const { token } = await admin.rpc("token.create", { rights: ["read", "write"], categories: ["account", "order*"] });
  const limited = admin.as(token);
  const refused: Query[] = [{ all: "true" }, { category: "orde" }, { category: "account,secret" }, { stream: "secret-1" }, { stream: "-1" }];
  for (const query of refused) assert.equal((await replyTo(limited, query)).status, 403, JSON.stringify(query));
  const subscription = await subscribe(t, limited, { category: "account,orders,order" });
  await limited.rpc("streams.append", ["orders-1", "order", "account-2"].map((stream) => ({ stream, messages: [message] })));
  assert.deepEqual((await subscription.pokes(4)).map((poke) => poke.stream), ["account-1", "orders-1", "order", "account-2"]);
  for (const category of ["", "accounts", "acc", ["account", ""]]) {
    const failure = await limited.failure("category.get", category);
    assert.equal(failure.code, "AUTH_UNAUTHORIZED", JSON.stringify(category));
  }
  assert.deepEqual(await limited.rpc("category.get", "no-category"), [], "it has no messages for anybody");
});

test("[R-right.7 R-right.8] a limited token lists its categories only, in full pages", async () => {
  const { name, admin } = await newTenant();
  const categories = ["acc", "account!", "accounts", "order", "order1", "orders", "ordersX", "zebra"];
  const named = categories.flatMap((category) => [category, `${category}-1`, `${category}-2`]);
  await admin.rpc("streams.append", named.map((stream) => ({ stream, messages: [message] })));
  const { token } = await admin.rpc("token.create", { rights: ["read"], categories: ["orders", "account", "order1*", "accounts"] });
  const limited = admin.as(token);
  const allowed = ["account-1", "accounts", "accounts-1", "accounts-2", "order1", "order1-1", "order1-2", "orders", "orders-1", "orders-2"];
  for (const limit of [1, 2, 3, 7, 100]) {
    const listed: string[] = [];
    for (let page: any[] = [{}]; page.length > 0; ) {
      const cursor = listed.at(-1);
      page = await limited.rpc("ns.streams", { limit, ...(cursor && { cursor }) });
      listed.push(...page.map(({ stream }) => stream));
      if (listed.length < allowed.length) assert.equal(page.length, limit);
    }
    assert.deepEqual(listed, allowed, `limit ${limit}`);
  }
  const streamsWith = async (options: object) => (await limited.rpc<any[]>("ns.streams", options)).map(({ stream }) => stream);
  assert.deepEqual(await streamsWith({ prefix: "accounts-" }), ["accounts-1", "accounts-2"]);
  assert.deepEqual(await streamsWith({ prefix: "o", cursor: "order1-1" }), ["order1-2", "orders", "orders-1", "orders-2"]);
  assert.deepEqual(await streamsWith({ prefix: "secret" }), []);
  const categoriesWith = async (options: object) => (await limited.rpc<any[]>("ns.categories", options)).map(({ category }) => category);
  assert.deepEqual(await categoriesWith({}), ["account", "accounts", "order1", "orders"]);
  assert.deepEqual(await categoriesWith({ limit: 2, cursor: "account" }), ["accounts", "order1"]);
  assert.deepEqual(await categoriesWith({ prefix: "order1" }), ["order1"]);
  assert.equal((await limited.rpc("ns.info", name)).messageCount, named.length + 2);
});

test("[R-group-call.4 R-group-call.5] a limited token touches the groups of its categories, and lists them", async () => {
  const { admin } = await newTenant();
  for (const [name, categories] of [["own", ["account"]], ["wide", ["account", "secret"]], ["all", []]] as const) {
    await admin.rpc("group.create", name, { categories });
  }
  const limited = admin.as((await admin.rpc("token.create", { rights: ["read", "consume"], categories: ["account"] })).token);
  assert.deepEqual((await limited.rpc<any[]>("group.list")).map(({ group }) => group), ["own"]);
  for (const name of ["wide", "all"]) {
    for (const call of ["group.status", "group.join", "group.create"]) {
      const failure = await limited.failure(call, name, ...(call === "group.create" ? [{ categories: ["account"] }] : []));
      assert.equal(failure.code, "AUTH_UNAUTHORIZED", `${call} ${name}: it would tell what the group reads`);
    }
  }
  assert.equal((await limited.failure("group.status", "none")).code, "GROUP_NOT_FOUND");
});

test("[R-right.11] a limited token finds messages of its categories only", async () => {
  const { admin } = await newTenant();
  const { token } = await admin.rpc("token.create", { rights: ["read"], categories: ["account"] });
  for (const [[id, stream]] of await Promise.all([admin.rpc("category.get", "account"), admin.rpc("category.get", "secret")])) {
    assert.equal((await admin.rpc("message.get", id))[1], stream);
    assert.equal((await admin.as(token).rpc("message.get", id))?.[1], stream === "account-1" ? stream : undefined);
  }
});

/** Records that go on after a head. */
const records = (head: number, count: number) =>
  lines(Array.from({ length: count }, (_, i) => record({ gpos: head + i + 1, stream: `imported-${head + i}` })));

/** A body that goes no further after this text, until the test ends. */
async function* heldAfter(text: string, t: Context): AsyncGenerator<Uint8Array> {
  const held = new Promise<void>((resolve) => t.after(resolve));
  yield new TextEncoder().encode(text);
  await held;
}

test("[R-right.10] subscriptions, waiting reads and imports end with their token", async (t) => {
  const { name: namespace, admin } = await newTenant();
  const count = async (): Promise<number> => (await admin.rpc("ns.info", namespace)).messageCount;
  const ends: Record<string, (id: string) => Promise<unknown>> = {
    revoked: (id) => admin.rpc("token.revoke", id),
    "rotated without grace": (id) => admin.rpc("token.rotate", id, { graceMs: 0 }),
    "rotated with a short grace": (id) => admin.rpc("token.rotate", id, { graceMs: 200 }),
  };
  for (const [name, end] of Object.entries(ends)) {
    const { id, token } = await admin.rpc("token.create", { rights: ["read", "write"] });
    const client = admin.as(token);
    const subscription = await subscribe(t, client, { all: "true" });
    const waiting = client.call("category.get", "nothing", { waitMs: 30_000 });
    await admin.rpc("group.create", "group", { categories: ["account"] });
    const groupWait = client.call("group.wait", "group", { globalPosition: 1_000_000, timeoutMs: 30_000 });
    const before = await count();
    const importing = outcome(client, heldAfter(records(before, 1000), t));
    await until("the import's first batch", async () => (await count()) > before);
    const started = Date.now();
    await end(id);
    await within(`the subscription's end after the token was ${name}`, subscription.ended(), 5_000);
    for (const call of [waiting, groupWait]) {
      const failure = failureOf(await within("the waiting call's answer", call, 5_000));
      assert.deepEqual([failure.status, failure.code], [403, "AUTH_UNAUTHORIZED"]);
    }
    const imported = await within("the import's end", importing, 5_000);
    assert.equal(imported.error, "IMPORT_FAILED", JSON.stringify(imported));
    assert.match(imported.message!, /token/);
    console.log(`${name}: all had ended after ${Date.now() - started} ms`);
  }
});

test("[R-right.10] an import with force does not replace anything once its token has ended", async (t) => {
  const { admin } = await newTenant();
  const { id, token } = await admin.rpc("token.create", { rights: ["admin"] });
  const importing = outcome(admin.as(token), heldAfter(records(0, 1), t), "?force=true");
  await until("the replacement's beginning", async () => (await admin.call("stream.write", "a-1", message)).status === 503 || null);
  await admin.rpc("token.revoke", id);
  const last = await within("the import's end", importing, 5_000);
  assert.equal(last.error, "IMPORT_FAILED", JSON.stringify(last));
  assert.equal(await admin.rpc("stream.version", "account-1"), 0);
});
