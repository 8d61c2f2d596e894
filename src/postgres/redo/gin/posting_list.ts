/**
 * Compressed posting lists: ascending heap TIDs as differences.
 *
 * Read path, inside replay. A record that adds TIDs to a list carries only those, so redo must compress exactly as
 * PostgreSQL does. Because an encoding depends on neighbours only, all that lies between two insertions is copied as
 * it is; nothing is unpacked into arrays.
 *
 * GinPostingList (PostgreSQL src/include/access/ginblock.h, src/backend/access/gin/ginpostinglist.c, 14-18):
 * ```
 * offset width name
 *      0     6 first      the first TID
 *      6     2 nbytes     how many bytes follow
 *      8       bytes      per further TID, its difference from the one before, 7 bits a byte, low bits first; a set
 *                         high bit says that more follow. At most 7 bytes
 *              pad        to an even size, zero
 * ```
 * A TID is the number `block * 2048 + offset`, below 2^43.
 *
 * @module
 */
import { getU16, setU16 } from "../../../bytes/little_endian.ts";
import { CorruptionError } from "../../../errors.ts";
import { SizeOfItemPointerData, tidBlock, tidOffset } from "../../page/index_tuple.ts";
import { BLCKSZ } from "../../page/page.ts";
import { copyBytes } from "../page_edit.ts";

/** `offsetof(GinPostingList, bytes)`. */
export const SizeOfGinPostingListHeader = 8;

/** `1 << MaxHeapTuplesPerPageBits`. */
const OFFSETS_PER_BLOCK = 2048;
const MaxBytesPerInteger = 7;
const MAX_TID = 0x1_0000_0000 * OFFSETS_PER_BLOCK - 1;
/** Greater than every TID. */
const NO_TID = Infinity;

/** The list that {@linkcode mergeIntoList} and {@linkcode compressTids} made last. Redo is synchronous: one is enough. */
export const packedList = new Uint8Array(BLCKSZ);

// Where `packedList` ends so far, and the last TID in it.
let packedEnd = 0;
let packedTid = 0;
// Where `readVarbyte` stopped.
let readEnd = 0;

/**
 * `SizeOfGinPostingList`, after checking that the list lies before `end`.
 *
 * @throws {CorruptionError} If it does not.
 */
export function checkedListSize(bytes: Uint8Array, list: number, end: number): number {
  const room = end - list;
  const size = room < SizeOfGinPostingListHeader
    ? SizeOfGinPostingListHeader
    : SizeOfGinPostingListHeader + ((getU16(bytes, list + 6) + 1) & ~1);
  if (size > room) {
    throw new CorruptionError("Cannot use a posting list: it is cut off", { expected: size, got: room });
  }
  return size;
}

/** `itemptr_to_uint64`. */
function checkedTid(bytes: Uint8Array, offset: number): number {
  const posid = tidOffset(bytes, offset);
  if (posid === 0 || posid >= OFFSETS_PER_BLOCK) {
    throw new CorruptionError("Cannot use a TID of a posting list: offset number", {
      expected: `1..${OFFSETS_PER_BLOCK - 1}`,
      got: posid,
    });
  }
  return tidBlock(bytes, offset) * OFFSETS_PER_BLOCK + posid;
}

/** `decode_varbyte`; leaves the end in `readEnd`. */
function readVarbyte(bytes: Uint8Array, offset: number, end: number): number {
  let byte = bytes[offset++];
  let value = byte & 0x7f;
  // Three more bytes fit into 28 bits; beyond that, doubles.
  for (let shift = 7; byte >= 0x80 && shift < 28 && offset < end; shift += 7) {
    byte = bytes[offset++];
    value |= (byte & 0x7f) << shift;
  }
  for (let scale = 2 ** 28; byte >= 0x80 && scale <= 2 ** 42 && offset < end; scale *= 128) {
    byte = bytes[offset++];
    value += (byte & 0x7f) * scale;
  }
  if (byte >= 0x80) throw new CorruptionError("Cannot decode a posting list: a number does not end");
  readEnd = offset;
  return value;
}

// What `passShort` passed: where it stopped, and the last TID before that.
let passedTo = 0;
let passedTid = 0;

/**
 * Passes differences of up to three bytes, as nearly all are, whose TIDs come before `limit`. Stops before the first other
 * one, at the latest three bytes before the end.
 */
function passShort(bytes: Uint8Array, offset: number, end: number, from: number, limit: number): void {
  // Differences from the first TID are small integers; TIDs are not.
  const room = Math.min(limit - from, 0x3fffffff) | 0;
  let sum = 0;
  for (const last = end - 2; offset < last;) {
    const byte = bytes[offset];
    let delta = byte;
    let length = 1;
    if (byte >= 0x80) {
      const second = bytes[offset + 1];
      delta = (byte & 0x7f) | (second & 0x7f) << 7;
      length = 2;
      if (second >= 0x80) {
        const third = bytes[offset + 2];
        if (third >= 0x80) break;
        delta |= third << 14;
        length = 3;
      }
    }
    if (delta === 0 || sum + delta >= room) break;
    sum += delta;
    offset += length;
  }
  passedTo = offset;
  passedTid = from + sum;
}

