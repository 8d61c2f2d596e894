/**
 * Redo of hash index records: which edit belongs to which block reference of which opcode.
 *
 * Read path, inside replay. Pages that a record names only so that standbys lock them (lock) are left alone, LSN and
 * all.
 *
 * Source: PostgreSQL src/backend/access/hash/hash_xlog.c, access/hash_xlog.h (14-18). Blocks by id:
 * ```
 *                       0            1              2            3             4          5        6
 * INIT_META_PAGE        metapage I
 * INIT_BITMAP_PAGE      bitmap I     metapage
 * INSERT                page         metapage
 * ADD_OVFL_PAGE         overflow I   page before    bitmap       new bitmap I  metapage
 * SPLIT_ALLOCATE_PAGE   old bucket   new bucket I   metapage
 * SPLIT_PAGE            always an image
 * SPLIT_COMPLETE        old bucket   new bucket
 * MOVE_PAGE_CONTENTS    bucket lock  page written   page read
 * SQUEEZE_PAGE          bucket lock  page written   page freed   page before   page after bitmap   metapage
 * DELETE                bucket lock  page
 * SPLIT_CLEANUP         bucket
 * UPDATE_META_PAGE      metapage
 * VACUUM_ONE_PAGE       page         metapage                                 (I: made from the record alone)
 * ```
 *
 * @module
 */
import type { Page } from "../../page/page.ts";
import { type DecodedRecord, XLR_RMGR_INFO_MASK } from "../../wal/record.ts";
import { checkedBlockId, corruptRecord, unexpectedBlock } from "../record_checks.ts";
import { type RedoTarget, unsupportedRecord } from "../registry.ts";
import {
  redoAddOverflowPage,
  redoInitBitmapPage,
  redoInitMetaPage,
  redoMovePageContents,
  redoSplitAllocatePage,
  redoSplitComplete,
  redoSqueezePage,
  redoUpdateMetaPage,
} from "./pages.ts";
import { addTuples } from "./meta_page.ts";
import { checkHashPage, HASHO_FLAG, LH_BUCKET_NEEDS_SPLIT_CLEANUP } from "./page_layout.ts";
import { deadTuples, insertTuple, removeDeadTuples, vacuumTuples } from "./tuples.ts";

export const XLOG_HASH_INIT_META_PAGE = 0x00;
export const XLOG_HASH_INIT_BITMAP_PAGE = 0x10;
export const XLOG_HASH_INSERT = 0x20;
export const XLOG_HASH_ADD_OVFL_PAGE = 0x30;
export const XLOG_HASH_SPLIT_ALLOCATE_PAGE = 0x40;
export const XLOG_HASH_SPLIT_PAGE = 0x50;
export const XLOG_HASH_SPLIT_COMPLETE = 0x60;
export const XLOG_HASH_MOVE_PAGE_CONTENTS = 0x70;
export const XLOG_HASH_SQUEEZE_PAGE = 0x80;
export const XLOG_HASH_DELETE = 0x90;
export const XLOG_HASH_SPLIT_CLEANUP = 0xa0;
export const XLOG_HASH_UPDATE_META_PAGE = 0xb0;
export const XLOG_HASH_VACUUM_ONE_PAGE = 0xc0;

/** Replays a hash index record on one page. */
export function redoHash(page: Page, record: DecodedRecord, target: RedoTarget): void {
  const index = target.blockIndex;
  const id = checkedBlockId(record, index);
  if (redoOpcode(page, record, index, id)) page.setLsn(record.endLsn);
}

/** Returns whether the page was changed. */
function redoOpcode(page: Page, record: DecodedRecord, index: number, id: number): boolean {
  switch (record.info & XLR_RMGR_INFO_MASK) {
    case XLOG_HASH_INSERT:
      if (id === 0) insertTuple(page, record, index);
      else if (id === 1) addTuples(page, 1);
      else throw unexpectedBlock(record, id);
      return true;
    case XLOG_HASH_INIT_META_PAGE:
      return redoInitMetaPage(page, record, id);
    case XLOG_HASH_INIT_BITMAP_PAGE:
      return redoInitBitmapPage(page, record, id);
    case XLOG_HASH_ADD_OVFL_PAGE:
      return redoAddOverflowPage(page, record, index, id);
    case XLOG_HASH_SPLIT_ALLOCATE_PAGE:
      return redoSplitAllocatePage(page, record, index, id);
    case XLOG_HASH_SPLIT_PAGE:
      throw corruptRecord(record, "hash split record without a full-page image");
    case XLOG_HASH_SPLIT_COMPLETE:
      return redoSplitComplete(page, record, id);
    case XLOG_HASH_MOVE_PAGE_CONTENTS:
      return redoMovePageContents(page, record, index, id);
    case XLOG_HASH_SQUEEZE_PAGE:
      return redoSqueezePage(page, record, index, id);
    case XLOG_HASH_DELETE:
      if (id === 0) return false;
      if (id !== 1) throw unexpectedBlock(record, id);
      vacuumTuples(page, record, index);
      return true;
    case XLOG_HASH_SPLIT_CLEANUP:
      if (id !== 0) throw unexpectedBlock(record, id);
      checkHashPage(page);
      page.u16[HASHO_FLAG] &= ~LH_BUCKET_NEEDS_SPLIT_CLEANUP;
      return true;
    case XLOG_HASH_UPDATE_META_PAGE:
      return redoUpdateMetaPage(page, record, id);
    case XLOG_HASH_VACUUM_ONE_PAGE:
      if (id === 0) removeDeadTuples(page, record);
      else if (id === 1) addTuples(page, -deadTuples(record));
      else throw unexpectedBlock(record, id);
      return true;
    default:
      throw unsupportedRecord(record);
  }
}
