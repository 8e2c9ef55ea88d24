/** docs/API.md and docs/GUIDE.md as data: rules and examples. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./command.ts";

export type Block = { language: string; words: string[]; text: string; line: number };

export function readApiDocument(): string {
  return readFileSync(join(ROOT, "docs/API.md"), "utf8");
}

export function readGuide(): string {
  return readFileSync(join(ROOT, "docs/GUIDE.md"), "utf8");
}

/** The ids of all rules, in document order. */
export function ruleIds(document: string): string[] {
  return [...document.matchAll(/^- \*\*(R-[a-z-]+\.\d+)\*\* /gm)].map((match) => match[1]!);
}

/** Everything in bold that looks like a rule's id, wherever it stands. */
export function ruleMentions(document: string): string[] {
  return [...document.matchAll(/\bR-[a-z-]+\.\d+\b/g)].map((match) => match[0]);
}

/** The fenced blocks of the document, each with the words after its language. */
export function fencedBlocks(document: string): Block[] {
  const fence = /^```(\w+)([^\n]*)\n([\s\S]*?)^```$/gm;
  return [...document.matchAll(fence)].map((match) => ({
    language: match[1]!,
    words: match[2]!.split(" ").filter((word) => word !== ""),
    text: match[3]!,
    line: document.slice(0, match.index).split("\n").length,
  }));
}
