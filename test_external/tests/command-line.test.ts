/** The command line: flags, help, and what is refused before the server starts. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertFails, tokenFor, VERSION } from "../src/client.ts";
import { binary, cleanEnvironment, run } from "../src/command.ts";
import type { Server } from "../src/server.ts";
import { directoryFor, startServer, test } from "../src/suite.ts";

const token = tokenFor("default");
const version = (server: Server) => server.client(token).rpc<number | null>("stream.version", "a-1");

/** Refused with one line, which mentions the culprit. */
async function refused(args: string[], mention: RegExp, env: Record<string, string> = {}, expected = 64): Promise<void> {
  // What is logged before is no part of the refusal.
  const { code, stdout, stderr } = await run(args, { EVENTODB_LOG_LEVEL: "error", ...env });
  assert.equal(code, expected, `${args.join(" ")}: ${stderr}`);
  const lines = (stdout + stderr).trim().split("\n");
  assert.equal(lines.length, 1, `one clear line: ${stdout}${stderr}`);
  assert.match(lines[0]!, mention);
}

test("[R-test.13] test mode is for this machine", async () => {
  await refused(["serve", "--test-mode", "--host", "0.0.0.0", "--port", "0"], /--allow-insecure/);
  await refused(["serve", "--test-mode", "--cors-origin", "https://shop.example/"], /--cors-origin/);
});

test("[R-cli.13] help and version", async (t) => {
  for (const args of [["help"], ["--help"], ["-h"], ["serve", "--help"], ["export", "--help"], ["import", "--help"]]) {
    const { code, stdout, stderr } = await run(args);
    assert.deepEqual([code, stderr], [0, ""], args.join(" "));
    assert.match(stdout, /usage/i);
  }
  const server = await startServer(t, { args: ["--test-mode", "--port", "0"] });
  const { version } = JSON.parse((await server.client().send({ path: "/version" })).text);
  assert.match(version, VERSION);
  for (const args of [["version"], ["--version"]]) {
    const { code, stdout } = await run(args);
    assert.equal(code, 0);
    assert.ok(stdout.includes(version), stdout);
  }
});

test("[R-cli.13 R-cli.2] help names each flag and its variable", async () => {
  const { stdout } = await run(["serve", "--help"]);
  for (const flag of ["host", "port", "db-url", "data-dir", "token", "test-mode", "log-level", "log-format"]) {
    assert.ok(stdout.includes(`--${flag}`), flag);
    const variable = flag === "token" ? "SERVE_TOKEN" : flag.toUpperCase().replace("-", "_");
    assert.ok(stdout.includes(`EVENTODB_${variable}`), flag);
  }
  assert.ok(stdout.includes("--access-log"));
});

test("[R-cli.1 R-cli.3] serve may be left out, values may follow an equals sign", async (t) => {
  const directory = directoryFor(t);
  const forms = [
    ["serve", "--port", "0", "--data-dir", directory, "--token", token],
    ["--port", "0", "--data-dir", directory, "--token", token],
    ["--port=0", `--data-dir=${directory}`, `--token=${token}`],
    ["serve", `--token=${token}`, "--port=0", "--data-dir", directory, "--host=127.0.0.1"],
  ];
  for (const [i, args] of forms.entries()) {
    const server = await startServer(t, { args });
    await server.client(token).write("a-1");
    assert.equal(await version(server), i);
    await server.stop();
  }
});

test("[R-cli.6] the default address is 127.0.0.1:8080", async (t) => {
  const directory = directoryFor(t);
  // Where the port is free the server says so; where somebody has it, the refusal names it.
  const started = await startServer(t, { args: ["--test-mode", "--data-dir", directory] }).catch((error: Error) => error);
  if (started instanceof Error) assert.match(started.message, /127\.0\.0\.1:8080/);
  else assert.match(started.url, /^https?:\/\/127\.0\.0\.1:8080$/);
});

test("[R-cli.7] by default everything is durable, under --data-dir", async (t) => {
  const directory = directoryFor(t);
  const args = ["--port", "0", "--token", token, "--data-dir", join(directory, "new/deep")];
  const first = await startServer(t, { args });
  await first.client(token).fill("a-1", 10);
  await first.stop("SIGKILL");
  assert.ok(readdirSync(join(directory, "new/deep")).length > 0);
  const second = await startServer(t, { args });
  assert.equal(await version(second), 9);
  assert.equal((await second.client().rpc("sys.health")).backend, "sqlite");
});

