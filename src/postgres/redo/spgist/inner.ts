/**
 * Redo of SP-GiST inner tuples that gain a node or are split in two.
 *
 * Read path, inside replay. Each function edits the page that the block reference `id` means.
 *
 * Source: PostgreSQL src/backend/access/spgist/spgxlog.c, access/spgxlog.h (14-18). Main data, tuples unaligned:
 * ```
 * spgxlogAddNode     0 2 offnum  2 2 offnumNew  4 1 newPage  5 1 parentBlk  6 2 offnumParent  8 2 nodeI
 *                   12 8 spgxlogState  20 inner tuple
 * spgxlogSplitTuple  0 2 offnumPrefix  2 2 offnumPostfix  4 1 newPage  5 1 postfixBlkSame
 *                    6 prefix tuple, then postfix tuple
 * ```
 * An inner tuple that outgrows its page moves, and leaves a redirection. Its parent may be on the page it leaves
 * (`parentBlk` 0), on the one it goes to (1), or on a third one (2); with -1 it stays, and the parent knows it already.
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { blockNumberOf, checkedMain, unexpectedBlock } from "../record_checks.ts";
import { beginInnerPage, checkSpgistPage, innerTupleSize } from "./page_layout.ts";
import { addOrReplaceTuple, replaceByDeadTuple, replaceTuple, updateNodeLink } from "./tuples.ts";

const SizeOfSpgxlogAddNode = 20;
const SizeOfSpgxlogSplitTuple = 6;

/** `spgRedoAddNode`. */
export function redoAddNode(page: Page, record: DecodedRecord, id: number): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfSpgxlogAddNode);
  const tuple = main + SizeOfSpgxlogAddNode;
  const size = innerTupleSize(record, tuple, main + record.mainLength);
  const [offnum, offnumNew] = [getU16(bytes, main), getU16(bytes, main + 2)];
  if (record.findBlock(1) < 0) {
    if (id !== 0) throw unexpectedBlock(record, id);
    checkSpgistPage(page);
    replaceTuple(page, record, tuple, size, offnum);
    return;
  }
  const blockNew = blockNumberOf(record, 1);
  const parentBlk = bytes[main + 5];
  if (id === 0) {
    checkSpgistPage(page);
    replaceByDeadTuple(page, offnum, bytes[main + 16] !== 0, blockNew, offnumNew, getU32(bytes, main + 12));
  } else if (id === 1) {
    beginInnerPage(page, bytes[main + 4] !== 0, false);
    addOrReplaceTuple(page, record, tuple, size, offnumNew);
  } else if (id === 2 && parentBlk === 2) checkSpgistPage(page);
  else throw unexpectedBlock(record, id);
  if (parentBlk !== id) return;
  updateNodeLink(page, getU16(bytes, main + 6), getU16(bytes, main + 8), blockNew, offnumNew);
}

/** `spgRedoSplitTuple`. */
export function redoSplitTuple(page: Page, record: DecodedRecord, id: number): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfSpgxlogSplitTuple);
  const end = main + record.mainLength;
  const prefix = main + SizeOfSpgxlogSplitTuple;
  const prefixSize = innerTupleSize(record, prefix, end);
  const postfix = prefix + prefixSize;
  const postfixSize = innerTupleSize(record, postfix, end);
  const offnumPostfix = getU16(bytes, main + 2);
  const postfixBlkSame = bytes[main + 5] !== 0;
  if (id === 0) {
    checkSpgistPage(page);
    replaceTuple(page, record, prefix, prefixSize, getU16(bytes, main));
    if (postfixBlkSame) addOrReplaceTuple(page, record, postfix, postfixSize, offnumPostfix);
  } else if (id === 1 && !postfixBlkSame) {
    beginInnerPage(page, bytes[main + 4] !== 0, false);
    addOrReplaceTuple(page, record, postfix, postfixSize, offnumPostfix);
  } else throw unexpectedBlock(record, id);
}
