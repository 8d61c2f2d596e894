/**
 * Port: a connection to a PostgreSQL server as a physical replication client. Types only; what each method promises is
 * written here. `src/deps/postgres_source.ts` implements it with postgres.js, tests with scripted servers.
 *
 * The engine gets a driver handed in, so that who only reads from a store loads no PostgreSQL client, and an edge worker
 * can bring sockets of its own.
 *
 * @module
 */

/** How to encrypt, already decided: no libpq words here. */
export interface DriverTls {
  /** What to check of the server's certificate: nothing, its chain, or its chain and the host name. */
  verify: "none" | "chain" | "chain-and-host";
  /** PEM of the authorities to trust. Absent: those that the runtime trusts. */
  authority?: string;
  /** PEM of the client's certificate and key, where the server asks for one. */
  certificate?: string;
  key?: string;
  /** Go on without encryption when the server has none. */
  optional: boolean;
}

/** Where to connect, and as whom. */
export interface DriverTarget {
  /** Host name or address; a path when it starts with `/`, the directory of a Unix socket. */
  host: string;
  port: number;
  user: string;
  password?: string;
  database: string;
  /** Further start-up parameters, `replication` among them. */
  parameters: Record<string, string>;
  /** Absent: no encryption. */
  tls?: DriverTls;
}

/**
 * An error that the server reported, as the driver throws it. Told from others by its `severity` and its
 * five-character `code` (SQLSTATE).
 */
export interface ServerError {
  severity: string;
  code: string;
  message: string;
  detail?: string;
  hint?: string;
}

/**
 * An error before or beneath the protocol. `phase` says where: `connect` (name, route, port), `tls` (encryption
 * refused, certificate not trusted), `closed` (the peer went away).
 */
export interface TransportError extends Error {
  phase: "connect" | "tls" | "closed";
}

/** One row of a result, each value the bytes that the server sent, or null. Valid during the call that gives it. */
export type DriverRow = (Uint8Array | null)[];

/** Gets what a command that copies sends, in the server's order within rows and within data. */
export interface CopyReceiver {
  /** A row of a result before or after the copying. Not held back by {@linkcode CopyControl.pause}. */
  row(row: DriverRow): void;
  /** Copying begins. Once, but for base backups of PostgreSQL 14 (once per archive). */
  begin(): void;
  /** One CopyData message. The bytes are a view: they stay as they are, but keep more memory alive than they show. */
  data(message: Uint8Array): void;
  /** The server has ended this copying (CopyDone). */
  end(): void;
  /** The last call: the command has completed (null), or failed. */
  done(error: unknown): void;
}

/** Steers a command that copies. All methods are harmless after `done`. */
export interface CopyControl {
  /** Holds back data, down to the server's socket, after at most what is in flight. */
  pause(): void;
  resume(): void;
  /** Sends one CopyData message. Returns false while earlier ones have not left yet. */
  write(message: Uint8Array): boolean;
  /** Sends CopyDone: the client's half of a copy in both directions. */
  finish(): void;
}

/** One connection. Commands one at a time; after a command that copies it is of no more use. */
export interface DriverConnection {
  /** Whether the bytes travel encrypted. */
  readonly encrypted: boolean;
  /** The last error that the server reported, also one that it sent just before it closed the connection. */
  readonly serverError: ServerError | null;
  /** Whether the server completed the command that copies before it closed the connection, as when it shuts down. */
  readonly copyCompleted: boolean;
  /**
   * Runs a simple command and returns its rows. The first one also authenticates. May be called again before the
   * former has settled; they run in order.
   *
   * Rejects with a {@linkcode ServerError} or a {@linkcode TransportError}.
   */
  rows(command: string): Promise<DriverRow[]>;
  /** Starts a command that copies. */
  copy(command: string, receiver: CopyReceiver): CopyControl;
  /**
   * Says goodbye and closes. Whatever is under way fails. Resolves when the socket is gone, at once when `signal` has
   * fired or fires: the socket is destroyed then. Idempotent.
   */
  close(signal?: AbortSignal): Promise<void>;
}

/** Opens connections. */
export interface PostgresDriver {
  /**
   * Opens the socket, encrypts it as asked, and prepares the start-up.
   *
   * Rejects with a {@linkcode TransportError}, or with the signal's reason; the socket is gone then.
   */
  connect(target: DriverTarget, signal: AbortSignal): Promise<DriverConnection>;
}