test("[R-cli.8] by default --data-dir is ./data", async (t) => {
  const server = await startServer(t, { args: ["--port", "0", "--token", token] });
  await server.client(token).write("a-1");
  assert.ok(existsSync(join(server.directory, "data")));
});

test("[R-cli.9] sqlite://FILE is a database of that name under --data-dir", async (t) => {
  const directory = directoryFor(t);
  const args = ["--port", "0", "--token", token, "--data-dir", directory];
  const start = (file: string) => startServer(t, { args: [...args, "--db-url", `sqlite://${file}`] });
  for (const [file, expected] of [["one.db", null], ["two.db", null], ["one.db", 0], ["two.db", 0]] as const) {
    const server = await start(file);
    assert.equal(await version(server), expected, file);
    if (expected === null) await server.client(token).write("a-1");
    await server.stop();
  }
  const files = readdirSync(directory, { recursive: true }).map(String);
  for (const name of ["one", "two"]) assert.ok(files.some((file) => file.includes(name)), files.join(" "));
});

test("[R-cli.10] sqlite://:memory: is gone with the process", async (t) => {
  const directory = directoryFor(t);
  const args = ["--port", "0", "--token", token, "--data-dir", directory, "--db-url", "sqlite://:memory:"];
  for (let round = 0; round < 2; round++) {
    const server = await startServer(t, { args });
    assert.equal(await version(server), null);
    await server.client(token).write("a-1");
    await server.stop();
  }
});

test("[R-cli.11 R-cli.20] postgres://… is a PostgreSQL database, and one that is not there is told", async (t) => {
  const directory = directoryFor(t);
  const { code, stdout, stderr } = await run(["--port", "0", "--data-dir", directory, "--db-url", "postgres://nobody@127.0.0.1:1/none"]);
  assert.equal(code, 69, "SQLite is not used instead");
  assert.match(stdout + stderr, /postgres|127\.0\.0\.1:1/i);
  assert.ok(!stderr.includes("panicked"), stderr);
  assert.deepEqual(readdirSync(directory), []);
});

test("[R-cli.12] bad flags and values", async (t) => {
  const directory = directoryFor(t);
  const bad: [string[], RegExp][] = [
    [["--prot", "1"], /prot/], [["serve", "--nonsense"], /nonsense/], [["nonsense"], /nonsense/], [["serve", "extra"], /extra/],
    [["--port", "abc"], /port|abc/], [["--port", "70000"], /port|70000/], [["--port", "-1"], /port|-1/], [["--port"], /port/], [["--port="], /port/],
    [["--host", "not a host"], /host/], [["--log-level", "loud"], /loud|log-level/], [["--log-format", "xml"], /xml|log-format/],
    [["--token", "nonsense"], /token/], [["--token", tokenFor("other")], /token|default/],
    [["--db-url", "mysql://x"], /mysql|db-url/], [["--db-url", "nonsense"], /nonsense|db-url/], [["--db-url", "sqlite://"], /sqlite|db-url/],
  ];
  for (const [args, mention] of bad) await refused([...args, "--data-dir", directory], mention);
  assert.deepEqual(readdirSync(directory), [], "nothing was created");
});

test("[R-cli.20] a directory that cannot be written", async (t) => {
  const directory = directoryFor(t);
  writeFileSync(join(directory, "file"), "");
  for (const path of [join(directory, "file"), join(directory, "file/below"), "/proc/nowhere"]) {
    await refused(["--port", "0", "--data-dir", path], /file|nowhere/, {}, 73);
  }
});

test("[R-cli.12 R-cli.4] bad variables", async () => {
  const bad: Record<string, string> = {
    EVENTODB_PORT: "abc", EVENTODB_TEST_MODE: "yes", EVENTODB_DB_URL: "mysql://x", EVENTODB_LOG_LEVEL: "loud", EVENTODB_LOG_FORMAT: "xml",
    EVENTODB_SERVE_TOKEN: "nonsense",
  };
  for (const [name, value] of Object.entries(bad)) {
    const flag = name.slice("EVENTODB_".length).toLowerCase().replace("serve_", "").replace("_", "-");
    await refused(["serve"], new RegExp(`${name}|${flag}|${value}`), { EVENTODB_PORT: "0", [name]: value });
  }
});

