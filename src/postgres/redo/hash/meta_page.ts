/**
 * The hash index metapage, and what redo changes on it.
 *
 * Read path, inside replay. Every insertion into a hash index touches this page, so its edits allocate nothing.
 *
 * HashMetaPageData behind the page header (PostgreSQL src/include/access/hash.h, 14-18; little-endian):
 * ```
 * offset width name
 *     24     4 hashm_magic
 *     28     4 hashm_version
 *     32     8 hashm_ntuples     double
 *     40     2 hashm_ffactor
 *     42     2 hashm_bsize
 *     44     2 hashm_bmsize
 *     46     2 hashm_bmshift
 *     48     4 hashm_maxbucket
 *     52     4 hashm_highmask
 *     56     4 hashm_lowmask
 *     60     4 hashm_ovflpoint   the spares entry that grows
 *     64     4 hashm_firstfree
 *     68     4 hashm_nmaps
 *     72     4 hashm_procid
 *     76  4*98 hashm_spares      overflow pages before each splitpoint
 *    468 4*1024 hashm_mapp       block numbers of the bitmap pages
 *   4568       end (pd_lower)
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../../errors.ts";
import { type Page, SizeOfPageHeaderData } from "../../page/page.ts";
import {
  checkHashPage,
  HASH_SPECIAL,
  initHashPage,
  InvalidBlockNumber,
  InvalidBucket,
  LH_META_PAGE,
} from "./page_layout.ts";

const HASH_MAGIC = 0x6440640;
const HASH_VERSION = 4;
const HASH_MAX_SPLITPOINTS = 98;
const HASH_MAX_BITMAPS = 1024;
const HASH_SPLITPOINT_PHASE_BITS = 2;
const HASH_SPLITPOINT_PHASE_MASK = 3;
const HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE = 10;
const MAX_BUCKETS = 0x4000_0000;
const META_END = 4568;

/** Indexes into `Page.u32`. */
const MAGIC = 6;
const VERSION = 7;
const NTUPLES = 8;
const MAXBUCKET = 12;
const HIGHMASK = 13;
const LOWMASK = 14;
const OVFLPOINT = 15;
const FIRSTFREE = 16;
const NMAPS = 17;
const PROCID = 18;
const SPARES = 19;
const MAPP = SPARES + HASH_MAX_SPLITPOINTS;
/** Indexes into `Page.u16`. */
const FFACTOR = 20;
const BSIZE = 21;
const BMSIZE = 22;
const BMSHIFT = 23;

// One double and its two words: pages have no view of doubles.
const double = new Float64Array(1);
const doubleWords = new Uint32Array(double.buffer);

function checkMetaPage(page: Page): void {
  checkHashPage(page);
  if (page.u32[MAGIC] !== HASH_MAGIC) {
    throw new CorruptionError("Cannot edit a hash metapage: wrong magic number", {
      expected: HASH_MAGIC,
      got: page.u32[MAGIC],
    });
  }
}

/** Adds to the count of tuples; negative to subtract. */
export function addTuples(page: Page, change: number): void {
  checkMetaPage(page);
  doubleWords[0] = page.u32[NTUPLES];
  doubleWords[1] = page.u32[NTUPLES + 1];
  double[0] += change;
  page.u32[NTUPLES] = doubleWords[0];
  page.u32[NTUPLES + 1] = doubleWords[1];
}

/** Sets the count of tuples, given as the two words of a double. */
export function setTuples(page: Page, low: number, high: number): void {
  checkMetaPage(page);
  page.u32[NTUPLES] = low;
  page.u32[NTUPLES + 1] = high;
}

export function setFirstFree(page: Page, bit: number): void {
  checkMetaPage(page);
  page.u32[FIRSTFREE] = bit;
}

/** Counts one more overflow page (or bitmap page) at the end of the index. */
export function addSpare(page: Page): void {
  checkMetaPage(page);
  page.u32[SPARES + checkedSplitpoint(page.u32[OVFLPOINT])]++;
}

