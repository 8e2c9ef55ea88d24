/** A running server: started from the built program, watched, and stopped by its own process id. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { spawn, type ChildProcess } from "node:child_process";
import { Client, TOKEN, tokenFor, unique } from "./client.ts";
import { binary, cleanEnvironment, temporaryDirectory, type Finished } from "./command.ts";
import { keepOutput, logEnvironment, rememberTokens } from "./secrets.ts";
import { newStorage, type Mode, type Storage } from "./storage.ts";
import { SOON_MS, until, within } from "./wait.ts";

export type StartOptions = {
  mode?: Mode;
  /** Storage that the caller keeps and removes; fresh storage of the chosen backend where left out. */
  storage?: Storage;
  flags?: readonly string[];
  env?: Record<string, string>;
  /** Started with exactly these arguments, and no storage of its own. */
  args?: string[];
  /** Where in the output the address stands. */
  address?: RegExp;
  /** Leaves the log unread, as a stuck terminal would. */
  ignoreLog?: boolean;
};

/** Servers whose output is shown when a test fails. */
const known = new Set<Server>();

/** The file of a token that the server makes, where it chooses the name. */
const TOKEN_FILE = "admin-token";

export class Server {
  stdout = "";
  stderr = "";
  port = 0;
  url = "";
  private ended: Promise<Finished>;
  private cleanUp: (() => Promise<void>)[] = [];

  private constructor(private child: ChildProcess, /** Where it runs. */ readonly directory: string, private tokenFile: string, options: StartOptions) {
    child.stdout!.setEncoding("utf8").on("data", (text) => (this.stdout += text));
    if (!options.ignoreLog) child.stderr!.setEncoding("utf8").on("data", (text) => (this.stderr += text));
    this.ended = new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        if (options.ignoreLog) child.stderr!.destroy();
        child.on("close", () => keepOutput(`${this.stdout}\n${this.stderr}`));
        child.on("close", () => resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }));
      });
    });
    this.ended.catch(() => {}); // told by whoever waits for it
    process.once("exit", this.killNow);
    known.add(this);
  }

  static async start(options: StartOptions = {}): Promise<Server> {
    const { mode = "test", flags = [], env = {}, address = /https?:\/\/127\.0\.0\.1:(\d+)/ } = options;
    const program = binary();
    const directory = temporaryDirectory();
    const cleanUp = [directory.remove];
    let args = options.args;
    if (!args) {
      const storage = options.storage ?? (await newStorage());
      if (!options.storage) cleanUp.push(storage.remove);
      const tokenOut = flags.includes("--token-out") ? [] : ["--token-out", join(directory.path, TOKEN_FILE)];
      const mine = mode === "test" ? ["--test-mode"] : tokenOut;
      args = ["serve", "--port", "0", ...mine, ...storage.flags(mode), ...flags];
    }
    const child = spawn(program, args, { cwd: directory.path, env: cleanEnvironment({ ...logEnvironment, ...env }), stdio: ["ignore", "pipe", "pipe"] });
    const server = new Server(child, directory.path, tokenFileOf(args, directory.path), options);
    server.cleanUp = cleanUp;
    try {
      const found = await until("the server's address in its output", () => server.readyOrEnded(address));
      server.url = found[0];
      server.port = Number(found[1]);
      return server;
    } catch (error) {
      await server.release();
      throw error;
    }
  }

  /** The administrator's token that the server made and wrote into a file. */
  get madeToken(): string {
    const found = TOKEN.exec(readFileSync(this.tokenFile, "utf8"));
    if (!found) throw new Error(`no token in ${this.tokenFile}`);
    rememberTokens(found[0]);
    return found[0];
  }

  get pid(): number {
    return this.child.pid!;
  }

  client(token?: string): Client {
    return new Client(this.url, token);
  }

  /** A client of a namespace nobody else uses; in test mode its first call creates the namespace. */
  fresh(): Client {
    return this.client(tokenFor(unique("test-")));
  }

  /** Sends a signal. */
  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** Sends the signal and waits for the end; a server that does not end is killed, and the test fails. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Finished> {
    this.child.kill(signal);
    return within(`the server's end after ${signal}`, this.ended, SOON_MS);
  }

  /** Stops the server and removes what it left; fails where it did not end well, unless a test killed it. */
  async dispose(): Promise<void> {
    try {
      const { code, signal, stderr } = this.hasEnded ? await this.ended : await this.stop();
      if (code !== 0 && signal !== "SIGKILL") throw new Error(`the server ended with ${code ?? signal}: ${stderr}`);
      if (stderr.includes("panicked")) throw new Error(`the server panicked: ${stderr}`);
    } finally {
      await this.release();
    }
  }

  private async release(): Promise<void> {
    this.killNow();
    process.removeListener("exit", this.killNow);
    known.delete(this);
    await this.ended.catch(() => {});
    for (const remove of this.cleanUp) await remove();
  }

  private get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private async readyOrEnded(address: RegExp): Promise<RegExpExecArray | null> {
    // Beside a log of JSON nothing stands on standard output; the log itself has the address.
    if (!this.hasEnded) return address.exec(this.stdout) ?? address.exec(this.stderr);
    const { code, stderr } = await this.ended;
    throw new Error(`the server ended with ${code} before it was ready: ${stderr}`);
  }

  private killNow = () => void this.child.kill("SIGKILL");
}

/** Where a server with these arguments puts the token that it makes. */
function tokenFileOf(args: string[], directory: string): string {
  const value = (flag: string) => (args.includes(flag) ? args[args.indexOf(flag) + 1]! : undefined);
  return value("--token-out") ?? resolve(directory, value("--data-dir") ?? "data", TOKEN_FILE);
}

/** The last output of all servers that are not disposed of yet. */
export function outputOfServers(): string {
  return [...known].map(({ pid, stdout, stderr }) => `server ${pid}:\n${stdout.slice(-2000)}${stderr.slice(-8000)}`).join("\n");
}
