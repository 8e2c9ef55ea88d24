/** The member of a consumer group that a stream belongs to, computed from the rule's own words. */
import { createHash } from "node:crypto";

export function memberOf(stream: string, size: number): number {
  const dash = stream.indexOf("-");
  const cardinalId = dash < 0 ? "" : stream.slice(dash + 1).split("+")[0]!;
  const hash = createHash("md5").update(cardinalId || stream, "utf8").digest().readBigInt64BE(0);
  return Number((hash < 0n ? -hash : hash) % BigInt(size));
}
