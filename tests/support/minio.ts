/**
 * A real MinIO server on loopback.
 *
 * The program is `MINIO_BIN`, else `minio` on the PATH, else built once with Go into the cache folder (a few minutes;
 * `deno run -A tests/support/minio.ts` does only that). Without it tests are skipped and say so; under CI they fail.
 *
 * @module
 */
import { MinioClient } from "../../src/deps/minio.ts";
import { cached, cacheDirectory, exists } from "./cache.ts";
import { freePort } from "./ports.ts";
import { findProgram, guard, type Guardian, isAlive } from "./processes.ts";
import { removeTree, scratchDirectory } from "./temp.ts";
import { waitFor } from "./wait.ts";

/** What `@latest` was when it was pinned. */
const MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c";

const ACCESS_KEY = "varve-access";
const SECRET_KEY = "varve-secret-key";
const BUCKET = "varve-test";
const REGION = "us-east-1";

export interface MinioOptions {
  /** Folders that it spreads objects over; with 4 or more it keeps working while one is lost. Default: 1. */
  drives?: number;
}

/** Starts a server with one empty bucket, or `undefined` after having skipped: see {@linkcode minioOrSkip}. */
export type StartMinio = (options?: MinioOptions) => Promise<Minio>;

/**
 * Where MinIO can be had, returns what starts it. Else, elsewhere than under CI, calls `skip` with the reason and
 * returns `undefined`.
 *
 * ```ts
 * const startMinio = await minioOrSkip((reason) => test.skip(reason));
 * if (startMinio !== undefined) test("put() ...", async () => {
 *   await using minio = await startMinio();
 * });
 * ```
 *
 * @param skip Told why: usually a test's `skip`.
 */
export async function minioOrSkip(skip: (reason: string) => void): Promise<StartMinio | undefined> {
  if ((await findMinio()) !== undefined) return startMinio;
  try {
    console.error("minio: building it once, this takes some minutes");
    await buildMinio();
    return startMinio;
  } catch (error) {
    if (Deno.env.get("CI")) throw error;
    skip(`needs a MinIO server, by MINIO_BIN, on the PATH, or built: ${(error as Error).message}`);
    return undefined;
  }
}

/** The program, where one is at hand without building it. */
export async function findMinio(): Promise<string | undefined> {
  const given = Deno.env.get("MINIO_BIN");
  if (given !== undefined && given !== "") {
    if (!(await exists(given))) throw new Error(`Cannot use MINIO_BIN=${given}: there is no such file`);
    return given;
  }
  const built = `${cacheDirectory()}/minio/${MINIO_VERSION}/minio`;
  return findProgram("minio") ?? ((await exists(built)) ? built : undefined);
}

/** Builds the pinned version, once; Go's output goes to ours. Returns the program. */
export async function buildMinio(): Promise<string> {
  const found = await findMinio();
  if (found !== undefined) return found;
  const go = findProgram("go");
  if (go === undefined) throw new Error("Cannot build MinIO: there is no go on the PATH");
  const home = await cached(`${cacheDirectory()}/minio/${MINIO_VERSION}`, async (directory) => {
    const status = await new Deno.Command(go, {
      args: ["install", "-ldflags=-s -w", `github.com/minio/minio@${MINIO_VERSION}`],
      env: { GOBIN: await Deno.realPath(directory), CGO_ENABLED: "0" },
      stdout: "inherit",
      stderr: "inherit",
    }).output();
    if (!status.success) throw new Error(`Cannot build MinIO: go install ended with code ${status.code}`);
  });
  return `${home}/minio`;
}

/** Starts a server on a port of its own, with one empty bucket. */
export async function startMinio(options: MinioOptions = {}): Promise<Minio> {
  const program = await buildMinio();
  const dir = await scratchDirectory();
  const rootDir = await Deno.realPath(await Deno.makeTempDir({ prefix: "varve-minio-", dir }));
  const minio = new Minio(program, rootDir, options.drives ?? 1);
  try {
    await minio.start();
    await minio.client().makeBucket(minio.bucket, REGION);
    return minio;
  } catch (error) {
    await minio.stop();
    throw error;
  }
}

/** One server; its port stays the same over restarts. */
export class Minio implements AsyncDisposable {
  readonly host = "127.0.0.1";
  readonly port = freePort();
  readonly endpoint = `http://127.0.0.1:${this.port}`;
  readonly region = REGION;
  readonly accessKey = ACCESS_KEY;
  readonly secretKey = SECRET_KEY;
  /** An empty bucket. */
  readonly bucket = BUCKET;
  readonly rootDir: string;
  readonly #program: string;
  readonly #drives: string[];
  readonly #guardian: Guardian;
  #server: Deno.ChildProcess | undefined;
  #stopped: Promise<void> | undefined;

