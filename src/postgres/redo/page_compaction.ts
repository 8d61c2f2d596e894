/**
 * Making room on a page: tuples move together at its end, in the order of their line pointers.
 *
 * Read path, inside replay, beside page_edit.ts; pruning spends most of its time here. Tuples that lie together move
 * together: one pass over the line pointers finds such runs, the next moves them. Everything is checked before anything
 * changes, but that line pointers without a use are cleared.
 *
 * Source: PostgreSQL src/backend/storage/page/bufpage.c (14-18; the layout that compaction leaves is the one that
 * PostgreSQL 14 introduced: tuples in reverse line pointer order).
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import {
  BLCKSZ,
  FirstOffsetNumber,
  LP_UNUSED,
  MAXALIGN,
  type Page,
  PD_HAS_FREE_LINES,
  SizeOfItemId,
  SizeOfPageHeaderData,
} from "../page/page.ts";
import { checkedStorage, pageIndexTupleDelete } from "./page_edit.ts";

// Redo is synchronous, so that one of each is enough. 2048 bounds line pointers of any page.
const scratchBytes = new Uint8Array(BLCKSZ);
const scratchWords = new Uint32Array(scratchBytes.buffer);
/** Of each run: the line pointer that it begins with, where its first tuple ends, where its last one starts. */
const runOffnums = new Uint16Array(BLCKSZ / SizeOfItemId);
const runEnds = new Uint16Array(BLCKSZ / SizeOfItemId);
const runStarts = new Uint16Array(BLCKSZ / SizeOfItemId);

/** From this many bytes on `set` and `copyWithin` are quicker than a loop over words. */
const LONG_RUN = 128;
/** The `lp_flags` bits of a line pointer. */
const LP_FLAGS = 3 << 15;

// What `findRuns` found.
let runCount = 0;
let isDescending = false;
let unusedCount = 0;

/**
 * Finds the runs: tuples of neighbouring line pointers of which each lies right before the one before it. Line pointers
 * without storage do not part a run; unused ones are cleared.
 *
 * @throws {CorruptionError} If a tuple is not stored where it can be, or tuples take more than there is.
 */
function findRuns(page: Page, nline: number): void {
  const { u32, special } = page;
  let [unused, totalLength] = [0, 0];
  // Where the run's last tuple starts so far. The first run begins at the end, where it belongs; it may be empty.
  let start: number = special;
  runCount = 0;
  runEnds[0] = special;
  isDescending = true;
  for (let offnum = FirstOffsetNumber; offnum <= nline; offnum++) {
    const word = u32[5 + offnum] | 0;
    if ((word & LP_FLAGS) === 0) {
      u32[5 + offnum] = 0;
      unused++;
      continue;
    }
    // Redirects and tuples alternate as chance has it: no branch that could be foretold wrongly, but all ones or zeros.
    const length = word >>> 17;
    const aligned = MAXALIGN(length);
    const isStored = -length >> 31;
    if ((((word & 0x7fff) + aligned - start) & isStored) === 0) start -= aligned;
    else {
      totalLength += endRun(page, nline, start);
      beginRun(word, offnum, start);
      start = word & 0x7fff;
    }
  }
  totalLength += endRun(page, nline, start);
  checkTotal(page, totalLength);
  unusedCount = unused;
}

/** Notes where the run's last tuple starts, after checking that all of it lies where tuples may. Returns its length. */
function endRun(page: Page, nline: number, start: number): number {
  const end = runEnds[runCount];
  if (start < page.upper || end > page.special || (start & 7) !== 0) throw misplacedItem(page, nline);
  runStarts[runCount] = start;
  return end - start;
}

/** Begins a run with this line pointer's tuple, behind one whose last tuple starts at `lastStart`. */
function beginRun(word: number, offnum: number, lastStart: number): void {
  const offset = word & 0x7fff;
  if (offset >= lastStart) isDescending = false;
  runCount++;
  runOffnums[runCount] = offnum;
  runEnds[runCount] = offset + MAXALIGN(word >>> 17);
}

function checkTotal(page: Page, totalLength: number): void {
  if (totalLength > page.special - page.lower) {
    throw new CorruptionError(
      `Cannot compact a page: items take ${totalLength} bytes of ${page.special - page.lower}`,
    );
  }
}

/** The error for the first tuple of the page that {@linkcode checkedStorage} refuses. */
function misplacedItem(page: Page, nline: number): CorruptionError {
  for (let offnum = FirstOffsetNumber; offnum <= nline; offnum++) {
    const word = page.itemId(offnum);
    if (word >>> 17 !== 0) checkedStorage(word, offnum, page.upper, page.special);
  }
  return new CorruptionError("Cannot compact a page: an item is misplaced");
}

/**
 * `compactify_tuples`: moves the runs together at the end of the page, in the order of their line pointers, and sets
 * `pd_upper`. Alignment padding travels with its tuple.
 */
