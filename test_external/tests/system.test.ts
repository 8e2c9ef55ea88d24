/** Calls about the server itself. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type Client, failureOf, VERSION } from "../src/client.ts";
import { BACKEND } from "../src/storage.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";

const { get } = sharedServer();
const METRICS = readFileSync(new URL("../../docs/METRICS.md", import.meta.url), "utf8");

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

test("[R-metrics.1 R-metrics.2 R-metrics.3 R-http.5] metrics count each request once, in the format of Prometheus", async () => {
  const client = get().client();
  const missing = 'eventodb_requests_total{method="message.get",status="400"}';
  const before = await scrape(client);
  for (let call = 0; call < 7; call++) await client.call("message.get", "no id");
  for (let call = 0; call < 3; call++) await client.send({ path: `/made/up/${call}` });
  const after = await scrape(client);
  assert.equal(after.value(missing) - before.value(missing), 7);
  const unknown = 'eventodb_requests_total{method="unknown path",status="404"}';
  assert.equal(after.value(unknown) - before.value(unknown), 3);
  assert.ok(!after.text.includes("/made/up"));
  for (const name of after.names) assert.ok(METRICS.includes(`| \`${name}\` |`), `${name} is not documented`);
});

test("[R-metrics.1] in production metrics need a token, [R-metrics.2] unless they are public", async (t) => {
  const closed = await startServer(t, { mode: "production" });
  assert.equal(failureOf(await closed.client().send({ path: "/metrics" })).code, "AUTH_REQUIRED");
  assert.equal((await closed.client(closed.madeToken).send({ path: "/metrics" })).status, 200);
  const open = await startServer(t, { mode: "production", env: { EVENTODB_METRICS_PUBLIC: "1" } });
  assert.equal((await open.client().send({ path: "/metrics" })).status, 200);
});

/** A scrape, with the values of series and the names of metrics. */
async function scrape(client: Client): Promise<{ text: string; names: string[]; value: (series: string) => number }> {
  const reply = await client.send({ path: "/metrics" });
  assert.deepEqual([reply.status, reply.headers["content-type"]], [200, "text/plain; version=0.0.4; charset=utf-8"]);
  const lines = reply.text.trimEnd().split("\n");
  for (const line of lines) assert.match(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? [0-9.e+-]+)$/);
  const series = new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
  const names = [...reply.text.matchAll(/^# TYPE ([a-z_]+)/gm)].map(([, name]) => name!);
  return { text: reply.text, names, value: (of) => series.get(of) ?? 0 };
}
