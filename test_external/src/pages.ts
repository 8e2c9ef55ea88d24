/** The pages of the site, and what becomes of each block of commands in them. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./command.ts";
import { fencedBlocks, readDocument, type Block } from "./document.ts";

/** Languages of blocks that are typed in somewhere; a block without a language may be one. */
const COMMANDS = ["", "sh", "bash", "console", "sql"];
const NOT_RUN = "not-run-here";

/**
 * Which words, after the language, say that a test runs the block: those of `sh run` and so on in pages with a test of their own,
 * and those that tests/pages.test.ts runs in all others.
 */
const RUN_BY_THEIR_OWN: Record<string, RegExp> = {
  "GUIDE.md": /^sh (run|watch|server|paste)$/, // guide.test.ts
  "MIGRATING.md": /^sh (run|settings) /, // migrating.test.ts
  "API.md": /^sh (request|subscribe|run)$/, // api-examples.test.ts, and pages.test.ts
};
const RUN_HERE = /^(sh (run|watch|server|paste)|sql run)$/;

/** The names of all pages, below docs/. */
export function pages(): string[] {
  const own = ["", "errors/"].flatMap((folder) => markdown(join(ROOT, "docs", folder)).map((name) => `${folder}${name}`));
  return [...own, ...markdown(ROOT).map((name) => `../${name}`)].filter((name) => name !== "SUMMARY.md");
}

/** The pages whose `sh run` blocks tests/pages.test.ts runs. */
export function pagesToRun(): string[] {
  const own = ["GUIDE.md", "MIGRATING.md"];
  const runs = (block: Block) => saysRun(block) || (block.language === "json" && block.words[0] === "request");
  return pages().filter((page) => !own.includes(page) && (page === "API.md" ? blocksOf(page).some(saysRun) : blocksOf(page).some(runs)));
}

const saysRun = (block: Block) => block.language === "sh" && block.words.join(" ") === "run";

export function blocksOf(page: string): Block[] {
  return fencedBlocks(readDocument(page));
}

/** The blocks of commands that are marked as not run, as `page: beginning`. */
export function marked(): string[] {
  return named((_, block) => block.words.includes(NOT_RUN));
}

/** The blocks of commands that are neither run nor marked. */
export function forgotten(): string[] {
  return named((page, block) => {
    const is = [block.language, ...block.words].join(" ");
    return !block.words.includes(NOT_RUN) && !(RUN_BY_THEIR_OWN[page] ?? RUN_HERE).test(is);
  });
}

function named(which: (page: string, block: Block) => boolean): string[] {
  const found = (page: string) => blocksOf(page).filter((block) => COMMANDS.includes(block.language) && which(page, block));
  return pages().flatMap((page) => found(page).map((block) => `${page}: ${beginning(block)}`));
}

/** The first line of a block, and the second too where the first only says that text follows. */
function beginning(block: Block): string {
  const lines = block.text.trim().split("\n");
  return lines.slice(0, lines[0]!.includes("<<") ? 2 : 1).join(" ");
}

function markdown(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".md")).sort() : [];
}
