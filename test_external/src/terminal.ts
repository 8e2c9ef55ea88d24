/** A shell that commands are typed into, and whose output is read line by line. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { binary, cleanEnvironment } from "./command.ts";
import type { Context } from "./suite.ts";
import { until } from "./wait.ts";

/** How long one block of commands may take. */
const LIMIT_MS = 60_000;

export class Terminal {
  private output = "";
  private errors = "";
  private commands = 0;
  private shell: ChildProcess;

  constructor(directory: string, environment: Record<string, string> = {}) {
    // The commands find and leave no settings of whoever runs the tests.
    const home = { HOME: directory, XDG_CONFIG_HOME: join(directory, ".config") };
    // The shell leads a group of processes, so that `close` reaches what it started.
    this.shell = spawn("bash", ["--norc"], { cwd: directory, env: cleanEnvironment({ ...home, ...environment }), stdio: "pipe", detached: true });
    this.shell.stdout!.setEncoding("utf8").on("data", (text) => (this.output += text));
    this.shell.stderr!.setEncoding("utf8").on("data", (text) => (this.errors += text));
  }

  /** Runs commands to their end, and returns the lines that they printed. */
  async run(commands: string, limitMs = LIMIT_MS): Promise<string[]> {
    const end = new RegExp(`the end of ${++this.commands}: (\\d+)\n`);
    this.shell.stdin!.write(`{\n${commands}} </dev/null\necho "the end of ${this.commands}: $?"\n`);
    const found = await until(`the end of ${commands}${this.errors}`, () => end.exec(this.output), limitMs);
    const printed = this.output.slice(0, found.index);
    this.output = this.output.slice(found.index + found[0].length);
    assert.equal(found[1], "0", `${commands}${printed}${this.errors}`);
    if (printed === "") return [];
    return printed.replace(/\n$/, "").split("\n");
  }

  /** Types commands that do not end by themselves. */
  start(commands: string): void {
    this.shell.stdin!.write(`{\n${commands}} </dev/null\n`);
  }

  /** The next lines that are printed. */
  async next(count: number): Promise<string[]> {
    const lines = () => this.output.split("\n").slice(0, -1);
    await until(`${count} more lines of ${JSON.stringify(this.output)}${this.errors}`, () => lines().length >= count);
    const taken = lines().slice(0, count);
    this.output = this.output.split("\n").slice(count).join("\n");
    return taken;
  }

  /** Ends the shell and everything that it started. */
  close(): void {
    process.kill(-this.shell.pid!, "SIGKILL");
  }
}

/** A shell for one test that finds the program as `eventodb`, and has these variables. */
export function terminalIn(t: Context, directory: string, environment: Record<string, string> = {}): Terminal {
  const programs = join(directory, "programs");
  if (!existsSync(programs)) {
    mkdirSync(programs);
    symlinkSync(binary(), join(programs, "eventodb"));
  }
  const shell = new Terminal(directory, { PATH: `${programs}:${process.env.PATH}`, ...environment });
  t.after(() => shell.close());
  return shell;
}
