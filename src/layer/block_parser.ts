/**
 * Finds the entries in the bytes of a block, and checks all of them: blocks are untrusted.
 *
 * Inside the layer reader. One pass over the bytes into flat columns; no object per entry. The layout is drawn in
 * layer_format.ts, what comes out is a {@linkcode DecodedBlock}.
 *
 * @module
 */
import { getU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { getU32BE, KEY_SIZE } from "./key.ts";
import { type BlockColumns, DecodedBlock, SPACE_WORDS } from "./layer_block.ts";
import { BLOCK_HEADER_LENGTH, ENTRY_LENGTH_MIN, VALUE_LENGTH_MAX } from "./layer_format.ts";
import { VARINT_LENGTH_MAX } from "./varint.ts";

/** Weight of the last byte of a varint of {@linkcode VARINT_LENGTH_MAX} bytes. */
const LSN_SCALE_MAX = 2 ** (7 * (VARINT_LENGTH_MAX - 1));

/** Bytes of an entry in all columns: lsn, block, offset, length, flags. */
const ENTRY_COLUMN_BYTES = 21;
/** Bytes of the columns of spaces, where there is one. */
const SPACE_COLUMN_BYTES = 4 * (2 + SPACE_WORDS);

/** Columns of some hundred blocks of images, of a few blocks of records. */
const SHARED_COLUMN_BYTES = 16 * 1024;

/** What parsing a block needs to know, and to say when it is wrong. */
export interface BlockOrigin {
  /** Name of the layer. */
  readonly name: string;
  /** Offset of the stored block in the file. */
  readonly offset: number;
  readonly lsnStart: Lsn;
  /** Exclusive. */
  readonly lsnEnd: Lsn;
}

/** Key under construction: decoding is synchronous, so that one buffer does. */
const key = new Uint8Array(KEY_SIZE);

/**
 * Finds the entries in a block's bytes, after decompression, and checks all of them.
 *
 * @param shared Where the columns go; by default into memory of their own.
 * @throws {CorruptionError} If they are not what a writer writes.
 */
export function parseBlock(bytes: Uint8Array, origin: BlockOrigin, shared?: ColumnMemory): DecodedBlock {
  const count = bytes.length < BLOCK_HEADER_LENGTH ? 0 : getU32(bytes, 0);
  if (count === 0 || count * ENTRY_LENGTH_MIN > bytes.length - BLOCK_HEADER_LENGTH) {
    throw blockError("impossible entry count", origin, 0, count);
  }
  // One stretch of memory for all: a typed array with memory of its own takes twenty times as long to make.
  const length = count * ENTRY_COLUMN_BYTES + SPACE_COLUMN_BYTES;
  const at = shared?.take(length) ?? 0;
  const memory = shared?.buffer ?? new ArrayBuffer(length);
  const columns: BlockColumns = {
    lsns: new Float64Array(memory, at, count),
    blocks: new Uint32Array(memory, at + count * 8, count),
    valueOffsets: new Uint32Array(memory, at + count * 12, count),
    valueLengths: new Uint32Array(memory, at + count * 16, count),
    flags: new Uint8Array(memory, at + count * 20 + SPACE_COLUMN_BYTES, count),
  };
  spaces.clear();
  parseEntries(bytes, origin, columns);
  const isSingle = spaces.count === 1;
  return new DecodedBlock(
    bytes,
    columns,
    spaces.starts(count, isSingle ? new Uint32Array(memory, at + count * 20, 2) : undefined),
    spaces.words(isSingle ? new Uint32Array(memory, at + count * 20 + 8, SPACE_WORDS) : undefined),
  );
}

function parseEntries(
  bytes: Uint8Array,
  origin: BlockOrigin,
  columns: BlockColumns,
): void {
  const { blocks, lsns, flags, valueOffsets, valueLengths } = columns;
  const { lsnStart, lsnEnd } = origin;
  const count = blocks.length;
  const length = bytes.length;
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
      if (scale > LSN_SCALE_MAX) throw blockError("impossible LSN", origin, start, delta);
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
}

/** Memory for the columns of blocks that come one after the other and are let go of together. */
export class ColumnMemory {
  /** Where the last stretch that was taken lies. */
  buffer: ArrayBuffer = new ArrayBuffer(0);
  #free = 0;

  /** Takes `length` bytes of zeros; returns where in `buffer` they are, a multiple of 8. */
  take(length: number): number {
    const rounded = (length + 7) & ~7;
    if (this.#free + rounded > this.buffer.byteLength) {
      this.buffer = new ArrayBuffer(Math.max(rounded, SHARED_COLUMN_BYTES));
      this.#free = 0;
    }
    const at = this.#free;
    this.#free += rounded;
    return at;
  }
}

/** Grows with the spaces of a block: mostly one, at times one per entry. Reused. */
class SpaceColumns {
  #count = 0;
  #starts = new Uint32Array(8);
  #words = new Uint32Array(8 * SPACE_WORDS);

  clear(): void {
    this.#count = 0;
  }

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

  get count(): number {
    return this.#count;
  }

  starts(count: number, into = new Uint32Array(this.#count + 1)): Uint32Array {
    this.#starts[this.#count] = count;
    return fill(into, this.#starts);
  }

  words(into = new Uint32Array(this.#count * SPACE_WORDS)): Uint32Array {
    return fill(into, this.#words);
  }
}

/** Of the block under construction. */
const spaces = new SpaceColumns();

/** Copies the first elements; for few, a loop is much quicker than `set`. */
function fill(into: Uint32Array, from: Uint32Array): Uint32Array {
  for (let index = 0; index < into.length; index++) into[index] = from[index];
  return into;
}

function blockError(what: string, origin: BlockOrigin, at: number, got: number): Error {
  return new CorruptionError(`Cannot read layer: ${what} at byte ${at} of a block`, {
    object: origin.name,
    offset: origin.offset,
    got,
  });
}
