/**
 * Redo of btree insertions that need no page split: the hottest records of all.
 *
 * Read path, inside replay. Main data is `xl_btree_insert`: offnum 2. Data of block 0 is the new tuple, with
 * INSERT_POST behind the posting list offset (2).
 *
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c `btree_xlog_insert`, access/nbtxlog.h (the same in 14-18).
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { indexTupleSize, SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageAddItem } from "../page_edit.ts";
import { checkedData, checkedMain, corruptRecord } from "../record_checks.ts";
import { checkBtreePage, checkedTuple } from "./page_layout.ts";
import { checkedPosting, copyTid, insertTid, lastTid } from "./posting.ts";

const SizeOfBtreeInsert = 2;

/** INSERT_LEAF, INSERT_UPPER and INSERT_META on the page that takes the tuple. */
export function insertTuple(page: Page, record: DecodedRecord, index: number): void {
  checkBtreePage(page);
  const main = checkedMain(record, SizeOfBtreeInsert);
  const tuple = checkedData(record, index, SizeOfIndexTupleData);
  pageAddItem(page, record.bytes, tuple, record.dataLength[index], getU16(record.bytes, main), false);
}

/**
 * INSERT_POST: the new tuple's TID lies inside the range of the posting list before it. The TID goes into that list,
 * and the list's last TID goes into the new tuple, which then follows in order.
 */
export function insertIntoPosting(page: Page, record: DecodedRecord, index: number): void {
  checkBtreePage(page);
  const main = checkedMain(record, SizeOfBtreeInsert);
  const data = checkedData(record, index, 2 + SizeOfIndexTupleData);
  const { bytes } = record;
  const offnum = getU16(bytes, main);
  const newItem = data + 2;
  const size = record.dataLength[index] - 2;
  if (indexTupleSize(bytes, newItem) !== size) {
    throw corruptRecord(record, "new tuple's size", size, indexTupleSize(bytes, newItem));
  }
  const posting = checkedTuple(page, offnum - 1);
  checkedPosting(page.u8, posting, page.itemLength(offnum - 1));
  const item = pageAddItem(page, bytes, newItem, size, offnum, false);
  copyTid(page.u8, item, page.u8, lastTid(page.u8, posting));
  insertTid(page.u8, posting, getU16(bytes, data), bytes, newItem);
}
