/**
 * Decompression of Zstandard frames of known size: page images of `wal_compression = zstd`.
 *
 * A leaf. Input is untrusted: work and memory are bounded by the size that the caller expects, whatever the frame claims,
 * and nothing is written outside it. Dictionaries are refused, and the optional content checksum is not checked: WAL
 * and layers have checksums of their own.
 *
 * Format (RFC 8878):
 * ```
 * frame:  magic FD2FB528, descriptor 1, [window 1], [dictionary id 0-4], [content size 0-8], blocks, [checksum 4]
 * block:  header 3 (bit 0 last, bits 1-2 type, bits 3-23 size), content: 0 raw, 1 one byte repeated, 2 compressed
 * compressed block: literals (raw, repeated, or Huffman in 1 or 4 streams), then sequences of
 *         (literal length, match length, offset), FSE-coded in one bit stream that is read backwards
 * ```
 *
 * @module
 */
import { getU32 } from "./little_endian.ts";
import { backwardBits, bitsAt, FseTable, HuffmanTable, INVALID_ZSTD } from "./zstd_entropy.ts";

const MAGIC = 0xfd2fb528;
const MAX_BLOCK_SIZE = 128 * 1024;
/** Offsets are read in one piece of up to 24 bits. */
const MAX_RAW_SIZE = 1 << 24;
const MAX_OFFSET_CODE = 24;

/**
 * Decompresses `source[start, start + length)`, one frame or several in a row, into `target[0, rawSize)`.
 *
 * @param rawSize At most 16 MiB.
 * @returns Whether the source is valid and yields exactly `rawSize` bytes. On false `target` holds rubbish, inside its
 * first `rawSize` bytes.
 */
export function zstdDecompress(
  source: Uint8Array,
  start: number,
  length: number,
  target: Uint8Array,
  rawSize: number,
): boolean {
  if (
    start < 0 || length < 0 || start + length > source.length || rawSize > target.length ||
    rawSize > MAX_RAW_SIZE
  ) {
    return false;
  }
  try {
    frame.decompress(source, start, start + length, target, rawSize);
    return true;
  } catch (error) {
    if (error === INVALID_ZSTD) return false;
    throw error;
  }
}

// deno-fmt-ignore -- a table
const LITERAL_LENGTH_BITS = Uint8Array.of(
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
);
// deno-fmt-ignore -- a table
const MATCH_LENGTH_BITS = Uint8Array.of(
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
);
const LITERAL_LENGTH_BASE = baselines(LITERAL_LENGTH_BITS, 0);
const MATCH_LENGTH_BASE = baselines(MATCH_LENGTH_BITS, 3);

function baselines(bits: Uint8Array, first: number): Int32Array {
  const bases = new Int32Array(bits.length);
  for (let code = 0, base = first; code < bits.length; base += 1 << bits[code++]) bases[code] = base;
  return bases;
}

/** One of the three kinds of codes in sequences. */
interface CodeKind {
  readonly maxLog: number;
  readonly maxSymbol: number;
  readonly predefined: FseTable;
}

function codeKind(
  maxLog: number,
  predefinedLog: number,
  maxSymbol: number,
  probabilities: number[],
): CodeKind {
  const predefined = new FseTable();
  predefined.build(Int16Array.from(probabilities), probabilities.length, predefinedLog);
  return { maxLog, maxSymbol, predefined };
}

