/** One HTTP request and its whole reply, bytes untouched. Event streams are read by sse.ts, raw sockets by socket.ts. */
import http from "node:http";
import https from "node:https";
import { transportOf } from "./tls.ts";

/** How long a reply may take before a test fails; a bound for liveness, not an expectation of speed. */
export const REPLY_LIMIT_MS = 40_000;

export type Body = string | Uint8Array | AsyncIterable<Uint8Array>;
export type Request = { method?: string; path: string; headers?: http.OutgoingHttpHeaders; body?: Body; agent?: http.Agent };
export type Reply = { status: number; headers: http.IncomingHttpHeaders; bytes: Buffer; text: string };

const agents = {
  "http:": new http.Agent({ keepAlive: true, maxSockets: 256 }),
  "https:": new https.Agent({ keepAlive: true, maxSockets: 256 }),
};

export function send(url: string, request: Request): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { method = request.body === undefined ? "GET" : "POST", headers = {}, body } = request;
    const target = new URL(url);
    const outgoing = transportOf(url).request({
      host: target.hostname,
      port: target.port,
      path: request.path,
      method,
      headers,
      agent: request.agent ?? agents[target.protocol as keyof typeof agents],
      timeout: REPLY_LIMIT_MS,
    });
    let answered = false;
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no reply to ${method} ${request.path}`)));
    outgoing.on("error", (error) => answered || reject(error));
    outgoing.on("response", (incoming) => {
      answered = true;
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("error", reject);
      incoming.on("end", () => {
        const bytes = Buffer.concat(chunks);
        resolve({ status: incoming.statusCode!, headers: incoming.headers, bytes, text: utf8(bytes) });
      });
    });
    if (body === undefined || typeof body === "string" || body instanceof Uint8Array) outgoing.end(body);
    else feed(outgoing, body, () => answered).catch((error) => answered || reject(error));
  });
}

/** Sends a body piece by piece, and no more of it once the reply has begun. */
async function feed(outgoing: http.ClientRequest, body: AsyncIterable<Uint8Array>, answered: () => boolean): Promise<void> {
  for await (const piece of body) {
    if (answered()) break;
    if (!outgoing.write(piece)) await new Promise((resume) => outgoing.once("drain", resume).once("response", resume));
  }
  outgoing.end();
}

/** Decodes UTF-8 and refuses anything else. */
export function utf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}
