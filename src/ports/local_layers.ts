/**
 * Port: local copies of layer files. Types only. A process without a disk has none.
 *
 * Local copies are a cache: the store and its manifest are the authority, and any of them may vanish between two calls.
 *
 * @module
 */

/** A local copy that is being read. */
export interface LocalLayerFile {
  readonly size: number;
  /** Exactly `length` bytes from `offset`; rejects with CorruptionError if the file is shorter. */
  readRange(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A local copy that is being written, under a temporary name. */
export interface LocalLayerWriter {
  write(chunk: Uint8Array): Promise<void>;
  /** Makes the copy durable and visible under its name, atomically. */
  commit(): Promise<void>;
  /** Removes what was written. Idempotent; does nothing after commit. */
  abort(): Promise<void>;
}

/** A directory of local copies. */
export interface LocalLayers {
  /** Copies that are there, whole. Leftover temporary files are removed at open. */
  list(): Promise<{ name: string; size: number }[]>;
  /** Opens a copy, or undefined if there is none. */
  open(name: string): Promise<LocalLayerFile | undefined>;
  create(name: string): Promise<LocalLayerWriter>;
  remove(name: string): Promise<void>;
}
