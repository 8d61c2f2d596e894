/**
 * `--listen`: the status endpoint of a process, served. Loaded only by who listens, Hono with it.
 *
 * @module
 */
import { type HttpServer, serveHttp } from "../deps/http_server.ts";
import { UnavailableError } from "../errors.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { createStatusApp } from "../status/app.ts";
import { StatusBoard } from "../status/board.ts";
import { VarveMetrics } from "../status/metrics.ts";
import type { VerbContext } from "./verb.ts";
import type { ListenAddress } from "./values.ts";

/** A status endpoint that listens, and the board and metrics that it shows. */
export interface StatusServer {
  readonly url: string;
  readonly board: StatusBoard;
  readonly metrics: VarveMetrics;
  close(): Promise<void>;
}

export interface StatusServerOptions {
  listen: ListenAddress;
  store: ObjectStore;
  /** Asked for as a bearer token. */
  token?: string;
}

/** @throws {UnavailableError} If the address cannot be listened on. */
export async function startStatusServer(
  options: StatusServerOptions,
  context: VerbContext,
): Promise<StatusServer> {
  const { listen, store, token } = options;
  const { clock, reporter } = context;
  const board = new StatusBoard({ clock, store });
  const metrics = new VarveMetrics(board);
  const app = createStatusApp({ board, metrics, token });
  const server = await listenOn((request) => app.fetch(request), listen);
  const isLoopback = /^(127\.|::1$|localhost$)/.test(listen.hostname);
  if (!isLoopback && token === undefined) {
    const message = `Whoever reaches ${server.url} can see the status: no token is asked for`;
    reporter.onEvent({ level: "warn", topic: "status.open", message });
  }
  const message = `The status page is at ${server.url}`;
  reporter.onEvent({ level: "info", topic: "status.listening", message, fields: { url: server.url } });
  return { url: server.url, board, metrics, close: () => server.close() };
}

async function listenOn(
  handler: (request: Request) => Response | Promise<Response>,
  { hostname, port }: ListenAddress,
): Promise<HttpServer> {
  try {
    return await serveHttp(handler, { hostname, port });
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const isTaken = code === "EADDRINUSE";
    throw new UnavailableError(
      `Cannot listen on ${hostname}:${port}: ${isTaken ? "the address is in use" : message}`,
      { cause: error, hint: "Name another address with --listen; port 0 takes any free one." },
      "LISTEN_FAILED",
    );
  }
}
