/** Environment variables instead of flags. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { assertFails, tokenFor } from "../src/client.ts";
import { directoryFor, startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

const token = tokenFor("default");

test("[R-cli.2] host, port, directory and token", async (t) => {
  const directory = directoryFor(t);
  const env = { EVENTODB_HOST: "127.0.0.2", EVENTODB_PORT: "0", EVENTODB_DATA_DIR: directory, EVENTODB_SERVE_TOKEN: token };
  const server = await startServer(t, { args: ["serve"], env, address: /https?:\/\/127\.0\.0\.2:(\d+)/ });
  await server.client(token).write("a-1");
  assert.ok(readdirSync(directory).length > 0);
  await assertFails(server.client().failure("ns.list"), 401, "AUTH_REQUIRED");
});

test("[R-cli.2] the clients' variable names a token too, with a warning, where it fits", async (t) => {
  const directory = directoryFor(t);
  const env = { EVENTODB_PORT: "0", EVENTODB_DATA_DIR: directory };
  const first = await startServer(t, { args: [], env: { ...env, EVENTODB_TOKEN: token } });
  await first.client(token).rpc("ns.list");
  await until("the warning in the log", () => /WARN.*EVENTODB_SERVE_TOKEN/.exec(first.stderr));
  await first.stop();
  const second = await startServer(t, { args: [], env: { ...env, EVENTODB_TOKEN: tokenFor("default") } });
  await second.client(token).rpc("ns.list");
  await until("the warning in the log", () => /WARN.*EVENTODB_TOKEN.*ignored/.exec(second.stderr));
});

test("[R-cli.2 R-cli.10] database", async (t) => {
  const directory = directoryFor(t);
  const env = { EVENTODB_PORT: "0", EVENTODB_DB_URL: "sqlite://:memory:", EVENTODB_DATA_DIR: directory, EVENTODB_SERVE_TOKEN: token };
  for (let round = 0; round < 2; round++) {
    const server = await startServer(t, { args: [], env });
    assert.equal((await server.client(token).write("a-1")).position, 0);
    await server.stop();
  }
});

test("[R-cli.4] boolean variables", async (t) => {
  const env = { EVENTODB_PORT: "0", EVENTODB_DB_URL: "sqlite://:memory:", EVENTODB_SERVE_TOKEN: token };
  for (const [value, isTestMode] of [["1", true], ["true", true], ["0", false], ["false", false]] as const) {
    const server = await startServer(t, { args: [], env: { ...env, EVENTODB_TEST_MODE: value } });
    assert.equal((await server.client().call("ns.list")).status, isTestMode ? 200 : 401, value);
    await server.stop();
  }
});

test("[R-cli.2 R-cli.19] log level and format", async (t) => {
  const env = { EVENTODB_PORT: "0", EVENTODB_TEST_MODE: "1", EVENTODB_LOG_FORMAT: "json", EVENTODB_LOG_LEVEL: "debug" };
  const server = await startServer(t, { args: ["--access-log"], env });
  await server.client().call("no.such.method");
  const logged = await until("a line in the log", () => /^\{.*\}$/m.exec(server.stderr)?.[0]);
  assert.equal(typeof JSON.parse(logged), "object");
});

test("[R-cli.5] other variables are ignored", async (t) => {
  const env = { EVENTODB_PORT: "0", EVENTODB_TEST_MODE: "1", EVENTODB_NONSENSE: "x", EVENTODB_BIN: "/nowhere", EVENTODB_TEST: "maybe", EVENTODB_: "x" };
  const server = await startServer(t, { args: [], env });
  await server.client().write("a-1");
});
