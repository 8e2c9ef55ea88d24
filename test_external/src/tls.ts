/** With EVENTODB_TEST_TLS=1 every server speaks TLS, and every client with it. */
import { execFileSync } from "node:child_process";
import http from "node:http";
import https from "node:https";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Whether servers speak TLS. */
export const TLS = process.env.EVENTODB_TEST_TLS === "1";

/** What makes servers and commands use the certificate of this process: nothing where servers speak clear text. */
export const tlsEnvironment: Record<string, string> = TLS ? certificate() : {};

/** The module that sends requests to such a URL. */
export function transportOf(url: string): typeof http | typeof https {
  return url.startsWith("https:") ? https : http;
}

function certificate(): Record<string, string> {
  // Whom a client trusts is tested beside the server's code; here one switch serves every kind of client.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  const directory = mkdtempSync(join(tmpdir(), "eventodb-test-tls-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  const [cert, key] = [join(directory, "tls.crt"), join(directory, "tls.key")];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
  execFileSync("openssl", ["req", "-x509", ...kind, ...names, "-keyout", key, "-out", cert], { stdio: "ignore" });
  process.env.CURL_CA_BUNDLE = cert;
  return { EVENTODB_TLS_CERT: cert, EVENTODB_TLS_KEY: key, EVENTODB_CA_FILE: cert };
}
