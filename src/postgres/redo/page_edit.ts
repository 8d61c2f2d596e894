/**
 * The verbs that redo has on a page, but for compaction (page_compaction.ts): PostgreSQL's bufpage.c, byte for byte.
 *
 * Read path, inside replay. Every function checks the header, offset numbers and lengths that it is about to use and
 * throws {@linkcode CorruptionError} before it changes anything; none can touch a byte outside the page.
 *
 * Source: PostgreSQL src/backend/storage/page/bufpage.c (14-18).
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import {
  BLCKSZ,
  FirstOffsetNumber,
  LP_NORMAL,
  LP_UNUSED,
  MAXALIGN,
  type Page,
  PG_PAGE_LAYOUT_VERSION,
  SizeOfItemId,
  SizeOfPageHeaderData,
} from "../page/page.ts";

/** `MaxHeapTuplesPerPage` for 8 KiB pages. */
export const MaxHeapTuplesPerPage = 291;

/** `PageInit`: zeroes the page and lays out an empty one with `specialSize` bytes (rounded up to 8) at its end. */
export function pageInit(page: Page, specialSize: number): void {
  if (specialSize < 0 || specialSize > BLCKSZ - SizeOfPageHeaderData) {
    throw new CorruptionError(`Cannot initialise a page with a special space of ${specialSize} bytes`);
  }
  page.u32.fill(0);
  page.lower = SizeOfPageHeaderData;
  page.upper = BLCKSZ - MAXALIGN(specialSize);
  page.special = page.upper;
  page.pagesizeVersion = BLCKSZ | PG_PAGE_LAYOUT_VERSION;
}

/**
 * `PageAddItemExtended` with a given offset number: puts `size` bytes of `source` on the page.
 *
 * @param offnum Where the line pointer goes, 1 to one past the last.
 * @param overwrite True (`PAI_OVERWRITE`, heap): the line pointer, if it exists, must be unused. False (indexes): later
 * line pointers move up by one.
 * @returns The item's byte offset on the page, so that callers can patch bytes of it.
 */
export function pageAddItem(
  page: Page,
  source: Uint8Array,
  sourceOffset: number,
  size: number,
  offnum: number,
  overwrite: boolean,
): number {
  checkSource(source, sourceOffset, size);
  const upper = pageReserveItem(page, size, offnum, overwrite);
  copyToPage(page, upper, source, sourceOffset, size);
  return upper;
}

/** Refuses to take bytes that the source does not have. */
function checkSource(source: Uint8Array, offset: number, size: number): void {
  if (offset < 0 || size < 0 || offset + size > source.length) {
    throw new CorruptionError(
      `Cannot put an item on a page: ${size} bytes at ${offset} of a source of ${source.length}`,
    );
  }
}

/** The first half of {@linkcode pageAddItem}: line pointer and space, without the bytes. Returns the item's offset. */
export function pageReserveItem(page: Page, size: number, offnum: number, overwrite: boolean): number {
  page.checkPointers();
  const limit = page.maxOffsetNumber() + 1;
  if (offnum < FirstOffsetNumber || offnum > limit) {
    throw new CorruptionError("Cannot add an item beyond the first unused line pointer", {
      expected: `1..${limit}`,
      got: offnum,
    });
  }
  let lower = page.lower;
  const shuffle = offnum < limit && !overwrite;
  if (offnum === limit || shuffle) lower += SizeOfItemId;
  else if (page.itemFlags(offnum) !== LP_UNUSED || page.itemLength(offnum) !== 0) {
    throw new CorruptionError(`Cannot overwrite line pointer ${offnum}: it is in use`);
  }
  const upper = page.upper - MAXALIGN(size);
  if (lower > upper) {
    throw new CorruptionError(
      `Cannot add an item of ${size} bytes: page has ${page.upper - page.lower} free`,
    );
  }
  // Line pointer n is u32[5 + n].
  if (shuffle) page.u32.copyWithin(6 + offnum, 5 + offnum, 5 + limit);
  page.setItemId(offnum, upper, LP_NORMAL, size);
  page.lower = lower;
  page.upper = upper;
  return upper;
}

