/**
 * Beginnings of a timeline: bootstraps that break off or meet, and a backup that pg_basebackup took, with tablespaces.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, FencedError, NotFoundError } from "../../src/errors.ts";
import { type Lsn, parseLsn, XLOG_BLCKSZ } from "../../src/lsn.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { readManifest } from "../../src/timeline/manifest_store.ts";
import { importTimeline } from "../../src/varve.ts";
import { type SegmentDirectory, segmentFileName } from "../../src/write/source/archive.ts";
import { followCluster, judgeStoppedCluster, TEST_CHECKPOINT_DISTANCE } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { debianPostgresOrSkip } from "../support/postgres_debian.ts";

const test = suite("system/base_backup", { timeoutMs: 120_000, sanitize: false });
const clock = systemClock;
const WAL_SEGMENT_SIZE = 16 * 1024 * 1024;
const SETTINGS = { wal_keep_size: "1GB", autovacuum: "off" };

async function someTables(cluster: Cluster): Promise<void> {
  const sql = cluster.sql();
  await sql`CREATE TABLE filled AS SELECT i AS id, repeat('x', 200) AS text FROM generate_series(1, 20000) i`;
  await sql`CREATE INDEX ON filled (id)`;
  await sql`CREATE TABLE cut AS SELECT i AS id FROM generate_series(1, 20000) i`;
  await sql`DELETE FROM cut WHERE id > 100`;
  await sql`VACUUM cut`;
}

test("follow() after a bootstrap that broke off begins again, and its orphans do no harm", async () => {
  await using cluster = await startCluster({ major: 17, checksums: true, settings: SETTINGS });
  await someTables(cluster);
  const store = new MemoryStore();
  for (const bytes of [1, 10_000_000]) {
    const controller = new AbortController();
    await assert.rejects(
      followCluster(cluster, store, {
        signal: controller.signal,
        onBackupProgress: ({ bytesDone }) => {
          if (bytesDone >= bytes) controller.abort(new Error("broken off"));
        },
      }),
      /broken off/,
    );
    assert.is(await readManifest(store, "main"), undefined);
  }
  const following = await followCluster(cluster, store);
  await following.timeline.waitForRecord(following.timeline.consistentLsn);
  await cluster.sql()`UPDATE filled SET text = 'y' WHERE id % 100 = 0`;
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  assert.is(
    (await judgeStoppedCluster(cluster, store, "after two bootstraps that broke off")).differenceCount,
    0,
  );
});

test("follow() twice at once where nothing is yet: one bootstrap wins, the other is fenced", async () => {
  await using cluster = await startCluster({ major: 17, checksums: false, settings: SETTINGS });
  await someTables(cluster);
  const store = new MemoryStore();
  const outcomes = await Promise.allSettled([followCluster(cluster, store), followCluster(cluster, store)]);
  const won = outcomes.filter((outcome) => outcome.status === "fulfilled");
  const lost = outcomes.find((outcome) => outcome.status === "rejected");
  assert.is(won.length, 1);
  assert.ok(lost?.reason instanceof FencedError, String(lost?.reason));
  const [{ value: following }] = won;
  await following.timeline.waitForRecord(following.timeline.consistentLsn);
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  assert.is((await judgeStoppedCluster(cluster, store, "two bootstraps at once")).differenceCount, 0);
});

/** Copies a tree. */
async function copyTree(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const entry of Deno.readDir(from)) {
    const [source, target] = [`${from}/${entry.name}`, `${to}/${entry.name}`];
    if (entry.isDirectory) await copyTree(source, target);
    else if (entry.isSymlink) await Deno.symlink(await Deno.readLink(source), target);
    else await Deno.copyFile(source, target);
  }
}

