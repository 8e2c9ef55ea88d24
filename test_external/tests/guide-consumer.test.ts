/** The consumer in twenty lines of docs/GUIDE.md: killed at any moment and started again, it loses nothing. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanEnvironment } from "../src/command.ts";
import { fencedBlocks, readGuide } from "../src/document.ts";
import { newGroup } from "../src/kept-group.ts";
import { directoryFor, sharedServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const { fresh } = sharedServer();

/** The consumer as the guide shows it. */
function script(): string {
  const block = fencedBlocks(readGuide()).find(({ text }) => text.includes("cat > target/guide/consumer"))!;
  const text = /<< 'EOF'\n([\s\S]*?)^EOF$/m.exec(block.text)![1]!;
  assert.ok(text.trimEnd().split("\n").length <= 20, "twenty lines");
  return text;
}

test("[R-group-read.1 R-group-read.7 R-group-join.3] a consumer in shell that is killed and started again loses nothing", async (t) => {
  const client = fresh();
  const { group, category } = await newGroup(client, { partitions: 4 });
  const directory = directoryFor(t);
  const [program, handled] = [join(directory, "consumer"), join(directory, "handled")];
  writeFileSync(program, script(), { mode: 0o755 });
  let consumer: ChildProcess | undefined;
  const kill = () => consumer && process.kill(-consumer.pid!, "SIGKILL");
  const start = () => {
    const env = { ...cleanEnvironment(), EVENTODB_URL: client.url, EVENTODB_TOKEN: client.token! };
    consumer = spawn(program, [group, "one", "sh", "-c", `cat >> ${handled}`], { env, detached: true, stdio: "ignore" });
  };
  const places = () => (existsSync(handled) ? readFileSync(handled, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line)) : []);
  t.after(() => kill());

  start();
  let written = 0;
  for (const least of [1, 9, 17, 25]) {
    for (let i = 0; i < 10; i++, written++) await client.write(`${category}-${i % 3}`);
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
