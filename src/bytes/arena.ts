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
  /** Much of what was handed out is of no use any more: a good moment to collect it. */
  collect(): void;
}

/**
 * Bytes of a slab: just above 32 MiB, beyond which the C library always maps memory of its own. Untouched pages of it
 * cost address space only, and a slab nobody refers to any more goes back to the system whole.
 */
const SLAB_BYTES = 33 * 1024 * 1024;
/** Longer pieces than this get memory of their own. */
const PIECE_BYTES_MAX = 4 * 1024 * 1024;

/** So much plain memory is allocated to have garbage collected: more than V8 lets pass without a full collection. */
const PRESSURE_BYTES = 512 * 1024 * 1024;

/** Shared memory, in slabs. */
export class SharedArena implements ByteArena {
  #slab: SharedArrayBuffer | undefined;
  #at = 0;

  allocate(length: number): Uint8Array {
    if (length > PIECE_BYTES_MAX) return new Uint8Array(new SharedArrayBuffer(length));
    if (this.#slab === undefined || this.#at + length > SLAB_BYTES) {
      this.#slab = new SharedArrayBuffer(SLAB_BYTES);
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

  collect(): void {
    collectSharedMemory();
  }
}

/**
 * Has shared memory collected that this thread does not use any more. V8 collects when plain memory grows, and does not
 * count what is shared. What is allocated here is never touched, so it costs a collection and nothing else.
 */
export function collectSharedMemory(): void {
  try {
    new ArrayBuffer(PRESSURE_BYTES);
  } catch (error) {
    // Where so much may not be allocated, memory is collected later.
    if (!(error instanceof RangeError)) throw error;
  }
}
