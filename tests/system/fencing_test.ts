/**
 * Two followers of one timeline: the second takes over, the first stops, nothing that was acknowledged is lost. Guests
 * (compaction, pins, branches, collection) come in between all the while. On a directory and on MinIO.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { FencedError, MismatchError, NotFoundError, PreconditionFailedError } from "../../src/errors.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { openStore } from "../../src/store/open.ts";
import { retrying } from "../../src/store/retrying.ts";
import { updateManifest } from "../../src/timeline/manifest_store.ts";
import { createBranch, deleteTimeline } from "../../src/upkeep/branch.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { setPin } from "../../src/upkeep/pins.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { minioOrSkip } from "../support/minio.ts";
import { startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/fencing", { timeoutMs: 240_000, sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

/** Guests that change the manifest again and again, as other processes would. */
class Guests {
  readonly #store: ObjectStore;
  readonly #stopped = new AbortController();
  readonly #done: Promise<void>;
  rounds = 0;

  constructor(store: ObjectStore) {
    this.#store = store;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      await this.#round().catch((error) => {
        // A writer has taken over, or another guest was faster: it is done again.
        if (!(error instanceof FencedError || error instanceof PreconditionFailedError)) throw error;
      });
      this.rounds++;
      await systemClock.sleep(20);
    }
  }

  async #round(): Promise<void> {
    const [store, clock] = [this.#store, systemClock];
    const attached = await attachReader({ store, clock });
    try {
      const { reader, timeline } = attached;
      const lsn = timeline.lastRecordLsn;
      if (lsn < timeline.consistentLsn) return;
      await setPin({ name: "guest", lsn }, { store, clock, timeline: "main" });
      await createBranch({ store, clock, parent: reader, lsn, name: "guest" });
      const target = UpkeepTarget.ofGuest({ attached, store, clock });
      await compact(target, { runsMax: 2 });
      const options = { store, clock, reader };
      const plan = await planCollection(target.manifest, options);
      await collect(plan, (edit) => updateManifest(store, clock, "main", edit), options);
    } finally {
      await deleteTimeline({ store, clock, name: "guest" }).catch((error) => {
        if (!(error instanceof NotFoundError)) throw error;
      });
      await attached.close();
    }
  }
}

/** The second writer wins, with guests around. */
async function fence(store: ObjectStore): Promise<void> {
  const random = seededRandom("fencing");
  await using cluster = await startCluster({
    major: 17,
    checksums: false,
    settings: { max_prepared_transactions: 20 },
  });
  // Slots of their own, so that the server lets both stream at once.
  const first = await followCluster(cluster, store, { slot: "first", checkpointDistance: 1024 * 1024 });
  await mixedWorkload(cluster, { seed: random.seed, rounds: 2, keepPrepared: false });
  const guests = new Guests(store);
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
  await guests.stop();
  assert.ok(guests.rounds > 1);
  await cluster.stop("fast");
  await second.follower.stop();
  const result = await judgeStoppedCluster(cluster, store, "after the takeover");
  assert.is(result.differenceCount, 0);
  await first.close();
  await second.close();
}

test("follow() by a second writer fences the first, with guests around: a directory", async () => {
  await using directory = await temporaryDirectory("fencing");
  const store = await testStore(directory.path);
  await fence(store);
  await store.close();
});

if (startMinio !== undefined) {
  test("follow() by a second writer fences the first, with guests around: MinIO", async () => {
    await using minio = await startMinio();
    const store = retrying(await openStore(minio.url, minio.env), { clock: systemClock });
    await fence(store);
    await store.close();
  });
}

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
