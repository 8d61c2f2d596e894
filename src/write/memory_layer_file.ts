/**
 * A memory layer as the bytes of a delta layer file.
 *
 * Write path, inside flush: pure, and the same bytes every time, so that an upload can start over without the file being
 * kept anywhere.
 *
 * @module
 */
import type { BlockCodec } from "../bytes/block_codec.ts";
import type { Lsn } from "../lsn.ts";
import { putImageValue } from "../layer/image_value.ts";
import {
  VALUE_CARRIES_IMAGES,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_IMAGE_WITH_RECORD,
  VALUE_KIND_MASK,
} from "../layer/key.ts";
import type { LayerName } from "../layer/layer_name.ts";
import { type LayerSummary, LayerWriter } from "../layer/layer_writer.ts";
import type { MemoryEntry, MemoryLayer } from "../layer/memory_layer.ts";
import type { SpaceTable } from "../layer/space_table.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";
import { stripImages } from "../postgres/wal/strip_images.ts";

/** What the file of a memory layer with entries is to be called. */
export function memoryLayerIdentity(
  memory: MemoryLayer,
  spaces: SpaceTable,
  epoch: number,
  unique: number,
): LayerName {
  const sorted = memory.sortedSpaces(spaces);
  const first = sorted[0];
  const last = sorted[sorted.length - 1];
  let firstBlock: number | undefined;
  let lastBlock = 0;
  memory.forEachBlock(first, (block) => firstBlock ??= block);
  memory.forEachBlock(last, (block) => lastBlock = block);
  return {
    kind: "delta",
    keyMin: { ...spaces.get(first), block: firstBlock ?? 0 },
    keyMax: { ...spaces.get(last), block: lastBlock },
    lsnStart: memory.startLsn + 1 as Lsn,
    lsnEnd: fileEnd(memory),
    epoch,
    unique,
  };
}

/**
 * Exclusive end of the file's LSN range. Records end at multiples of 8: one past such an end says that the file holds
 * all records up to there, two past it that it ends inside a record of many pages (see adopt_local.ts).
 */
function fileEnd(memory: MemoryLayer): Lsn {
  return memory.lastLsn + (memory.endLsn === memory.lastLsn ? 1 : 2) as Lsn;
}

export interface MemoryLayerFileOptions {
  codec?: BlockCodec;
  /** Bytes of a chunk. Default: half a MiB. */
  chunkBytes?: number;
}

/** Blocks whose versions are added before finished chunks are looked for. */
const BLOCKS_AT_ONCE = 64;

/** Yields the file in chunks and returns what is known of it. */
export function* memoryLayerFile(
  memory: MemoryLayer,
  spaces: SpaceTable,
  profile: VersionProfile,
  { codec, chunkBytes }: MemoryLayerFileOptions = {},
): Generator<Uint8Array, LayerSummary> {
  const writer = new LayerWriter({ kind: "delta", lsnStart: memory.startLsn + 1 as Lsn, codec, chunkBytes });
  const appender = new EntryAppender(writer, profile);
  const sorted = memory.sortedSpaces(spaces);
  const order = memory.inKeyOrder(sorted);
  let block = 0;
  for (const [index, space] of sorted.entries()) {
    writer.beginSpace(spaces.get(space));
    for (const end = block + order.blockCounts[index]; block < end;) {
      const until = Math.min(end, block + BLOCKS_AT_ONCE);
      memory.visitInOrder(order, block, until, appender.add);
      block = until;
      // Between chunks others may run; a chunk is half a MiB, so this is checked now and then only.
      yield* writer.take();
    }
  }
  const summary = writer.finish({ lsnEnd: fileEnd(memory) });
  yield* writer.take();
  return summary;
}

/** Adds versions of blocks to a layer, records without the images they carried. */
class EntryAppender {
  readonly #writer: LayerWriter;
  readonly #record: DecodedRecord;
  #stripped = new Uint8Array(16 * 1024);

  constructor(writer: LayerWriter, profile: VersionProfile) {
    this.#writer = writer;
    this.#record = new DecodedRecord(profile);
  }

  readonly add = (entry: MemoryEntry): void => {
    const kind = entry.flags & VALUE_KIND_MASK;
    const hole = kind === VALUE_FULL_PAGE_IMAGE ? entry.hole : -1;
    if ((entry.flags & VALUE_CARRIES_IMAGES) !== 0) return this.#addWithoutImages(entry, hole);
    this.#writer.addBlock(entry.block, entry.lsn, entry.flags, entry.bytes, entry.offset, entry.length, hole);
  };

  /** A record without its images; or the image of a page, and behind it the record that it came in. */
  #addWithoutImages(entry: MemoryEntry, hole: number): void {
    const record = this.#record;
    record.decode(entry.bytes, entry.offset, entry.lsn);
    const room = record.totalLength + 4;
    if (room > this.#stripped.length) this.#stripped = new Uint8Array(room);
    const target = this.#stripped;
    let flags = entry.flags & ~VALUE_CARRIES_IMAGES;
    let length;
    if (hole < 0) length = stripImages(record, target);
    else {
      flags |= VALUE_IMAGE_WITH_RECORD;
      length = putImageValue(record, entry.offset + entry.length, target);
    }
    this.#writer.addBlock(entry.block, entry.lsn, flags, target, 0, length, hole);
  }
}
