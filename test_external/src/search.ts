/** Looks for every secret of a run of the suite in all output of its servers: `search.ts DIR`. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const directory = process.argv[2];
if (!directory) throw new Error("usage: search.ts DIR");
const files = readdirSync(directory);
const read = (name: string) => readFileSync(join(directory, name), "utf8");
const secrets = new Set(files.filter((name) => name.endsWith(".secrets")).flatMap((name) => read(name).split("\n")));
const logs = files.filter((name) => name.endsWith(".log"));
// All secrets at once: a log is read once, however many there are.
const pattern = new RegExp([...secrets].map((secret) => secret.replace(/[^\w]/g, "\\$&")).join("|"), "g");

let found = 0;
let debug = 0;
for (const name of logs) {
  for (const line of read(name).split("\n")) {
    if (/ DEBUG |"DEBUG"/.test(line)) debug++;
    for (const [secret] of line.matchAll(pattern)) {
      found++;
      console.error(`${name} has ${secret.slice(0, 9)}…: ${line.replaceAll(secret, "…").slice(0, 300)}`);
    }
  }
}
console.log(`${logs.length} logs with ${debug} lines of level debug, ${secrets.size} secrets, ${found} found`);
// A search that finds nothing because there is nothing to search is no proof.
if (logs.length < 50 || debug < 50 || secrets.size < 500) throw new Error("there is too little to search: was EVENTODB_TEST_LOGS set?");
if (found > 0) process.exit(1);
