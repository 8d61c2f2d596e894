/**
 * One PostgreSQL server of a test: its process, its connections, its end. Made by `startCluster()`.
 *
 * @module
 */
import { postgres } from "../../src/deps/postgres.ts";
import type { Certificates } from "./certificates.ts";
import type { PostgresBinaries, PostgresMajor } from "./postgres_binaries.ts";
import { SUPERUSER } from "./postgres_template.ts";
import { childrenOf, type Guardian, isAlive, kill, runCommand } from "./processes.ts";
import { removeTree } from "./temp.ts";
import { waitFor } from "./wait.ts";

export type Settings = Record<string, string | number>;
export type Sql = ReturnType<typeof postgres>;
/** `smart` waits for clients, `fast` ends them, `immediate` skips the shutdown checkpoint, so that recovery follows. */
export type StopMode = "smart" | "fast" | "immediate";

const STOP_SIGNALS = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const;
const START_TIMEOUT_MS = 60_000;
/** Connections of one pool: enough for concurrent sessions, far below max_connections. */
const POOL_SIZE = 8;

export interface ClusterParts {
  binaries: PostgresBinaries;
  rootDir: string;
  dataDir: string;
  port: number;
  password: string | undefined;
  tls: Certificates | undefined;
  /** Settings that go to the command line, where nothing overrides them. */
  commandLine: Settings;
  guardian: Guardian;
}

export interface ConnectionOverrides {
  user?: string;
  password?: string;
  host?: string;
  port?: number;
}

/** A server with a port that it keeps over restarts. */
export class Cluster implements AsyncDisposable {
  readonly major: PostgresMajor;
  readonly host = "127.0.0.1";
  readonly port: number;
  readonly user = SUPERUSER;
  /** `undefined` where everybody is trusted. */
  readonly password: string | undefined;
  readonly dataDir: string;
  /** Holds the data directory, the log and {@linkcode directory}'s folders; goes with the cluster. */
  readonly rootDir: string;
  readonly binaries: PostgresBinaries;
  /** PEM texts, where the server offers TLS. */
  readonly tls: Certificates | undefined;
  readonly #commandLine: Settings;
  readonly #guardian: Guardian;
  readonly #clients = new Map<string, Sql>();
  #server: Deno.ChildProcess | undefined;
  #ended: Promise<Deno.CommandStatus> | undefined;
  #disposed: Promise<void> | undefined;

  /** Use `startCluster()`. */
  constructor(parts: ClusterParts) {
    this.major = parts.binaries.major;
    this.binaries = parts.binaries;
    this.rootDir = parts.rootDir;
    this.dataDir = parts.dataDir;
    this.port = parts.port;
    this.password = parts.password;
    this.tls = parts.tls;
    this.#commandLine = parts.commandLine;
    this.#guardian = parts.guardian;
  }

  get running(): boolean {
    return this.#server !== undefined;
  }

  /** The postmaster's process. `undefined` when it does not run. */
  get pid(): number | undefined {
    return this.#server?.pid;
  }

  /** A connection URL with the credentials of the superuser, or others. */
  url(database = "postgres", overrides: ConnectionOverrides = {}): string {
    const user = overrides.user ?? this.user;
    const password = overrides.password ?? (overrides.user === undefined ? this.password : undefined);
    const credentials = encodeURIComponent(user) +
      (password === undefined ? "" : `:${encodeURIComponent(password)}`);
    return `postgres://${credentials}@${overrides.host ?? this.host}:${
      overrides.port ?? this.port
    }/${database}`;
  }

  /** Where to replicate from. */
  get replicationUrl(): string {
    return this.url();
  }

  /** A postgres.js client with a pool of its own for the database; it survives restarts, and ends with the cluster. */
  sql(database = "postgres"): Sql {
    let client = this.#clients.get(database);
    if (client === undefined) {
      client = postgres(this.url(database), {
        max: POOL_SIZE,
        onnotice: () => {},
        connection: { application_name: "varve-test" },
        // Every reconnect at once: a server that was just restarted is there.
        backoff: () => 0.02,
      });
      this.#clients.set(database, client);
    }
    return client;
  }

  /** Closes the clients of one database, so that it can be dropped or be a template. */
  async disconnect(database: string): Promise<void> {
    const client = this.#clients.get(database);
    this.#clients.delete(database);
    await client?.end({ timeout: 5 });
  }

  /** Runs statements as one simple query and returns the rows of the last one that has any. */
  // deno-lint-ignore no-explicit-any -- rows of any query
  async exec(query: string, database = "postgres"): Promise<any[]> {
    const result: unknown = await this.sql(database).unsafe(query).simple();
    const results = Array.isArray(result) && Array.isArray(result[0])
      ? result as unknown[][]
      : [result as unknown[]];
    return [...(results.findLast((rows) => rows.length > 0) ?? [])];
  }

  /** Appends to `postgresql.conf`. Takes effect with {@linkcode reload} or {@linkcode restart}. */
  async configure(settings: Settings): Promise<void> {
    await Deno.writeTextFile(`${this.dataDir}/postgresql.conf`, formatSettings(settings), { append: true });
  }