/** Appends a bitmap page to the list of them. */
export function addBitmapPage(page: Page, block: number): void {
  checkMetaPage(page);
  const nmaps = page.u32[NMAPS];
  if (nmaps >= HASH_MAX_BITMAPS) {
    throw new CorruptionError("Cannot add a hash bitmap page", {
      expected: `below ${HASH_MAX_BITMAPS}`,
      got: nmaps,
    });
  }
  page.u32[MAPP + nmaps] = block;
  page.u32[NMAPS] = nmaps + 1;
}

/** The first bitmap page comes right after the initial buckets, which come right after the metapage. */
export function addFirstBitmapPage(page: Page): void {
  addBitmapPage(page, page.u32[MAXBUCKET] + 2);
}

export function setMaxBucket(page: Page, bucket: number): void {
  checkMetaPage(page);
  page.u32[MAXBUCKET] = bucket;
}

export function setMasks(page: Page, lowMask: number, highMask: number): void {
  checkMetaPage(page);
  page.u32[LOWMASK] = lowMask;
  page.u32[HIGHMASK] = highMask;
}

/** Starts a splitpoint, with as many overflow pages before it as given. */
export function setSplitpoint(page: Page, splitpoint: number, spares: number): void {
  checkMetaPage(page);
  page.u32[SPARES + checkedSplitpoint(splitpoint)] = spares;
  page.u32[OVFLPOINT] = splitpoint;
}

function checkedSplitpoint(splitpoint: number): number {
  if (splitpoint >= HASH_MAX_SPLITPOINTS) {
    throw new CorruptionError("Cannot use a hash splitpoint", {
      expected: `below ${HASH_MAX_SPLITPOINTS}`,
      got: splitpoint,
    });
  }
  return splitpoint;
}

/** `_hash_init_metabuffer`: the metapage of an index that expects `tuples` tuples, `ffactor` to a bucket. */
export function initMetaPage(page: Page, tuples: number, procid: number, ffactor: number): void {
  if (!(tuples >= 0) || ffactor === 0) {
    throw new CorruptionError(`Cannot make a hash metapage for ${tuples} tuples, ${ffactor} to a bucket`);
  }
  const wanted = tuples / ffactor;
  let buckets = 2;
  if (wanted >= MAX_BUCKETS) buckets = MAX_BUCKETS;
  else if (wanted > 2) buckets = totalBuckets(spareIndex(Math.floor(wanted)));
  const splitpoint = spareIndex(buckets);

  initHashPage(page, InvalidBlockNumber, InvalidBucket, LH_META_PAGE);
  const { u16, u32 } = page;
  u32[MAGIC] = HASH_MAGIC;
  u32[VERSION] = HASH_VERSION;
  u16[FFACTOR] = ffactor;
  u16[BSIZE] = HASH_SPECIAL - SizeOfPageHeaderData;
  // The largest power of two that fits.
  const shift = 31 - Math.clz32(u16[BSIZE]);
  u16[BMSIZE] = 1 << shift;
  u16[BMSHIFT] = shift + 3;
  u32[MAXBUCKET] = buckets - 1;
  u32[HIGHMASK] = 2 ** ceilLog2(buckets + 1) - 1;
  u32[LOWMASK] = u32[HIGHMASK] >>> 1;
  u32[PROCID] = procid;
  u32[SPARES + splitpoint] = 1;
  u32[OVFLPOINT] = splitpoint;
  page.lower = META_END;
}

function ceilLog2(value: number): number {
  return value <= 1 ? 0 : 32 - Math.clz32(value - 1);
}

/** `_hash_spareindex`: the splitpoint phase of a number of buckets. */
function spareIndex(buckets: number): number {
  const group = ceilLog2(buckets);
  if (group < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) return group;
  return HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE +
    ((group - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) << HASH_SPLITPOINT_PHASE_BITS) +
    (((buckets - 1) >>> (group - HASH_SPLITPOINT_PHASE_BITS - 1)) & HASH_SPLITPOINT_PHASE_MASK);
}

/** `_hash_get_totalbuckets`: buckets that exist after a splitpoint phase. */
function totalBuckets(phase: number): number {
  if (phase < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) return 1 << phase;
  const later = phase - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE;
  const before = 2 ** (HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE + (later >> HASH_SPLITPOINT_PHASE_BITS) - 1);
  return before + before / 4 * ((later & HASH_SPLITPOINT_PHASE_MASK) + 1);
}
