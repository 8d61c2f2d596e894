/**
 * Gathers written bytes into chunks of half a megabyte, so that I/O calls are few.
 *
 * Inside the layer writer. Chunks belong to whoever takes them: none is written to again.
 *
 * @module
 */

/** Bytes of a chunk; a piece that is longer makes a chunk of its own. */
export const CHUNK_LENGTH = 512 * 1024;

/** See the module's description. */
export class ChunkBuffer {
  #open = new Uint8Array(CHUNK_LENGTH);
  #openLength = 0;
  #finished: Uint8Array[] = [];
  #written = 0;

  /** Bytes appended so far. */
  get written(): number {
    return this.#written;
  }

  /** Copies `bytes[0, length)`. */
  append(bytes: Uint8Array, length: number): void {
    this.#written += length;
    if (this.#openLength + length > CHUNK_LENGTH) {
      this.#endChunk();
      if (length > CHUNK_LENGTH) {
        this.#finished.push(bytes.slice(0, length));
        return;
      }
      this.#open = new Uint8Array(CHUNK_LENGTH);
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
      length * 2 > CHUNK_LENGTH ? this.#open.subarray(0, length) : this.#open.slice(0, length),
    );
    this.#openLength = 0;
  }
}
