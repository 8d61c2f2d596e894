/**
 * Serving HTTP on `node:http`, which Deno, Bun and Node all have, for any handler of web-standard requests.
 *
 * Promises: listens on loopback unless told otherwise; `close` answers what has arrived, for a bounded time, and leaves
 * no socket behind.
 *
 * @module
 */
import { createAdaptorServer } from "npm:@hono/node-server@2.1.8";
import type { Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** Answers a request: `app.fetch` of a Hono app, for example. */
export type FetchHandler = (request: Request) => Response | Promise<Response>;

export interface ServeHttpOptions {
  /** Address to listen on. Default `127.0.0.1`: this machine only. */
  hostname?: string;
  /** Default 0: any free one. */
  port?: number;
  /** Closes the server when it fires. */
  signal?: AbortSignal;
  /** Milliseconds that `close` leaves to answers under way. Default 2 s. */
  closeLimitMs?: number;
}

/** A server that listens. */
export interface HttpServer extends AsyncDisposable {
  /** Where, without a slash at its end: `http://127.0.0.1:9898`. */
  readonly url: string;
  readonly hostname: string;
  readonly port: number;
  /** Takes no more connections, ends idle ones, waits for answers under way. Resolves when all sockets are gone. Idempotent. */
  close(): Promise<void>;
}

const CLOSE_LIMIT_MS = 2000;

/**
 * Serves `handler` over HTTP/1.1. Resolves when it listens.
 *
 * Rejects with the system's error (`EADDRINUSE`, `EACCES`, ...), or with the signal's reason if that fired before.
 */
export async function serveHttp(handler: FetchHandler, options: ServeHttpOptions = {}): Promise<HttpServer> {
  const { hostname = "127.0.0.1", port = 0, signal, closeLimitMs = CLOSE_LIMIT_MS } = options;
  signal?.throwIfAborted();
  const server = createAdaptorServer({ fetch: handler, overrideGlobalObjects: false }) as Server;
  const sockets = new OpenSockets(server);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: hostname, port }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  let closing: Promise<void> | undefined;
  const close = () => {
    signal?.removeEventListener("abort", close);
    return closing ??= closeServer(server, sockets, closeLimitMs);
  };
  signal?.addEventListener("abort", close, { once: true });
  if (signal?.aborted) await close();
  const bound = server.address() as AddressInfo | null;
  const boundPort = bound?.port ?? port;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return {
    url: `http://${host}:${boundPort}`,
    hostname,
    port: boundPort,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Sockets of a server and whether each has an answer under way: not every runtime's own book-keeping can be asked. */
class OpenSockets {
  readonly #busy = new Map<Socket, number>();
  #isClosing = false;

  constructor(server: Server) {
    server.on("connection", (socket: Socket) => {
      if (this.#isClosing) return void socket.destroy();
      this.#busy.set(socket, 0);
      socket.once("close", () => this.#busy.delete(socket));
    });
    server.on("request", ({ socket }, response) => {
      this.#count(socket, 1);
      response.once("close", () => this.#count(socket, -1));
    });
  }

  /** Ends those without an answer under way; the others will end when theirs is out. */
  closeWhenIdle(): void {
    this.#isClosing = true;
    for (const [socket, answers] of this.#busy) if (answers === 0) socket.destroy();
  }

  destroy(): void {
    for (const socket of this.#busy.keys()) socket.destroy();
  }

  #count(socket: Socket, change: 1 | -1): void {
    const answers = this.#busy.get(socket);
    if (answers === undefined) return;
    this.#busy.set(socket, answers + change);
    if (this.#isClosing && answers + change === 0) socket.end();
  }
}

async function closeServer(server: Server, sockets: OpenSockets, limitMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  sockets.closeWhenIdle();
  const timer = setTimeout(() => sockets.destroy(), limitMs);
  await closed;
  clearTimeout(timer);
}
