/** The token of `default`: given, generated, printed, stored, rotated. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { assertFails, tokenFor, TOKEN } from "../src/client.ts";
import { run } from "../src/command.ts";
import { directoryFor, durableStorage, startServer, test } from "../src/suite.ts";
import { until } from "../src/wait.ts";

test("[R-token.9] --token is the token of default", async (t) => {
  const token = tokenFor("default");
  const server = await startServer(t, { mode: "production", flags: ["--token", token] });
  await server.client(token).rpc("ns.list");
  await assertFails(server.client(tokenFor("default")).failure("ns.list"), 403, "AUTH_UNAUTHORIZED");
});

test("[R-token.10 R-token.11] a generated token goes into a file for its owner, and nothing like it is printed", async (t) => {
  const storage = await durableStorage(t);
  const file = join(directoryFor(t), "token");
  const first = await startServer(t, { mode: "production", storage, flags: ["--token-out", file] });
  const token = TOKEN.exec(readFileSync(file, "utf8"))![0];
  assert.equal(statSync(file).mode & 0o777, 0o600);
  await until("the file in the log", () => first.stderr.includes(file));
  assert.ok(!TOKEN.test(first.stdout + first.stderr), "nobody is shown the token");
  await first.client(token).rpc("ns.list");
  await first.stop();
  for (const flags of [[], ["--token", token]]) {
    const later = await startServer(t, { mode: "production", storage, flags });
    await later.client(token).rpc("ns.list");
    await later.stop();
    assert.ok(!/ns_/.test(later.stdout + later.stderr), `nothing that looks like a token: ${later.stdout}${later.stderr}`);
  }
});

test("[R-token.12] a --token that is not the stored one is a start-up error that says how to rotate it", async (t) => {
  const storage = await durableStorage(t);
  const token = tokenFor("default");
  const first = await startServer(t, { mode: "production", storage, flags: ["--token", token] });
  await first.stop();
  const { code, stdout, stderr } = await run(["serve", "--port", "0", "--token", tokenFor("default"), ...storage.flags("production")]);
  assert.equal(code, 64, stderr);
  assert.match(stderr, /token rotate/);
  assert.ok(!TOKEN.test(stdout + stderr), "no token in the message");
  const again = await startServer(t, { mode: "production", storage, flags: ["--token", token] });
  await again.client(token).rpc("ns.list");
});

test("[R-token.10] in a data directory the file is admin-token; a token that would be shown nowhere is not made", async (t) => {
  const directory = directoryFor(t);
  const server = await startServer(t, { args: ["serve", "--port", "0", "--data-dir", directory] });
  await server.client(TOKEN.exec(readFileSync(join(directory, "admin-token"), "utf8"))![0]).rpc("ns.list");
  const { code, stderr } = await run(["serve", "--port", "0", "--db-url", "sqlite://:memory:"]);
  assert.equal(code, 64, stderr);
  assert.match(stderr, /--token-out/);
});

test("[R-token.8] the store holds a hash of a token, never the token", async (t) => {
  const directory = directoryFor(t);
  const server = await startServer(t, { args: ["serve", "--port", "0", "--data-dir", directory] });
  const admin = server.client(server.madeToken);
  const { token } = await admin.rpc("ns.create", "shop");
  await server.client(token).write("a-1");
  await server.stop();
  // The file that shows the token once is taken away by whoever reads it.
  rmSync(join(directory, "admin-token"));
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const stored = Buffer.concat(files.map((file) => readFileSync(join(file.parentPath, file.name))));
  for (const secret of [admin.token!, token]) {
    const digits = secret.slice(-64);
    assert.ok(!stored.includes(digits), "not the digits");
    assert.ok(!stored.includes(Buffer.from(digits, "hex")), "nor the bytes they stand for");
    const hash = createHash("sha256").update(secret).digest();
    assert.ok(stored.includes(hash) || stored.includes(hash.toString("hex")), "its SHA-256");
  }
});

test("[R-rotate.1 R-rotate.2] a rotated token", async (t) => {
  const storage = await durableStorage(t);
  const first = await startServer(t, { mode: "production", storage });
  const admin = first.client(first.madeToken);
  const shop = await admin.rpc("ns.create", "shop");
  await first.client(shop.token).write("a-1");
  await first.stop();
  const rotated: Record<string, string> = {};
  for (const name of ["default", "shop"]) {
    const { code, stdout, stderr } = await run(["token", "rotate", name, ...storage.flags("production")]);
    assert.equal(code, 0, stderr);
    rotated[name] = TOKEN.exec(stdout)![0];
    assert.ok(rotated[name]!.startsWith(`ns_${Buffer.from(name).toString("base64url")}_`));
  }
  const unknown = await run(["token", "rotate", "nobody", ...storage.flags("production")]);
  assert.notEqual(unknown.code, 0);
  const server = await startServer(t, { mode: "production", storage });
  await server.client(rotated.default).rpc("ns.list");
  assert.equal(await server.client(rotated.shop).rpc("stream.version", "a-1"), 0, "the messages are still there");
  for (const old of [admin.token, shop.token]) {
    await assertFails(server.client(old).failure("stream.version", "a-1"), 403, "AUTH_UNAUTHORIZED");
  }
});

test("[R-rotate.3 R-rotate.4] tokens in the store itself", async (t) => {
  const storage = await durableStorage(t);
  const first = await startServer(t, { mode: "production", storage });
  await first.client(first.madeToken).rpc("ns.create", "shop");
  await first.stop();
  const token = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(["token", ...args, ...storage.flags("production")]);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const list = async (): Promise<{ id: string; rights: string[] }[]> =>
    JSON.parse(await token("list", "--json", "--namespace", "shop"));
  const limited = await token("create", "--namespace", "shop", "--rights", "read,write", "--description", "limited");
  const revoked = await token("create", "--namespace", "shop", "--rights", "read");
  await token("revoke", (await list())[2]!.id);
  await token("rotate", "--namespace", "shop");
  assert.deepEqual(
    (await list()).map((entry) => entry.rights),
    [
      ["read", "write"],
      ["read", "write", "consume", "admin"],
    ],
  );
  const server = await startServer(t, { mode: "production", storage });
  await server.client(limited).write("a-1");
  await assertFails(server.client(revoked).failure("stream.version", "a-1"), 403, "AUTH_UNAUTHORIZED");
});