function moveRuns(page: Page, nline: number): void {
  const { u8, u32 } = page;
  // The first run is in its place. In descending order all others move towards the end of the page, and none overwrites
  // what is still to be moved.
  let upper = runStarts[0];
  if (runCount > 0 && !isDescending) {
    scratchBytes.set(u8.subarray(page.upper, page.special), page.upper);
  }
  runOffnums[runCount + 1] = nline + 1;
  for (let run = 1; run <= runCount; run++) {
    const start = runStarts[run];
    const end = runEnds[run];
    upper -= end - start;
    const shift = upper - start;
    if (shift === 0) continue;
    if (isDescending) moveRun(page, upper, start, end);
    else bringRun(page, upper, start, end);
    const behind = 5 + runOffnums[run + 1];
    for (let slot = 5 + runOffnums[run]; slot < behind; slot++) {
      const word = u32[slot] | 0;
      u32[slot] = word + (shift & -(word >>> 17) >> 31) | 0;
    }
  }
  page.upper = upper;
}

/** Moves bytes of the page to where they are to be, further behind; all offsets are multiples of 8. */
function moveRun(page: Page, to: number, start: number, end: number): void {
  if (end - start >= LONG_RUN) {
    page.u8.copyWithin(to, start, end);
    return;
  }
  const { u32 } = page;
  let target = to + end - start >> 2;
  for (let source = end >> 2; source > start >> 2;) u32[--target] = u32[--source];
}

/** The same out of the page's copy in `scratchBytes`. */
function bringRun(page: Page, to: number, start: number, end: number): void {
  if (end - start >= LONG_RUN) {
    page.u8.set(scratchBytes.subarray(start, end), to);
    return;
  }
  const { u32 } = page;
  let target = to >> 2;
  for (let source = start >> 2; source < end >> 2; source++) u32[target++] = scratchWords[source];
}

/** `PageRepairFragmentation`: compacts a heap page, drops trailing unused line pointers, sets PD_HAS_FREE_LINES. */
export function pageRepairFragmentation(page: Page): void {
  page.checkPointers();
  const nline = page.maxOffsetNumber();
  findRuns(page, nline);
  moveRuns(page, nline);
  let lastUsed = nline;
  while (lastUsed > 0 && page.u32[5 + lastUsed] === 0) lastUsed--;
  const unusedAtEnd = nline - lastUsed;
  page.lower -= unusedAtEnd * SizeOfItemId;
  setHasFreeLines(page, unusedCount > unusedAtEnd);
}

/** `PageTruncateLinePointerArray` (heap, second pass of VACUUM): drops trailing unused line pointers, but keeps one. */
export function pageTruncateLinePointerArray(page: Page): void {
  let nunusedEnd = 0;
  let countDone = false;
  let setHint = false;
  for (let offnum = page.maxOffsetNumber(); offnum >= FirstOffsetNumber; offnum--) {
    const used = page.itemFlags(offnum) !== LP_UNUSED;
    if (!countDone && offnum > FirstOffsetNumber) {
      if (used) countDone = true;
      else nunusedEnd++;
    } else if (!used) {
      setHint = true;
      break;
    }
  }
  page.lower -= nunusedEnd * SizeOfItemId;
  setHasFreeLines(page, setHint);
}

function setHasFreeLines(page: Page, value: boolean): void {
  page.flags = value ? page.flags | PD_HAS_FREE_LINES : page.flags & ~PD_HAS_FREE_LINES;
}

/**
 * `PageIndexMultiDelete`: removes several index tuples at once.
 *
 * @param offnums Offset numbers in ascending order, `count` of them.
 */
export function pageIndexMultiDelete(
  page: Page,
  offnums: ArrayLike<number>,
  count: number = offnums.length,
): void {
  page.checkPointers();
  // PostgreSQL takes this path for up to two items; the result differs from compaction when tuples are out of order.
  if (count <= 2) {
    for (let index = count - 1; index >= 0; index--) pageIndexTupleDelete(page, offnums[index]);
    return;
  }
  const { u32, upper, special } = page;
  const nline = page.maxOffsetNumber();
  let [next, totalLength] = [0, 0];
  for (let offnum = FirstOffsetNumber; offnum <= nline; offnum++) {
    const word = u32[5 + offnum];
    const aligned = checkedStorage(word, offnum, upper, special);
    if ((word & LP_FLAGS) === 0) {
      throw new CorruptionError(`Cannot compact a page: line pointer ${offnum} is unused`);
    }
    if (next < count && offnums[next] === offnum) next++;
    else totalLength += aligned;
  }
  if (next !== count) {
    throw new CorruptionError(
      `Cannot delete index tuples: offset number ${offnums[next]} is out of order or range`,
    );
  }
  checkTotal(page, totalLength);
  // Line pointers close up first.
  let kept = 0;
  for (let offnum = FirstOffsetNumber, deleted = 0; offnum <= nline; offnum++) {
    if (deleted < count && offnums[deleted] === offnum) deleted++;
    else u32[6 + kept++] = u32[5 + offnum];
  }
  page.lower = SizeOfPageHeaderData + kept * SizeOfItemId;
  findRuns(page, kept);
  moveRuns(page, kept);
}
