/**
 * The two entropy coders of Zstandard: FSE tables and Huffman trees, read from untrusted bytes.
 *
 * A leaf, for zstd.ts alone. Tables have a fixed size and are reused; whatever does not fit them is refused by throwing
 * {@linkcode INVALID_ZSTD}. Reads beyond the input yield zero bits, never a neighbour's.
 *
 * Source: RFC 8878, sections 4.1 (FSE) and 4.2 (Huffman).
 *
 * @module
 */

/** What is thrown for any invalid input; the caller turns it into its own error. */
export const INVALID_ZSTD: Error = new Error("Cannot decompress: invalid zstd frame");

/** Largest accuracy log of an FSE table that Zstandard allows: 9, for literal and match lengths. */
const MAX_FSE_LOG = 9;
const MAX_HUFFMAN_BITS = 11;
const MAX_HUFFMAN_WEIGHT_LOG = 6;

/** Position of the highest set bit of `value`, which is at least 1. */
function highBit(value: number): number {
  return 31 - Math.clz32(value);
}

/**
 * Bits `[offset, offset + count)` of a little-endian bit array that starts at byte `start`, `count` up to 25. Bits before
 * its beginning, where `offset` is negative, are zero.
 */
export function bitsAt(source: Uint8Array, start: number, offset: number, count: number): number {
  if (offset < 0) {
    const real = count + offset;
    return real <= 0 ? 0 : bitsAt(source, start, 0, real) << -offset;
  }
  const at = start + (offset >> 3);
  const word = source[at] | source[at + 1] << 8 | source[at + 2] << 16 | source[at + 3] << 24;
  return word >>> (offset & 7) & (1 << count) - 1;
}

/** Number of bits in a stream that is read backwards: its last byte ends with a set bit that marks the end. */
export function backwardBits(source: Uint8Array, start: number, end: number): number {
  if (end <= start || source[end - 1] === 0) throw INVALID_ZSTD;
  return (end - start - 1) * 8 + highBit(source[end - 1]);
}

/** A decoding table of FSE. State `s` yields `symbols[s]`; the next state is `base[s]` plus `bits[s]` bits. */
export class FseTable {
  log = 0;
  readonly symbols = new Uint8Array(1 << MAX_FSE_LOG);
  readonly bits = new Uint8Array(1 << MAX_FSE_LOG);
  readonly base = new Uint16Array(1 << MAX_FSE_LOG);

  /** One symbol, no bits. */
  setSingle(symbol: number): void {
    this.log = 0;
    this.symbols[0] = symbol;
    this.bits[0] = 0;
    this.base[0] = 0;
  }

  copy(from: FseTable): void {
    this.log = from.log;
    this.symbols.set(from.symbols);
    this.bits.set(from.bits);
    this.base.set(from.base);
  }

  /** Builds the table from probabilities, of which -1 means less than one; they sum up to `1 << log`. */
  build(probabilities: Int16Array, count: number, log: number): void {
    const size = 1 << log;
    this.log = log;
    let high = size;
    for (let symbol = 0; symbol < count; symbol++) {
      if (probabilities[symbol] === -1) this.symbols[--high] = symbol;
      nextStates[symbol] = Math.abs(probabilities[symbol]);
    }
    const step = (size >> 1) + (size >> 3) + 3;
    let position = 0;
    for (let symbol = 0; symbol < count; symbol++) {
      for (let times = probabilities[symbol]; times > 0; times--) {
        this.symbols[position] = symbol;
        do position = position + step & size - 1; while (position >= high);
      }
    }
    if (position !== 0) throw INVALID_ZSTD;
    for (let state = 0; state < size; state++) {
      const next = nextStates[this.symbols[state]]++;
      const width = log - highBit(next);
      this.bits[state] = width;
      this.base[state] = (next << width) - size;
    }
  }

  /**
   * Reads a table's description at `source[at]`.
   *
   * @returns The position behind it, at most `end`.
   */
  read(source: Uint8Array, at: number, end: number, maxLog: number, maxSymbol: number): number {
    const limit = (end - at) * 8;
    const log = bitsAt(source, at, 0, 4) + 5;
    if (log > maxLog) throw INVALID_ZSTD;
    let offset = 4;
    let remaining = 1 << log;
    let symbol = 0;
    while (remaining > 0) {
      if (symbol > maxSymbol || offset > limit) throw INVALID_ZSTD;
      const width = highBit(remaining + 1) + 1;
      const lowerMask = (1 << width - 1) - 1;
      const threshold = (1 << width) - 2 - remaining;
      let value = bitsAt(source, at, offset, width);
      if ((value & lowerMask) < threshold) {
        offset += width - 1;
        value &= lowerMask;
      } else {
        offset += width;
        if (value > lowerMask) value -= threshold;
      }
      const probability = value - 1;
      remaining -= Math.abs(probability);
      probabilities[symbol++] = probability;
      for (let repeat = probability === 0 ? 3 : 0; repeat === 3;) {
        repeat = bitsAt(source, at, offset, 2);
        offset += 2;
        if (symbol + repeat > maxSymbol + 1 || offset > limit) throw INVALID_ZSTD;
        for (let times = 0; times < repeat; times++) probabilities[symbol++] = 0;
      }
    }
    const next = at + (offset + 7 >> 3);
    if (remaining !== 0 || next > end) throw INVALID_ZSTD;
    this.build(probabilities, symbol, log);
    return next;
  }
}

