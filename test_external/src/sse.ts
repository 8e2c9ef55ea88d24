/** An event stream, read frame by frame and judged byte by byte: any frame that breaks a rule ends the reading with an error. */
import http from "node:http";
import type { Client } from "./client.ts";
import { utf8, type Reply } from "./http.ts";
import { parseExact } from "./json.ts";
import type { Context } from "./suite.ts";
import { transportOf } from "./tls.ts";
import { within } from "./wait.ts";

export type Poke = { kind: "poke"; id: number; stream: string; position: number; globalPosition: number };
export type Notice = { kind: "ready" | "caught-up" | "heartbeat" | "ahead-of-head" | "damaged"; head?: number; id?: number };
export type Frame = Poke | Notice | { kind: "retry"; milliseconds: number };

/** Reads one frame, given without the empty line at its end. */
export function parseFrame(text: string): Frame {
  const lines = text.split("\n");
  if (/^retry: \d+$/.test(text)) return { kind: "retry", milliseconds: Number(text.slice(7)) };
  const event = lines.indexOf("event: poke");
  return event < 0 ? parseNotice(lines) : parsePoke(lines);
}

function parsePoke(lines: string[]): Poke {
  const [idLine = "", eventLine, dataLine = "", ...rest] = lines;
  const id = /^id: (\d+)$/.exec(idLine)?.[1];
  if (rest.length > 0 || id === undefined || eventLine !== "event: poke" || !dataLine.startsWith("data: {")) {
    throw new Error(`not a poke: ${JSON.stringify(lines)}`);
  }
  const data = parseExact(dataLine.slice("data: ".length));
  if (Object.keys(data).join() !== "stream,position,globalPosition") throw new Error(`not a poke's data: ${dataLine}`);
  if (String(data.globalPosition) !== id) throw new Error(`a poke's id is its global position: ${lines}`);
  return { kind: "poke", id: data.globalPosition, ...data };
}

/** `: ready`, `: caught-up n`, `: heartbeat n`, each with an id line, and `: ahead-of-head n` and `: damaged n`. */
function parseNotice(lines: string[]): Notice {
  const comments = lines.filter((line) => line.startsWith(":"));
  const ids = lines.filter((line) => /^id: \d+$/.test(line)).map((line) => parseExact(line.slice(4)));
  const found = /^: (?:(ready)|(caught-up|heartbeat|ahead-of-head|damaged) (\d+))$/.exec(comments[0] ?? "");
  const strange = comments.length !== 1 || ids.length > 1 || lines.length !== 1 + ids.length;
  if (!found || strange) throw new Error(`not a frame: ${JSON.stringify(lines)}`);
  const kind = (found[1] ?? found[2]) as Notice["kind"];
  const head: number | undefined = found[3] === undefined ? undefined : parseExact(found[3]);
  if (kind !== "ahead-of-head" && kind !== "damaged" && ids.length === 0) throw new Error(`${kind} has an id line: ${lines}`);
  if (ids.length === 1 && head !== undefined && ids[0] !== head && kind !== "ahead-of-head") {
    throw new Error(`the id line of ${kind} is its head: ${lines}`);
  }
  return { kind, ...(head !== undefined && { head }), ...(ids.length > 0 && { id: ids[0] }) };
}

/** Cuts bytes into frames, holding them to the rules about line ends and empty lines. */
export class FrameReader {
  private rest = Buffer.alloc(0);
  private state: "new" | "begun" | "ready" | "over" = "new";

  push(chunk: Uint8Array): Frame[] {
    let bytes = Buffer.concat([this.rest, chunk]);
    if (bytes.includes(0x0d)) throw new Error("a carriage return in an event stream");
    const frames: Frame[] = [];
    for (let end = bytes.indexOf("\n\n"); end >= 0; end = bytes.indexOf("\n\n")) {
      const text = utf8(bytes.subarray(0, end));
      if (text === "" || text.startsWith("\n")) throw new Error("an empty line that ends no frame");
      frames.push(this.checked(parseFrame(text)));
      bytes = bytes.subarray(end + 2);
    }
    if (bytes[0] === 0x0a) throw new Error("two empty lines in a row, or one at the start");
    this.rest = bytes;
    return frames;
  }

  /** Whether all bytes so far belong to whole frames. */
  get whole(): boolean {
    return this.rest.length === 0;
  }

  private checked(frame: Frame): Frame {
    const mayRetry = this.state === "new" || this.state === "ready";
    if (this.state === "over" || (frame.kind === "retry" ? !mayRetry : this.state === "new")) {
      throw new Error(`retry comes first, and once more as the last frame: ${JSON.stringify(frame)}`);
    }
    if (frame.kind === "retry") this.state = this.state === "new" ? "begun" : "over";
    else if (frame.kind === "ready") this.state = "ready";
    return frame;
  }
}

export type Query = Record<string, string | number | undefined>;

/** An open subscription: frames wait in order until a test takes them. */
export class Subscription {
  private frames: Frame[] = [];
  private wake: () => void = () => {};
  private problem: Error | undefined;
  private over = false;
  /** Everything up to this global position was sent. */
  private served = -1;

