/**
 * A timeline from a base backup on disk and a folder of WAL, no server: judged by the stopped server that both came from.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, MismatchError, NotFoundError } from "../../src/errors.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { importTimeline } from "../../src/varve.ts";
import { judgeStoppedCluster, TEST_CHECKPOINT_DISTANCE } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, POSTGRES_MAJORS, startCluster } from "../support/postgres.ts";
import { findProgram, runCommand } from "../support/processes.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/import", { timeoutMs: 120_000, sanitize: false });

const SETTINGS = { max_prepared_transactions: 20, wal_keep_size: "4GB", track_commit_timestamp: "on" };
const clock = systemClock;

/** Copies a data directory as an archive tool would, with links. */
async function copyDirectory(from: string, to: string): Promise<void> {
  const cp = findProgram("cp");
  if (cp === undefined) throw new Error("Cannot copy: no cp on this machine");
  await runCommand(cp, ["-a", from, to]);
}

for (const major of POSTGRES_MAJORS) {
  test(`importTimeline() of a stopped PostgreSQL ${major} directory and its WAL`, async () => {
    const random = seededRandom(`import ${major}`);
    await using cluster = await startCluster({ major, checksums: true, settings: SETTINGS });
    await cluster.stop("fast");
    const base = `${cluster.rootDir}/base`;
    await copyDirectory(cluster.dataDir, base);
    await cluster.start();
    await mixedWorkload(cluster, { seed: random.seed, seconds: 2 });
    await cluster.stop("fast");
    const store = new MemoryStore();
    await importOf(cluster, base, store);
    const result = await judgeStoppedCluster(cluster, store, `import of ${major}`);
    assert.is(result.differenceCount, 0);
  });
}

test("importTimeline() goes on where the WAL ended", async () => {
  const random = seededRandom("import twice");
  await using cluster = await startCluster({ major: 17, checksums: false, settings: SETTINGS });
  await cluster.stop("fast");
  const base = `${cluster.rootDir}/base`;
  await copyDirectory(cluster.dataDir, base);
  const store = new MemoryStore();
  for (const seed of [random.seed, random.seed + 1]) {
    await cluster.start();
    await mixedWorkload(cluster, { seed, rounds: 3, keepPrepared: false });
    await cluster.stop("fast");
    await importOf(cluster, base, store);
    assert.is((await judgeStoppedCluster(cluster, store, "import, then more")).differenceCount, 0);
  }
});

test("importTimeline() refuses what it cannot use", async () => {
  await using directory = await temporaryDirectory("import");
  await using cluster = await startCluster({ major: 17, checksums: false, settings: SETTINGS });
  const wal = segmentDirectory(`${cluster.dataDir}/pg_wal`);
  const store = new MemoryStore();
  const refused = (
    base: string,
    error: typeof NotFoundError | typeof MismatchError | typeof CorruptionError,
  ) => assert.rejects(() => importTimeline({ store, clock, base: backupDirectory(base), wal }), error);
  await refused(directory.path, NotFoundError);
  // The server runs, and there is no label.
  await refused(cluster.dataDir, MismatchError);
  await cluster.stop("fast");
  const damaged = `${cluster.rootDir}/damaged`;
  await copyDirectory(cluster.dataDir, damaged);
  const control = await Deno.readFile(`${damaged}/global/pg_control`);
  control[100] ^= 1;
  await Deno.writeFile(`${damaged}/global/pg_control`, control);
  await refused(damaged, CorruptionError);
});

async function importOf(cluster: Cluster, base: string, store: MemoryStore): Promise<void> {
  const imported = await importTimeline({
    store,
    clock,
    base: backupDirectory(base),
    wal: segmentDirectory(`${cluster.dataDir}/pg_wal`),
    checkpointDistance: TEST_CHECKPOINT_DISTANCE,
  });
  await imported.follower.done;
  await imported.close();
}

test.run();
