/**
 * The replication source's driver on postgres.js: authentication, commands and COPY are its, sockets are ours.
 *
 * Everything that must be known about postgres.js 3.4.9 to stream with it stays in this file:
 * - A COPY stream is read by `data` events: `for await` joins messages on Node and workerd.
 * - It stops reading the socket when a stream is full, and forgets to read on when the server's CopyDone was among what
 *   it had read already. So the socket is resumed here at the end of each stream.
 * - `query.resolve` is called for each CopyOutResponse, and at the end with all results, but as a promise tells only
 *   the first. So it is replaced on the query: that gives the several streams of PostgreSQL 14's base backups, and
 *   the results behind a copy.
 * - An error right before the server closes the connection is told to the next query of the same client, not to the one
 *   under way. So we read along for errors.
 * - It reconnects by itself. Its `socket` option, which hands out one socket, prevents that.
 *
 * @module
 */
import process from "node:process";
import type {
  CopyControl,
  CopyReceiver,
  DriverConnection,
  DriverRow,
  DriverTarget,
  PostgresDriver,
  ServerError,
} from "../ports/postgres_driver.ts";
import { createTarDecoder } from "./modern_tar.ts";
import { openNodeSocket, transportError } from "./node_socket.ts";
import { postgres } from "./postgres.ts";
import { isStream, PostgresJsCopy } from "./postgres_copy.ts";
import { ServerMessageTap } from "./server_message_tap.ts";

/** What is used of a socket like `node:net`'s, here and by postgres.js. */
export interface SourceSocket {
  on(event: "data", listener: (bytes: Uint8Array) => void): unknown;
  on(event: "close" | "drain", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: string, listener: (...values: never[]) => void): unknown;
  removeAllListeners(event?: string): unknown;
  write(bytes: Uint8Array, done?: (error?: Error | null) => void): boolean;
  pause(): unknown;
  resume(): unknown;
  end(bytes: Uint8Array): unknown;
  destroy(): unknown;
  readonly destroyed: boolean;
}

/** A socket on which PostgreSQL's start-up message can be sent. */
export interface OpenSocket {
  socket: SourceSocket;
  encrypted: boolean;
}

/** Opens a socket; rejects with a TransportError or the signal's reason. */
export type OpenSocketFunction = (target: DriverTarget, signal: AbortSignal) => Promise<OpenSocket>;

/** A query of postgres.js, with what its declarations do not show. */
interface InnerQuery extends PromiseLike<unknown> {
  raw(): this;
  execute(): this;
  catch(handler: () => void): Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
  /** Takes each row as it arrives. */
  forEachFn?: (row: DriverRow) => void;
}

/** `Terminate`. */
const TERMINATE = new Uint8Array([0x58, 0, 0, 0, 4]);

/** Makes a driver on sockets of another kind, for example an edge runtime's. */
export function createPostgresDriver(openSocket: OpenSocketFunction): PostgresDriver {
  return {
    async connect(target, signal) {
      return new PostgresJsConnection(target, await openSocket(target, signal));
    },
  };
}

/** The driver for Deno, Node and Bun. */
export const postgresDriver: PostgresDriver = createPostgresDriver(openNodeSocket);

/** All that the engine needs to follow a PostgreSQL server: the driver, and a reader of its base backups' archives. */
export const postgresSource: { driver: PostgresDriver; untar: typeof createTarDecoder } = {
  driver: postgresDriver,
  untar: createTarDecoder,
};

class PostgresJsConnection implements DriverConnection {
  readonly encrypted: boolean;
  readonly #sql: ReturnType<typeof postgres>;
  readonly #socket: SourceSocket;
  readonly #tap = new ServerMessageTap();
  readonly #closed: Promise<void>;
  #closing: Promise<void> | undefined;

