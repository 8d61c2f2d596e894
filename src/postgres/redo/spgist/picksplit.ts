/**
 * Redo of an SP-GiST picksplit: a chain of leaf tuples becomes an inner tuple with chains below.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/spgist/spgxlog.c, access/spgxlog.h (14-18). Main data:
 * ```
 * spgxlogPickSplit   0 1 isRootSplit   2 2 nDelete  4 2 nInsert  6 1 initSrc  7 1 initDest  8 2 offnumInner
 *                   10 1 initInner  11 1 storesNulls  12 1 innerIsParent  14 2 offnumParent  16 2 nodeI
 *                   20 8 spgxlogState
 *                   28 nDelete offset numbers, nInsert offset numbers, nInsert bytes: 0 source page, else destination;
 *                      the inner tuple, nInsert leaf tuples (unaligned)
 * ```
 * Blocks: 0 source of the leaf tuples, not named when that is the root, which is made anew as the inner page; 1 where
 * those go that find no room there; 2 the inner tuple's page; 3 its parent's, when that is another one.
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { blockNumberOf, checkedMain, unexpectedBlock } from "../record_checks.ts";
import {
  beginInnerPage,
  beginLeafPage,
  checkSpgistPage,
  innerTupleSize,
  leafTupleSize,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
} from "./page_layout.ts";
import { addOrReplaceTuple, replaceListedByDeadTuples, updateNodeLink } from "./tuples.ts";

const SizeOfSpgxlogPickSplit = 28;

/** `spgRedoPickSplit`, the part of one page. */
export function redoPickSplit(page: Page, record: DecodedRecord, id: number): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfSpgxlogPickSplit);
  const isRootSplit = bytes[main] !== 0;
  const storesNulls = bytes[main + 11] !== 0;
  if (id === 0 && !isRootSplit) {
    const initSrc = bytes[main + 6] !== 0;
    beginLeafPage(page, initSrc, storesNulls);
    if (!initSrc) deleteMovedTuples(page, record, main);
    insertLeafTuples(page, record, main, false);
  } else if (id === 1) {
    beginLeafPage(page, bytes[main + 7] !== 0, storesNulls);
    insertLeafTuples(page, record, main, true);
  } else if (id === 2) {
    beginInnerPage(page, bytes[main + 10] !== 0, storesNulls);
    const tuple = innerTuplePlace(record, main);
    const size = innerTupleSize(record, tuple, main + record.mainLength);
    addOrReplaceTuple(page, record, tuple, size, getU16(bytes, main + 8));
    const innerIsParent = bytes[main + 12] !== 0;
    if (innerIsParent) linkFromParent(page, record, main);
  } else if (id === 3) {
    checkSpgistPage(page);
    linkFromParent(page, record, main);
  } else throw unexpectedBlock(record, id);
}

/** The chain that is split leaves a redirection to the inner tuple, and placeholders. */
function deleteMovedTuples(page: Page, record: DecodedRecord, main: number): void {
  const { bytes } = record;
  const count = getU16(bytes, main + 2);
  checkedMain(record, SizeOfSpgxlogPickSplit + count * 2);
  const list = main + SizeOfSpgxlogPickSplit;
  const isBuild = bytes[main + 24] !== 0;
  const firstState = isBuild ? SPGIST_PLACEHOLDER : SPGIST_REDIRECT;
  const [block, offnum, xid] = [blockNumberOf(record, 2), getU16(bytes, main + 8), getU32(bytes, main + 20)];
  replaceListedByDeadTuples(page, record, list, count, firstState, SPGIST_PLACEHOLDER, block, offnum, xid);
}

/** Where the inner tuple begins: behind the lists. */
function innerTuplePlace(record: DecodedRecord, main: number): number {
  const lists = getU16(record.bytes, main + 2) * 2 + getU16(record.bytes, main + 4) * 3;
  return checkedMain(record, SizeOfSpgxlogPickSplit + lists) + SizeOfSpgxlogPickSplit + lists;
}

/** Adds the leaf tuples that belong to this page, of the two that they are divided among. */
function insertLeafTuples(page: Page, record: DecodedRecord, main: number, isDestination: boolean): void {
  const { bytes } = record;
  const end = main + record.mainLength;
  const inner = innerTuplePlace(record, main);
  const inserts = getU16(bytes, main + 4);
  const pageSelect = inner - inserts;
  const toInsert = pageSelect - inserts * 2;
  let tuple = inner + innerTupleSize(record, inner, end);
  for (let index = 0; index < inserts; index++) {
    const size = leafTupleSize(record, tuple, end);
    const toDestination = bytes[pageSelect + index] !== 0;
    if (toDestination === isDestination) {
      addOrReplaceTuple(page, record, tuple, size, getU16(bytes, toInsert + index * 2));
    }
    tuple += size;
  }
}

function linkFromParent(page: Page, record: DecodedRecord, main: number): void {
  const { bytes } = record;
  const [offnumParent, node] = [getU16(bytes, main + 14), getU16(bytes, main + 16)];
  updateNodeLink(page, offnumParent, node, blockNumberOf(record, 2), getU16(bytes, main + 8));
}
