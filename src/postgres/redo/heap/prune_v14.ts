/**
 * Redo of XLOG_HEAP2_PRUNE, _VACUUM (14-16) and _FREEZE_PAGE (14 and 15).
 *
 * Read path, inside replay of one heap2 record.
 *
 * Records (PostgreSQL 15 src/include/access/heapam_xlog.h; little-endian):
 * ```
 * xl_heap_prune         main data:  0 4 latestRemovedXid   4 2 nredirected   6 2 ndead   (16: 8 1 isCatalogRel)
 *                       block data: offset numbers: 2*nredirected, ndead, and up to its end those now unused
 * xl_heap_vacuum        main data:  0 2 nunused
 *                       block data: nunused offset numbers
 * xl_heap_freeze_page   main data:  0 4 cutoff_xid   4 2 ntuples
 *                       block data: for each tuple:
 *                                   0 4 xmax   4 2 offset   6 2 t_infomask2   8 2 t_infomask   10 1 frzflags   11 1 -
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import type { Page } from "../../page/page.ts";
import { checkedTuple } from "../../page/tuple.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageTruncateLinePointerArray } from "../page_compaction.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import { executeFreeze, repairFragmentation, setDead, setRedirects, setUnused } from "./prune_execute.ts";

const SizeOfHeapPrune = 8;
const SizeOfHeapVacuum = 2;
const SizeOfHeapFreezePage = 6;
/** `sizeof(xl_heap_freeze_tuple)`. */
const SizeOfFreezeTuple = 12;

/** `heap_xlog_prune`. */
export function heapPruneV14(page: Page, record: DecodedRecord, index: number): void {
  const main = checkedMain(record, SizeOfHeapPrune);
  const nredirected = getU16(record.bytes, main + 4);
  const ndead = getU16(record.bytes, main + 6);
  const redirects = record.dataOffset[index];
  const dead = redirects + 4 * nredirected;
  const unused = dead + 2 * ndead;
  const end = redirects + record.dataLength[index];
  if (unused > end) {
    throw corruptRecord(
      record,
      "its offset numbers are cut off",
      unused - redirects,
      record.dataLength[index],
    );
  }
  page.checkPointers();
  setRedirects(page, record, redirects, nredirected);
  setDead(page, record, dead, ndead);
  setUnused(page, record, unused, (end - unused) >> 1);
  repairFragmentation(page, record);
  page.setLsn(record.endLsn);
}

/** `heap_xlog_vacuum`: the second pass of VACUUM; no tuple moves. */
export function heapVacuumV14(page: Page, record: DecodedRecord, index: number): void {
  const nunused = getU16(record.bytes, checkedMain(record, SizeOfHeapVacuum));
  checkBlockData(record, index, 2 * nunused);
  page.checkPointers();
  setUnused(page, record, record.dataOffset[index], nunused);
  pageTruncateLinePointerArray(page);
  page.setLsn(record.endLsn);
}

/** `heap_xlog_freeze_page` of 14 and 15: one plan for each tuple. */
export function heapFreezePageV14(page: Page, record: DecodedRecord, index: number): void {
  const bytes = record.bytes;
  const ntuples = getU16(bytes, checkedMain(record, SizeOfHeapFreezePage) + 4);
  checkBlockData(record, index, ntuples * SizeOfFreezeTuple);
  let at = record.dataOffset[index];
  for (let i = 0; i < ntuples; i++, at += SizeOfFreezeTuple) {
    const tuple = checkedTuple(page, getU16(bytes, at + 4));
    executeFreeze(
      page,
      tuple,
      getU32(bytes, at),
      getU16(bytes, at + 6),
      getU16(bytes, at + 8),
      bytes[at + 10],
    );
  }
  page.setLsn(record.endLsn);
}

function checkBlockData(record: DecodedRecord, index: number, size: number): void {
  if (record.dataLength[index] < size) {
    throw corruptRecord(record, "its block data are cut off", size, record.dataLength[index]);
  }
}
