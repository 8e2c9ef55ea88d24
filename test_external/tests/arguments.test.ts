/** Arguments and options of every method: missing, null, extra, unknown, of a wrong type. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { failureOf, unique, type Client } from "../src/client.ts";
import { body, filled, METHODS, NESTED, object, WRONG } from "../src/methods.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();

for (const method of METHODS) {
  const hasOptions = Object.keys(method.options).length > 0;
  const nulls = object(Object.fromEntries(Object.keys(method.options).map((name) => [name, "null"])));

  test(`[R-args.1 R-args.4] ${method.name}: a required argument missing or null`, async () => {
    const client = fresh();
    for (const [i, [name]] of method.required.entries()) {
      const before = method.required.slice(0, i).map(([, , good]) => good);
      const after = method.required.slice(i + 1).map(([, , good]) => good);
      await refuses(client, body(method, before), name);
      await refuses(client, body(method, [...before, "null", ...after]), name);
    }
    await accepts(client, body(method));
  });

  test(`[R-args.2 R-args.3 R-args.5] ${method.name}: options left out, empty or null; more than needed`, async () => {
    const client = fresh();
    for (const rest of [[], ["{}"], ["null"], [nulls]]) {
      await accepts(client, body(method, undefined, ...rest));
      if (rest.length > 0) await accepts(client, body(method, undefined, ...rest, '"extra"', "{}", "null", "17"));
    }
  });

  if (hasOptions) {
    test(`[R-args.9] ${method.name}: an unknown option is refused, and the nearest known one named`, async () => {
      const client = fresh();
      await refuses(client, body(method, undefined, '{"unknown":[1]}'), '"unknown"');
      for (const name of Object.keys(method.options)) {
        for (const mistyped of mistypings(name)) await refuses(client, body(method, undefined, object({ [mistyped]: "1" })), `did you mean ${name}?`);
      }
    });
  }

  test(`[R-args.6 R-args.8] ${method.name}: wrong types`, async () => {
    const client = fresh();
    const good = method.required.map(([, , value]) => value);
    for (const [i, [name, kind]] of method.required.entries()) {
      for (const wrong of WRONG[kind]) await refuses(client, body(method, good.with(i, wrong)), name);
    }
    for (const [name, kind] of Object.entries(method.options)) {
      for (const wrong of WRONG[kind]) await refuses(client, body(method, undefined, object({ [name]: wrong })), name);
    }
    if (hasOptions) for (const wrong of WRONG.object) await refuses(client, body(method, undefined, wrong), "");
  });
}

for (const nested of NESTED) {
  test(`[R-args.1 R-args.4 R-args.6 R-args.7 R-args.8 R-args.9] ${nested.name}`, async () => {
    const client = fresh();
    await accepts(client, nested.around(object(nested.good)));
    const unknown = nested.around(object({ ...nested.good, unknown: "[1]" }));
    await (nested.ignoresUnknown ? accepts(client, unknown) : refuses(client, unknown, "unknown"));
    for (const name of nested.ignoresUnknown ? [] : Object.keys(nested.members)) {
      for (const mistyped of mistypings(name)) await refuses(client, nested.around(object({ ...nested.good, [mistyped]: "1" })), `${name}?`);
    }
    for (const name of nested.required) {
      const { [name]: _, ...without } = nested.good;
      await refuses(client, nested.around(object(without)), name);
      await refuses(client, nested.around(object({ ...nested.good, [name]: "null" })), name);
    }
    for (const [name, kind] of Object.entries(nested.members)) {
      for (const wrong of WRONG[kind]) await refuses(client, nested.around(object({ ...nested.good, [name]: wrong })), name);
    }
    for (const wrong of WRONG.object) await refuses(client, nested.around(wrong), "");
  });
}

test("[R-args.8] integers to the edge of 64 bits are taken", async () => {
  const client = fresh();
  for (const position of ["9223372036854775807", "-9223372036854775808", "-1", "0"]) {
    await accepts(client, `["stream.get","a-1",{"position":${position}}]`);
    await accepts(client, `["category.get","a",{"globalPosition":${position},"until":9223372036854775807}]`);
  }
  const reply = await client.post('["stream.write","a-1",{"type":"T","data":{}},{"expectedVersion":9223372036854775807}]');
  assert.equal(failureOf(reply).code, "STREAM_VERSION_CONFLICT");
  assert.ok(reply.text.includes('"expected":9223372036854775807,"actual":-1'), reply.text);
});

test("[R-args.9] a mistyped expectedVersion writes nothing", async () => {
  const client = fresh();
  for (const name of ["expectedversion", "expected_version", "version", "expectedVersion "]) {
    const failure = await client.failure("stream.write", "a-1", { type: "T", data: {} }, { [name]: 5 });
    assert.deepEqual([failure.code, failure.message.includes("did you mean expectedVersion?")], ["INVALID_REQUEST", true], failure.message);
  }
  assert.equal(await client.rpc("stream.version", "a-1"), null);
});

test("[R-args.9 R-error.5] a long unknown name is cut in the message", async () => {
  const client = fresh();
  const long = "x".repeat(1_000_000);
  for (const reply of [await client.call("stream.get", "a-1", { [long]: 1 }), await client.call(long)]) {
    assert.ok(failureOf(reply).message.length < 300);
  }
});

test("[R-args.7 R-args.10] members of a message that look mistyped are refused, others ignored", async () => {
  const client = fresh();
  const mistyped: Record<string, string> = {
    Type: "type", _type: "type", DATA: "data", ID: "id", meta: "metadata", metaData: "metadata", meta_data: "metadata",
    "meta-data": "metadata", METADATA: "metadata", metdata: "metadata", metadat: "metadata", metatada: "metadata", metadatas: "metadata",
    metaadata: "metadata", expectedVersion: "expectedVersion", expected_version: "expectedVersion",
  };
  for (const [name, meant] of Object.entries(mistyped)) {
    const bad = { type: "T", data: {}, [name]: {} };
    for (const call of [["stream.write", "a-1", bad], ["stream.append", "a-1", [bad]], ["streams.append", [{ stream: "a-1", messages: [bad] }]]]) {
      const failure = await client.failure(...(call as [string, ...unknown[]]));
      assert.equal(failure.code, "INVALID_REQUEST", name);
      assert.ok(failure.message.includes(meant), `${name}: ${failure.message}`);
    }
  }
  assert.equal(await client.rpc("stream.version", "a-1"), null, "nothing was written");
  const other = { type: "T", data: { Type: 1, meta: 2, expectedVersion: 3 }, stream: "x", position: 1, globalPosition: 2, time: "x", kind: "x", date: 1, Metaphor: 1 };
  await client.rpc("stream.write", "a-1", other);
});

test("[R-write.4] an id as an option and in the message", async () => {
  const client = fresh();
  const [id, other] = [randomUUID(), randomUUID()];
  const write = (member: object, options: object) => client.call("stream.write", "a-1", { type: "T", data: {}, ...member }, options);
  for (const reply of [await write({ id }, {}), await write({}, { id }), await write({ id: id.toUpperCase() }, { id })]) {
    assert.equal(reply.text, '{"position":0,"globalPosition":1}');
  }
  assert.equal(failureOf(await write({ id }, { id: other })).code, "INVALID_REQUEST");
  assert.equal((await client.rpc("stream.get", "a-1")).length, 1);
});

test("[R-args.7 R-args.11] query parameters that look mistyped are refused, others ignored", async () => {
  const client = fresh();
  for (const query of ["unknown=1&position=x", "utm_source=x&_=1", "Token=", "meta=1&tokens=2"]) {
    assert.equal((await client.send({ path: `/rpc?${query}`, body: '["sys.version"]' })).status, 200, query);
  }
  for (const [path, meant] of [
    ["/rpc?Token=x", "token"], ["/import?Force=true", "force"], ["/subscribe?all=true&last_event_id=1", "lastEventId"],
    ["/subscribe?category=a&Position=1", "position"], ["/subscribe?category=a&consumer-group-member=0&size=1", "consumerGroupMember"],
  ] as const) {
    const failure = failureOf(await client.send({ path, body: path.startsWith("/subscribe") ? undefined : '["sys.version"]' }));
    assert.deepEqual([failure.status, failure.code], [400, "INVALID_REQUEST"], path);
    assert.ok(failure.message.includes(`did you mean ${meant}?`), failure.message);
  }
});

/** A name as people mistype it. */
function mistypings(name: string): string[] {
  const typos = [name.toUpperCase(), `${name}_`, `${name}x`, `${name.slice(0, 1)}${name}`];
  return name.length > 2 ? [...typos, name.slice(0, -1)] : typos;
}

