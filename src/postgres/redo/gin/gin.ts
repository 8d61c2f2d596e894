/**
 * Redo of GIN records: which edit belongs to which block reference of which opcode.
 *
 * Read path, inside replay. Every edit sets the page's LSN, as `gin_redo` does.
 *
 * Source: PostgreSQL src/backend/access/gin/ginxlog.c, access/ginxlog.h (the same in 14-18). Blocks by id:
 * ```
 *                         0               1                  2                    3
 * CREATE_PTREE            root I
 * INSERT                  page            left child
 * SPLIT                   left half F     right half F       root or original F   left child
 * VACUUM_PAGE             entry leaf F
 * DELETE_PAGE             the page        parent             left sibling
 * UPDATE_META_PAGE        metapage I      tail of the list
 * INSERT_LISTPAGE         list page I
 * DELETE_LISTPAGE         metapage I      up to 16 list pages I
 * VACUUM_DATA_LEAF_PAGE   data leaf      (I: made from the record alone; F: always an image, redo is an error)
 * ```
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import { type DecodedRecord, XLR_RMGR_INFO_MASK } from "../../wal/record.ts";
import { checkedBlockId, checkedMain, corruptRecord, unexpectedBlock } from "../record_checks.ts";
import { type RedoTarget, unsupportedRecord } from "../registry.ts";
import { checkGinPage, GIN_FLAGS, GIN_INCOMPLETE_SPLIT } from "./page_layout.ts";
import { deleteListPages, makeListPage, updateMeta } from "./pending_list.ts";
import { recompressLeaf } from "./recompress.ts";
import {
  createPostingTree,
  deletePostingItem,
  insertEntry,
  insertPostingItem,
  linkPastDeleted,
  markDeleted,
} from "./trees.ts";

export const XLOG_GIN_CREATE_PTREE = 0x10;
export const XLOG_GIN_INSERT = 0x20;
export const XLOG_GIN_SPLIT = 0x30;
export const XLOG_GIN_VACUUM_PAGE = 0x40;
export const XLOG_GIN_DELETE_PAGE = 0x50;
export const XLOG_GIN_UPDATE_META_PAGE = 0x60;
export const XLOG_GIN_INSERT_LISTPAGE = 0x70;
export const XLOG_GIN_DELETE_LISTPAGE = 0x80;
export const XLOG_GIN_VACUUM_DATA_LEAF_PAGE = 0x90;

/** Flags of INSERT and SPLIT. */
export const GIN_INSERT_ISDATA = 0x01;
export const GIN_INSERT_ISLEAF = 0x02;
export const GIN_SPLIT_ROOT = 0x04;

/** Where ginxlogSplit has its flags: relation 12, rrlink 4, left child 4, right child 4, flags 2. */
export const SPLIT_FLAGS = 24;

/** Replays a GIN record on one page. */
export function redoGin(page: Page, record: DecodedRecord, target: RedoTarget): void {
  const index = target.blockIndex;
  const id = checkedBlockId(record, index);
  switch (record.info & XLR_RMGR_INFO_MASK) {
    case XLOG_GIN_CREATE_PTREE:
      if (id !== 0) throw unexpectedBlock(record, id);
      createPostingTree(page, record);
      break;
    case XLOG_GIN_INSERT:
      redoInsert(page, record, index, id);
      break;
    case XLOG_GIN_SPLIT:
      redoSplit(page, record, id);
      break;
    case XLOG_GIN_VACUUM_PAGE:
      throw imageIsMissing(record, id);
    case XLOG_GIN_DELETE_PAGE:
      if (id === 0) markDeleted(page, record);
      else if (id === 1) deletePostingItem(page, record);
      else if (id === 2) linkPastDeleted(page, record);
      else throw unexpectedBlock(record, id);
      break;
    case XLOG_GIN_UPDATE_META_PAGE:
      updateMeta(page, record, index, id);
      break;
    case XLOG_GIN_INSERT_LISTPAGE:
      if (id !== 0) throw unexpectedBlock(record, id);
      makeListPage(page, record, index);
      break;
    case XLOG_GIN_DELETE_LISTPAGE:
      deleteListPages(page, record, index, id);
      break;
    case XLOG_GIN_VACUUM_DATA_LEAF_PAGE:
      if (id !== 0) throw unexpectedBlock(record, id);
      recompressLeaf(page, record, index);
      break;
    default:
      throw unsupportedRecord(record);
  }
  page.setLsn(record.endLsn);
}

function redoInsert(page: Page, record: DecodedRecord, index: number, id: number): void {
  const flags = getU16(record.bytes, checkedMain(record, 2));
  const isLeaf = (flags & GIN_INSERT_ISLEAF) !== 0;
  if (id === 1 && !isLeaf) finishSplit(page);
  else if (id !== 0) throw unexpectedBlock(record, id);
  else if ((flags & GIN_INSERT_ISDATA) === 0) insertEntry(page, record, index, isLeaf);
  else if (isLeaf) recompressLeaf(page, record, index);
  else insertPostingItem(page, record, index);
}

function redoSplit(page: Page, record: DecodedRecord, id: number): void {
  const flags = getU16(record.bytes, checkedMain(record, SPLIT_FLAGS + 2) + SPLIT_FLAGS);
  if (id === 3 && (flags & GIN_INSERT_ISLEAF) === 0) finishSplit(page);
  else if (id > 2) throw unexpectedBlock(record, id);
  else throw imageIsMissing(record, id);
}

function imageIsMissing(record: DecodedRecord, id: number): Error {
  return corruptRecord(record, `block reference ${id} has no image`);
}

/** `ginRedoClearIncompleteSplit`: the downlink to the page's right sibling is in their parent now. */
function finishSplit(page: Page): void {
  checkGinPage(page);
  page.u16[GIN_FLAGS] &= ~GIN_INCOMPLETE_SPLIT;
}
