/**
 * Redo of the resource manager XLOG: full-page images, which the caller restores; nothing is left to do here.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/transam/xlog.c `xlog_redo`, src/include/catalog/pg_control.h (14-18).
 *
 * @module
 */
import type { Page } from "../page/page.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { RM_XLOG_ID } from "../wal/rmgr.ts";
import { corruptRecord } from "./record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "./registry.ts";

export const XLOG_FPI_FOR_HINT = 0xa0;
export const XLOG_FPI = 0xb0;

/** Whether the record's image is that of a page of which only a hint bit has changed. */
export function isHintImage(record: DecodedRecord): boolean {
  return record.rmid === RM_XLOG_ID && record.opInfo === XLOG_FPI_FOR_HINT;
}

/** Replays one XLOG record on a page for which it has no image that applies. See `RedoFunction`. */
export function redoXlog(
  _page: Page,
  record: DecodedRecord,
  target: RedoTarget,
  _context: RedoContext,
): void {
  const opcode = record.opInfo;
  // No other opcode names pages, so that one we know cannot come here either.
  if (opcode !== XLOG_FPI && opcode !== XLOG_FPI_FOR_HINT) throw unsupportedRecord(record);
  const index = target.blockIndex;
  const named = index >= 0 && index < record.blockCount;
  // A hint is logged without an image when full_page_writes is off: the hint is lost, as it may be.
  if (opcode === XLOG_FPI_FOR_HINT && named && !record.hasImage(index)) return;
  const got = named && record.hasImage(index) ? "one for checking only" : "none";
  throw corruptRecord(record, `no image to restore block ${target.block} from`, "an image that applies", got);
}
