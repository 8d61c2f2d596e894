/**
 * The btree page: its special space, its kinds, and how redo makes, checks and rebuilds one.
 *
 * Read path, inside replay. The special space always is the page's last 16 bytes, so its fields are read and written
 * through constant indexes of the page's aligned views, after {@linkcode checkBtreePage} has seen that
 * `pd_special` agrees.
 *
 * BTPageOpaqueData (PostgreSQL src/include/access/nbtree.h, 14-18; little-endian):
 * ```
 * offset width name
 *   8176     4 btpo_prev      left sibling, P_NONE on the leftmost page
 *   8180     4 btpo_next      right sibling, P_NONE on the rightmost page
 *   8184     4 btpo_level     0 on leaves
 *   8188     2 btpo_flags     BTP_*
 *   8190     2 btpo_cycleid   VACUUM cycle that split the page
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../../errors.ts";
import { SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { BLCKSZ, FirstOffsetNumber, Page, SizeOfPageHeaderData } from "../../page/page.ts";
import { pageInit } from "../page_edit.ts";

export const P_NONE = 0;
export const P_HIKEY = 1;

export const BTP_LEAF = 1 << 0;
export const BTP_ROOT = 1 << 1;
export const BTP_DELETED = 1 << 2;
export const BTP_META = 1 << 3;
export const BTP_HALF_DEAD = 1 << 4;
export const BTP_SPLIT_END = 1 << 5;
export const BTP_HAS_GARBAGE = 1 << 6;
export const BTP_INCOMPLETE_SPLIT = 1 << 7;
export const BTP_HAS_FULLXID = 1 << 8;

/** `BTMaxItemSize`: a third of a page, less room for a tiebreaker heap TID. */
export const BTMaxItemSize = 2704;

const SizeOfBTPageOpaqueData = 16;
/** `pd_special` of every btree page. */
export const BTREE_SPECIAL = BLCKSZ - SizeOfBTPageOpaqueData;

/** Indexes into `Page.u32`. */
export const BTPO_PREV = BTREE_SPECIAL / 4;
export const BTPO_NEXT = BTPO_PREV + 1;
export const BTPO_LEVEL = BTPO_PREV + 2;
/** Indexes into `Page.u16`. */
export const BTPO_FLAGS = BTREE_SPECIAL / 2 + 6;
export const BTPO_CYCLEID = BTPO_FLAGS + 1;

/** Refuses a page without a btree's special space: new, zeroed, or of something else. */
export function checkBtreePage(page: Page): void {
  if (page.special !== BTREE_SPECIAL) {
    throw new CorruptionError("Cannot edit a btree page: no btree special space", {
      expected: BTREE_SPECIAL,
      got: page.special,
    });
  }
}

/** `_bt_pageinit`, and the special space filled in. */
export function initBtreePage(page: Page, prev: number, next: number, level: number, flags: number): void {
  pageInit(page, SizeOfBTPageOpaqueData);
  page.u32[BTPO_PREV] = prev;
  page.u32[BTPO_NEXT] = next;
  page.u32[BTPO_LEVEL] = level;
  page.u16[BTPO_FLAGS] = flags;
}

/** `P_FIRSTDATAKEY`: all pages but the rightmost have their high key first. */
export function firstDataKey(page: Page): number {
  return page.u32[BTPO_NEXT] === P_NONE ? P_HIKEY : P_HIKEY + 1;
}

/**
 * Start of an index tuple on the page, after checking that its line pointer exists and that the item holds a tuple
 * header and ends before the special space. Whatever `lp_flags` says: they are hints here (LP_DEAD).
 *
 * @throws {CorruptionError} If any of that does not hold.
 */
export function checkedTuple(page: Page, offnum: number): number {
  if (offnum < FirstOffsetNumber || offnum > page.maxOffsetNumber()) {
    throw new CorruptionError("Cannot find the btree tuple", {
      expected: `1..${page.maxOffsetNumber()}`,
      got: offnum,
    });
  }
  const offset = page.itemOffset(offnum);
  const length = page.itemLength(offnum);
  if (length < SizeOfIndexTupleData || offset < SizeOfPageHeaderData || offset + length > BTREE_SPECIAL) {
    throw new CorruptionError(`Cannot use btree tuple ${offnum}: offset ${offset}, length ${length}`);
  }
  return offset;
}

// Redo is synchronous: one page is rebuilt at a time.
const original = new Page();

/**
 * Empties the page but for its special space (`PageGetTempPageCopySpecial`), to be filled again from the copy of what
 * it was. The copy is valid until the next call.
 */
export function startRebuild(page: Page): Page {
  page.checkPointers();
  original.u32.set(page.u32);
  pageInit(page, SizeOfBTPageOpaqueData);
  for (let index = BTPO_PREV; index < BLCKSZ / 4; index++) page.u32[index] = original.u32[index];
  return original;
}
