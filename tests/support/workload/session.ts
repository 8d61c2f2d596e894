/**
 * One concurrent user of a workload: two connections, a generator of its own, a schema of its own.
 *
 * Blocks are written against this and nothing else, so that any can be run by itself:
 * `await hotUpdates(session)`.
 *
 * @module
 */
import { postgres } from "../../../src/deps/postgres.ts";
import type { Cluster, Sql } from "../postgres_cluster.ts";
import type { PostgresMajor } from "../postgres_binaries.ts";
import type { SeededRandom } from "../random.ts";

/** A piece of work: makes its own transactions, leaves none open. */
export type Block = (session: Session) => Promise<void>;

/** Schema of the tables that all sessions work on. */
export const SHARED = "shared";

/** Waiting longer for a lock is given up: sessions get in each other's way, and that is meant. */
const LOCK_TIMEOUT_MS = 500;

const RECONNECT_TIMEOUT_MS = 2000;

// deno-lint-ignore no-explicit-any -- rows of any query
type Rows = any[];

export class Session {
  readonly cluster: Cluster;
  readonly major: PostgresMajor;
  readonly database: string;
  readonly random: SeededRandom;
  /** Schema of the tables that only this session works on. */
  readonly own: string;
  /** Distinguishes this session's names. */
  readonly index: number;
  /** Blocks given up since the last that ended well. */
  conflictsInARow = 0;
  #main: Sql;
  #other: Sql;
  /** How the server was found to be gone, until {@linkcode reconnect}. */
  #lost: unknown;

  constructor(cluster: Cluster, database: string, index: number, random: SeededRandom) {
    this.cluster = cluster;
    this.major = cluster.major;
    this.database = database;
    this.index = index;
    this.random = random;
    this.own = `w${index}`;
    this.#main = this.#open();
    this.#other = this.#open();
  }

  #open(): Sql {
    return postgres(this.cluster.url(this.database), {
      max: 1, // statements of one transaction must share a connection
      onnotice: () => {},
      backoff: () => 0.05,
      fetch_types: false,
      connection: { application_name: `workload-${this.index}`, lock_timeout: LOCK_TIMEOUT_MS },
    });
  }

  /** Runs statements as one simple query. Several of them are one transaction unless they say otherwise. */
  run(query: string): Promise<Rows> {
    return this.#runOn(this.#main, query);
  }

  /** The same on the second connection. */
  runOther(query: string): Promise<Rows> {
    return this.#runOn(this.#other, query);
  }

  async #runOn(connection: Sql, query: string): Promise<Rows> {
    // A query sent by a client that has just lost its connection may never settle.
    if (this.#lost !== undefined) throw this.#lost;
    try {
      return [...await connection.unsafe(query).simple()];
    } catch (error) {
      if (isOutage(error)) this.#lost = error;
      throw error;
    }
  }

  /** Loads rows in the text form of `COPY`, from a file beside the server. */
  async copy(into: string, lines: string[]): Promise<void> {
    const file = `${await this.cluster.directory("copy")}/${this.database}-${this.index}.txt`;
    await Deno.writeTextFile(file, lines.map((line) => line + "\n").join(""));
    await this.run(`COPY ${into} FROM '${file}'`);
  }

  /** Runs statements one by one inside a transaction that ends with `end`: COMMIT, ROLLBACK, PREPARE TRANSACTION. */
  async transaction(statements: string[], end = "COMMIT"): Promise<void> {
    for (const statement of ["BEGIN", ...statements, end]) await this.run(statement);
  }

  /** Ends whatever a failed block has left open. */
  async recover(): Promise<void> {
    await Promise.allSettled([this.run("ROLLBACK"), this.runOther("ROLLBACK")]);
  }

  /**
   * Opens both connections anew, once the server takes them: a client whose server was killed may wait for ever.
   *
   * @returns Whether it succeeded; the old ones are gone in any case.
   */
  async reconnect(): Promise<boolean> {
    void this.#main.end({ timeout: 0 });
    void this.#other.end({ timeout: 0 });
    this.#main = this.#open();
    this.#other = this.#open();
    this.#lost = undefined;
    const answers = Promise.all([this.run("SELECT 1"), this.runOther("SELECT 1")]).then(
      () => true,
      () => false,
    );
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLate = new Promise<boolean>((resolve) =>
      timer = setTimeout(() => resolve(false), RECONNECT_TIMEOUT_MS)
    );
    return await Promise.race([answers, tooLate]).finally(() => clearTimeout(timer));
  }

  async close(): Promise<void> {
    await Promise.all([this.#main.end({ timeout: 1 }), this.#other.end({ timeout: 1 })]);
  }
}

/** The server is starting, stopping or gone. */
const OUTAGES = new Set([
  "57P01",
  "57P02",
  "57P03",
  "08006",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
]);

/** Whether an error says that the server is not there, rather than that it refused something. */
export function isOutage(error: unknown): boolean {
  return OUTAGES.has((error as { code?: string }).code ?? "");
}
