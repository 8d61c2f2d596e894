/**
 * Redo of XLOG_HEAP_INSERT and XLOG_HEAP2_MULTI_INSERT: new tuples on one page.
 *
 * Read path, inside replay of one heap record.
 *
 * Records (PostgreSQL src/include/access/heapam_xlog.h, 14-18; little-endian, packed):
 * ```
 * xl_heap_insert         main data:  0 2 offnum   2 1 flags
 *                        block data: xl_heap_header, then t_bits and data of the tuple
 * xl_heap_header                     0 2 t_infomask2   2 2 t_infomask   4 1 t_hoff
 * xl_heap_multi_insert   main data:  0 1 flags    2 2 ntuples    4 2*ntuples offsets (absent with INIT_PAGE: 1, 2, ...)
 *                        block data, for each tuple, from a multiple of 2:
 *                                    0 2 datalen   2 2 t_infomask2   4 2 t_infomask   6 1 t_hoff, then datalen bytes
 * ```
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { FirstOffsetNumber, type Page } from "../../page/page.ts";
import { HEAP_COMBOCID, setTupleHeader, SizeofHeapTupleHeader } from "../../page/tuple.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyToPage, pageInit } from "../page_edit.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import {
  SizeOfHeapHeader,
  SizeOfHeapInsert,
  SizeOfHeapMultiInsert,
  SizeOfMultiInsertTuple,
  XLH_INSERT_ALL_FROZEN_SET,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLOG_HEAP_INIT_PAGE,
} from "./heap_record.ts";
import { clearAllVisible, reserveTuple, setAllVisible } from "./tuple_edit.ts";

/** `heap_xlog_insert`. */
export function heapInsert(page: Page, record: DecodedRecord, index: number): void {
  const bytes = record.bytes;
  const main = checkedMain(record, SizeOfHeapInsert);
  const data = record.dataOffset[index];
  const bodyLength = record.dataLength[index] - SizeOfHeapHeader;
  if (bodyLength <= 0) {
    throw corruptRecord(
      record,
      "it has no tuple",
      undefined,
      `${record.dataLength[index]} bytes of block data`,
    );
  }
  if ((record.info & XLOG_HEAP_INIT_PAGE) !== 0) pageInit(page, 0);
  const offnum = getU16(bytes, main);
  const infomask2 = getU16(bytes, data);
  const infomask = getU16(bytes, data + 2);
  addTuple(
    page,
    record,
    index,
    offnum,
    infomask2,
    infomask,
    bytes[data + 4],
    data + SizeOfHeapHeader,
    bodyLength,
  );
  page.setLsn(record.endLsn);
  if ((bytes[main + 2] & XLH_INSERT_ALL_VISIBLE_CLEARED) !== 0) clearAllVisible(page);
}

/** `heap_xlog_multi_insert`. */
export function heapMultiInsert(page: Page, record: DecodedRecord, index: number): void {
  const bytes = record.bytes;
  const main = checkedMain(record, SizeOfHeapMultiInsert);
  const flags = bytes[main];
  const ntuples = getU16(bytes, main + 2);
  const isInit = (record.info & XLOG_HEAP_INIT_PAGE) !== 0;
  if (!isInit) checkedMain(record, SizeOfHeapMultiInsert + 2 * ntuples);
  else pageInit(page, 0);
  const start = record.dataOffset[index];
  const length = record.dataLength[index];
  let at = 0;
  for (let i = 0; i < ntuples; i++) {
    at += at & 1;
    const header = start + at;
    at += SizeOfMultiInsertTuple;
    const bodyLength = at <= length ? getU16(bytes, header) : 0;
    if (at + bodyLength > length) {
      throw corruptRecord(record, "its tuples are cut off", `${at + bodyLength}`, length);
    }
    const offnum = isInit ? FirstOffsetNumber + i : getU16(bytes, main + SizeOfHeapMultiInsert + 2 * i);
    const infomask2 = getU16(bytes, header + 2);
    const infomask = getU16(bytes, header + 4);
    addTuple(page, record, index, offnum, infomask2, infomask, bytes[header + 6], start + at, bodyLength);
    at += bodyLength;
  }
  if (at !== length) throw corruptRecord(record, "its tuples and its length disagree", at, length);
  page.setLsn(record.endLsn);
  if ((flags & XLH_INSERT_ALL_VISIBLE_CLEARED) !== 0) clearAllVisible(page);
  if ((flags & XLH_INSERT_ALL_FROZEN_SET) !== 0) setAllVisible(page);
}

/** Puts a tuple on the page whose body (t_bits and data) lies in the record. */
function addTuple(
  page: Page,
  record: DecodedRecord,
  index: number,
  offnum: number,
  infomask2: number,
  infomask: number,
  hoff: number,
  body: number,
  bodyLength: number,
): void {
  const tuple = reserveTuple(page, SizeofHeapTupleHeader + bodyLength, offnum);
  const block = record.blockNumber[index];
  setTupleHeader(page, tuple, record.xid, 0, block, offnum, infomask2, infomask & ~HEAP_COMBOCID, hoff);
  copyToPage(page, tuple + SizeofHeapTupleHeader, record.bytes, body, bodyLength);
}
