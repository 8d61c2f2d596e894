/**
 * Redo of GIN's pending list and of the metapage.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/gin/ginxlog.c `ginRedoUpdateMetapage`, `ginRedoInsertListPage`,
 * `ginRedoDeleteListPages`, ginutil.c `GinInitMetabuffer`, access/ginxlog.h (14-18). Main data:
 * ```
 * ginxlogUpdateMeta        relation 12, pad 4, metadata 56, prevTail 4, newRightlink 4, ntuples 4, pad 4
 * ginxlogInsertListPage    rightlink 4, ntuples 4
 * ginxlogDeleteListPages   metadata 56, ndeleted 4, pad 4
 * ```
 * Tuples are the data of the page that takes them. GinMetaPageData goes on the page as it is, pad bytes too:
 * ```
 * record page width name               record page width name
 *      0   24     4 head                   24   48     4 nTotalPages
 *      4   28     4 tail                   28   52     4 nEntryPages
 *      8   32     4 tailFreeSize           32   56     4 nDataPages, pad 4
 *     12   36     4 nPendingPages          40   64     8 nEntries
 *     16   40     8 nPendingHeapTuples     48   72     4 ginVersion, pad 4
 * ```
 *
 * @module
 */
import { getI32, getU32 } from "../../../bytes/little_endian.ts";
import { type Page, SizeOfPageHeaderData } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { appendTuples } from "../append_tuples.ts";
import { copyBytes } from "../page_edit.ts";
import { checkedMain, corruptRecord, unexpectedBlock } from "../record_checks.ts";
import {
  checkGinKind,
  GIN_DELETED,
  GIN_LIST,
  GIN_LIST_FULLROW,
  GIN_MAXOFF,
  GIN_META,
  GIN_RIGHTLINK,
  initGinPage,
  InvalidBlockNumber,
} from "./page_layout.ts";

const SizeOfGinMetaPageData = 56;

const UPDATE_METADATA = 16;
const UPDATE_PREV_TAIL = 72;
const UPDATE_NEW_RIGHTLINK = 76;
const UPDATE_NTUPLES = 80;
const SizeOfUpdateMeta = 84;
const SizeOfInsertListPage = 8;
const SizeOfDeleteListPages = SizeOfGinMetaPageData + 4;

/** Makes the metapage that the record carries at `metadata`. */
function restoreMeta(page: Page, record: DecodedRecord, index: number, metadata: number): void {
  if (record.blockNumber[index] !== 0) {
    throw corruptRecord(record, "metapage is not block 0", 0, record.blockNumber[index]);
  }
  initGinPage(page, GIN_META);
  copyBytes(page.u8, SizeOfPageHeaderData, record.bytes, metadata, SizeOfGinMetaPageData);
  // Past the metadata, so that what compresses pages by their hole does not lose it.
  page.lower = SizeOfPageHeaderData + SizeOfGinMetaPageData;
}

/** UPDATE_META_PAGE: block 0 is the metapage, block 1 the list's tail, which takes tuples or is linked to a new one. */
export function updateMeta(page: Page, record: DecodedRecord, index: number, id: number): void {
  const main = checkedMain(record, SizeOfUpdateMeta);
  const { bytes } = record;
  if (id === 0) return restoreMeta(page, record, index, main + UPDATE_METADATA);
  if (id !== 1) throw unexpectedBlock(record, id);
  const ntuples = getI32(bytes, main + UPDATE_NTUPLES);
  if (ntuples > 0) {
    checkGinKind(page, GIN_LIST, GIN_LIST);
    const data = record.dataOffset[index];
    appendTuples(page, record, data, data + record.dataLength[index], ntuples);
    page.u16[GIN_MAXOFF]++; // one more heap tuple
  } else if (getU32(bytes, main + UPDATE_PREV_TAIL) !== InvalidBlockNumber) {
    checkGinKind(page, GIN_LIST, GIN_LIST);
    page.u32[GIN_RIGHTLINK] = getU32(bytes, main + UPDATE_NEW_RIGHTLINK);
  } else throw unexpectedBlock(record, id);
}

/** INSERT_LISTPAGE: a page of the pending list, made from the record alone. */
export function makeListPage(page: Page, record: DecodedRecord, index: number): void {
  const main = checkedMain(record, SizeOfInsertListPage);
  const rightlink = getU32(record.bytes, main);
  const isTail = rightlink === InvalidBlockNumber;
  initGinPage(page, isTail ? GIN_LIST | GIN_LIST_FULLROW : GIN_LIST);
  page.u32[GIN_RIGHTLINK] = rightlink;
  page.u16[GIN_MAXOFF] = isTail ? 1 : 0;
  const data = record.dataOffset[index];
  const ntuples = getI32(record.bytes, main + 4);
  appendTuples(page, record, data, data + record.dataLength[index], ntuples);
}

/** DELETE_LISTPAGE: block 0 is the metapage, all others are pages that leave the list. */
export function deleteListPages(page: Page, record: DecodedRecord, index: number, id: number): void {
  const main = checkedMain(record, SizeOfDeleteListPages);
  if (id === 0) return restoreMeta(page, record, index, main);
  if (id > getI32(record.bytes, main + SizeOfGinMetaPageData)) throw unexpectedBlock(record, id);
  initGinPage(page, GIN_DELETED);
}
