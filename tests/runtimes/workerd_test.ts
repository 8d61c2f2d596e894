/**
 * The read path on an edge worker: a bundle in workerd, the runtime of such workers, reads pages of a real server's history
 * out of a real MinIO, by `fetch` alone and within a worker's memory.
 *
 * @module
 */
import { attachReader, formatLsn, parseLsn, scanRelation, systemClock } from "../../mod.ts";
import { build, stop } from "../../src/deps/esbuild.ts";
import { MinioStore } from "../../src/store/minio.ts";
import { bundle } from "../../tools/build.ts";
import { followCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { freePort } from "../support/ports.ts";
import { startCluster } from "../support/postgres.ts";
import { runCommand } from "../support/processes.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";

const test = suite("runtimes/workerd", { timeoutMs: 360_000, sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

/** The program comes as a file of this package. */
const WORKERD = { name: "@cloudflare/workerd-linux-64", version: "1.20261117.1" };
/** What a worker may use, beyond what workerd itself takes. */
const WORKER_MEMORY = 128 * 1024 * 1024;
const GARBAGE = 64 * 1024 * 1024;

/** The program, or undefined where the package cannot be had. */
async function installWorkerd(directory: TemporaryDirectory): Promise<string | undefined> {
  const cwd = directory.join("workerd");
  await Deno.mkdir(cwd);
  const dependencies = { [WORKERD.name]: WORKERD.version };
  await Deno.writeTextFile(`${cwd}/package.json`, JSON.stringify({ name: "workerd-test", dependencies }));
  try {
    await runCommand(Deno.execPath(), ["install", "--quiet", "--node-modules-dir=manual"], { cwd });
    const path = `${cwd}/node_modules/${WORKERD.name}/bin/workerd`;
    await Deno.chmod(await Deno.realPath(path), 0o755);
    return path;
  } catch (error) {
    console.error(`workerd: cannot be had: ${(error as Error).message}`);
    return undefined;
  }
}

/** The worker as one module, its only package inlined. */
async function bundleWorker(directory: TemporaryDirectory): Promise<string> {
  const cwd = directory.join("bundle");
  const entry = decodeURIComponent(new URL("edge_worker.ts", import.meta.url).pathname);
  const packages = await bundle({ worker: entry }, cwd);
  assert.equal(Object.keys(packages), ["aws4fetch"], "nothing else is needed at the edge");
  await runCommand(Deno.execPath(), ["install", "--quiet", "--node-modules-dir=manual"], { cwd });
  try {
    await build({
      entryPoints: [`${cwd}/worker.js`],
      outfile: directory.join("worker.js"),
      bundle: true,
      format: "esm",
      platform: "neutral",
      mainFields: ["module", "main"],
      minify: true,
      logLevel: "warning",
    });
  } finally {
    await stop();
  }
  return directory.join("worker.js");
}

function workerdConfig(port: number, minio: Minio): string {
  const binding = (name: string, value: string) => `(name = "${name}", text = ${JSON.stringify(value)})`;
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    (name = "loopback", network = (allow = ["private", "local"])),
  ],
  # As large a heap as workers have, so that garbage counts as memory only as far as it does there.
  v8Flags = ["--max-old-space-size=100", "--max-semi-space-size=2"],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
const worker :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "worker.js")],
  compatibilityDate = "2026-11-01",
  globalOutbound = "loopback",
  bindings = [
    ${binding("ENDPOINT", minio.endpoint)},
    ${binding("BUCKET", minio.bucket)},
    ${binding("ACCESS_KEY", minio.accessKey)},
    ${binding("SECRET_KEY", minio.secretKey)},
  ],
);
`;
}

/** Bytes of memory that a process holds in RAM. */
async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) * 1024;
}

if (startMinio !== undefined) {
  test("a worker reads pages of the past by fetch alone, and scans a relation within a worker's memory", async () => {
    await using directory = await temporaryDirectory("edge");
    const program = await installWorkerd(directory);
    if (program === undefined) {
      assert.not.ok(Deno.env.get("CI"), "workerd must be there under CI");
      return;
    }
    await using minio = await startMinio();
    const { endpoint, bucket, accessKey, secretKey } = minio;
    const store = new MinioStore({ endpoint, bucket, accessKey, secretKey });
    await using cluster = await startCluster({ major: 17, checksums: true, settings: { autovacuum: "off" } });
    const following = await followCluster(cluster, store, { checkpointDistance: 16 * 1024 * 1024 });
    await cluster.exec(
      "CREATE TABLE t AS SELECT n AS a, repeat(md5(n::text), 20) AS b FROM generate_series(1, 60000) n",
    );
    const past = parseLsn(
      (await cluster.exec("SELECT pg_logical_emit_message(false, 't', '', true)::text AS lsn"))[0].lsn,
    );
    await cluster.exec("UPDATE t SET a = -a WHERE a % 50 = 0");
    const [{ db, rel }] = await cluster.exec(`
      SELECT d.oid::int AS db, pg_relation_filenode('t')::int AS rel FROM pg_database d
      WHERE datname = current_database()`);
    await cluster.stop("fast");
    await following.follower.stop();
    await following.close();

    await bundleWorker(directory);
    const port = freePort();
    await Deno.writeTextFile(directory.join("config.capnp"), workerdConfig(port, minio));
    const workerd = new Deno.Command(program, {
      args: ["serve", directory.join("config.capnp")],
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    try {
      const ask = (query: string) => fetch(`http://127.0.0.1:${port}/?rel=1663/${db}/${rel}${query}`);
      const answered = () => ask("&block=-1").then((answer) => answer.text(), () => undefined);
      await waitFor(async () => (await answered()) !== undefined, {
        what: "workerd answers",
        timeoutMs: 90_000,
      });
      const idle = await residentBytes(workerd.pid);
      const attached = await attachReader({ store, clock: systemClock });
      const relation = { spc: 1663, db, rel };
      const end = attached.timeline.lastRecordLsn;
      for (const lsn of [past, end]) {
        for (const block of [0, 77, 3000]) {
          const answer = await ask(`&block=${block}&at=${formatLsn(lsn)}`);
          const bytes = new Uint8Array(await answer.arrayBuffer());
          assert.is(answer.status, 200, new TextDecoder().decode(bytes.subarray(0, 300)));
          assert.equal(bytes, await attached.reader.getPage(relation, 0, block, lsn));
        }
      }
      const forPages = await residentBytes(workerd.pid) - idle;
      assert.ok(forPages < WORKER_MEMORY, `${forPages} bytes`);
      let pages = 0;
      let sum = 0;
      for await (const step of scanRelation(attached, relation, 0, end)) {
        pages += step.pages.length;
        for (const page of step.pages) {
          for (let i = 0; i < page.length; i += 64) sum = (sum * 31 + page[i]) >>> 0;
        }
      }
      assert.equal(await (await ask("")).json(), { pages, sum });
      const refused = await ask("&block=99999999");
      assert.equal([refused.status, (await refused.text()).slice(0, 14)], [500, "NotFoundError:"]);
      // What has been read and dropped stays until the engine looks for garbage: it does so every 64 MiB of buffers.
      const forScan = await residentBytes(workerd.pid) - idle;
      console.log(
        `${attached.timeline.layers.totalBytes >> 20} MiB of layers: ${
          forPages >> 20
        } MiB of memory for pages, ` +
          `${forScan >> 20} MiB for a scan of ${pages}, garbage included`,
      );
      assert.ok(forScan < WORKER_MEMORY + GARBAGE, `${forScan} bytes`);
      await attached.close();
      await store.close();
    } finally {
      workerd.kill("SIGKILL");
      await workerd.status;
    }
  });
}

test.run();
