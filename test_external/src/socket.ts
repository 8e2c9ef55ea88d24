/** A raw connection, of TCP or TLS, for what no HTTP client would send. */
import net from "node:net";
import tls from "node:tls";
import type { Context } from "./suite.ts";
import { TLS } from "./tls.ts";
import { until } from "./wait.ts";

export class Socket {
  received = Buffer.alloc(0);
  closed = false;
  private constructor(readonly connection: net.Socket, private wire: net.Socket) {
    connection.on("data", (chunk) => (this.received = Buffer.concat([this.received, chunk])));
    connection.on("error", () => {}); // a reset counts as closed
    connection.on("close", () => (this.closed = true));
  }

  static async connect(t: Context, port: number): Promise<Socket> {
    const wire = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const connection = TLS ? tls.connect({ socket: wire, servername: "localhost" }) : wire;
    await new Promise<void>((resolve, reject) => connection.once(TLS ? "secureConnect" : "connect", resolve).once("error", reject));
    t.after(() => connection.destroy());
    return new Socket(connection, wire);
  }

  send(data: string | Uint8Array): void {
    this.connection.write(data);
  }

  /** Sends the end of this side; the other may still answer. */
  finish(): void {
    this.connection.end();
  }

  /** Ends both sides at once. */
  reset(): void {
    this.wire.resetAndDestroy();
  }

  get text(): string {
    return this.received.toString("latin1");
  }

  /** Waits until the pattern has come. */
  async expect(pattern: RegExp): Promise<RegExpExecArray> {
    return until(`${pattern} from the socket`, () => pattern.exec(this.text));
  }

  /** Waits until the other side has closed. */
  async end(): Promise<void> {
    this.connection.once("end", () => (this.closed = true));
    await until("the end of the connection", () => this.closed || this.connection.readableEnded);
  }
}

/** A POST to /rpc as bytes. */
export function rpcBytes(body: string, headers = ""): string {
  return `POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;
}
