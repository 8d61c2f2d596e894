/**
 * History of a real server: the moment before a disaster is found by its time, its transaction and a restore point; a
 * branch is made there, a cluster restored and followed into the branch, while the parent goes on and is collected.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { LsnCollectedError } from "../../src/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { lsnOfRestorePoint, lsnOfTimestamp, lsnOfXid, timestampOfLsn } from "../../src/read/time.ts";
import { restore } from "../../src/restore/restore.ts";
import { restoreDirectory } from "../../src/store/restore_directory.ts";
import { updateManifest } from "../../src/timeline/manifest_store.ts";
import { createBranch } from "../../src/upkeep/branch.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import type { Following } from "../../src/varve.ts";
import { assertNoDifferences, compareWithStopped } from "../support/compare.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { postgresBinaries } from "../support/postgres_binaries.ts";
import { assertSame, hashTables, startRestored } from "../support/restored.ts";
import { waitFor } from "../support/wait.ts";
import { removeTree, scratchDirectory } from "../support/temp.ts";

const MAJOR = 17;

const test = suite("system/branches", { timeoutMs: 300_000, sanitize: false });

/** All that the server has written so far is in the store. */
async function makeDurable({ timeline, flusher }: Following, cluster: Cluster): Promise<void> {
  const [{ lsn }] = await cluster.exec("SELECT pg_current_wal_flush_lsn() AS lsn");
  await timeline.waitForRecord(parseLsn(String(lsn)));
  await flusher.flushAll();
}

/** The server's clock, as text with microseconds and zone. */
async function serverTime(cluster: Cluster): Promise<number> {
  const [{ micros }] = await cluster.exec(
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text AS micros",
  );
  return Number(micros);
}

/** Images of everything and the cut-off at the end of what is durable, as a guest, with nothing kept for readers. */
async function collectAll(store: ObjectStore, timeline: string): Promise<number> {
  const attached = await attachReader({ store, clock: systemClock, timeline });
  try {
    const { reader } = attached;
    const target = UpkeepTarget.ofGuest({ attached, store, clock: systemClock });
    await makeImages(target, { everything: true });
    const options = { store, clock: systemClock, reader, policy: { keepWalBytes: 0 }, graceMs: 0 };
    const plan = await planCollection(target.manifest, options);
    await collect(plan, (edit) => updateManifest(store, systemClock, timeline, edit), options);
    return plan.layers.length;
  } finally {
    await attached.close();
  }
}

/** Restores a timeline to a directory and starts a server on it. */
async function restoreAndStart(
  store: ObjectStore,
  timeline: string,
  lsn: Lsn,
  path: string,
): Promise<Cluster> {
  const { user } = await postgresBinaries(MAJOR);
  const owner = user.uid === undefined ? undefined : { uid: user.uid, gid: user.gid ?? 0 };
  const attached = await attachReader({ store, clock: systemClock, timeline });
  try {
    await restore(attached, lsn, await restoreDirectory(path, { fsync: false, owner }), {
      clock: systemClock,
      store,
    });
  } finally {
    await attached.close();
  }
  return await startRestored(MAJOR, path);
}

/** Compares a stopped cluster with a timeline at its end. */
async function judge(cluster: Cluster, store: ObjectStore, timeline: string): Promise<void> {
  const attached = await attachReader({ store, clock: systemClock, timeline });
  try {
    const result = await compareWithStopped(
      cluster.dataDir,
      attached.reader,
      attached.timeline.lastRecordLsn,
    );
    assertNoDifferences(result, `timeline ${timeline}`);
  } finally {
    await attached.close();
  }
}

