/** The alerts and the board in `ops/` use metrics that there are, and the board is what its list of panels makes. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BOARD, text } from "../src/board.ts";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

/** The names of metrics in a text, without the endings of a histogram's series. */
function metrics(text: string): Set<string> {
  const names = text.match(/\b(?:eventodb|process)_[a-z_0-9]+\b/g) ?? [];
  return new Set(names.map((name) => name.replace(/_(?:bucket|count|sum)$/, "")));
}

function unknownMetrics(file: string): string[] {
  const known = metrics(read("docs/METRICS.md"));
  return [...metrics(read(file))].filter((name) => !known.has(name));
}

test("[] the board is what its panels make (npm run board)", () => {
  assert.equal(readFileSync(BOARD, "utf8"), text());
});

test("[] each metric of the board exists", () => {
  assert.deepEqual(unknownMetrics("ops/grafana/eventodb.json"), []);
});

test("[] each metric of the alerts exists", () => {
  assert.deepEqual(unknownMetrics("ops/prometheus/alerts.yml"), []);
});

test("[] each alert has an entry in the runbook", () => {
  const alerts = [...read("ops/prometheus/alerts.yml").matchAll(/- alert: (\w+)/g)].map((match) => match[1]);
  assert.ok(alerts.length > 10);
  const runbook = read("docs/OPERATIONS.md");
  assert.deepEqual(alerts.filter((alert) => !runbook.includes(`#### ${alert}\n`)), []);
});
