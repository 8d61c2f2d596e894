/**
 * What heap redo does to tuples again and again: room for a new one, lock bits of an old one, the pruning hint.
 *
 * Read path, inside replay of one heap record.
 *
 * Source: PostgreSQL src/backend/access/heap/heapam_xlog.c, src/include/storage/bufpage.h (14-18).
 *
 * @module
 */
import { CorruptionError } from "../../../errors.ts";
import { type Page, PD_ALL_VISIBLE } from "../../page/page.ts";
import {
  getInfomask,
  getInfomask2,
  HEAP_COMBOCID,
  HEAP_HOT_UPDATED,
  HEAP_KEYS_UPDATED,
  HEAP_MOVED,
  HEAP_XMAX_BITS,
  HEAP_XMAX_EXCL_LOCK,
  HEAP_XMAX_IS_MULTI,
  HEAP_XMAX_KEYSHR_LOCK,
  HEAP_XMAX_LOCK_ONLY,
  MaxHeapTupleSize,
  MaxHeapTuplesPerPage,
  misaligned,
  setCid,
  setInfomask,
  setInfomask2,
} from "../../page/tuple.ts";
import { transactionIdPrecedes } from "../../transaction_id.ts";
import { pageReserveItem } from "../page_edit.ts";
import {
  XLHL_KEYS_UPDATED,
  XLHL_XMAX_EXCL_LOCK,
  XLHL_XMAX_IS_MULTI,
  XLHL_XMAX_KEYSHR_LOCK,
  XLHL_XMAX_LOCK_ONLY,
} from "./heap_record.ts";

/**
 * `PageAddItem(..., overwrite, is_heap)` without the bytes: a line pointer, new or unused so far, and room for a tuple.
 *
 * @param size Length of the tuple, header included.
 * @returns The tuple's offset on the page; the caller fills all `size` bytes.
 */
export function reserveTuple(page: Page, size: number, offnum: number): number {
  if (offnum > MaxHeapTuplesPerPage) {
    throw new CorruptionError("Cannot add a heap tuple", {
      expected: `offset number 1..${MaxHeapTuplesPerPage}`,
      got: offnum,
    });
  }
  if (size > MaxHeapTupleSize) {
    throw new CorruptionError("Cannot add a heap tuple", {
      expected: `length up to ${MaxHeapTupleSize}`,
      got: size,
    });
  }
  const tuple = pageReserveItem(page, size, offnum, true);
  if ((tuple & 7) !== 0) throw misaligned(offnum, tuple);
  return tuple;
}

/**
 * Forgets who deleted, updated or locked a tuple and puts the record's `infobits_set` in place, as DELETE, UPDATE and
 * LOCK do before they set t_xmax (`fix_infomask_from_infobits`). HEAP_HOT_UPDATED stays.
 */
export function setXmaxInfobits(page: Page, tuple: number, infobits: number): void {
  let infomask = getInfomask(page, tuple) & ~(HEAP_XMAX_BITS | HEAP_MOVED);
  if ((infobits & XLHL_XMAX_IS_MULTI) !== 0) infomask |= HEAP_XMAX_IS_MULTI;
  if ((infobits & XLHL_XMAX_LOCK_ONLY) !== 0) infomask |= HEAP_XMAX_LOCK_ONLY;
  if ((infobits & XLHL_XMAX_EXCL_LOCK) !== 0) infomask |= HEAP_XMAX_EXCL_LOCK;
  if ((infobits & XLHL_XMAX_KEYSHR_LOCK) !== 0) infomask |= HEAP_XMAX_KEYSHR_LOCK;
  setInfomask(page, tuple, infomask);
  let infomask2 = getInfomask2(page, tuple) & ~HEAP_KEYS_UPDATED;
  if ((infobits & XLHL_KEYS_UPDATED) !== 0) infomask2 |= HEAP_KEYS_UPDATED;
  setInfomask2(page, tuple, infomask2);
}

/** `HeapTupleHeaderSetHotUpdated` or `...ClearHotUpdated`. */
export function setHotUpdated(page: Page, tuple: number, value: boolean): void {
  const infomask2 = getInfomask2(page, tuple);
  setInfomask2(page, tuple, value ? infomask2 | HEAP_HOT_UPDATED : infomask2 & ~HEAP_HOT_UPDATED);
}

/** `HeapTupleHeaderSetCmax(tuple, FirstCommandId, false)`. */
export function clearCmax(page: Page, tuple: number): void {
  setCid(page, tuple, 0);
  setInfomask(page, tuple, getInfomask(page, tuple) & ~HEAP_COMBOCID);
}

/** `PageSetPrunable`: the page has a tuple that may be pruned once `xid` is old enough. */
export function setPrunable(page: Page, xid: number): void {
  const pruneXid = page.pruneXid;
  if (pruneXid === 0 || transactionIdPrecedes(xid, pruneXid)) page.pruneXid = xid;
}

/** `PageClearAllVisible`. */
export function clearAllVisible(page: Page): void {
  page.flags &= ~PD_ALL_VISIBLE;
}

/** `PageSetAllVisible`. */
export function setAllVisible(page: Page): void {
  page.flags |= PD_ALL_VISIBLE;
}
