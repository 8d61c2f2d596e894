/**
 * What the simulated server has written: its WAL, and a model that says what every page was at every LSN.
 *
 * A few small relations whose pages are images, records that put four bytes into one of sixteen slots, pages of zeros that
 * a fork grew over, and truncations. A page shows its last sixteen changes, so that one that is lost, doubled or out of
 * order can be seen for long. The model knows nothing of layers. A few histories serve all seeds: making one takes longer
 * than a run.
 *
 * @module
 */
import { getU16, getU32, setU16, setU32 } from "../../src/bytes/little_endian.ts";
import { type Lsn, lsn } from "../../src/lsn.ts";
import {
  FAMILY_CLUSTER_STATE,
  FAMILY_RELATION,
  FAMILY_RELATION_SIZE,
  VALUE_RAW,
} from "../../src/layer/key.ts";
import { type LayerSummary, LayerWriter } from "../../src/layer/layer_writer.ts";
import { ClusterState, encodeClusterState } from "../../src/postgres/effects/cluster_state.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { encodeSize } from "../../src/timeline/sizes.ts";
import { DB, imageRecord, pageRecord, SPC, TEST_MAJOR, truncateRecord } from "../support/made_wal.ts";
import { joined } from "../support/layers.ts";
import { SeededRandom } from "../support/random.ts";
import { WalBuilder } from "../support/wal_builder.ts";
import { TEST_FACTS } from "../support/written_timeline.ts";

/** Histories that there are; a seed has one of them. */
export const HISTORIES = 16;
export const RELATIONS = [16384, 16390, 16999];
const RECORDS = 2400;
const BLOCKS_MAX = 14;
const SLOTS = 16;
const SLOTS_AT = 100;
/** Where the free space of pages begins that came as an image. */
const LOWER = 200;
const PAGE_BYTES = 8192;
export const SEGMENT_START = 0x1_0200_0000;
/** pd_lsn of the pages in the base backup: before all WAL. */
const BASE_PAGE_LSN = 0x1_0100_0000;

/** A page as the model has it. */
interface PageVersion {
  lsn: Lsn;
  /** pd_lsn; 0 on a page of zeros. */
  pageLsn: number;
  /** It came as an image, and has a header. */
  header: boolean;
  slots: Uint32Array;
}

interface ModelRelation {
  /** Ascending by LSN. */
  sizes: { lsn: Lsn; blocks: number }[];
  /** By block, ascending by LSN. */
  pages: PageVersion[][];
}

