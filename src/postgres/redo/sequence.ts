/**
 * Redo of the resource manager Sequence: the page is laid out anew with the record's one tuple.
 *
 * Read path, inside replay. A server's own page may hold a later state than its last record: nextval() logs 32 values
 * ahead, so that a replayed sequence resumes after a gap, as it does after a crash.
 *
 * Record and page (PostgreSQL src/include/commands/sequence.h, src/backend/commands/sequence.c, 14-18):
 * ```
 * xl_seq_rec   main data:  0 12 relation (spc, db, rel), then the tuple with its header
 * page         special space of 8 bytes: 0 4 magic 0x1717
 * ```
 *
 * @module
 */
import { FirstOffsetNumber, type Page } from "../page/page.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { pageAddItem, pageInit } from "./page_edit.ts";
import { checkedBlockId, checkedMain, corruptRecord } from "./record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "./registry.ts";

export const XLOG_SEQ_LOG = 0x00;
export const SEQ_MAGIC = 0x1717;

const SizeOfSeqRec = 12;
/** `sizeof(sequence_magic)`. */
const SizeOfSequenceMagic = 4;

/** Replays one sequence record on the sequence's page. See `RedoFunction`. */
export function redoSequence(
  page: Page,
  record: DecodedRecord,
  target: RedoTarget,
  _context: RedoContext,
): void {
  if (record.opInfo !== XLOG_SEQ_LOG) throw unsupportedRecord(record);
  const main = checkedMain(record, SizeOfSeqRec + 1);
  if (checkedBlockId(record, target.blockIndex) !== 0) {
    throw corruptRecord(record, "its page has another block id");
  }
  pageInit(page, SizeOfSequenceMagic);
  page.u32[page.special >> 2] = SEQ_MAGIC;
  const length = record.mainLength - SizeOfSeqRec;
  pageAddItem(page, record.bytes, main + SizeOfSeqRec, length, FirstOffsetNumber, false);
  page.setLsn(record.endLsn);
}
