/**
 * Compaction and images under a load like pgbench's: layers per read, latency, bytes, and what ingest pays for it.
 *
 * One server, three timelines. Two are begun before the load and then take in the same WAL as fast as they can, one
 * without upkeep, one with; the third follows the load as it happens, with upkeep, and is where a steady load leaves it.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { FAMILY_RELATION, type KeySpace } from "../../src/layer/key.ts";
import { ValueChain } from "../../src/layer/value_chain.ts";
import { type Lsn, parseLsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import type { FilesStore } from "../../src/store/files.ts";
import type { Following } from "../../src/varve.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { SeededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { createTpcb, runTpcb } from "../support/tpcb.ts";
import { waitFor } from "../support/wait.ts";

const MIB = 1024 * 1024;
const CHECKPOINT_DISTANCE = Number(Deno.env.get("DISTANCE_MIB") ?? 8) * MIB;
const DISTANCES = 20;
const SCALE = Number(Deno.env.get("SCALE") ?? 2);
const READS = 2000;
const POLICY = { layerBytes: CHECKPOINT_DISTANCE / 2, intervalMs: 1000 };

/** Follows until all that the server has is durable; returns bytes per second. */
async function catchUp(cluster: Cluster, following: Following): Promise<number> {
  const { timeline } = following;
  const [{ lsn }] = await cluster.sql()`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
  const startedMs = performance.now();
  await timeline.waitForRecord(parseLsn(lsn));
  return timeline.walBytes / (performance.now() - startedMs) * 1000;
}

/** Resolves when upkeep has nothing to do. */
async function settled({ upkeep }: Following): Promise<void> {
  await waitFor(() => upkeep?.isIdle, { what: "upkeep has nothing to do", timeoutMs: 300_000 });
}

function quantiles(values: number[], digits: number): string {
  values.sort((left, right) => left - right);
  const at = (share: number) =>
    values[Math.min(values.length - 1, Math.floor(values.length * share))].toFixed(digits);
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}`;
}

interface PageToRead {
  space: KeySpace;
  block: number;
}

/** Pages that exist at an LSN: half of them any page, half of any relation, so that small busy ones are among them. */
async function pagesAt(store: FilesStore, lsn: Lsn): Promise<PageToRead[]> {
  const attached = await attachReader({ store, clock: systemClock });
  const sizes = (await attached.reader.listSizes(FAMILY_RELATION, lsn)).filter(({ space, blocks }) =>
    space.d === 0 && space.c >= 16384 && (blocks ?? 0) > 0
  );
  await attached.close();
  const all = sizes.flatMap(({ space, blocks }) =>
    Array.from({ length: blocks! }, (_, block) => ({ space, block }))
  );
  const random = new SeededRandom(1);
  return Array.from({ length: READS }, (_, read) => {
    if (read % 2 === 0) return random.pick(all);
    const { space, blocks } = random.pick(sizes);
    return { space, block: random.int(0, blocks! - 1) };
  });
}

/** What reading a page takes: layers visited, values in its chain, milliseconds once all is in the cache. */
interface PageCost {
  layers: number;
  chain: number;
  ms: number;
}

async function readPages(store: FilesStore, pages: readonly PageToRead[], lsn: Lsn): Promise<PageCost[]> {
  const attached = await attachReader({ store, clock: systemClock, cacheBytes: 512 * MIB });
  const { reader, timeline, fetcher } = attached;
  const costs: PageCost[] = [];
  for (const { space, block } of pages) {
    const before = fetcher.counters.layersVisited;
    const chain = new ValueChain();
    await fetcher.collect(timeline.layers, space, block, lsn, chain);
    const layers = fetcher.counters.layersVisited - before;
    const relation = { spc: space.a, db: space.b, rel: space.c };
    await reader.getPage(relation, 0, block, lsn);
    const startedMs = performance.now();
    await reader.getPage(relation, 0, block, lsn);
    costs.push({ layers, chain: chain.length, ms: performance.now() - startedMs });
  }
  await attached.close();
  return costs;
}

/** Chain lengths before compaction, as they are grouped. */
const CHAINS = [[1, 1], [2, 10], [11, 50], [51, 100], [101, Infinity]] as const;

/** The same pages out of both stores, side by side. */
async function compareReads(what: string, without: FilesStore, steady: FilesStore, lsn: Lsn): Promise<void> {
  const pages = await pagesAt(without, lsn);
  const before = await readPages(without, pages, lsn);
  const after = await readPages(steady, pages, lsn);
  for (const [name, costs] of [["without", before], ["steady", after]] as const) {
    const layers = quantiles(costs.map((cost) => cost.layers), 0);
    const chains = quantiles(costs.map((cost) => cost.chain), 0);
    console.log(`${what}, ${name}: layers per read ${layers}; chain ${chains}`);
  }
  for (const [from, to] of CHAINS) {
    const chosen = before.flatMap(({ chain }, read) => chain >= from && chain <= to ? [read] : []);
    if (chosen.length === 0) continue;
    const times = (costs: PageCost[]) => quantiles(chosen.map((read) => costs[read].ms), 3);
    console.log(
      `${what}, getPage warm, chains of ${from} to ${to} (${chosen.length} pages), ms: without ${
        times(before)
      }; steady ${times(after)}`,
    );
  }
}

