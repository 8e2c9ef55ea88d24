/** What each test file begins with: `test`, and a server shared by the tests of the file. */
import { after, before, test as nodeTest, type TestContext } from "node:test";
import type { Client } from "./client.ts";
import { outputOfServers, Server, type StartOptions } from "./server.ts";

export type Run = (t: TestContext) => void | Promise<void>;

/** A test of the rules named in brackets in its title; where it fails, the output of the servers is shown. */
export function test(title: string, run: Run): void {
  void nodeTest(title, async (t) => {
    try {
      await run(t);
    } catch (error) {
      t.diagnostic(outputOfServers());
      throw error;
    }
  });
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
export async function startServer(t: TestContext, options: StartOptions = {}): Promise<Server> {
  const server = await Server.start(options);
  t.after(() => server.dispose());
  return server;
}
