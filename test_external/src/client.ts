/** A small client: calls with a token, replies with status, headers and the exact text. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { send, type Body, type Reply, type Request } from "./http.ts";
import { parseExact } from "./json.ts";
import { PLANTED, rememberTokens } from "./secrets.ts";

/** A message as stream.get returns it. */
export type StreamMessage = [
  id: string, type: string, position: number, globalPosition: number, data: any, metadata: any, time: string,
];
/** A message as category.get returns it. */
export type CategoryMessage = [
  id: string, stream: string, type: string, position: number, globalPosition: number, data: any, metadata: any, time: string,
];
export type Written = { position: number; globalPosition: number };
export type Appended = { firstPosition: number; lastPosition: number; firstGlobalPosition: number; lastGlobalPosition: number };
export type Failure = { status: number; code: string; message: string; details?: any };

export class Client {
  constructor(readonly url: string, readonly token?: string) {}

  /** The result of a call; the test fails where the call does. */
  async rpc<T = any>(method: string, ...args: unknown[]): Promise<T> {
    const reply = await this.call(method, ...args);
    assert.equal(reply.status, 200, `${method}: ${reply.text}`);
    return parseExact(reply.text);
  }

  /** The error of a call; the test fails where the call succeeds. */
  async failure(method: string, ...args: unknown[]): Promise<Failure> {
    return failureOf(await this.call(method, ...args));
  }

  /** The reply of a call, whatever it is. */
  call(method: string, ...args: unknown[]): Promise<Reply> {
    return this.post(JSON.stringify([method, ...args]));
  }

  /** The reply to a body sent to /rpc as it is. */
  post(body: Body): Promise<Reply> {
    return this.send({ path: "/rpc", body });
  }

  /** Any request, with this client's token unless it brings an Authorization of its own. */
  async send(request: Request): Promise<Reply> {
    const authorization = this.token === undefined ? {} : { Authorization: `Bearer ${this.token}` };
    const reply = await send(this.url, { ...request, headers: { ...authorization, ...request.headers } });
    // A token that the server made.
    if (reply.text.includes('"token":')) rememberTokens(reply.text);
    return reply;
  }

  /** Writes a message where only its place matters. */
  write(stream: string, type = "Happened", data: object = { secret: PLANTED }): Promise<Written> {
    return this.rpc("stream.write", stream, { type, data });
  }

  /** Appends `count` small messages to a stream, in batches that the server takes. */
  async fill(stream: string, count: number, type = "Happened"): Promise<void> {
    for (let done = 0; done < count; done += 1000) {
      const batch = Array.from({ length: Math.min(1000, count - done) }, (_, i) => ({ type, data: { n: done + i, secret: PLANTED } }));
      await this.rpc("stream.append", stream, batch);
    }
  }

  /** The same server with another token, or with none. */
  as(token?: string): Client {
    return new Client(this.url, token);
  }
}

/** The error in a reply, which must have the form of an error. */
export function failureOf(reply: Reply): Failure {
  assert.ok(reply.status >= 400, `a failure was expected: ${reply.status} ${reply.text.slice(0, 500)}`);
  assert.match(String(reply.headers["content-type"]), /^application\/json/);
  const body = parseExact(reply.text);
  assert.deepEqual(Object.keys(body), ["error"]);
  const { code, message, details, ...rest } = body.error;
  assert.deepEqual(rest, {}, "an error has code, message and details only");
  assert.equal(typeof code, "string");
  assert.ok(typeof message === "string" && message !== "", "an error has a message");
  if ("details" in body.error) assert.equal(typeof details, "object");
  return { status: reply.status, code, message, ...("details" in body.error && { details }) };
}

/** Asserts what programs go by: code and status. */
export async function assertFails(attempt: Promise<Failure>, status: number, code: string, message?: RegExp): Promise<Failure> {
  const failure = await attempt;
  assert.deepEqual([failure.status, failure.code], [status, code], failure.message);
  if (message) assert.match(failure.message, message);
  return failure;
}

/** A well-formed token for a namespace, with random digits or those given. */
export function tokenFor(namespace: string, digits = randomBytes(32).toString("hex")): string {
  const token = `ns_${Buffer.from(namespace).toString("base64url")}_${digits}`;
  rememberTokens(token);
  return token;
}

/** A name nobody else uses. */
export function unique(prefix: string): string {
  return `${prefix}${randomUUID().replaceAll("-", "")}`;
}

export const TOKEN = /ns_[A-Za-z0-9_-]+_[0-9a-f]{64}/;
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
export const VERSION = /^\d+\.\d+\.\d+/;
