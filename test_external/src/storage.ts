/** Where a test server keeps its messages: one of three backends, fresh each time. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { unique } from "./client.ts";
import { temporaryDirectory } from "./command.ts";
import { rememberPassword } from "./secrets.ts";

export type Mode = "test" | "production";
export type Storage = {
  /** The flags that make a server use it. */
  flags: (mode: Mode) => string[];
  remove: () => Promise<void>;
};

export type Backend = "sqlite" | "memory" | "postgres";

/** The backend of this run, from EVENTODB_TEST_BACKEND. */
export const BACKEND: Backend = chosenBackend();

/** Fresh storage of the chosen backend. */
export function newStorage(): Promise<Storage> {
  return open[BACKEND]();
}

/** Fresh storage in files, whatever the chosen backend is, and the directory that they are in. */
export async function newFileStorage(): Promise<Storage & { directory: string }> {
  return open.sqlite();
}

/** Fresh storage that outlives its server: the chosen backend, or a file where that is memory. */
export function newDurableStorage(): Promise<Storage> {
  return open[BACKEND === "memory" ? "sqlite" : BACKEND]();
}

const open = {
  async sqlite() {
    const directory = temporaryDirectory();
    return {
      directory: directory.path,
      // In test mode only a URL makes the server use its durable file.
      flags: (mode: Mode) => [...(mode === "test" ? ["--db-url", "sqlite://test.db"] : []), "--data-dir", directory.path],
      remove: directory.remove,
    };
  },
  async memory() {
    return { flags: (mode: Mode) => (mode === "test" ? [] : ["--db-url", "sqlite://:memory:"]), remove: async () => {} };
  },
  async postgres() {
    const url = new URL(adminUrl());
    rememberPassword(url.href);
    url.pathname = `/${unique("eventodb_test_")}`;
    await sql(`CREATE DATABASE ${url.pathname.slice(1)}`);
    return {
      flags: () => ["--db-url", url.href],
      remove: () => sql(`DROP DATABASE ${url.pathname.slice(1)} WITH (FORCE)`),
    };
  },
} satisfies Record<Backend, () => Promise<Storage>>;

async function sql(statement: string): Promise<void> {
  await promisify(execFile)("psql", [adminUrl(), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-c", statement]);
}

function adminUrl(): string {
  const url = process.env.EVENTODB_TEST_PG_URL;
  if (!url) throw new Error("EVENTODB_TEST_BACKEND=postgres needs EVENTODB_TEST_PG_URL, like postgres://user@host:5432/postgres");
  return url;
}

function chosenBackend(): Backend {
  const name = process.env.EVENTODB_TEST_BACKEND || "sqlite";
  if (name === "sqlite" || name === "memory" || name === "postgres") return name;
  throw new Error(`EVENTODB_TEST_BACKEND is sqlite, memory or postgres, not ${name}`);
}
