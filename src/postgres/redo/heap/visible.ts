/**
 * Redo of XLOG_HEAP2_VISIBLE, and of all records that clear bits of the visibility map.
 *
 * Read path, inside replay of one heap record. VISIBLE names a map page (block 0) and the heap page that it is about
 * (block 1). Other records clear bits when a page stops being all-visible: see `cleared_map_bits.ts`.
 *
 * Record (PostgreSQL src/include/access/heapam_xlog.h, 14-18):
 * ```
 * xl_heap_visible   main data:  0 4 snapshotConflictHorizon (14, 15: cutoff_xid)
 *                               4 1 flags: VISIBILITYMAP_VALID_BITS; 16 and later also VISIBILITYMAP_XLOG_CATALOG_REL
 * ```
 *
 * @module
 */
import type { Page } from "../../page/page.ts";
import {
  heapBlockToMapBlock,
  VISIBILITYMAP_VALID_BITS,
  visibilityMapClear,
  visibilityMapSet,
} from "../../page/visibility_map.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageInit } from "../page_edit.ts";
import type { RedoContext, RedoTarget } from "../registry.ts";
import { clearedBits, clearedHeapBlocks, CLEARS_NEW, CLEARS_OLD, oldHeapBlock } from "./cleared_map_bits.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import { HEAP_VISIBLE_BLKREF_HEAP, HEAP_VISIBLE_BLKREF_VM, SizeOfHeapVisible } from "./heap_record.ts";
import { setAllVisible } from "./tuple_edit.ts";

/** `heap_xlog_visible`, heap page: its LSN moves only where hint bits are logged, or a torn page could go unnoticed. */
export function heapVisible(page: Page, record: DecodedRecord, index: number, context: RedoContext): void {
  checkedMain(record, SizeOfHeapVisible);
  if (record.blockId[index] !== HEAP_VISIBLE_BLKREF_HEAP) {
    throw corruptRecord(
      record,
      "its heap page has another block id",
      HEAP_VISIBLE_BLKREF_HEAP,
      record.blockId[index],
    );
  }
  setAllVisible(page);
  if (context.hintBitsLogged) page.setLsn(record.endLsn);
}

/** `heap_xlog_visible`, map page. */
export function setMapBits(page: Page, record: DecodedRecord, target: RedoTarget): void {
  const main = checkedMain(record, SizeOfHeapVisible);
  const heap = record.findBlock(HEAP_VISIBLE_BLKREF_HEAP);
  if (heap < 0 || record.findBlock(HEAP_VISIBLE_BLKREF_VM) < 0) {
    throw corruptRecord(record, "it does not name a map page and a heap page");
  }
  const heapBlock = record.blockNumber[heap];
  if (heapBlockToMapBlock(heapBlock) !== target.block) {
    throw corruptRecord(record, "wrong map page", heapBlockToMapBlock(heapBlock), target.block);
  }
  if (page.isNew()) pageInit(page, 0);
  if (visibilityMapSet(page, heapBlock, record.bytes[main + 4] & VISIBILITYMAP_VALID_BITS)) {
    page.setLsn(record.endLsn);
  }
}

/**
 * `visibilitymap_clear` for every heap block that the record un-marks and that this map page describes.
 *
 * A map page that the record does not name keeps its LSN, as it does in PostgreSQL: there is no full-page image of it,
 * and clearing again does no harm. A page that was never written has no bits.
 */
export function clearMapBits(page: Page, record: DecodedRecord, target: RedoTarget): void {
  const cleared = clearedHeapBlocks(record);
  const bits = clearedBits(record);
  let belongs = false;
  let changed = false;
  if ((cleared & CLEARS_OLD) !== 0 && heapBlockToMapBlock(oldHeapBlock(record)) === target.block) {
    belongs = true;
    if (!page.isNew()) changed = visibilityMapClear(page, oldHeapBlock(record), bits);
  }
  if ((cleared & CLEARS_NEW) !== 0 && heapBlockToMapBlock(record.blockNumber[0]) === target.block) {
    belongs = true;
    if (!page.isNew()) changed = visibilityMapClear(page, record.blockNumber[0], bits) || changed;
  }
  if (!belongs) throw corruptRecord(record, `it clears no bit on visibility map page ${target.block}`);
  if (changed && target.blockIndex >= 0) page.setLsn(record.endLsn);
}
