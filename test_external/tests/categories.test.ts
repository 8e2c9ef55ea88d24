/** Reading categories. */
import assert from "node:assert/strict";
import { TIME, UUID, type CategoryMessage, type Client } from "../src/client.ts";
import { sharedServer, test } from "../src/suite.ts";

const { fresh } = sharedServer();

const globals = async (client: Client, category: string | string[], options?: object) =>
  (await client.rpc<CategoryMessage[]>("category.get", category, options)).map((message) => message[4]);

/** Global positions: a 1, b 2, a 3, b 4, … */
async function alternating(count: number): Promise<Client> {
  const client = fresh();
  for (let i = 0; i < count; i++) await client.write(i % 2 === 0 ? `a-${i}` : `b-${i}`);
  return client;
}

test("[R-category.1] a message of category.get", async () => {
  const client = fresh();
  await client.rpc("stream.write", "a-1", { type: "T", data: { x: 1 }, metadata: { y: 2 } });
  const [found, ...rest] = await client.rpc<CategoryMessage[]>("category.get", "a");
  assert.deepEqual(rest, []);
  assert.deepEqual(found!.slice(1, 7), ["a-1", "T", 0, 1, { x: 1 }, { y: 2 }]);
  assert.match(found![0], UUID);
  assert.match(found![7], TIME);
  assert.equal(found!.length, 8);
});

test("[R-category.2] messages come in the order of the log, whatever their streams", async () => {
  const client = fresh();
  for (const stream of ["a-2", "a-1", "a-2", "a-3", "a-1"]) await client.write(stream);
  const found = await client.rpc<CategoryMessage[]>("category.get", "a");
  assert.deepEqual(found.map((message) => [message[1], message[3], message[4]]), [
    ["a-2", 0, 1], ["a-1", 0, 2], ["a-2", 1, 3], ["a-3", 0, 4], ["a-1", 1, 5],
  ]);
});

test("[R-category.3 R-category.4 R-read.5] both positions are global, and globalPosition wins", async () => {
  const client = await alternating(8);
  for (const name of ["position", "globalPosition"]) {
    assert.deepEqual(await globals(client, "a", { [name]: 3 }), [3, 5, 7], name);
    assert.deepEqual(await globals(client, "a", { [name]: 4 }), [5, 7], name);
    assert.deepEqual(await globals(client, "a", { [name]: 0 }), [1, 3, 5, 7], name);
    assert.deepEqual(await globals(client, "a", { [name]: -3 }), [1, 3, 5, 7], name);
    assert.deepEqual(await globals(client, "a", { [name]: 9 }), [], name);
  }
  assert.deepEqual(await globals(client, "a", { position: 7, globalPosition: 3 }), [3, 5, 7]);
  assert.deepEqual(await globals(client, "a", { position: 1, globalPosition: 6 }), [7]);
});

test("[R-category.5] the empty category is everything", async () => {
  const client = await alternating(6);
  await client.write("nodash");
  await client.write("-1");
  assert.deepEqual(await globals(client, ""), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(await globals(client, "", { position: 5, batchSize: 2 }), [5, 6]);
});

test("[R-category.6] correlation keeps what was caused from a stream of that category", async () => {
  const client = fresh();
  const correlated = ["order-1", "order", "orders-1", "order-2-3", "Order-1", null, 7, { a: 1 }];
  for (const correlationStreamName of correlated) {
    await client.rpc("stream.write", "a-1", { type: "T", data: {}, metadata: { correlationStreamName } });
  }
  await client.rpc("stream.write", "a-1", { type: "T", data: { correlationStreamName: "order-1" } });
  await client.rpc("stream.write", "b-1", { type: "T", data: {}, metadata: { correlationStreamName: "order-9" } });
  assert.deepEqual(await globals(client, "a", { correlation: "order" }), [1, 2, 4]);
  assert.deepEqual(await globals(client, "", { correlation: "order" }), [1, 2, 4, 10]);
  assert.deepEqual(await globals(client, "a", { correlation: "order", position: 2, batchSize: 1 }), [2]);
  assert.deepEqual(await globals(client, "a", { correlation: "nothing" }), []);
  assert.deepEqual(await globals(client, "a", { correlation: "order-1" }), [], "a category has no dash");
});

test("[R-category.9] several categories in one read", async () => {
  const client = await alternating(6);
  await client.write("c-1");
  await client.write("a-1");
  assert.deepEqual(await globals(client, ["a", "b"]), [1, 2, 3, 4, 5, 6, 8]);
  assert.deepEqual(await globals(client, ["c", "a", "a"]), [1, 3, 5, 7, 8], "a category named twice counts once");
  assert.deepEqual(await globals(client, ["c"]), [7]);
  assert.deepEqual(await globals(client, ["nobody", "x-y"]), []);
  assert.deepEqual(await globals(client, ["b", "c"], { position: 4, batchSize: 2 }), [4, 6]);
});

test("[R-category.2 R-category.3] a category read page by page comes whole and once", async () => {
  const client = fresh();
  const streams = Array.from({ length: 7 }, (_, i) => `a-${i}`);
  for (let i = 0; i < 210; i += 3) {
    await client.rpc("streams.append", [
      { stream: streams[i % 7], messages: [{ type: "T", data: {} }, { type: "T", data: {} }] },
      { stream: "b-1", messages: [{ type: "T", data: {} }] },
    ]);
  }
  const whole = await globals(client, "a");
  assert.equal(whole.length, 140);
  const paged: number[] = [];
  for (let page = [0]; page.length > 0; ) {
    page = await globals(client, "a", { position: (paged.at(-1) ?? 0) + 1, batchSize: 11 });
    paged.push(...page);
  }
  assert.deepEqual(paged, whole);
});
