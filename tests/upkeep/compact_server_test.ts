/**
 * Upkeep beside a follower of a real server under a load like pgbench's: few layers per read, bounded writes, nothing
 * changed in any page, and the stopped primary as judge.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { FAMILY_RELATION } from "../../src/layer/key.ts";
import { ValueChain } from "../../src/layer/value_chain.ts";
import { type Lsn, parseLsn } from "../../src/lsn.ts";
import { type AttachedTimeline, attachReader } from "../../src/read/attach.ts";
import { lsnOfTimestamp, timestampOfLsn } from "../../src/read/time.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import type { Following } from "../../src/varve.ts";
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { startCluster } from "../support/postgres.ts";
import { SeededRandom, seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { createTpcb, runTpcb } from "../support/tpcb.ts";
import { waitFor } from "../support/wait.ts";

const test = suite("upkeep/server", { timeoutMs: 480_000, sanitize: false });

const MIB = 1024 * 1024;
const CHECKPOINT_DISTANCE = 2 * MIB;
const DISTANCES = 20;
const LAYERS_P99_MAX = 4;
const AMPLIFICATION_MAX = 6;
const PAST_LSNS = 5;
const SAMPLES = 400;

/** Random pages of all relations at an LSN. */
async function randomPages({ reader }: AttachedTimeline, random: SeededRandom, lsn: Lsn, count: number) {
  const sizes = (await reader.listSizes(FAMILY_RELATION, lsn)).filter(({ blocks }) => (blocks ?? 0) > 0);
  return Array.from({ length: count }, () => {
    const { space, blocks } = random.pick(sizes);
    return { space, block: random.int(0, blocks! - 1) };
  });
}

/** Pages of the past, as one number each, and when it was. */
async function fingerprints(
  attached: AttachedTimeline,
  seed: SeededRandom,
  lsns: readonly Lsn[],
): Promise<number[]> {
  const found: number[] = [];
  for (const lsn of lsns) {
    const moment = await timestampOfLsn(attached.reader, lsn);
    found.push(moment!.unixMicros);
    // Of the last moment WAL to come may say more.
    if (lsn !== lsns.at(-1)) found.push((await lsnOfTimestamp(attached.reader, moment!.unixMicros)).lsn);
    for (const { space, block } of await randomPages(attached, seed, lsn, SAMPLES / PAST_LSNS)) {
      const page = await attached.reader.getPage(
        { spc: space.a, db: space.b, rel: space.c },
        space.d,
        block,
        lsn,
      );
      let hash = lsn % 0x7fff_ffff;
      for (const byte of page) hash = (Math.imul(hash, 31) + byte) | 0;
      found.push(hash);
    }
  }
  return found;
}

/** The most layers that a read visits, but for one in a hundred. */
async function layersPerRead(attached: AttachedTimeline, random: SeededRandom): Promise<number> {
  const { timeline, fetcher } = attached;
  const lsn = timeline.lastRecordLsn;
  const counts: number[] = [];
  for (const { space, block } of await randomPages(attached, random, lsn, 1000)) {
    const before = fetcher.counters.layersVisited;
    await fetcher.collect(timeline.layers, space, block, lsn, new ValueChain());
    counts.push(fetcher.counters.layersVisited - before);
  }
  counts.sort((left, right) => left - right);
  return counts[Math.floor(counts.length * 0.99)];
}

