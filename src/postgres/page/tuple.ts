/**
 * Heap tuple headers on a page.
 *
 * Shared by heap redo and by whoever reads rows. Functions here take a page and the byte offset of a tuple as
 * {@linkcode checkedTuple} gives it: a multiple of 8, with the whole header on the page, so that plain typed-array
 * accesses are in bounds.
 *
 * HeapTupleHeaderData (PostgreSQL src/include/access/htup_details.h, 14-18; little-endian, 8-aligned on the page):
 * ```
 * offset width name
 *      0     4 t_xmin
 *      4     4 t_xmax
 *      8     4 t_cid          or t_xvac
 *     12     6 t_ctid         block upper half 2, block lower half 2, offset number 2
 *     18     2 t_infomask2    number of attributes 11 bits, HEAP_KEYS_UPDATED, HEAP_HOT_UPDATED, HEAP_ONLY_TUPLE
 *     20     2 t_infomask     HEAP_* bits
 *     22     1 t_hoff         from the tuple's start to its data
 *     23       t_bits         null bitmap, padding up to t_hoff, then the data
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import { BLCKSZ, MAXALIGN, type Page, SizeOfItemId, SizeOfPageHeaderData } from "./page.ts";

/** `SizeofHeapTupleHeader`: the fixed part, before the null bitmap. */
export const SizeofHeapTupleHeader = 23;
/** `MaxHeapTupleSize`: the longest tuple that a page can hold, header included. */
export const MaxHeapTupleSize = BLCKSZ - MAXALIGN(SizeOfPageHeaderData + SizeOfItemId);
/** `MaxHeapTuplesPerPage`: more line pointers than this never appear on a heap page. */
export const MaxHeapTuplesPerPage = 291;

// t_infomask
export const HEAP_COMBOCID = 0x0020;
export const HEAP_XMAX_KEYSHR_LOCK = 0x0010;
export const HEAP_XMAX_EXCL_LOCK = 0x0040;
export const HEAP_XMAX_LOCK_ONLY = 0x0080;
export const HEAP_LOCK_MASK = HEAP_XMAX_KEYSHR_LOCK | HEAP_XMAX_EXCL_LOCK;
export const HEAP_XMIN_COMMITTED = 0x0100;
export const HEAP_XMIN_INVALID = 0x0200;
export const HEAP_XMIN_FROZEN = HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID;
export const HEAP_XMAX_COMMITTED = 0x0400;
export const HEAP_XMAX_INVALID = 0x0800;
export const HEAP_XMAX_IS_MULTI = 0x1000;
export const HEAP_UPDATED = 0x2000;
export const HEAP_MOVED_OFF = 0x4000;
export const HEAP_MOVED_IN = 0x8000;
export const HEAP_MOVED = HEAP_MOVED_OFF | HEAP_MOVED_IN;
export const HEAP_XMAX_BITS = HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK |
  HEAP_XMAX_LOCK_ONLY;
/** `HEAP_XACT_MASK`: the visibility-related bits. */
export const HEAP_XACT_MASK = 0xfff0;

// t_infomask2
export const HEAP_NATTS_MASK = 0x07ff;
export const HEAP_KEYS_UPDATED = 0x2000;
export const HEAP_HOT_UPDATED = 0x4000;
export const HEAP_ONLY_TUPLE = 0x8000;

/** `MovedPartitionsBlockNumber` and `...OffsetNumber`: t_ctid of a row that an update moved to another partition. */
export const MovedPartitionsBlockNumber = 0xffffffff;
export const MovedPartitionsOffsetNumber = 0xfffd;

/** `FrozenTransactionId`: older than every transaction. */
export const FrozenTransactionId = 2;

/**
 * Start of the tuple behind a normal line pointer.
 *
 * @throws {CorruptionError} If there is no such line pointer, it has no tuple, or the tuple is misaligned or shorter
 * than its header.
 */
export function checkedTuple(page: Page, offnum: number): number {
  const offset = page.checkedItem(offnum, SizeofHeapTupleHeader);
  if ((offset & 7) !== 0) throw misaligned(offnum, offset);
  return offset;
}

/** The error for a tuple that cannot be read through aligned words. */
export function misaligned(offnum: number, offset: number): CorruptionError {
  return new CorruptionError(
    `Cannot use the heap tuple of line pointer ${offnum}: offset ${offset} is no multiple of 8`,
  );
}

/** Writes the whole fixed header; t_cid is 0 (`FirstCommandId`, as in redo). */
export function setTupleHeader(
  page: Page,
  tuple: number,
  xmin: number,
  xmax: number,
  ctidBlock: number,
  ctidOffnum: number,
  infomask2: number,
  infomask: number,
  hoff: number,
): void {
  const words = page.u32;
  const word = tuple >> 2;
  words[word] = xmin;
  words[word + 1] = xmax;
  words[word + 2] = 0;
  setCtid(page, tuple, ctidBlock, ctidOffnum);
  const halves = page.u16;
  const half = tuple >> 1;
  halves[half + 9] = infomask2;
  halves[half + 10] = infomask;
  page.u8[tuple + 22] = hoff;
}

export function getXmin(page: Page, tuple: number): number {
  return page.u32[tuple >> 2];
}
export function setXmin(page: Page, tuple: number, xid: number): void {
  page.u32[tuple >> 2] = xid;
}

export function getXmax(page: Page, tuple: number): number {
  return page.u32[(tuple >> 2) + 1];
}
export function setXmax(page: Page, tuple: number, xid: number): void {
  page.u32[(tuple >> 2) + 1] = xid;
}

/** Sets t_cid, which with HEAP_MOVED bits is t_xvac. */
export function setCid(page: Page, tuple: number, value: number): void {
  page.u32[(tuple >> 2) + 2] = value;
}

/** Block of t_ctid. */
export function getCtidBlock(page: Page, tuple: number): number {
  const half = tuple >> 1;
  return page.u16[half + 6] * 0x1_0000 + page.u16[half + 7];
}
/** Offset number of t_ctid. */
export function getCtidOffnum(page: Page, tuple: number): number {
  return page.u16[(tuple >> 1) + 8];
}
export function setCtid(page: Page, tuple: number, block: number, offnum: number): void {
  const half = tuple >> 1;
  page.u16[half + 6] = block >>> 16;
  page.u16[half + 7] = block;
  page.u16[half + 8] = offnum;
}

export function getInfomask2(page: Page, tuple: number): number {
  return page.u16[(tuple >> 1) + 9];
}
export function setInfomask2(page: Page, tuple: number, value: number): void {
  page.u16[(tuple >> 1) + 9] = value;
}

export function getInfomask(page: Page, tuple: number): number {
  return page.u16[(tuple >> 1) + 10];
}
export function setInfomask(page: Page, tuple: number, value: number): void {
  page.u16[(tuple >> 1) + 10] = value;
}

/** t_hoff: where the tuple's data start, from the tuple's start. Anything up to 255 on a corrupt page. */
export function getHoff(page: Page, tuple: number): number {
  return page.u8[tuple + 22];
}

/** `HEAP_XMAX_IS_LOCKED_ONLY`: t_xmax only locked the tuple (or is a lock of an old release that had no bit for it). */
export function isXmaxLockedOnly(infomask: number): boolean {
  return (infomask & HEAP_XMAX_LOCK_ONLY) !== 0 ||
    (infomask & (HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK)) === HEAP_XMAX_EXCL_LOCK;
}
