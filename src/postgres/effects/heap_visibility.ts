/**
 * Visibility map pages that a heap record touches without naming them.
 *
 * Write path, inside ingest: the read path finds a page's records by its key, so that a record must also be filed
 * under the map page whose bits it clears. Servers from 18.6 and 17.11 on name that page in the record when a bit was
 * set; the record is then filed by its block references and there is nothing to add.
 *
 * Source: PostgreSQL src/backend/access/heap/heapam_xlog.c (18), heapam.c (14-17).
 *
 * @module
 */
import { heapBlockToMapBlock, VISIBILITYMAP_FORKNUM } from "../page/visibility_map.ts";
import {
  clearedHeapBlocks,
  CLEARS_NEW,
  CLEARS_NOTHING,
  CLEARS_OLD,
  namesMapPages,
  oldHeapBlock,
} from "../redo/heap/cleared_map_bits.ts";
import type { DecodedRecord } from "../wal/record.ts";
import type { EffectSink } from "./effect_sink.ts";

/**
 * Names every map page (fork 2) whose bits a record of heap or heap2 clears and that is not one of its blocks.
 *
 * @throws {CorruptionError} If the record is too short to tell.
 */
export function heapVisibilityEffects(record: DecodedRecord, sink: EffectSink): void {
  const cleared = clearedHeapBlocks(record);
  if (cleared === CLEARS_NOTHING || namesMapPages(record)) return;
  let touched = -1;
  if ((cleared & CLEARS_NEW) !== 0) {
    touched = heapBlockToMapBlock(record.blockNumber[0]);
    touch(record, sink, touched);
  }
  if ((cleared & CLEARS_OLD) !== 0) {
    const mapBlock = heapBlockToMapBlock(oldHeapBlock(record));
    if (mapBlock !== touched) touch(record, sink, mapBlock);
  }
}

function touch(record: DecodedRecord, sink: EffectSink, mapBlock: number): void {
  sink.touchBlock(record.blockSpc[0], record.blockDb[0], record.blockRel[0], VISIBILITYMAP_FORKNUM, mapBlock);
}
