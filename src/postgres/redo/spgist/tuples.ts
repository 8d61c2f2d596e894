/**
 * What SP-GiST redo does to the tuples of a page: add, replace, link, and leave dead ones behind.
 *
 * Read path, inside replay. A tuple keeps its offset number for life, because others name it; one that goes leaves a
 * redirection, a dead tuple or a placeholder in its place, and only placeholders are taken up again.
 *
 * Source: PostgreSQL src/backend/access/spgist/spgxlog.c, spgdoinsert.c, spgutils.c (14-18).
 *
 * @module
 */
import { getU16, getU32, setU16, setU32 } from "../../../bytes/little_endian.ts";
import { CorruptionError } from "../../../errors.ts";
import { indexTupleSize, setTidBlock, setTidOffset, SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { BLCKSZ, type Page, SizeOfItemId } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageIndexMultiDelete } from "../page_compaction.ts";
import { pageAddItem, pageIndexTupleDelete } from "../page_edit.ts";
import { corruptRecord } from "../record_checks.ts";
import {
  SGDTSIZE,
  SGITHDRSZ,
  SPGIST_N_PLACEHOLDER,
  SPGIST_N_REDIRECTION,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
  SPGIST_TUPSTATE_MASK,
} from "./page_layout.ts";

const InvalidBlockNumber = 0xffffffff;
const InvalidOffsetNumber = 0;
const InvalidTransactionId = 0;
/** The bits of a leaf tuple's `t_info` that are not `nextOffset`. */
const SGLT_FLAGS_MASK = 0xc000;

// Redo is synchronous: one list of offset numbers and one dead tuple at a time.
const offnums = new Uint16Array(BLCKSZ / SizeOfItemId);
const deadTuple = new Uint8Array(SGDTSIZE);

/** `addOrReplaceTuple`: puts a tuple of the record on the page, at its end or in the place of a placeholder. */
export function addOrReplaceTuple(
  page: Page,
  record: DecodedRecord,
  tuple: number,
  size: number,
  offnum: number,
): void {
  if (offnum <= page.maxOffsetNumber()) {
    const at = page.checkedItem(offnum, SGDTSIZE);
    const state = page.u8[at] & SPGIST_TUPSTATE_MASK;
    if (state !== SPGIST_PLACEHOLDER || page.u16[SPGIST_N_PLACEHOLDER] === 0) {
      throw corruptRecord(
        record,
        `SP-GiST tuple ${offnum} to be replaced is no placeholder`,
        SPGIST_PLACEHOLDER,
        state,
      );
    }
    page.u16[SPGIST_N_PLACEHOLDER]--;
    pageIndexTupleDelete(page, offnum);
  }
  pageAddItem(page, record.bytes, tuple, size, offnum, false);
}

/** Puts a tuple of the record in the place of another one, whatever that is. */
export function replaceTuple(
  page: Page,
  record: DecodedRecord,
  tuple: number,
  size: number,
  offnum: number,
): void {
  pageIndexTupleDelete(page, offnum);
  pageAddItem(page, record.bytes, tuple, size, offnum, false);
}

/** Puts a redirection, or a placeholder when `isBuild`, in the place of a tuple. */
export function replaceByDeadTuple(
  page: Page,
  offnum: number,
  isBuild: boolean,
  block: number,
  targetOffnum: number,
  xid: number,
): void {
  pageIndexTupleDelete(page, offnum);
  addDeadTuple(page, offnum, isBuild ? SPGIST_PLACEHOLDER : SPGIST_REDIRECT, block, targetOffnum, xid);
}

/** `spgFormDeadTuple` and its insertion; the last three arguments count for redirections only. */
function addDeadTuple(
  page: Page,
  offnum: number,
  tupstate: number,
  block: number,
  targetOffnum: number,
  xid: number,
): void {
  const redirects = tupstate === SPGIST_REDIRECT;
  setU32(deadTuple, 0, tupstate | (SGDTSIZE << 2));
  setU16(deadTuple, 4, InvalidOffsetNumber);
  setTidBlock(deadTuple, 6, redirects ? block : InvalidBlockNumber);
  setTidOffset(deadTuple, 6, redirects ? targetOffnum : InvalidOffsetNumber);
  setU32(deadTuple, 12, redirects ? xid : InvalidTransactionId);
  pageAddItem(page, deadTuple, 0, SGDTSIZE, offnum, false);
  if (redirects) page.u16[SPGIST_N_REDIRECTION]++;
  else if (tupstate === SPGIST_PLACEHOLDER) page.u16[SPGIST_N_PLACEHOLDER]++;
}

