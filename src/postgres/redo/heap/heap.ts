/**
 * Redo of the resource managers heap and heap2: which function replays which record.
 *
 * Read path, inside replay. Each function edits the one page that it is given as PostgreSQL's heap_redo and heap2_redo
 * would, byte for byte but for what PostgreSQL itself masks when it checks redo (wal_consistency_checking), and sets
 * the page's LSN where PostgreSQL does.
 *
 * Source: PostgreSQL src/backend/access/heap/heapam_xlog.c (18), heapam.c (14-17).
 *
 * @module
 */
import type { Page } from "../../page/page.ts";
import { VISIBILITYMAP_FORKNUM } from "../../page/visibility_map.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { checkedBlockId } from "../record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "../registry.ts";
import {
  XLOG_HEAP2_FREEZE_PAGE,
  XLOG_HEAP2_LOCK_UPDATED,
  XLOG_HEAP2_MULTI_INSERT,
  XLOG_HEAP2_NEW_CID,
  XLOG_HEAP2_PRUNE,
  XLOG_HEAP2_REWRITE,
  XLOG_HEAP2_VACUUM,
  XLOG_HEAP2_VISIBLE,
  XLOG_HEAP_CONFIRM,
  XLOG_HEAP_DELETE,
  XLOG_HEAP_HOT_UPDATE,
  XLOG_HEAP_INPLACE,
  XLOG_HEAP_INSERT,
  XLOG_HEAP_LOCK,
  XLOG_HEAP_OPMASK,
  XLOG_HEAP_TRUNCATE,
  XLOG_HEAP_UPDATE,
} from "./heap_record.ts";
import { heapInsert, heapMultiInsert } from "./insert.ts";
import { heapConfirm, heapDelete, heapInplace, heapLock, heapLockUpdated } from "./change.ts";
import { heapUpdate } from "./update.ts";
import { clearMapBits, heapVisible, setMapBits } from "./visible.ts";
import { heapFreezePageV14, heapPruneV14, heapVacuumV14 } from "./prune_v14.ts";
import { heapFreezePageV16 } from "./freeze_v16.ts";
import { heapPruneFreezeV17 } from "./prune_v17.ts";

/** Replays one heap record on one page. See `RedoFunction`. */
export function redoHeap(page: Page, record: DecodedRecord, target: RedoTarget, _context: RedoContext): void {
  if (target.fork === VISIBILITYMAP_FORKNUM) return clearMapBits(page, record, target);
  const index = target.blockIndex;
  checkedBlockId(record, index);
  switch (record.info & XLOG_HEAP_OPMASK) {
    case XLOG_HEAP_INSERT:
      return heapInsert(page, record, index);
    case XLOG_HEAP_DELETE:
      return heapDelete(page, record, index);
    case XLOG_HEAP_UPDATE:
      return heapUpdate(page, record, index, false);
    case XLOG_HEAP_HOT_UPDATE:
      return heapUpdate(page, record, index, true);
    case XLOG_HEAP_CONFIRM:
      return heapConfirm(page, record, index);
    case XLOG_HEAP_LOCK:
      return heapLock(page, record, index);
    case XLOG_HEAP_INPLACE:
      return heapInplace(page, record, index);
    case XLOG_HEAP_TRUNCATE:
      return; // for logical decoding only; the storage manager's record does the work
    default:
      throw unsupportedRecord(record);
  }
}

/** Replays one heap2 record on one page. See `RedoFunction`. */
export function redoHeap2(page: Page, record: DecodedRecord, target: RedoTarget, context: RedoContext): void {
  const opcode = record.info & XLOG_HEAP_OPMASK;
  if (target.fork === VISIBILITYMAP_FORKNUM) {
    return opcode === XLOG_HEAP2_VISIBLE
      ? setMapBits(page, record, target)
      : clearMapBits(page, record, target);
  }
  const index = target.blockIndex;
  checkedBlockId(record, index);
  switch (opcode) {
    case XLOG_HEAP2_PRUNE:
    case XLOG_HEAP2_VACUUM:
    case XLOG_HEAP2_FREEZE_PAGE:
      return redoPrune(page, record, index, opcode);
    case XLOG_HEAP2_VISIBLE:
      return heapVisible(page, record, index, context);
    case XLOG_HEAP2_MULTI_INSERT:
      return heapMultiInsert(page, record, index);
    case XLOG_HEAP2_LOCK_UPDATED:
      return heapLockUpdated(page, record, index);
    case XLOG_HEAP2_NEW_CID:
    case XLOG_HEAP2_REWRITE:
      return; // for logical decoding only; they name no page
    default:
      throw unsupportedRecord(record);
  }
}

/** The three opcodes whose records changed their shape from major to major. */
function redoPrune(page: Page, record: DecodedRecord, index: number, opcode: number): void {
  const shape = record.profile.heapPrune;
  if (shape === "v17") heapPruneFreezeV17(page, record, index);
  else if (opcode === XLOG_HEAP2_PRUNE) heapPruneV14(page, record, index);
  else if (opcode === XLOG_HEAP2_VACUUM) heapVacuumV14(page, record, index);
  else if (shape === "v16") heapFreezePageV16(page, record, index);
  else heapFreezePageV14(page, record, index);
}
