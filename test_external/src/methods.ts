/**
 * All methods with their arguments, options and members, from which good and bad calls are made. Values are JSON texts,
 * as many of the bad ones have no JavaScript value.
 */
import { randomUUID } from "node:crypto";
import { unique } from "./client.ts";

export type Kind = "string" | "boolean" | "name" | "object" | "array" | "strings" | "integer" | "version" | "uuid" | "categories" | "direction" | "time" | "place";
export type Method = {
  name: string;
  /** Name, kind and a good value of each required argument. */
  required: [name: string, kind: Kind, good: string][];
  options: Record<string, Kind>;
};
/** An object inside an argument: its members, and how a call looks around one such object. */
export type Nested = {
  name: string;
  good: Record<string, string>;
  members: Record<string, Kind>;
  required: string[];
  /** Whether members of other names are ignored, as those of a message are, or refused as unknown options are. */
  ignoresUnknown: boolean;
  around: (object: string) => string;
};

const reading: Record<string, Kind> = {
  position: "integer", globalPosition: "integer", batchSize: "integer", direction: "direction", types: "strings",
  until: "integer", waitMs: "integer", time: "time",
};
const message = '{"type":"T","data":{}}';
/** What happens to a group in the commit of a write. */
const forms: Record<string, Kind> = { checkpoint: "object", handled: "object", fence: "object" };

const group: [string, Kind, string] = ["group", "name", '"$group"'];
const member: [string, Kind, string] = ["member", "string", '"$member"'];
const list: Record<string, Kind> = { limit: "integer", cursor: "string" };

/** Good values hold `$new` for a name that does not exist and `$uuid` for a fresh id; `$old` is a namespace that exists, and
 * `$token` the id of a token that does. `$member` is a member of the group `$group` and owns its only partition with the epoch
 * `$epoch`; the group's only message is at `$position`. */
export const METHODS: Method[] = [
  { name: "stream.write", required: [["stream", "name", '"a-$new"'], ["message", "object", message]], options: { id: "uuid", expectedVersion: "version", ...forms } },
  { name: "stream.append", required: [["stream", "name", '"a-$new"'], ["messages", "array", `[${message}]`]], options: { expectedVersion: "version", ...forms } },
  { name: "streams.append", required: [["entries", "array", `[{"stream":"a-$new","messages":[${message}]}]`]], options: { checks: "array", ...forms } },
  { name: "stream.get", required: [["stream", "name", '"a-1"']], options: reading },
  { name: "stream.last", required: [["stream", "name", '"a-1"']], options: { type: "string" } },
  { name: "stream.version", required: [["stream", "name", '"a-1"']], options: {} },
  { name: "category.get", required: [["category", "categories", '"a"']], options: { ...reading, correlation: "string", consumerGroup: "object" } },
  { name: "message.get", required: [["id", "uuid", '"$uuid"']], options: {} },
  { name: "ns.create", required: [["namespace", "name", '"$new"']], options: { description: "string", token: "string", metadata: "object" } },
  { name: "ns.delete", required: [["namespace", "name", '"$old"']], options: {} },
  { name: "ns.info", required: [["namespace", "name", '"$old"']], options: {} },
  { name: "ns.update", required: [["namespace", "name", '"$old"']], options: { description: "string", protected: "boolean", quota: "object" } },
  { name: "ns.list", required: [], options: {} },
  { name: "ns.streams", required: [], options: { prefix: "string", limit: "integer", cursor: "string" } },
  { name: "ns.categories", required: [], options: { prefix: "string", limit: "integer", cursor: "string" } },
  { name: "token.list", required: [], options: { namespace: "name" } },
  { name: "token.revoke", required: [["id", "uuid", '"$token"']], options: {} },
  { name: "token.rotate", required: [["id", "uuid", '"$token"']], options: { token: "string", graceMs: "integer" } },
  {
    name: "group.create", required: [["group", "name", '"$new"']],
    options: {
      categories: "strings", types: "strings", partitions: "integer", start: "place", adopt: "object", sessionMs: "integer", maxParked: "integer",
      description: "string",
    },
  },
  { name: "group.update", required: [group], options: { sessionMs: "integer", maxParked: "integer", description: "string" } },
  { name: "group.delete", required: [group], options: {} },
  { name: "group.list", required: [], options: {} },
  { name: "group.status", required: [group], options: {} },
  { name: "group.pause", required: [group], options: {} },
  { name: "group.resume", required: [group], options: {} },
  { name: "group.join", required: [group], options: { name: "name", instance: "uuid" } },
  { name: "group.heartbeat", required: [group, member], options: { checkpoints: "object", released: "object", waitMs: "integer" } },
  {
    name: "group.read", required: [group, member],
    options: { batchSize: "integer", waitMs: "integer", partitions: "array", after: "object", checkpoints: "object", released: "object" },
  },
  { name: "group.leave", required: [group, member], options: { checkpoints: "object" } },
  { name: "group.parked", required: [group], options: list },
  { name: "group.audit", required: [group], options: { limit: "integer", cursor: "integer" } },
  { name: "sys.version", required: [], options: {} },
  { name: "sys.health", required: [], options: {} },
  { name: "sys.config", required: [], options: {} },
];