/** See the module's description. */
export class History {
  /** Where the timeline begins, and its WAL. */
  readonly startLsn: Lsn;
  /** The end of the base backup. */
  readonly consistentLsn: Lsn;
  readonly wal: Uint8Array;
  /** Ends of records, ascending. */
  readonly ends: Lsn[] = [];
  /** The image layer that the base backup made. */
  readonly base: { file: Uint8Array; summary: LayerSummary };
  readonly #relations = new Map<number, ModelRelation>();
  readonly #random: SeededRandom;
  #counter = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    const builder = new WalBuilder({
      profile: profileOfMajor(TEST_MAJOR),
      walSegmentSize: TEST_FACTS.walSegmentSize,
      startLsn: SEGMENT_START as Lsn,
      systemId: BigInt(TEST_FACTS.systemId),
    });
    // The first record begins behind the header of its page.
    this.startLsn = lsn(SEGMENT_START + PAGE_BYTES - builder.roomOnPage);
    for (const rel of RELATIONS) {
      this.#relations.set(rel, {
        sizes: [{ lsn: this.startLsn, blocks: 0 }],
        pages: Array.from({ length: BLOCKS_MAX }, () => []),
      });
    }
    this.base = this.#baseBackup();
    for (let n = 0; n < RECORDS; n++) {
      const { record, apply } = this.#draw();
      const { endLsn } = builder.add(record);
      apply(endLsn);
      this.ends.push(endLsn);
    }
    this.consistentLsn = this.ends[3];
    this.wal = builder.bytes.slice();
  }

  /** WAL from one position to another. */
  walBetween(from: Lsn, to: Lsn): Uint8Array {
    return this.wal.slice(from - SEGMENT_START, to - SEGMENT_START);
  }

  get endLsn(): Lsn {
    return lsn(SEGMENT_START + this.wal.length);
  }

  /** Blocks of a relation at an LSN; 0 also before it exists. */
  sizeAt(rel: number, at: Lsn): number {
    const { sizes } = this.#relations.get(rel)!;
    return sizes[lastAtOrBelow(sizes, at)]?.blocks ?? 0;
  }

  /** What is wrong with a page that was read, or undefined if it is as the server had it. */
  judgePage(rel: number, block: number, at: Lsn, page: Uint8Array): string | undefined {
    const versions = this.#relations.get(rel)!.pages[block];
    const version = versions[lastAtOrBelow(versions, at)];
    const pageLsn = getU32(page, 0) * 0x1_0000_0000 + getU32(page, 4);
    if (pageLsn !== version.pageLsn) return `pd_lsn: expected ${hex(version.pageLsn)}, got ${hex(pageLsn)}`;
    for (let slot = 0; slot < SLOTS; slot++) {
      const got = getU32(page, SLOTS_AT + slot * 4);
      if (got !== version.slots[slot]) return `slot ${slot}: expected ${version.slots[slot]}, got ${got}`;
    }
    const lower = version.header ? LOWER : 0;
    if (getU16(page, 12) !== lower) return `pd_lower: expected ${lower}, got ${getU16(page, 12)}`;
    for (let at = SLOTS_AT + SLOTS * 4; at < PAGE_BYTES; at++) {
      if (page[at] !== 0) return `byte ${at}: expected 0, got ${page[at]}`;
    }
    return undefined;
  }

  /** Ends of records between two positions, both included. */
  endsBetween(from: Lsn, to: Lsn): readonly Lsn[] {
    let low = 0;
    while (low < this.ends.length && this.ends[low] < from) low++;
    let high = low;
    while (high < this.ends.length && this.ends[high] <= to) high++;
    return this.ends.slice(low, high);
  }

  #baseBackup(): { file: Uint8Array; summary: LayerSummary } {
    const at = this.startLsn;
    const writer = new LayerWriter({ kind: "image", lsnStart: at });
    const [rel] = RELATIONS;
    for (let block = 0; block < 4; block++) {
      const version = {
        lsn: at,
        pageLsn: BASE_PAGE_LSN,
        header: true,
        slots: new Uint32Array(SLOTS).fill(block + 1),
      };
      this.#relations.get(rel)!.pages[block].push(version);
      const page = pageOf(version);
      writer.add(
        { family: FAMILY_RELATION, a: SPC, b: DB, c: rel, d: 0 },
        block,
        at,
        VALUE_RAW,
        page,
        0,
        page.length,
      );
    }
    this.#relations.get(rel)!.sizes = [{ lsn: at, blocks: 4 }];
    const size = encodeSize(4, 4);
    writer.add(
      { family: FAMILY_RELATION_SIZE, a: SPC, b: DB, c: rel, d: 0 },
      0,
      at,
      VALUE_RAW,
      size,
      0,
      size.length,
    );
    const state = encodeClusterState(new ClusterState());
    writer.add(
      { family: FAMILY_CLUSTER_STATE, a: 0, b: 0, c: 0, d: 0 },
      0,
      at,
      VALUE_RAW,
      state,
      0,
      state.length,
    );
    const summary = writer.finish();
    return { file: joined(writer.take()), summary };
  }

  #draw(): { record: Uint8Array; apply(end: Lsn): void } {
    const random = this.#random;
    const rel = random.weighted([[6, RELATIONS[0]], [3, RELATIONS[1]], [1, RELATIONS[2]]] as const);
    const relation = this.#relations.get(rel)!;
    const blocks = relation.sizes[relation.sizes.length - 1].blocks;
    if (blocks > 2 && random.chance(0.01)) {
      const to = random.int(0, blocks - 1);
      return {
        record: truncateRecord(rel, to),
        apply: (end) => void relation.sizes.push({ lsn: end, blocks: to }),
      };
    }
    const grows = blocks === 0 || (blocks < BLOCKS_MAX && random.chance(0.04));
    const block = grows
      ? Math.min(BLOCKS_MAX - 1, blocks + random.pick([0, 0, 0, 1, 2]))
      : random.int(0, blocks - 1);
    const before = block < blocks ? relation.pages[block].at(-1)! : undefined;
    const value = ++this.#counter;
    const slot = value % SLOTS;
    const apply = (end: Lsn, header: boolean, old: Uint32Array | undefined) => {
      // Whatever the fork grew over reads as zeros.
      for (let gap = blocks; gap < block; gap++) {
        relation.pages[gap].push({ lsn: end, pageLsn: 0, header: false, slots: new Uint32Array(SLOTS) });
      }
      const slots = new Uint32Array(SLOTS);
      if (old !== undefined) slots.set(old);
      slots[slot] = value;
      relation.pages[block].push({ lsn: end, pageLsn: end, header, slots });
      if (block >= blocks) relation.sizes.push({ lsn: end, blocks: block + 1 });
    };
    if (random.chance(0.12)) {
      const slots = new Uint32Array(SLOTS);
      if (before !== undefined) slots.set(before.slots);
      slots[slot] = value;
      const image = pageOf({ lsn: 0 as Lsn, pageLsn: 0, header: true, slots });
      return {
        record: imageRecord({ block, rel, image, holeAt: LOWER }),
        apply: (end) => apply(end, true, before?.slots),
      };
    }
    const init = before !== undefined && random.chance(0.03);
    const put = [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
    return {
      record: pageRecord({ block, rel, put, at: SLOTS_AT + slot * 4, init }),
      apply: (end) => apply(end, !init && (before?.header ?? false), init ? undefined : before?.slots),
    };
  }
}

function pageOf({ pageLsn, header, slots }: PageVersion): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES);
  setU32(page, 0, Math.floor(pageLsn / 0x1_0000_0000));
  setU32(page, 4, pageLsn >>> 0);
  if (header) {
    setU16(page, 12, LOWER);
    setU16(page, 14, PAGE_BYTES);
    setU16(page, 16, PAGE_BYTES);
    setU16(page, 18, PAGE_BYTES | 4);
  }
  slots.forEach((value, slot) => setU32(page, SLOTS_AT + slot * 4, value));
  return page;
}

/** Index of the last one at or below the LSN, -1 if there is none. */
function lastAtOrBelow(versions: readonly { lsn: Lsn }[], at: Lsn): number {
  let low = 0;
  let high = versions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (versions[middle].lsn <= at) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function hex(value: number): string {
  return value.toString(16);
}

const histories = new Map<number, History>();

/** The history of a seed. */
export function historyOf(seed: number): History {
  const number = seed % HISTORIES;
  let history = histories.get(number);
  if (history === undefined) histories.set(number, history = new History(number));
  return history;
}
