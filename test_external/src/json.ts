/**
 * JSON as text. `JSON.parse` rounds large integers, merges duplicate keys and resolves escapes; what a server sends is
 * judged here by its exact characters instead.
 */

/** The value as JSON.parse would give it, but integers outside the safe range become bigint instead of being rounded. */
export function parseExact(text: string): any {
  const value = JSON.parse(text); // also the check that the text is JSON at all
  return /\d{16}/.test(text) ? exact(text.trim()) : value;
}

/** The texts of an array's elements, untouched. */
export function elements(array: string): string[] {
  return parts(array, "[", "]").map((part) => part.trim());
}

/** The members of an object in order, duplicates included: name (parsed) and text of the value (untouched). */
export function members(object: string): [name: string, value: string][] {
  return parts(object, "{", "}").map((part) => {
    const text = part.trim();
    const end = endOfString(text, 0);
    return [JSON.parse(text.slice(0, end)), text.slice(text.indexOf(":", end) + 1).trim()];
  });
}

/** The text without the white space between its tokens. */
export function dense(text: string): string {
  let out = "";
  for (let i = 0; i < text.length; ) {
    const end = text[i] === '"' ? endOfString(text, i) : i + 1;
    const token = text.slice(i, end);
    if (!/^[ \t\n\r]$/.test(token)) out += token;
    i = end;
  }
  return out;
}

function exact(text: string): any {
  if (text.startsWith("[")) return elements(text).map(exact);
  if (text.startsWith("{")) return Object.fromEntries(members(text).map(([name, value]) => [name, exact(value)]));
  const isLargeInteger = /^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text));
  return isLargeInteger ? BigInt(text) : JSON.parse(text);
}

/** Cuts the inside of an array or object at its top-level commas. */
function parts(text: string, open: string, close: string): string[] {
  const inner = text.trim();
  if (!inner.startsWith(open) || !inner.endsWith(close)) throw new Error(`not a ${open}…${close}: ${inner.slice(0, 80)}`);
  const found: string[] = [];
  let depth = 0;
  let start = 1;
  for (let i = 1; i < inner.length - 1; i++) {
    const c = inner[i]!;
    if (c === '"') i = endOfString(inner, i) - 1;
    else if (c === "[" || c === "{") depth++;
    else if (c === "]" || c === "}") depth--;
    else if (c === "," && depth === 0) {
      found.push(inner.slice(start, i));
      start = i + 1;
    }
  }
  const last = inner.slice(start, -1);
  return last.trim() === "" ? found : [...found, last];
}

/** The index behind the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i + 1;
}