  private constructor(private request: http.ClientRequest, readonly response: http.IncomingMessage) {
    const reader = new FrameReader();
    response.on("data", (chunk: Buffer) => this.guard(() => this.accept(reader.push(chunk))));
    response.on("end", () => this.guard(() => this.end(reader.whole && response.complete)));
    response.on("error", (error) => this.guard(() => { throw error; }));
  }

  static async open(client: Client, query: Query, headers: http.OutgoingHttpHeaders = {}): Promise<Subscription> {
    const [sent, response] = await request(client, query, headers);
    if (response.statusCode !== 200) throw new Error(`/subscribe was answered with ${response.statusCode}`);
    return new Subscription(sent, response);
  }

  /** The next frame. */
  async next(limitMs?: number): Promise<Frame> {
    await this.arrival(limitMs);
    const frame = this.frames.shift();
    if (!frame) throw this.problem ?? new Error("the subscription ended");
    return frame;
  }

  /** All frames up to the first of that kind, itself included. */
  async upTo(kind: Frame["kind"], limitMs?: number): Promise<Frame[]> {
    const seen: Frame[] = [];
    while (seen.at(-1)?.kind !== kind) seen.push(await this.next(limitMs));
    return seen;
  }

  /** The next `count` pokes, whatever stands between them. */
  async pokes(count: number): Promise<Poke[]> {
    const seen: Poke[] = [];
    while (seen.length < count) {
      const frame = await this.next();
      if (frame.kind === "poke") seen.push(frame);
    }
    return seen;
  }

  /** The pokes that are there before the next `: caught-up`. */
  async history(): Promise<Poke[]> {
    return pokesOf(await this.upTo("caught-up"));
  }

  /** Everything left, once the server has ended the stream cleanly. */
  async ended(): Promise<Frame[]> {
    const seen: Frame[] = [];
    for (;;) {
      await this.arrival();
      const frame = this.frames.shift();
      if (frame) seen.push(frame);
      else if (this.problem) throw this.problem;
      else return seen;
    }
  }

  pause(): void {
    this.response.pause();
  }

  resume(): void {
    this.response.resume();
  }

  close(): void {
    this.request.destroy();
  }

  private async arrival(limitMs?: number): Promise<void> {
    if (this.frames.length > 0 || this.over) return;
    await within("the next frame", new Promise<void>((resolve) => (this.wake = resolve)), limitMs);
  }

  private accept(frames: Frame[]): void {
    for (const frame of frames) this.note(frame);
    this.frames.push(...frames);
    if (frames.length > 0) this.wake();
  }

  /** A poke at or below what was served would be a second one; a head below the last poke would lose it. */
  private note(frame: Frame): void {
    if (frame.kind === "poke") {
      if (frame.id <= this.served) throw new Error(`poked ${frame.id} after ${this.served} was served`);
      this.served = frame.id;
    } else if (frame.kind === "caught-up" || frame.kind === "heartbeat") {
      if (frame.head! < this.served) throw new Error(`${frame.kind} ${frame.head} after ${this.served} was served`);
      this.served = frame.head!;
    }
  }

  private end(clean: boolean): void {
    if (!clean) throw new Error("the event stream was cut");
    this.over = true;
    this.wake();
  }

  private guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.problem ??= error as Error;
      this.over = true;
      this.wake();
    }
  }
}

export function pokesOf(frames: Frame[]): Poke[] {
  return frames.filter((frame): frame is Poke => frame.kind === "poke");
}

function parametersOf(query: Query): URLSearchParams {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}

/** Asks for a subscription. */
async function request(client: Client, query: Query, headers: http.OutgoingHttpHeaders): Promise<[http.ClientRequest, http.IncomingMessage]> {
  if (client.token !== undefined && !("Authorization" in headers)) headers = { ...headers, Authorization: `Bearer ${client.token}` };
  const request = transportOf(client.url).request(`${client.url}/subscribe?${parametersOf(query)}`, { headers, agent: false });
  const answer = new Promise<http.IncomingMessage>((resolve, reject) => request.on("response", resolve).on("error", reject));
  request.end();
  const response = await within("the reply to /subscribe", answer);
  request.on("error", () => {}); // after the reply it is told by the response
  return [request, response];
}

/** The reply to a subscription: the whole of it if it is refused, else its head, and the subscription is given up. */
export async function replyTo(client: Client, query: Query): Promise<Reply> {
  const [sent, response] = await request(client, query, {});
  const chunks: Buffer[] = [];
  response.on("error", () => {});
  if (response.statusCode === 200) sent.destroy();
  else for await (const chunk of response) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  return { status: response.statusCode!, headers: response.headers, bytes, text: utf8(bytes) };
}

/** Opens a subscription that ends with the test. */
export async function subscribe(
  t: Context,
  client: Client,
  query: Query,
  headers?: http.OutgoingHttpHeaders,
): Promise<Subscription> {
  const subscription = await Subscription.open(client, query, headers);
  t.after(() => subscription.close());
  return subscription;
}