test("[R-cli.14 R-cli.20] a data directory that another server uses", async (t) => {
  const directory = directoryFor(t);
  const args = ["--port", "0", "--data-dir", directory];
  const first = await startServer(t, { args });
  await refused(args, /use|lock/i, {}, 73);
  await first.client(first.madeToken).write("a-1");
  await first.stop();
  const next = await startServer(t, { args });
  await next.stop("SIGKILL");
  await startServer(t, { args }); // a killed server leaves no lock behind
});

test("[R-cli.20] clients' commands tell a refusal, a server that is away and a wrong call apart", async (t) => {
  const server = await startServer(t, { args: ["--port", "0", "--token", token, "--db-url", "sqlite://:memory:"] });
  const write = async (url: string, ...more: string[]) => (await run(["write", "a-1", "T", "--url", url, ...more])).code;
  assert.equal(await write(server.url, "--token", token), 0);
  assert.equal(await write(server.url, "--token", token, "--expected-version", "7"), 1);
  assert.equal(await write(server.url, "--token", token, "--nonsense"), 64);
  assert.equal(await write("http://127.0.0.1:1", "--token", token), 69);
  const { code } = await run(["export", "--output", "/nowhere/file", "--url", server.url, "--token", token]);
  assert.equal(code, 73);
});

test("[R-cli.13] a wrong flag or value is told with what is near it, and with the help that knows it", async () => {
  await refused(["serve", "--prot", "1"], /did you mean --port\?.*`eventodb serve --help`/);
  await refused(["serve", "--log-level", "inf"], /error, warn, info, debug, trace.*did you mean info\?/);
  await refused(["ns", "create"], /<NAME>.*`eventodb ns create --help`/);
});

test("[R-cli.12] a secret is not repeated in an error", async () => {
  const { stderr } = await run(["--port", "0", "--token", `${token}0`]);
  assert.ok(!stderr.includes(token.slice(-64)));
});

test("[R-cli.21] a file has the settings, beneath variables and flags", async (t) => {
  const config = join(directoryFor(t), "eventodb.toml");
  writeFileSync(config, `port = 0\ndb-url = "sqlite://:memory:"\ntoken = "${token}"\nmax-name-bytes = 9\n`, { mode: 0o600 });
  for (const [args, env, most] of [
    [[], {}, 9],
    [[], { EVENTODB_MAX_NAME_BYTES: "19" }, 19],
    [["--max-name-bytes", "29"], { EVENTODB_MAX_NAME_BYTES: "19" }, 29],
  ] as const) {
    const server = await startServer(t, { args: [...args], env: { ...env, EVENTODB_CONFIG: config } });
    const client = server.client(token);
    await client.write("a".repeat(most));
    await assertFails(client.failure("stream.write", "a".repeat(most + 1), { type: "T", data: {} }), 400, "INVALID_REQUEST");
    await server.stop();
  }
  writeFileSync(config, "port = 0\nprt = 1\n");
  await refused(["--config", config], /eventodb\.toml:2: .*did you mean port/);
  writeFileSync(config, "port = 0.5\n");
  await refused(["serve", "--config", config], /eventodb\.toml:1: .*0\.5.*--port/);
});

test("[R-cli.22 R-cli.5] config check and config show", async (t) => {
  const config = join(directoryFor(t), "eventodb.toml");
  writeFileSync(config, `prt = 1\nport = "http"\n`);
  const wrong = await run(["config", "check", "--config", config]);
  assert.deepEqual([wrong.code, wrong.stderr.trim().split("\n").length], [64, 2], wrong.stderr);
  writeFileSync(config, `port = 7\ntoken = "${token}"\n`, { mode: 0o600 });
  const right = await run(["config", "check", "--config", config], { EVENTODB_PROT: "x" });
  assert.equal(right.code, 0, right.stderr);
  assert.match(right.stderr, /EVENTODB_PROT.*EVENTODB_PORT/);
  const { stdout } = await run(["config", "show", "--json", "--config", config], { EVENTODB_HOST: "::1" });
  const { settings } = JSON.parse(stdout) as { settings: { name: string; value: string | null; from: string }[] };
  const of = (name: string) => settings.find((setting) => setting.name === name);
  assert.deepEqual(of("port"), { name: "port", value: "7", from: `${config}:1`, changeable: false });
  assert.deepEqual(of("host"), { name: "host", value: "::1", from: "EVENTODB_HOST", changeable: false });
  assert.deepEqual(of("log-level"), { name: "log-level", value: "info", from: "default", changeable: true });
  assert.ok(!stdout.includes(token));
});

