/**
 * The stopped primary, all majors, checksums on and off: a mixed workload is followed from a base backup taken in the
 * middle of it; after a clean shutdown every page must equal the server's files.
 *
 * @module
 */
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { POSTGRES_MAJORS, startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/stopped primary", { timeoutMs: 180_000, sanitize: false });

/** Seconds of workload per server. */
const WORKLOAD_SECONDS = 6;

for (const major of POSTGRES_MAJORS) {
  for (const checksums of [true, false]) {
    const what = `PostgreSQL ${major} ${checksums ? "with" : "without"} checksums`;
    test(`follow() keeps every page of ${what}`, async () => {
      const seed = seededRandom(`stopped primary ${what}`).seed;
      await using directory = await temporaryDirectory("stopped-primary");
      await using cluster = await startCluster({
        major,
        checksums,
        settings: { max_prepared_transactions: 20, track_commit_timestamp: checksums ? "on" : "off" },
      });
      // Something from before the backup, and the backup in the middle of the rest.
      await mixedWorkload(cluster, { seed: seed + 1, rounds: 4, keepPrepared: false });
      const store = await testStore(directory.path);
      const work = mixedWorkload(cluster, { seed, seconds: WORKLOAD_SECONDS });
      const following = await followCluster(cluster, store);
      await work;
      await cluster.stop("fast");
      await following.follower.stop();
      assert.ok(following.timeline.layers.count > 1, "there are several layers");
      await following.close();
      const result = await judgeStoppedCluster(cluster, store, what);
      assert.is(result.differenceCount, 0);
      assert.is(result.unsupported, 0);
      await store.close();
    });
  }
}

test.run();
