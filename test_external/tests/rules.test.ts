/**
 * Every rule of docs/API.md has a test, and every test names rules that exist.
 *
 * A title begins with the ids of the rules that the test would break with: `test("[R-write.1 R-write.2] …`. Titles are
 * read from the source files, so the ids are written out, not put together. So it is with the tests of the threats in
 * SECURITY.md.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ROOT } from "../src/command.ts";
import { readApiDocument, ruleIds, ruleMentions } from "../src/document.ts";
import { NOT_OBSERVABLE } from "../src/rules.ts";

const here = dirname(fileURLToPath(import.meta.url));
const files = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
const document = readApiDocument();
const rules = ruleIds(document);

/** file → the text in brackets of each title; a title without brackets gives "". */
const titles = files.flatMap((file) => {
  const source = readFileSync(join(here, file), "utf8");
  const calls = [...source.matchAll(/^[ \t]*test\(\s*(["'`])(?:\[([^\]]*)\])?/gm)];
  return calls.map((call) => ({ file, ids: (call[2] ?? "").split(" ").filter((id) => id !== "") }));
});

test("[] rule ids are unique and numbered without a gap in each section", () => {
  const sections = new Map<string, number[]>();
  for (const id of rules) {
    const [section, number] = id.slice(2).split(".") as [string, string];
    sections.set(section, [...(sections.get(section) ?? []), Number(number)]);
  }
  for (const [section, numbers] of sections) {
    const sorted = [...numbers].sort((a, b) => a - b);
    assert.deepEqual(sorted, sorted.map((_, i) => i + 1), `R-${section}`);
  }
  assert.ok(rules.length > 200, "the document has its rules");
});

test("[] the document mentions no rule that it does not state", () => {
  assert.deepEqual(ruleMentions(document).filter((id) => !rules.includes(id)), []);
});

test("[] every test of the server names its rules", () => {
  const ofDocuments = ["rules.test.ts", "board.test.ts"];
  const nameless = titles.filter(({ file, ids }) => ids.length === 0 && !ofDocuments.includes(file));
  assert.deepEqual(nameless, []);
});

test("[] no title names a rule that does not exist", () => {
  const unknown = titles.flatMap(({ file, ids }) => ids.filter((id) => !rules.includes(id)).map((id) => `${file}: ${id}`));
  assert.deepEqual(unknown, []);
});

test("[] every rule has a test, or a reason why no client can see it", () => {
  const tested = new Set(titles.flatMap(({ ids }) => ids));
  assert.deepEqual(rules.filter((id) => !tested.has(id) && !(id in NOT_OBSERVABLE)), []);
});

test("[] the reasons are for rules that exist and have no test", () => {
  const tested = new Set(titles.flatMap(({ ids }) => ids));
  assert.deepEqual(Object.keys(NOT_OBSERVABLE).filter((id) => !rules.includes(id) || tested.has(id)), []);
});

test("[] each threat in SECURITY.md has a test, and each test that is named there exists", () => {
  const document = readFileSync(join(ROOT, "SECURITY.md"), "utf8");
  const table = document.slice(document.indexOf("## Threats and their tests"), document.indexOf("## Reporting"));
  const rows = [...table.matchAll(/^\| (?!threat \|)(.+?) \| .+ \| (.+?) \|$/gm)].map(([, threat, tests]) => ({ threat: threat!, tests: tests! }));
  assert.ok(rows.length > 30, "the table has its rows");
  for (const { threat, tests } of rows) {
    let source: string | undefined;
    // A file, then what it is about: functions in Rust, the beginnings of titles in TypeScript.
    for (const [, code, title] of tests.matchAll(/`([^`]+)`|"([^"]+)"/g)) {
      if (code?.includes("/")) source = readFileSync(join(ROOT, code), "utf8");
      else if (code && !code.includes(" ")) assert.ok(source?.includes(`fn ${code}(`), `${threat}: ${code}`);
      else if (title) assert.ok(source?.includes(title.replace(/ ?…$/, "")), `${threat}: ${title}`);
    }
    assert.ok(source, `${threat}: no test`);
  }
});
