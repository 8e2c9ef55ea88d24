/** Calls about the server itself. */
import assert from "node:assert/strict";
import { VERSION } from "../src/client.ts";
import { BACKEND } from "../src/storage.ts";
import { sharedServer, test } from "../src/suite.ts";

const { get } = sharedServer();

test("[R-sys.1 R-http.9] one version, wherever it is asked for", async () => {
  const client = get().client();
  const version = await client.rpc<string>("sys.version");
  assert.match(version, VERSION);
  assert.equal((await client.send({ path: "/version" })).text, JSON.stringify({ version }));
});

test("[R-sys.2] health tells the backend", async () => {
  const health = await get().client().rpc("sys.health");
  assert.deepEqual(Object.keys(health), ["status", "backend", "connections"]);
  assert.deepEqual([health.status, health.backend], ["ok", BACKEND === "postgres" ? "postgres" : "sqlite"]);
  assert.ok(Number.isInteger(health.connections) && health.connections >= 0);
});