/** Copies bytes; a loop for short runs, where `set` on a subarray costs more than it moves. */
export function copyBytes(
  target: Uint8Array,
  targetOffset: number,
  source: Uint8Array,
  sourceOffset: number,
  length: number,
): void {
  if (length < 32) {
    for (let index = 0; index < length; index++) target[targetOffset + index] = source[sourceOffset + index];
  } else {
    target.set(source.subarray(sourceOffset, sourceOffset + length), targetOffset);
  }
}

/** Runs of bytes of these lengths are copied by words. */
const SHORTEST_BY_WORDS = 16;
const LONGEST_BY_WORDS = 512;

// Records of one batch, and of one block of a layer, lie in one buffer: its words are viewed once for all of them, from the
// second on, for a view costs more than it saves once.
let lastSource: Uint8Array | undefined;
let viewedSource: Uint8Array | undefined;
let sourceWords: Uint32Array = new Uint32Array(0);
/** Where the source's first byte lies in the first of its words. */
let sourceSkew = 0;

function viewWords(source: Uint8Array): void {
  viewedSource = source;
  sourceSkew = source.byteOffset & 3;
  const start = source.byteOffset - sourceSkew;
  sourceWords = new Uint32Array(source.buffer, start, (source.buffer.byteLength - start) >> 2);
}

/**
 * {@linkcode copyBytes} to a page, quicker for the lengths that tuples have. The caller has checked both ranges.
 */
export function copyToPage(page: Page, to: number, source: Uint8Array, from: number, length: number): void {
  if (source !== viewedSource && source === lastSource) viewWords(source);
  lastSource = source;
  const isByWords = source === viewedSource && length >= SHORTEST_BY_WORDS && length <= LONGEST_BY_WORDS &&
    from + length + sourceSkew <= sourceWords.length * 4;
  if (isByWords) copyWords(page, to, source, from, length, sourceWords, sourceSkew);
  else copyBytes(page.u8, to, source, from, length);
}

/** The same from one place of the page to another. The caller has checked both ranges; they do not overlap. */
export function copyOnPage(page: Page, to: number, from: number, length: number): void {
  const { u8 } = page;
  if (length > LONGEST_BY_WORDS) u8.copyWithin(to, from, from + length);
  else if (length >= SHORTEST_BY_WORDS) copyWords(page, to, u8, from, length, page.u32, 0);
  else for (let index = 0; index < length; index++) u8[to + index] = u8[from + index];
}

/** Copies whole words, put together from two of the source's where the alignments differ. */
function copyWords(
  page: Page,
  to: number,
  source: Uint8Array,
  from: number,
  length: number,
  words: Uint32Array,
  skew: number,
): void {
  const { u8, u32 } = page;
  const end = to + length;
  while ((to & 3) !== 0) u8[to++] = source[from++];
  const shift = ((from + skew) & 3) << 3;
  let word = (from + skew) >> 2;
  from += (end & ~3) - to;
  let target = to >> 2;
  if (shift === 0) { while (target < end >> 2) u32[target++] = words[word++]; }
  else {
    let low = words[word++] >>> shift;
    while (target < end >> 2) {
      const next = words[word++] | 0;
      u32[target++] = low | next << (32 - shift);
      low = next >>> shift;
    }
  }
  for (to = end & ~3; to < end; to++) u8[to] = source[from++];
}

/** Checks one stored item, given its line pointer, before compaction and returns its aligned length. */
export function checkedStorage(word: number, offnum: number, upper: number, special: number): number {
  const off = word & 0x7fff;
  const aligned = MAXALIGN(word >>> 17);
  if (off < upper || off + aligned > special || (off & 7) !== 0) {
    throw new CorruptionError(
      `Cannot compact a page: line pointer ${offnum} has offset ${off} and length ${word >>> 17}`,
    );
  }
  return aligned;
}

/** Checks that an index tuple may be deleted or replaced, and returns its offset. */
function checkedIndexTuple(page: Page, offnum: number): number {
  page.checkPointers();
  const nline = page.maxOffsetNumber();
  if (offnum < FirstOffsetNumber || offnum > nline) {
    throw new CorruptionError("Cannot find the index tuple", { expected: `1..${nline}`, got: offnum });
  }
  checkedStorage(page.itemId(offnum), offnum, page.upper, page.special);
  return page.itemOffset(offnum);
}