  constructor(target: DriverTarget, { socket, encrypted }: OpenSocket) {
    this.encrypted = encrypted;
    this.#socket = socket;
    this.#closed = new Promise((resolve) => socket.on("close", () => resolve()));
    socket.on("data", (bytes) => this.#tap.push(bytes));
    let given = false;
    const options = {
      host: [target.host], // as a list it is not taken apart at commas and colons
      port: [target.port],
      path: undefined,
      user: target.user,
      database: target.database,
      pass: () => target.password ?? "", // an empty string would make it look into the environment
      max: 1,
      ssl: false,
      sslnegotiation: null,
      fetch_types: false,
      prepare: false,
      // No timers: time limits are the engine's.
      idle_timeout: 0,
      max_lifetime: 0,
      connect_timeout: 0,
      keep_alive: 0,
      backoff: 0,
      onnotice: () => {},
      connection: { ...target.parameters },
      socket: () => {
        if (given || socket.destroyed) {
          throw transportError("closed", "the server closed the connection");
        }
        given = true;
        return socket;
      },
    };
    this.#sql = createClient(options);
  }

  get serverError(): ServerError | null {
    return this.#tap.error;
  }

  get copyCompleted(): boolean {
    return this.#tap.copyCompleted;
  }

  async rows(command: string): Promise<DriverRow[]> {
    try {
      return await (this.#query(command) as PromiseLike<unknown>) as DriverRow[];
    } catch (error) {
      throw this.#explain(error);
    }
  }

  copy(command: string, receiver: CopyReceiver): CopyControl {
    const query = this.#query(command);
    const copy = new PostgresJsCopy(receiver, this.#socket);
    const [resolve, reject] = [query.resolve, query.reject];
    query.forEachFn = (row) => receiver.row(row);
    query.resolve = (value) => {
      if (isStream(value)) copy.add(value);
      else copy.finished(null);
      resolve(value);
    };
    query.reject = (error) => {
      copy.finished(this.#explain(error));
      reject(error);
    };
    query.catch(() => {}); // the receiver has been told; this also starts the query
    return copy;
  }

  close(signal?: AbortSignal): Promise<void> {
    return this.#closing ??= this.#close(signal);
  }

  async #close(signal: AbortSignal | undefined): Promise<void> {
    const socket = this.#socket;
    const destroy = () => void socket.destroy();
    // Nothing that still arrives is of interest, but unread it would turn our goodbye into a reset.
    socket.removeAllListeners("data");
    socket.resume();
    if (signal?.aborted) destroy();
    else if (!socket.destroyed) socket.end(TERMINATE);
    signal?.addEventListener("abort", destroy, { once: true });
    await this.#closed;
    signal?.removeEventListener("abort", destroy);
    await this.#sql.end({ timeout: 0 });
  }

  #query(command: string): InnerQuery {
    return (this.#sql.unsafe(command) as unknown as InnerQuery).raw();
  }

  /** What the server said goes before what its silence looked like. */
  #explain(error: unknown): unknown {
    const code = (error as { code?: string }).code ?? "";
    if (this.#tap.error !== null && (code.startsWith("CONNECTION_") || !isServerError(error))) {
      return Object.assign(new Error(this.#tap.error.message), this.#tap.error);
    }
    if (isServerError(error) || (error as { phase?: string }).phase !== undefined) return error;
    return transportError(
      "closed",
      code === "CONNECTION_CLOSED" ? "the connection was closed" : String(error),
      error,
    );
  }
}

/**
 * Makes a client that takes nothing from the environment. All is given in the options but one thing, for which there is
 * no neutral value: a role that the server must have.
 */
function createClient(options: object): ReturnType<typeof postgres> {
  const name = "PGTARGETSESSIONATTRS";
  const hidden = process.env[name];
  if (hidden !== undefined) delete process.env[name];
  try {
    // Its declarations know neither `pass` nor lists of ports.
    return postgres(options as unknown as Parameters<typeof postgres>[0]);
  } finally {
    if (hidden !== undefined) process.env[name] = hidden;
  }
}

function isServerError(error: unknown): error is ServerError {
  const { severity, code } = (error ?? {}) as Partial<ServerError>;
  return typeof severity === "string" && typeof code === "string";
}