test("[R-cli.23] the short help has the commands in groups, and each line fits", async () => {
  const short = await run(["--help"], { COLUMNS: "80" });
  for (const words of ["Client:", "Storage:", "Tools:", "  serve ", "  status ", "  backup "]) {
    assert.ok(short.stdout.includes(words), words);
  }
  assert.ok(!short.stdout.includes("--data-dir"), short.stdout);
  for (const args of [["--help"], ["serve", "--help"], ["status", "--help"], ["token", "create", "--help"]]) {
    const { stdout } = await run(args, { COLUMNS: "80" });
    assert.deepEqual(stdout.split("\n").filter((line) => [...line].length > 80), [], args.join(" "));
    if (args.length > 1) assert.match(stdout, /Examples:\n {2}eventodb /);
  }
});

test("[R-cli.24] what commands print is JSON for programs", async () => {
  const json = async (...args: string[]) => JSON.parse((await run([...args, "--json"])).stdout) as Record<string, unknown>;
  assert.match(String((await json("version"))["version"]), VERSION);
  assert.deepEqual(await json("config", "check"), { errors: [], warnings: [] });
  assert.equal((await json("completions", "fish"))["shell"], "fish");
  assert.match(String((await json("man"))["page"]), /EVENTODB CONSUME/);
  assert.ok(((await json("man", "--out", "pages"))["written"] as string[]).includes("pages/eventodb-token-create.1"));
});

