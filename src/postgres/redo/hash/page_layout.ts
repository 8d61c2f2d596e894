/**
 * The hash index page: its special space, its kinds, and how redo makes and checks one.
 *
 * Read path, inside replay. The special space always is the page's last 16 bytes, so its fields are read and written
 * through constant indexes of the page's aligned views, after {@linkcode checkHashPage} has seen that `pd_special` and
 * the page id agree.
 *
 * HashPageOpaqueData (PostgreSQL src/include/access/hash.h, 14-18; little-endian):
 * ```
 * offset width name
 *   8176     4 hasho_prevblkno   overflow page: previous page of the chain; bucket page: hashm_maxbucket of its split
 *   8180     4 hasho_nextblkno   next page of the chain
 *   8184     4 hasho_bucket
 *   8188     2 hasho_flag        LH_*
 *   8190     2 hasho_page_id     HASHO_PAGE_ID
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../../errors.ts";
import { BLCKSZ, type Page, SizeOfPageHeaderData } from "../../page/page.ts";
import { pageInit } from "../page_edit.ts";

export const LH_UNUSED_PAGE = 0;
export const LH_OVERFLOW_PAGE = 1 << 0;
export const LH_BUCKET_PAGE = 1 << 1;
export const LH_BITMAP_PAGE = 1 << 2;
export const LH_META_PAGE = 1 << 3;
export const LH_BUCKET_BEING_POPULATED = 1 << 4;
export const LH_BUCKET_BEING_SPLIT = 1 << 5;
export const LH_BUCKET_NEEDS_SPLIT_CLEANUP = 1 << 6;
export const LH_PAGE_HAS_DEAD_TUPLES = 1 << 7;

export const InvalidBlockNumber = 0xffffffff;
export const InvalidBucket = 0xffffffff;

const HASHO_PAGE_ID = 0xff80;
const SizeOfHashPageOpaqueData = 16;
/** `pd_special` of every hash page. */
export const HASH_SPECIAL = BLCKSZ - SizeOfHashPageOpaqueData;

/** Indexes into `Page.u32`. */
export const HASHO_PREVBLKNO = HASH_SPECIAL / 4;
export const HASHO_NEXTBLKNO = HASHO_PREVBLKNO + 1;
const HASHO_BUCKET = HASHO_PREVBLKNO + 2;
/** Indexes into `Page.u16`. */
export const HASHO_FLAG = HASH_SPECIAL / 2 + 6;
const HASHO_ID = HASHO_FLAG + 1;

/** Refuses a page without a hash index's special space: new, zeroed, or of something else. */
export function checkHashPage(page: Page): void {
  if (page.special !== HASH_SPECIAL || page.u16[HASHO_ID] !== HASHO_PAGE_ID) {
    throw new CorruptionError(
      `Cannot edit a hash index page: special space at ${page.special} with page id ${page.u16[HASHO_ID]}`,
    );
  }
}

/** `_hash_pageinit`, and the special space filled in; no next page. */
export function initHashPage(page: Page, prev: number, bucket: number, flag: number): void {
  pageInit(page, SizeOfHashPageOpaqueData);
  page.u32[HASHO_PREVBLKNO] = prev;
  page.u32[HASHO_NEXTBLKNO] = InvalidBlockNumber;
  page.u32[HASHO_BUCKET] = bucket;
  page.u16[HASHO_FLAG] = flag;
  page.u16[HASHO_ID] = HASHO_PAGE_ID;
}

/** `_hash_initbitmapbuffer`: a page of `bmsize` bytes with all bits set, one for each overflow page. */
export function initBitmapPage(page: Page, bmsize: number): void {
  if (bmsize > HASH_SPECIAL - SizeOfPageHeaderData) {
    throw new CorruptionError("Cannot make a hash bitmap page: too many bytes", {
      expected: `at most ${HASH_SPECIAL - SizeOfPageHeaderData}`,
      got: bmsize,
    });
  }
  initHashPage(page, InvalidBlockNumber, InvalidBucket, LH_BITMAP_PAGE);
  page.lower = SizeOfPageHeaderData + bmsize;
  page.u8.fill(0xff, SizeOfPageHeaderData, page.lower);
}

/** Sets or clears one bit of a bitmap page. */
export function setBitmapBit(page: Page, bit: number, value: boolean): void {
  checkHashPage(page);
  page.checkPointers();
  const byte = SizeOfPageHeaderData + Math.floor(bit / 8);
  if ((page.u16[HASHO_FLAG] & LH_BITMAP_PAGE) === 0 || byte >= page.lower) {
    throw new CorruptionError(`Cannot find bit ${bit} of a hash bitmap page that ends at byte ${page.lower}`);
  }
  if (value) page.u8[byte] |= 1 << (bit & 7);
  else page.u8[byte] &= ~(1 << (bit & 7));
}
