/**
 * Port: encoding of frozen memory layers somewhere else than on the thread that follows. Types only.
 *
 * Encoding a layer file costs as much as everything else that is done with its WAL; given an encoder, the flush has it
 * done on another thread while this one fills the next layer. Without one it encodes in place. The bytes are the same.
 *
 * @module
 */
import type { ByteArena } from "../bytes/arena.ts";

/** How a layer is to be encoded. */
export interface EncodeOptions {
  /** Of the server whose WAL it is. */
  readonly major: number;
  /** Number of the codec that compresses blocks (`CODEC_LZ4`, `CODEC_ZSTD`); one that `compresses`. Default: none. */
  readonly codec?: number;
  readonly signal?: AbortSignal;
}

/**
 * See the module's description. `Snapshot` is a layer in a form that can be posted, `Summary` what is known of its file;
 * both are the engine's (`MemorySnapshot`, `LayerSummary`).
 */
export interface LayerEncoder<Snapshot, Summary> {
  /** Memory that the other thread can see: batches and memory layers are made in it, so that nothing is copied. */
  readonly arena: ByteArena;

  /** False when nothing can be encoded here any more, or yet: the caller then encodes in place. */
  readonly available: boolean;

  /** Whether it has the codec of this number; code cannot be posted to another thread. */
  compresses(codec: number): boolean;

  /**
   * Encodes a layer. Yields the file in chunks, which belong to the caller, and returns what
   * is known of it. At most a few chunks are made ahead of the caller; ending the iteration early ends the work.
   *
   * Throws what encoding throws in place (RangeError, TypeError, CorruptionError), the signal's reason when that fires,
   * and UnavailableError when the other thread has gone, after which `available` is false.
   */
  encode(snapshot: Snapshot, options: EncodeOptions): AsyncIterator<Uint8Array, Summary>;

  /** Ends the other thread at once. What is being encoded fails with UnavailableError. */
  close(): void;
}
