/**
 * Compression of stored blocks: the shape of a codec, the numbers files know them by, and the set a reader was given.
 *
 * A leaf. The core has no codec built in but "none"; whoever composes varve injects what the runtime offers. A block
 * names its codec by number, so a file mixes codecs freely and a reader that lacks one says which.
 *
 * @module
 */
import { UnsupportedError } from "../errors.ts";

/** Stored as it is. */
export const CODEC_NONE = 0;
/** Zstandard, one frame. */
export const CODEC_ZSTD = 1;
/** LZ4, one block without frame. */
export const CODEC_LZ4 = 2;
/** The greatest number a codec may have: files keep it in six bits. */
export const CODEC_ID_MAX = 0x3f;

const CODEC_NAMES: readonly string[] = ["none", "zstd", "lz4"];

/** Compresses and decompresses one block at a time, synchronously. */
export interface BlockCodec {
  /** One of the `CODEC_` numbers, 1 to {@linkcode CODEC_ID_MAX}. */
  readonly id: number;
  /** The result may be longer than the input: the caller then stores the input. */
  compress(bytes: Uint8Array): Uint8Array;
  /**
   * Exactly `uncompressedLength` bytes. Throws whatever it likes on bad input, and must not allocate much more than
   * `uncompressedLength` whatever the input says: blocks are untrusted.
   */
  decompress(bytes: Uint8Array, uncompressedLength: number): Uint8Array;
}

/** What people call a codec: `none`, `zstd`, `lz4` or `codec 9`. */
export function codecName(id: number): string {
  return CODEC_NAMES[id] ?? `codec ${id}`;
}

/** The codecs at hand, by number. */
export class BlockCodecs {
  /** No codec but "none". */
  static readonly NONE: BlockCodecs = new BlockCodecs([]);

  readonly #byId: (BlockCodec | undefined)[] = [];

  /** @throws {RangeError} If a number is out of range or taken twice. */
  constructor(codecs: Iterable<BlockCodec>) {
    for (const codec of codecs) {
      if (!Number.isInteger(codec.id) || codec.id <= CODEC_NONE || codec.id > CODEC_ID_MAX) {
        throw new RangeError(`Cannot register a codec as ${codec.id}: expected 1 to ${CODEC_ID_MAX}`);
      }
      if (this.#byId[codec.id] !== undefined) {
        throw new RangeError(`Cannot register two codecs as ${codecName(codec.id)}`);
      }
      this.#byId[codec.id] = codec;
    }
  }

  has(id: number): boolean {
    return id === CODEC_NONE || this.#byId[id] !== undefined;
  }

  /** @throws {UnsupportedError} If this build was given no such codec. */
  get(id: number): BlockCodec {
    const codec = this.#byId[id];
    if (codec === undefined) {
      throw new UnsupportedError(`Cannot decompress a block: it is stored with ${codecName(id)}`, {
        hint: "Give the reader a codec for it.",
      });
    }
    return codec;
  }
}
