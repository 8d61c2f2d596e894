/**
 * The stopped primary, every access method, all majors: the workloads that reach every redo of each manager are followed
 * through the whole path, and after a clean shutdown every page must equal the server's files.
 *
 * @module
 */
import { runBrinWorkload } from "../postgres/redo/brin_workload.ts";
import { runBtreeWorkload } from "../postgres/redo/btree_workload.ts";
import { runGenericWorkload } from "../postgres/redo/generic_workload.ts";
import { runGinWorkload } from "../postgres/redo/gin_workload.ts";
import { runFollowableGistWorkload } from "../postgres/redo/gist_workload.ts";
import { runHashWorkload } from "../postgres/redo/hash_workload.ts";
import { runSpgistWorkload } from "../postgres/redo/spgist_workload.ts";
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, POSTGRES_MAJORS, type PostgresMajor, startCluster } from "../support/postgres.ts";
import { temporaryDirectory } from "../support/temp.ts";

const test = suite("system/access methods", { timeoutMs: 180_000, sanitize: false });

const WORKLOADS: [manager: string, run: (cluster: Cluster) => Promise<void>][] = [
  ["Btree", runBtreeWorkload],
  ["Hash", runHashWorkload],
  ["Gin", runGinWorkload],
  ["Gist", runFollowableGistWorkload],
  ["SPGist", runSpgistWorkload],
  ["BRIN", runBrinWorkload],
  ["Generic", runGenericWorkload],
];

for (const major of POSTGRES_MAJORS) {
  test(`follow() keeps every page of every access method of PostgreSQL ${major}`, async () => {
    for (const [manager, run] of WORKLOADS) await followWorkload(major, manager, run);
  });
}

/** One workload on a server of its own: they use the same names for their tables. */
async function followWorkload(
  major: PostgresMajor,
  manager: string,
  run: (cluster: Cluster) => Promise<void>,
): Promise<void> {
  await using directory = await temporaryDirectory("access-methods");
  await using cluster = await startCluster({
    major,
    checksums: major % 2 === 0,
    settings: { autovacuum: "off", max_prepared_transactions: 20, max_wal_size: "4GB" },
  });
  const store = await testStore(directory.path);
  const following = await followCluster(cluster, store);
  try {
    await run(cluster);
    await cluster.stop("fast");
    await following.follower.stop();
  } finally {
    await following.follower.abort();
    await following.close();
  }
  const result = await judgeStoppedCluster(cluster, store, `${manager}, PostgreSQL ${major}`);
  assert.is(result.differenceCount, 0);
  assert.is(result.unsupported, 0);
  // Pages of extensions cannot be told from their bytes.
  if (manager !== "Generic") assert.ok(result.pages[manager] > 0, `${manager} pages were compared`);
  await store.close();
}

test.run();
