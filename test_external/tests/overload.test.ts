/** Writes that are refused so that the others are answered in time, and so that the disk does not fill up. */
import assert from "node:assert/strict";
import { failureOf, type Client } from "../src/client.ts";
import { newFileStorage } from "../src/storage.ts";
import { startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const MESSAGE = { type: "T", data: {} };

test("[R-overload.1 R-error.14] writes that come faster than they are committed are refused, and none of those is done", async (t) => {
  const flags = ["--queue-target-ms", "1", "--queue-interval-ms", "1", "--batch-messages", "1"];
  const client = (await startServer(t, { flags })).fresh();
  let written = 0;
  const write = async () => {
    const reply = await client.call("stream.write", "a-1", MESSAGE);
    if (reply.status === 200) written++;
    return reply;
  };
  const refused = await until("a write is refused", async () => {
    const replies = await Promise.all(Array.from({ length: 500 }, write));
    return replies.find((reply) => reply.status !== 200);
  });
  const failure = failureOf(refused);
  assert.deepEqual([failure.status, failure.code], [503, "OVERLOADED"], failure.message);
  assert.match(refused.headers["retry-after"] as string, /^[1-3]$/);
  assert.equal(await client.rpc("stream.version", "a-1"), written - 1);
  assert.deepEqual(await client.write("b-1"), { position: 0, globalPosition: written + 1 }, "it is over at once");
});

test("[R-overload.2 R-error.15 R-probe.3 R-probe.4] on a disk without the reserve writes are refused and reads answered", async (t) => {
  const storage = await newFileStorage();
  t.after(storage.remove);
  const first = await startServer(t, { storage, flags: ["--min-free", "0"] });
  await first.client().write("a-1");
  assert.equal((await first.stop()).code, 0);
  const server = await startServer(t, { storage, flags: ["--min-free", `${2n ** 62n}`] });
  const client = server.client();
  const failure = failureOf(await client.call("stream.write", "a-1", MESSAGE));
  assert.deepEqual([failure.status, failure.code], [503, "BACKEND_UNAVAILABLE"], failure.message);
  assert.equal((await client.rpc<unknown[]>("stream.get", "a-1")).length, 1);
  assert.deepEqual(await degraded(client, "/health/ready"), [200, ["DISK_LOW"]]);
  for (const query of ["write=true", "write=1", "write=%74rue", "from=elsewhere&write=true"]) {
    assert.deepEqual(await degraded(client, `/health/ready?${query}`), [503, ["DISK_LOW"]], query);
    assert.match((await client.send({ path: `/health/ready?${query}` })).headers["retry-after"] as string, /^[1-3]$/);
  }
  assert.deepEqual(await degraded(client, "/health/ready?write=false"), [200, ["DISK_LOW"]]);
  for (const query of ["Write=true", "write=yes"]) {
    const misspelled = failureOf(await client.send({ path: `/health/ready?${query}` }));
    assert.deepEqual([misspelled.status, misspelled.code], [400, "INVALID_REQUEST"], query);
  }
});

async function degraded(client: Client, path: string): Promise<[status: number, codes: string[]]> {
  const { status, text } = await client.send({ path });
  return [status, JSON.parse(text).degraded.map((reason: { code: string }) => reason.code)];
}
