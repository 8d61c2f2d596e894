/**
 * One block of a layer, decoded: its bytes, and flat columns of where the entries are.
 *
 * Read path and upkeep. block_parser.ts checks every entry once; afterwards a block in a cache is searched by bisection
 * over typed arrays. Entries are numbered from 0, sorted by (key, LSN), and make no objects. Layout in layer_format.ts.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { Key, KeySpace } from "./key.ts";

/** Words of a space in a block's table of spaces: family, a, b, c, d. */
export const SPACE_WORDS = 5;

/** Where the entries of a block are: one element per entry. */
export interface BlockColumns {
  /** Block numbers. */
  readonly blocks: Uint32Array;
  readonly lsns: Float64Array;
  readonly flags: Uint8Array;
  readonly valueOffsets: Uint32Array;
  readonly valueLengths: Uint32Array;
}

/** See the module's description. */
export class DecodedBlock {
  /** The block before compression; values are ranges of it. */
  readonly bytes: Uint8Array;
  /** Number of entries, at least 1. */
  readonly count: number;
  /** Block number of each entry. */
  readonly blocks: Uint32Array;
  readonly lsns: Float64Array;
  readonly flags: Uint8Array;
  /** Where each value starts in {@linkcode bytes}. */
  readonly valueOffsets: Uint32Array;
  readonly valueLengths: Uint32Array;
  /** Number of different spaces, at least 1. */
  readonly spaceCount: number;
  /** First entry of each space, and one more element: {@linkcode count}. */
  readonly spaceStarts: Uint32Array;
  readonly #spaceWords: Uint32Array;

  constructor(
    bytes: Uint8Array,
    columns: BlockColumns,
    spaceStarts: Uint32Array,
    spaceWords: Uint32Array,
  ) {
    this.bytes = bytes;
    this.count = columns.blocks.length;
    this.blocks = columns.blocks;
    this.lsns = columns.lsns;
    this.flags = columns.flags;
    this.valueOffsets = columns.valueOffsets;
    this.valueLengths = columns.valueLengths;
    this.spaceCount = spaceStarts.length - 1;
    this.spaceStarts = spaceStarts;
    this.#spaceWords = spaceWords;
  }

  /** Bytes of memory held, roughly: for cache budgets. */
  get memoryBytes(): number {
    return this.bytes.byteLength + this.count * 21 + this.spaceCount * 24 + 512;
  }

  /** A space by its number in this block. */
  spaceAt(index: number): KeySpace {
    const words = this.#spaceWords;
    const at = index * SPACE_WORDS;
    return { family: words[at], a: words[at + 1], b: words[at + 2], c: words[at + 3], d: words[at + 4] };
  }

  /** The number of a space in this block, or -1. */
  findSpace(space: KeySpace): number {
    let low = 0;
    let high = this.spaceCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.#compareSpace(middle, space);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return -1;
  }

  /** The entries of a key as `[first, end)`; empty if it has none here. */
  find(space: KeySpace, block: number): [first: number, end: number] {
    return [this.lowerBound(space, block), this.upperBound(space, block, Number.MAX_SAFE_INTEGER as Lsn)];
  }

  /** The first entry at or after (key, lowest LSN): the number of entries that sort before the key. */
  lowerBound(space: KeySpace, block: number): number {
    return this.upperBound(space, block, -1 as Lsn);
  }

  /**
   * The number of entries that sort at or before (key, LSN).
   *
   * Entries of the key at or below the LSN are `[lowerBound(space, block), upperBound(space, block, lsn))`.
   */
  upperBound(space: KeySpace, block: number, lsn: Lsn): number {
    const index = this.findSpace(space);
    if (index < 0) return this.#spaceBound(space);
    const { blocks, lsns } = this;
    let low = this.spaceStarts[index];
    let high = this.spaceStarts[index + 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const number = blocks[middle];
      if (number < block || (number === block && lsns[middle] <= lsn)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first entry of the first space that sorts after one that is not here. */
  #spaceBound(space: KeySpace): number {
    let index = 0;
    while (index < this.spaceCount && this.#compareSpace(index, space) < 0) index++;
    return this.spaceStarts[index];
  }

  #compareSpace(index: number, space: KeySpace): number {
    const words = this.#spaceWords;
    const at = index * SPACE_WORDS;
    return words[at] - space.family || words[at + 1] - space.a || words[at + 2] - space.b ||
      words[at + 3] - space.c ||
      words[at + 4] - space.d;
  }

  /** The number of the space that an entry belongs to. */
  spaceOf(entry: number): number {
    let low = 0;
    let high = this.spaceCount;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.spaceStarts[middle] <= entry) low = middle;
      else high = middle;
    }
    return low;
  }

  /** The whole key of an entry, as an object. */
  keyAt(entry: number): Key {
    return { ...this.spaceAt(this.spaceOf(entry)), block: this.blocks[entry] };
  }

  /** The value of an entry, as a view of {@linkcode bytes}. */
  valueAt(entry: number): Uint8Array {
    const offset = this.valueOffsets[entry];
    return this.bytes.subarray(offset, offset + this.valueLengths[entry]);
  }
}
