/**
 * SP-GiST pages and tuples: where their fields are, and pages made anew.
 *
 * Read path, inside replay; used by every SP-GiST record.
 *
 * Layouts (PostgreSQL src/include/access/spgist_private.h, 14-18; tuples are 8-aligned on a page, not in a record):
 * ```
 * special space   8184  2 flags   8186 2 nRedirection   8188 2 nPlaceholder   8190 2 spgist_page_id
 * any tuple          0  tupstate in the lowest 2 bits
 * leaf tuple         0  4 tupstate 2 bits, size 30      4 2 nextOffset 14 bits, flags 2   6 6 heapPtr, then the values
 * dead tuple         0  4 the same                      4 2 not used   6 6 pointer   12 4 xid
 * inner tuple        0  4 tupstate 2 bits, allTheSame 1, nNodes 13, prefixSize 16   4 2 size   8 prefix, then the nodes
 * node               an index tuple: its item pointer is the link down
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import { CorruptionError } from "../../../errors.ts";
import { BLCKSZ, type Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageInit } from "../page_edit.ts";
import { corruptRecord } from "../record_checks.ts";

/** `sizeof(SpGistPageOpaqueData)`. */
const SizeOfSpGistPageOpaqueData = 8;
export const SPGIST_SPECIAL = BLCKSZ - SizeOfSpGistPageOpaqueData;

/** Where the fields of the special space are, as positions in `page.u16`. */
export const SPGIST_FLAGS = SPGIST_SPECIAL >> 1;
export const SPGIST_N_REDIRECTION = SPGIST_FLAGS + 1;
export const SPGIST_N_PLACEHOLDER = SPGIST_FLAGS + 2;
export const SPGIST_ID = SPGIST_FLAGS + 3;

export const SPGIST_META = 1 << 0;
export const SPGIST_LEAF = 1 << 2;
export const SPGIST_NULLS = 1 << 3;
export const SPGIST_PAGE_ID = 0xff82;

export const SPGIST_LIVE = 0;
export const SPGIST_REDIRECT = 1;
export const SPGIST_DEAD = 2;
export const SPGIST_PLACEHOLDER = 3;
export const SPGIST_TUPSTATE_MASK = 3;

/** Size of a dead tuple. No tuple is smaller, so that each can become a dead one where it is. */
export const SGDTSIZE = 16;
export const SGITHDRSZ = 8;

/** Bytes of a `spgxlogState`: 4 xid of redirections, 1 whether the index is being built, 3 padding. */
export const SizeOfSpgxlogState = 8;

/** `SpGistInitPage`. */
export function initSpgistPage(page: Page, flags: number): void {
  pageInit(page, SizeOfSpGistPageOpaqueData);
  page.u16[SPGIST_FLAGS] = flags;
  page.u16[SPGIST_ID] = SPGIST_PAGE_ID;
}

/** @throws {CorruptionError} If the page is not one of an SP-GiST tree. */
export function checkSpgistPage(page: Page): void {
  const id = page.u16[SPGIST_ID];
  const flags = page.u16[SPGIST_FLAGS];
  if (page.special !== SPGIST_SPECIAL || id !== SPGIST_PAGE_ID || (flags & SPGIST_META) !== 0) {
    throw new CorruptionError(
      `Cannot edit an SP-GiST page: special space at ${page.special}, page id ${id}, flags ${flags}`,
    );
  }
}

/** A leaf page as it is before a record's first tuple comes: new, or checked. */
export function beginLeafPage(page: Page, isNew: boolean, storesNulls: boolean): void {
  if (isNew) initSpgistPage(page, SPGIST_LEAF | (storesNulls ? SPGIST_NULLS : 0));
  else checkSpgistPage(page);
}

/** An inner page as it is before a record's tuple comes: new, or checked. */
export function beginInnerPage(page: Page, isNew: boolean, storesNulls: boolean): void {
  if (isNew) initSpgistPage(page, storesNulls ? SPGIST_NULLS : 0);
  else checkSpgistPage(page);
}

/** Size of the leaf tuple at `at` of the record, after checking that it ends before `end`. */
export function leafTupleSize(record: DecodedRecord, at: number, end: number): number {
  const size = end - at < SGDTSIZE ? 0 : getU32(record.bytes, at) >>> 2;
  return checkedSize(record, "leaf", size, end - at);
}

/** Size of the inner tuple at `at` of the record, after checking that it ends before `end`. */
export function innerTupleSize(record: DecodedRecord, at: number, end: number): number {
  const size = end - at < SGDTSIZE ? 0 : getU16(record.bytes, at + 4);
  return checkedSize(record, "inner", size, end - at);
}

function checkedSize(record: DecodedRecord, kind: string, size: number, left: number): number {
  if (size < SGDTSIZE || size > left) {
    throw corruptRecord(record, `size of an SP-GiST ${kind} tuple`, `${SGDTSIZE}..${left}`, size);
  }
  return size;
}