test("the moment before a disaster is found, branched off, restored, and followed into the branch", async () => {
  const path = await Deno.realPath(
    await Deno.makeTempDir({ prefix: "varve-branches-", dir: await scratchDirectory() }),
  );
  await Deno.chmod(path, 0o755);
  try {
    await using cluster = await startCluster({ major: MAJOR, settings: { max_prepared_transactions: 20 } });
    const store = await testStore(`${path}/store`);
    const main = await followCluster(cluster, store, { checkpointDistance: 1024 * 1024 });
    await cluster.exec("CREATE TABLE t (id int PRIMARY KEY, v text)");
    for (let batch = 0; batch < 20; batch++) {
      await cluster.exec(
        `INSERT INTO t SELECT i, md5(i::text) FROM generate_series(${batch * 500}, ${batch * 500 + 499}) i`,
      );
    }
    const [{ point }] = await cluster.exec("SELECT pg_create_restore_point('before the disaster') AS point");
    const before = await hashTables(cluster);
    const moment = await serverTime(cluster);
    await cluster.exec("DELETE FROM t");
    await cluster.exec("INSERT INTO t SELECT i, 'after' FROM generate_series(1, 20000) i");
    await cluster.exec("VACUUM t");
    await makeDurable(main, cluster);

    const reader = await attachReader({ store, clock: systemClock });
    const found = await lsnOfTimestamp(reader.reader, moment);
    assert.is(found.kind, "found");
    const { lsn } = found;
    assert.ok(lsn >= parseLsn(String(point)), "nothing but reads came between the point and the moment");
    assert.is(await lsnOfRestorePoint(reader.reader, "before the disaster"), parseLsn(String(point)));
    const last = (await timestampOfLsn(reader.reader, lsn))!;
    assert.ok(last.unixMicros <= moment && moment - last.unixMicros < 60_000_000);
    const next = (await timestampOfLsn(reader.reader, reader.timeline.lastRecordLsn))!;
    assert.ok(next.unixMicros > moment && next.lsn > lsn);
    assert.is((await lsnOfTimestamp(reader.reader, next.unixMicros + 1)).kind, "future");
    const [{ inserted }] = await cluster.exec("SELECT xmin::text AS inserted FROM t LIMIT 1");
    const end = await lsnOfXid(reader.reader, Number(inserted));
    assert.ok(end.committed && end.lsn > lsn && end.previousLsn >= lsn);

    await createBranch({ store, clock: systemClock, parent: reader.reader, lsn, name: "rescue" });
    await using rescued = await restoreAndStart(store, "rescue", lsn, `${path}/rescued`);
    assertSame(await hashTables(rescued), before, `as of ${formatLsn(lsn)}`);
    const branch = await followCluster(rescued, store, {
      timeline: "rescue",
      checkpointDistance: 1024 * 1024,
    });
    await rescued.exec(
      "UPDATE t SET v = v || '!' WHERE id % 3 = 0; CREATE TABLE only_there AS SELECT generate_series(1, 5000) n",
    );
    await cluster.exec("UPDATE t SET v = v || '?' WHERE id % 2 = 0; CREATE TABLE only_here (n int)");
    await makeDurable(branch, rescued);
    assert.is((await lsnOfTimestamp(branch.reader, moment - 3_600_000_000)).kind, "past");

    // The parent is collected down to its end, while it and its branch go on.
    await makeDurable(main, cluster);
    const collected = await collectAll(store, "main");
    assert.ok(collected > 0, `${collected} layers of the parent were collected`);
    await assert.rejects(
      (await attachReader({ store, clock: systemClock })).reader.getValue(
        { family: 8, a: 0, b: 0, c: 0, d: 0 },
        0,
        parseLsn(String(point)) - 8 as Lsn,
      ),
      LsnCollectedError,
    );
    await rescued.exec("DELETE FROM t WHERE id % 5 = 0");
    await makeDurable(branch, rescued);
    assert.ok(await collectAll(store, "rescue") >= 0);
    await rescued.exec("INSERT INTO only_there SELECT generate_series(1, 100)");
    await cluster.exec("INSERT INTO only_here VALUES (1)");

    await rescued.exec("CHECKPOINT");
    await rescued.stop("fast");
    await branch.follower.stop();
    await judge(rescued, store, "rescue");
    await cluster.exec("CHECKPOINT");
    await cluster.stop("fast");
    await main.follower.stop();
    await judge(cluster, store, "main");
    await Promise.all([reader.close(), branch.close(), main.close()]);

    // And from the branch's beginning, which only its parent's pages tell.
    await using again = await restoreAndStart(store, "main", lsn, `${path}/again`);
    assertSame(await hashTables(again), before, "the parent still holds it");
    await store.close();
  } finally {
    await removeTree(path);
  }
});

