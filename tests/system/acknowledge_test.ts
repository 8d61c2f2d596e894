/**
 * What the server is told: nothing beyond the level asked for, and at the level `disk` nothing is lost when the process is
 * gone before the store had it.
 *
 * @module
 */
import { UnavailableError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { parseLsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { openLocalLayers } from "../../src/store/local_layers.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { followCluster, judgeStoppedCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/acknowledge", { timeoutMs: 120_000, sanitize: false });

/** A store that can be made to refuse all writes. */
function switchable(store: ObjectStore): { store: ObjectStore; away: boolean } {
  const state = { away: false, store };
  state.store = new Proxy(store, {
    get(target, name) {
      if (name === "put") {
        return (...args: Parameters<ObjectStore["put"]>) =>
          state.away ? Promise.reject(new UnavailableError("The store is away")) : target.put(...args);
      }
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return state;
}

async function flushed(cluster: Cluster): Promise<Lsn> {
  const [row] = await cluster
    .sql()`SELECT coalesce(flush_lsn, '0/0')::text AS lsn FROM pg_stat_replication WHERE application_name = 'varve'`;
  return parseLsn(row?.lsn ?? "0/0");
}

test("follow() acknowledges at the level store only what the manifest names", async () => {
  const random = seededRandom("acknowledge store");
  await using directory = await temporaryDirectory("acknowledge");
  await using cluster = await startCluster({
    major: 17,
    checksums: false,
    settings: { max_prepared_transactions: 20 },
  });
  const state = switchable(new MemoryStore());
  const local = await openLocalLayers(directory.path);
  const following = await followCluster(cluster, state.store, { local, checkpointDistance: 1024 * 1024 });
  state.away = true;
  const durable = following.timeline.remoteConsistentLsn;
  try {
    await mixedWorkload(cluster, { seed: random.seed, rounds: 2, keepPrepared: false });
    await waitFor(() => following.timeline.diskConsistentLsn > durable, { what: "a layer is on disk" });
    assert.is(following.timeline.remoteConsistentLsn, durable);
    const told = await flushed(cluster);
    assert.ok(told <= durable, `nothing is acknowledged that only the disk has: ${told} <= ${durable}`);
  } finally {
    await following.follower.abort();
    await following.close();
  }
});

test("follow() at the level disk acknowledges local layers, and a restart brings them to the store", async () => {
  const random = seededRandom("acknowledge disk");
  await using directory = await temporaryDirectory("acknowledge");
  await using cluster = await startCluster({
    major: 17,
    checksums: false,
    settings: { max_prepared_transactions: 20 },
  });
  const state = switchable(new MemoryStore());
  const local = await openLocalLayers(directory.path);
  const options = { local, acknowledge: "disk" as const, checkpointDistance: 1024 * 1024 };
  const following = await followCluster(cluster, state.store, options);
  state.away = true;
  const durable = following.timeline.remoteConsistentLsn;
  await mixedWorkload(cluster, { seed: random.seed, rounds: 2, keepPrepared: false });
  await waitFor(() => following.timeline.diskConsistentLsn > durable, { what: "a layer is on disk" });
  const onDisk = following.timeline.diskConsistentLsn;
  await waitFor(async () => await flushed(cluster) >= onDisk, { what: "the server is told" });
  await following.follower.abort();
  await following.close();

  state.away = false;
  const messages: string[] = [];
  const again = await followCluster(cluster, state.store, {
    ...options,
    local: await openLocalLayers(directory.path),
    events: ({ topic }) => messages.push(topic),
  });
  assert.ok(again.manifest.diskConsistentLsn >= onDisk, "what was acknowledged is in the store");
  assert.ok(messages.includes("follow.adopted"));
  await mixedWorkload(cluster, { seed: random.seed + 1, rounds: 1 });
  await waitFor(() => again.connection.current.caughtUp, { what: "the follower has caught up" });
  await cluster.stop("fast");
  await again.follower.stop();
  await again.close();
  const result = await judgeStoppedCluster(cluster, state.store, "acknowledged from disk");
  assert.is(result.differenceCount, 0);
});

test.run();
