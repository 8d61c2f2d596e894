/**
 * Decompression of a raw LZ4 block (no frame): page images of `wal_compression = lz4`.
 *
 * A leaf. Input is untrusted: every read and copy is bounded by source and target, whatever the bytes say.
 *
 * Format (LZ4 block format): sequences of
 * ```
 * token: literal length 4 bits, match length - 4 4 bits; [literal length bytes while 255]; literals;
 * match offset 2 bytes little-endian, 1..65535; [match length bytes while 255]
 * ```
 * The last sequence ends after its literals.
 *
 * @module
 */

/**
 * Decompresses `source[start, start + length)` into `target[0, rawSize)`.
 *
 * @returns Whether the source is valid and fills exactly `rawSize` bytes. On false `target` holds rubbish, inside its
 * first `rawSize` bytes.
 */
export function lz4DecompressBlock(
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
  while (from < end) {
    const token = source[from++];
    let literals = token >>> 4;
    if (literals === 15) {
      // A length beyond the target is refused below; the sum itself is bounded by 255 per source byte.
      let more = 255;
      for (; more === 255 && from < end; literals += more) more = source[from++];
      if (more === 255) return false;
    }
    if (literals > end - from || literals > rawSize - to) return false;
    if (literals < 32) {
      for (let index = 0; index < literals; index++) target[to + index] = source[from + index];
    } else target.set(source.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from === end) return to === rawSize;
    if (end - from < 2) return false;
    const offset = source[from] | source[from + 1] << 8;
    from += 2;
    let count = (token & 15) + 4;
    if (count === 19) {
      let more = 255;
      for (; more === 255 && from < end; count += more) more = source[from++];
      if (more === 255) return false;
    }
    if (offset === 0 || offset > to || count > rawSize - to) return false;
    if (offset >= count && count >= 32) target.copyWithin(to, to - offset, to - offset + count);
    else for (let index = 0; index < count; index++) target[to + index] = target[to + index - offset];
    to += count;
  }
  return false;
}
