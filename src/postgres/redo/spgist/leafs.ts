/**
 * Redo of SP-GiST leaf tuples that come, and of chains of them that move to another page.
 *
 * Read path, inside replay. Each function edits the page that the block reference `id` means.
 *
 * Source: PostgreSQL src/backend/access/spgist/spgxlog.c, access/spgxlog.h (14-18). Main data, tuples unaligned:
 * ```
 * spgxlogAddLeaf    0 1 newPage  1 1 storesNulls  2 2 offnumLeaf  4 2 offnumHeadLeaf  6 2 offnumParent  8 2 nodeI
 *                  10 leaf tuple
 * spgxlogMoveLeafs  0 2 nMoves  2 1 newPage  3 1 replaceDead  4 1 storesNulls  6 2 offnumParent  8 2 nodeI
 *                  12 8 spgxlogState  20 nMoves offset numbers to delete, then those to insert, then as many leaf tuples
 * ```
 * A chain that moves takes one more tuple along, the new one; one that is only a dead tuple stays, and the new tuple
 * goes alone (`replaceDead`).
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { blockNumberOf, checkedMain, unexpectedBlock } from "../record_checks.ts";
import {
  beginLeafPage,
  checkSpgistPage,
  leafTupleSize,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
} from "./page_layout.ts";
import {
  addOrReplaceTuple,
  replaceListedByDeadTuples,
  replaceTuple,
  setNextOffset,
  updateNodeLink,
} from "./tuples.ts";

const SizeOfSpgxlogAddLeaf = 10;
const SizeOfSpgxlogMoveLeafs = 20;

/** `spgRedoAddLeaf`. */
export function redoAddLeaf(page: Page, record: DecodedRecord, id: number): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfSpgxlogAddLeaf);
  const offnumLeaf = getU16(bytes, main + 2);
  const offnumHeadLeaf = getU16(bytes, main + 4);
  if (id === 0) {
    const tuple = main + SizeOfSpgxlogAddLeaf;
    const size = leafTupleSize(record, tuple, main + record.mainLength);
    beginLeafPage(page, bytes[main] !== 0, bytes[main + 1] !== 0);
    if (offnumLeaf === offnumHeadLeaf) replaceTuple(page, record, tuple, size, offnumLeaf); // a dead one
    else {
      addOrReplaceTuple(page, record, tuple, size, offnumLeaf);
      if (offnumHeadLeaf !== 0) setNextOffset(page, offnumHeadLeaf, offnumLeaf);
    }
  } else if (id === 1) {
    const [offnumParent, node] = [getU16(bytes, main + 6), getU16(bytes, main + 8)];
    checkSpgistPage(page);
    updateNodeLink(page, offnumParent, node, blockNumberOf(record, 0), offnumLeaf);
  } else throw unexpectedBlock(record, id);
}

/** `spgRedoMoveLeafs`. */
export function redoMoveLeafs(page: Page, record: DecodedRecord, id: number): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfSpgxlogMoveLeafs);
  const moves = getU16(bytes, main);
  const inserts = bytes[main + 3] !== 0 ? 1 : moves + 1;
  checkedMain(record, SizeOfSpgxlogMoveLeafs + (moves + inserts) * 2);
  const toDelete = main + SizeOfSpgxlogMoveLeafs;
  const toInsert = toDelete + moves * 2;
  const lastInserted = getU16(bytes, toInsert + (inserts - 1) * 2);
  if (id === 0) {
    checkSpgistPage(page);
    const xid = getU32(bytes, main + 12);
    const isBuild = bytes[main + 16] !== 0;
    const block = blockNumberOf(record, 1);
    const firstState = isBuild ? SPGIST_PLACEHOLDER : SPGIST_REDIRECT;
    const rest = SPGIST_PLACEHOLDER;
    replaceListedByDeadTuples(page, record, toDelete, moves, firstState, rest, block, lastInserted, xid);
  } else if (id === 1) {
    beginLeafPage(page, bytes[main + 2] !== 0, bytes[main + 4] !== 0);
    const end = main + record.mainLength;
    let tuple = toInsert + inserts * 2;
    for (let index = 0; index < inserts; index++) {
      const size = leafTupleSize(record, tuple, end);
      addOrReplaceTuple(page, record, tuple, size, getU16(bytes, toInsert + index * 2));
      tuple += size;
    }
  } else if (id === 2) {
    checkSpgistPage(page);
    const [offnumParent, node] = [getU16(bytes, main + 6), getU16(bytes, main + 8)];
    updateNodeLink(page, offnumParent, node, blockNumberOf(record, 1), lastInserted);
  } else throw unexpectedBlock(record, id);
}
