/**
 * Redo of btree records: which edit belongs to which block reference of which opcode.
 *
 * Read path, inside replay. Every edit sets the page's LSN, as `btree_redo` does.
 *
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c, access/nbtxlog.h (14-18). Blocks by id:
 * ```
 *                        0               1               2              3           4
 * INSERT_LEAF, _POST     leaf
 * INSERT_UPPER, _META    page            child           metapage
 * SPLIT_L, SPLIT_R       left half       right half I    right sibling  child
 * DEDUP, VACUUM, DELETE  leaf
 * MARK_PAGE_HALFDEAD     leaf I          parent
 * UNLINK_PAGE, _META     the page I      left sibling    right sibling  leaf I      metapage I
 * NEWROOT                root I          left child      metapage I
 * META_CLEANUP           metapage I                              (I: made from the record alone)
 * REUSE_PAGE             no page: a conflict for standbys
 * ```
 *
 * @module
 */
import { getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import { type DecodedRecord, XLR_RMGR_INFO_MASK } from "../../wal/record.ts";
import { blockNumberOf, checkedBlockId, checkedMain, unexpectedBlock } from "../record_checks.ts";
import { type RedoTarget, unsupportedRecord } from "../registry.ts";
import { deduplicate } from "./dedup.ts";
import { deleteItems, vacuumItems } from "./delete_items.ts";
import {
  lowerTopParent,
  makeDeleted,
  makeHalfDead,
  relinkLeft,
  relinkRight,
  removeDownlink,
} from "./delete_page.ts";
import { insertIntoPosting, insertTuple } from "./insert.ts";
import {
  BTP_INCOMPLETE_SPLIT,
  BTP_LEAF,
  BTP_ROOT,
  BTPO_FLAGS,
  BTPO_PREV,
  checkBtreePage,
  initBtreePage,
  P_NONE,
} from "./page_layout.ts";
import { restoreMeta, restoreTuples } from "./restore.ts";
import { rebuildLeftHalf, restoreRightHalf } from "./split.ts";

export const XLOG_BTREE_INSERT_LEAF = 0x00;
export const XLOG_BTREE_INSERT_UPPER = 0x10;
export const XLOG_BTREE_INSERT_META = 0x20;
export const XLOG_BTREE_SPLIT_L = 0x30;
export const XLOG_BTREE_SPLIT_R = 0x40;
export const XLOG_BTREE_INSERT_POST = 0x50;
export const XLOG_BTREE_DEDUP = 0x60;
export const XLOG_BTREE_DELETE = 0x70;
export const XLOG_BTREE_UNLINK_PAGE = 0x80;
export const XLOG_BTREE_UNLINK_PAGE_META = 0x90;
export const XLOG_BTREE_NEWROOT = 0xa0;
export const XLOG_BTREE_MARK_PAGE_HALFDEAD = 0xb0;
export const XLOG_BTREE_VACUUM = 0xc0;
export const XLOG_BTREE_REUSE_PAGE = 0xd0;
export const XLOG_BTREE_META_CLEANUP = 0xe0;

const SizeOfBtreeNewroot = 8;

/** Replays a btree record on one page. */
export function redoBtree(page: Page, record: DecodedRecord, target: RedoTarget): void {
  const index = target.blockIndex;
  const id = checkedBlockId(record, index);
  const opcode = record.info & XLR_RMGR_INFO_MASK;
  switch (opcode) {
    case XLOG_BTREE_INSERT_LEAF:
      insertTuple(page, record, onlyBlock0(record, index, id));
      break;
    case XLOG_BTREE_INSERT_UPPER:
    case XLOG_BTREE_INSERT_META:
      redoInsertUpper(page, record, index, id, opcode === XLOG_BTREE_INSERT_META);
      break;
    case XLOG_BTREE_SPLIT_L:
    case XLOG_BTREE_SPLIT_R:
      redoSplit(page, record, index, id, opcode === XLOG_BTREE_SPLIT_L);
      break;
    case XLOG_BTREE_INSERT_POST:
      insertIntoPosting(page, record, onlyBlock0(record, index, id));
      break;
    case XLOG_BTREE_DEDUP:
      deduplicate(page, record, onlyBlock0(record, index, id));
      break;
    case XLOG_BTREE_VACUUM:
      vacuumItems(page, record, onlyBlock0(record, index, id));
      break;
    case XLOG_BTREE_DELETE:
      deleteItems(page, record, onlyBlock0(record, index, id));
      break;
    case XLOG_BTREE_MARK_PAGE_HALFDEAD:
      if (id === 0) makeHalfDead(page, record);
      else if (id === 1) removeDownlink(page, record);
      else throw unexpectedBlock(record, id);
      break;
    case XLOG_BTREE_UNLINK_PAGE:
    case XLOG_BTREE_UNLINK_PAGE_META:
      redoUnlinkPage(page, record, index, id, opcode === XLOG_BTREE_UNLINK_PAGE_META);
      break;
    case XLOG_BTREE_NEWROOT:
      redoNewRoot(page, record, index, id);
      break;
    case XLOG_BTREE_META_CLEANUP:
      restoreMeta(page, record, onlyBlock0(record, index, id));
      break;
    case XLOG_BTREE_REUSE_PAGE:
      throw unexpectedBlock(record, id);
    default:
      throw unsupportedRecord(record);
  }
  page.setLsn(record.endLsn);
}

function onlyBlock0(record: DecodedRecord, index: number, id: number): number {
  if (id !== 0) throw unexpectedBlock(record, id);
  return index;
}

function redoInsertUpper(
  page: Page,
  record: DecodedRecord,
  index: number,
  id: number,
  hasMeta: boolean,
): void {
  if (id === 0) insertTuple(page, record, index);
  else if (id === 1) finishSplit(page);
  else if (id === 2 && hasMeta) restoreMeta(page, record, index);
  else throw unexpectedBlock(record, id);
}

function redoSplit(
  page: Page,
  record: DecodedRecord,
  index: number,
  id: number,
  newItemOnLeft: boolean,
): void {
  if (id === 0) rebuildLeftHalf(page, record, index, newItemOnLeft);
  else if (id === 1) restoreRightHalf(page, record, index);
  else if (id === 2) {
    checkBtreePage(page);
    page.u32[BTPO_PREV] = blockNumberOf(record, 1);
  } else if (id === 3) finishSplit(page);
  else throw unexpectedBlock(record, id);
}

function redoUnlinkPage(
  page: Page,
  record: DecodedRecord,
  index: number,
  id: number,
  hasMeta: boolean,
): void {
  if (id === 0) makeDeleted(page, record);
  else if (id === 1) relinkLeft(page, record);
  else if (id === 2) relinkRight(page, record);
  else if (id === 3) lowerTopParent(page, record);
  else if (id === 4 && hasMeta) restoreMeta(page, record, index);
  else throw unexpectedBlock(record, id);
}

function redoNewRoot(page: Page, record: DecodedRecord, index: number, id: number): void {
  const level = getU32(record.bytes, checkedMain(record, SizeOfBtreeNewroot) + 4);
  if (id === 0) {
    initBtreePage(page, P_NONE, P_NONE, level, level === 0 ? BTP_ROOT | BTP_LEAF : BTP_ROOT);
    if (level > 0) restoreTuples(page, record, index);
  } else if (id === 1 && level > 0) finishSplit(page);
  else if (id === 2) restoreMeta(page, record, index);
  else throw unexpectedBlock(record, id);
}

/** `_bt_clear_incomplete_split`: the downlink to the page's right sibling is in their parent now. */
function finishSplit(page: Page): void {
  checkBtreePage(page);
  page.u16[BTPO_FLAGS] &= ~BTP_INCOMPLETE_SPLIT;
}
