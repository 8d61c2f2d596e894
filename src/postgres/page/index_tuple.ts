/**
 * The index tuple: what btree, hash and GiST keep behind their line pointers.
 *
 * Shared by redo and readers; pure functions over bytes at any alignment. Callers check that the header's 8 bytes
 * exist before they ask for a field, and that the size a tuple claims lies inside its item or record.
 *
 * IndexTupleData (PostgreSQL src/include/access/itup.h, storage/itemptr.h, storage/block.h; 14-18; little-endian):
 * ```
 * offset width name
 *      0     2 t_tid.ip_blkid.bi_hi   upper half of the block number
 *      2     2 t_tid.ip_blkid.bi_lo   lower half
 *      4     2 t_tid.ip_posid         offset number; the access method may keep flags here
 *      6     2 t_info                 size 13 bits, access method's bit, has variable widths, has nulls
 *      8       null bitmap and attributes
 * ```
 *
 * @module
 */
import { getU16, setU16 } from "../../bytes/little_endian.ts";

export const SizeOfIndexTupleData = 8;
export const SizeOfItemPointerData = 6;

export const INDEX_SIZE_MASK = 0x1fff;
export const INDEX_AM_RESERVED_BIT = 0x2000;

/** `IndexTupleSize`: the tuple's bytes, header included. */
export function indexTupleSize(bytes: Uint8Array, offset: number): number {
  return getU16(bytes, offset + 6) & INDEX_SIZE_MASK;
}

/** `ItemPointerGetBlockNumberNoCheck`: the block number, whose upper half comes first. */
export function tidBlock(bytes: Uint8Array, offset: number): number {
  return ((getU16(bytes, offset) << 16) | getU16(bytes, offset + 2)) >>> 0;
}

export function setTidBlock(bytes: Uint8Array, offset: number, block: number): void {
  setU16(bytes, offset, block >>> 16);
  setU16(bytes, offset + 2, block);
}

/** `ItemPointerGetOffsetNumberNoCheck`. */
export function tidOffset(bytes: Uint8Array, offset: number): number {
  return getU16(bytes, offset + 4);
}

export function setTidOffset(bytes: Uint8Array, offset: number, posid: number): void {
  setU16(bytes, offset + 4, posid);
}
