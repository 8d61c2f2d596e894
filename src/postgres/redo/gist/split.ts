/**
 * Redo of GiST page splits: every page of the split is made from the record alone.
 *
 * Read path, inside replay.
 *
 * gistxlogPageSplit, main data (PostgreSQL src/include/access/gistxlog.h, src/backend/access/gist/gistxlog.c
 * `gistRedoPageSplitRecord`; the same in 14-18):
 * ```
 * offset width name
 *      0     4 origrlink        right link of the page before the split
 *      8     8 orignsn          its NSN
 *     16     1 origleaf         whether it was a leaf
 *     18     2 npage            how many pages the split has: blocks 1..npage, the original page first
 *     20     1 markfollowright  whether all pages but the last are to be followed right
 * ```
 * Data of each such block: number of tuples 4, index tuples.
 *
 * @module
 */
import { getI32, getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { appendTuples } from "../append_tuples.ts";
import { blockNumberOf, checkedData, checkedMain, unexpectedBlock } from "../record_checks.ts";
import {
  F_FOLLOW_RIGHT,
  F_LEAF,
  GIST_FLAGS,
  GIST_NSN,
  GIST_RIGHTLINK,
  GIST_ROOT_BLKNO,
  initGistPage,
} from "./page_layout.ts";

const SizeOfPageSplit = 21;

/** PAGE_SPLIT, block `id` of 1..npage. */
export function makeSplitPage(page: Page, record: DecodedRecord, index: number, id: number): void {
  const main = checkedMain(record, SizeOfPageSplit);
  const { bytes } = record;
  const npage = getU16(bytes, main + 18);
  if (id > npage) throw unexpectedBlock(record, id);
  const isRoot = record.blockNumber[index] === GIST_ROOT_BLKNO;
  const isLast = id === npage;
  const data = checkedData(record, index, 4);

  initGistPage(page, bytes[main + 16] !== 0 && !isRoot ? F_LEAF : 0);
  appendTuples(page, record, data + 4, data + record.dataLength[index], getI32(bytes, data));
  // The record has the NSN as one number, the page as two halves.
  page.u32[GIST_NSN] = getU32(bytes, main + 12);
  page.u32[GIST_NSN + 1] = getU32(bytes, main + 8);
  if (isRoot) return;
  page.u32[GIST_RIGHTLINK] = isLast ? getU32(bytes, main) : blockNumberOf(record, id + 1);
  // The root's new children have their downlinks already.
  const isRootSplit = blockNumberOf(record, 1) === GIST_ROOT_BLKNO;
  if (!isLast && !isRootSplit && bytes[main + 20] !== 0) page.u16[GIST_FLAGS] |= F_FOLLOW_RIGHT;
}
