/**
 * A cache bounded in bytes, least recently used out first.
 *
 * Read path, inside fetch: layer indexes and decoded blocks. Values are immutable, so that one who holds a value keeps
 * reading it after it was dropped from here.
 *
 * @module
 */

interface Entry<V> {
  value: V;
  bytes: number;
}

/** See the module's description. */
export class ByteLru<V> {
  readonly #entries = new Map<string, Entry<V>>();
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

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    // A Map iterates in order of insertion: the most recently used goes last.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: V, bytes: number): void {
    this.delete(key);
    this.#entries.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax || oldest === key) break;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}
