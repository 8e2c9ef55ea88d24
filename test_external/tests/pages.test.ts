/**
 * The pages of the site: the commands in them, the errors that they describe, and that each can be reached. API.md, GUIDE.md and MIGRATING.md
 * have tests of their own, too.
 *
 * Each page has a fresh server in production mode with its data in ./data, and a shell whose EVENTODB_URL and EVENTODB_TOKEN are the server's and its
 * administrator's. The words after the language of a block say what it is:
 *   sh run           commands that end; what they print stands in the block after it, `json reply` or `text output`, if there is one
 *   sh watch         a command that goes on in another shell
 *   sh server        the command that starts the server, for which the server of the test stands
 *   sh paste         settings that the server prints, and the shell has already
 *   sql run          in OPERATIONS.md: statements for a PostgreSQL, where the run has one
 *   sh not-run-here  commands that no test runs; src/not-run.ts has the reason of each
 *   json request [status=409] [production [anonymous | token=T]]
 *                    in pages of errors: a body for /rpc, in a fresh namespace of a server in test mode, or with the administrator's token
 * A block in an HTML comment is run as any other, and prepares what the reader has.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../src/command.ts";
import type { Client } from "../src/client.ts";
import { readDocument, type Block } from "../src/document.ts";
import { assertLike, assertLineLike } from "../src/like.ts";
import { NOT_RUN } from "../src/not-run.ts";
import { blocksOf, forgotten, marked, pages, pagesToRun } from "../src/pages.ts";
import { rememberPassword } from "../src/secrets.ts";
import { BACKEND } from "../src/storage.ts";
import { directoryFor, sharedServer, startServer, test, type Context } from "../src/suite.ts";
import { terminalIn, type Terminal } from "../src/terminal.ts";

test("[R-http.1] each block of commands is run, or there is a reason why not", () => {
  assert.deepEqual(forgotten(), [], "neither run nor marked");
  const found = marked();
  for (const block of found) console.log(`not run here: ${block}: ${NOT_RUN[block] ?? "NO REASON"}`);
  assert.deepEqual(found.filter((block) => !(block in NOT_RUN)), [], "marked, but src/not-run.ts has no reason");
  assert.deepEqual(Object.keys(NOT_RUN).filter((block) => !found.includes(block)), [], "a reason for what is not there");
});

test("[R-error.1] each error code has a page, and each page a code", () => {
  const table = readFileSync(join(ROOT, "protocol/src/error.rs"), "utf8");
  const rows = [...table.matchAll(/^ {4}\w+ "([A-Z_]+)" (\d+) (true|false);$/gm)];
  const codes = rows.map((row) => row[1]!);
  assert.ok(codes.length > 20);
  const described = pages().flatMap((page) => /^errors\/([A-Z_]+)\.md$/.exec(page)?.[1] ?? []).filter((name) => name !== "README");
  assert.deepEqual(described, codes.sort());
  const list = readDocument("errors/README.md");
  for (const [, code, status, retry] of rows) {
    const shown = status === "0" ? "an event of `/import`" : `${status}${retry === "true" ? " with `Retry-After`" : ""}`;
    for (const text of [list.split("\n").find((line) => line.startsWith(`| [${code}](${code}.md) |`)), readDocument(`errors/${code}.md`)]) {
      assert.match(text ?? "", new RegExp(`\\| ${shown}( \\(.*\\))? \\|`), `${code} is ${shown}`);
    }
  }
});

test("[R-http.1] each page is in the table of contents, and leads to what there is", () => {
  const contents = readDocument("SUMMARY.md");
  assert.deepEqual(pages().filter((page) => !/^errors\/(?!README)/.test(page) && !contents.includes(`](${page})`)), []);
  for (const page of [...pages(), "SUMMARY.md"]) {
    const links = [...readDocument(page).replaceAll(/^( *)```[\s\S]*?^\1```$/gm, "").matchAll(/\]\(([^)#\s]*)(#[^)\s]*)?\)/g)];
    for (const [link, path, anchor] of links) {
      if (/^[a-z]+:/.test(path!)) continue;
      const target = path === "" ? join(ROOT, "docs", page) : join(ROOT, "docs", dirname(page), path!);
      assert.ok(existsSync(target), `${page}: ${link}`);
      if (anchor) assert.ok(anchors(readFileSync(target, "utf8")).has(anchor.slice(1)), `${page}: ${link}`);
    }
  }
});

/** The anchors of a page's headings, as they are made of their text everywhere. */
function anchors(text: string): Set<string> {
  const headings = [...text.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.*)$/gm)].map((match) => match[1]!);
  return new Set(headings.map((heading) => heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")));
}

// Only the run on PostgreSQL has one.
const admin = process.env.EVENTODB_TEST_PG_URL;
if (admin) {
  test("[R-cli.11] the SQL of OPERATIONS.md makes a role and a database that are enough for a server, and shows what is in it", async (t) => {
    const [create, look] = blocksOf("OPERATIONS.md").filter(({ language, words }) => language === "sql" && words[0] === "run");
    const url = Object.assign(new URL(admin), { username: "eventodb", password: "secret-of-the-page", pathname: "/events" }).href;
    rememberPassword(url);
    t.after(() => psql(admin, "DROP DATABASE IF EXISTS events WITH (FORCE);\nDROP ROLE IF EXISTS eventodb;"));
    psql(admin, create!.text.replace("…", "secret-of-the-page"));
    const server = await startServer(t, { mode: "production", storage: { flags: () => ["--db-url", url], remove: async () => {} } });
    await server.client(server.madeToken).write("account-1", "Opened");
    const printed = psql(url, look!.text);
    assert.match(printed, /^1\|default$/m);
    assert.match(printed, /^1\|account-1\|0\|Opened\|/m);
  });
}

/** What statements print, one after the other, each in a transaction of its own. */
function psql(url: string, statements: string): string {
  return execFileSync("psql", [url, "-qAtX", "-v", "ON_ERROR_STOP=1"], { input: statements, encoding: "utf8" });
}

const open = sharedServer({ mode: "test" });
const production = sharedServer({ mode: "production" });

// The commands are the same on each backend; GUIDE.md, API.md and all rules are tried on each.
if (BACKEND === "sqlite") {
  for (const page of pagesToRun()) {
    test(`[R-http.1] the commands of ${page}`, async (t) => runPage(t, page));
  }
}

async function runPage(t: Context, page: string): Promise<void> {
  const reader = await Reader.create(t, blocksOf(page).some(({ language }) => language === "sh"));
  for (const block of blocksOf(page)) {
    const [kind, ...words] = block.words;
    if (block.language === "sh" && kind === "run") await reader.run(block);
    if (block.language === "sh" && kind === "watch") await reader.watch(block);
    if (block.language === "json" && kind === "request" && page !== "API.md") await reader.ask(block, words);
    // The replies of API.md belong to its requests.
    if (page === "API.md") continue;
    if ((block.language === "json" && kind === "reply") || (block.language === "text" && kind === "output")) reader.compare(page, block);
  }
}

/** Somebody who does what a page says. */
class Reader {
  /** What came last, and was not compared yet. */
  private printed: string[] | undefined;
  private namespace = open.fresh();

  private constructor(private t: Context, private directory: string, private environment: Record<string, string>, private shell?: Terminal) {}

  static async create(t: Context, withShell: boolean): Promise<Reader> {
    const directory = directoryFor(t);
    if (!withShell) return new Reader(t, directory, {});
    const server = await startServer(t, { args: ["serve", "--port", "0", "--data-dir", join(directory, "data")] });
    const environment = { EVENTODB_URL: server.url, EVENTODB_TOKEN: server.madeToken };
    return new Reader(t, directory, environment, terminalIn(t, directory, environment));
  }

  async run({ text }: Block): Promise<void> {
    this.printed = await this.shell!.run(text);
  }

  async watch({ text }: Block): Promise<void> {
    const other = terminalIn(this.t, this.directory, this.environment);
    other.start(text);
    await other.next(1);
  }

  async ask({ text }: Block, words: string[]): Promise<void> {
    const value = (name: string) => words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
    const reply = await this.client(words, value("token")).post(text);
    assert.equal(String(reply.status), value("status") ?? "200", `${text}${reply.text}`);
    this.printed = [reply.text];
  }

  private client(words: string[], token?: string): Client {
    if (!words.includes("production")) return this.namespace;
    if (words.includes("anonymous")) return production.get().client();
    return production.get().client(token ?? production.get().madeToken);
  }

  compare(page: string, block: Block): void {
    const shown = block.text.split("\n").slice(0, -1);
    const printed = this.printed ?? [];
    assert.equal(printed.length, shown.length, `${page}, line ${block.line}: ${printed.join("\n")}`);
    shown.forEach((line, i) => (block.language === "json" ? assertLike(JSON.parse(printed[i]!), JSON.parse(line)) : assertLineLike(printed[i], line)));
    this.printed = undefined;
  }
}
