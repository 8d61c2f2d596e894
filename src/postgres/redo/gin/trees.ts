/**
 * Redo of changes to GIN's entry tree and to the upper pages of posting trees.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/gin/ginxlog.c `ginRedoCreatePTree`, `ginRedoInsert`, `ginRedoDeletePage`,
 * gindatapage.c, access/ginxlog.h (14-18):
 * ```
 * ginxlogCreatePostingTree, main data     size 4, then posting lists
 * ginxlogInsert, main data                flags 2, on upper pages then left child 4, right child 4 (upper halves first)
 * ginxlogInsertEntry, block 0             offset 2, isDelete 1, pad 1, index tuple
 * ginxlogInsertDataInternal, block 0      offset 2, posting item: child 4, TID 6
 * ginxlogDeletePage, main data            parentOffset 2, pad 2, rightLink 4, deleteXid 4
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import {
  indexTupleSize,
  setTidBlock,
  setTidOffset,
  SizeOfIndexTupleData,
  tidBlock,
} from "../../page/index_tuple.ts";
import { FirstOffsetNumber, InvalidOffsetNumber, type Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyBytes, pageAddItem, pageIndexTupleReplace } from "../page_edit.ts";
import { checkedData, checkedMain, corruptRecord } from "../record_checks.ts";
import {
  checkedEntry,
  checkedPostingItems,
  checkGinKind,
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DATA_START,
  GIN_DELETED,
  GIN_FLAGS,
  GIN_LEAF,
  GIN_MAXOFF,
  GIN_RIGHTLINK,
  GinDataPageMaxDataSize,
  initGinPage,
  setDataSize,
  SizeOfPostingItem,
} from "./page_layout.ts";

const SizeOfInsertEntry = 4;
const SizeOfInsertUpper = 10;
const SizeOfInsertDataInternal = 12;
const SizeOfDeletePage = 12;

/** CREATE_PTREE: the root of a new posting tree, a leaf. */
export function createPostingTree(page: Page, record: DecodedRecord): void {
  const main = checkedMain(record, 4);
  const size = getU32(record.bytes, main);
  if (size > GinDataPageMaxDataSize || size > record.mainLength - 4) {
    const most = Math.min(GinDataPageMaxDataSize, record.mainLength - 4);
    throw corruptRecord(record, "size of posting lists", `at most ${most}`, size);
  }
  initGinPage(page, GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  copyBytes(page.u8, GIN_DATA_START, record.bytes, main + 4, size);
  setDataSize(page, size);
}

/** The right half of the child whose split an insertion on an upper page finishes. */
function rightChild(record: DecodedRecord): number {
  return tidBlock(record.bytes, checkedMain(record, SizeOfInsertUpper) + 6);
}

/** INSERT on a page of the entry tree: a new entry, or a new version of one (leaf), or a downlink. */
export function insertEntry(page: Page, record: DecodedRecord, index: number, isLeaf: boolean): void {
  checkGinKind(page, GIN_DATA | GIN_LEAF, isLeaf ? GIN_LEAF : 0);
  const data = checkedData(record, index, SizeOfInsertEntry + SizeOfIndexTupleData);
  const { bytes } = record;
  const offnum = getU16(bytes, data);
  const tuple = data + SizeOfInsertEntry;
  const size = record.dataLength[index] - SizeOfInsertEntry;
  if (indexTupleSize(bytes, tuple) !== size) {
    throw corruptRecord(record, "new entry's size", size, indexTupleSize(bytes, tuple));
  }
  if (!isLeaf) {
    // The entry that led to the split page now is its right half's.
    const downlink = checkedEntry(page, offnum);
    setTidBlock(page.u8, downlink, rightChild(record));
    setTidOffset(page.u8, downlink, InvalidOffsetNumber);
  }
  if (bytes[data + 2] !== 0) {
    if (!isLeaf) throw corruptRecord(record, "an entry on an upper page is to be replaced");
    pageIndexTupleReplace(page, offnum, bytes, tuple, size);
  } else pageAddItem(page, bytes, tuple, size, offnum, false);
}

/** INSERT on an upper page of a posting tree: a downlink. */
export function insertPostingItem(page: Page, record: DecodedRecord, index: number): void {
  checkGinKind(page, GIN_DATA | GIN_LEAF, GIN_DATA);
  const data = checkedData(record, index, SizeOfInsertDataInternal);
  const offnum = getU16(record.bytes, data);
  const maxoff = checkedPostingItems(page);
  if (offnum < FirstOffsetNumber || offnum > maxoff) {
    throw corruptRecord(record, "posting item to insert before", `1..${maxoff}`, offnum);
  }
  const size = (maxoff + 1) * SizeOfPostingItem;
  if (size > GinDataPageMaxDataSize) throw corruptRecord(record, "the page is full of posting items");
  const at = GIN_DATA_START + (offnum - 1) * SizeOfPostingItem;
  setTidBlock(page.u8, at, rightChild(record));
  page.u8.copyWithin(at + SizeOfPostingItem, at, GIN_DATA_START + maxoff * SizeOfPostingItem);
  copyBytes(page.u8, at, record.bytes, data + 2, SizeOfPostingItem);
  page.u16[GIN_MAXOFF] = maxoff + 1;
  setDataSize(page, size);
}

/** DELETE_PAGE, block 0: the page that goes. */
export function markDeleted(page: Page, record: DecodedRecord): void {
  checkGinKind(page, GIN_DATA, GIN_DATA);
  const main = checkedMain(record, SizeOfDeletePage);
  page.u16[GIN_FLAGS] |= GIN_DELETED;
  // `GinPageSetDeleteXid`: who may still be on the page.
  page.pruneXid = getU32(record.bytes, main + 8);
}

/** DELETE_PAGE, block 1: the parent loses the downlink. */
export function deletePostingItem(page: Page, record: DecodedRecord): void {
  checkGinKind(page, GIN_DATA | GIN_LEAF, GIN_DATA);
  const offnum = getU16(record.bytes, checkedMain(record, SizeOfDeletePage));
  const maxoff = checkedPostingItems(page);
  if (offnum < FirstOffsetNumber || offnum > maxoff) {
    throw corruptRecord(record, "posting item to delete", `1..${maxoff}`, offnum);
  }
  const at = GIN_DATA_START + (offnum - 1) * SizeOfPostingItem;
  page.u8.copyWithin(at, at + SizeOfPostingItem, GIN_DATA_START + maxoff * SizeOfPostingItem);
  page.u16[GIN_MAXOFF] = maxoff - 1;
  setDataSize(page, (maxoff - 1) * SizeOfPostingItem);
}

/** DELETE_PAGE, block 2: the left sibling links past the page. */
export function linkPastDeleted(page: Page, record: DecodedRecord): void {
  checkGinKind(page, GIN_DATA, GIN_DATA);
  page.u32[GIN_RIGHTLINK] = getU32(record.bytes, checkedMain(record, SizeOfDeletePage) + 4);
}