function startPacking(tid: number, bytes: Uint8Array, offset: number): void {
  copyBytes(packedList, 0, bytes, offset, SizeOfItemPointerData);
  packedTid = tid;
  packedEnd = SizeOfGinPostingListHeader;
}

/** `encode_varbyte` of the difference from the TID before. */
function pack(tid: number): void {
  let delta = tid - packedTid;
  if (delta <= 0) {
    throw new CorruptionError("Cannot pack a posting list: TIDs are not ascending", {
      expected: `above ${packedTid}`,
      got: tid,
    });
  }
  if (packedEnd > BLCKSZ - MaxBytesPerInteger) throw listTooLong();
  while (delta > 0x7fffffff) {
    packedList[packedEnd++] = 0x80 | (delta % 128);
    delta = Math.floor(delta / 128);
  }
  while (delta > 0x7f) {
    packedList[packedEnd++] = 0x80 | (delta & 0x7f);
    delta >>>= 7;
  }
  packedList[packedEnd++] = delta;
  packedTid = tid;
}

/** Bytes that follow the TID packed last, and end with `tid`. */
function packRun(bytes: Uint8Array, from: number, to: number, tid: number): void {
  if (packedEnd + to - from > BLCKSZ) throw listTooLong();
  copyBytes(packedList, packedEnd, bytes, from, to - from);
  packedEnd += to - from;
  packedTid = tid;
}

function badDifference(last: number, value: number): CorruptionError {
  return new CorruptionError("Cannot use a posting list: TIDs are not ascending", {
    expected: `${last + 1}..${MAX_TID}`,
    got: value,
  });
}

function listTooLong(): CorruptionError {
  return new CorruptionError(`Cannot pack a posting list: it does not fit into ${BLCKSZ} bytes`);
}

/** Fills in the header and pads. Returns the list's size. */
function endPacking(): number {
  setU16(packedList, 6, packedEnd - SizeOfGinPostingListHeader);
  if ((packedEnd & 1) !== 0) packedList[packedEnd++] = 0;
  return packedEnd;
}

/**
 * `ginCompressPostingList`: packs `count` TIDs, at least one, into {@linkcode packedList}.
 *
 * @returns The list's size.
 * @throws {CorruptionError} If they are not ascending, or too many for a page.
 */
export function compressTids(bytes: Uint8Array, offset: number, count: number): number {
  startPacking(checkedTid(bytes, offset), bytes, offset);
  for (let index = 1; index < count; index++) {
    pack(checkedTid(bytes, offset + index * SizeOfItemPointerData));
  }
  return endPacking();
}

/**
 * What `ginPostingListDecode`, `ginMergeItemPointers` and `ginCompressPostingList` make together: the list with `count`
 * TIDs put in, in {@linkcode packedList}.
 *
 * @param list A list that {@linkcode checkedListSize} has seen.
 * @returns The new list's size.
 * @throws {CorruptionError} If either TIDs are not ascending, a TID is in both, or there are too many for a page.
 */
export function mergeIntoList(
  source: Uint8Array,
  list: number,
  tids: Uint8Array,
  tidsOffset: number,
  count: number,
): number {
  const end = list + SizeOfGinPostingListHeader + getU16(source, list + 6);
  // The list's next TID that is not packed yet, and where the bytes of the one after it start.
  let old = checkedTid(source, list);
  let next = list + SizeOfGinPostingListHeader;
  packedEnd = 0;
  for (let index = 0; index < count; index++) {
    const at = tidsOffset + index * SizeOfItemPointerData;
    const tid = checkedTid(tids, at);
    if (old < tid) {
      if (packedEnd === 0) startPacking(old, source, list);
      else pack(old);
      const runStart = next;
      passShort(source, next, end, old, tid);
      let [runEnd, last] = [passedTo, passedTid];
      next = runEnd;
      old = NO_TID;
      while (next < end) {
        const value = last + readVarbyte(source, next, end);
        if (value <= last || value > MAX_TID) throw badDifference(last, value);
        next = readEnd;
        if (value >= tid) {
          old = value;
          break;
        }
        last = value;
        runEnd = next;
      }
      packRun(source, runStart, runEnd, last);
    }
    if (packedEnd === 0 && old !== tid) startPacking(tid, tids, at);
    else if (old !== tid) pack(tid);
    else throw new CorruptionError(`Cannot add a TID to a posting list: ${tid} is there already`);
  }
  if (old !== NO_TID) {
    if (packedEnd === 0) startPacking(old, source, list);
    else pack(old);
    packRun(source, next, end, MAX_TID);
  }
  return endPacking();
}