async function accepts(client: Client, text: string): Promise<void> {
  const old = unique("old-");
  if (text.includes("$old")) await client.rpc("ns.create", old);
  const token = text.includes("$token") ? (await client.rpc("token.create", { rights: ["read"] })).id : undefined;
  const sent = filled(text, { old, ...(token && { token }), ...(NAMES_GROUP.test(text) && (await newGroup(client))) });
  const reply = await client.post(sent);
  assert.equal(reply.status, 200, `${sent}: ${reply.text}`);
}

/** Refused as a bad request, and the message names the culprit. */
async function refuses(client: Client, text: string, culprit: string): Promise<void> {
  const sent = filled(text, NAMES_GROUP.test(text) ? await oneGroup(client) : {});
  const failure = failureOf(await client.post(sent));
  assert.deepEqual([failure.status, failure.code], [400, "INVALID_REQUEST"], `${sent}: ${failure.message}`);
  if (!["", "message", "messages", "entries", "namespace"].includes(culprit)) {
    assert.ok(failure.message.includes(culprit), `${sent}: the message should name ${culprit}: ${failure.message}`);
  }
}

const NAMES_GROUP = /\$(group|member|epoch|position)/;

type Group = { group: string; member: string; epoch: number; position: number };

/** A group with one message, one partition and one member. */
async function newGroup(client: Client): Promise<Group> {
  const [group, category] = [unique("group-"), unique("c")];
  const { globalPosition: position } = await client.write(`${category}-1`);
  await client.rpc("group.create", group, { categories: [category], partitions: 1 });
  const { member, assigned } = await client.rpc("group.join", group);
  return { group, member, epoch: assigned[0].epoch, position };
}

const groups = new WeakMap<Client, Promise<Group>>();

/** The same group for all calls that are refused. */
function oneGroup(client: Client): Promise<Group> {
  const group = groups.get(client) ?? newGroup(client);
  groups.set(client, group);
  return group;
}