  /** Use `startMinio()`. */
  constructor(program: string, rootDir: string, drives: number) {
    this.#program = program;
    this.rootDir = rootDir;
    this.#drives = Array.from({ length: drives }, (_, i) => `${rootDir}/drive${i + 1}`);
    this.#guardian = guard(`${rootDir}/minio.pid`, rootDir);
  }

  /** As `--store` takes it; credentials come from the environment. */
  get url(): string {
    return `s3://${this.bucket}/?endpoint=${encodeURIComponent(this.endpoint)}`;
  }

  get pid(): number | undefined {
    return this.#server?.pid;
  }

  /** The folders that hold the objects, for damaging them. */
  get drives(): readonly string[] {
    return this.#drives;
  }

  /** What a client needs in its environment. */
  get env(): Record<string, string> {
    return { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY, AWS_REGION: REGION };
  }

  /** A plain minio-js client with all rights. */
  client(): MinioClient {
    return new MinioClient({
      endPoint: this.host,
      port: this.port,
      useSSL: false,
      accessKey: ACCESS_KEY,
      secretKey: SECRET_KEY,
      region: REGION,
    });
  }

  /** Starts it, again after {@linkcode kill}, and waits until it serves. */
  async start(): Promise<void> {
    if (this.#server !== undefined) throw new Error("Cannot start MinIO: it runs already");
    for (const drive of this.#drives) await Deno.mkdir(drive, { recursive: true });
    const script = `echo $$ >"$1"; log=$2; shift 2; exec "$@" >>"$log" 2>&1`;
    const files = [`${this.rootDir}/minio.pid`, `${this.rootDir}/server.log`];
    const address = `${this.host}:${this.port}`;
    const console = `${this.host}:${freePort()}`;
    const command = [
      this.#program,
      "server",
      "--address",
      address,
      "--console-address",
      console,
      ...this.#drives,
    ];
    const server = new Deno.Command("/bin/sh", {
      args: ["-c", script, "sh", ...files, ...command],
      env: {
        MINIO_ROOT_USER: ACCESS_KEY,
        MINIO_ROOT_PASSWORD: SECRET_KEY,
        MINIO_BROWSER: "off",
        MINIO_UPDATE: "off",
        MINIO_CI_CD: "true", // several drives on one disk are meant
        HOME: this.rootDir,
        PATH: "/usr/bin:/bin",
      },
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#server = server;
    server.unref();
    server.status.then(() => {
      if (this.#server === server) this.#server = undefined;
    });
    await waitFor(() => {
      if (this.#server !== server) throw new Error(`Cannot start MinIO: ${this.logTail()}`);
      return this.#isReady();
    }, { what: "MinIO is ready", timeoutMs: 60_000, intervalMs: 30 });
  }

  async #isReady(): Promise<boolean> {
    try {
      const answer = await fetch(`${this.endpoint}/minio/health/ready`, {
        signal: AbortSignal.timeout(2000),
      });
      await answer.body?.cancel();
      return answer.ok && answer.headers.get("x-minio-server-status") !== "offline";
    } catch {
      return false;
    }
  }

  /** Ends the process at once, as when its machine fails. Files stay. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    server.kill("SIGKILL");
    await server.status;
    await waitFor(() => !isAlive(server.pid), { what: "MinIO is gone" });
    this.#server = undefined;
  }

  /** Stops the process where it is, so that it accepts connections and never answers; `SIGCONT` lets it go on. */
  pause(): void {
    this.#server?.kill("SIGSTOP");
  }

  /** Lets a paused server go on. */
  resume(): void {
    this.#server?.kill("SIGCONT");
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  /** The end of the server's log. */
  logTail(lines = 30): string {
    try {
      return Deno.readTextFileSync(`${this.rootDir}/server.log`).trimEnd().split("\n").slice(-lines).join(
        "\n",
      );
    } catch {
      return "";
    }
  }

  /** Ends it and removes its files. Idempotent. */
  stop(): Promise<void> {
    return this.#stopped ??= (async () => {
      try {
        await this.kill();
      } finally {
        await removeTree(this.rootDir);
        await this.#guardian.release();
      }
    })();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

if (import.meta.main) console.log(await buildMinio());
