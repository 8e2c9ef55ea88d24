/** The built program, run as a command. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { tlsEnvironment } from "./tls.ts";
import { within } from "./wait.ts";

const here = dirname(fileURLToPath(import.meta.url));
export const ROOT = resolve(here, "../..");

export type Finished = { code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string };

/** The path of the program; a missing one is told in words. */
export function binary(): string {
  const path = resolve(process.env.EVENTODB_BIN ?? join(ROOT, "target/quick/eventodb"));
  if (!existsSync(path)) {
    throw new Error(`no program at ${path}: build it with "make build", or name it in EVENTODB_BIN`);
  }
  return path;
}

/** The environment of this process without the program's own variables, and with those given. */
export function cleanEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("EVENTODB_"));
  return { ...Object.fromEntries(kept), ...tlsEnvironment, ...extra };
}

/** An empty directory of its own, with the function that removes it. */
export function temporaryDirectory(): { path: string; remove: () => Promise<void> } {
  const path = mkdtempSync(join(tmpdir(), "eventodb-test-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Runs a command that ends by itself, in a directory of its own. */
export async function run(args: string[], env: Record<string, string> = {}): Promise<Finished> {
  const directory = temporaryDirectory();
  const child = spawn(binary(), args, { cwd: directory.path, env: cleanEnvironment(env), stdio: ["ignore", "pipe", "pipe"] });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (output.stderr += text));
  const ended = new Promise<Finished>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, ...output }));
  });
  try {
    return await within(`the end of eventodb ${args.join(" ")}`, ended, 60_000);
  } finally {
    child.kill("SIGKILL");
    await directory.remove();
  }
}
