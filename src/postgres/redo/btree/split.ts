/**
 * Redo of a btree page split.
 *
 * Read path, inside replay. The right page comes whole with the record; the left page is rebuilt from the page that
 * was split, in offset number order, so that its tuples lie as the primary's do.
 *
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c `btree_xlog_split`, access/nbtxlog.h (the same in 14-18):
 * ```
 * xl_btree_split   0  4 level   4  2 firstrightoff   6  2 newitemoff   8  2 postingoff
 * block 0 data     [new item, if it goes left or postingoff != 0], left page's new high key
 * block 1 data     right page's tuple space
 * block 2          the old right sibling, if any
 * block 3          the child whose split this finishes, if not a leaf
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { CorruptionError } from "../../../errors.ts";
import { indexTupleSize, SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { LP_NORMAL, MAXALIGN, type Page, SizeOfItemId } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageAddItem } from "../page_edit.ts";
import { blockNumberOf, checkedMain, corruptRecord } from "../record_checks.ts";
import {
  BTP_INCOMPLETE_SPLIT,
  BTP_LEAF,
  BTPO_CYCLEID,
  BTPO_FLAGS,
  BTPO_NEXT,
  checkBtreePage,
  checkedTuple,
  firstDataKey,
  initBtreePage,
  P_NONE,
  startRebuild,
} from "./page_layout.ts";
import { checkedPosting, copyTid, insertTid, lastTid } from "./posting.ts";
import { restoreTuples } from "./restore.ts";

const SizeOfBtreeSplit = 10;

/** The new right sibling. */
export function restoreRightHalf(page: Page, record: DecodedRecord, index: number): void {
  const level = getU32(record.bytes, checkedMain(record, SizeOfBtreeSplit));
  const sibling = record.findBlock(2);
  const next = sibling < 0 ? P_NONE : record.blockNumber[sibling];
  initBtreePage(page, blockNumberOf(record, 0), next, level, level === 0 ? BTP_LEAF : 0);
  restoreTuples(page, record, index);
}

/** The page that was split: its left half, with a new high key and perhaps the new item. */
export function rebuildLeftHalf(
  page: Page,
  record: DecodedRecord,
  index: number,
  newItemOnLeft: boolean,
): void {
  checkBtreePage(page);
  const { bytes } = record;
  const main = checkedMain(record, SizeOfBtreeSplit);
  const level = getU32(bytes, main);
  const firstRightOff = getU16(bytes, main + 4);
  const newItemOff = getU16(bytes, main + 6);
  const postingOff = getU16(bytes, main + 8);
  const hasNewItem = newItemOnLeft || postingOff !== 0;
  const newItem = record.dataOffset[index];
  const newItemSize = hasNewItem ? checkedTupleSize(record, index, 0) : 0;
  const highKey = newItem + newItemSize;
  const highKeySize = checkedTupleSize(record, index, newItemSize);
  if (newItemSize + highKeySize !== record.dataLength[index]) {
    throw corruptRecord(record, "left page's data", newItemSize + highKeySize, record.dataLength[index]);
  }
  const first = firstDataKey(page);
  const original = startRebuild(page);
  pageAddItem(page, bytes, highKey, highKeySize, 1, false);
  // Offset numbers of the left page: the high key is there already, and what came first is there no more.
  const shift = 2 - first;
  const newItemAt = newItemOnLeft ? newItemOff : firstRightOff;
  if (newItemAt < first || newItemAt > firstRightOff) throw notOnLeftPage(record, newItemOff);
  copyTuples(page, original, first, newItemAt, first + shift);
  let newOffset = -1;
  if (newItemOnLeft) {
    newOffset = pageAddItem(page, bytes, newItem, newItemSize, newItemAt + shift, false);
    copyTuples(page, original, newItemAt, firstRightOff, newItemAt + shift + 1);
  }
  if (postingOff !== 0) {
    // A posting list that the new item splits is the tuple right before it; the new item itself may go right.
    const replaced = newItemOff - 1;
    if (replaced < first || replaced >= firstRightOff) throw notOnLeftPage(record, newItemOff);
    const item = page.itemOffset(replaced + shift);
    checkedPosting(page.u8, item, original.itemLength(replaced));
    insertTid(page.u8, item, postingOff, bytes, newItem);
    if (newOffset >= 0) {
      copyTid(page.u8, newOffset, original.u8, lastTid(original.u8, original.itemOffset(replaced)));
    }
  }
  page.u16[BTPO_FLAGS] = level === 0 ? BTP_INCOMPLETE_SPLIT | BTP_LEAF : BTP_INCOMPLETE_SPLIT;
  page.u16[BTPO_CYCLEID] = 0;
  page.u32[BTPO_NEXT] = blockNumberOf(record, 1);
}

function notOnLeftPage(record: DecodedRecord, newItemOff: number): CorruptionError {
  return corruptRecord(record, `offset number ${newItemOff} is not on the left page`);
}

/**
 * Adds tuples `[first, end)` of another page, from line pointer `offnum` on. Those that lie one right before the other, as
 * they do on most pages, are copied together.
 */
function copyTuples(page: Page, original: Page, first: number, end: number, offnum: number): void {
  for (let off = first; off < end;) {
    const start = checkedTuple(original, off);
    const top = start + original.itemLength(off);
    let bottom = start;
    let next = off + 1;
    // Padding between tuples is not copied: it must have none.
    if (((top | start) & 7) === 0) {
      for (; next < end; next++) {
        const above = checkedTuple(original, next);
        if (above + original.itemLength(next) !== bottom || (above & 7) !== 0) break;
        bottom = above;
      }
    }
    if (next === off + 1 || top - bottom + (next - off) * SizeOfItemId > page.upper - page.lower) {
      pageAddItem(page, original.u8, start, top - start, offnum++, false);
      off++;
      continue;
    }
    const upper = page.upper - (top - bottom);
    page.lower += (next - off) * SizeOfItemId;
    page.upper = upper;
    page.u8.set(original.u8.subarray(bottom, top), upper);
    for (const shift = upper - bottom; off < next; off++) {
      page.setItemId(offnum++, original.itemOffset(off) + shift, LP_NORMAL, original.itemLength(off));
    }
  }
}

/** Aligned size of the tuple at `at` in a block's data, all of it inside the data. */
function checkedTupleSize(record: DecodedRecord, index: number, at: number): number {
  const left = record.dataLength[index] - at;
  if (left < SizeOfIndexTupleData) throw corruptRecord(record, "a tuple of the left page is cut off");
  const size = MAXALIGN(indexTupleSize(record.bytes, record.dataOffset[index] + at));
  if (size < SizeOfIndexTupleData || size > left) {
    throw corruptRecord(record, "size of a tuple of the left page", `8..${left}`, size);
  }
  return size;
}
