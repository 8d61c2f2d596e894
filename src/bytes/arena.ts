/**
 * Where bytes that are kept for long come from: memory that other threads can see, handed out piece by piece.
 *
 * A leaf. The write path's buffers are what a memory layer consists of; with a {@linkcode SharedArena} a worker reads
 * them in place while this thread goes on reading and writing (see ports/layer_encoder.ts). Without an arena they are
 * plain buffers of their own.
 *
 * @module
 */

/** Hands out memory. What it has handed out stays valid while anybody holds a view of it. */
export interface ByteArena {
  /** `length` bytes, 8-aligned. Not necessarily zero. */
  allocate(length: number): Uint8Array;
  /**
   * Gives back what lies behind the first `used` bytes of `piece`, if nothing was allocated after it. The next piece
   * then probably begins there, with the bytes that are there.
   */
  trim(piece: Uint8Array, used: number): void;
  /** How often memory that was handed out has come back, because nobody holds a view of it any more. */
  readonly returned: number;
  /** Has garbage collected soon, so that memory comes back. */
  collect(): void;
  /** Lets go of memory that nobody has used since the last time. */
  shrink(): void;
}

/**
 * Bytes of a slab: just above 32 MiB, beyond which the C library always maps memory of its own. Untouched pages of it
 * cost address space only, and a slab nobody refers to any more goes back to the system whole.
 */
const SLAB_BYTES = 33 * 1024 * 1024;
/** Longer pieces than this get memory of their own. */
const PIECE_BYTES_MAX = 4 * 1024 * 1024;

/** What comes back is kept for the next memory layer, which needs about as much as the last; more is let go. */
const FREE_SLABS_MAX = 3;
const FREE_LARGE_MAX = 1;

/** So much plain memory has V8 begin a collection; being longer than 32 MiB, it is never touched. */
const PRESSURE_BYTES = 160 * 1024 * 1024;

/**
 * Memory for those who are done with a piece before they ask for the next but one: two take turns. A record batch made in
 * it is right until the next one is.
 */
export class TurnsArena implements ByteArena {
  readonly returned = 0;
  #next = new Uint8Array(0);
  #last = new Uint8Array(0);

  allocate(length: number): Uint8Array {
    const memory = this.#next.length < length ? new Uint8Array(length) : this.#next;
    this.#next = this.#last;
    this.#last = memory;
    return memory.length === length ? memory : memory.subarray(0, length);
  }

  trim(): void {}
  collect(): void {}
  shrink(): void {}
}

/**
 * Shared memory, in slabs.
 *
 * Touching a page for the first time costs more than filling it, so slabs are used again. What is handed out is views
 * of a second SharedArrayBuffer of the same memory: once the garbage collector has found that nobody on this thread
 * holds such a view any more, the slab is free. Another thread may only read memory whose views somebody here holds.
 */
export class SharedArena implements ByteArena {
  #slab: SharedArrayBuffer | undefined;
  #at = 0;
  #free: SharedArrayBuffer[] = [];
  /** Slabs in `#free` that have lain there since the last `shrink`. */
  #idle = 0;
  #returned = 0;
  readonly #registry = new FinalizationRegistry<SharedArrayBuffer>((memory) => {
    this.#returned++;
    const most = memory.byteLength === SLAB_BYTES ? FREE_SLABS_MAX : FREE_LARGE_MAX;
    const kept = this.#free.filter(({ byteLength }) => byteLength === memory.byteLength).length;
    if (kept < most) this.#free.push(memory);
  });

  allocate(length: number): Uint8Array {
    if (length > PIECE_BYTES_MAX) return new Uint8Array(this.#memory(length), 0, length);
    if (this.#slab === undefined || this.#at + length > SLAB_BYTES) {
      this.#slab = this.#memory(SLAB_BYTES);
      this.#at = 0;
    }
    const piece = new Uint8Array(this.#slab, this.#at, length);
    this.#at = this.#at + length + 7 & ~7;
    return piece;
  }

  trim(piece: Uint8Array, used: number): void {
    const isLast = piece.buffer === this.#slab && (piece.byteOffset + piece.length + 7 & ~7) === this.#at;
    if (isLast) this.#at = piece.byteOffset + used + 7 & ~7;
  }

  get returned(): number {
    return this.#returned;
  }

  collect(): void {
    collectSoon();
  }

  shrink(): void {
    this.#free.splice(0, this.#idle);
    this.#idle = this.#free.length;
  }

  /** Memory of this length that nobody uses. */
  #memory(length: number): SharedArrayBuffer {
    if (length < SLAB_BYTES) return new SharedArrayBuffer(length);
    // The last to become free is the likeliest to be in a cache.
    const index = this.#free.findLastIndex((memory) => memory.byteLength === length);
    const memory = index < 0 ? new SharedArrayBuffer(length) : this.#free.splice(index, 1)[0];
    if (index >= 0 && index < this.#idle) this.#idle--;
    const handedOut = structuredClone(memory);
    this.#registry.register(handedOut, memory);
    return handedOut;
  }
}

/**
 * Has V8 begin to collect garbage: it counts plain memory and takes this for much of it. By itself it would wait until as
 * much again has been allocated, and shared memory it does not count at all.
 */
export function collectSoon(): void {
  new ArrayBuffer(PRESSURE_BYTES);
}
