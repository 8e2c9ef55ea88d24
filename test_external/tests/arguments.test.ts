/** Arguments and options of every method: missing, null, extra, unknown, of a wrong type. */
import assert from "node:assert/strict";
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

  test(`[R-args.2 R-args.3 R-args.5 R-args.7] ${method.name}: options left out, empty or null; more than needed`, async () => {
    const client = fresh();
    for (const rest of [[], ["{}"], ["null"], [nulls], ['{"unknown":[1],"another":null}']]) {
      await accepts(client, body(method, undefined, ...rest));
      if (rest.length > 0) await accepts(client, body(method, undefined, ...rest, '"extra"', "{}", "null", "17"));
    }
  });

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
  test(`[R-args.1 R-args.4 R-args.6 R-args.7 R-args.8] ${nested.name}`, async () => {
    const client = fresh();
    await accepts(client, nested.around(object(nested.good)));
    await accepts(client, nested.around(object({ ...nested.good, unknown: "[1]" })));
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

test("[R-args.7] unknown query parameters are ignored", async () => {
  const reply = await fresh().send({ path: "/rpc?unknown=1&position=x", body: '["sys.version"]' });
  assert.equal(reply.status, 200);
});

async function accepts(client: Client, text: string): Promise<void> {
  const existing = unique("old-");
  if (text.includes("$old")) await client.rpc("ns.create", existing);
  const sent = filled(text, existing);
  const reply = await client.post(sent);
  assert.equal(reply.status, 200, `${sent}: ${reply.text}`);
}

/** Refused as a bad request, and the message names the culprit. */
async function refuses(client: Client, text: string, culprit: string): Promise<void> {
  const sent = filled(text);
  const failure = failureOf(await client.post(sent));
  assert.deepEqual([failure.status, failure.code], [400, "INVALID_REQUEST"], `${sent}: ${failure.message}`);
  if (!["", "message", "messages", "entries", "namespace"].includes(culprit)) {
    assert.ok(failure.message.includes(culprit), `${sent}: the message should name ${culprit}: ${failure.message}`);
  }
}
