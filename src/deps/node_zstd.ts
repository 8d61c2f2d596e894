/**
 * Zstandard compression by the runtime's `node:zlib`: Deno, Bun, and Node from 22.15 on.
 *
 * @module
 */
import * as zlib from "node:zlib";
import type { BlockCodec } from "../bytes/block_codec.ts";
import { ZSTD_BYTES_MAX, ZSTD_READER } from "../bytes/portable_codecs.ts";

/** A codec that writes and reads Zstandard, or undefined where the runtime cannot compress it. */
export function nodeZstdCodec(): BlockCodec | undefined {
  const compress: ((bytes: Uint8Array) => Uint8Array) | undefined = zlib.zstdCompressSync;
  if (compress === undefined) return undefined;
  return {
    ...ZSTD_READER,
    compress: (bytes) => bytes.length > ZSTD_BYTES_MAX ? bytes : new Uint8Array(compress(bytes)),
  };
}
