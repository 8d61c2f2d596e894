/**
 * Redo of BRIN records: summary tuples on regular pages, and the revmap that says where each block range's tuple is.
 *
 * Read path, inside replay. A tuple keeps its offset number for life, because the revmap names it: deletions leave
 * unused line pointers, and insertions take them up again.
 *
 * Source: PostgreSQL src/backend/access/brin/brin_xlog.c, access/brin_xlog.h, access/brin_page.h (14-18). Main data,
 * and blocks by id (I: made from the record alone; I?: with XLOG_BRIN_INIT_PAGE):
 * ```
 *                  main data                                                        0            1         2
 * CREATE_INDEX     0 4 pagesPerRange  4 2 version                                   metapage I
 * INSERT           0 4 heapBlk  4 4 pagesPerRange  8 2 offnum                       regular I?   revmap
 * UPDATE           0 2 oldOffnum  4 4 heapBlk  8 4 pagesPerRange  12 2 offnum       regular I?   revmap    old page
 * SAMEPAGE_UPDATE  0 2 offnum                                                       regular
 * REVMAP_EXTEND    0 4 targetBlk                                                    metapage     revmap I
 * DESUMMARIZE      0 4 pagesPerRange  4 4 heapBlk  8 2 regOffset                    revmap       regular
 * ```
 * The new tuple is the data of block 0. Pages:
 * ```
 * metapage  24 4 brinMagic  28 4 brinVersion  32 4 pagesPerRange  36 4 lastRevmapPage
 * revmap    24 6*1360 item pointers, one for each range, (InvalidBlockNumber, 0) where it has no tuple
 * all       8184 8 special space: 6 2 page type, 4 2 flags
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../bytes/little_endian.ts";
import { CorruptionError } from "../../errors.ts";
import { setTidBlock, setTidOffset, SizeOfItemPointerData } from "../page/index_tuple.ts";
import { BLCKSZ, type Page, SizeOfPageHeaderData } from "../page/page.ts";
import type { DecodedRecord } from "../wal/record.ts";
import {
  pageAddItem,
  pageIndexTupleDeleteNoCompact,
  pageIndexTupleOverwrite,
  pageInit,
} from "./page_edit.ts";
import {
  blockNumberOf,
  checkedBlockId,
  checkedData,
  checkedMain,
  corruptRecord,
  unexpectedBlock,
} from "./record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "./registry.ts";

export const XLOG_BRIN_CREATE_INDEX = 0x00;
export const XLOG_BRIN_INSERT = 0x10;
export const XLOG_BRIN_UPDATE = 0x20;
export const XLOG_BRIN_SAMEPAGE_UPDATE = 0x30;
export const XLOG_BRIN_REVMAP_EXTEND = 0x40;
export const XLOG_BRIN_DESUMMARIZE = 0x50;
export const XLOG_BRIN_INIT_PAGE = 0x80;

export const BRIN_PAGETYPE_META = 0xf091;
export const BRIN_PAGETYPE_REVMAP = 0xf092;
export const BRIN_PAGETYPE_REGULAR = 0xf093;

const BRIN_META_MAGIC = 0xa8109cfa;
const BRIN_METAPAGE_VERSION = SizeOfPageHeaderData + 4 >> 2;
const BRIN_METAPAGE_PAGES_PER_RANGE = SizeOfPageHeaderData + 8 >> 2;
const BRIN_METAPAGE_LAST_REVMAP = SizeOfPageHeaderData + 12 >> 2;
const SizeOfBrinMetaPageData = 16;

/** `sizeof(BrinSpecialSpace)`; the page type is its last word. */
const SizeOfBrinSpecialSpace = 8;
const BRIN_PAGE_TYPE = (BLCKSZ >> 1) - 1;
const REVMAP_PAGE_MAXITEMS = Math.floor(
  (BLCKSZ - SizeOfPageHeaderData - SizeOfBrinSpecialSpace) / SizeOfItemPointerData,
);

const SizeOfBrinCreateIdx = 6;
const SizeOfBrinInsert = 10;
/** `offsetof(xl_brin_update, insert)`. */
const OffsetOfBrinUpdateInsert = 4;
const SizeOfBrinSamepageUpdate = 2;
const SizeOfBrinRevmapExtend = 4;
const SizeOfBrinDesummarize = 10;

const InvalidBlockNumber = 0xffffffff;
const InvalidOffsetNumber = 0;

/** Replays one BRIN record on one page. See `RedoFunction`. */
export function redoBrin(page: Page, record: DecodedRecord, target: RedoTarget, _context: RedoContext): void {
  const index = target.blockIndex;
  const id = checkedBlockId(record, index);
  switch (record.opInfo) {
    case XLOG_BRIN_INSERT:
    case XLOG_BRIN_INSERT | XLOG_BRIN_INIT_PAGE:
      redoInsert(page, record, index, id, 0);
      break;
    case XLOG_BRIN_UPDATE:
    case XLOG_BRIN_UPDATE | XLOG_BRIN_INIT_PAGE:
      if (id === 2) deleteTuple(page, getU16(record.bytes, checkedMain(record, 2)));
      else redoInsert(page, record, index, id, OffsetOfBrinUpdateInsert);
      break;
    case XLOG_BRIN_SAMEPAGE_UPDATE:
      redoSamepageUpdate(page, record, index, id);
      break;
    case XLOG_BRIN_DESUMMARIZE:
      redoDesummarize(page, record, id);
      break;
    case XLOG_BRIN_REVMAP_EXTEND:
      redoRevmapExtend(page, record, id);
      break;
    case XLOG_BRIN_CREATE_INDEX:
      redoCreateIndex(page, record, id);
      break;
    default:
      throw unsupportedRecord(record);
  }
  page.setLsn(record.endLsn);
}

