/**
 * A cache bounded in bytes; what was not used lately goes first.
 *
 * Read path, inside fetch: layer indexes and decoded blocks. Values are immutable, so that one who holds a value keeps
 * reading it after it was dropped from here. A use only sets a mark, which saves an old value once (a second chance): as
 * good as order of use, and nearly free.
 *
 * @module
 */

interface Entry<V> {
  readonly value: V;
  readonly bytes: number;
  /** Used since it was put in, or passed over. */
  isUsed: boolean;
}

/** See the module's description. */
export class ByteLru<V, K extends string | number = string> {
  readonly #entries = new Map<K, Entry<V>>();
  readonly #bytesMax: number;
  #bytes = 0;
  hits = 0;
  misses = 0;

  /** @param bytesMax Bytes to hold at most; one value larger than that is still held, alone. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(key: K): boolean {
    return this.#entries.has(key);
  }

  /** Without counting as a use. */
  peek(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    entry.isUsed = true;
    return entry.value;
  }

  set(key: K, value: V, bytes: number): void {
    this.delete(key);
    this.#entries.set(key, { value, bytes, isUsed: false });
    this.#bytes += bytes;
    // A Map iterates in order of insertion: what is put in again comes last, and is met again only if all were used.
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#bytesMax) break;
      if (oldest === key) {
        if (this.#entries.size === 1) break;
        // Everything else was used: the order of insertion decides, and this one is the newest.
        this.#entries.delete(key);
        this.#entries.set(key, entry);
        continue;
      }
      if (entry.isUsed) {
        entry.isUsed = false;
        this.#entries.delete(oldest);
        this.#entries.set(oldest, entry);
      } else this.delete(oldest);
    }
  }

  delete(key: K): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}
