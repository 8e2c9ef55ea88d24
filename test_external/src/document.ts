/** The documents as data: rules and examples. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./command.ts";

export type Block = { language: string; words: string[]; text: string; line: number };

/** The text of a file below docs/. */
export function readDocument(name: string): string {
  return readFileSync(join(ROOT, "docs", name), "utf8");
}

export function readApiDocument(): string {
  return readDocument("API.md");
}

export function readGuide(): string {
  return readDocument("GUIDE.md");
}

/** The ids of all rules, in document order. */
export function ruleIds(document: string): string[] {
  return [...document.matchAll(/^- \*\*(R-[a-z-]+\.\d+)\*\* /gm)].map((match) => match[1]!);
}

/** Everything in bold that looks like a rule's id, wherever it stands. */
export function ruleMentions(document: string): string[] {
  return [...document.matchAll(/\bR-[a-z-]+\.\d+\b/g)].map((match) => match[0]);
}

/** The fenced blocks of the document, each with the words after its language. A block may be indented, as in a list. */
export function fencedBlocks(document: string): Block[] {
  const fence = /^( *)```(\w*)([^\n]*)\n([\s\S]*?)^\1```$/gm;
  return [...document.matchAll(fence)].map((match) => ({
    language: match[2]!,
    words: match[3]!.split(" ").filter((word) => word !== ""),
    text: match[4]!.replaceAll(new RegExp(`^${match[1]}`, "gm"), ""),
    line: document.slice(0, match.index).split("\n").length,
  }));
}