export const NESTED: Nested[] = [
  {
    name: "the message of stream.write",
    good: { type: '"T"', data: "{}" },
    members: { type: "name", data: "object", metadata: "object", id: "uuid" },
    required: ["type", "data"],
    ignoresUnknown: true,
    around: (object) => `["stream.write","a-$new",${object}]`,
  },
  {
    name: "a message of stream.append",
    good: { type: '"T"', data: "{}" },
    members: { type: "name", data: "object", metadata: "object", id: "uuid" },
    required: ["type", "data"],
    ignoresUnknown: true,
    around: (object) => `["stream.append","a-$new",[${message},${object}]]`,
  },
  {
    name: "an entry of streams.append",
    good: { stream: '"a-$new"', messages: `[${message}]` },
    members: { stream: "name", messages: "array", expectedVersion: "version" },
    required: ["stream", "messages"],
    ignoresUnknown: false,
    around: (object) => `["streams.append",[${object}]]`,
  },
  {
    name: "a check of streams.append",
    good: { stream: '"b-$new"', expectedVersion: "-1" },
    members: { stream: "name", expectedVersion: "version", match: "object", after: "integer", absent: "object" },
    required: ["stream", "expectedVersion"],
    ignoresUnknown: false,
    around: (object) => `["streams.append",[{"stream":"a-$new","messages":[${message}]}],{"checks":[${object}]}]`,
  },
  {
    name: "a condition of streams.append",
    good: { match: '{"types":["$new"]}', after: "0" },
    members: { match: "object", after: "integer", expectedVersion: "version" },
    required: ["match", "after"],
    ignoresUnknown: false,
    around: (object) => `["streams.append",[{"stream":"a-$new","messages":[${message}]}],{"checks":[${object}]}]`,
  },
  {
    name: "what a condition of streams.append matches",
    good: { categories: '["$new"]', types: '["T"]' },
    members: { categories: "strings", types: "strings" },
    required: [],
    ignoresUnknown: false,
    around: (object) => `["streams.append",[{"stream":"a-$new","messages":[${message}]}],{"checks":[{"absent":${object}}]}]`,
  },
  {
    name: "the options of token.create",
    good: { rights: '["read"]' },
    members: { namespace: "name", token: "string", description: "string", rights: "strings", categories: "strings", expiresAt: "string" },
    required: ["rights"],
    ignoresUnknown: false,
    around: (object) => `["token.create",${object}]`,
  },
  {
    name: "the options of group.resize",
    good: { partitions: "2" },
    members: { partitions: "integer" },
    required: ["partitions"],
    ignoresUnknown: false,
    around: (object) => `["group.resize","$group",${object}]`,
  },
  {
    name: "the options of group.reset",
    good: { to: '"beginning"' },
    members: { to: "place", partitions: "array", dryRun: "boolean" },
    required: ["to"],
    ignoresUnknown: false,
    around: (object) => `["group.reset","$group",${object}]`,
  },
  {
    name: "the options of group.park",
    good: { partition: "0", epoch: "$epoch", position: "$position" },
    members: { partition: "integer", epoch: "integer", position: "integer", attempt: "integer", reason: "string", retryInMs: "integer" },
    required: ["partition", "epoch", "position"],
    ignoresUnknown: false,
    around: (object) => `["group.park","$group","$member",${object}]`,
  },
  {
    name: "the options of group.handled",
    good: { partition: "0", epoch: "$epoch", stream: '"a-1"', position: "0" },
    members: { partition: "integer", epoch: "integer", stream: "name", position: "integer", readTo: "integer", rev: "integer" },
    required: ["partition", "epoch", "stream", "position"],
    ignoresUnknown: false,
    around: (object) => `["group.handled","$group","$member",${object}]`,
  },
  {
    name: "the checkpoint of a write",
    good: { group: '"$group"', partition: "0", epoch: "$epoch", position: "$position" },
    members: { group: "name", partition: "integer", epoch: "integer", position: "integer" },
    required: ["group", "partition", "epoch", "position"],
    ignoresUnknown: false,
    around: (object) => `["stream.write","a-$new",${message},{"checkpoint":${object}}]`,
  },
  {
    name: "the options of group.retry",
    good: { all: "true" },
    members: { stream: "name", all: "boolean" },
    required: ["all"],
    ignoresUnknown: false,
    around: (object) => `["group.retry","$group",${object}]`,
  },
  {
    name: "the options of group.skip",
    good: { stream: '"a-1"', position: "0" },
    members: { stream: "name", position: "integer", dryRun: "boolean" },
    required: ["stream", "position"],
    ignoresUnknown: false,
    around: (object) => `["group.skip","$group",${object}]`,
  },
  {
    name: "the options of group.wait",
    good: { globalPosition: "0" },
    members: { globalPosition: "integer", stream: "name", timeoutMs: "integer" },
    required: ["globalPosition"],
    ignoresUnknown: false,
    around: (object) => `["group.wait","$group",${object}]`,
  },
  {
    name: "the adopt of group.create",
    good: { size: "2", checkpoints: "[0,0]" },
    members: { size: "integer", checkpoints: "array" },
    required: ["size", "checkpoints"],
    ignoresUnknown: false,
    around: (object) => `["group.create","$new",{"adopt":${object}}]`,
  },
  {
    name: "a checkpoint of group.heartbeat",
    good: { epoch: "$epoch", position: "0" },
    members: { epoch: "integer", position: "integer" },
    required: ["epoch", "position"],
    ignoresUnknown: false,
    around: (object) => `["group.heartbeat","$group","$member",{"checkpoints":{"0":${object}}}]`,
  },
  {
    name: "the quota of ns.update",
    good: { messages: "7", bytes: "0" },
    members: { messages: "integer", bytes: "integer" },
    required: [],
    ignoresUnknown: false,
    around: (object) => `["ns.update","$old",{"quota":${object}}]`,
  },
  {
    name: "the consumerGroup of category.get",
    good: { member: "0", size: "2" },
    members: { member: "integer", size: "integer" },
    required: ["member", "size"],
    ignoresUnknown: false,
    around: (object) => `["category.get","a",{"consumerGroup":${object}}]`,
  },
];

