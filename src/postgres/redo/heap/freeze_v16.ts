/**
 * Redo of XLOG_HEAP2_FREEZE_PAGE of 16: tuples that are frozen alike share a plan.
 *
 * Read path, inside replay of one heap2 record. From 17 on the plans are part of the merged prune record.
 *
 * Record (PostgreSQL 16 src/include/access/heapam_xlog.h; little-endian):
 * ```
 * xl_heap_freeze_page   main data:  0 4 snapshotConflictHorizon   4 2 nplans   6 1 isCatalogRel
 *                       block data: nplans plans of 12 bytes, then all their offset numbers
 * ```
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import { executeFreezePlans, SizeOfFreezePlan } from "./prune_execute.ts";

const SizeOfHeapFreezePage = 7;

/** `heap_xlog_freeze_page` of 16. */
export function heapFreezePageV16(page: Page, record: DecodedRecord, index: number): void {
  const nplans = getU16(record.bytes, checkedMain(record, SizeOfHeapFreezePage) + 4);
  const plans = record.dataOffset[index];
  const offsets = plans + nplans * SizeOfFreezePlan;
  const end = plans + record.dataLength[index];
  if (offsets > end) {
    throw corruptRecord(record, "its freeze plans are cut off", offsets - plans, record.dataLength[index]);
  }
  executeFreezePlans(page, record, plans, nplans, offsets, end);
  page.setLsn(record.endLsn);
}
