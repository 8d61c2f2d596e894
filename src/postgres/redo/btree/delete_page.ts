/**
 * Redo of btree page deletion: a leaf is marked half-dead, then it and its ancestors without other children are
 * unlinked from their siblings.
 *
 * Read path, inside replay. Deleted pages hold nothing worth keeping, so they are made from scratch.
 *
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c `btree_xlog_mark_page_halfdead`, `btree_xlog_unlink_page`,
 * access/nbtxlog.h (the same in 14-18):
 * ```
 * xl_btree_mark_page_halfdead   0 2 poffset   4 4 leafblk   8 4 leftblk   12 4 rightblk   16 4 topparent
 * xl_btree_unlink_page          0 4 leftsib   4 4 rightsib  8 4 level     16 8 safexid
 *                              24 4 leafleftsib   28 4 leafrightsib   32 4 leaftopparent
 * ```
 *
 * @module
 */
import { getU16, getU32, setU16 } from "../../../bytes/little_endian.ts";
import { setTidBlock, SizeOfIndexTupleData, tidBlock } from "../../page/index_tuple.ts";
import { type Page, SizeOfPageHeaderData } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageIndexTupleDelete, pageReserveItem } from "../page_edit.ts";
import { checkedMain, unexpectedBlock } from "../record_checks.ts";
import {
  BTP_DELETED,
  BTP_HALF_DEAD,
  BTP_HAS_FULLXID,
  BTP_LEAF,
  BTPO_NEXT,
  BTPO_PREV,
  checkBtreePage,
  checkedTuple,
  initBtreePage,
  P_HIKEY,
  P_NONE,
} from "./page_layout.ts";
import { INDEX_ALT_TID_MASK } from "./posting.ts";

const SizeOfBtreeMarkPageHalfDead = 20;
const SizeOfBtreeUnlinkPage = 36;

/**
 * MARK_PAGE_HALFDEAD on the parent: the downlink to the leaf goes, with the key of the tuple after it. What is left is
 * the leaf's key with the downlink to its right sibling.
 */
export function removeDownlink(page: Page, record: DecodedRecord): void {
  checkBtreePage(page);
  const main = checkedMain(record, SizeOfBtreeMarkPageHalfDead);
  const poffset = getU16(record.bytes, main);
  const right = tidBlock(page.u8, checkedTuple(page, poffset + 1));
  setTidBlock(page.u8, checkedTuple(page, poffset), right);
  pageIndexTupleDelete(page, poffset + 1);
}

/** MARK_PAGE_HALFDEAD on the leaf. */
export function makeHalfDead(page: Page, record: DecodedRecord): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfBtreeMarkPageHalfDead);
  initHalfDead(page, getU32(bytes, main + 8), getU32(bytes, main + 12), getU32(bytes, main + 16));
}

/** A half-dead leaf: no tuples but a high key without attributes that points at the top of the subtree to delete. */
function initHalfDead(page: Page, prev: number, next: number, topParent: number): void {
  initBtreePage(page, prev, next, 0, BTP_HALF_DEAD | BTP_LEAF);
  const highKey = pageReserveItem(page, SizeOfIndexTupleData, P_HIKEY, false);
  setTidBlock(page.u8, highKey, topParent);
  setU16(page.u8, highKey + 6, SizeOfIndexTupleData | INDEX_ALT_TID_MASK);
}

/** UNLINK_PAGE on the page that is unlinked: `BTPageSetDeleted` on an empty page. */
export function makeDeleted(page: Page, record: DecodedRecord): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfBtreeUnlinkPage);
  const level = getU32(bytes, main + 8);
  const flags = BTP_DELETED | BTP_HAS_FULLXID | (level === 0 ? BTP_LEAF : 0);
  initBtreePage(page, getU32(bytes, main), getU32(bytes, main + 4), level, flags);
  page.u32[SizeOfPageHeaderData / 4] = getU32(bytes, main + 16);
  page.u32[SizeOfPageHeaderData / 4 + 1] = getU32(bytes, main + 20);
  page.lower = SizeOfPageHeaderData + 8;
}

/** UNLINK_PAGE on the left sibling. */
export function relinkLeft(page: Page, record: DecodedRecord): void {
  checkBtreePage(page);
  const main = checkedMain(record, SizeOfBtreeUnlinkPage);
  if (getU32(record.bytes, main) === P_NONE) throw unexpectedBlock(record, 1);
  page.u32[BTPO_NEXT] = getU32(record.bytes, main + 4);
}

/** UNLINK_PAGE on the right sibling. */
export function relinkRight(page: Page, record: DecodedRecord): void {
  checkBtreePage(page);
  page.u32[BTPO_PREV] = getU32(record.bytes, checkedMain(record, SizeOfBtreeUnlinkPage));
}

/** UNLINK_PAGE of an ancestor, on its half-dead leaf: the top of the subtree is now one level lower. */
export function lowerTopParent(page: Page, record: DecodedRecord): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfBtreeUnlinkPage);
  initHalfDead(page, getU32(bytes, main + 24), getU32(bytes, main + 28), getU32(bytes, main + 32));
}