const notIntegers = ["1.5", "1e2", "1.0", "9223372036854775808", "-9223372036854775809", "1" + "0".repeat(300), '"1"', "true", "[]", "{}"];
const notBooleans = ['"true"', "1", "[]", "{}"];
const notStrings = ["1", "true", "[]", "{}"];
const notObjects = ['"x"', "1", "true", "[]"];

/** Values of a wrong type or form, for each kind. */
export const WRONG: Record<Kind, string[]> = {
  string: notStrings,
  boolean: notBooleans,
  name: [...notStrings, '""', '"\\u0000"', '"a\\nb"', '"\\ud800"'],
  object: notObjects,
  array: ['"x"', "1", "true", "{}"],
  strings: ['"x"', "1", "{}", "[1]", "[null]", '["a",{}]'],
  integer: notIntegers,
  version: ["1.5", "1e2", "9223372036854775808", '"1"', '"some"', '""', "true", "[]", "{}", "-2"],
  uuid: [
    ...notStrings, '""', '"x"', '"6f9619ff8b86d011b42d00c04fc964ff"', '"6f9619ff-8b86-d011-b42d-00c04fc964fg"',
    '"{6f9619ff-8b86-d011-b42d-00c04fc964ff}"',
  ],
  categories: ["1", "true", "{}", "[1]", "[null]"],
  direction: [...notStrings, '"up"', '"Backward"'],
  place: ["true", "[]", "{}", '"x"', '""', "1.5", "-1"],
  time: [...notStrings, '""', '"2026-01-02"', '"2026-01-02T03:04:05"', '"yesterday"', '"2026-13-01T00:00:00Z"'],
};

/** Puts fresh names and ids into a text, and what exists, by the name behind the `$`. */
export function filled(text: string, existing: Record<string, string | number> = {}): string {
  const names: Record<string, () => string> = { new: () => unique("n"), uuid: () => randomUUID(), token: () => randomUUID(), old: () => "default" };
  return text.replace(/\$(\w+)/g, (_, name: string) => String(existing[name] ?? names[name]!()));
}

/** The body of a call with these required arguments and options. */
export function body(method: Method, required = method.required.map(([, , good]) => good), ...rest: string[]): string {
  return `[${[JSON.stringify(method.name), ...required, ...rest].join(",")}]`;
}

export function object(values: Record<string, string>): string {
  return `{${Object.entries(values).map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;
}
