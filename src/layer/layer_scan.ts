/**
 * Walks a layer, or a key range of it, in order, block by block.
 *
 * Upkeep (compaction, images, verification) and key scans. Reads about a megabyte at a time, one ahead of the consumer; a
 * source that can keeps one request going for all of it.
 *
 * @module
 */
import { ColumnMemory } from "./block_parser.ts";
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import type { Key } from "./key.ts";
import type { DecodedBlock } from "./layer_block.ts";
import { type LayerIndex, type LayerRun, type LayerSource, readExactly } from "./layer_reader.ts";

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
  if (range.first >= range.end) return;
  const run = runOf(source, index, range.first, range.end, signal);
  const read = (first: number) => {
    const reading = readBlocks(run, index, first, range.end, readBytes);
    reading.catch(() => {}); // it may fail before the consumer comes back, who is told then
    return reading;
  };
  let pending: Promise<Portion> | undefined = read(range.first);
  const stored = new Pieces();
  const columns = new ColumnMemory();
  let entryCount = 0;
  try {
    while (pending !== undefined) {
      const { pieces, first, end } = await pending as Portion;
      pending = end < range.end ? read(end) : undefined;
      stored.refill(pieces);
      for (let blockIndex = first; blockIndex < end; blockIndex++) {
        const block = index.decodeBlock(stored.take(index.blockLength(blockIndex)), blockIndex, columns);
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
    await run.close();
  }
}

const SPARE_BYTES = 256 * 1024;

/** What one read has brought: the blocks `[first, end)`. */
interface Portion {
  readonly pieces: readonly Uint8Array[];
  readonly first: number;
  readonly end: number;
}

/** Reads blocks from `first` on, as many as fit. */
async function readBlocks(
  run: LayerRun,
  index: LayerIndex,
  first: number,
  limit: number,
  readBytes: number,
): Promise<Portion> {
  const offset = index.blockOffset(first);
  let end = first + 1;
  while (end < limit && index.blockOffset(end + 1) - offset <= readBytes) end++;
  return { pieces: await run.next(index.blockOffset(end) - offset), first, end };
}

/** All bytes of the blocks `[first, end)`, as the source gives them best. */
function runOf(
  source: LayerSource,
  index: LayerIndex,
  first: number,
  end: number,
  signal: AbortSignal,
): LayerRun {
  let at = index.blockOffset(first);
  return source.readOn?.(at, index.blockOffset(end), signal) ?? {
    async next(length) {
      const offset = at;
      at += length;
      return [await readExactly(source, offset, length, index.name, signal)];
    },
    async close() {},
  };
}

/** Takes blocks out of what came in pieces of any length: as views, but a block that lies in two of them is put together. */
class Pieces {
  #pieces: readonly Uint8Array[] = [];
  #piece = 0;
  #at = 0;
  /** Memory for blocks that are put together: a little at a time, because each stretch of its own has its price. */
  #spare = new Uint8Array(0);

  refill(pieces: readonly Uint8Array[]): void {
    this.#pieces = pieces;
    this.#piece = this.#at = 0;
  }

  /** The next `length` bytes; fewer if there are no more, which whoever checks the block will find. */
  take(length: number): Uint8Array {
    const pieces = this.#pieces;
    while (this.#piece < pieces.length && this.#at === pieces[this.#piece].length) {
      this.#piece++;
      this.#at = 0;
    }
    const piece = pieces[this.#piece];
    if (piece !== undefined && this.#at + length <= piece.length) {
      return piece.subarray(this.#at, this.#at += length);
    }
    if (this.#spare.length < length) this.#spare = new Uint8Array(Math.max(length, SPARE_BYTES));
    const bytes = this.#spare.subarray(0, length);
    this.#spare = this.#spare.subarray(length);
    let filled = 0;
    while (filled < length && this.#piece < pieces.length) {
      const from = pieces[this.#piece].subarray(this.#at, this.#at + length - filled);
      bytes.set(from, filled);
      filled += from.length;
      this.#at += from.length;
      if (this.#at < pieces[this.#piece].length) break;
      this.#piece++;
      this.#at = 0;
    }
    return filled === length ? bytes : bytes.subarray(0, filled);
  }
}