/** Moves the tuple space below `offset` up by `shift` bytes (down when negative) and adjusts the line pointers. */
function shiftTuples(page: Page, offset: number, shift: number, nline: number): void {
  const { upper } = page;
  if (offset > upper && shift !== 0) page.u8.copyWithin(upper + shift, upper, offset);
  page.upper = upper + shift;
  const { u32 } = page;
  for (let slot = 5 + FirstOffsetNumber; slot <= 5 + nline; slot++) {
    const word = u32[slot] | 0;
    // All ones where the item has storage, and lies at or below `offset`: no branch that could be foretold wrongly.
    const isBelow = ((word & 0x7fff) - offset - 1 & (0 - (word >>> 17))) >> 31;
    u32[slot] = word + (shift & isBelow) | 0;
  }
}

/** `PageIndexTupleDelete`: removes an index tuple and its line pointer. */
export function pageIndexTupleDelete(page: Page, offnum: number): void {
  const offset = checkedIndexTuple(page, offnum);
  const size = MAXALIGN(page.itemLength(offnum));
  const nline = page.maxOffsetNumber();
  page.u32.copyWithin(5 + offnum, 6 + offnum, 6 + nline);
  page.lower -= SizeOfItemId;
  shiftTuples(page, offset, size, nline - 1);
}

/**
 * {@linkcode pageIndexTupleDelete}, then {@linkcode pageAddItem} at the same place: the new tuple lies below all others,
 * and no line pointer but its own has moved.
 */
export function pageIndexTupleReplace(
  page: Page,
  offnum: number,
  source: Uint8Array,
  sourceOffset: number,
  size: number,
): void {
  const offset = checkedIndexTuple(page, offnum);
  checkSource(source, sourceOffset, size);
  const oldSize = MAXALIGN(page.itemLength(offnum));
  const upper = page.upper + oldSize - MAXALIGN(size);
  if (page.lower > upper) {
    throw new CorruptionError(
      `Cannot replace an item by one of ${size} bytes: page has ${page.upper + oldSize - page.lower} free`,
    );
  }
  shiftTuples(page, offset, oldSize, page.maxOffsetNumber());
  page.setItemId(offnum, upper, LP_NORMAL, size);
  page.upper = upper;
  copyToPage(page, upper, source, sourceOffset, size);
}

/** `PageIndexTupleDeleteNoCompact` (BRIN): removes a tuple, keeps its line pointer unused unless it is the last. */
export function pageIndexTupleDeleteNoCompact(page: Page, offnum: number): void {
  const offset = checkedIndexTuple(page, offnum);
  const size = MAXALIGN(page.itemLength(offnum));
  let nline = page.maxOffsetNumber();
  if (offnum < nline) page.u32[5 + offnum] = 0;
  else {
    page.lower -= SizeOfItemId;
    nline--;
  }
  shiftTuples(page, offset, size, nline);
}

/** `PageIndexTupleOverwrite`: replaces an index tuple in place, moving others as its size changes. */
export function pageIndexTupleOverwrite(
  page: Page,
  offnum: number,
  source: Uint8Array,
  sourceOffset: number,
  newSize: number,
): void {
  const offset = checkedIndexTuple(page, offnum);
  const oldSize = MAXALIGN(page.itemLength(offnum));
  const alignedNewSize = MAXALIGN(newSize);
  checkSource(source, sourceOffset, newSize);
  if (alignedNewSize > oldSize + (page.upper - page.lower)) {
    throw new CorruptionError(`Cannot overwrite index tuple ${offnum}: ${newSize} bytes do not fit`);
  }
  const shift = oldSize - alignedNewSize;
  if (shift !== 0) shiftTuples(page, offset, shift, page.maxOffsetNumber());
  page.setItemId(offnum, offset + shift, page.itemFlags(offnum), newSize);
  copyToPage(page, offset + shift, source, sourceOffset, newSize);
}
