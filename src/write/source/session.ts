/**
 * One authenticated replication connection to the source: opened within a time limit, identified, closed for certain.
 *
 * Everything of this folder that asks a server goes through here: streaming, base backups, slots, server facts. Promises:
 * after a rejection, an abort or {@linkcode Session.close} no socket is left; every error is one of varve's.
 *
 * @module
 */
import { raceAbort, withTimeout } from "../../flow/abort.ts";
import type { Clock } from "../../ports/clock.ts";
import type { EventSink } from "../../ports/events.ts";
import type {
  CopyControl,
  CopyReceiver,
  DriverConnection,
  DriverRow,
  DriverTarget,
  PostgresDriver,
} from "../../ports/postgres_driver.ts";
import type { ConnectionOptions } from "./connection_options.ts";
import { parseIdentifySystem, type SystemIdentity } from "./identify.ts";
import { isServerError, sourceError } from "./source_errors.ts";

/** What is needed to reach a server. */
export interface SourceAccess {
  driver: PostgresDriver;
  connection: ConnectionOptions;
  clock: Clock;
  /** Told what happens. Default: nobody. */
  events?: EventSink;
}

/** How long a server may take to hear our goodbye before the socket is destroyed. */
const CLOSE_LIMIT_MS = 500;

/**
 * Connects, authenticates and identifies the server, within the connection's time limit.
 *
 * Rejects with UnavailableError (code `TIMEOUT` when the time is up, `CONNECT_FAILED` when the connection fails, others),
 * PostgresError (refused: password, privilege), VarveError `TLS`, MismatchError (no replication with this wal_level),
 * ProtocolError (no answer of a PostgreSQL server), or the signal's reason.
 */
export async function openSession(access: SourceAccess, signal?: AbortSignal): Promise<Session> {
  const { connection, clock } = access;
  const doing = `connect to ${connection.description}`;
  using limit = withTimeout(clock, connection.connectTimeoutMs, doing, signal);
  const failures: unknown[] = [];
  for (const target of connection.targets({ replication: "true" })) {
    try {
      return await openOne(access, target, limit.signal);
    } catch (error) {
      if (limit.signal.aborted) throw sourceError(limit.signal.reason, doing, limit.signal);
      failures.push(error);
      if (!isAboutEncryption(error)) break;
    }
  }
  // "No pg_hba.conf entry" says the least when the other way of connecting failed for a reason of its own.
  const telling = failures.findLast((error) => !(isServerError(error) && error.code === "28000")) ??
    failures[0];
  throw sourceError(telling, doing, limit.signal);
}

/** Whether connecting with the other choice of encryption may help. */
function isAboutEncryption(error: unknown): boolean {
  return isServerError(error) ? error.code === "28000" : (error as { phase?: string }).phase === "tls";
}

async function openOne(access: SourceAccess, target: DriverTarget, signal: AbortSignal): Promise<Session> {
  const connection = await access.driver.connect(target, signal);
  try {
    const identity = parseIdentifySystem(await raceAbort(connection.rows("IDENTIFY_SYSTEM"), signal));
    return new Session(access, connection, identity);
  } catch (error) {
    await connection.close(AbortSignal.abort());
    throw error;
  }
}

/** An open connection that has told who it is. Of no more use after a command that copies. */
export class Session {
  readonly identity: SystemIdentity;
  /** The source, for messages. */
  readonly description: string;
  readonly #connection: DriverConnection;
  readonly #clock: Clock;
  #closing: Promise<void> | undefined;

  /** Use {@linkcode openSession}. */
  constructor(access: SourceAccess, connection: DriverConnection, identity: SystemIdentity) {
    this.identity = identity;
    this.description = access.connection.description;
    this.#clock = access.clock;
    this.#connection = connection;
  }

  get encrypted(): boolean {
    return this.#connection.encrypted;
  }

  /** Whether the server has completed a copy before it closed the connection, as it does when it shuts down. */
  get copyCompleted(): boolean {
    return this.#connection.copyCompleted;
  }

  /** Runs a command that answers with rows. `doing` completes "Cannot …" in errors. */
  async rows(command: string, doing: string, signal?: AbortSignal): Promise<DriverRow[]> {
    try {
      return await raceAbort(this.#connection.rows(command), signal);
    } catch (error) {
      throw sourceError(error, `${doing} at ${this.description}`, signal);
    }
  }

  /** Starts a command that copies. Its end is told to `receiver.done`, with an error of varve's or null. */
  copy(command: string, doing: string, receiver: CopyReceiver): CopyControl {
    return this.#connection.copy(command, {
      row: (row) => receiver.row(row),
      begin: () => receiver.begin(),
      data: (message) => receiver.data(message),
      end: () => receiver.end(),
      done: (error) =>
        receiver.done(error === null ? null : sourceError(error, `${doing} from ${this.description}`)),
    });
  }

  /** Says goodbye and closes; resolves when the socket is gone. Idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    const limit = new AbortController();
    const closed = new AbortController();
    this.#clock.sleep(CLOSE_LIMIT_MS, closed.signal).then(() => limit.abort(), () => {});
    try {
      await this.#connection.close(limit.signal);
    } finally {
      closed.abort();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Quotes a name for a replication command. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Quotes a text for a replication command. */
export function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
