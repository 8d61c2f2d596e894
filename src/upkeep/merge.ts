/**
 * Delta layers merged into one, over a range of keys: the bytes of its file.
 *
 * Upkeep, inside compaction. Values are copied as they are; blocks, index and checksums are new. The same bytes come every
 * time, so that an upload can start over without the file being kept anywhere.
 *
 * @module
 */
import type { BlockCodec } from "../bytes/block_codec.ts";
import type { KeySpace } from "../layer/key.ts";
import type { KeyRange } from "../layer/key_range.ts";
import { LayerMerge, type MergeInput, readBytesWithin } from "../layer/layer_merge.ts";
import { type LayerSummary, LayerWriter } from "../layer/layer_writer.ts";
import type { Lsn } from "../lsn.ts";
import type { Pacer } from "./pacer.ts";

export interface MergedFileOptions extends KeyRange {
  /** Newest first. */
  inputs: readonly MergeInput[];
  lsnStart: Lsn;
  lsnEnd: Lsn;
  codec?: BlockCodec;
  pacer?: Pacer;
  /** Bytes of inputs to hold. Default 32 MiB. */
  readBytes?: number;
  signal?: AbortSignal;
}

const DEFAULT_READ_BYTES = 32 * 1024 * 1024;

/**
 * Yields the file in chunks and returns what is known of it.
 *
 * @throws {CorruptionError} If an input is damaged.
 */
export async function* mergedLayerFile(options: MergedFileOptions): AsyncGenerator<Uint8Array, LayerSummary> {
  const { inputs, keyMin, keyMax, lsnStart, lsnEnd, codec, pacer, readBytes = DEFAULT_READ_BYTES, signal } =
    options;
  const writer = new LayerWriter({ kind: "delta", lsnStart, lsnEnd, codec });
  const merge = await LayerMerge.open(inputs, {
    keyMin,
    keyMax,
    readBytes: readBytesWithin(readBytes, inputs.length),
    signal,
  });
  try {
    pacer?.restart();
    let space: KeySpace | undefined;
    let lastBlock = -1;
    let lastLsn = -1;
    for (;;) {
      const step = merge.next();
      let isMore: boolean;
      if (typeof step === "boolean") isMore = step;
      else {
        const mark = pacer?.mark();
        isMore = await step;
        if (mark !== undefined) pacer!.waited(mark);
      }
      if (!isMore) break;
      if (merge.space !== space) {
        const isNew = space === undefined || !isSame(space, merge.space);
        space = merge.space;
        if (isNew) {
          writer.beginSpace(space);
          lastBlock = -1;
        }
      }
      const { bytes, blocks, lsns, flags, valueOffsets, valueLengths } = merge.block;
      for (let entry = merge.first; entry < merge.end; entry++) {
        const block = blocks[entry];
        const lsn = lsns[entry];
        // Two layers may share an LSN where one ends inside a record of many pages: the values are the same.
        if (block === lastBlock && lsn === lastLsn) continue;
        writer.addBlock(block, lsn as Lsn, flags[entry], bytes, valueOffsets[entry], valueLengths[entry]);
        lastBlock = block;
        lastLsn = lsn;
      }
      const chunks = writer.take();
      if (chunks.length > 0) {
        const mark = pacer?.mark();
        yield* chunks;
        if (mark !== undefined) pacer!.waited(mark);
      }
      const pause = pacer?.pause(signal);
      if (pause !== undefined) await pause;
    }
    const summary = writer.finish({ keyMin, keyMax, lsnEnd });
    yield* writer.take();
    return summary;
  } finally {
    await merge.close();
  }
}

function isSame(left: KeySpace, right: KeySpace): boolean {
  return left.c === right.c && left.d === right.d && left.b === right.b && left.a === right.a &&
    left.family === right.family;
}
