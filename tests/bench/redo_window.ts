/**
 * Records of a stretch of WAL, filed under the pages that they change: what the bench of redo replays page after page.
 *
 * A page's redo depends on its own records and on nothing else, so that they may be replayed one page after another, as
 * `getPage` and restore do. Each page then comes into the processor's cache once for all of its records.
 *
 * What makes a page whole, an image or an initialisation, makes what was filed before for nothing.
 *
 * @module
 */
import type { ByteArena } from "../../src/bytes/arena.ts";

/** Low bits of the first word: block index + 1. Records begin at multiples of 8. */
const BLOCK_BITS = 6;
const FIRST_WORDS = 1 << 16;
/** Of one reference: page, record and block, end of the record behind the window's start, nothing. */
const WORDS = 4;
/** A page that was touched no longer ago than so many touches is in the processor's cache. */
const RECENT = 16;

/**
 * Memory for the records of one window after another: two buffers take turns. A batch made in one is right until the one
 * behind the next begins.
 */
export class WindowArena implements ByteArena {
  readonly returned = 0;
  #buffers: Uint8Array[];
  #at = 0;

  constructor(readonly bytes: number) {
    this.#buffers = [new Uint8Array(bytes), new Uint8Array(bytes)];
  }

  allocate(length: number): Uint8Array {
    if (this.#at + length > this.bytes) {
      this.#buffers.reverse();
      this.#at = 0;
    }
    const piece = this.#buffers[0].subarray(this.#at, this.#at + length);
    this.#at = this.#at + length + 7 & ~7;
    return piece;
  }

  trim(piece: Uint8Array, used: number): void {
    if (piece.buffer === this.#buffers[0].buffer) this.#at = piece.byteOffset + used + 7 & ~7;
  }

  collect(): void {}
  shrink(): void {}
}

/** See the module's description. Pages are numbers. */
export class RedoWindow {
  /** References as {@linkcode RedoWindow.sort} puts them: how many. */
  length = 0;
  #sorted = new Int32Array(0);
  #startLsn = 0;
  /** References as they were added. */
  #added = new Int32Array(FIRST_WORDS);
  #addedWords = 0;
  /**
   * Four words for each page: how many of its references count, later where the next one goes; the first that counts;
   * when it was touched last.
   */
  #perPage = new Int32Array(FIRST_WORDS);
  /** Pages that have references, in the order of the first. */
  readonly #touched: number[] = [];

  /** Touches of pages so far. */
  #now = RECENT;

  begin(startLsn: number): void {
    for (const page of this.#touched) this.#perPage[4 * page] = this.#perPage[4 * page + 1] = 0;
    this.#touched.length = this.#addedWords = this.length = 0;
    this.#startLsn = startLsn;
  }

  /** Notes a touch of a page. Returns whether the page is in the cache still and nothing is filed under it. */
  isAtHand(page: number): boolean {
    const perPage = this.#perPage;
    const at = 4 * page;
    if (at >= perPage.length) return false;
    const last = perPage[at + 2];
    const now = perPage[at + 2] = ++this.#now;
    return now - last < RECENT && perPage[at] === 0;
  }

  /** Notes a touch of a page that brings it into the cache. */
  touch(page: number): void {
    this.#makeRoom(page);
    this.#perPage[4 * page + 2] = ++this.#now;
  }

  /** Whether anything is filed under a page. */
  has(page: number): boolean {
    return 4 * page < this.#perPage.length && this.#perPage[4 * page] > 0;
  }

  /**
   * Files a record under a page.
   *
   * @param blockIndex -1: the record does not name the page.
   * @param isWhole The record makes the whole page: what was filed before does not count.
   */
  add(page: number, recordAt: number, blockIndex: number, endLsn: number, isWhole: boolean): void {
    const at = this.#addedWords;
    if (at === this.#added.length) this.#added = doubled(this.#added);
    const added = this.#added;
    added[at] = page;
    added[at + 1] = recordAt >>> 3 << BLOCK_BITS | blockIndex + 1;
    added[at + 2] = endLsn - this.#startLsn;
    this.#addedWords = at + WORDS;
    this.#makeRoom(page);
    const perPage = this.#perPage;
    const count = perPage[4 * page];
    if (count === 0) this.#touched.push(page);
    if (isWhole) {
      perPage[4 * page] = 1;
      perPage[4 * page + 1] = at;
    } else perPage[4 * page] = count + 1;
  }

  /** Puts references in order: those of a page together, as they were added. */
  sort(): void {
    if (this.#sorted.length < this.#added.length) this.#sorted = new Int32Array(this.#added.length);
    const [added, sorted, perPage, words] = [this.#added, this.#sorted, this.#perPage, this.#addedWords];
    let next = 0;
    for (const page of this.#touched) {
      const start = next;
      next += perPage[4 * page] * WORDS;
      perPage[4 * page] = start;
    }
    this.length = next / WORDS;
    for (let at = 0; at < words; at += WORDS) {
      const page = added[at];
      if (at < perPage[4 * page + 1]) continue;
      const to = perPage[4 * page];
      perPage[4 * page] = to + WORDS;
      sorted[to] = page;
      sorted[to + 1] = added[at + 1];
      sorted[to + 2] = added[at + 2];
    }
  }

  #makeRoom(page: number): void {
    while (4 * page >= this.#perPage.length) this.#perPage = doubled(this.#perPage);
  }

  page(reference: number): number {
    return this.#sorted[reference * WORDS];
  }
  recordAt(reference: number): number {
    return this.#sorted[reference * WORDS + 1] >>> BLOCK_BITS << 3;
  }
  blockIndex(reference: number): number {
    return (this.#sorted[reference * WORDS + 1] & (1 << BLOCK_BITS) - 1) - 1;
  }
  endLsn(reference: number): number {
    return this.#startLsn + this.#sorted[reference * WORDS + 2];
  }
}

function doubled(words: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const longer = new Int32Array(2 * words.length);
  longer.set(words);
  return longer;
}