function printStore(what: string, following: Following, walBytes: number): void {
  const { timeline, upkeep } = following;
  const { deltaCount, imageCount, totalBytes } = timeline.layers;
  console.log(
    `${what}: ${deltaCount} delta and ${imageCount} image layers, ${
      (totalBytes / MIB).toFixed(0)
    } MiB with the base backup, ${(walBytes / MIB).toFixed(0)} MiB of WAL`,
  );
  if (upkeep === undefined) return;
  const { flushedBytes, deltaBytes, imageBytes, compactions, imageLayers } = upkeep.counters;
  console.log(
    `${what}: write amplification ${upkeep.writeAmplification?.toFixed(2)} of flushed bytes, ${
      ((flushedBytes + deltaBytes + imageBytes) / walBytes).toFixed(2)
    } of WAL; ${compactions} compactions wrote ${(deltaBytes / MIB).toFixed(0)} MiB, ${imageLayers} images ${
      (imageBytes / MIB).toFixed(0)
    } MiB, flushes ${(flushedBytes / MIB).toFixed(0)} MiB`,
  );
  console.log(
    `${what}: ${
      ((flushedBytes + deltaBytes + imageBytes) / walBytes).toFixed(2)
    } bytes written to the store for each byte of WAL`,
  );
}

/** Prints all of it. */
export async function compactionBench(): Promise<void> {
  await using directory = await temporaryDirectory("compaction-bench");
  await using cluster = await startCluster({
    major: 17,
    checksums: false,
    settings: { autovacuum: "on", checkpoint_timeout: "1h", max_wal_size: "4GB", synchronous_commit: "off" },
  });
  await createTpcb(cluster, SCALE);
  await cluster.sql()`CHECKPOINT`;
  const open = (name: string) => testStore(`${directory.path}/${name}`);
  const options = { checkpointDistance: CHECKPOINT_DISTANCE };
  const [plain, fast, steady] = [await open("plain"), await open("fast"), await open("steady")];
  // Two of each, in turns, for machines are noisy.
  const again = { plain: await open("plain-again"), fast: await open("fast-again") };
  const runs = [
    { name: "plain", store: plain, upkeep: false },
    { name: "fast", store: fast, upkeep: POLICY },
    { name: "fast_again", store: again.fast, upkeep: POLICY },
    { name: "plain_again", store: again.plain, upkeep: false },
  ] as const;
  for (const { name, store } of runs) {
    const following = await followCluster(cluster, store, { ...options, slot: name });
    await catchUp(cluster, following);
    await following.follower.stop();
    await following.close();
  }
  const live = await followCluster(cluster, steady, { ...options, slot: "steady", upkeep: POLICY });
  const half = DISTANCES / 2 * CHECKPOINT_DISTANCE;
  let walBytes = await runTpcb(cluster, half, 3 * CHECKPOINT_DISTANCE);
  await catchUp(cluster, live);
  const halfway = live.timeline.lastRecordLsn;
  walBytes += await runTpcb(cluster, half, 3 * CHECKPOINT_DISTANCE);
  await catchUp(cluster, live);
  const newest = live.timeline.lastRecordLsn;
  await live.flusher.flushAll();
  await settled(live);
  printStore("steady", live, walBytes);
  await live.follower.stop();
  await live.close();

  const best = { without: 0, with: 0 };
  for (const { name, store, upkeep } of runs) {
    const following = await followCluster(cluster, store, { ...options, slot: name, upkeep });
    const speed = await catchUp(cluster, following);
    console.log(`${name}: ingest ${(speed / 1e6).toFixed(1)} MB/s`);
    const kind = upkeep === false ? "without" : "with";
    best[kind] = Math.max(best[kind], speed);
    await following.flusher.flushAll();
    if (name === "fast") await settled(following);
    if (name === "plain" || name === "fast") printStore(name, following, walBytes);
    await following.follower.stop();
    await following.close();
  }
  console.log(
    `ingest while compacting: ${(best.with / best.without).toFixed(2)}x of without, the best of two each`,
  );
  await compareReads("newest", plain, steady, newest);
  await compareReads("half-way back", plain, steady, halfway);
  for (const store of [plain, fast, steady, again.plain, again.fast]) await store.close();
}

if (import.meta.main) await compactionBench();
