/**
 * Redo of GiST records: which edit belongs to which block reference of which opcode.
 *
 * Read path, inside replay. Every edit sets the page's LSN, as `gist_redo` does.
 *
 * Source: PostgreSQL src/backend/access/gist/gistxlog.c, access/gistxlog.h (14-18). Blocks by id:
 * ```
 *               0                              1                                2..npage
 * PAGE_UPDATE   page                           left half of the split finished
 * DELETE        leaf
 * PAGE_SPLIT    left half of the split finished   original page or root I       new pages I
 * PAGE_DELETE   the page                       parent                           (I: made from the record alone)
 * PAGE_REUSE, ASSIGN_LSN   no page: a conflict for standbys, and an LSN for a relation that is not logged yet
 * ```
 * The left half of a finished split is the one page of all that its own image does not complete: PostgreSQL clears its
 * F_FOLLOW_RIGHT and sets its NSN to the record's LSN after it has written the record. See
 * {@linkcode gistImageNeedsRedo}.
 *
 * @module
 */
import type { Lsn } from "../../../lsn.ts";
import type { Page } from "../../page/page.ts";
import { type DecodedRecord, XLR_RMGR_INFO_MASK } from "../../wal/record.ts";
import { RM_GIST_ID } from "../../wal/rmgr.ts";
import { checkedBlockId, unexpectedBlock } from "../record_checks.ts";
import { type RedoTarget, unsupportedRecord } from "../registry.ts";
import { deleteDeadTuples, markDeleted, removeDownlink, updatePage } from "./edits.ts";
import { checkGistPage, F_FOLLOW_RIGHT, GIST_FLAGS, setNsn } from "./page_layout.ts";
import { makeSplitPage } from "./split.ts";

export const XLOG_GIST_PAGE_UPDATE = 0x00;
export const XLOG_GIST_DELETE = 0x10;
export const XLOG_GIST_PAGE_REUSE = 0x20;
export const XLOG_GIST_PAGE_SPLIT = 0x30;
export const XLOG_GIST_PAGE_DELETE = 0x60;
export const XLOG_GIST_ASSIGN_LSN = 0x70;

/** Replays a GiST record on one page. */
export function redoGist(page: Page, record: DecodedRecord, target: RedoTarget): void {
  const index = target.blockIndex;
  const id = checkedBlockId(record, index);
  switch (record.info & XLR_RMGR_INFO_MASK) {
    case XLOG_GIST_PAGE_UPDATE:
      if (id === 0) updatePage(page, record, index);
      else if (id === 1) finishGistSplit(page, record.endLsn);
      else throw unexpectedBlock(record, id);
      break;
    case XLOG_GIST_DELETE:
      if (id !== 0) throw unexpectedBlock(record, id);
      deleteDeadTuples(page, record);
      break;
    case XLOG_GIST_PAGE_SPLIT:
      if (id === 0) finishGistSplit(page, record.endLsn);
      else makeSplitPage(page, record, index, id);
      break;
    case XLOG_GIST_PAGE_DELETE:
      if (id === 0) markDeleted(page, record);
      else if (id === 1) removeDownlink(page, record);
      else throw unexpectedBlock(record, id);
      break;
    case XLOG_GIST_PAGE_REUSE:
    case XLOG_GIST_ASSIGN_LSN:
      throw unexpectedBlock(record, id);
    default:
      throw unsupportedRecord(record);
  }
  page.setLsn(record.endLsn);
}

/**
 * Whether a page restored from the image of this block reference still lacks what the record did to it: then
 * {@linkcode finishGistSplit} must follow. False for records of other managers.
 */
export function gistImageNeedsRedo(record: DecodedRecord, index: number): boolean {
  if (record.rmid !== RM_GIST_ID) return false;
  const opcode = record.info & XLR_RMGR_INFO_MASK;
  return (opcode === XLOG_GIST_PAGE_UPDATE && record.blockId[index] === 1) ||
    (opcode === XLOG_GIST_PAGE_SPLIT && record.blockId[index] === 0);
}

/**
 * `gistRedoClearFollowRight`: the downlink to the page's right sibling is in their parent now, by the record that ends
 * at `lsn`.
 *
 * @throws {CorruptionError} If it is no GiST page.
 */
export function finishGistSplit(page: Page, lsn: Lsn): void {
  checkGistPage(page);
  setNsn(page, lsn);
  page.u16[GIST_FLAGS] &= ~F_FOLLOW_RIGHT;
  page.setLsn(lsn);
}