test("[R-status.1 R-status.2 R-status.3 R-status.4] status tells what a server is, and whether it takes writes", async (t) => {
  const server = await startServer(t, { args: ["--test-mode", "--port", "0"] });
  await server.client().rpc("stream.write", "a-1", { type: "T", data: {} });
  const at = ["--url", server.url];
  const { code, stdout } = await run(["status", "--json", ...at]);
  const { version, backend, connections, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  assert.match(String(version), VERSION);
  assert.ok(typeof backend === "string" && typeof connections === "number", stdout);
  assert.deepEqual([code, rest], [0, {
    url: server.url, up: true, ready: true, degraded: [], namespace: null, head: 1, groups: [], error: null,
  }]);
  const lines = await run(["status", ...at]);
  assert.match(lines.stdout, /^up .*\n(?:.*\n)*head +1\n/);
  const live = await run(["status", "--live", ...at]);
  assert.deepEqual([live.code, live.stdout, live.stderr], [0, "", ""]);

  const readOnly = await startServer(t, { args: ["--test-mode", "--read-only", "--port", "0"] });
  const degraded = await run(["status", "--json", "--url", readOnly.url]);
  assert.equal(degraded.code, 1);
  assert.equal((JSON.parse(degraded.stdout) as { degraded: { code: string }[] }).degraded[0]?.code, "READ_ONLY");
  assert.equal((await run(["status", "--live", "--url", readOnly.url])).code, 0);

  const nobody = ["--url", "http://127.0.0.1:1"];
  assert.equal((await run(["status", ...nobody])).code, 69);
  assert.equal((await run(["status", "--live", ...nobody])).code, 1);
});

test("[R-doctor.1 R-doctor.2 R-doctor.3] doctor tells what is wrong with the host, and changes nothing", async (t) => {
  interface Finding { severity: string; code: string; what: string; why: string; cure: string }
  const data = join(directoryFor(t), "data");
  const at = ["--data-dir", data, "--max-connections", "100"];
  const doctor = async (...args: string[]) => {
    const { stdout } = await run(["doctor", "--json", ...at, ...args]);
    const found = JSON.parse(stdout) as { findings: Finding[]; errors: number; warnings: number; lookedAt: string[] };
    for (const { what, why, cure } of found.findings) assert.ok(what && why && cure, stdout);
    assert.ok(found.lookedAt.length > 0);
    // The disk is the machine's: others may write to it now, and temporary files may be in memory.
    const findings = found.findings.filter((finding) => !finding.code.startsWith("DISK_"));
    return findings.map(({ severity, code }) => `${severity} ${code}`);
  };
  assert.deepEqual(await doctor("--host", "0.0.0.0"), ["warning SETTING_UNSAFE"]);
  assert.deepEqual(await doctor("--memory-budget", "1"), ["error SETTING_WRONG"]);
  assert.deepEqual(await doctor(), []);
  const codeOf = async (...args: string[]) => (await run(["doctor", "--db-url", "sqlite://:memory:", "--token", token, "--max-connections", "100", ...args])).code;
  assert.equal(await codeOf(), 0);
  assert.equal(await codeOf("--host", "0.0.0.0"), 1);
  assert.equal(await codeOf("--memory-budget", "1"), 2);
  const people = await run(["doctor", ...at, "--host", "0.0.0.0"], { COLUMNS: "80" });
  assert.match(people.stdout, /WARNING SETTING_UNSAFE\n {2}found .*\n(?: .*\n)* {2}because .*\n(?: .*\n)* {2}cure /);
  assert.ok(!existsSync(data));
});

test("[R-consume.1 R-consume.2] consume tells programs what it does, and needs no reader", async (t) => {
  const server = await startServer(t, { args: ["--test-mode", "--port", "0"] });
  const client = server.client();
  for (const stream of ["a-1", "a-2", "a-3"]) await client.rpc("stream.write", stream, { type: "T", data: {} });
  const consume = (...args: string[]) => ["consume", "--json", "--until-caught-up", "--url", server.url, ...args];
  const { code, stdout, stderr } = await run(consume("--name", "one", "--", "cat"));
  assert.equal(code, 0);
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  const message = { event: "handled", type: "T", position: 0 };
  assert.deepEqual(events, [
    { event: "started", name: "one" },
    { ...message, stream: "a-1", globalPosition: 1 },
    { ...message, stream: "a-2", globalPosition: 2 },
    { ...message, stream: "a-3", globalPosition: 3 },
    { event: "saved", globalPosition: events[4]?.["globalPosition"] },
    { event: "stopped", handled: 3, error: null },
  ]);
  assert.ok(Number(events[4]?.["globalPosition"]) >= 3);
  assert.equal(stderr.trim().split("\n").length, 3, "what the commands print");
  const failed = await run(consume("--name", "two", "--retry-seconds", "0", "--on-error", "skip", "--", "false"));
  const skipped = failed.stdout.trim().split("\n").map((line) => JSON.parse(line) as { event: string; error?: string });
  assert.deepEqual(skipped.filter(({ event }) => event === "skipped").map(({ error }) => error), Array<string>(3).fill("false ended with exit status: 1"));

  // Its reader goes at once.
  const gone = spawn(binary(), consume("--name", "three", "--", "true"), { env: cleanEnvironment(), stdio: ["ignore", "pipe", "ignore"] });
  gone.stdout.destroy();
  assert.deepEqual(await once(gone, "exit"), [0, null]);
  assert.equal((await run(consume("--name", "three", "--", "false"))).code, 0, "all are handled");
});

test("[R-context.1 R-context.2 R-context.3] contexts name servers and tokens", async (t) => {
  const server = await startServer(t, { args: ["--port", "0", "--db-url", "sqlite://:memory:", "--token", token] });
  const home = directoryFor(t);
  const ran = (args: string[], env: Record<string, string> = {}) => run(args, { XDG_CONFIG_HOME: home, ...env });
  assert.equal((await ran(["context", "add", "prod", "--url", server.url, "--token", token])).code, 0);
  assert.equal((await ran(["context", "add", "prod", "--url", server.url])).code, 1);
  assert.equal(statSync(join(home, "eventodb/contexts.json")).mode & 0o777, 0o600);
  assert.ok(!(await ran(["context", "list"])).stdout.includes("ns_"));
  assert.equal((await ran(["ns", "list"])).code, 0);
  assert.equal((await ran(["ns", "list"], { EVENTODB_TOKEN: tokenFor("other") })).code, 77);
  assert.equal((await ran(["ns", "list", "--url", server.url])).code, 64, "its token is for its server only");
  assert.equal((await ran(["context", "add", "away", "--url", "http://127.0.0.1:1"])).code, 0);
  assert.equal((await ran(["ns", "list", "--context", "away"])).code, 69);
  assert.equal((await ran(["context", "remove", "prod"])).code, 0);
  assert.equal((await ran(["ns", "list", "--context", "prod"])).code, 64);
});
