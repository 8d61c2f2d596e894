/**
 * Redo of XLOG_HEAP_UPDATE and XLOG_HEAP_HOT_UPDATE: an old tuple is marked, a new one added, on one page or two.
 *
 * Read path, inside replay of one heap record. Each of the two pages is replayed by a call of its own; when old and
 * new tuple share the page, one call does both, and the new tuple may borrow its beginning and end from the old one.
 *
 * Record (PostgreSQL src/include/access/heapam_xlog.h, 14-18; little-endian):
 * ```
 * xl_heap_update   main data:     0 4 old_xmax   4 2 old_offnum   6 1 old_infobits_set   7 1 flags
 *                                 8 4 new_xmax  12 2 new_offnum   (the old tuple or its key may follow)
 *                  block 0 data:  [PREFIX_FROM_OLD: 2 prefix length] [SUFFIX_FROM_OLD: 2 suffix length]
 *                                 2 t_infomask2   2 t_infomask   1 t_hoff, then t_bits and data without what is borrowed
 *                  block 1        the old tuple's page, if it is another one
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import {
  checkedTuple,
  getHoff,
  HEAP_COMBOCID,
  setCtid,
  setTupleHeader,
  setXmax,
  SizeofHeapTupleHeader,
} from "../../page/tuple.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyBytes, copyOnPage, copyToPage, pageInit } from "../page_edit.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import {
  HEAP_UPDATE_BLKREF_HEAP_NEW,
  HEAP_UPDATE_BLKREF_HEAP_OLD,
  SizeOfHeapHeader,
  SizeOfHeapUpdate,
  XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_PREFIX_FROM_OLD,
  XLH_UPDATE_SUFFIX_FROM_OLD,
  XLOG_HEAP_INIT_PAGE,
} from "./heap_record.ts";
import {
  clearAllVisible,
  clearCmax,
  reserveTuple,
  setHotUpdated,
  setPrunable,
  setXmaxInfobits,
} from "./tuple_edit.ts";

/** `heap_xlog_update`, the part of it that edits this page. */
export function heapUpdate(page: Page, record: DecodedRecord, index: number, hotUpdate: boolean): void {
  const main = checkedMain(record, SizeOfHeapUpdate);
  // Block ids ascend, so that the new tuple's page, id 0, comes first.
  if (record.blockId[0] !== HEAP_UPDATE_BLKREF_HEAP_NEW) {
    throw corruptRecord(record, "it does not name the new tuple's page");
  }
  const samePage = record.blockCount < 2 || record.blockId[1] !== HEAP_UPDATE_BLKREF_HEAP_OLD;
  if (samePage) {
    const oldTuple = markOldTuple(page, record, main, hotUpdate);
    addNewTuple(page, record, main, index, oldTuple, page.itemLength(getU16(record.bytes, main + 4)));
  } else if (index === 0) {
    if ((record.info & XLOG_HEAP_INIT_PAGE) !== 0) pageInit(page, 0);
    addNewTuple(page, record, main, index, 0, 0);
  } else markOldTuple(page, record, main, hotUpdate);
  page.setLsn(record.endLsn);
}

/** Marks the old tuple as updated and links it to the new one. Returns its offset on the page. */
function markOldTuple(page: Page, record: DecodedRecord, main: number, hotUpdate: boolean): number {
  const bytes = record.bytes;
  const tuple = checkedTuple(page, getU16(bytes, main + 4));
  setXmaxInfobits(page, tuple, bytes[main + 6]);
  setHotUpdated(page, tuple, hotUpdate);
  setXmax(page, tuple, getU32(bytes, main));
  clearCmax(page, tuple);
  setCtid(page, tuple, record.blockNumber[0], getU16(bytes, main + 12));
  setPrunable(page, record.xid);
  if ((bytes[main + 7] & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) !== 0) clearAllVisible(page);
  return tuple;
}

/** Adds the new tuple. `oldLength` is 0 when the old tuple lies on another page, where nothing can be borrowed from it. */
function addNewTuple(
  page: Page,
  record: DecodedRecord,
  main: number,
  index: number,
  oldTuple: number,
  oldLength: number,
): void {
  const bytes = record.bytes;
  const flags = bytes[main + 7];
  let at = record.dataOffset[index];
  const end = at + record.dataLength[index];
  let prefixLength = 0;
  let suffixLength = 0;
  if ((flags & XLH_UPDATE_PREFIX_FROM_OLD) !== 0) {
    if (at + 2 <= end) prefixLength = getU16(bytes, at);
    at += 2;
  }
  if ((flags & XLH_UPDATE_SUFFIX_FROM_OLD) !== 0) {
    if (at + 2 <= end) suffixLength = getU16(bytes, at);
    at += 2;
  }
  const header = at;
  at += SizeOfHeapHeader;
  if (at > end) throw corruptRecord(record, "its new tuple is cut off", `${at - end} bytes more`);
  const hoff = bytes[header + 4];
  const dataLength = end - at;
  // t_bits and padding of the new tuple come from the record, before the prefix.
  const bitsLength = prefixLength > 0 ? hoff - SizeofHeapTupleHeader : 0;
  const oldHoff = oldLength > 0 ? getHoff(page, oldTuple) : 0;
  if (bitsLength < 0 || bitsLength > dataLength) {
    throw corruptRecord(record, "impossible t_hoff", `23..${SizeofHeapTupleHeader + dataLength}`, hoff);
  }
  if (oldHoff + prefixLength > oldLength || suffixLength > oldLength) {
    throw corruptRecord(
      record,
      `it borrows ${prefixLength} and ${suffixLength} bytes of ${oldLength - oldHoff}`,
    );
  }
  const offnum = getU16(bytes, main + 12);
  const length = SizeofHeapTupleHeader + dataLength + prefixLength + suffixLength;
  const tuple = reserveTuple(page, length, offnum);
  const infomask = getU16(bytes, header + 2) & ~HEAP_COMBOCID;
  const block = record.blockNumber[0];
  const newXmax = getU32(bytes, main + 8);
  setTupleHeader(page, tuple, record.xid, newXmax, block, offnum, getU16(bytes, header), infomask, hoff);

  let to = tuple + SizeofHeapTupleHeader;
  if (prefixLength > 0) {
    copyBytes(page.u8, to, bytes, at, bitsLength);
    to += bitsLength;
    copyOnPage(page, to, oldTuple + oldHoff, prefixLength);
    to += prefixLength;
  }
  copyToPage(page, to, bytes, at + bitsLength, dataLength - bitsLength);
  to += dataLength - bitsLength;
  if (suffixLength > 0) copyOnPage(page, to, oldTuple + oldLength - suffixLength, suffixLength);
  if ((flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) !== 0) clearAllVisible(page);
}
