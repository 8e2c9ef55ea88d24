/** A Message DB, made by the scripts of npm's @eventide/message-db in a database of its own, with writers and members of a consumer group. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { unique } from "./client.ts";
import { ROOT } from "./command.ts";
import { rememberPassword } from "./secrets.ts";

const SCRIPTS = join(ROOT, "test_external/node_modules/@eventide/message-db/database");
/** What JSON has to escape, and digits that a number in JavaScript would lose. */
const DATA = String.raw`{"text": "tab\t \"quoted\" back\\slash\nline \u0001 ü", "amount": 1.50, "large": 9007199254740993, "list": [{}, []]}`;

export class MessageDb {
  private constructor(readonly url: string, private admin: string) {}

  static async create(admin: string): Promise<MessageDb> {
    rememberPassword(admin);
    const url = new URL(admin);
    const name = unique("message_db_");
    url.pathname = `/${name}`;
    await execute("psql", [admin, "-qX", "-c", `CREATE DATABASE ${name}`]);
    const connection = { PGHOST: url.hostname, PGPORT: url.port, PGUSER: url.username, PGPASSWORD: url.password };
    const env = { ...process.env, ...connection, DATABASE_NAME: name, CREATE_DATABASE: "off" };
    await execute("bash", [join(SCRIPTS, "install.sh")], { env });
    return new MessageDb(url.href, admin);
  }

  async remove(): Promise<void> {
    await execute("psql", [this.admin, "-qX", "-c", `DROP DATABASE ${new URL(this.url).pathname.slice(1)} WITH (FORCE)`]);
  }

  /** Runs SQL, and returns the lines that it prints. */
  sql(statements: string): Promise<string[]> {
    const child = spawn("psql", [this.url, "-qAtX", "-v", "ON_ERROR_STOP=1"], { stdio: "pipe" });
    let [output, errors] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
    child.stdin.end(`SET search_path = message_store, public;\n${statements};\n`);
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => (code === 0 ? resolve(output.split("\n").slice(0, -1)) : reject(new Error(errors))));
    });
  }

  /** The rows of a query as JSON texts. */
  rows(query: string): Promise<string[]> {
    return this.sql(String.raw`COPY (${query}) TO STDOUT WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')`);
  }

  /** Writes messages over 50 streams of a category in one transaction, which ends some time after its last write. */
  async write(category: string, count: number, open = "0"): Promise<void> {
    const stream = `'${category}-' || n % 50 || CASE n % 7 WHEN 0 THEN '+audit' ELSE '' END`;
    const metadata = `CASE n % 3 WHEN 0 THEN NULL ELSE '{"correlationStreamName": "transfer-1"}'::jsonb END`;
    await this.sql(`BEGIN;
      SELECT count(write_message(gen_random_uuid()::varchar, ${stream}, 'Happened', '${DATA}'::jsonb || jsonb_build_object('n', n), ${metadata}))
      FROM generate_series(1, ${count}) n;
      SELECT pg_sleep(${open});
      COMMIT`);
  }

  /** Writes a message to a stream that is named as its category, which belongs to no member of a consumer group. */
  async writeWithoutId(category: string): Promise<void> {
    await this.sql(`SELECT write_message(gen_random_uuid()::varchar, '${category}', 'Happened', '{}')`);
  }

  /** Writes until the messages have moved. */
  async writeUntilMoved(category: string, open: string): Promise<void> {
    for (;;) {
      try {
        await this.write(category, 10, open);
      } catch (error) {
        assert.match(String(error), /have moved/);
        return;
      }
    }
  }

  /** A member of a consumer group of 3 handles the first messages of its share: their ids, and the position of the last. */
  async member(category: string, member: number, count: number): Promise<{ ids: string[]; checkpoint: number }> {
    const ids: string[] = [];
    let checkpoint = 0;
    while (ids.length < count) {
      const batch = Math.min(1000, count - ids.length);
      const page = await this.rows(`SELECT json_build_array(id, global_position) FROM get_category_messages('${category}', ${checkpoint + 1}, ${batch}, NULL, ${member}, 3)`);
      for (const row of page) {
        const [id, position] = JSON.parse(row);
        ids.push(id);
        checkpoint = position;
      }
    }
    return { ids, checkpoint };
  }
}

const execute = promisify(execFile);
