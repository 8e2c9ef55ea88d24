/** POST /import: records in, events out. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { Client } from "./client.ts";
import type { Body, Reply } from "./http.ts";
import { parseExact } from "./json.ts";
import { PLANTED } from "./secrets.ts";

export type Progress = { imported: number; gpos: number };
export type Done = { done: true; imported: number; elapsed: string };
export type ImportError = { error: string; message: string; line?: number };
export type ImportEvent = Partial<Progress & Done & ImportError>;
export type RecordFields = { id: string; stream: string; type: string; pos: number; gpos: number; data: object; meta: object | null; time: string };

/** A record with these fields, and others that go with them. */
export function record(fields: Partial<RecordFields> & { gpos: number }): RecordFields {
  const { gpos } = fields;
  const others = { id: randomUUID(), stream: `a-${gpos}`, type: "T", pos: 0, data: { n: gpos, secret: PLANTED }, meta: null };
  return { ...others, time: "2026-01-02T03:04:05.678901Z", ...fields };
}

/** Records as lines; what is a string already stays as it is. */
export function lines(records: (object | string)[]): string {
  return records.map((each) => `${typeof each === "string" ? each : JSON.stringify(each)}\n`).join("");
}

/** The events of an import of this body. */
export async function importEvents(client: Client, body: Body, query = ""): Promise<ImportEvent[]> {
  return eventsOf(await client.send({ path: `/import${query}`, body }));
}

/** The last event of an import, which tells how it went. */
export async function outcome(client: Client, body: Body, query = ""): Promise<ImportEvent> {
  const events = await importEvents(client, body, query);
  const last = events.at(-1)!;
  assert.ok("done" in last || "error" in last, JSON.stringify(last));
  return last;
}

/** Imports records, and the test fails where that does. */
export async function importAll(client: Client, records: (object | string)[]): Promise<void> {
  const last = await outcome(client, lines(records));
  assert.deepEqual([last.done, last.imported], [true, records.length], JSON.stringify(last));
}

export function eventsOf(reply: Reply): ImportEvent[] {
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.headers["content-type"], "text/event-stream");
  return [...reply.text.matchAll(/^data: (.*)$/gm)].map((match) => parseExact(match[1]!));
}
