/**
 * CRC-32C (Castagnoli), slicing by 16: 16 bytes a step through 16 tables.
 *
 * A leaf on both paths. It guards every WAL record (PostgreSQL writes it) and every block of a layer (we do), and is
 * by far the largest part of decoding WAL. Where the runtime allows it, WebAssembly does the work (crc32c_module.ts);
 * else, and for what is short, plain integer arithmetic that reads words where it can.
 *
 * Polynomial 0x1EDC6F41, reflected; initial value and final xor 0xFFFFFFFF, as in RFC 3720 and PostgreSQL's pg_crc32c.
 *
 * @module
 */

import { type Crc32cModule, FOLD_MAX, FOLD_MIN, openCrc32cModule } from "./crc32c_module.ts";

const REFLECTED_POLYNOMIAL = 0x82f63b78;

/** Table `k` at `[256 * k]`: effect of a byte that `k` more bytes follow. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(16 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ REFLECTED_POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let index = 256; index < tables.length; index++) {
    const previous = tables[index - 256];
    tables[index] = tables[previous & 0xff] ^ (previous >>> 8);
  }
  return tables;
}

/** Below this a view of words costs more than it saves. */
const WORTH_ALIGNING = 256;
/** Below this copying into the module costs more than it saves. */
const WORTH_COPYING = 512;
/** Bytes copied at a time: they should stay in the cache next to the processor. */
const PIECE_BYTES = 16 * 1024;

/** Undefined where the runtime forbids it, null before it was tried: who only imports this file does not pay for it. */
let module: Crc32cModule | undefined | null = null;

function moduleIfAllowed(): Crc32cModule | undefined {
  if (module === null) module = openCrc32cModule(TABLES);
  return module;
}

/**
 * The CRC-32C of `bytes[start, end)`.
 *
 * @param seed The result for the bytes before these, to go on from: `crc32c(b, 1, 2, crc32c(b, 0, 1))` is
 * `crc32c(b, 0, 2)`. 0 to begin.
 * @returns An unsigned 32-bit number.
 */
export function crc32c(bytes: Uint8Array, start = 0, end: number = bytes.length, seed = 0): number {
  const fast = end - start >= WORTH_COPYING ? moduleIfAllowed() : undefined;
  if (fast === undefined) return crc32cPlain(bytes, start, end, seed);
  let crc = ~seed;
  const { updateLong } = fast;
  const pieceBytes = updateLong === undefined ? PIECE_BYTES : FOLD_MAX;
  for (let at = start; at < end; at += pieceBytes) {
    const piece = bytes.subarray(at, Math.min(end, at + pieceBytes));
    fast.data.set(piece);
    crc = updateLong === undefined || piece.length < FOLD_MIN
      ? fast.update(crc, 0, piece.length)
      : updateLong(crc, 0, piece.length);
  }
  return ~crc >>> 0;
}

/** The same, always in JavaScript. */
export function crc32cPlain(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  return ~update(~seed, bytes, start, end) >>> 0;
}

/**
 * Goes over WAL records laid end to end from `start` on, as long as they are whole and have the CRC they say. Not all of
 * them in one call: what lies beyond is neither right nor wrong, and a record longer than some kilobytes may stop it.
 *
 * @param bytes Holds the records; `start` is a multiple of 8.
 * @param words The same memory as `bytes`, from its first byte.
 * @returns Where the first record begins that is not known to be right.
 */
export function rightRecordsEnd(bytes: Uint8Array, words: Int32Array, start: number, end: number): number {
  const fast = moduleIfAllowed();
  if (fast === undefined || words[start >> 2] > end - start) return start;
  const length = Math.min(end - start, fast.data.length);
  fast.data.set(bytes.subarray(start, start + length));
  return start + fast.recordsEnd(0, length);
}

/** `xl_crc` is the last word of the header: the bytes before it are covered, itself and nothing else is not. */
const RECORD_HEADER_SIZE = 24;

/**
 * The value that `xl_crc` of a WAL record must have: over all that follows the header, then the header up to `xl_crc`.
 *
 * @param bytes Holds the record: `length` bytes at `start`, a multiple of 8, and no less than its header.
 * @param words The same memory as `bytes`, from its first byte.
 * @returns A signed 32-bit number, for comparison with an Int32Array's element.
 */
export function walRecordCrc(bytes: Uint8Array, words: Int32Array, start: number, length: number): number {
  const end = start + length;
  const crc = updateTail(
    updateWords(-1, words, (start + RECORD_HEADER_SIZE) >> 2, end >> 2),
    bytes,
    words,
    start,
    end,
  );
  return ~updateWord(updateWords(crc, words, start >> 2, (start + 16) >> 2) ^ words[(start + 16) >> 2]);
}

/** Takes in what {@linkcode updateWords} left of a record's body: less than 16 bytes. */
function updateTail(crc: number, bytes: Uint8Array, words: Int32Array, start: number, end: number): number {
  let word = (start + RECORD_HEADER_SIZE >> 2) + (end - start - RECORD_HEADER_SIZE >> 4 << 2);
  for (const last = end >> 2; word < last; word++) crc = updateWord(crc ^ words[word]);
  for (let at = word << 2; at < end; at++) crc = TABLES[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
  return crc;
}

/** Four bytes, which have been xored into the register. */
function updateWord(crc: number): number {
  const t = TABLES;
  return t[768 + (crc & 0xff)] ^ t[512 + (crc >>> 8 & 0xff)] ^ t[256 + (crc >>> 16 & 0xff)] ^ t[crc >>> 24];
}

/** The bare shift register, without initial value and final xor, at any alignment. */
function update(crc: number, bytes: Uint8Array, start: number, end: number): number {
  const t = TABLES;
  let at = start;
  if (end - start >= WORTH_ALIGNING && (bytes.byteOffset & 3) === 0) {
    for (; (at & 3) !== 0; at++) crc = t[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
    crc = updateWords(crc, words, at >> 2, end >> 2);
    at += (end - at) & ~15;
  }
  for (const last = end - 4; at <= last; at += 4) {
    crc = t[768 + (bytes[at] ^ crc & 0xff)] ^ t[512 + (bytes[at + 1] ^ crc >>> 8 & 0xff)] ^
      t[256 + (bytes[at + 2] ^ crc >>> 16 & 0xff)] ^ t[bytes[at + 3] ^ crc >>> 24];
  }
  for (; at < end; at++) crc = t[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
  return crc;
}

/** Takes in `words[at, end)`, four at a time; up to three words at the end are left out. */
function updateWords(crc: number, words: Int32Array, at: number, end: number): number {
  const t = TABLES;
  for (const last = end - 4; at <= last; at += 4) {
    const a = words[at] ^ crc;
    const b = words[at + 1];
    const c = words[at + 2];
    const d = words[at + 3];
    crc = t[3840 + (a & 0xff)] ^ t[3584 + (a >>> 8 & 0xff)] ^ t[3328 + (a >>> 16 & 0xff)] ^
      t[3072 + (a >>> 24)] ^
      t[2816 + (b & 0xff)] ^ t[2560 + (b >>> 8 & 0xff)] ^ t[2304 + (b >>> 16 & 0xff)] ^ t[2048 + (b >>> 24)] ^
      t[1792 + (c & 0xff)] ^ t[1536 + (c >>> 8 & 0xff)] ^ t[1280 + (c >>> 16 & 0xff)] ^ t[1024 + (c >>> 24)] ^
      t[768 + (d & 0xff)] ^ t[512 + (d >>> 8 & 0xff)] ^ t[256 + (d >>> 16 & 0xff)] ^ t[d >>> 24];
  }
  return crc;
}
