/**
 * Whatever dies in the middle of a workload, no page comes out wrong: the follower killed 20 times, the connection cut 20
 * times, the server killed once. Afterwards the stopped primary judges.
 *
 * @module
 */
import { parseLsn } from "../../src/lsn.ts";
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { startCluster } from "../support/postgres.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/killed follower", { timeoutMs: 420_000, sanitize: false });

const KILLS = 20;
const SETTINGS = { max_prepared_transactions: 20, track_commit_timestamp: "on" };

/** A follower in its own process. */
class FollowerProcess {
  readonly #child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<string>;

  constructor(url: string, directory: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        new URL("../support/follower_process.ts", import.meta.url).pathname,
        url,
        directory,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#output = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Resolves when it has printed this line; fails if it ends before. */
  async printed(line: string): Promise<void> {
    while (!this.#printed.includes(line)) {
      const { value } = await this.#output.read();
      if (value === undefined) throw new Error(`The follower ended before it printed "${line}"`);
      this.#printed += value;
    }
  }
  #printed = "";

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#end();
  }

  /** Lets it end in order; it must succeed. */
  async stop(): Promise<void> {
    await this.#child.stdin.close();
    const { success } = await this.#end();
    assert.ok(success, "the follower ended in order");
  }

  async #end(): Promise<Deno.CommandStatus> {
    const status = await this.#child.status;
    await this.#output.cancel();
    await this.#child.stdin.close().catch(() => {});
    return status;
  }
}

/** Waits a random time: a kill must come at any moment, so this is not a wait for a condition. */
async function randomMoment(random: SeededRandom, maxMs: number): Promise<void> {
  const until = performance.now() + random.float() * maxMs;
  await waitFor(() => performance.now() >= until, { timeoutMs: maxMs * 10, what: "a random moment" });
}

test(`follow() loses nothing when its process is killed ${KILLS} times`, async () => {
  const random = seededRandom("killed follower");
  await using directory = await temporaryDirectory("killed-follower");
  await using cluster = await startCluster({ major: 17, checksums: true, settings: SETTINGS });
  const store = await testStore(directory.path);
  const stopWork = new AbortController();
  const work = mixedWorkload(cluster, { seed: random.seed, seconds: 200, signal: stopWork.signal });
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const process = new FollowerProcess(cluster.replicationUrl, directory.path);
      // Most kills hit a follower that streams, some one that still starts.
      if (random.float() < 0.8) await process.printed("following");
      await randomMoment(random, 1200);
      await process.kill();
    }
  } finally {
    stopWork.abort();
    await work;
  }
  const last = new FollowerProcess(cluster.replicationUrl, directory.path);
  await last.printed("caught up");
  await cluster.stop("fast");
  await last.stop();
  const result = await judgeStoppedCluster(cluster, store, `killed ${KILLS} times`);
  assert.is(result.differenceCount, 0);
  await store.close();
});

test(`follow() loses nothing when its connection is cut ${KILLS} times and the server killed once`, async () => {
  const random = seededRandom("cut connection");
  await using directory = await temporaryDirectory("cut-connection");
  await using cluster = await startCluster({ major: 16, checksums: false, settings: SETTINGS });
  const store = await testStore(directory.path);
  const following = await followCluster(cluster, store, { checkpointDistance: 2 * 1024 * 1024 });
  const stopWork = new AbortController();
  const work = mixedWorkload(cluster, {
    seed: random.seed,
    seconds: 200,
    signal: stopWork.signal,
    surviveRestarts: true,
    keepPrepared: false,
  });
  let cuts = 0;
  try {
    let killed = false;
    while (cuts < KILLS) {
      if (!killed && cuts >= KILLS / 2) {
        killed = true;
        await cluster.kill9();
        await cluster.start();
      }
      await waitFor(() => following.connection.current.isConnected, {
        what: "the follower is connected",
        timeoutMs: 60_000,
      });
      await randomMoment(random, 500);
      const sql = cluster.sql();
      const rows =
        await sql`SELECT pg_terminate_backend(pid) AS cut FROM pg_stat_replication WHERE application_name = 'varve'`;
      cuts += rows.filter((row) => row.cut === true).length;
    }
  } finally {
    stopWork.abort();
    await work;
  }
  assert.ok(cuts >= KILLS, `${cuts} connections were cut`);
  // Not before it has what was written last: a server that nobody is connected to does not wait when it stops.
  const [{ lsn }] = await cluster
    .sql()`SELECT pg_logical_emit_message(true, 'varve', 'the end')::text AS lsn`;
  await following.timeline.waitForRecord(parseLsn(lsn));
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const result = await judgeStoppedCluster(
    cluster,
    store,
    `connection cut ${cuts} times, server killed once`,
  );
  assert.is(result.differenceCount, 0);
  await store.close();
});

test.run();
