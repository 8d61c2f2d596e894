/**
 * Posting list tuples: one btree key with several heap TIDs.
 *
 * Read path, inside replay: the byte work that `_bt_swap_posting` and its kin of nbtdedup.c do, in place. A tuple is
 * checked once by {@linkcode checkedPosting}; after that its list lies inside its item.
 *
 * Posting list tuple (PostgreSQL src/include/access/nbtree.h, 14-18):
 * ```
 * offset width name
 *      0     4 t_tid block    where the list starts in the tuple (`BTreeTupleGetPostingOffset`)
 *      4     2 t_tid posid    BT_IS_POSTING | number of TIDs
 *      6     2 t_info         INDEX_ALT_TID_MASK set
 *      8       key
 *   list   6*n heap TIDs, ascending
 * ```
 *
 * @module
 */
import { getU16, setU16 } from "../../../bytes/little_endian.ts";
import { CorruptionError } from "../../../errors.ts";
import {
  INDEX_AM_RESERVED_BIT,
  INDEX_SIZE_MASK,
  indexTupleSize,
  setTidBlock,
  setTidOffset,
  SizeOfIndexTupleData,
  SizeOfItemPointerData,
  tidBlock,
  tidOffset,
} from "../../page/index_tuple.ts";

export const INDEX_ALT_TID_MASK = INDEX_AM_RESERVED_BIT;
export const BT_OFFSET_MASK = 0x0fff;
export const BT_IS_POSTING = 0x2000;

/** `BTreeTupleIsPosting`. */
export function isPosting(bytes: Uint8Array, tuple: number): boolean {
  return (getU16(bytes, tuple + 6) & INDEX_ALT_TID_MASK) !== 0 &&
    (tidOffset(bytes, tuple) & BT_IS_POSTING) !== 0;
}

/** `BTreeTupleGetNPosting`. */
export function postingCount(bytes: Uint8Array, tuple: number): number {
  return tidOffset(bytes, tuple) & BT_OFFSET_MASK;
}

/** `BTreeTupleGetPostingOffset`: the list's start, from the tuple's. */
export function postingOffset(bytes: Uint8Array, tuple: number): number {
  return tidBlock(bytes, tuple);
}

/**
 * Checks that the tuple's list lies inside the tuple and the tuple inside its item.
 *
 * @throws {CorruptionError} If not, or if it is no posting list tuple.
 */
export function checkedPosting(bytes: Uint8Array, tuple: number, itemLength: number): void {
  const size = indexTupleSize(bytes, tuple);
  const list = postingOffset(bytes, tuple);
  const count = postingCount(bytes, tuple);
  if (
    !isPosting(bytes, tuple) || count < 2 || size > itemLength || list < SizeOfIndexTupleData ||
    list + count * SizeOfItemPointerData > size
  ) {
    throw new CorruptionError(
      `Cannot use a posting list tuple: ${count} TIDs at ${list} in ${size} bytes of an item of ${itemLength}`,
    );
  }
}

/** `BTreeTupleSetPosting`, and the size. Flags of the key stay. */
export function setPostingHeader(
  bytes: Uint8Array,
  tuple: number,
  size: number,
  count: number,
  list: number,
): void {
  setU16(bytes, tuple + 6, (getU16(bytes, tuple + 6) & ~INDEX_SIZE_MASK) | INDEX_ALT_TID_MASK | size);
  setTidOffset(bytes, tuple, count | BT_IS_POSTING);
  setTidBlock(bytes, tuple, list);
}

/** Makes a tuple of a posting list tuple's key a plain one with one TID, which the caller puts in. */
export function setPlainHeader(bytes: Uint8Array, tuple: number, size: number): void {
  setU16(bytes, tuple + 6, (getU16(bytes, tuple + 6) & ~(INDEX_SIZE_MASK | INDEX_ALT_TID_MASK)) | size);
}

export function copyTid(
  target: Uint8Array,
  targetOffset: number,
  source: Uint8Array,
  sourceOffset: number,
): void {
  for (let index = 0; index < SizeOfItemPointerData; index++) {
    target[targetOffset + index] = source[sourceOffset + index];
  }
}

/** Where the last, greatest TID of a checked posting list tuple is. */
export function lastTid(bytes: Uint8Array, tuple: number): number {
  return tuple + postingOffset(bytes, tuple) + (postingCount(bytes, tuple) - 1) * SizeOfItemPointerData;
}

/**
 * The first half of `_bt_swap_posting`: puts a TID into a checked posting list tuple at position `at`, whose later TIDs
 * move right; the last one falls out. The caller has saved that, if it needs it.
 *
 * @throws {CorruptionError} If `at` is not inside the list, or is its start.
 */
export function insertTid(
  bytes: Uint8Array,
  tuple: number,
  at: number,
  tid: Uint8Array,
  tidAt: number,
): void {
  const count = postingCount(bytes, tuple);
  if (at < 1 || at >= count) {
    throw new CorruptionError("Cannot split a posting list tuple", { expected: `1..${count - 1}`, got: at });
  }
  const place = tuple + postingOffset(bytes, tuple) + at * SizeOfItemPointerData;
  bytes.copyWithin(
    place + SizeOfItemPointerData,
    place,
    place + (count - at - 1) * SizeOfItemPointerData,
  );
  copyTid(bytes, place, tid, tidAt);
}
