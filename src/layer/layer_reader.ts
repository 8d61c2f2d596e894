/**
 * Reads layer files by range: the footer and index once, then blocks.
 *
 * Read path and upkeep. {@linkcode openLayer} takes at most two ranges, mostly one; {@linkcode LayerIndex} says which
 * block may hold a key and turns stored bytes into a {@linkcode DecodedBlock}. It holds no bytes and does no I/O of its
 * own, so that caches and fetching stay the caller's.
 *
 * @module
 */
import { BlockCodecs, CODEC_NONE } from "../bytes/block_codec.ts";
import { crc32c } from "../bytes/crc32c.ts";
import { CorruptionError, VarveError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { type ColumnMemory, parseBlock } from "./block_parser.ts";
import type { Key, KeySpace } from "./key.ts";
import type { DecodedBlock } from "./layer_block.ts";
import {
  checksumError,
  decodeFooter,
  decodeHeader,
  FOOTER_LENGTH,
  type LayerFooter,
} from "./layer_format.ts";
import { decodeIndexRows, type IndexColumns } from "./layer_index_rows.ts";

/** Bytes read from the end at first: footer and index of most layers. */
export const DEFAULT_TAIL_BYTES = 64 * 1024;

/** A layer file that can be read by range: an object, a local file, bytes in memory. */
export interface LayerSource {
  /** Bytes of the file. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`, or a rejection. The result is the caller's. */
  readRange(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Begins to read on and on, from `offset` to `end`, where that is quicker than range after range. Reads nothing yet. */
  readOn?(offset: number, end: number, signal?: AbortSignal): LayerRun;
}

/** A stretch of a layer file that is read from its start to its end. One call at a time. */
export interface LayerRun {
  /** Exactly the next `length` bytes, in pieces that are the caller's, or a rejection, after which it can only be closed. */
  next(length: number): Promise<readonly Uint8Array[]>;
  /** Ends it wherever it is. */
  close(): Promise<void>;
}

export interface OpenLayerOptions {
  /** What blocks may be compressed with. Default: nothing. */
  codecs?: BlockCodecs;
  /** The checksum that the manifest remembers; a layer with another one is refused. */
  expectedChecksum?: number;
  /** Default: 64 KiB. */
  tailBytes?: number;
  signal?: AbortSignal;
}

/**
 * Reads and verifies footer and index, in one range of the tail or two.
 *
 * @param name For errors: the object or file.
 * @throws {CorruptionError} If they are damaged, or not those of this layer. @throws {UnsupportedError} If the format is newer.
 */
export async function openLayer(
  source: LayerSource,
  name: string,
  options: OpenLayerOptions = {},
): Promise<LayerIndex> {
  const { codecs = BlockCodecs.NONE, expectedChecksum, tailBytes = DEFAULT_TAIL_BYTES, signal } = options;
  const tailLength = Math.min(source.size, Math.max(tailBytes, FOOTER_LENGTH));
  const tailOffset = source.size - tailLength;
  const tail = await readExactly(source, tailOffset, tailLength, name, signal);
  const footer = decodeFooter(tail, source.size, name);
  if (expectedChecksum !== undefined && footer.checksum !== expectedChecksum) {
    throw checksumError(
      "the layer that the manifest names",
      name,
      source.size,
      expectedChecksum,
      footer.checksum,
    );
  }
  if (tailOffset === 0) decodeHeader(tail, name);
  const { indexOffset, indexLength } = footer;
  const index = indexOffset >= tailOffset
    ? tail.subarray(indexOffset - tailOffset, indexOffset - tailOffset + indexLength)
    : await readExactly(source, indexOffset, indexLength, name, signal);
  const crc = crc32c(index, 0, index.length);
  if (crc !== footer.indexCrc) throw checksumError("index", name, indexOffset, footer.indexCrc, crc);
  return new LayerIndex(name, source.size, footer, decodeIndexRows(index, footer, name), codecs);
}

/** One range, of the length asked for: a source that answers short is not trusted with the rest. */
export async function readExactly(
  source: LayerSource,
  offset: number,
  length: number,
  name: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const bytes = await source.readRange(offset, length, signal);
  if (bytes.length !== length) {
    throw new CorruptionError("Cannot read layer: a range came back with another length", {
      object: name,
      offset,
      expected: length,
      got: bytes.length,
    });
  }
  return bytes;
}

/** Where the blocks of one layer are and what they start with. Immutable; `blockIndex` counts blocks from 0. */
export class LayerIndex {
  readonly name: string;
  /** Bytes of the file. */
  readonly size: number;
  readonly footer: LayerFooter;
  readonly blockCount: number;
  readonly #columns: IndexColumns;
  readonly #codecs: BlockCodecs;

  constructor(name: string, size: number, footer: LayerFooter, columns: IndexColumns, codecs: BlockCodecs) {
    this.name = name;
    this.size = size;
    this.footer = footer;
    this.blockCount = footer.blockCount;
    this.#columns = columns;
    this.#codecs = codecs;
  }

  /** Bytes of memory held, roughly: for cache budgets. */
  get memoryBytes(): number {
    return this.blockCount * 50 + 1024;
  }

  /** Where a block starts in the file; of `blockCount`, where the last one ends. */
  blockOffset(blockIndex: number): number {
    return this.#columns.offsets[blockIndex];
  }

  /** Bytes of a block in the file. */
  blockLength(blockIndex: number): number {
    return this.#columns.offsets[blockIndex + 1] - this.#columns.offsets[blockIndex];
  }

  /** Bytes of a block after decompression. */
  rawLength(blockIndex: number): number {
    return this.#columns.rawLengths[blockIndex];
  }

  codec(blockIndex: number): number {
    return this.#columns.codecs[blockIndex];
  }

  checksum(blockIndex: number): number {
    return this.#columns.crcs[blockIndex];
  }

  firstKey(blockIndex: number): Key {
    return this.#columns.firstKeys.key(blockIndex);
  }

  firstLsn(blockIndex: number): Lsn {
    return this.#columns.firstLsns[blockIndex] as Lsn;
  }

  /** Whether a block's first entry is of this key. */
  startsWith(blockIndex: number, space: KeySpace, block: number): boolean {
    return this.#columns.firstKeys.compare(blockIndex, space, block) === 0;
  }

  /** Whether the block before also holds entries of this block's first key, older ones. */
  continues(blockIndex: number): boolean {
    return this.#columns.continues[blockIndex] === 1;
  }

  /**
   * The last block that may hold an entry of the key at or below the LSN, or -1 if none can.
   *
   * Older entries of the key may be in the block before exactly if the key's first entry in the block is entry 0 and
   * the block {@linkcode continues}.
   */
  findBlock(space: KeySpace, block: number, lsn: Lsn): number {
    const { firstKeys, firstLsns, continues } = this.#columns;
    let low = 0;
    let high = this.blockCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = firstKeys.compare(middle, space, block);
      if (order < 0 || (order === 0 && firstLsns[middle] <= lsn)) low = middle + 1;
      else high = middle;
    }
    // The next block starts with this very key, at a greater LSN, and says whether the key was there before.
    if (low < this.blockCount && continues[low] === 0 && firstKeys.compare(low, space, block) === 0) {
      return -1;
    }
    return low - 1;
  }

  /** The blocks `[first, end)` that may hold keys from `keyMin` to `keyMax`, both inclusive. */
  blocksInRange(keyMin: Key, keyMax: Key): { first: number; end: number } {
    const { firstKeys, continues } = this.#columns;
    const end = firstKeys.upperBound(keyMax, keyMax.block);
    let first = firstKeys.lowerBound(keyMin, keyMin.block);
    // Keys from keyMin on may begin in the block before, unless the block at hand starts with it.
    const startsHere = first < this.blockCount && continues[first] === 0 &&
      firstKeys.compare(first, keyMin, keyMin.block) === 0;
    if (first > 0 && !startsHere) first--;
    return { first: Math.min(first, end), end };
  }

  /**
   * Verifies, decompresses and parses a block.
   *
   * @param raw Exactly the block's stored bytes; kept by the result if the block is not compressed.
   * @param shared For who decodes block after block and keeps none of them.
   * @throws {CorruptionError} If they are damaged. @throws {UnsupportedError} If its codec is not at hand.
   */
  decodeBlock(raw: Uint8Array, blockIndex: number, shared?: ColumnMemory): DecodedBlock {
    const { firstKeys, firstLsns, crcs } = this.#columns;
    const offset = this.blockOffset(blockIndex);
    if (raw.length !== this.blockLength(blockIndex)) {
      throw new CorruptionError("Cannot read layer: a block of another length", {
        object: this.name,
        offset,
        expected: this.blockLength(blockIndex),
        got: raw.length,
      });
    }
    const crc = crc32c(raw, 0, raw.length);
    if (crc !== crcs[blockIndex]) {
      throw checksumError(`block ${blockIndex}`, this.name, offset, crcs[blockIndex], crc);
    }
    const { lsnStart, lsnEnd } = this.footer;
    const bytes = this.#decompress(raw, blockIndex);
    const decoded = parseBlock(bytes, { name: this.name, offset, lsnStart, lsnEnd }, shared);
    // The index and its block must tell the same: searches rely on it.
    const space = decoded.spaceAt(0);
    const last = decoded.count - 1;
    const lastSpace = decoded.spaceCount === 1 ? space : decoded.spaceAt(decoded.spaceCount - 1);
    const next = blockIndex + 1;
    let fits = firstKeys.compare(blockIndex, space, decoded.blocks[0]) === 0 &&
      decoded.lsns[0] === firstLsns[blockIndex];
    if (next < this.blockCount) {
      const order = firstKeys.compare(next, lastSpace, decoded.blocks[last]);
      fits &&= this.continues(next) ? order === 0 && decoded.lsns[last] < firstLsns[next] : order > 0;
    }
    if (!fits) {
      throw new CorruptionError("Cannot read layer: a block does not fit its index", {
        object: this.name,
        offset,
      });
    }
    return decoded;
  }

  #decompress(raw: Uint8Array, blockIndex: number): Uint8Array {
    const codec = this.#columns.codecs[blockIndex];
    if (codec === CODEC_NONE) return raw;
    const length = this.#columns.rawLengths[blockIndex];
    const refuse = (got: number | undefined, cause?: unknown): never => {
      throw new CorruptionError(
        `Cannot read layer: block ${blockIndex} does not decompress`,
        { object: this.name, offset: this.blockOffset(blockIndex), expected: length, got },
        { cause },
      );
    };
    let bytes: Uint8Array;
    try {
      bytes = this.#codecs.get(codec).decompress(raw, length);
    } catch (error) {
      if (error instanceof VarveError) throw error;
      return refuse(undefined, error);
    }
    return bytes.length === length ? bytes : refuse(bytes.length);
  }
}
