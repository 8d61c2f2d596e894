/**
 * Small files of the data directory (configuration, PG_VERSION and the like) as values.
 *
 * Shared by both paths. A file's space is a hash of its path; the value names the path, so that two paths with one hash
 * would be noticed. Files longer than a piece take several blocks of the space:
 * ```
 * offset width name
 *      0     4 pieces       how many pieces the file has
 *      4     2 path_length
 *      6     . path         UTF-8, relative to the data directory
 *      .     . bytes        up to 1 MiB
 * ```
 *
 * @module
 */
import { getU16, getU32, setU16, setU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import { FAMILY_FILE, type KeySpace } from "../layer/key.ts";

const PIECE_BYTES = 1024 * 1024;
const HEADER_BYTES = 6;

/** The space of a path: three 32-bit FNV-1a hashes of it, differently seeded. */
export function fileSpace(path: string): KeySpace {
  const bytes = new TextEncoder().encode(path);
  return {
    family: FAMILY_FILE,
    a: fnv1a(bytes, 0x811c9dc5),
    b: fnv1a(bytes, 0x050c5d1f),
    c: fnv1a(bytes, 0x9e3779b9),
    d: 0,
  };
}

function fnv1a(bytes: Uint8Array, seed: number): number {
  let hash = seed;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** The values of a file, block 0 first; an empty file has one. */
export function encodeFilePieces(path: string, bytes: Uint8Array): Uint8Array[] {
  const name = new TextEncoder().encode(path);
  const count = Math.max(1, Math.ceil(bytes.length / PIECE_BYTES));
  return Array.from({ length: count }, (_, piece) => {
    const part = bytes.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES);
    const value = new Uint8Array(HEADER_BYTES + name.length + part.length);
    setU32(value, 0, count);
    setU16(value, 4, name.length);
    value.set(name, HEADER_BYTES);
    value.set(part, HEADER_BYTES + name.length);
    return value;
  });
}

/** One piece of a file. */
export interface FilePiece {
  path: string;
  pieces: number;
  bytes: Uint8Array;
}

/** What would be written outside of the data directory. */
const LEADS_OUT = /^\/|(?:^|\/)\.\.(?:\/|$)|\0/;

/** Reads the value of a piece. @throws {CorruptionError} If it is cut off, or its path leads out of the data directory. */
export function decodeFilePiece(value: Uint8Array): FilePiece {
  const pathLength = value.length < HEADER_BYTES ? 0 : getU16(value, 4);
  if (value.length < HEADER_BYTES + pathLength || pathLength === 0) {
    throw new CorruptionError("Cannot read a stored file: its value is cut off", { got: value.length });
  }
  const path = new TextDecoder().decode(value.subarray(HEADER_BYTES, HEADER_BYTES + pathLength));
  if (LEADS_OUT.test(path)) {
    throw new CorruptionError("Cannot read a stored file: its path leads out of the data directory", {
      got: path,
    });
  }
  return {
    path,
    pieces: getU32(value, 0),
    bytes: value.subarray(HEADER_BYTES + pathLength),
  };
}