// deno-fmt-ignore -- tables
const LITERAL_LENGTHS = codeKind(9, 6, 35, [
  4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
]);
// deno-fmt-ignore -- tables
const OFFSETS = codeKind(8, 5, 31, [
  1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
]);
// deno-fmt-ignore -- tables
const MATCH_LENGTHS = codeKind(9, 6, 52, [
  1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);

/** The state of a frame. One instance is reused: decompression is synchronous. */
class ZstdFrame {
  #source: Uint8Array = new Uint8Array(0);
  #target: Uint8Array = new Uint8Array(0);
  #rawSize = 0;
  /** Bytes of the target that are done, and where the current frame's begin: matches reach no further back. */
  #to = 0;
  #frameStart = 0;

  readonly #huffman = new HuffmanTable();
  readonly #literalLengths = new FseTable();
  readonly #offsets = new FseTable();
  readonly #matchLengths = new FseTable();
  #hasTables = false;
  #repeat0 = 1;
  #repeat1 = 4;
  #repeat2 = 8;

  /** The block's literals: in `#source` when they are raw, else in `#scratch`. */
  #literals: Uint8Array = new Uint8Array(0);
  #literalAt = 0;
  #literalCount = 0;
  #scratch: Uint8Array = new Uint8Array(8192);

  decompress(source: Uint8Array, at: number, end: number, target: Uint8Array, rawSize: number): void {
    this.#source = source;
    this.#target = target;
    this.#rawSize = rawSize;
    this.#to = 0;
    do at = this.#readFrame(at, end); while (at < end);
    if (this.#to !== rawSize || at !== end) throw INVALID_ZSTD;
  }

  #readFrame(at: number, end: number): number {
    const source = this.#source;
    this.#huffman.maxBits = 0;
    this.#hasTables = false;
    this.#repeat0 = 1;
    this.#repeat1 = 4;
    this.#repeat2 = 8;
    this.#frameStart = this.#to;
    const hasChecksum = (source[at + 4] & 4) !== 0;
    at = this.#readHeader(at, end);
    for (let last = false; !last;) {
      if (end - at < 3) throw INVALID_ZSTD;
      const header = source[at] | source[at + 1] << 8 | source[at + 2] << 16;
      last = (header & 1) !== 0;
      at = this.#readBlock(header >> 1 & 3, header >> 3, at + 3, end);
    }
    return at + (hasChecksum ? 4 : 0);
  }

  #readHeader(at: number, end: number): number {
    const source = this.#source;
    if (end - at < 6 || getU32(source, at) !== MAGIC) throw INVALID_ZSTD;
    const descriptor = source[at + 4];
    const sizeFlag = descriptor >> 6;
    const singleSegment = (descriptor & 0x20) !== 0;
    if ((descriptor & 0x0b) !== 0) throw INVALID_ZSTD; // reserved bit, or a dictionary
    at += singleSegment ? 5 : 6;
    const width = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag;
    if (at + width > end) throw INVALID_ZSTD;
    let size = width === 2 ? 256 : 0;
    for (let index = 0; index < width; index++) size += source[at + index] * 256 ** index;
    // A frame that announces more than there is room for is refused before any work.
    if (size > this.#rawSize - this.#to) throw INVALID_ZSTD;
    return at + width;
  }

  /** Decompresses one block and returns where the next begins. */
  #readBlock(type: number, size: number, at: number, end: number): number {
    const target = this.#target;
    const inputSize = type === 1 ? 1 : size;
    if (size > MAX_BLOCK_SIZE || at + inputSize > end) throw INVALID_ZSTD;
    const next = at + inputSize;
    if (type === 2) this.#readCompressed(at, next);
    else {
      if (type === 3 || size > this.#rawSize - this.#to) throw INVALID_ZSTD;
      if (type === 0) target.set(this.#source.subarray(at, next), this.#to);
      else target.fill(this.#source[at], this.#to, this.#to + size);
      this.#to += size;
    }
    return next;
  }

  #readCompressed(at: number, end: number): void {
    at = this.#readLiterals(at, end);
    if (at >= end) throw INVALID_ZSTD;
    const source = this.#source;
    let count = source[at++];
    if (count === 0) {
      if (at !== end) throw INVALID_ZSTD;
      return this.#copyLiterals(this.#literalCount);
    }
    if (count === 255) {
      count = source[at] + (source[at + 1] << 8) + 0x7f00;
      at += 2;
    } else if (count > 127) count = (count - 128 << 8) + source[at++];
    if (at >= end) throw INVALID_ZSTD;
    const modes = source[at++];
    if ((modes & 3) !== 0) throw INVALID_ZSTD;
    at = this.#readTable(modes >> 6, LITERAL_LENGTHS, this.#literalLengths, at, end);
    at = this.#readTable(modes >> 4 & 3, OFFSETS, this.#offsets, at, end);
    at = this.#readTable(modes >> 2 & 3, MATCH_LENGTHS, this.#matchLengths, at, end);
    this.#hasTables = true;
    this.#readSequences(count, at, end);
    this.#copyLiterals(this.#literalCount);
  }

  /** Modes: 0 predefined, 1 one symbol, 2 a new table, 3 the table of the block before. */
  #readTable(mode: number, kind: CodeKind, table: FseTable, at: number, end: number): number {
    if (mode === 0) table.copy(kind.predefined);
    else if (mode === 1) {
      if (at >= end || this.#source[at] > kind.maxSymbol) throw INVALID_ZSTD;
      table.setSingle(this.#source[at++]);
    } else if (mode === 2) return table.read(this.#source, at, end, kind.maxLog, kind.maxSymbol);
    else if (!this.#hasTables) throw INVALID_ZSTD;
    return at;
  }

  /** Reads the literals section and returns where the sequences begin. */
  #readLiterals(at: number, end: number): number {
    if (at >= end) throw INVALID_ZSTD;
    const source = this.#source;
    const type = source[at] & 3;
    const format = source[at] >> 2 & 3;
    if (type >= 2) return this.#readHuffmanLiterals(type, format, at, end);
    let count = source[at] >> 3;
    let width = 1;
    if (format === 1) {
      count = bitsAt(source, at, 4, 12);
      width = 2;
    } else if (format === 3) {
      count = bitsAt(source, at, 4, 20);
      width = 3;
    }
    at += width;
    if (count > this.#rawSize - this.#to || at + (type === 0 ? count : 1) > end) throw INVALID_ZSTD;
    this.#literalCount = count;
    if (type === 0) {
      this.#literals = source;
      this.#literalAt = at;
      return at + count;
    }
    this.#useScratch(count).fill(source[at], 0, count);
    return at + 1;
  }

  #readHuffmanLiterals(type: number, format: number, at: number, end: number): number {
    const source = this.#source;
    const width = format < 2 ? 10 : format === 2 ? 14 : 18;
    const headerSize = format < 2 ? 3 : format + 2;
    const count = bitsAt(source, at, 4, width);
    const next = at + headerSize + bitsAt(source, at, 4 + width, width);
    at += headerSize;
    if (count > this.#rawSize - this.#to || count > MAX_BLOCK_SIZE || next > end) throw INVALID_ZSTD;
    if (type === 2) at = this.#huffman.read(source, at, next);
    else if (this.#huffman.maxBits === 0) throw INVALID_ZSTD;
    const target = this.#useScratch(count);
    this.#literalCount = count;
    if (format === 0) {
      this.#huffman.decode(source, at, next, target, 0, count);
      return next;
    }
    // Four streams; a table gives the sizes of the first three.
    const part = count + 3 >> 2;
    if (next - at < 6 || 3 * part > count) throw INVALID_ZSTD;
    let stream = at + 6;
    for (let index = 0; index < 4; index++) {
      const stop = index === 3 ? next : stream + (source[at + 2 * index] | source[at + 2 * index + 1] << 8);
      if (stop > next) throw INVALID_ZSTD;
      this.#huffman.decode(source, stream, stop, target, index * part, index === 3 ? count - 3 * part : part);
      stream = stop;
    }
    return next;
  }

  #useScratch(size: number): Uint8Array {
    if (size > this.#scratch.length) this.#scratch = new Uint8Array(size);
    this.#literals = this.#scratch;
    this.#literalAt = 0;
    return this.#scratch;
  }

  #copyLiterals(count: number): void {
    if (count > this.#literalCount || count > this.#rawSize - this.#to) throw INVALID_ZSTD;
    const from = this.#literalAt;
    const [target, literals, to] = [this.#target, this.#literals, this.#to];
    if (count > 32) target.set(literals.subarray(from, from + count), to);
    else for (let index = 0; index < count; index++) target[to + index] = literals[from + index];
    this.#literalAt = from + count;
    this.#literalCount -= count;
    this.#to = to + count;
  }

  #copyMatch(offset: number, count: number): void {
    const [target, to] = [this.#target, this.#to];
    if (offset < 1 || offset > to - this.#frameStart || count > this.#rawSize - to) throw INVALID_ZSTD;
    if (offset >= count && count > 32) target.copyWithin(to, to - offset, to - offset + count);
    else for (let index = 0; index < count; index++) target[to + index] = target[to + index - offset];
    this.#to = to + count;
  }

  #readSequences(count: number, at: number, end: number): void {
    const source = this.#source;
    const [literalLengths, offsets, matchLengths] = [this.#literalLengths, this.#offsets, this.#matchLengths];
    let left = backwardBits(source, at, end);
    let literalState = bitsAt(source, at, left -= literalLengths.log, literalLengths.log);
    let offsetState = bitsAt(source, at, left -= offsets.log, offsets.log);
    let matchState = bitsAt(source, at, left -= matchLengths.log, matchLengths.log);
    for (; count > 0; count--) {
      const offsetCode = offsets.symbols[offsetState];
      if (offsetCode > MAX_OFFSET_CODE) throw INVALID_ZSTD;
      const matchCode = matchLengths.symbols[matchState];
      const literalCode = literalLengths.symbols[literalState];
      const offsetValue = (1 << offsetCode) + bitsAt(source, at, left -= offsetCode, offsetCode);
      let width = MATCH_LENGTH_BITS[matchCode];
      const matchLength = MATCH_LENGTH_BASE[matchCode] + bitsAt(source, at, left -= width, width);
      width = LITERAL_LENGTH_BITS[literalCode];
      const literalLength = LITERAL_LENGTH_BASE[literalCode] + bitsAt(source, at, left -= width, width);
      if (left < 0) throw INVALID_ZSTD;
      this.#copyLiterals(literalLength);
      this.#copyMatch(this.#offset(offsetValue, literalLength), matchLength);
      if (count === 1) break;
      width = literalLengths.bits[literalState];
      literalState = literalLengths.base[literalState] + bitsAt(source, at, left -= width, width);
      width = matchLengths.bits[matchState];
      matchState = matchLengths.base[matchState] + bitsAt(source, at, left -= width, width);
      width = offsets.bits[offsetState];
      offsetState = offsets.base[offsetState] + bitsAt(source, at, left -= width, width);
    }
    if (left !== 0) throw INVALID_ZSTD;
  }

  /** The distance that an offset value means: values up to 3 name one of the last three distances. */
  #offset(value: number, literalLength: number): number {
    if (value > 3) {
      this.#repeat2 = this.#repeat1;
      this.#repeat1 = this.#repeat0;
      return this.#repeat0 = value - 3;
    }
    const index = value - (literalLength === 0 ? 0 : 1);
    if (index === 0) return this.#repeat0;
    const offset = index === 1 ? this.#repeat1 : index === 2 ? this.#repeat2 : this.#repeat0 - 1;
    if (index > 1) this.#repeat2 = this.#repeat1;
    this.#repeat1 = this.#repeat0;
    return this.#repeat0 = offset;
  }
}

const frame = new ZstdFrame();
