/**
 * Write path, inside ingest: the block references of a record become values of their pages.
 *
 * Hot: once per block reference of all WAL. Allocates nothing.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import {
  FAMILY_RELATION,
  VALUE_CARRIES_IMAGES,
  VALUE_COMPRESSION_SHIFT,
  VALUE_ENDS_GIST_SPLIT,
  VALUE_FROM_ZERO,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_IMAGE_OF_HINT,
  VALUE_RECORD,
} from "../layer/key.ts";
import type { ModificationBuilder } from "../layer/modification.ts";
import { gistImageNeedsRedo } from "../postgres/redo/gist/gist.ts";
import { isHintImage } from "../postgres/redo/xlog.ts";
import { imageMethod } from "../postgres/wal/block_image.ts";
import type { DecodedRecord } from "../postgres/wal/record.ts";
import { RM_XLOG_ID } from "../postgres/wal/rmgr.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { IngestEffects } from "./ingest_effects.ts";

/** Block numbers end here; `InvalidBlockNumber` is no block. */
const INVALID_BLOCK = 0xffff_ffff;

/** Adds the values of all blocks that the record names, and lets forks grow to hold them. */
export function addBlockReferences(
  record: DecodedRecord,
  timeline: Timeline,
  builder: ModificationBuilder,
  effects: IngestEffects,
): void {
  const { spaces, sizes } = timeline;
  const lsn = record.endLsn;
  const carried = carriesImages(record) ? VALUE_CARRIES_IMAGES : 0;
  for (let index = 0; index < record.blockCount; index++) {
    const block = record.blockNumber[index];
    if (block === INVALID_BLOCK) {
      throw new CorruptionError("Cannot ingest a reference to InvalidBlockNumber", { lsn });
    }
    const space = spaces.intern(
      FAMILY_RELATION,
      record.blockSpc[index],
      record.blockDb[index],
      record.blockRel[index],
      record.blockFork[index],
    );
    if (block >= sizes.get(space)) effects.growTo(space, block + 1);
    // Also when another reference of the record has let the fork grow beyond it.
    const isNew = block >= effects.blocksBefore(space);
    if (record.imageApplies(index)) {
      // Of XLOG's records the image is all that there is.
      const from = record.rmid === RM_XLOG_ID ? record.imageOffset[index] : record.start;
      builder.addRange(
        space,
        block,
        lsn,
        VALUE_FULL_PAGE_IMAGE | (imageMethod(record, index) << VALUE_COMPRESSION_SHIFT) |
          (gistImageNeedsRedo(record, index) ? VALUE_ENDS_GIST_SPLIT : 0) |
          (isHintImage(record) ? VALUE_IMAGE_OF_HINT : 0) |
          (record.rmid === RM_XLOG_ID ? 0 : VALUE_CARRIES_IMAGES),
        from,
        record.imageOffset[index] + record.imageLength[index] - from,
        record.holeOffset[index] | (record.holeLength[index] << 16),
      );
    } else {
      const flags = isNew || record.willInit(index) ? VALUE_RECORD | VALUE_FROM_ZERO : VALUE_RECORD;
      builder.addRange(space, block, lsn, flags | carried, record.start, record.totalLength, 0);
    }
  }
}

/** Whether the record has any page image in it, applied or not. */
export function carriesImages(record: DecodedRecord): boolean {
  for (let index = 0; index < record.blockCount; index++) if (record.imageLength[index] > 0) return true;
  return false;
}
