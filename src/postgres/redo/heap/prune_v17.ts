/**
 * Redo of 17's merged record of pruning, freezing and vacuuming a heap page: XLOG_HEAP2_PRUNE_ON_ACCESS,
 * _PRUNE_VACUUM_SCAN and _PRUNE_VACUUM_CLEANUP, which differ in nothing but why they were written.
 *
 * Read path, inside replay of one heap2 record.
 *
 * Record (PostgreSQL src/include/access/heapam_xlog.h, 17 and 18; little-endian):
 * ```
 * xl_heap_prune   main data:  0 1 reason   1 1 flags   [XLHP_HAS_CONFLICT_HORIZON: 4 xid]
 *                 block data, each part only if its flag is set:
 *                   XLHP_HAS_FREEZE_PLANS       2 nplans   2 -   12*nplans plans
 *                   XLHP_HAS_REDIRECTIONS       2 count    4*count pairs of offset numbers
 *                   XLHP_HAS_DEAD_ITEMS         2 count    2*count offset numbers
 *                   XLHP_HAS_NOW_UNUSED_ITEMS   2 count    2*count offset numbers
 *                   the offset numbers of the freeze plans, to the end
 * ```
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageTruncateLinePointerArray } from "../page_compaction.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import {
  executeFreezePlans,
  repairFragmentation,
  setDead,
  setRedirects,
  setUnused,
  SizeOfFreezePlan,
} from "./prune_execute.ts";

const SizeOfHeapPrune = 2;

const XLHP_CLEANUP_LOCK = 1 << 2;
const XLHP_HAS_FREEZE_PLANS = 1 << 4;
const XLHP_HAS_REDIRECTIONS = 1 << 5;
const XLHP_HAS_DEAD_ITEMS = 1 << 6;
const XLHP_HAS_NOW_UNUSED_ITEMS = 1 << 7;

/** `heap_xlog_prune_freeze`. */
export function heapPruneFreezeV17(page: Page, record: DecodedRecord, index: number): void {
  const bytes = record.bytes;
  const flags = bytes[checkedMain(record, SizeOfHeapPrune) + 1];
  const end = record.dataOffset[index] + record.dataLength[index];
  let at = record.dataOffset[index];
  let plans = 0;
  let nplans = 0;
  let changed = 0;
  page.checkPointers();
  if ((flags & XLHP_HAS_FREEZE_PLANS) !== 0) {
    nplans = checkedCount(record, at, 2, SizeOfFreezePlan, end);
    plans = at + 4;
    at = plans + nplans * SizeOfFreezePlan;
  }
  if ((flags & XLHP_HAS_REDIRECTIONS) !== 0) {
    const count = checkedCount(record, at, 0, 4, end);
    setRedirects(page, record, at + 2, count);
    at += 2 + 4 * count;
    changed += count;
  }
  if ((flags & XLHP_HAS_DEAD_ITEMS) !== 0) {
    const count = checkedCount(record, at, 0, 2, end);
    setDead(page, record, at + 2, count);
    at += 2 + 2 * count;
    changed += count;
  }
  if ((flags & XLHP_HAS_NOW_UNUSED_ITEMS) !== 0) {
    const count = checkedCount(record, at, 0, 2, end);
    setUnused(page, record, at + 2, count);
    at += 2 + 2 * count;
    changed += count;
  }
  if (changed > 0) {
    // Without the cleanup lock, others may hold pins: only line pointers may go then, no tuple moves.
    if ((flags & XLHP_CLEANUP_LOCK) === 0) pageTruncateLinePointerArray(page);
    else repairFragmentation(page, record);
  }
  at = executeFreezePlans(page, record, plans, nplans, at, end);
  if (at !== end) {
    throw corruptRecord(record, "its parts and its length disagree", `${end - at} bytes less`);
  }
  page.setLsn(record.endLsn);
}

/** Reads a count and checks that as many items of `itemSize` fit behind it (and its padding). */
function checkedCount(
  record: DecodedRecord,
  at: number,
  padding: number,
  itemSize: number,
  end: number,
): number {
  const count = at + 2 <= end ? getU16(record.bytes, at) : 0;
  const needed = 2 + padding + count * itemSize;
  if (at + needed > end) throw corruptRecord(record, "its block data are cut off", needed, end - at);
  return count;
}
