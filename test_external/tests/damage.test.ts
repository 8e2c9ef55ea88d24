/** A stored message that somebody changed in the file of a stopped server. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { failureOf } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { newFileStorage } from "../src/storage.ts";
import { startServer, test, type Context } from "../src/suite.ts";

/** A server on five messages, the third of which was changed. */
async function damaged(t: Context) {
  const storage = await newFileStorage();
  t.after(() => storage.remove());
  const first = await startServer(t, { storage });
  for (let at = 0; at < 5; at++) await first.client().rpc("stream.write", "a-1", { type: "T", data: { amount: 1000 + at } });
  assert.equal((await first.stop()).code, 0);
  change(storage.directory, '{"amount":1002}', '{"amount":9002}');
  return startServer(t, { storage });
}

/** Changes the one place where a text stands in the logs of a directory. */
function change(directory: string, from: string, to: string): void {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".log.db"));
  const holding = names.map((name) => join(directory, name)).filter((path) => readFileSync(path).includes(from));
  assert.equal(holding.length, 1);
  const bytes = readFileSync(holding[0]!);
  bytes.write(to, bytes.indexOf(from));
  writeFileSync(holding[0]!, bytes);
}

test("[R-read.13 R-error.19] a page ends before a damaged message, and a read that begins there says so", async (t) => {
  const client = (await damaged(t)).client();
  const amounts = async (method: string, ...args: unknown[]) => (await client.rpc<any[]>(method, ...args)).map((message) => message.at(-3).amount);
  assert.deepEqual(await amounts("category.get", ""), [1000, 1001]);
  assert.deepEqual(await amounts("category.get", "a", { position: 4 }), [1003, 1004]);
  assert.deepEqual(await amounts("stream.get", "a-1", { direction: "backward" }), [1004, 1003]);
  for (const [method, ...args] of [["category.get", "", { position: 3 }], ["stream.get", "a-1", { position: 2 }]] as [string, ...unknown[]][]) {
    const failure = failureOf(await client.call(method, ...args));
    assert.deepEqual([failure.code, failure.status, failure.details], ["DATA_DAMAGED", 500, { globalPosition: 3 }]);
  }
});

test("[R-frame.16] a subscription ends before a damaged message", async (t) => {
  const client = (await damaged(t)).client();
  const subscription = await subscribe(t, client, { all: "true", position: 1 });
  const frames = await subscription.upTo("damaged");
  assert.deepEqual(frames.filter((frame) => frame.kind === "poke").map((poke) => poke.globalPosition), [1, 2]);
  const told = frames.at(-1);
  assert.ok(told?.kind === "damaged" && told.head === 3);
  assert.deepEqual(await subscription.ended(), []);
});