/**
 * `spgPageIndexMultiDelete`: puts dead tuples in the place of `count` tuples, whose offset numbers the record has at
 * `list` in any order.
 *
 * @param firstState State of the tuple that is first in the list, `restState` of the others.
 */
export function replaceListedByDeadTuples(
  page: Page,
  record: DecodedRecord,
  list: number,
  count: number,
  firstState: number,
  restState: number,
  block: number = InvalidBlockNumber,
  targetOffnum: number = InvalidOffsetNumber,
  xid: number = InvalidTransactionId,
): void {
  if (count === 0) return;
  readOffsetNumbers(page, record, list, count);
  pageIndexMultiDelete(page, offnums, count);
  const first = getU16(record.bytes, list);
  for (let index = 0; index < count; index++) {
    const offnum = offnums[index];
    addDeadTuple(page, offnum, offnum === first ? firstState : restState, block, targetOffnum, xid);
  }
}

/** Deletes `count` tuples, whose offset numbers the record has at `list`, and closes up. */
export function deleteListed(page: Page, record: DecodedRecord, list: number, count: number): void {
  if (count === 0) return;
  readOffsetNumbers(page, record, list, count);
  pageIndexMultiDelete(page, offnums, count);
}

/** Deletes the tuples from `first` to the last one, placeholders all. */
export function deletePlaceholdersFrom(page: Page, record: DecodedRecord, first: number): void {
  const count = page.maxOffsetNumber() - first + 1;
  if (count <= 0 || count > page.u16[SPGIST_N_PLACEHOLDER]) {
    throw corruptRecord(
      record,
      `SP-GiST placeholders from ${first} to ${page.maxOffsetNumber()}`,
      `1..${page.u16[SPGIST_N_PLACEHOLDER]}`,
      count,
    );
  }
  page.u16[SPGIST_N_PLACEHOLDER] -= count;
  for (let index = 0; index < count; index++) offnums[index] = first + index;
  pageIndexMultiDelete(page, offnums, count);
}

/** Fills `offnums` in ascending order; none may come twice or lie beyond the page's last one. */
function readOffsetNumbers(page: Page, record: DecodedRecord, list: number, count: number): void {
  const max = page.maxOffsetNumber();
  if (count > max) throw corruptRecord(record, "SP-GiST tuples to delete", `at most ${max}`, count);
  let ascending = true;
  for (let index = 0; index < count; index++) {
    offnums[index] = getU16(record.bytes, list + index * 2);
    if (index > 0 && offnums[index] <= offnums[index - 1]) ascending = false;
  }
  if (!ascending) {
    offnums.subarray(0, count).sort();
    for (let index = 1; index < count; index++) {
      if (offnums[index] === offnums[index - 1]) {
        throw corruptRecord(record, `SP-GiST tuple ${offnums[index]} is to be deleted twice`);
      }
    }
  }
  if (offnums[0] === InvalidOffsetNumber || offnums[count - 1] > max) {
    throw corruptRecord(
      record,
      "SP-GiST tuple to delete",
      `1..${max}`,
      `${offnums[0]}..${offnums[count - 1]}`,
    );
  }
}

/** `spgUpdateNodeLink`: points a node of the inner tuple at `offnum` to another tuple. */
export function updateNodeLink(
  page: Page,
  offnum: number,
  node: number,
  block: number,
  targetOffnum: number,
): void {
  const tuple = page.checkedItem(offnum, SGITHDRSZ);
  const end = tuple + page.itemLength(offnum);
  const word = getU32(page.u8, tuple);
  const nodes = (word >>> 3) & 0x1fff;
  let at = tuple + SGITHDRSZ + (word >>> 16);
  for (let index = 0; index < nodes && at + SizeOfIndexTupleData <= end; index++) {
    if (index === node) {
      setTidBlock(page.u8, at, block);
      setTidOffset(page.u8, at, targetOffnum);
      return;
    }
    at += indexTupleSize(page.u8, at);
  }
  throw new CorruptionError(`Cannot find node ${node} in SP-GiST inner tuple ${offnum} of ${nodes} nodes`);
}

/** `SGLT_SET_NEXTOFFSET`: links the leaf tuple at `offnum` to the next one of its chain. */
export function setNextOffset(page: Page, offnum: number, next: number): void {
  const at = page.checkedItem(offnum, SGDTSIZE);
  setU16(page.u8, at + 4, (getU16(page.u8, at + 4) & SGLT_FLAGS_MASK) | (next & ~SGLT_FLAGS_MASK));
}
