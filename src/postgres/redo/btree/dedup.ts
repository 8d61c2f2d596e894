/**
 * Redo of btree deduplication: runs of equal keys become posting list tuples.
 *
 * Read path, inside replay. The record says only which runs were merged; their TIDs are on the page.
 *
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c `btree_xlog_dedup`, nbtdedup.c `_bt_form_posting` (the same in
 * 14-18). Main data is `xl_btree_dedup`: nintervals 2. Data of block 0: BTDedupInterval each, baseoff 2, nitems 2.
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { CorruptionError } from "../../../errors.ts";
import { indexTupleSize, SizeOfIndexTupleData, SizeOfItemPointerData } from "../../page/index_tuple.ts";
import { MAXALIGN, type Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyBytes, pageAddItem, pageReserveItem } from "../page_edit.ts";
import { checkedData, checkedMain, corruptRecord } from "../record_checks.ts";
import {
  BTMaxItemSize,
  BTP_HAS_GARBAGE,
  BTPO_FLAGS,
  checkBtreePage,
  checkedTuple,
  firstDataKey,
  P_HIKEY,
  startRebuild,
} from "./page_layout.ts";
import {
  checkedPosting,
  copyTid,
  isPosting,
  postingCount,
  postingOffset,
  setPostingHeader,
} from "./posting.ts";

const SizeOfBtreeDedup = 2;
const SizeOfBTDedupInterval = 4;

export function deduplicate(page: Page, record: DecodedRecord, index: number): void {
  checkBtreePage(page);
  const { bytes } = record;
  const nintervals = getU16(bytes, checkedMain(record, SizeOfBtreeDedup));
  const intervals = checkedData(record, index, nintervals * SizeOfBTDedupInterval);
  const maxoff = page.maxOffsetNumber();
  let offnum = firstDataKey(page);
  const original = startRebuild(page);
  if (offnum !== P_HIKEY) {
    const highKey = checkedTuple(original, P_HIKEY);
    pageAddItem(page, original.u8, highKey, original.itemLength(P_HIKEY), P_HIKEY, false);
  }
  let next = 0;
  while (offnum <= maxoff) {
    const interval = intervals + next * SizeOfBTDedupInterval;
    if (next < nintervals && getU16(bytes, interval) === offnum) {
      const nitems = getU16(bytes, interval + 2);
      if (nitems < 2 || nitems > maxoff - offnum + 1) {
        throw corruptRecord(record, "items of an interval", `2..${maxoff - offnum + 1}`, nitems);
      }
      addMerged(page, original, offnum, nitems);
      offnum += nitems;
      next++;
    } else addUnchanged(page, original, offnum++);
  }
  if (next !== nintervals) throw corruptRecord(record, "interval out of order or range", nintervals, next);
  page.u16[BTPO_FLAGS] &= ~BTP_HAS_GARBAGE;
}

function addUnchanged(page: Page, original: Page, offnum: number): void {
  const tuple = checkedTuple(original, offnum);
  const size = indexTupleSize(original.u8, tuple);
  if (size > original.itemLength(offnum)) throw wrongSize(offnum, size);
  pageAddItem(page, original.u8, tuple, size, page.maxOffsetNumber() + 1, false);
}

/** Adds one posting list tuple with the first item's key and the TIDs of all `nitems`. */
function addMerged(page: Page, original: Page, first: number, nitems: number): void {
  const source = original.u8;
  let ntids = 0;
  for (let offnum = first; offnum < first + nitems; offnum++) {
    const tuple = checkedTuple(original, offnum);
    if (!isPosting(source, tuple)) ntids++;
    else {
      checkedPosting(source, tuple, original.itemLength(offnum));
      ntids += postingCount(source, tuple);
    }
  }
  const base = original.itemOffset(first);
  const keySize = isPosting(source, base) ? postingOffset(source, base) : indexTupleSize(source, base);
  const size = MAXALIGN(keySize + ntids * SizeOfItemPointerData);
  if (keySize < SizeOfIndexTupleData || keySize > original.itemLength(first) || size > BTMaxItemSize) {
    throw wrongSize(first, size);
  }

  const target = page.u8;
  const merged = pageReserveItem(page, size, page.maxOffsetNumber() + 1, false);
  copyBytes(target, merged, source, base, keySize);
  setPostingHeader(target, merged, size, ntids, keySize);
  let end = merged + keySize;
  for (let offnum = first; offnum < first + nitems; offnum++) {
    const tuple = original.itemOffset(offnum);
    if (!isPosting(source, tuple)) {
      copyTid(target, end, source, tuple);
      end += SizeOfItemPointerData;
    } else {
      const length = postingCount(source, tuple) * SizeOfItemPointerData;
      copyBytes(target, end, source, tuple + postingOffset(source, tuple), length);
      end += length;
    }
  }
}

function wrongSize(offnum: number, size: number): CorruptionError {
  return new CorruptionError(`Cannot deduplicate a btree page: tuple ${offnum} would have ${size} bytes`, {
    expected: `at most ${BTMaxItemSize}`,
    got: size,
  });
}
