/**
 * Starts a server on a restored directory to see that it does, and lets PostgreSQL's own checkers look at all of it.
 *
 * The server listens on a socket in a folder of its own only, archives nothing, loads no extra libraries, and is stopped
 * in order. What the checkers need is created in a transaction that is rolled back.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { chown, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { postgres } from "../deps/postgres.ts";
import { UnavailableError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";

const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 120_000;
const POLL_MS = 50;
const PROBLEMS_KEPT = 20;
const PORT = 5432;

export interface BootOptions {
  /** Folder of `postgres`. */
  binaries: string;
  dataDir: string;
  /** A superuser. */
  user: string;
  /** The only database that is there. Default: all are. */
  database?: string;
  /** Whom the directory belongs to, where that is not who runs this. */
  owner?: { readonly uid: number; readonly gid: number };
  clock: Clock;
  signal?: AbortSignal;
}

/** What PostgreSQL said. */
export interface BootReport {
  /** From the start of the process to its first answer. */
  readonly startMs: number;
  readonly checkMs: number;
  /** False: amcheck is not installed there, nothing was checked. */
  readonly amcheck: boolean;
  readonly databases: number;
  readonly heaps: number;
  readonly indexes: number;
  readonly problemCount: number;
  readonly problems: readonly string[];
  /** Lines of its log that tell of a warning or an error. */
  readonly complaints: readonly string[];
}

/**
 * Boots and checks.
 *
 * @throws {UnavailableError} If the server does not start; the end of its log is in the message.
 */
