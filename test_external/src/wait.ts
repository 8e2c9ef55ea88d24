/** Bounded waiting. Nothing here paces a test: each wait ends with its condition, and fails at its limit. */

/** For what should happen at once; generous, as machines may be busy. */
export const SOON_MS = 20_000;

/** The promise's result, or a failure that says what did not happen. */
export async function within<T>(what: string, promise: Promise<T>, limitMs = SOON_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${limitMs} ms: ${what}`)), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

type Truthy<T> = Exclude<T, null | undefined | false | 0 | "">;

/** Waits until the condition gives something truthy. */
export async function until<T>(what: string, condition: () => T | Promise<T>, limitMs = SOON_MS): Promise<Truthy<T>> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const value = await condition();
    if (value) return value as Truthy<T>;
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
