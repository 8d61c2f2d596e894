/**
 * One block of a layer, decoded: its bytes, and flat columns of where the entries are.
 *
 * Read path and upkeep. Decoding checks every entry once; afterwards a block in a cache is searched by bisection over
 * typed arrays. Entries are numbered from 0, sorted by (key, LSN), and make no objects. Layout in layer_format.ts.
 *
 * @module
 */
import { getU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { getU32BE, type Key, KEY_SIZE, type KeySpace } from "./key.ts";
import { BLOCK_HEADER_LENGTH, ENTRY_LENGTH_MIN, VALUE_LENGTH_MAX } from "./layer_format.ts";

/** Columns per space: family, a, b, c, d. */
const SPACE_WORDS = 5;

/** What decoding a block needs to know, and to say when it is wrong. */
export interface BlockOrigin {
  /** Name of the layer. */
  readonly name: string;
  /** Offset of the stored block in the file. */
  readonly offset: number;
  readonly lsnStart: Lsn;
  /** Exclusive. */
  readonly lsnEnd: Lsn;
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
    columns: Pick<DecodedBlock, "blocks" | "lsns" | "flags" | "valueOffsets" | "valueLengths">,
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

/** Key under construction: decoding is synchronous, so that one buffer does. */
const key = new Uint8Array(KEY_SIZE);

/**
 * Finds the entries in a block's bytes, after decompression, and checks all of them.
 *
 * @throws {CorruptionError} If they are not what a writer writes.
 */
export function parseBlock(bytes: Uint8Array, origin: BlockOrigin): DecodedBlock {
  const count = bytes.length < BLOCK_HEADER_LENGTH ? 0 : getU32(bytes, 0);
  if (count === 0 || count * ENTRY_LENGTH_MIN > bytes.length - BLOCK_HEADER_LENGTH) {
    throw blockError("impossible entry count", origin, 0, count);
  }
  const columns = {
    blocks: new Uint32Array(count),
    lsns: new Float64Array(count),
    flags: new Uint8Array(count),
    valueOffsets: new Uint32Array(count),
    valueLengths: new Uint32Array(count),
  };
  const { blocks, lsns, flags, valueOffsets, valueLengths } = columns;
  const { lsnStart, lsnEnd } = origin;
  const length = bytes.length;
  const spaces = new SpaceColumns();
  let at = BLOCK_HEADER_LENGTH;
  let block = 0;
  let lsn = 0;
  for (let entry = 0; entry < count; entry++) {
    const start = at;
    const shared = bytes[at++];
    if (shared === KEY_SIZE) {
      if (entry === 0) throw blockError("no key", origin, start, shared);
    } else {
      if (!(shared < KEY_SIZE) || (entry === 0 && shared > 0)) {
        throw blockError("impossible key prefix", origin, start, shared);
      }
      // The key is new, and greater exactly if its first byte that differs is.
      if (entry > 0 && !(bytes[at] > key[shared])) {
        throw blockError("keys out of order", origin, start, shared);
      }
      for (let i = shared; i < KEY_SIZE; i++) key[i] = bytes[at++];
      block = ((key[14] << 24) | (key[15] << 16) | (key[16] << 8) | key[17]) >>> 0;
      if (shared < 14) spaces.add(entry);
    }
    let byte = bytes[at++];
    let delta = byte & 0x7f;
    for (let scale = 0x80; byte >= 0x80; scale *= 0x80) {
      byte = bytes[at++];
      delta += (byte & 0x7f) * scale;
      if (scale > 0x1_0000_0000_0000) throw blockError("impossible LSN", origin, start, delta);
    }
    if (shared < KEY_SIZE) lsn = lsnStart;
    else if (delta === 0) throw blockError("an LSN twice", origin, start, lsn);
    lsn += delta;
    if (lsn >= lsnEnd) throw blockError("LSN outside the layer", origin, start, lsn);
    flags[entry] = bytes[at++];
    byte = bytes[at++];
    let valueLength = byte & 0x7f;
    for (let scale = 0x80; byte >= 0x80; scale *= 0x80) {
      byte = bytes[at++];
      valueLength += (byte & 0x7f) * scale;
      if (scale > 0x1000_0000) throw blockError("impossible value length", origin, start, valueLength);
    }
    if (valueLength > VALUE_LENGTH_MAX || at + valueLength > length) {
      throw blockError("value beyond the block", origin, start, valueLength);
    }
    blocks[entry] = block;
    lsns[entry] = lsn;
    valueOffsets[entry] = at;
    valueLengths[entry] = valueLength;
    at += valueLength;
  }
  if (at !== length) throw blockError("bytes behind the last entry", origin, at, length - at);
  return new DecodedBlock(bytes, columns, spaces.starts(count), spaces.words());
}

/** Grows with the spaces of a block: mostly one, at times one per entry. */
class SpaceColumns {
  #count = 0;
  #starts = new Uint32Array(8);
  #words = new Uint32Array(8 * SPACE_WORDS);

  /** Notes that a space starts at `entry`, with the key under construction. */
  add(entry: number): void {
    const index = this.#count++;
    if (index + 1 === this.#starts.length) {
      const starts = new Uint32Array(index * 4);
      starts.set(this.#starts);
      this.#starts = starts;
      const words = new Uint32Array(index * 4 * SPACE_WORDS);
      words.set(this.#words);
      this.#words = words;
    }
    this.#starts[index] = entry;
    const at = index * SPACE_WORDS;
    this.#words[at] = key[0];
    this.#words[at + 1] = getU32BE(key, 1);
    this.#words[at + 2] = getU32BE(key, 5);
    this.#words[at + 3] = getU32BE(key, 9);
    this.#words[at + 4] = key[13];
  }

  starts(count: number): Uint32Array {
    this.#starts[this.#count] = count;
    return this.#starts.slice(0, this.#count + 1);
  }

  words(): Uint32Array {
    return this.#words.slice(0, this.#count * SPACE_WORDS);
  }
}

function blockError(what: string, origin: BlockOrigin, at: number, got: number): Error {
  return new CorruptionError(`Cannot read layer: ${what} at byte ${at} of a block`, {
    object: origin.name,
    offset: origin.offset,
    got,
  });
}