test(`upkeep under a steady load of ${DISTANCES} checkpoint distances, broken off and taken up again`, async () => {
  const random = seededRandom("upkeep/server");
  await using directory = await temporaryDirectory("upkeep-server");
  await using cluster = await startCluster({
    major: 17,
    checksums: true,
    settings: { max_wal_size: "1GB", checkpoint_timeout: "1h", synchronous_commit: "off" },
  });
  await createTpcb(cluster, 1);
  const store = await testStore(directory.path);
  const options = {
    checkpointDistance: CHECKPOINT_DISTANCE,
    upkeep: { layerBytes: 4 * MIB, intervalMs: 500 },
  };
  const part = DISTANCES / 4 * CHECKPOINT_DISTANCE;
  const written = { flushed: 0, deltas: 0, images: 0 };
  const count = ({ upkeep }: Following) => {
    const { flushedBytes, deltaBytes, imageBytes } = upkeep!.counters;
    written.flushed += flushedBytes;
    written.deltas += deltaBytes;
    written.images += imageBytes;
  };
  // Twice broken off in the middle of whatever it is doing.
  for (let round = 0; round < 2; round++) {
    const following = await followCluster(cluster, store, options);
    await runTpcb(cluster, part, 3 * CHECKPOINT_DISTANCE);
    await following.follower.abort();
    await following.close();
    count(following);
  }
  const following = await followCluster(cluster, store, options);
  await runTpcb(cluster, 2 * part, 3 * CHECKPOINT_DISTANCE);
  const [{ lsn }] = await cluster.sql()`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
  await following.timeline.waitForRecord(parseLsn(lsn));
  await following.flusher.flushAll();
  const upkeep = following.upkeep!;
  await waitFor(() => upkeep.isIdle, { what: "upkeep has nothing to do", timeoutMs: 180_000 });
  assert.ok(upkeep.counters.compactions + upkeep.counters.imageLayers > 0, "there was something to do");
  assert.is(upkeep.counters.failures, 0);
  count(following);
  const amplification = (written.flushed + written.deltas + written.images) / written.flushed;
  const visited = await layersPerRead(following, random);
  console.log(
    `upkeep/server: write amplification ${amplification.toFixed(2)}, layers per read at p99 ${visited}`,
    written,
  );
  assert.ok(amplification <= AMPLIFICATION_MAX, `write amplification ${amplification}`);
  assert.ok(visited <= LAYERS_P99_MAX, `${visited} layers per read at p99`);
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const result = await judgeStoppedCluster(cluster, store, "after upkeep");
  assert.is(result.differenceCount, 0);
  assert.is(result.unsupported, 0);
  await store.close();
});

test("compact() and makeImages() by a guest change no page of the past", async () => {
  const random = seededRandom("upkeep/server past");
  await using directory = await temporaryDirectory("upkeep-past");
  await using cluster = await startCluster({
    major: 15,
    checksums: false,
    settings: { checkpoint_timeout: "1h" },
  });
  await createTpcb(cluster, 1);
  const store = await testStore(directory.path);
  const following = await followCluster(cluster, store, { checkpointDistance: CHECKPOINT_DISTANCE });
  const lsns: Lsn[] = [];
  for (let round = 0; round < PAST_LSNS; round++) {
    await runTpcb(cluster, CHECKPOINT_DISTANCE, 2 * CHECKPOINT_DISTANCE);
    const [{ lsn }] = await cluster.sql()`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
    await following.timeline.waitForRecord(parseLsn(lsn));
    lsns.push(following.timeline.lastRecordLsn);
  }
  await following.flusher.flushAll();
  const attached = await attachReader({ store, clock: systemClock });
  const seed = random.uint32();
  const before = await fingerprints(attached, new SeededRandom(seed), lsns);
  const target = UpkeepTarget.ofGuest({ attached, store, clock: systemClock });
  const options = { everything: true, layerBytes: 4 * MIB };
  const done = await compact(target, options);
  assert.ok(done!.inputs >= PAST_LSNS);
  const made = await makeImages(target, options);
  assert.ok(made!.images > 0);
  await attached.close();
  // The follower goes on, and learns of it by its next commit.
  await runTpcb(cluster, CHECKPOINT_DISTANCE, 2 * CHECKPOINT_DISTANCE);
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const again = await attachReader({ store, clock: systemClock });
  assert.equal(await fingerprints(again, new SeededRandom(seed), lsns), before);
  assert.ok(again.timeline.layers.layers().some(({ level }) => level === 1));
  await again.close();
  const result = await judgeStoppedCluster(cluster, store, "after a guest's upkeep");
  assert.is(result.differenceCount, 0);
  await store.close();
});

test.run();
