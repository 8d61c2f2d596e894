/**
 * Compression to a raw LZ4 block (no frame): blocks of layer files.
 *
 * A leaf. Greedy: the last place where the next four bytes were seen is tried, nothing else, and where little repeats it
 * looks less and less closely. The format is drawn in lz4.ts; its rules for the end of a block are kept, so that any
 * decoder reads what this writes.
 *
 * @module
 */

const HASH_BITS = 13;
const MIN_MATCH = 4;
/** The last match begins at least so far before the end, and the last literals are at least so many. */
const LAST_MATCH = 12;
const LAST_LITERALS = 5;
const MAX_OFFSET = 65535;
/** After so many misses in a row steps get longer by one. */
const SKIP_SHIFT = 6;

/** Where four bytes with a hash were seen last, plus 1. Used by one call at a time. */
const seen = new Int32Array(1 << HASH_BITS);

/**
 * Compresses `source` into `target`.
 *
 * @returns Bytes written, or -1 if they do not fit: a target as long as the source asks for compression or nothing.
 */
export function lz4CompressBlock(source: Uint8Array, target: Uint8Array): number {
  const matchEnd = source.length - LAST_LITERALS;
  const searchEnd = source.length - LAST_MATCH;
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  seen.fill(0);
  let literalsFrom = 0;
  let to = 0;
  let misses = 0;
  for (let at = 0; at < searchEnd;) {
    const next = view.getInt32(at, true);
    const slot = Math.imul(next, 0x9e3779b1) >>> (32 - HASH_BITS);
    const candidate = seen[slot] - 1;
    seen[slot] = at + 1;
    const matches = candidate >= 0 && at - candidate <= MAX_OFFSET && view.getInt32(candidate, true) === next;
    if (!matches) {
      at += 1 + (misses++ >> SKIP_SHIFT);
      continue;
    }
    misses = 0;
    let end = at + MIN_MATCH;
    for (let from = candidate + MIN_MATCH; end < matchEnd && source[end] === source[from]; end++) from++;
    to = putSequence(source, literalsFrom, at, at - candidate, end - at, target, to);
    if (to < 0) return -1;
    at = literalsFrom = end;
  }
  return putSequence(source, literalsFrom, source.length, 0, 0, target, to);
}

/** Literals `source[from, literalsEnd)`, and a match unless its length is 0. Returns where it ends, or -1: no room. */
function putSequence(
  source: Uint8Array,
  from: number,
  literalsEnd: number,
  offset: number,
  matchLength: number,
  target: Uint8Array,
  to: number,
): number {
  const literals = literalsEnd - from;
  const extra = matchLength - MIN_MATCH;
  const most = 1 + literals + Math.floor(literals / 255) + 1 + 2 + Math.floor(matchLength / 255) + 1;
  if (to + most > target.length) return -1;
  target[to++] = Math.min(literals, 15) << 4 | (matchLength === 0 ? 0 : Math.min(extra, 15));
  if (literals >= 15) to = putLength(target, to, literals - 15);
  if (literals > 64) {
    target.set(source.subarray(from, literalsEnd), to);
    to += literals;
  } else while (from < literalsEnd) target[to++] = source[from++];
  if (matchLength === 0) return to;
  target[to++] = offset;
  target[to++] = offset >>> 8;
  return extra >= 15 ? putLength(target, to, extra - 15) : to;
}

function putLength(target: Uint8Array, to: number, length: number): number {
  for (; length >= 255; length -= 255) target[to++] = 255;
  target[to++] = length;
  return to;
}
