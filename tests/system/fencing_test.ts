/**
 * Two followers of one timeline: the second takes over, the first stops, nothing that was acknowledged is lost.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { FencedError, MismatchError } from "../../src/errors.ts";
import { attachReader } from "../../src/read/attach.ts";
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/fencing", { timeoutMs: 120_000, sanitize: false });

test("follow() by a second writer fences the first", async () => {
  const random = seededRandom("fencing");
  await using directory = await temporaryDirectory("fencing");
  await using cluster = await startCluster({
    major: 17,
    checksums: false,
    settings: { max_prepared_transactions: 20 },
  });
  const store = await testStore(directory.path);
  // Slots of their own, so that the server lets both stream at once.
  const first = await followCluster(cluster, store, { slot: "first", checkpointDistance: 1024 * 1024 });
  await mixedWorkload(cluster, { seed: random.seed, rounds: 2, keepPrepared: false });
  const second = await followCluster(cluster, store, { slot: "second", checkpointDistance: 1024 * 1024 });
  await mixedWorkload(cluster, { seed: random.seed + 1, rounds: 2 });
  // The first learns of it when it flushes next, which little WAL would not make it do for minutes.
  const { timeline } = first;
  await waitFor(() => timeline.lastRecordLsn > timeline.remoteConsistentLsn || timeline.frozen.length > 0, {
    what: "the first writer has something to flush",
  });
  first.flusher.flushSoon(timeline.lastRecordLsn);
  await assert.rejects(first.follower.done, FencedError);
  const { manifest } = await attachReader({ store, clock: systemClock });
  assert.is(manifest.epoch, 2, "the second writer's epoch");
  assert.ok(
    first.timeline.remoteConsistentLsn <= manifest.diskConsistentLsn,
    "what the first acknowledged is there",
  );
  const sql = cluster.sql();
  await waitFor(async () => {
    const rows = await sql`SELECT 1 FROM pg_stat_replication WHERE application_name = 'varve'`;
    return rows.length === 1;
  }, { what: "the fenced writer has closed its connection" });
  await cluster.stop("fast");
  await second.follower.stop();
  const result = await judgeStoppedCluster(cluster, store, "after the takeover");
  assert.is(result.differenceCount, 0);
  await first.close();
  await second.close();
  await store.close();
});

test("follow() of another server is refused and fences nobody", async () => {
  await using directory = await temporaryDirectory("wrong-source");
  await using cluster = await startCluster({ major: 17, checksums: false });
  await using other = await startCluster({ major: 17, checksums: false, ownSystemIdentifier: true });
  const store = await testStore(directory.path);
  const first = await followCluster(cluster, store);
  try {
    await assert.rejects(followCluster(other, store), MismatchError);
    const { manifest } = await attachReader({ store, clock: systemClock });
    assert.is(manifest.epoch, 1, "the writer keeps its claim");
  } finally {
    await first.follower.abort();
    await first.close();
    await store.close();
  }
});

test.run();