test("times and transactions are where the server says, with many sessions at once", async () => {
  const path = await Deno.makeTempDir({ prefix: "varve-times-", dir: await scratchDirectory() });
  try {
    await using cluster = await startCluster({
      major: MAJOR,
      settings: { track_commit_timestamp: "on", autovacuum: "off" },
    });
    const store = await testStore(`${path}/store`);
    const following = await followCluster(cluster, store, { checkpointDistance: 256 * 1024 });
    await cluster.exec("CREATE TABLE t (id bigserial, xid xid8 DEFAULT pg_current_xact_id())");
    const sql = cluster.sql();
    await Promise.all(Array.from({ length: 6 }, async () => {
      for (let n = 0; n < 60; n++) await sql`INSERT INTO t (id) SELECT generate_series(1, ${n % 7 + 1})`;
    }));
    await makeDurable(following, cluster);
    const rows = await cluster.exec(
      `SELECT xid::text, (extract(epoch FROM pg_xact_commit_timestamp(xid::xid)) * 1000000)::bigint::text AS micros
         FROM (SELECT DISTINCT xid FROM t) s`,
    );
    assert.is(rows.length, 360);
    const attached = await attachReader({ store, clock: systemClock });
    const { reader } = attached;
    const ends: { lsn: Lsn; previousLsn: Lsn; micros: number }[] = [];
    for (const row of rows) {
      const { lsn, previousLsn, committed } = await lsnOfXid(reader, Number(row.xid));
      assert.ok(committed);
      assert.equal(await timestampOfLsn(reader, lsn), { lsn, unixMicros: Number(row.micros) });
      ends.push({ lsn, previousLsn, micros: Number(row.micros) });
    }
    ends.sort((left, right) => left.lsn - right.lsn);
    for (const { micros } of ends) {
      const stop = ends.find((end) => end.micros > micros);
      const found = await lsnOfTimestamp(reader, micros);
      if (stop !== undefined) assert.is(found.lsn, stop.previousLsn, `time ${micros}`);
      const from = ends.find((end) => end.micros >= micros)!;
      assert.is((await lsnOfTimestamp(reader, micros, { exclusive: true })).lsn, from.previousLsn);
    }
    await attached.close();
    await following.follower.abort();
    await following.close();
    await store.close();
  } finally {
    await removeTree(path);
  }
});

test("a follower with retention keeps space bounded, and what it keeps is right", async () => {
  const path = await Deno.makeTempDir({ prefix: "varve-retention-", dir: await scratchDirectory() });
  try {
    await using cluster = await startCluster({ major: MAJOR });
    const store = await testStore(`${path}/store`);
    const following = await followCluster(cluster, store, {
      checkpointDistance: 512 * 1024,
      upkeep: { intervalMs: 50, busyShare: 1, layerBytes: 1024 * 1024, imageDeltaBytesMin: 256 * 1024 },
      retention: { keepWalBytes: 1024 * 1024 },
      collection: { intervalMs: 50, graceMs: 0 },
    });
    await cluster.exec("CREATE TABLE t (id int PRIMARY KEY, v text)");
    await cluster.exec("INSERT INTO t SELECT i, '' FROM generate_series(1, 2000) i");
    const { timeline, collection } = following;
    const startLsn = timeline.lastRecordLsn;
    const collected = () => collection!.counters.deletedObjects;
    while (collected() < 30) {
      await cluster.exec("UPDATE t SET v = md5(random()::text || v)");
      await makeDurable(following, cluster);
    }
    const [{ point }] = await cluster.exec("SELECT pg_current_wal_flush_lsn() AS point");
    await waitFor(() => timeline.cutoffLsn >= parseLsn(String(point)) - 4 * 1024 * 1024, {
      what: "the cut-off moves",
      timeoutMs: 120_000,
    });
    assert.ok(timeline.cutoffLsn > startLsn);
    await cluster.exec("CHECKPOINT");
    await cluster.stop("fast");
    await following.follower.stop();
    await judge(cluster, store, "main");
    await following.close();
    const attached = await attachReader({ store, clock: systemClock });
    assert.is(attached.manifest.retention.keepWalBytes, 1024 * 1024);
    await assert.rejects(
      timestampOfLsn(attached.reader, attached.manifest.cutoffLsn - 8 as Lsn),
      LsnCollectedError,
    );
    await attached.close();
    await store.close();
  } finally {
    await removeTree(path);
  }
});

test.run();
