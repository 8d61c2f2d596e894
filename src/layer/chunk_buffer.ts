/**
 * Gathers written bytes into chunks of half a megabyte, so that I/O calls are few.
 *
 * Inside the layer writer. Chunks belong to whoever takes them: none is written to again.
 *
 * @module
 */

/** Bytes of a chunk where nothing else was said; a piece that is longer makes a chunk of its own. */
export const CHUNK_LENGTH = 512 * 1024;

/** See the module's description. */
export class ChunkBuffer {
  readonly #chunkLength: number;
  #open: Uint8Array;
  #openLength = 0;
  #finished: Uint8Array[] = [];
  #written = 0;

  constructor(chunkLength: number = CHUNK_LENGTH) {
    this.#chunkLength = chunkLength;
    this.#open = new Uint8Array(chunkLength);
  }

  /** Bytes appended so far. */
  get written(): number {
    return this.#written;
  }

  /** Copies `bytes[0, length)`. */
  append(bytes: Uint8Array, length: number): void {
    this.#written += length;
    if (this.#openLength + length > this.#chunkLength) {
      this.#endChunk();
      if (length > this.#chunkLength) {
        this.#finished.push(bytes.slice(0, length));
        return;
      }
      this.#open = new Uint8Array(this.#chunkLength);
    }
    this.#open.set(length === bytes.length ? bytes : bytes.subarray(0, length), this.#openLength);
    this.#openLength += length;
  }

  /** Ends the open chunk; nothing may be appended afterwards. */
  end(): void {
    this.#endChunk();
    this.#open = new Uint8Array(0);
  }

  /** The chunks finished since the last call, in order. */
  take(): Uint8Array[] {
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }

  #endChunk(): void {
    if (this.#openLength === 0) return;
    const length = this.#openLength;
    // A short chunk must not hold on to a long buffer.
    this.#finished.push(
      length * 2 > this.#chunkLength ? this.#open.subarray(0, length) : this.#open.slice(0, length),
    );
    this.#openLength = 0;
  }
}
