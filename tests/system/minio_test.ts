/**
 * The whole path over object storage: follow into a real MinIO, lose everything local, read back on demand.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { openLocalLayers } from "../../src/store/local_layers.ts";
import { openStore } from "../../src/store/open.ts";
import { retrying } from "../../src/store/retrying.ts";
import { attachReader } from "../../src/read/attach.ts";
import { assertNoDifferences, compareWithStopped } from "../support/compare.ts";
import { followCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/MinIO", { timeoutMs: 180_000, sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

/** The store as the command line has it. */
async function storeOf(minio: Minio): Promise<ObjectStore> {
  return retrying(await openStore(minio.url, minio.env), { clock: systemClock });
}

if (startMinio !== undefined) {
  test("attachReader() on a machine that has nothing downloads what its reads need, and every page is right", async () => {
    const random = seededRandom("MinIO");
    await using directory = await temporaryDirectory("minio");
    await using minio = await startMinio();
    await using cluster = await startCluster({
      major: 17,
      checksums: true,
      settings: { max_prepared_transactions: 20 },
    });
    const store = await storeOf(minio);
    const local = await openLocalLayers(directory.join("writer"));
    const following = await followCluster(cluster, store, { local });
    await mixedWorkload(cluster, { seed: random.seed, seconds: 4 });
    await cluster.stop("fast");
    await following.follower.stop();
    const { files, timeline } = following;
    assert.is(files.residentBytes, timeline.layers.totalBytes, "the writer keeps a copy of every layer");
    await following.close();

    const elsewhere = await openLocalLayers(directory.join("reader"));
    const fetching = { hotShare: 0 };
    const attached = await attachReader({ store, clock: systemClock, local: elsewhere, fetching });
    assert.is(attached.files.residentBytes, 0, "attaching downloads no layer");
    assert.is(
      attached.timeline.layers.totalBytes,
      timeline.layers.totalBytes,
      "the size of the timeline is known",
    );
    const result = await compareWithStopped(
      cluster.dataDir,
      attached.reader,
      attached.timeline.lastRecordLsn,
    );
    assertNoDifferences(result, "read from MinIO with local copies");
    assert.is(result.differenceCount, 0);
    const { counters, residentCount, residentBytes } = attached.files;
    assert.is(counters.downloads, residentCount, "no layer was downloaded twice");
    assert.is(counters.downloadedBytes, residentBytes);
    assert.ok(residentCount > 1 && residentCount <= attached.timeline.layers.count);
    await attached.close();

    // No disk at all: ranges.
    const diskless = await attachReader({ store, clock: systemClock });
    const again = await compareWithStopped(cluster.dataDir, diskless.reader, diskless.timeline.lastRecordLsn);
    assertNoDifferences(again, "read from MinIO by range");
    assert.is(diskless.files.counters.downloads, 0);
    assert.ok(diskless.files.counters.rangeRequests > 0);
    await diskless.close();
    await store.close();
  });

  test("follow() goes on taking in WAL while MinIO is away, acknowledges nothing, and catches up", async () => {
    const random = seededRandom("MinIO away");
    await using minio = await startMinio();
    await using cluster = await startCluster({
      major: 16,
      checksums: false,
      settings: { max_prepared_transactions: 20 },
    });
    const store = await storeOf(minio);
    const following = await followCluster(cluster, store, { checkpointDistance: 1024 * 1024 });
    await mixedWorkload(cluster, { seed: random.seed, rounds: 2, keepPrepared: false });
    await minio.kill();
    const durable = following.timeline.remoteConsistentLsn;
    const work = mixedWorkload(cluster, { seed: random.seed + 1, rounds: 3 });
    await waitFor(() => following.timeline.lastRecordLsn > durable, {
      what: "WAL comes in while the store is away",
    });
    await work;
    const acknowledged = await cluster
      .sql()`SELECT flush_lsn - '0/0'::pg_lsn AS flushed FROM pg_stat_replication WHERE application_name = 'varve'`;
    assert.ok(
      Number(acknowledged[0].flushed) <= following.timeline.remoteConsistentLsn,
      "nothing is acknowledged that is not durable",
    );
    await minio.restart();
    await cluster.stop("fast");
    await following.follower.stop();
    await following.close();
    const attached = await attachReader({ store, clock: systemClock });
    const result = await compareWithStopped(
      cluster.dataDir,
      attached.reader,
      attached.timeline.lastRecordLsn,
    );
    assertNoDifferences(result, "after MinIO came back");
    assert.is(result.differenceCount, 0);
    await attached.close();
    await store.close();
  });
}

test.run();
