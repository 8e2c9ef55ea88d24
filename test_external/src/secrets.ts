/**
 * What no log may have. With EVENTODB_TEST_LOGS=DIR servers log at level debug, and their output is kept in DIR beside the
 * secrets of this process. `npm run search` then looks for each secret in all output.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A word in the data of messages. */
export const PLANTED = "swordfish";

const directory = process.env.EVENTODB_TEST_LOGS;
const secrets = new Set<string>([PLANTED]);
let kept = 0;

/** Variables that a server is started with. */
export const logEnvironment: Record<string, string> = directory ? { EVENTODB_LOG_LEVEL: "debug" } : {};

/** Remembers each token in a text: its digits, which are the secret part. */
export function rememberTokens(text: string): void {
  if (!directory) return;
  for (const [, digits] of text.matchAll(/ns_[A-Za-z0-9_-]+_([0-9a-fA-F]{64})/g)) secrets.add(digits!);
}

/** Remembers the password in a URL. */
export function rememberPassword(url: string): void {
  const { password } = new URL(url);
  if (password) secrets.add(decodeURIComponent(password));
}

/** Keeps what a program wrote. */
export function keepOutput(output: string): void {
  if (directory) writeFileSync(join(directory, `${process.pid}-${kept++}.log`), output);
}

if (directory) {
  mkdirSync(directory, { recursive: true });
  process.once("exit", () => writeFileSync(join(directory, `${process.pid}.secrets`), [...secrets].join("\n")));
}
