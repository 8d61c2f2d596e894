/**
 * Redo of the resource manager Storage on map pages that a truncation cuts.
 *
 * Read path, inside replay. These records name no page. Making and cutting forks are effects; what is left are the
 * last kept pages of the visibility map and the free space map, whose bits and slots of truncated heap blocks must go.
 * Neither page's LSN changes, as in PostgreSQL.
 *
 * Record (PostgreSQL src/include/catalog/storage_xlog.h, 14-18):
 * ```
 * xl_smgr_truncate   main data:  0 4 blkno   4 12 relation (spc, db, rel)   16 4 flags: HEAP 1, VM 2, FSM 4
 * ```
 *
 * @module
 */
import { getU32 } from "../../bytes/little_endian.ts";
import { FSM_FORKNUM, fsmBlockCutByTruncate, fsmTruncateAvail } from "../page/free_space_map.ts";
import type { Page } from "../page/page.ts";
import {
  mapBlockCutByTruncate,
  VISIBILITYMAP_FORKNUM,
  visibilityMapTruncate,
} from "../page/visibility_map.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { checkedMain, corruptRecord } from "./record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "./registry.ts";

export const XLOG_SMGR_CREATE = 0x10;
export const XLOG_SMGR_TRUNCATE = 0x20;

export const SMGR_TRUNCATE_HEAP = 0x01;
export const SMGR_TRUNCATE_VM = 0x02;
export const SMGR_TRUNCATE_FSM = 0x04;

const SizeOfSmgrTruncate = 20;

/** Replays a truncation on a map page that loses only some of its entries. See `RedoFunction`. */
export function redoSmgr(page: Page, record: DecodedRecord, target: RedoTarget, _context: RedoContext): void {
  if (record.opInfo !== XLOG_SMGR_TRUNCATE) throw unsupportedRecord(record);
  const main = checkedMain(record, SizeOfSmgrTruncate);
  const heapBlocks = getU32(record.bytes, main);
  const flags = getU32(record.bytes, main + 16);
  if (target.fork === VISIBILITYMAP_FORKNUM && (flags & SMGR_TRUNCATE_VM) !== 0) {
    checkCut(record, mapBlockCutByTruncate(heapBlocks), target);
    if (!page.isNew()) visibilityMapTruncate(page, heapBlocks);
  } else if (target.fork === FSM_FORKNUM && (flags & SMGR_TRUNCATE_FSM) !== 0) {
    checkCut(record, fsmBlockCutByTruncate(heapBlocks), target);
    if (!page.isNew()) fsmTruncateAvail(page, heapBlocks);
  } else throw corruptRecord(record, `flags ${flags} do not truncate fork ${target.fork}`);
}

function checkCut(record: DecodedRecord, expected: number, target: RedoTarget): void {
  if (expected !== target.block) {
    throw corruptRecord(
      record,
      `truncation cuts another page of fork ${target.fork}`,
      expected,
      target.block,
    );
  }
}
