/**
 * Redo of the records that change one tuple where it is: XLOG_HEAP_DELETE, _CONFIRM, _LOCK, _INPLACE and
 * XLOG_HEAP2_LOCK_UPDATED.
 *
 * Read path, inside replay of one heap record.
 *
 * Records (PostgreSQL src/include/access/heapam_xlog.h, 14-18; little-endian; main data):
 * ```
 * xl_heap_delete, xl_heap_lock, xl_heap_lock_updated
 *                    0 4 xmax   4 2 offnum   6 1 infobits_set   7 1 flags   (delete: the old tuple or its key may follow)
 * xl_heap_confirm    0 2 offnum
 * xl_heap_inplace    0 2 offnum   (18 and later: 4 4 dbId   8 4 tsId   12 1 relcacheInitFileInval   16 4 nmsgs,
 *                                  then nmsgs invalidation messages)
 *                    block data: the tuple from t_hoff on
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import {
  checkedTuple,
  getHoff,
  getInfomask,
  isXmaxLockedOnly,
  MovedPartitionsBlockNumber,
  MovedPartitionsOffsetNumber,
  setCtid,
  setXmax,
  setXmin,
} from "../../page/tuple.ts";
import { InvalidTransactionId } from "../../transaction_id.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyBytes } from "../page_edit.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import {
  SizeOfHeapConfirm,
  SizeOfHeapDelete,
  SizeOfHeapLock,
  XLH_DELETE_ALL_VISIBLE_CLEARED,
  XLH_DELETE_IS_PARTITION_MOVE,
  XLH_DELETE_IS_SUPER,
} from "./heap_record.ts";
import { clearAllVisible, clearCmax, setHotUpdated, setPrunable, setXmaxInfobits } from "./tuple_edit.ts";

/** `heap_xlog_delete`. */
export function heapDelete(page: Page, record: DecodedRecord, index: number): void {
  const bytes = record.bytes;
  const main = checkedMain(record, SizeOfHeapDelete);
  const offnum = getU16(bytes, main + 4);
  const flags = bytes[main + 7];
  const tuple = checkedTuple(page, offnum);
  setXmaxInfobits(page, tuple, bytes[main + 6]);
  setHotUpdated(page, tuple, false);
  // A speculative insertion that is taken back ("super-deleted") was never there.
  if ((flags & XLH_DELETE_IS_SUPER) === 0) setXmax(page, tuple, getU32(bytes, main));
  else setXmin(page, tuple, InvalidTransactionId);
  clearCmax(page, tuple);
  setPrunable(page, record.xid);
  if ((flags & XLH_DELETE_ALL_VISIBLE_CLEARED) !== 0) clearAllVisible(page);
  if ((flags & XLH_DELETE_IS_PARTITION_MOVE) !== 0) {
    setCtid(page, tuple, MovedPartitionsBlockNumber, MovedPartitionsOffsetNumber);
  } else setCtid(page, tuple, record.blockNumber[index], offnum);
  page.setLsn(record.endLsn);
}

/** `heap_xlog_confirm`: a speculative insertion is there to stay. */
export function heapConfirm(page: Page, record: DecodedRecord, index: number): void {
  const offnum = getU16(record.bytes, checkedMain(record, SizeOfHeapConfirm));
  setCtid(page, checkedTuple(page, offnum), record.blockNumber[index], offnum);
  page.setLsn(record.endLsn);
}

/** `heap_xlog_lock`. */
export function heapLock(page: Page, record: DecodedRecord, index: number): void {
  const bytes = record.bytes;
  const main = checkedMain(record, SizeOfHeapLock);
  const offnum = getU16(bytes, main + 4);
  const tuple = checkedTuple(page, offnum);
  setXmaxInfobits(page, tuple, bytes[main + 6]);
  if (isXmaxLockedOnly(getInfomask(page, tuple))) {
    setHotUpdated(page, tuple, false);
    setCtid(page, tuple, record.blockNumber[index], offnum);
  }
  setXmax(page, tuple, getU32(bytes, main));
  clearCmax(page, tuple);
  page.setLsn(record.endLsn);
}

/** `heap_xlog_lock_updated`: a lock on a later version of a row; t_ctid and t_cid stay. */
export function heapLockUpdated(page: Page, record: DecodedRecord, _index: number): void {
  const bytes = record.bytes;
  const main = checkedMain(record, SizeOfHeapLock);
  const tuple = checkedTuple(page, getU16(bytes, main + 4));
  setXmaxInfobits(page, tuple, bytes[main + 6]);
  setXmax(page, tuple, getU32(bytes, main));
  page.setLsn(record.endLsn);
}

/** `heap_xlog_inplace`: new data of the same length. */
export function heapInplace(page: Page, record: DecodedRecord, index: number): void {
  const main = checkedMain(record, record.profile.sizeOfHeapInplace);
  const offnum = getU16(record.bytes, main);
  const tuple = checkedTuple(page, offnum);
  const hoff = getHoff(page, tuple);
  const newLength = record.dataLength[index];
  if (page.itemLength(offnum) - hoff !== newLength) {
    throw corruptRecord(record, "wrong tuple length", page.itemLength(offnum) - hoff, newLength);
  }
  copyBytes(page.u8, tuple + hoff, record.bytes, record.dataOffset[index], newLength);
  page.setLsn(record.endLsn);
}
