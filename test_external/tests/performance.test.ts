/** The performance API: statistics of requests, as JSON. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { failureOf, tokenFor, unique, type Client } from "../src/client.ts";
import { subscribe } from "../src/sse.ts";
import { sharedServer, startServer, test } from "../src/suite.ts";

// Each call below with `waitMs` takes longer than this, but not without its wait.
const { get } = sharedServer({ flags: ["--slow-query-threshold-ms", "60000"] });
const PATH = "/api/v1/performance";
const PERIODS = ["process", "lastMinute", "last5Minutes", "last60Minutes"];
const STATISTICS = ["seconds", "total", "perSecond", "refused", "failed", "slow", "slowPercent", "averageMs", "p50Ms", "p95Ms", "p99Ms", "p999Ms", "maxMs"];
const TABLE = readFileSync(new URL("../../server/src/api/methods.rs", import.meta.url), "utf8");

async function page(client: Client, path = ""): Promise<any> {
  const reply = await client.send({ path: `${PATH}${path}` });
  assert.deepEqual([reply.status, reply.headers["content-type"]], [200, "application/json"], reply.text);
  return JSON.parse(reply.text);
}

const message = { type: "T", data: {} };

test("[R-perf.1 R-perf.2] statistics over the process and the last minutes", async () => {
  const client = get().client(tokenFor(unique("n-")));
  const before = await page(client);
  assert.deepEqual(Object.keys(before.requests), PERIODS);
  for (const period of PERIODS) assert.deepEqual(Object.keys(before.requests[period]), STATISTICS);
  for (let call = 0; call < 20; call++) await client.write("a-1");
  for (let call = 0; call < 3; call++) await client.call("message.get", "no id");
  const { since, requests } = await page(client);
  assert.equal(since.slice(0, 19), before.since.slice(0, 19));
  for (const period of PERIODS) {
    const of = requests[period];
    assert.ok(of.total - before.requests[period].total >= 23, JSON.stringify(of));
    assert.ok(of.refused - before.requests[period].refused >= 3);
    assert.ok(0 < of.p50Ms && of.p50Ms <= of.p95Ms && of.p95Ms <= of.p99Ms && of.p99Ms <= of.p999Ms && of.p999Ms <= of.maxMs, JSON.stringify(of));
    assert.ok(of.averageMs > 0 && of.averageMs <= of.maxMs);
    assert.ok(Math.abs(of.perSecond - of.total / of.seconds) < 0.001, JSON.stringify(of));
  }
});

test("[R-perf.3 R-perf.5] each request is counted once, in its pattern, as in /metrics", async (t) => {
  const server = await startServer(t, { flags: ["--slow-query-threshold-ms", "60000"] });
  const [client, namespace] = [server.client(tokenFor("shop")), "shop"];
  for (let call = 0; call < 11; call++) await client.write("a-1");
  for (let call = 0; call < 7; call++) await client.call("category.get", "nothing", { waitMs: 1 });
  for (let call = 0; call < 5; call++) await client.send({ path: `/made/up/${call}` });
  const counted = (await client.send({ path: "/metrics" })).text.matchAll(/^eventodb_requests_total\{.*\} (\d+)$/gm);
  const inMetrics = [...counted].reduce((sum, [, count]) => sum + Number(count), 0);
  const overview = await page(client);
  assert.equal(overview.requests.process.total, inMetrics + 1, "the scrape is the one more");
  const { patterns } = await page(client, "/queries");
  const sum = patterns.reduce((total: number, pattern: any) => total + pattern.total, 0);
  assert.equal(sum, inMetrics + 2);
  const of = (method: string) => patterns.filter((pattern: any) => pattern.method === method).map((pattern: any) => [pattern.operation, pattern.namespace, pattern.total, pattern.slow]);
  assert.deepEqual(of("stream.write"), [["append", namespace, 11, 0]]);
  assert.deepEqual(of("category.get"), [["read", namespace, 7, 0]]);
  assert.deepEqual(of("unknown path"), [["none", null, 5, 0]]);
  for (const { method } of patterns) assert.ok(TABLE.includes(`"${method}"`), method);
  assert.deepEqual(Object.keys(patterns[0]), ["operation", "method", "namespace", ...STATISTICS]);
  const time = patterns.map((pattern: any) => pattern.averageMs * pattern.total);
  assert.deepEqual(time, [...time].sort((a, b) => b - a));
});

test("[R-perf.5] namespaces beyond the bound are counted together", async (t) => {
  const client = (await startServer(t)).client();
  for (let number = 0; number < 110; number++) await client.as(tokenFor(`n-${number}`)).call("stream.version", "a-1");
  const { patterns } = await page(client, "/queries");
  const versions = patterns.filter((pattern: any) => pattern.method === "stream.version");
  assert.equal(versions.length, 101);
  assert.equal(versions.find((pattern: any) => pattern.namespace === "other").total, 10);
});

test("[R-perf.4] points for charts", async () => {
  const client = get().client();
  await client.rpc("sys.version");
  for (const [series, step] of [["hour", 1], ["day", 60]] as const) {
    const { stepSeconds, columns, points } = (await page(client, `?series=${series}`)).series;
    assert.equal(stepSeconds, step);
    assert.deepEqual(columns, ["time", "total", "refused", "failed", "slow", "averageMs", "p50Ms", "p99Ms", "maxMs"]);
    const last = points.at(-1);
    assert.equal(last.length, columns.length);
    assert.ok(Math.abs(last[0] - Date.now() / 1000) < 5 + step, `${last[0]}`);
    assert.ok(last[1] > 0);
    assert.deepEqual(points.map((point: number[]) => point[0]), points.map((point: number[]) => point[0]).sort());
  }
  assert.equal("series" in (await page(client)), false);
  const wrong = failureOf(await client.send({ path: `${PATH}?series=week` }));
  assert.deepEqual([wrong.status, wrong.code], [400, "INVALID_REQUEST"]);
});

test("[R-perf.6 R-perf.3] slow requests tell no name and no data", async (t) => {
  const server = await startServer(t, { flags: ["--slow-query-threshold-ms", "0"] });
  const client = server.client(tokenFor("shop"));
  await client.call("stream.write", "secretly-7", { type: "Hidden", data: { a: "covert" } });
  await client.call("stream.write", "secretly-7", message, { expectedVersion: 5 });
  await client.call("category.get", "secretly", { globalPosition: 100, waitMs: 20 });
  const reply = await client.send({ path: `${PATH}/queries` });
  for (const secret of ["secretly", "Hidden", "covert", client.token!]) assert.ok(!reply.text.includes(secret), secret);
  const { recentSlow, topSlow } = JSON.parse(reply.text);
  const [waited, refused, written] = recentSlow;
  assert.deepEqual(Object.keys(written), ["time", "method", "namespace", "durationMs", "waitMs", "status", "code", "requestId"]);
  assert.deepEqual([written.method, written.namespace, written.status, written.code, written.waitMs], ["stream.write", "shop", 200, null, 0]);
  assert.deepEqual([refused.status, refused.code], [409, "STREAM_VERSION_CONFLICT"]);
  assert.deepEqual([waited.method, waited.waitMs], ["category.get", 20]);
  assert.ok(waited.durationMs >= 20, JSON.stringify(waited));
  assert.equal(topSlow.length, 3);
});

test("[R-perf.7 R-perf.8] in production figures need a token of default, and a reset the administrator", async (t) => {
  const server = await startServer(t, { mode: "production" });
  const administrator = server.client(server.madeToken);
  const reader = administrator.as((await administrator.rpc("token.create", { rights: ["read"] })).token);
  const tenant = administrator.as((await administrator.rpc("ns.create", "shop")).token);
  const reset = (client: Client) => client.send({ method: "POST", path: `${PATH}/reset` });
  const failure = async (client: Client, path: string) => failureOf(await client.send({ path })).code;
  for (const path of ["", "/queries", "/cache", "/database", "/groups"].map((page) => `${PATH}${page}`)) {
    assert.equal(await failure(server.client(), path), "AUTH_REQUIRED");
    assert.equal(await failure(tenant, path), "AUTH_UNAUTHORIZED");
    assert.equal((await reader.send({ path })).status, 200);
  }
  for (const client of [reader, tenant]) assert.equal(failureOf(await reset(client)).code, "AUTH_UNAUTHORIZED");
  const before = await page(administrator);
  assert.ok(before.requests.process.total > 5);
  const reply = await reset(administrator);
  assert.equal(reply.status, 200, reply.text);
  const { since } = JSON.parse(reply.text);
  assert.ok(since > before.since);
  const after = await page(administrator);
  assert.equal(after.requests.process.total, 1, "the reset itself");
  const patterns = (await page(administrator, "/queries")).patterns.map(({ method, total }: any) => [method, total]);
  assert.deepEqual(patterns.sort(), [[PATH, 1], [`${PATH}/reset`, 1]]);
  const metrics = (await administrator.send({ path: "/metrics" })).text;
  assert.ok(metrics.includes('eventodb_requests_total{method="token.create",status="200"} 1'), metrics);
});

test("[R-perf.9 R-perf.10] what was found in memory, and the database", async (t) => {
  const client = (await startServer(t)).client(tokenFor("shop"));
  for (let call = 0; call < 5; call++) await client.write("a-1");
  for (let call = 0; call < 3; call++) await client.rpc("stream.get", "a-1");
  const cache = await page(client, "/cache");
  assert.deepEqual(Object.keys(cache), ["tailBytes", "tailLimitBytes", "reads", "versions"]);
  assert.ok(cache.tailBytes > 0 && cache.tailBytes <= cache.tailLimitBytes, JSON.stringify(cache));
  assert.ok(cache.reads.hits + cache.reads.misses >= 3, JSON.stringify(cache));
  for (const { hits, misses, hitPercent } of [cache.reads, cache.versions]) {
    assert.ok(Math.abs(hitPercent - (hits + misses === 0 ? 0 : (100 * hits) / (hits + misses))) < 0.01, JSON.stringify(cache));
  }
  const database = await page(client, "/database");
  assert.deepEqual([database.backend, database.messages, database.queued], [(await client.rpc("sys.health")).backend, 5, 0]);
  assert.ok(database.commit.count >= 1 && database.commit.averageMs > 0 && database.commit.recentMaxMs > 0, JSON.stringify(database));
  assert.ok(database.queueWait.count >= 5);
  for (const pool of database.pools) {
    assert.deepEqual(Object.keys(pool), ["name", "limit", "open", "idle", "waiting", "utilizationPercent", "acquired", "averageAcquireMs"]);
    assert.ok(pool.open <= pool.limit && pool.idle <= pool.open, JSON.stringify(pool));
  }
});

test("[R-perf.11 R-perf.8] groups and subscriptions", async (t) => {
  const server = await startServer(t);
  const client = server.client(tokenFor("shop"));
  for (let call = 0; call < 3; call++) await client.write("a-1");
  await client.rpc("group.create", "near", { categories: ["b"], partitions: 2 });
  await client.rpc("group.create", "far", { categories: ["a"], partitions: 2 });
  const subscription = await subscribe(t, client, { category: "a" });
  const { groups, subscriptions } = await page(client, "/groups");
  assert.deepEqual(groups.map((of: any) => [of.namespace, of.group, of.lagMessages, of.parkedStreams, of.unownedPartitions]), [["shop", "far", 3, 0, 2], ["shop", "near", 0, 0, 2]]);
  assert.ok(groups[0].lagSeconds >= 0);
  assert.deepEqual([subscriptions.stream, subscriptions.category, subscriptions.all], [0, 1, 0]);
  await subscription.pokes(1);
  await client.send({ method: "POST", path: `${PATH}/reset` });
  const after = (await page(client, "/groups")).subscriptions;
  assert.ok(after.pokes >= 1 && after.category === 1, JSON.stringify(after));
});
