/** Which member reads a stream, and which is poked about it. */
import assert from "node:assert/strict";
import { assertFails, type CategoryMessage, type Client } from "../src/client.ts";
import { memberOf } from "../src/group.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();

const ODD = ["a", "a-", "a-+", "a-+x", "a--", "a-1", "a-1+2", "a-1+3", "a-1-2", "a-日本", "a-🎉+x", "a-é", "a- ", "a-%41"];
const STREAMS = [...ODD, ...Array.from({ length: 40 }, (_, i) => `a-${i * 7919}`)];
const SIZES = [1, 2, 3, 4, 5, 6, 7, 8];

async function filled(): Promise<Client> {
  const client = fresh();
  for (const stream of STREAMS) await client.write(stream);
  return client;
}

test("[R-group.1 R-group.2 R-group.3 R-category.7] every stream is read by the member that the rule says, and no other", async () => {
  const client = await filled();
  for (const size of SIZES) {
    for (let member = 0; member < size; member++) {
      const found = await client.rpc<CategoryMessage[]>("category.get", "a", { consumerGroup: { member, size } });
      assert.deepEqual(found.map((message) => message[1]), STREAMS.filter((stream) => memberOf(stream, size) === member), `${member} of ${size}`);
    }
  }
});

test("[R-group.1] members that were computed elsewhere", async () => {
  // What md5sum prints for "123" and "a", first 16 digits; both are positive numbers.
  const known: [stream: string, hash: bigint][] = [
    ["account-123", 0x202cb962ac59075bn],
    ["other-a", 0x0cc175b9c0f1b6a8n],
  ];
  const client = fresh();
  for (const [stream] of known) await client.write(stream);
  for (const [stream, hash] of known) {
    const size = 1_000_003;
    const member = Number(hash % BigInt(size));
    const [found] = await client.rpc<CategoryMessage[]>("category.get", "", { consumerGroup: { member, size } });
    assert.equal(found?.[1], stream);
  }
});

test("[R-group.3 R-category.7] a group works with positions, pages and the whole namespace", async () => {
  const client = await filled();
  const size = 3;
  const seen: number[] = [];
  for (let member = 0; member < size; member++) {
    for (let position = 1; ; ) {
      const page = await client.rpc<CategoryMessage[]>("category.get", "", { position, batchSize: 4, consumerGroup: { member, size } });
      if (page.length === 0) break;
      for (const message of page) assert.equal(memberOf(message[1], size), member);
      seen.push(...page.map((message) => message[4]));
      position = seen.at(-1)! + 1;
    }
  }
  assert.deepEqual(seen.sort((a, b) => a - b), STREAMS.map((_, i) => i + 1));
});

test("[R-category.8] member and size come together, and member is below size", async () => {
  const client = fresh();
  const bad = [{ member: 0 }, { size: 1 }, { member: 1, size: 1 }, { member: -1, size: 2 }, { member: 0, size: 0 }, { member: 0, size: -3 }, { member: null, size: 2 }];
  for (const consumerGroup of bad) await assertFails(client.failure("category.get", "a", { consumerGroup }), 400, "INVALID_REQUEST");
});

test("[R-group.4 R-sub.12] a member is poked about what it reads, in history and live", async (t) => {
  const client = await filled();
  for (const size of [1, 2, 5, 8]) {
    const head = (await client.rpc<CategoryMessage[]>("category.get", "", { batchSize: -1 })).at(-1)![4];
    const members = await Promise.all(
      Array.from({ length: size }, (_, consumer) => subscribe(t, client, { category: "a", consumer, size })),
    );
    const expected = (member: number) => STREAMS.filter((stream) => memberOf(stream, size) === member);
    for (const [member, subscription] of members.entries()) {
      const past = (await subscription.history()).map((poke) => poke.stream);
      assert.deepEqual(past.slice(0, expected(member).length), expected(member), `history of ${member} of ${size}`);
      assert.ok(past.every((stream) => memberOf(stream, size) === member));
    }
    for (const stream of STREAMS) await client.write(stream);
    for (const [member, subscription] of members.entries()) {
      const live = await subscription.pokes(expected(member).length);
      assert.deepEqual(live.map((poke) => poke.stream), expected(member), `live, ${member} of ${size}`);
      assert.ok(live.every((poke) => poke.globalPosition > head));
    }
  }
});
