/**
 * Redo of the hash index records that make, link and free pages.
 *
 * Read path, inside replay. Each function edits the page that the block reference `id` means and returns whether it
 * did: some pages are named only to be locked.
 *
 * Source: PostgreSQL src/backend/access/hash/hash_xlog.c, access/hash_xlog.h (14-18):
 * ```
 * xl_hash_init_meta_page        0 8 num_tuples (double)  8 4 procid  12 2 ffactor
 * xl_hash_init_bitmap_page      0 2 bmsize
 * xl_hash_add_ovfl_page         0 2 bmsize  2 1 bmpage_found
 * xl_hash_split_allocate_page   0 4 new_bucket  4 2 old_bucket_flag  6 2 new_bucket_flag  8 1 flags
 * xl_hash_split_complete        0 2 old_bucket_flag  2 2 new_bucket_flag
 * xl_hash_move_page_contents    0 2 ntups  2 1 is_prim_bucket_same_wrt
 * xl_hash_squeeze_page          0 4 prevblkno  4 4 nextblkno  8 2 ntups  10 1 is_prim_bucket_same_wrt
 *                              11 1 is_prev_bucket_same_wrt
 * xl_hash_update_meta_page      0 8 ntuples (double)
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { blockNumberOf, checkedData, checkedMain, unexpectedBlock } from "../record_checks.ts";
import {
  addBitmapPage,
  addFirstBitmapPage,
  addSpare,
  initMetaPage,
  setFirstFree,
  setMasks,
  setMaxBucket,
  setSplitpoint,
  setTuples,
} from "./meta_page.ts";
import {
  checkHashPage,
  HASHO_FLAG,
  HASHO_NEXTBLKNO,
  HASHO_PREVBLKNO,
  initBitmapPage,
  initHashPage,
  InvalidBlockNumber,
  InvalidBucket,
  LH_OVERFLOW_PAGE,
  LH_UNUSED_PAGE,
  setBitmapBit,
} from "./page_layout.ts";
import { addMovedTuples, deleteTuples } from "./tuples.ts";

const XLH_SPLIT_META_UPDATE_MASKS = 1 << 0;
const XLH_SPLIT_META_UPDATE_SPLITPOINT = 1 << 1;

// The double of XLOG_HASH_INIT_META_PAGE, which is not aligned in the record.
const double = new Float64Array(1);
const doubleWords = new Uint32Array(double.buffer);

export function redoInitMetaPage(page: Page, record: DecodedRecord, id: number): boolean {
  if (id !== 0) throw unexpectedBlock(record, id);
  const { bytes } = record;
  const main = checkedMain(record, 14);
  doubleWords[0] = getU32(bytes, main);
  doubleWords[1] = getU32(bytes, main + 4);
  initMetaPage(page, double[0], getU32(bytes, main + 8), getU16(bytes, main + 12));
  return true;
}

export function redoInitBitmapPage(page: Page, record: DecodedRecord, id: number): boolean {
  if (id === 0) initBitmapPage(page, getU16(record.bytes, checkedMain(record, 2)));
  else if (id === 1) addFirstBitmapPage(page);
  else throw unexpectedBlock(record, id);
  return true;
}

export function redoAddOverflowPage(page: Page, record: DecodedRecord, index: number, id: number): boolean {
  const { bytes } = record;
  const main = checkedMain(record, 3);
  if (id === 0) {
    const bucket = getU32(bytes, checkedData(record, index, 4));
    initHashPage(page, blockNumberOf(record, 1), bucket, LH_OVERFLOW_PAGE);
  } else if (id === 1) {
    checkHashPage(page);
    page.u32[HASHO_NEXTBLKNO] = blockNumberOf(record, 0);
  } else if (id === 2) setBitmapBit(page, getU32(bytes, checkedData(record, index, 4)), true);
  else if (id === 3) initBitmapPage(page, getU16(bytes, main));
  else if (id === 4) {
    setFirstFree(page, getU32(bytes, checkedData(record, index, 4)));
    const bitmapPageFound = bytes[main + 2] !== 0;
    if (!bitmapPageFound) {
      addSpare(page);
      const newBitmap = record.findBlock(3);
      if (newBitmap >= 0) {
        addBitmapPage(page, record.blockNumber[newBitmap]);
        addSpare(page);
      }
    }
  } else throw unexpectedBlock(record, id);
  return true;
}

export function redoSplitAllocatePage(page: Page, record: DecodedRecord, index: number, id: number): boolean {
  const { bytes } = record;
  const main = checkedMain(record, 9);
  const newBucket = getU32(bytes, main);
  if (id === 0) {
    checkHashPage(page);
    page.u16[HASHO_FLAG] = getU16(bytes, main + 4);
    page.u32[HASHO_PREVBLKNO] = newBucket;
  } else if (id === 1) initHashPage(page, newBucket, newBucket, getU16(bytes, main + 6));
  else if (id === 2) {
    setMaxBucket(page, newBucket);
    const flags = bytes[main + 8];
    let offset = 0;
    if ((flags & XLH_SPLIT_META_UPDATE_MASKS) !== 0) {
      const data = checkedData(record, index, 8);
      setMasks(page, getU32(bytes, data), getU32(bytes, data + 4));
      offset = 8;
    }
    if ((flags & XLH_SPLIT_META_UPDATE_SPLITPOINT) !== 0) {
      const data = checkedData(record, index, offset + 8) + offset;
      setSplitpoint(page, getU32(bytes, data), getU32(bytes, data + 4));
    }
  } else throw unexpectedBlock(record, id);
  return true;
}

export function redoSplitComplete(page: Page, record: DecodedRecord, id: number): boolean {
  if (id > 1) throw unexpectedBlock(record, id);
  checkHashPage(page);
  page.u16[HASHO_FLAG] = getU16(record.bytes, checkedMain(record, 4) + id * 2);
  return true;
}

export function redoMovePageContents(page: Page, record: DecodedRecord, index: number, id: number): boolean {
  if (id === 0) return false;
  if (id === 1) addMovedTuples(page, record, index, getU16(record.bytes, checkedMain(record, 3)));
  else if (id === 2) deleteTuples(page, record, index);
  else throw unexpectedBlock(record, id);
  return true;
}

export function redoSqueezePage(page: Page, record: DecodedRecord, index: number, id: number): boolean {
  const { bytes } = record;
  const main = checkedMain(record, 12);
  const writesPrevious = bytes[main + 11] !== 0;
  switch (id) {
    case 0:
      return false;
    case 1: {
      const ntups = getU16(bytes, main + 8);
      if (ntups > 0) addMovedTuples(page, record, index, ntups);
      if (writesPrevious) linkNext(page, getU32(bytes, main + 4));
      return ntups > 0 || writesPrevious || record.profile.hashSqueezeAlwaysStampsWritePage;
    }
    case 2:
      checkHashPage(page);
      initHashPage(page, InvalidBlockNumber, InvalidBucket, LH_UNUSED_PAGE);
      return true;
    case 3:
      if (writesPrevious) throw unexpectedBlock(record, id);
      linkNext(page, getU32(bytes, main + 4));
      return true;
    case 4:
      checkHashPage(page);
      page.u32[HASHO_PREVBLKNO] = getU32(bytes, main);
      return true;
    case 5:
      setBitmapBit(page, getU32(bytes, checkedData(record, index, 4)), false);
      return true;
    case 6:
      setFirstFree(page, getU32(bytes, checkedData(record, index, 4)));
      return true;
    default:
      throw unexpectedBlock(record, id);
  }
}

function linkNext(page: Page, block: number): void {
  checkHashPage(page);
  page.u32[HASHO_NEXTBLKNO] = block;
}

export function redoUpdateMetaPage(page: Page, record: DecodedRecord, id: number): boolean {
  if (id !== 0) throw unexpectedBlock(record, id);
  const main = checkedMain(record, 8);
  setTuples(page, getU32(record.bytes, main), getU32(record.bytes, main + 4));
  return true;
}