// Decompression is synchronous: scratch memory is shared.
const probabilities = new Int16Array(256);
const nextStates = new Uint16Array(256);
const weights = new Uint8Array(256);
const rankStart = new Uint16Array(MAX_HUFFMAN_BITS + 2);
const rankCount = new Uint16Array(MAX_HUFFMAN_BITS + 2);
const weightTable = new FseTable();

/** A Huffman tree as a table: the next `maxBits` bits index symbol and length. */
export class HuffmanTable {
  /** 0: there is none yet. */
  maxBits = 0;
  readonly symbols = new Uint8Array(1 << MAX_HUFFMAN_BITS);
  readonly lengths = new Uint8Array(1 << MAX_HUFFMAN_BITS);

  /** Reads a tree's description at `source[at]` and returns the position behind it, at most `end`. */
  read(source: Uint8Array, at: number, end: number): number {
    if (at >= end) throw INVALID_ZSTD;
    this.maxBits = 0;
    const header = source[at++];
    let count: number;
    let next: number;
    if (header < 128) {
      next = at + header;
      if (next > end) throw INVALID_ZSTD;
      count = readWeights(source, at, next);
    } else {
      count = header - 127;
      next = at + (count + 1 >> 1);
      if (next > end) throw INVALID_ZSTD;
      for (let index = 0; index < count; index++) {
        const byte = source[at + (index >> 1)];
        weights[index] = (index & 1) === 0 ? byte >> 4 : byte & 15;
      }
    }
    this.#build(count);
    return next;
  }

  /** Builds the table from `count` weights; the last symbol's weight is what is missing to a power of two. */
  #build(count: number): void {
    let sum = 0;
    for (let index = 0; index < count; index++) {
      if (weights[index] > MAX_HUFFMAN_BITS) throw INVALID_ZSTD;
      if (weights[index] > 0) sum += 1 << weights[index] - 1;
    }
    if (sum === 0 || count > 255) throw INVALID_ZSTD;
    const maxBits = highBit(sum) + 1;
    const missing = (1 << maxBits) - sum;
    if (maxBits > MAX_HUFFMAN_BITS || (missing & missing - 1) !== 0) throw INVALID_ZSTD;
    weights[count++] = highBit(missing) + 1;
    rankCount.fill(0);
    for (let index = 0; index < count; index++) {
      if (weights[index] > 0) rankCount[maxBits + 1 - weights[index]]++;
    }
    rankStart[maxBits] = 0;
    for (let bits = maxBits; bits > 0; bits--) {
      rankStart[bits - 1] = rankStart[bits] + (rankCount[bits] << maxBits - bits);
      this.lengths.fill(bits, rankStart[bits], rankStart[bits - 1]);
    }
    if (rankStart[0] !== 1 << maxBits) throw INVALID_ZSTD;
    for (let symbol = 0; symbol < count; symbol++) {
      if (weights[symbol] === 0) continue;
      const bits = maxBits + 1 - weights[symbol];
      const from = rankStart[bits];
      rankStart[bits] = from + (1 << maxBits - bits);
      this.symbols.fill(symbol, from, rankStart[bits]);
    }
    this.maxBits = maxBits;
  }

  /** Decodes exactly `count` symbols from the backward stream `source[start, end)` to `target[to]`. */
  decode(
    source: Uint8Array,
    start: number,
    end: number,
    target: Uint8Array,
    to: number,
    count: number,
  ): void {
    const { maxBits, symbols, lengths } = this;
    const mask = (1 << maxBits) - 1;
    let left = backwardBits(source, start, end);
    for (const stop = to + count; to < stop; to++) {
      const offset = left - maxBits;
      let code: number;
      if (offset >= 0) {
        const at = start + (offset >> 3);
        code = (source[at] | source[at + 1] << 8 | source[at + 2] << 16) >>> (offset & 7) & mask;
      } else code = bitsAt(source, start, offset, maxBits);
      target[to] = symbols[code];
      left -= lengths[code];
      if (left < 0) throw INVALID_ZSTD;
    }
    if (left !== 0) throw INVALID_ZSTD;
  }
}

/** Reads Huffman weights that are FSE-compressed, two states taking turns, and returns how many. */
function readWeights(source: Uint8Array, at: number, end: number): number {
  const table = weightTable;
  const start = table.read(source, at, end, MAX_HUFFMAN_WEIGHT_LOG, 255);
  let left = backwardBits(source, start, end);
  let state = bitsAt(source, start, left -= table.log, table.log);
  let other = bitsAt(source, start, left -= table.log, table.log);
  if (left < 0) throw INVALID_ZSTD;
  for (let count = 0; count < 254;) {
    weights[count++] = table.symbols[state];
    const width = table.bits[state];
    left -= width;
    if (left < 0) {
      weights[count++] = table.symbols[other];
      return count;
    }
    const next = table.base[state] + bitsAt(source, start, left, width);
    state = other;
    other = next;
  }
  throw INVALID_ZSTD;
}
