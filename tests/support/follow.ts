/**
 * Following a cluster of a test into a store, with what tests want: small flushes, no events on the console.
 *
 * @module
 */
import { postgresSource } from "../../src/deps/postgres_source.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { FilesStore } from "../../src/store/files.ts";
import { attachReader } from "../../src/read/attach.ts";
import { follow, type Following, type FollowOptions } from "../../src/varve.ts";
import { resolveConnection } from "../../src/write/source/connection_options.ts";
import { assertNoDifferences, compareWithStopped, type Comparison } from "./compare.ts";
import type { Cluster } from "./postgres.ts";
import { waitFor } from "./wait.ts";

/** Bytes of WAL per flush in tests: small, so that there are many layers. */
export const TEST_CHECKPOINT_DISTANCE = 8 * 1024 * 1024;

/** Follows a cluster; see `follow()`. Resolves when it is connected: a server that stops waits for those only. */
export async function followCluster(
  cluster: Cluster,
  store: ObjectStore,
  options: Partial<FollowOptions> = {},
): Promise<Following> {
  const connection = await resolveConnection({ url: cluster.replicationUrl });
  const following = await follow({
    store,
    clock: systemClock,
    source: { ...postgresSource, connection },
    checkpointDistance: TEST_CHECKPOINT_DISTANCE,
    // Tests that count layers want them as the flush made them.
    upkeep: false,
    ...options,
  });
  await waitFor(() => following.connection.current.isConnected, { what: "the follower is connected" });
  return following;
}

/** A directory store without fsync. */
export async function testStore(path: string): Promise<FilesStore> {
  return await FilesStore.open({ path, fsync: false, syncReadLimit: 1 << 20 });
}

/** Compares a cleanly stopped cluster with what a fresh reader finds in the store; fails on any difference. */
export async function judgeStoppedCluster(
  cluster: Cluster,
  store: ObjectStore,
  what: string,
): Promise<Comparison> {
  const attached = await attachReader({ store, clock: systemClock });
  try {
    const result = await compareWithStopped(
      cluster.dataDir,
      attached.reader,
      attached.timeline.lastRecordLsn,
    );
    assertNoDifferences(result, what);
    return result;
  } finally {
    await attached.close();
  }
}