/** `brin_xlog_insert_update`; `insert` is where xl_brin_insert lies in the main data. */
function redoInsert(page: Page, record: DecodedRecord, index: number, id: number, insert: number): void {
  const { bytes } = record;
  const at = checkedMain(record, insert + SizeOfBrinInsert) + insert;
  const offnum = getU16(bytes, at + 8);
  if (id === 0) {
    if ((record.opInfo & XLOG_BRIN_INIT_PAGE) !== 0) initBrinPage(page, BRIN_PAGETYPE_REGULAR);
    else checkBrinPage(page, BRIN_PAGETYPE_REGULAR);
    const tuple = checkedData(record, index, 1);
    pageAddItem(page, bytes, tuple, record.dataLength[index], offnum, true);
  } else if (id === 1) {
    setHeapBlockItemptr(
      page,
      record,
      getU32(bytes, at + 4),
      getU32(bytes, at),
      blockNumberOf(record, 0),
      offnum,
    );
  } else throw unexpectedBlock(record, id);
}

function redoSamepageUpdate(page: Page, record: DecodedRecord, index: number, id: number): void {
  if (id !== 0) throw unexpectedBlock(record, id);
  checkBrinPage(page, BRIN_PAGETYPE_REGULAR);
  const { bytes } = record;
  const offnum = getU16(bytes, checkedMain(record, SizeOfBrinSamepageUpdate));
  const tuple = checkedData(record, index, 1);
  pageIndexTupleOverwrite(page, offnum, bytes, tuple, record.dataLength[index]);
}

function redoDesummarize(page: Page, record: DecodedRecord, id: number): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfBrinDesummarize);
  if (id === 0) {
    const [pagesPerRange, heapBlk] = [getU32(bytes, main), getU32(bytes, main + 4)];
    setHeapBlockItemptr(page, record, pagesPerRange, heapBlk, InvalidBlockNumber, InvalidOffsetNumber);
  } else if (id === 1) deleteTuple(page, getU16(bytes, main + 8));
  else throw unexpectedBlock(record, id);
}

function redoRevmapExtend(page: Page, record: DecodedRecord, id: number): void {
  const targetBlk = getU32(record.bytes, checkedMain(record, SizeOfBrinRevmapExtend));
  if (id === 0) {
    checkBrinPage(page, BRIN_PAGETYPE_META);
    page.u32[BRIN_METAPAGE_LAST_REVMAP] = targetBlk;
    // Indexes from before PostgreSQL 11 may have it wrong.
    page.lower = SizeOfPageHeaderData + SizeOfBrinMetaPageData;
  } else if (id === 1) initBrinPage(page, BRIN_PAGETYPE_REVMAP);
  else throw unexpectedBlock(record, id);
}

/** `brin_metapage_init`. */
function redoCreateIndex(page: Page, record: DecodedRecord, id: number): void {
  if (id !== 0) throw unexpectedBlock(record, id);
  const main = checkedMain(record, SizeOfBrinCreateIdx);
  initBrinPage(page, BRIN_PAGETYPE_META);
  page.u32[SizeOfPageHeaderData >> 2] = BRIN_META_MAGIC;
  page.u32[BRIN_METAPAGE_VERSION] = getU16(record.bytes, main + 4);
  page.u32[BRIN_METAPAGE_PAGES_PER_RANGE] = getU32(record.bytes, main);
  // Not a revmap block: the first one comes with the next record.
  page.u32[BRIN_METAPAGE_LAST_REVMAP] = 0;
  page.lower = SizeOfPageHeaderData + SizeOfBrinMetaPageData;
}

/** `brin_page_init`. */
function initBrinPage(page: Page, type: number): void {
  pageInit(page, SizeOfBrinSpecialSpace);
  page.u16[BRIN_PAGE_TYPE] = type;
}

/** @throws {CorruptionError} If the page is not a BRIN page of this type. */
function checkBrinPage(page: Page, type: number): void {
  if (page.special !== BLCKSZ - SizeOfBrinSpecialSpace || page.u16[BRIN_PAGE_TYPE] !== type) {
    throw new CorruptionError(
      `Cannot edit a BRIN page: special space at ${page.special}, page type 0x${
        page.u16[BRIN_PAGE_TYPE].toString(16)
      }`,
      { expected: `0x${type.toString(16)}` },
    );
  }
}

function deleteTuple(page: Page, offnum: number): void {
  checkBrinPage(page, BRIN_PAGETYPE_REGULAR);
  pageIndexTupleDeleteNoCompact(page, offnum);
}

/** `brinSetHeapBlockItemptr`: where the tuple of the range that holds `heapBlk` is now. */
function setHeapBlockItemptr(
  page: Page,
  record: DecodedRecord,
  pagesPerRange: number,
  heapBlk: number,
  block: number,
  offnum: number,
): void {
  checkBrinPage(page, BRIN_PAGETYPE_REVMAP);
  if (pagesPerRange === 0) throw corruptRecord(record, "ranges of no pages");
  const item = Math.floor(heapBlk / pagesPerRange) % REVMAP_PAGE_MAXITEMS;
  const at = SizeOfPageHeaderData + item * SizeOfItemPointerData;
  setTidBlock(page.u8, at, block);
  setTidOffset(page.u8, at, offnum);
}
