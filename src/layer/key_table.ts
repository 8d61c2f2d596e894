/**
 * Many keys in one flat array: rows of six unsigned 32-bit words, compared without making objects.
 *
 * Shared by the block index of a layer (first key of every block) and the layer map (boundaries). A layer of 100,000
 * blocks costs 2.4 MB here instead of 100,000 objects.
 * ```
 * word   0      1 2 3 4     5
 *        family a b c d     block      sorts as the key's bytes do
 * ```
 *
 * @module
 */
import { getU32BE, type Key, type KeySpace } from "./key.ts";

const WORDS = 6;

/** A table of `count` rows. */
export class KeyTable {
  readonly count: number;
  readonly words: Uint32Array;

  constructor(count: number) {
    this.count = count;
    this.words = new Uint32Array(count * WORDS);
  }

  set(row: number, space: KeySpace, block: number): void {
    const { words } = this;
    const at = row * WORDS;
    words[at] = space.family;
    words[at + 1] = space.a;
    words[at + 2] = space.b;
    words[at + 3] = space.c;
    words[at + 4] = space.d;
    words[at + 5] = block;
  }

  /** Takes a row from the 18 bytes of a key. */
  setBytes(row: number, bytes: Uint8Array, offset: number): void {
    const { words } = this;
    const at = row * WORDS;
    words[at] = bytes[offset];
    words[at + 1] = getU32BE(bytes, offset + 1);
    words[at + 2] = getU32BE(bytes, offset + 5);
    words[at + 3] = getU32BE(bytes, offset + 9);
    words[at + 4] = bytes[offset + 13];
    words[at + 5] = getU32BE(bytes, offset + 14);
  }

  key(row: number): Key {
    const at = row * WORDS;
    const [family, a, b, c, d, block] = this.words.subarray(at, at + WORDS);
    return { family, a, b, c, d, block };
  }

  /** Negative, 0 or positive as the row sorts before, with or after the key. */
  compare(row: number, space: KeySpace, block: number): number {
    const { words } = this;
    const at = row * WORDS;
    return words[at] - space.family || words[at + 1] - space.a || words[at + 2] - space.b ||
      words[at + 3] - space.c || words[at + 4] - space.d || words[at + 5] - block;
  }

  /** In a sorted table: the number of rows that sort before the key. */
  lowerBound(space: KeySpace, block: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compare(middle, space, block) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** In a sorted table: the number of rows that sort before the key or equal it. */
  upperBound(space: KeySpace, block: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compare(middle, space, block) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
