/** Many clients at the same time. */
import assert from "node:assert/strict";
import { failureOf, type Appended, type CategoryMessage, type Client, type Written } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();
const message = { type: "T", data: {} };
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

test("[R-version.1 R-version.4 R-write.2] of 64 writers that expect the same version one wins each round", async () => {
  const client = fresh();
  const rounds = 20;
  for (let round = 0; round < rounds; round++) {
    const replies = await Promise.all(
      range(64).map((writer) => client.call("stream.write", "a-1", { type: "T", data: { round, writer } }, { expectedVersion: round - 1 })),
    );
    const won = replies.filter((reply) => reply.status === 200);
    assert.deepEqual(won.map((reply) => JSON.parse(reply.text)), [{ position: round, globalPosition: round + 1 }]);
    for (const lost of replies.filter((reply) => reply.status !== 200).map(failureOf)) {
      assert.deepEqual([lost.status, lost.code, lost.details], [409, "STREAM_VERSION_CONFLICT", { expected: round - 1, actual: round }]);
    }
  }
  const found = await client.rpc<CategoryMessage[]>("category.get", "");
  assert.deepEqual(found.map((each) => [each[3], each[4], each[5].round]), range(rounds).map((i) => [i, i + 1, i]));
});

test("[R-write.2 R-message.1 R-message.2 R-limit.7] parallel writes leave no hole in any position, and none is turned away", async () => {
  const client = fresh();
  const written = await Promise.all(range(1500).map((i) => client.write(`c${i % 5}-${i % 11}`)));
  assert.deepEqual(written.map((each) => each.globalPosition).sort((a, b) => a - b), range(1500).map((i) => i + 1));
  const versions = await client.rpc<{ version: number }[]>("ns.streams");
  assert.equal(versions.reduce((sum, { version }) => sum + version + 1, 0), 1500);
});

test("[R-write.3] an acknowledged write is seen by the next read, whoever reads", async () => {
  const client = fresh();
  const writer = async (name: number) => {
    for (let position = 0; position < 40; position++) {
      const { globalPosition } = await client.write(`c${name}-1`);
      const [version, stream, category, all, last] = await Promise.all([
        client.rpc("stream.version", `c${name}-1`),
        client.rpc("stream.get", `c${name}-1`, { position }),
        client.rpc("category.get", `c${name}`, { position: globalPosition }),
        client.rpc("category.get", "", { position: globalPosition, batchSize: 1 }),
        client.rpc("stream.last", `c${name}-1`),
      ]);
      assert.equal(version, position);
      assert.deepEqual([stream[0][3], category[0][4], all[0][4], last[3]], Array(4).fill(globalPosition));
    }
  };
  await Promise.all(range(8).map(writer));
});

test("[R-category.2 R-message.2 R-message.15] a tailing reader never sees a position appear below one that it has seen", async () => {
  const client = fresh();
  const total = 4000;
  const write = async (writer: number) => {
    for (let i = 0; i < total / 32; i++) await client.write(`c${(writer + i) % 24}-${i % 5}`);
  };
  const writers = Promise.all(range(32).map(write));
  const readers = Promise.all(range(4).map(() => tail(client, total)));
  await writers;
  for (const seen of await readers) {
    assert.deepEqual(seen.map((each) => each[4]), range(total).map((i) => i + 1));
    const times = seen.map((each) => each[7]);
    assert.deepEqual(times, [...times].sort());
  }
});

test("[R-head.1 R-head.3] the head that a tailing reader is told never hides a message", async () => {
  const client = fresh();
  const total = 1500;
  const writers = Promise.all(range(16).map(async (w) => {
    for (let i = w; i < total; i += 16) await client.write(i % 50 === 0 ? "rare-1" : "common-1");
  }));
  const seen: number[] = [];
  for (let position = 1; seen.length < total / 50; ) {
    const reply = await client.call("category.get", "rare", { position, waitMs: 1000 });
    seen.push(...JSON.parse(reply.text).map((each: CategoryMessage) => each[4]));
    position = Number(reply.headers["x-eventodb-head"]) + 1;
  }
  await writers;
  const all = await client.rpc<CategoryMessage[]>("category.get", "rare");
  assert.deepEqual(seen, all.map((each) => each[4]));
});

test("[R-append.2 R-multi.2] a batch is never seen in part", async () => {
  const client = fresh();
  const transfers = 200;
  const pay = async () => {
    for (let i = 0; i < transfers / 8; i++) {
      await client.rpc<Appended[]>("streams.append", [
        { stream: "account-a", messages: [{ type: "Withdrawn", data: { amount: -1 } }] },
        { stream: "account-b", messages: [{ type: "Deposited", data: { amount: 1 } }] },
      ]);
    }
  };
  const payers = Promise.all(range(8).map(pay));
  for (let count = 0; count < 2 * transfers; ) {
    const found = await client.rpc<CategoryMessage[]>("category.get", "account");
    assert.equal(found.reduce((sum, each) => sum + each[5].amount, 0), 0, `half a transfer among ${found.length} messages`);
    count = found.length;
  }
  await payers;
});

test("[R-idem.1 R-idem.6] the same write sent many times at once happens once", async () => {
  const client = fresh();
  const id = "00000000-0000-0000-0000-00000000000a";
  const write = () => client.rpc<Written>("stream.write", "a-1", message, { id, expectedVersion: -1 });
  const results = await Promise.all(range(40).map(write));
  assert.deepEqual(results, Array(40).fill({ position: 0, globalPosition: 1 }));
  assert.equal(await client.rpc("stream.version", "a-1"), 0);
});

/** Reads small pages to the end of the log again and again, each from behind the last message seen. */
async function tail(client: Client, total: number): Promise<CategoryMessage[]> {
  const seen: CategoryMessage[] = [];
  while (seen.length < total) {
    const position = (seen.at(-1)?.[4] ?? 0) + 1;
    const page = await client.rpc<CategoryMessage[]>("category.get", "", { position, batchSize: 500 });
    seen.push(...page);
  }
  return seen;
}
