/**
 * Ten thousand random faults of the store under a workload of writes and reads: every read is right or ends in an error that
 * says what to do, and nothing that was acknowledged is lost.
 *
 * @module
 */
import {
  CorruptionError,
  FencedError,
  NotFoundError,
  UnavailableError,
  VarveError,
} from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { type AttachedTimeline, attachReader } from "../../src/read/attach.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { retrying } from "../../src/store/retrying.ts";
import { FastClock } from "../support/fast_clock.ts";
import { FaultyStore } from "../support/faulty_store.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, imageRecord, pageRecord, SPC } from "../support/made_wal.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { SeededRandom, seededRandom } from "../support/random.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("system/random faults", { timeoutMs: 360_000, sanitize: false });

const REL = 16384;
const RELATION = { spc: SPC, db: DB, rel: REL };
const BLOCKS = 24;
const FAULTS = 10_000;

/** What the pages were after each record. */
interface Moment {
  lsn: Lsn;
  pages: (number | undefined)[];
}

/** Fails unless a page is what it was; a typed error of the store's kind is allowed. */
async function check(attached: AttachedTimeline, moment: Moment, block: number): Promise<boolean> {
  try {
    const page = await attached.reader.getPage(RELATION, 0, block, moment.lsn);
    assert.is(page[100], moment.pages[block], `block ${block} at ${moment.lsn}`);
    return true;
  } catch (error) {
    if (!(error instanceof VarveError)) throw error;
    if (error instanceof NotFoundError && moment.pages[block] === undefined) return true;
    assert.ok(
      error instanceof UnavailableError || error instanceof CorruptionError,
      `${error.name}: ${error.message}`,
    );
    return false;
  }
}

test("ten thousand faults: reads are right or refused by class, and what was acknowledged is there at the end", async () => {
  const random = seededRandom("random faults");
  const below = new MemoryStore();
  const faulty = new FaultyStore(below, new SeededRandom(random.seed + 1));
  const clock = new FastClock(1000);
  clock.random = () => random.float();
  // Few tries, so that errors come through as well.
  const store = retrying(faulty, { clock, attempts: 2, backoff: { initialMs: 1, maxMs: 2 } });
  const moments: Moment[] = [];
  let pages: (number | undefined)[] = Array(BLOCKS);
  let written = await WrittenTimeline.open({ store, clock });
  let acknowledged = 0 as Lsn;
  let right = 0;
  let refused = 0;
  let lives = 1;
  const startedMs = performance.now();
  while (faulty.total < FAULTS && performance.now() - startedMs < 240_000) {
    faulty.rate = 0.3;
    for (let n = random.int(1, 20); n > 0; n--) {
      const block = random.int(0, BLOCKS - 1);
      const byte = random.int(1, 255);
      const record = pages[block] !== undefined && random.chance(0.6)
        ? pageRecord({ block, put: [byte] })
        : imageRecord({ block, image: filledPage(byte) });
      const lsn = await written.writeOne(record);
      pages = [...pages];
      // The blocks in between exist from now on too, as zeros.
      for (let below = 0; below < block; below++) pages[below] ??= 0;
      pages[block] = byte;
      moments.push({ lsn, pages });
    }
    written.timeline.freeze();
    await written.flush();
    acknowledged = written.timeline.remoteConsistentLsn;
    const local = random.chance(0.5) ? new MemoryLocalLayers() : undefined;
    const fetching = { hotShare: random.pick([0, 0.1, 0.5]), localBytes: random.pick([50_000, 1e9]) };
    const cacheBytes = random.pick([1, 100_000, 10_000_000]);
    const reader = await attachReader({ store, clock, local, fetching, cacheBytes }).catch(expected);
    if (reader === undefined) continue;
    const reads = Array.from({ length: 60 }, () => {
      const known = moments.filter(({ lsn }) => lsn <= reader.timeline.lastRecordLsn);
      return check(
        reader,
        known[random.int(Math.max(0, known.length - 200), known.length - 1)],
        random.int(0, BLOCKS - 1),
      );
    });
    for (const outcome of await Promise.all(reads)) outcome ? right++ : refused++;
    await reader.close();
    assert.is(local?.temporary.size ?? 0, 0);
    if (!random.chance(0.2)) continue;
    // The writer dies, and another takes over from what the store has.
    await written.attached.close();
    faulty.rate = 0.1;
    for (;;) {
      const next = await WrittenTimeline.open({ store, clock }).catch(expected);
      if (next === undefined) continue;
      written = next;
      break;
    }
    lives++;
    const reached = written.timeline.lastRecordLsn;
    assert.ok(reached >= acknowledged, "what was acknowledged is there");
    while (moments.length > 0 && moments.at(-1)!.lsn > reached) moments.pop();
    pages = moments.at(-1)!.pages;
  }
  faulty.rate = 0;
  const attached = await attachReader({ store: below, clock });
  assert.ok(attached.timeline.lastRecordLsn >= acknowledged);
  for (const moment of moments.filter(({ lsn }) => lsn <= acknowledged).filter(() => random.chance(0.1))) {
    for (let block = 0; block < BLOCKS; block++) {
      assert.ok(await check(attached, moment, block), "no faults, no errors");
    }
  }
  await attached.close();
  await written.close();
  console.log(
    `${faulty.total} faults (${JSON.stringify(faulty.faults)}): ${right} reads right, ${refused} refused, ` +
      `${lives} writers, ${moments.length} records`,
  );
  assert.ok(faulty.total >= FAULTS, `${faulty.total} faults`);
  // How many come right depends on the sizes of the caches that were drawn: about half of some thousand.
  assert.ok(right > 500 && refused > 500, `${right} right, ${refused} refused`);
});

/** An attempt that the store has failed. */
function expected(error: unknown): undefined {
  if (error instanceof UnavailableError || error instanceof CorruptionError || error instanceof FencedError) {
    return;
  }
  throw error;
}

test.run();
