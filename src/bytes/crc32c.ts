/**
 * CRC-32C (Castagnoli), slicing by 16: 16 bytes a step through 16 tables.
 *
 * A leaf on both paths. It guards every WAL record (PostgreSQL writes it) and every block of a layer (we do), and is
 * by far the largest part of decoding WAL, so it stays plain integer arithmetic over one typed array.
 *
 * Polynomial 0x1EDC6F41, reflected; initial value and final xor 0xFFFFFFFF, as in RFC 3720 and PostgreSQL's pg_crc32c.
 *
 * @module
 */

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

/**
 * The CRC-32C of `bytes[start, end)`.
 *
 * @param seed The result for the bytes before these, to go on from: `crc32c(b, 1, 2, crc32c(b, 0, 1))` is
 * `crc32c(b, 0, 2)`. 0 to begin.
 * @returns An unsigned 32-bit number.
 */
export function crc32c(bytes: Uint8Array, start = 0, end: number = bytes.length, seed = 0): number {
  return ~update(~seed, bytes, start, end) >>> 0;
}

/** Offset of `xl_crc`: the header's bytes before it are covered, itself and nothing else is not. */
const XL_CRC_OFFSET = 20;
const RECORD_HEADER_SIZE = 24;

/**
 * The value that `xl_crc` of a WAL record must have: over all that follows the header, then the header up to `xl_crc`.
 *
 * @param start Where the record starts; `length` bytes from there lie in `bytes`, at least a header.
 * @returns A signed 32-bit number, for comparison with an Int32Array's element.
 */
export function walRecordCrc(bytes: Uint8Array, start: number, length: number): number {
  const body = update(-1, bytes, start + RECORD_HEADER_SIZE, start + length);
  return ~update(body, bytes, start, start + XL_CRC_OFFSET);
}

/** The bare shift register, without initial value and final xor. */
function update(crc: number, bytes: Uint8Array, start: number, end: number): number {
  const t = TABLES;
  let at = start;
  for (const last = end - 16; at <= last; at += 16) {
    crc = t[3840 + (bytes[at] ^ crc & 0xff)] ^
      t[3584 + (bytes[at + 1] ^ (crc >>> 8) & 0xff)] ^
      t[3328 + (bytes[at + 2] ^ (crc >>> 16) & 0xff)] ^
      t[3072 + (bytes[at + 3] ^ crc >>> 24)] ^
      t[2816 + bytes[at + 4]] ^
      t[2560 + bytes[at + 5]] ^
      t[2304 + bytes[at + 6]] ^
      t[2048 + bytes[at + 7]] ^
      t[1792 + bytes[at + 8]] ^
      t[1536 + bytes[at + 9]] ^
      t[1280 + bytes[at + 10]] ^
      t[1024 + bytes[at + 11]] ^
      t[768 + bytes[at + 12]] ^
      t[512 + bytes[at + 13]] ^
      t[256 + bytes[at + 14]] ^
      t[bytes[at + 15]];
  }
  for (; at < end; at++) crc = t[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
  return crc;
}
