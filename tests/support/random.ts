/**
 * Seeded randomness for tests: the same seed gives the same test, and every seed is printed.
 *
 * @module
 */

/** A small fast generator (xoshiro128**): for tests, not for secrets. */
export class SeededRandom {
  readonly seed: number;
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    this.seed = seed >>> 0;
    // splitmix32 spreads the seed over the state, so that close seeds give unlike sequences.
    let x = this.seed;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0;
      let z = x;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.#state[i] = z ^ (z >>> 16);
    }
  }

  /** Uniform in [0, 2^32). */
  uint32(): number {
    const s = this.#state;
    const scrambled = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9);
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotateLeft(s[3], 11);
    return scrambled >>> 0;
  }

  /** Uniform in [0, 1). */
  float(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  /** Uniform integer in [low, high], both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.float() * (high - low + 1));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.float() < probability;
  }

  /** One element. */
  pick<T>(from: ArrayLike<T>): T {
    if (from.length === 0) throw new RangeError("Cannot pick from nothing");
    return from[this.int(0, from.length - 1)];
  }

  /** One value of `[weight, value]` pairs. */
  weighted<T>(pairs: readonly (readonly [number, T])[]): T {
    let left = this.float() * pairs.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of pairs) {
      left -= weight;
      if (left < 0) return value;
    }
    return pairs[pairs.length - 1][1];
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.uint32();
    return bytes;
  }

  /** Letters and digits: compresses badly, as stored text does. */
  text(length: number): string {
    const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    let text = "";
    for (let i = 0; i < length; i++) text += alphabet[this.uint32() % alphabet.length];
    return text;
  }

  /** In place, all orders equally likely. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.int(0, i);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }

  /** An independent generator, for one of several concurrent users. */
  fork(): SeededRandom {
    return new SeededRandom(this.uint32());
  }
}

function rotateLeft(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

/**
 * The generator of one test: seeded by `VARVE_SEED` when that is set, else anew. Prints how to repeat it.
 *
 * @param name What draws from it, for the line printed.
 */
export function seededRandom(name: string): SeededRandom {
  const given = (globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env
    .VARVE_SEED;
  const seed = given === undefined || given === ""
    ? Math.floor(Math.random() * 0x1_0000_0000)
    : Number(given);
  if (!Number.isInteger(seed)) throw new RangeError(`Cannot use VARVE_SEED=${given}: expected an integer`);
  console.log(`${name}: VARVE_SEED=${seed >>> 0}`);
  return new SeededRandom(seed);
}
