/**
 * Decompression of PGLZ, PostgreSQL's own LZ: page images of `wal_compression = pglz` (`on`) and inline values.
 *
 * A leaf. Input is untrusted: every read and copy is bounded by source and target, whatever the bytes say.
 *
 * Format (PostgreSQL src/common/pg_lzcompress.c, 14-18): groups of one control byte and eight items, lowest bit first.
 * ```
 * bit 0: one literal byte
 * bit 1: match, 2-3 bytes:  oooollll oooooooo [extra]
 *        offset 12 bits (upper 4 first), length llll + 3; when llll is 15, + extra byte
 * ```
 *
 * @module
 */

/**
 * Decompresses `source[start, start + length)` into `target[0, rawSize)`.
 *
 * @returns Whether the source is valid and fills exactly `rawSize` bytes. On false `target` holds rubbish, inside its
 * first `rawSize` bytes.
 */
export function pglzDecompress(
  source: Uint8Array,
  start: number,
  length: number,
  target: Uint8Array,
  rawSize: number,
): boolean {
  const end = start + length;
  if (start < 0 || end > source.length || rawSize > target.length) return false;
  let from = start;
  let to = 0;
  while (from < end && to < rawSize) {
    let control = source[from++];
    for (let item = 0; item < 8 && from < end && to < rawSize; item++, control >>= 1) {
      if ((control & 1) === 0) {
        target[to++] = source[from++];
        continue;
      }
      if (from + 2 > end) return false;
      let count = (source[from] & 0x0f) + 3;
      const offset = (source[from] & 0xf0) << 4 | source[from + 1];
      from += 2;
      if (count === 18) {
        if (from >= end) return false;
        count += source[from++];
      }
      if (offset === 0 || offset > to) return false;
      // Source and target may overlap: bytes copied first are read again.
      for (const stop = Math.min(to + count, rawSize); to < stop; to++) target[to] = target[to - offset];
    }
  }
  return to === rawSize && from === end;
}
