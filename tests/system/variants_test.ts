/**
 * The stopped primary under settings that change what WAL looks like: segment sizes, compression of page images, no page
 * images at all, logged hint bits, logical WAL, consistency images.
 *
 * @module
 */
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type ClusterOptions, startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/variants", { timeoutMs: 120_000, sanitize: false });

/** Seconds of workload per variant. */
const WORKLOAD_SECONDS = 3;

const VARIANTS: [name: string, options: ClusterOptions][] = [
  ["WAL segments of 1 MiB", { major: 16, walSegmentSizeMb: 1, checksums: false }],
  ["WAL segments of 64 MiB", { major: 18, walSegmentSizeMb: 64, checksums: true }],
  ["wal_compression = pglz", { major: 14, checksums: true, settings: { wal_compression: "on" } }],
  ["wal_level = logical", { major: 15, checksums: false, settings: { wal_level: "logical" } }],
  ["wal_log_hints = on", { major: 17, checksums: false, settings: { wal_log_hints: "on" } }],
  ["wal_consistency_checking = all", {
    major: 17,
    checksums: true,
    settings: { wal_consistency_checking: "all" },
  }],
  ["full_page_writes = off", { major: 18, checksums: false, settings: { full_page_writes: "off" } }],
];

for (const [name, options] of VARIANTS) {
  test(`follow() keeps every page with ${name}`, async () => {
    const random = seededRandom(`variant ${name}`);
    await using directory = await temporaryDirectory("variant");
    await using cluster = await startCluster({
      ...options,
      settings: { max_prepared_transactions: 20, ...options.settings },
    });
    const store = await testStore(directory.path);
    const following = await followCluster(cluster, store);
    await mixedWorkload(cluster, { seed: random.seed, seconds: WORKLOAD_SECONDS });
    await cluster.stop("fast");
    await following.follower.stop();
    await following.close();
    const result = await judgeStoppedCluster(cluster, store, name);
    assert.is(result.differenceCount, 0);
    assert.is(result.unsupported, 0);
    await store.close();
  });
}

test.run();
