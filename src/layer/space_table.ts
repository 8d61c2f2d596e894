/**
 * Interning of key spaces: (family, a, b, c, d) to a small integer, one table per timeline.
 *
 * Shared by both paths. Hot paths index typed arrays by space id instead of hashing keys. Ids count from 0 in order of
 * first sight, are never reused, and mean nothing outside this process.
 *
 * Open addressing over typed arrays; a lookup takes some ten nanoseconds and allocates nothing.
 *
 * @module
 */
import type { KeySpace } from "./key.ts";

/** Id of a space that was never seen. */
export const NO_SPACE = -1;

/** See the module's description. */
export class SpaceTable {
  #count = 0;
  #family = new Uint8Array(64);
  #a = new Uint32Array(64);
  #b = new Uint32Array(64);
  #c = new Uint32Array(64);
  #d = new Uint8Array(64);
  /** Slot to id + 1; 0 is empty. Length is a power of two, at most half full. */
  #slots = new Int32Array(128);

  /** Number of spaces seen; ids are below it. */
  get count(): number {
    return this.#count;
  }

  /** The id of a space, or {@linkcode NO_SPACE}. */
  find(family: number, a: number, b: number, c: number, d: number): number {
    const mask = this.#slots.length - 1;
    let slot = hash(family, a, b, c, d) & mask;
    for (;;) {
      const id = this.#slots[slot] - 1;
      if (id < 0) return NO_SPACE;
      if (
        this.#c[id] === c && this.#d[id] === d && this.#b[id] === b && this.#a[id] === a &&
        this.#family[id] === family
      ) return id;
      slot = (slot + 1) & mask;
    }
  }

  /** The id of a space, a new one if it was never seen. All of `a`, `b`, `c` are unsigned. */
  intern(family: number, a: number, b: number, c: number, d: number): number {
    const found = this.find(family, a, b, c, d);
    if (found >= 0) return found;
    const id = this.#count++;
    if (id === this.#a.length) this.#growColumns();
    this.#family[id] = family;
    this.#a[id] = a;
    this.#b[id] = b;
    this.#c[id] = c;
    this.#d[id] = d;
    if (this.#count * 2 > this.#slots.length) this.#rehash(this.#slots.length * 2);
    else this.#place(id);
    return id;
  }

  internSpace(space: KeySpace): number {
    return this.intern(space.family, space.a, space.b, space.c, space.d);
  }

  findSpace(space: KeySpace): number {
    return this.find(space.family, space.a, space.b, space.c, space.d);
  }

  /** What an id stands for. */
  get(id: number): KeySpace {
    return { family: this.#family[id], a: this.#a[id], b: this.#b[id], c: this.#c[id], d: this.#d[id] };
  }

  familyOf(id: number): number {
    return this.#family[id];
  }

  /** Whether the space is a fork of a relation in this tablespace and database. */
  isInDatabase(id: number, family: number, spc: number, db: number): boolean {
    return this.#family[id] === family && this.#a[id] === spc && this.#b[id] === db;
  }

  /** Negative, 0 or positive as the spaces sort on disk. */
  compare(left: number, right: number): number {
    return this.#family[left] - this.#family[right] || this.#a[left] - this.#a[right] ||
      this.#b[left] - this.#b[right] ||
      this.#c[left] - this.#c[right] || this.#d[left] - this.#d[right];
  }

  #place(id: number): void {
    const mask = this.#slots.length - 1;
    let slot = hash(this.#family[id], this.#a[id], this.#b[id], this.#c[id], this.#d[id]) & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = id + 1;
  }

  #rehash(size: number): void {
    this.#slots = new Int32Array(size);
    for (let id = 0; id < this.#count; id++) this.#place(id);
  }

  #growColumns(): void {
    const size = this.#a.length * 2;
    const wide = (old: Uint32Array) => {
      const grown = new Uint32Array(size);
      grown.set(old);
      return grown;
    };
    const narrow = (old: Uint8Array) => {
      const grown = new Uint8Array(size);
      grown.set(old);
      return grown;
    };
    this.#a = wide(this.#a);
    this.#b = wide(this.#b);
    this.#c = wide(this.#c);
    this.#d = narrow(this.#d);
    this.#family = narrow(this.#family);
  }
}

function hash(family: number, a: number, b: number, c: number, d: number): number {
  let value = Math.imul(c, 0x9e3779b1) ^ Math.imul(b, 0x85ebca77) ^ Math.imul(a, 0xc2b2ae3d) ^ (family << 8) ^
    d;
  value ^= value >>> 15;
  value = Math.imul(value, 0x2c1b3c6d);
  return value ^ (value >>> 13);
}
