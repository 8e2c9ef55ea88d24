/** The consumer in twenty lines of docs/GUIDE.md: killed at any moment and started again, it loses nothing. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanEnvironment } from "../src/command.ts";
import { fencedBlocks, readGuide } from "../src/document.ts";
import { newGroup } from "../src/kept-group.ts";
import type { Client } from "../src/client.ts";
import { directoryFor, sharedServer, test, type Context } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const { fresh } = sharedServer();

/** The consumer as the guide shows it. */
function script(): string {
  const block = fencedBlocks(readGuide()).find(({ text }) => text.includes("cat > target/guide/consumer"))!;
  const text = /<< 'EOF'\n([\s\S]*?)^EOF$/m.exec(block.text)![1]!;
  assert.ok(text.trimEnd().split("\n").length <= 20, "twenty lines");
  return text;
}

/** Starts the consumer of the guide with a command that a shell runs. */
function starter(t: Context, client: Client, group: string, command: string) {
  const program = join(directoryFor(t), "consumer");
  writeFileSync(program, script(), { mode: 0o755 });
  let consumer: ChildProcess | undefined;
  const kill = () => consumer && process.kill(-consumer.pid!, "SIGKILL");
  t.after(() => kill());
  const start = () => {
    const env = { ...cleanEnvironment(), EVENTODB_URL: client.url, EVENTODB_TOKEN: client.token! };
    consumer = spawn(program, [group, "one", "bash", "-c", command], { env, detached: true, stdio: "ignore" });
  };
  return { start, kill };
}

test("[R-group-read.1 R-group-read.7 R-group-join.3] a consumer in shell that is killed and started again loses nothing", async (t) => {
  const client = fresh();
  const { group, category } = await newGroup(client, { partitions: 4 });
  const handled = join(directoryFor(t), "handled");
  const { start, kill } = starter(t, client, group, `cat >> ${handled}`);
  const places = () => (existsSync(handled) ? readFileSync(handled, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line)) : []);

  start();
  let written = 0;
  for (const least of [1, 5, 9, 13]) {
    for (let i = 0; i < 5; i++, written++) await client.write(`${category}-${i % 3}`);
    await until("some messages", () => places().length >= least);
    kill();
    start();
  }
  await until("all messages", async () => (await client.rpc("group.wait", group, { globalPosition: written, timeoutMs: 1000 })).reached);
  kill();
  const rows = places();
  assert.deepEqual([...new Set(rows.map((row) => row[4]))].sort((a, b) => a - b), Array.from({ length: written }, (_, i) => i + 1));
  for (let stream = 0; stream < 3; stream++) {
    const first = [...new Set(rows.filter((row) => row[1] === `${category}-${stream}`).map((row) => row[4]))];
    assert.deepEqual(first, [...first].sort((a, b) => a - b), "in order within a stream");
  }
});

test("[R-group-park.1 R-group-park.3 R-group-lease.1] it comes past a long message and tries a failed one again", async (t) => {
  const client = fresh();
  const { group, category } = await newGroup(client, { partitions: 1, sessionMs: 2000 });
  const [handled, mended] = [join(directoryFor(t), "handled"), join(directoryFor(t), "mended")];
  const command = `read -r row; case $row in *-bad*) [ -e ${mended} ] || exit 1;; *-long*) sleep 3;; esac; echo "$row" >> ${handled}`;
  const streams = () => (existsSync(handled) ? readFileSync(handled, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line)[1]) : []);
  const [bad, long, good] = ["bad", "long", "good"].map((id) => `${category}-${id}`) as [string, string, string];
  for (const stream of [bad, long, good, bad]) await client.write(stream);
  starter(t, client, group, command).start();
  await until("the other streams", () => streams().includes(good));
  assert.deepEqual(streams(), [long, good], "once, although it took longer than a session");
  writeFileSync(mended, "");
  await client.rpc("group.retry", group, { all: true });
  await until("the end of the park", async () => (await client.rpc("group.parked", group)).length === 0);
  assert.deepEqual(streams(), [long, good, bad, bad]);
});
