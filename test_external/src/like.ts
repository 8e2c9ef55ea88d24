/** Comparing what a server or a command prints with what a document shows, where "<uuid>" stands for any UUID, and so on. */
import assert from "node:assert/strict";
import { TIME, TOKEN, UUID, VERSION } from "./client.ts";

const PLACEHOLDERS: Record<string, (value: unknown) => boolean> = {
  "<uuid>": (value) => typeof value === "string" && UUID.test(value),
  "<time>": (value) => typeof value === "string" && TIME.test(value),
  "<token>": (value) => typeof value === "string" && TOKEN.test(value),
  "<version>": (value) => typeof value === "string" && VERSION.test(value),
  "<number>": (value) => Number.isInteger(value),
  "<any>": () => true,
};

/** Fails unless a JSON value is as shown; an error may have details that are not shown. */
export function assertLike(actual: any, expected: any, path = "reply"): void {
  const placeholder = typeof expected === "string" ? PLACEHOLDERS[expected] : undefined;
  if (placeholder) {
    assert.ok(placeholder(actual), `${path} is ${JSON.stringify(actual)}, not ${expected}`);
  } else if (Array.isArray(expected)) {
    assert.equal(actual?.length, expected.length, `${path}: ${JSON.stringify(actual)}`);
    expected.forEach((item, i) => assertLike(actual[i], item, `${path}[${i}]`));
  } else if (expected !== null && typeof expected === "object") {
    const extra = Object.keys(actual ?? {}).filter((name) => !(name in expected));
    assert.deepEqual(path === "reply.error" ? extra.filter((name) => name !== "details") : extra, [], path);
    for (const name of Object.keys(expected)) assertLike(actual?.[name], expected[name], `${path}.${name}`);
  } else {
    assert.equal(actual, expected, path);
  }
}

/** Fails unless a line of text is as shown. */
export function assertLineLike(actual: string | undefined, expected: string): void {
  const parts = expected.split(/(<\w+>)/).map((part) => (part in PLACEHOLDERS ? "(\\S+)" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
  const found = new RegExp(`^${parts.join("")}$`).exec(actual ?? "");
  assert.ok(found, `printed ${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`);
  const names = expected.match(/<\w+>/g)?.filter((name) => name in PLACEHOLDERS) ?? [];
  names.forEach((name, i) => assertLike(name === "<number>" ? Number(found[i + 1]) : found[i + 1], name));
}
