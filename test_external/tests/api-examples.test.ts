/**
 * The examples of docs/API.md are run in the order of the document against one fresh server, so that each builds upon those
 * before it, and their replies are compared.
 *
 * Blocks come in pairs. The first says what is sent, by its language and the words after it:
 *   json request [status=409] [production [anonymous]]   a body for /rpc, without a token;
 *     `production` asks a fresh server in production mode with the administrator's token, `anonymous` without it
 *   sh request      a curl command, run by the shell, for the server instead of 127.0.0.1:8080
 *   sh subscribe    a curl command whose URL is subscribed to
 * The second says what comes: `json reply`, or `text frames` for a subscription. In a reply "<uuid>", "<time>", "<token>",
 * "<version>" stand for a string of that form, "<number>" for any integer, "<any>" for any value. In a request "<member>", "<epoch>"
 * and "<rev>" are what the last reply had that had one. Inside `error` a reply
 * may have details that the document does not show; elsewhere it has exactly the members shown.
 * Other blocks are illustrations and are not run.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fencedBlocks, readApiDocument, type Block } from "../src/document.ts";
import { parseExact } from "../src/json.ts";
import { assertLike } from "../src/like.ts";
import type { Server } from "../src/server.ts";
import { parseFrame, subscribe } from "../src/sse.ts";
import { type Context, sharedServer, test } from "../src/suite.ts";

const blocks = fencedBlocks(readApiDocument());
const isRequest = (block: Block) => block.words[0] === "request" || block.words[0] === "subscribe";
const isReply = (block: Block | undefined) => block?.words[0] === "reply" || block?.words[0] === "frames";
const examples = blocks.flatMap((request, i) => (isRequest(request) ? [{ request, reply: blocks[i + 1] }] : []));

const open = sharedServer();
const production = sharedServer({ mode: "production" });

test("[R-http.1] every example has a reply, and every reply an example", () => {
  for (const { request, reply } of examples) assert.ok(isReply(reply), `line ${request.line} has no reply`);
  assert.equal(blocks.filter(isReply).length, examples.length);
  assert.ok(examples.length > 30);
});

for (const { request, reply } of examples) {
  test(`[R-http.1] the example of API.md, line ${request.line}`, async (t) => {
    if (request.words[0] === "subscribe") return compareFrames(t, request, reply!);
    const answer = request.language === "sh" ? await curl(open.get(), request.text) : await call(request);
    assertLike(parseExact(answer), JSON.parse(reply!.text));
  });
}

async function call({ words, text }: Block): Promise<string> {
  const server = (words.includes("production") ? production : open).get();
  const withToken = words.includes("production") && !words.includes("anonymous");
  const reply = await server.client(withToken ? server.madeToken : undefined).post(text.replace(/"<(member|epoch|rev)>"/g, (_, name) => known[name]!));
  const status = words.find((word) => word.startsWith("status="))?.slice("status=".length) ?? "200";
  assert.equal(String(reply.status), status, reply.text);
  remember(reply.text);
  return reply.text;
}

/** JSON texts of what a later request may name. */
const known: Record<string, string> = {};

function remember(text: string): void {
  const reply = JSON.parse(text);
  const found = { member: reply?.member, epoch: reply?.assigned?.[0]?.epoch, rev: reply?.retries?.[0]?.[10] ?? reply?.rev };
  for (const [name, value] of Object.entries(found)) if (value !== undefined) known[name] = JSON.stringify(value);
}

async function curl(server: Server, command: string): Promise<string> {
  const { stdout } = await promisify(execFile)("sh", ["-c", command.replace("http://127.0.0.1:8080", server.url)]);
  return stdout;
}

async function compareFrames(t: Context, request: Block, reply: Block): Promise<void> {
  const query = new URLSearchParams(/\?([^']+)'/.exec(request.text)![1]);
  const subscription = await subscribe(t, open.get().client(), Object.fromEntries(query));
  for (const frame of reply.text.trimEnd().split("\n\n")) assert.deepEqual(await subscription.next(), parseFrame(frame));
}
