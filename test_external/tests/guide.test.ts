/**
 * docs/GUIDE.md, run from top to bottom as a reader would. The words after the language of a block say what it is:
 *   sh server       `make run` in the first terminal; a server of the test stands for it
 *   sh paste        what the banner prints for pasting; the line that this server's banner has is taken
 *   sh run          commands of the second terminal
 *   sh watch        a command that goes on in the third terminal, until the next one takes its place
 * What is printed stands in the block that follows: `json reply` or `text output`, line by line, and `text poke` for what arrives
 * in the third terminal because of the last `sh run`. "<time>", "<uuid>" and the like stand for a value of that form.
 * Other blocks are illustrations and are not run.
 */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { binary } from "../src/command.ts";
import { fencedBlocks, readGuide, type Block } from "../src/document.ts";
import { assertLike, assertLineLike } from "../src/like.ts";
import { directoryFor, startServer, test } from "../src/suite.ts";
import { Terminal } from "../src/terminal.ts";
import { until } from "../src/wait.ts";

const blocks = fencedBlocks(readGuide());
const linesOf = (block: Block) => block.text.split("\n").slice(0, -1);

test("[R-http.1 R-token.10] the guide's commands print what the guide shows", async (t) => {
  const directory = directoryFor(t);
  mkdirSync(join(directory, "target/quick"), { recursive: true });
  symlinkSync(binary(), join(directory, "target/quick/eventodb"));
  const server = await startServer(t, { args: ["serve", "--port", "0", "--data-dir", join(directory, "data")] });
  const banner = await until("an export line in the banner", () => /^export .*\n/m.exec(server.stdout));

  const second = new Terminal(directory);
  t.after(() => second.close());
  let third: Terminal | undefined;
  t.after(() => third?.close());
  const watch = (commands: string) => {
    third?.close();
    third = new Terminal(directory);
    third.start(commands);
  };

  let printed: string[] | undefined;
  for (const block of blocks) {
    const what = `${block.language} ${block.words.join(" ")}`;
    if (what === "sh paste") await second.run(banner[0]);
    if (what === "sh run") printed = await second.run(block.text);
    if (what === "sh watch") watch(block.text);
    if (what === "sh watch") printed = undefined;
    if (what === "json reply") compare(block, printed!, (line, shown) => assertLike(JSON.parse(line), JSON.parse(shown)));
    if (what === "text output") compare(block, printed ?? (await third!.next(linesOf(block).length)), assertLineLike);
    if (what === "text poke") compare(block, await third!.next(linesOf(block).length), assertLineLike);
  }
});

test("[R-http.1] each command of the guide is run", () => {
  const count = (what: string) => blocks.filter((block) => `${block.language} ${block.words.join(" ")}` === what).length;
  assert.deepEqual([count("sh server"), count("sh paste")], [1, 1]);
  assert.ok(count("sh run") > 12 && count("sh watch") >= 2);
});

function compare(block: Block, printed: string[], like: (line: string, shown: string) => void): void {
  const shown = linesOf(block);
  assert.equal(printed.length, shown.length, `GUIDE.md, line ${block.line}: ${printed.join("\n")}`);
  shown.forEach((line, i) => like(printed[i]!, line));
}