  /** Makes the server read its configuration again. Sessions follow when they next look. */
  reload(): void {
    kill(this.#running().pid, "SIGHUP");
  }

  /** A folder that the server may write: for an archive, or a tablespace. Made when it does not exist. */
  async directory(name: string): Promise<string> {
    const path = `${this.rootDir}/${name}`;
    await Deno.mkdir(path, { recursive: true });
    const { uid, gid } = this.binaries.user;
    if (uid !== undefined) await Deno.chown(path, uid, gid ?? null);
    return path;
  }

  /**
   * Starts the server and waits until it takes connections, recovery included.
   *
   * @throws {Error} If it ends instead, with the end of its log.
   */
  async start(): Promise<void> {
    if (this.#server !== undefined) throw new Error("Cannot start the cluster: it runs already");
    const settings: Settings = {
      ...this.#commandLine,
      port: this.port,
      listen_addresses: this.host,
      unix_socket_directories: "",
      logging_collector: "off",
      log_destination: "stderr",
    };
    const args = ["-D", this.dataDir];
    for (const [name, value] of Object.entries(settings)) args.push("-c", `${name}=${value}`);
    // The shell gives way to the server; it only sends its output to the log.
    const script = `log=$1; shift; exec "$@" >>"$log" 2>&1`;
    const server = new Deno.Command("/bin/sh", {
      args: ["-c", script, "sh", this.#logPath, this.binaries.program("postgres"), ...args],
      cwd: this.rootDir,
      env: this.binaries.env,
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "null",
      ...this.binaries.user,
    }).spawn();
    this.#server = server;
    this.#ended = server.status.then((status) => {
      if (this.#server === server) this.#server = undefined;
      return status;
    });
    server.unref(); // a forgotten server must not keep the process from ending; the guardian ends it
    try {
      await waitFor(() => {
        if (this.#server !== server) {
          throw new Error(`Cannot start PostgreSQL ${this.major}: ${this.logTail(30)}`);
        }
        return this.#isReady(server.pid);
      }, { what: `PostgreSQL ${this.major} is ready`, timeoutMs: START_TIMEOUT_MS });
    } catch (error) {
      if (this.#server === server) await this.kill9();
      throw error;
    }
  }

  /** Whether the server says so in the last line of its pid file (`PM_STATUS_READY` of pidfile.h). */
  #isReady(pid: number): boolean {
    try {
      const lines = Deno.readTextFileSync(`${this.dataDir}/postmaster.pid`).split("\n");
      const status = lines[7]?.trim();
      return lines[0] === String(pid) && (status === "ready" || status === "standby");
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /**
   * Stops the server and waits for its end. Files stay until the cluster is disposed of. No-op when it does not run.
   *
   * @throws {Error} If it does not end in time (a shutdown waits for connected standbys): it is killed then.
   */
  async stop(mode: StopMode = "fast", timeoutMs = 60_000): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    if (mode === "smart") await this.#closeClients();
    kill(server.pid, STOP_SIGNALS[mode]);
    try {
      await waitFor(() => this.#server !== server, {
        what: `PostgreSQL ${this.major} ends (${mode})`,
        timeoutMs,
      });
    } catch (error) {
      await this.kill9();
      throw error;
    }
  }

  async restart(mode: StopMode = "fast"): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** Kills the server and all its processes at once, as when the machine's power fails. */
  async kill9(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    // Stopped first, so that it starts no further children between our look and the kill.
    kill(server.pid, "SIGSTOP");
    const processes = [...await childrenOf(server.pid), server.pid];
    for (const pid of processes) kill(pid, "SIGKILL");
    await this.#ended;
    await waitFor(() => processes.every((pid) => !isAlive(pid)), { what: "killed processes are gone" });
  }

  /** The end of the server's log. */
  logTail(lines = 50): string {
    try {
      return Deno.readTextFileSync(this.#logPath).trimEnd().split("\n").slice(-lines).join("\n");
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }

  /** Ends the server, however busy, and removes its files. Idempotent. */
  dispose(): Promise<void> {
    return this.#disposed ??= (async () => {
      try {
        await this.stop("immediate");
        await this.#closeClients();
        await this.#removeSharedMemory();
      } finally {
        await removeTree(this.rootDir);
        await this.#guardian.release();
      }
    })();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  get #logPath(): string {
    return `${this.rootDir}/server.log`;
  }

  #running(): Deno.ChildProcess {
    if (this.#server === undefined) throw new Error("Cannot signal the cluster: it does not run");
    return this.#server;
  }

  async #closeClients(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map((client) => client.end({ timeout: 0 })));
  }

  /** A killed server leaves a System V segment behind, named by the pid file that it leaves too. */
  async #removeSharedMemory(): Promise<void> {
    try {
      const line = Deno.readTextFileSync(`${this.dataDir}/postmaster.pid`).split("\n")[6];
      const id = line?.trim().split(/\s+/)[1];
      if (id !== undefined) await runCommand("ipcrm", ["-m", id]);
    } catch {
      // There is none, or no ipcrm; a few hundred bytes stay until the machine restarts.
    }
  }
}

/** Lines of `postgresql.conf`; of several for one setting the last one counts. */
export function formatSettings(settings: Settings): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`)
    .join("");
}
