/**
 * What a message takes on the disk: `npm run bytes`, on the backend that EVENTODB_TEST_BACKEND names. The table of docs/CAPACITY.md is made of it.
 *
 * 200,000 messages are appended, ten at a time, to 5,000 streams of 20 categories; without metadata, with generated ids.
 * SQLite: the bytes of all files after the server's end. PostgreSQL: the growth of the database, indexes included, without its write-ahead log.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Server } from "./server.ts";
import { BACKEND, newDurableStorage } from "./storage.ts";
import type { Client } from "./client.ts";

const MESSAGES = 200_000;
const STREAMS = 5_000;
const BATCH = 10;
const WRITERS = 16;

for (const size of [64, 256, 1024, 4096]) {
  const storage = await newDurableStorage();
  const flags = storage.flags("production");
  const server = await Server.start({ mode: "production", storage });
  const before = bytes(flags);
  await fill(server.client(server.madeToken), size);
  await server.stop();
  console.log(`${BACKEND}: ${size} bytes of data, ${Math.round((bytes(flags) - before) / MESSAGES)} bytes a message on the disk`);
  await server.dispose();
  await storage.remove();
}

async function fill(client: Client, size: number): Promise<void> {
  let next = 0;
  const writer = async () => {
    for (let batch = next++; batch < MESSAGES / BATCH; batch = next++) {
      const stream = `category${batch % 20}-${batch % STREAMS}`;
      await client.rpc("stream.append", stream, Array.from({ length: BATCH }, () => ({ type: "Happened", data: { text: text(size) } })));
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, writer));
}

/** Text that makes the data this long, and that cannot be compressed much. */
function text(size: number): string {
  return randomBytes(size).toString("base64").slice(0, size - '{"text":""}'.length);
}

function bytes(flags: string[]): number {
  const url = flags[flags.indexOf("--db-url") + 1]!;
  if (url.startsWith("postgres")) {
    execFileSync("psql", [url, "-qAtX", "-c", "VACUUM ANALYZE"]);
    return Number(execFileSync("psql", [url, "-qAtX", "-c", "SELECT pg_database_size(current_database())"]));
  }
  const directory = flags[flags.indexOf("--data-dir") + 1]!;
  return readdirSync(directory, { recursive: true }).reduce((sum, name) => sum + sizeOf(join(directory, String(name))), 0);
}

function sizeOf(path: string): number {
  const found = statSync(path);
  return found.isFile() ? found.blocks * 512 : 0;
}