export async function bootServer(options: BootOptions): Promise<BootReport> {
  const { dataDir, owner, clock, signal } = options;
  const folder = await mkdtemp(join(tmpdir(), "varve-boot-"));
  try {
    await writeFile(join(folder, "hba.conf"), "local all all trust\n");
    if (owner !== undefined) {
      for (const path of [folder, join(folder, "hba.conf")]) await chown(path, owner.uid, owner.gid);
    }
    const server = await Server.start(options, folder);
    try {
      const startedMs = clock.monotonicMs();
      await server.ready(signal);
      const startMs = clock.monotonicMs() - startedMs;
      const found = await new Checker(folder, options.user, options.database).run(signal);
      const checkMs = clock.monotonicMs() - startedMs - startMs;
      await server.stop();
      return { startMs, checkMs, ...found, complaints: complaintsIn(await readFile(server.log, "utf8")) };
    } finally {
      await server.stop();
    }
  } catch (error) {
    if (error instanceof UnavailableError) throw error;
    throw new UnavailableError(`Cannot check ${dataDir}: ${(error as Error).message}`, { cause: error });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function complaintsIn(log: string): string[] {
  return log.split("\n").filter((line) => /\b(WARNING|ERROR|FATAL|PANIC):/.test(line)).slice(
    0,
    PROBLEMS_KEPT,
  );
}

/** The process. */
class Server {
  readonly log: string;
  readonly #options: BootOptions;
  readonly #process: ReturnType<typeof spawn>;
  readonly #ended: Promise<void>;
  #isRunning = true;

  private constructor(options: BootOptions, log: string, child: ReturnType<typeof spawn>) {
    this.#options = options;
    this.log = log;
    this.#process = child;
    this.#ended = new Promise((resolve) => {
      const end = () => {
        this.#isRunning = false;
        resolve();
      };
      child.on("exit", end);
      child.on("error", end);
    });
  }

  static async start(options: BootOptions, folder: string): Promise<Server> {
    const log = join(folder, "log");
    const output = await open(log, "w");
    const settings: Record<string, string> = {
      listen_addresses: "",
      unix_socket_directories: folder,
      port: String(PORT),
      hba_file: join(folder, "hba.conf"),
      archive_mode: "off",
      autovacuum: "off",
      ssl: "off",
      shared_preload_libraries: "",
      logging_collector: "off",
      log_destination: "stderr",
    };
    const args = ["-D", resolve(options.dataDir)];
    for (const [name, value] of Object.entries(settings)) args.push("-c", `${name}=${value}`);
    const { owner } = options;
    const child = spawn(resolve(options.binaries, "postgres"), args, {
      stdio: ["ignore", output.fd, output.fd],
      cwd: folder,
      env: process.env,
      ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
    });
    const server = new Server(options, log, child);
    await output.close();
    return server;
  }

  async ready(signal?: AbortSignal): Promise<void> {
    const { dataDir, clock } = this.#options;
    for (const endMs = clock.monotonicMs() + START_TIMEOUT_MS; clock.monotonicMs() < endMs;) {
      if (!this.#isRunning) break;
      const lines = await readFile(join(dataDir, "postmaster.pid"), "utf8").catch(() => "");
      if (/^(ready|standby)\s*$/m.test(lines.split("\n")[7] ?? "")) return;
      await clock.sleep(POLL_MS, signal);
    }
    const tail = (await readFile(this.log, "utf8").catch(() => "")).trim().split("\n").slice(-10).join(" | ");
    throw new UnavailableError(`Cannot start PostgreSQL on ${dataDir}: ${tail || "it left no log"}`, {
      hint: "The directory is as it was restored; its configuration may ask for what is not on this machine.",
    });
  }

  async stop(): Promise<void> {
    if (!this.#isRunning) return;
    this.#process.kill("SIGINT");
    const late = this.#options.clock.sleep(STOP_TIMEOUT_MS).then(() => this.#process.kill("SIGKILL"));
    late.catch(() => {});
    await this.#ended;
  }
}

type Row = Record<string, unknown>;

/** Asks all databases. */
class Checker {
  readonly #folder: string;
  readonly #user: string;
  readonly #only: string | undefined;
  readonly #found = {
    amcheck: true,
    databases: 0,
    heaps: 0,
    indexes: 0,
    problemCount: 0,
    problems: [] as string[],
  };

  constructor(folder: string, user: string, only: string | undefined) {
    this.#folder = folder;
    this.#user = user;
    this.#only = only;
  }

  async run(signal?: AbortSignal) {
    const names = this.#only !== undefined ? [{ datname: this.#only }] : await this.#query(
      "template1",
      (ask) => ask("SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1"),
    );
    for (const { datname } of names) {
      signal?.throwIfAborted();
      await this.#query(String(datname), (ask) => this.#check(String(datname), ask));
      this.#found.databases++;
    }
    return this.#found;
  }

  async #query<T>(database: string, work: (ask: (text: string) => Promise<Row[]>) => Promise<T>): Promise<T> {
    const client = postgres({
      host: this.#folder,
      port: PORT,
      path: `${this.#folder}/.s.PGSQL.${PORT}`,
      user: this.#user,
      database,
      max: 1,
      onnotice: () => {},
    });
    try {
      return await work(async (text) => [...(await client.unsafe(text))] as Row[]);
    } finally {
      await client.end({ timeout: 5 });
    }
  }

  async #check(database: string, ask: (text: string) => Promise<Row[]>): Promise<void> {
    const available = await ask("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'");
    if (available.length === 0) {
      this.#found.amcheck = false;
      return;
    }
    await ask("BEGIN");
    await ask("CREATE EXTENSION IF NOT EXISTS amcheck");
    const heaps = await ask(
      "SELECT oid, oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'm', 't') AND relpersistence <> 't' AND relam = 2",
    );
    for (const { oid, name } of heaps) {
      this.#found.heaps++;
      for (const row of await ask(`SELECT blkno, offnum, msg FROM verify_heapam(${oid}::regclass)`)) {
        this.#tell(`${database}.${name} (${row.blkno},${row.offnum}): ${row.msg}`);
      }
    }
    const indexes = await ask(
      `SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relam = 403 AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid`,
    );
    for (const { oid, name } of indexes) {
      this.#found.indexes++;
      await ask("SAVEPOINT one_index");
      try {
        await ask(`SELECT bt_index_check(${oid}::regclass, true)`);
        await ask("RELEASE one_index");
      } catch (error) {
        this.#tell(`${database}.${name}: ${(error as Error).message}`);
        await ask("ROLLBACK TO one_index");
      }
    }
    await ask("ROLLBACK");
  }

  #tell(problem: string): void {
    this.#found.problemCount++;
    if (this.#found.problems.length < PROBLEMS_KEPT) this.#found.problems.push(problem);
  }
}
