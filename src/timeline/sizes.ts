/**
 * Sizes of spaces (forks of relations, SLRU segments): the current ones, and how a size is written as a value.
 *
 * Write path. Ingest must know how long each fork is now, to notice growth; the table holds that for every space, loaded
 * when a writer attaches. The past is in the layers, as versioned values:
 * ```
 * offset width name
 *      0     4 blocks     current length; absent in a dropped value
 *      4     4 highWater  the most blocks the space ever had: below it old versions may lie around
 * ```
 *
 * @module
 */
import { getU32, setU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import { SIZE_VALUE_LENGTH } from "../layer/key.ts";
import { enlarged } from "../layer/modification.ts";

/** Length of a space that does not exist. */
export const ABSENT = -1;

/** Current sizes by space id. */
export class SizeTable {
  /** Float64 because block counts use all 32 bits and ABSENT is negative. */
  #blocks = new Float64Array(256).fill(ABSENT);
  #highWater = new Uint32Array(256);

  /** Blocks, or {@linkcode ABSENT}. */
  get(space: number): number {
    return space < this.#blocks.length ? this.#blocks[space] : ABSENT;
  }

  /** The most blocks that the space ever had. */
  highWater(space: number): number {
    return space < this.#highWater.length ? this.#highWater[space] : 0;
  }

  set(space: number, blocks: number, highWater: number = Math.max(blocks, this.highWater(space))): void {
    while (space >= this.#blocks.length) this.#grow();
    this.#blocks[space] = blocks;
    this.#highWater[space] = highWater;
  }

  #grow(): void {
    const size = this.#blocks.length * 2;
    this.#blocks = enlarged(this.#blocks, new Float64Array(size).fill(ABSENT));
    this.#highWater = enlarged(this.#highWater, new Uint32Array(size));
  }
}

/** The value of a size. */
export function encodeSize(blocks: number, highWater: number): Uint8Array {
  const bytes = new Uint8Array(SIZE_VALUE_LENGTH);
  setU32(bytes, 0, blocks);
  setU32(bytes, 4, highWater);
  return bytes;
}

/** Reads the value of a size at `offset`. */
export function decodeSize(
  bytes: Uint8Array,
  offset: number,
  length: number,
): { blocks: number; highWater: number } {
  if (length !== SIZE_VALUE_LENGTH) {
    throw new CorruptionError("Cannot read a size", { expected: SIZE_VALUE_LENGTH, got: length });
  }
  return { blocks: getU32(bytes, offset), highWater: getU32(bytes, offset + 4) };
}
