/**
 * Codecs that every runtime has, because they are written here: LZ4 both ways, Zstandard for reading.
 *
 * A leaf. What varve itself writes with `--compress` can be read by any reader, on an edge worker too, with nothing
 * injected. For writing Zstandard a runtime's own compressor is needed: see deps/node_zstd.ts.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import { type BlockCodec, BlockCodecs, CODEC_LZ4, CODEC_ZSTD } from "./block_codec.ts";
import { lz4DecompressBlock } from "./lz4.ts";
import { lz4CompressBlock } from "./lz4_compress.ts";
import { zstdDecompress } from "./zstd.ts";

/** Longer blocks are stored as they are: our decoder of Zstandard goes no further. */
export const ZSTD_BYTES_MAX: number = 1 << 24;

type Decompress = (
  source: Uint8Array,
  start: number,
  length: number,
  target: Uint8Array,
  rawSize: number,
) => boolean;

function decompressWith(decompress: Decompress, name: string) {
  return (bytes: Uint8Array, uncompressedLength: number): Uint8Array => {
    const target = new Uint8Array(uncompressedLength);
    if (decompress(bytes, 0, bytes.length, target, uncompressedLength)) return target;
    throw new CorruptionError(`Cannot decompress a block: it is not ${name} of the length it should have`, {
      expected: uncompressedLength,
    });
  };
}

/** Room for what is being compressed; grows to the longest block, which is short but for single huge values. */
let scratch = new Uint8Array(0);
const SCRATCH_MAX = 1 << 20;

export const LZ4_CODEC: BlockCodec = {
  id: CODEC_LZ4,
  compress(bytes) {
    if (scratch.length < bytes.length) scratch = new Uint8Array(bytes.length);
    const target = scratch;
    if (target.length > SCRATCH_MAX) scratch = new Uint8Array(0);
    const length = lz4CompressBlock(bytes, target);
    return length < 0 ? bytes : target.slice(0, length);
  },
  decompress: decompressWith(lz4DecompressBlock, "LZ4"),
};

/** Reads Zstandard; leaves what it is to compress as it is. */
export const ZSTD_READER: BlockCodec = {
  id: CODEC_ZSTD,
  compress: (bytes) => bytes,
  decompress: decompressWith(zstdDecompress, "Zstandard"),
};

/** What readers have when they are given nothing else. */
export const PORTABLE_CODECS: BlockCodecs = new BlockCodecs([LZ4_CODEC, ZSTD_READER]);
