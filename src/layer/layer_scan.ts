/**
 * Walks a layer, or a key range of it, in order, block by block.
 *
 * Upkeep (compaction, images, verification) and key scans. Reads ranges of about a megabyte, one ahead of the consumer.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import type { Key } from "./key.ts";
import type { DecodedBlock } from "./layer_block.ts";
import { type LayerIndex, type LayerSource, readExactly } from "./layer_reader.ts";

/** Bytes of one read, unless one block has more. */
export const DEFAULT_SCAN_READ_BYTES = 1024 * 1024;

export interface ScanOptions {
  /** Default: the layer's least key. */
  keyMin?: Key;
  /** Inclusive. Default: the layer's greatest key. */
  keyMax?: Key;
  /** Bytes of one read to aim at; memory is twice that. Default: 1 MiB. */
  readBytes?: number;
  signal?: AbortSignal;
}

/** The entries `[first, end)` of a block that lie in the range; never empty. */
export interface ScanStep {
  readonly block: DecodedBlock;
  readonly blockIndex: number;
  readonly first: number;
  readonly end: number;
}

/**
 * Yields every block that has entries in the key range, in order. Ending the loop early stops the reading.
 *
 * @throws {CorruptionError} If a block is damaged.
 */
export async function* scanLayer(
  source: LayerSource,
  index: LayerIndex,
  options: ScanOptions = {},
): AsyncGenerator<ScanStep, void> {
  const { keyMin = index.footer.keyMin, keyMax = index.footer.keyMax, readBytes = DEFAULT_SCAN_READ_BYTES } =
    options;
  const own = new AbortController();
  const signal = options.signal === undefined ? own.signal : AbortSignal.any([options.signal, own.signal]);
  const range = index.blocksInRange(keyMin, keyMax);
  const read = (first: number) => {
    const reading = readBlocks(source, index, first, range.end, readBytes, signal);
    reading.catch(() => {}); // it may fail before the consumer comes back, who is told then
    return reading;
  };
  let pending = range.first < range.end ? read(range.first) : undefined;
  let entryCount = 0;
  try {
    while (pending !== undefined) {
      const { bytes, first, end } = await pending;
      pending = end < range.end ? read(end) : undefined;
      const base = index.blockOffset(first);
      for (let blockIndex = first; blockIndex < end; blockIndex++) {
        const start = index.blockOffset(blockIndex) - base;
        const raw = bytes.subarray(start, start + index.blockLength(blockIndex));
        const block = index.decodeBlock(raw, blockIndex);
        entryCount += block.count;
        // Only the outermost blocks can hold keys beyond the range.
        const firstEntry = blockIndex === range.first ? block.lowerBound(keyMin, keyMin.block) : 0;
        const endEntry = blockIndex === range.end - 1
          ? block.upperBound(keyMax, keyMax.block, Number.MAX_SAFE_INTEGER as Lsn)
          : block.count;
        if (firstEntry < endEntry) yield { block, blockIndex, first: firstEntry, end: endEntry };
      }
    }
    if (range.end - range.first === index.blockCount && entryCount !== index.footer.entryCount) {
      throw new CorruptionError(
        "Cannot read layer: its blocks have another number of entries than its footer says",
        {
          object: index.name,
          expected: index.footer.entryCount,
          got: entryCount,
        },
      );
    }
  } finally {
    own.abort();
    // The read ahead may still be under way: it ends before the scan does.
    await pending?.catch(() => undefined);
  }
}

/** Reads blocks from `first` on, as many as fit, in one range. */
async function readBlocks(
  source: LayerSource,
  index: LayerIndex,
  first: number,
  limit: number,
  readBytes: number,
  signal: AbortSignal,
): Promise<{ bytes: Uint8Array; first: number; end: number }> {
  const offset = index.blockOffset(first);
  let end = first + 1;
  while (end < limit && index.blockOffset(end + 1) - offset <= readBytes) end++;
  const bytes = await readExactly(source, offset, index.blockOffset(end) - offset, index.name, signal);
  return { bytes, first, end };
}
