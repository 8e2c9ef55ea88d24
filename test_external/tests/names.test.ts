/** What a name says: category, id, cardinal id. */
import assert from "node:assert/strict";
import { assertFails, failureOf, type CategoryMessage } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();

const CATEGORY_OF: [stream: string, category: string][] = [
  ["account-1", "account"],
  ["account-a-b", "account"],
  ["account--x", "account"],
  ["account-", "account"],
  ["account-1+retry", "account"],
  ["account", "account"],
  ["account:position-1", "account:position"],
  ["account+x-1", "account+x"],
  ["zählung-1", "zählung"],
  ["日本-1-2", "日本"],
  ["-1", ""],
  ["-", ""],
  ["🎉", "🎉"],
  ["%", "%"],
  ["a_b", "a_b"],
];

test("[R-name.1 R-name.2] the category is what stands before the first dash, or all of the name", async () => {
  const client = fresh();
  for (const [stream] of CATEGORY_OF) await client.write(stream);
  for (const category of new Set(CATEGORY_OF.map(([, category]) => category).filter((name) => name !== ""))) {
    const found = await client.rpc<CategoryMessage[]>("category.get", category);
    const expected = CATEGORY_OF.filter(([, itsCategory]) => itsCategory === category).map(([stream]) => stream);
    assert.deepEqual(found.map((message) => message[1]), expected, category);
  }
  const counted = await client.rpc<{ category: string; streamCount: number }[]>("ns.categories");
  const categories = [...new Set(CATEGORY_OF.map(([, category]) => category))];
  assert.deepEqual(new Set(counted.map(({ category }) => category)), new Set(categories));
  assert.equal(counted.find(({ category }) => category === "account")!.streamCount, 6);
});

test("[R-name.3] a category name with a dash matches nothing", async () => {
  const client = fresh();
  await client.write("account-a-b");
  await client.write("account-1");
  for (const category of ["account-a", "account-", "account-1", "-"]) {
    assert.deepEqual(await client.rpc("category.get", category), [], category);
    assert.deepEqual(await client.rpc("category.get", category, { consumerGroup: { member: 0, size: 1 } }), [], category);
  }
});

test("[R-name.4] a subscription to such a category is poked about nothing, in history and live", async (t) => {
  const client = fresh();
  await client.write("account-a-b");
  const dashed = await subscribe(t, client, { category: "account-a" });
  assert.deepEqual(await dashed.history(), []);
  const witness = await subscribe(t, client, { category: "account-a,witness" });
  assert.deepEqual(await witness.history(), []);
  await client.write("account-a-b");
  await client.write("witness-1");
  assert.deepEqual((await witness.pokes(1)).map((poke) => poke.stream), ["witness-1"]);
});

test("[R-name.5] what has no messages reads as an empty array", async () => {
  const client = fresh();
  assert.deepEqual(await client.rpc("stream.get", "nobody-1"), []);
  assert.deepEqual(await client.rpc("category.get", "nobody"), []);
  assert.deepEqual(await client.rpc("category.get", ""), []);
});

test("[R-name.6] streams with the same cardinal id belong to the same member", async () => {
  const client = fresh();
  const size = 64;
  const streams = ["account-123", "account-123+retry", "account-123+a+b", "other-123", "account-123-4", "account-124"];
  for (const stream of streams) await client.write(stream);
  const memberOf = new Map<string, number>();
  for (let member = 0; member < size; member++) {
    for (const category of ["account", "other"]) {
      const found = await client.rpc<CategoryMessage[]>("category.get", category, { consumerGroup: { member, size } });
      for (const message of found) memberOf.set(message[1], member);
    }
  }
  const same = streams.slice(0, 4).map((stream) => memberOf.get(stream));
  assert.deepEqual(new Set(same).size, 1);
  assert.equal(memberOf.size, streams.length);
  assert.notEqual(memberOf.get("account-123-4"), memberOf.get("account-123"));
});

test("[R-name.7] a name is valid Unicode", async () => {
  const client = fresh();
  const lone = ["\\ud800", "a-\\udc00", "\\ud83c x", "\\udf89\\ud83c"];
  for (const name of lone) {
    const bodies = [
      `["stream.write","${name}",{"type":"T","data":{}}]`,
      `["stream.write","a-1",{"type":"${name}","data":{}}]`,
      `["stream.append","${name}",[{"type":"T","data":{}}]]`,
      `["ns.create","${name}"]`,
    ];
    for (const body of bodies) await assertFails(client.post(body).then(failureOf), 400, "INVALID_REQUEST");
  }
  const pair = await client.post('["stream.write","\\ud83c\\udf89-1",{"type":"\\u00e9\\/","data":{}}]');
  assert.equal(pair.status, 200, "an escaped pair is one character");
  const [message] = await client.rpc<CategoryMessage[]>("category.get", "🎉");
  assert.deepEqual(message!.slice(1, 3), ["🎉-1", "é/"]);
});
