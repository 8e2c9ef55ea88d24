/** Rules that no client can see kept or broken, and why. */
export const NOT_OBSERVABLE: Record<string, string> = {
  "R-auth.7": "how long a comparison takes is below the noise of a network and a shared machine",
  "R-limit.8": "a test of 120 s is too long for a suite that runs on every change",
  "R-error.13": "an internal failure of the backend cannot be caused by a client",
  "R-limit.15": "how much memory there is depends on the machine; server/tests/it/memory.rs sets a budget and fills it",
  "R-error.16": "needs a backend that hangs in the middle of a commit",
  "R-error.18": "needs a backend that fails in the middle of an import",
};
