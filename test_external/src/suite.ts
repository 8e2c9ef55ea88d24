/** What each test file begins with: `test`, and a server shared by the tests of the file. */
import { after, before, test as nodeTest } from "node:test";
import type { Client } from "./client.ts";
import { temporaryDirectory } from "./command.ts";
import { outputOfServers, Server, type StartOptions } from "./server.ts";
import { newDurableStorage, type Storage } from "./storage.ts";

type CleanUp = () => unknown;
/** What a test is given: what it registers here is done after it, the last first, as in taking down what was built up. */
export type Context = { after: (cleanUp: CleanUp) => void };
export type Run = (t: Context) => void | Promise<void>;

/** A test of the rules named in brackets in its title; where it fails, the output of the servers is shown. */
export function test(title: string, run: Run): void {
  void nodeTest(title, async (t) => {
    const cleanUps: CleanUp[] = [];
    t.after(() => allOf(cleanUps.reverse()));
    try {
      await run({ after: (cleanUp) => void cleanUps.push(cleanUp) });
    } catch (error) {
      t.diagnostic(outputOfServers());
      throw error;
    }
  });
}

/** Runs each, also where one before it fails; fails with the first failure. */
async function allOf(cleanUps: CleanUp[]): Promise<void> {
  const failures: unknown[] = [];
  for (const cleanUp of cleanUps) {
    try {
      await cleanUp();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** One server for all tests of a file. */
export function sharedServer(options: StartOptions = {}): { get: () => Server; fresh: () => Client } {
  let server: Server | undefined;
  before(async () => {
    server = await Server.start(options);
  });
  after(() => server?.dispose());
  const get = () => {
    if (!server) throw new Error("the server did not start");
    return server;
  };
  return { get, fresh: () => get().fresh() };
}

/** A server for one test. */
export async function startServer(t: Context, options: StartOptions = {}): Promise<Server> {
  const server = await Server.start(options);
  t.after(() => server.dispose());
  return server;
}

/** Storage for servers that follow each other in one test. */
export async function durableStorage(t: Context): Promise<Storage> {
  const storage = await newDurableStorage();
  t.after(storage.remove);
  return storage;
}

/** An empty directory for one test. */
export function directoryFor(t: Context): string {
  const directory = temporaryDirectory();
  t.after(directory.remove);
  return directory.path;
}