/** The same folder as long as WAL had not come to the page with `end` yet. */
function cutBefore(wal: SegmentDirectory, end: Lsn): SegmentDirectory {
  const last = segmentFileName(1, Math.floor((end - 1) / WAL_SEGMENT_SIZE), WAL_SEGMENT_SIZE);
  const length = (end - 1) % WAL_SEGMENT_SIZE - (end - 1) % XLOG_BLCKSZ;
  return {
    description: wal.description,
    async list() {
      const files = [...await wal.list()].filter(({ name }) => name <= last && /^[0-9A-F]{24}$/.test(name));
      return files.map(({ name, size }) => ({ name, size: name === last ? length : size }));
    },
    read: (name, offset, wanted) =>
      wal.read(name, offset, name === last ? Math.max(0, Math.min(wanted, length - offset)) : wanted),
  };
}

test("importTimeline() of a backup that pg_basebackup -R took under load, with a tablespace", async (context) => {
  let reason = "";
  const debian = await debianPostgresOrSkip((why) => reason = why);
  if (debian === undefined) {
    console.log(`skipped: it ${reason}`);
    assert.ok(reason);
    return;
  }
  await using cluster = await startCluster({ major: 15, checksums: true, settings: SETTINGS });
  const sql = cluster.sql();
  const space = await cluster.directory("space");
  await sql.unsafe(`CREATE TABLESPACE elsewhere LOCATION '${space}'`);
  await someTables(cluster);
  await sql`CREATE TABLE there TABLESPACE elsewhere AS SELECT i AS id, repeat('t', 100) AS text FROM generate_series(1, 5000) i`;
  let isTaken = false;
  const load = (async () => {
    for (let round = 1; !isTaken && !context.signal.aborted; round++) {
      await sql`UPDATE there SET text = ${`round ${round}`} WHERE id % 7 = 0`;
      await sql`INSERT INTO filled SELECT i, 'more' FROM generate_series(1, 500) i`;
    }
  })();
  const base = `${cluster.rootDir}/taken`;
  await debian.run("pg_basebackup", [
    ...["-d", cluster.url(), "-D", base, "-X", "none", "-c", "fast", "-R"],
    `--tablespace-mapping=${space}=${cluster.rootDir}/taken_space`,
  ]);
  isTaken = true;
  await load;
  await sql`DELETE FROM there WHERE id < 1000`;
  await cluster.stop("fast");
  const store = new MemoryStore();
  const wal = segmentDirectory(`${cluster.dataDir}/pg_wal`);
  const options = { store, clock, wal, checkpointDistance: TEST_CHECKPOINT_DISTANCE };

  // WAL that ends too early is told; what it holds is kept, and the rest can be imported later.
  const [range] = JSON.parse(await Deno.readTextFile(`${base}/backup_manifest`))["WAL-Ranges"];
  const cut = { ...options, wal: cutBefore(wal, parseLsn(range["End-LSN"])), base: backupDirectory(base) };
  const short = await importTimeline(cut);
  const tooShort = await assert.rejects(short.follower.done, NotFoundError);
  assert.match(tooShort.message, `before its base backup does at ${range["End-LSN"]}`);
  assert.match(tooShort.hint!, "Import the WAL that follows");
  assert.is(short.timeline.remoteConsistentLsn, short.timeline.lastRecordLsn);
  await short.close();
  const imported = await importTimeline({ ...options, base: backupDirectory(base) });
  await imported.follower.done;
  await imported.close();
  const result = await judgeStoppedCluster(cluster, store, "import of a taken backup");
  assert.is(result.differenceCount, 0);

  const [{ name }] = Array.from(Deno.readDirSync(`${base}/base`)).filter((entry) => /^\d+$/.test(entry.name));
  const damaged = `${cluster.rootDir}/damaged`;
  await copyTree(base, damaged);
  const victim = `${damaged}/base/${name}/1259`;
  const bytes = await Deno.readFile(victim);
  bytes[5000] ^= 1;
  await Deno.writeFile(victim, bytes);
  const refused = { ...options, store: new MemoryStore(), base: backupDirectory(damaged) };
  assert.match((await assert.rejects(importTimeline(refused), CorruptionError)).message, "1259");
  await Deno.remove(victim);
  assert.match((await assert.rejects(importTimeline(refused), CorruptionError)).message, "missing");
});

test.run();
