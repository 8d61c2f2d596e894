/**
 * What ingest emits and a timeline takes in: all changes of a batch of records, as columns.
 *
 * Write path, between ingest and sink. One modification per batch: it is applied as a whole, and afterwards the
 * timeline's last record LSN is {@linkcode Modification.endLsn}. Values are not copied: each is a range of one of
 * `buffers`, which belong to the modification and are kept by the memory layer.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { VALUE_ZERO_PAGE } from "./key.ts";

/** See the module's description. Entries are in order of LSN; of several for one (space, block, lsn) the last counts. */
export interface Modification {
  /** The last record LSN after this modification. */
  readonly endLsn: Lsn;
  /** PostgreSQL's timeline that `endLsn` is on. */
  readonly tli: number;
  /** False for all but the last of several modifications that make up one record (a copied database). */
  readonly completesRecord: boolean;
  /** Records taken in, and their bytes; for counters. */
  readonly recordCount: number;
  readonly walBytes: number;
  /** Number of entries; the arrays may be longer. */
  readonly count: number;
  readonly space: Int32Array;
  readonly block: Uint32Array;
  readonly lsn: Float64Array;
  readonly flags: Uint8Array;
  /** Index into `buffers`. */
  readonly buffer: Uint8Array;
  readonly offset: Int32Array;
  readonly length: Int32Array;
  /** Full-page images: hole offset in the low, hole length in the high 16 bits. */
  readonly hole: Uint32Array;
  readonly buffers: readonly Uint8Array[];
}

const NOTHING = new Uint8Array(0);

/** Collects entries; grows as needed. */
export class ModificationBuilder {
  count = 0;
  #space: Int32Array;
  #block: Uint32Array;
  #lsn: Float64Array;
  #flags: Uint8Array;
  #buffer: Uint8Array;
  #offset: Int32Array;
  #length: Int32Array;
  #hole: Uint32Array;
  /** Buffer 0: bytes of the batch. */
  readonly #records: Uint8Array;
  /** Buffer 1: values made by ingest. */
  #made = NOTHING;
  #madeLength = 0;

  /**
   * @param records The batch's bytes, into which `addRecordRange` points.
   * @param capacity Entries expected.
   */
  constructor(records: Uint8Array, capacity: number) {
    const size = Math.max(capacity, 64);
    this.#records = records;
    this.#space = new Int32Array(size);
    this.#block = new Uint32Array(size);
    this.#lsn = new Float64Array(size);
    this.#flags = new Uint8Array(size);
    this.#buffer = new Uint8Array(size);
    this.#offset = new Int32Array(size);
    this.#length = new Int32Array(size);
    this.#hole = new Uint32Array(size);
  }

  /** Adds a value that is a range of the batch's bytes. */
  addRange(
    space: number,
    block: number,
    lsn: number,
    flags: number,
    offset: number,
    length: number,
    hole: number,
  ): void {
    const index = this.count;
    if (index === this.#space.length) this.#grow();
    this.#space[index] = space;
    this.#block[index] = block;
    this.#lsn[index] = lsn;
    this.#flags[index] = flags;
    this.#buffer[index] = 0;
    this.#offset[index] = offset;
    this.#length[index] = length;
    this.#hole[index] = hole;
    this.count = index + 1;
  }

  /** Adds a value made by ingest; its bytes are copied. One without bytes may stand anywhere. */
  addMade(space: number, block: number, lsn: number, flags: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return this.addRange(space, block, lsn, flags, 0, 0, 0);
    const offset = this.#madeLength;
    const end = offset + bytes.length;
    if (end > this.#made.length) {
      const grown = new Uint8Array(Math.max(end, this.#made.length * 2, 1024));
      grown.set(this.#made.subarray(0, offset));
      this.#made = grown;
    }
    this.#made.set(bytes, offset);
    this.#madeLength = end;
    this.addRange(space, block, lsn, flags, offset, bytes.length, 0);
    this.#buffer[this.count - 1] = 1;
  }

  /** Whether the entries from `first` on already touch this block; that it is a page of zeros is no touch. */
  hasSince(first: number, space: number, block: number): boolean {
    for (let index = this.count - 1; index >= first; index--) {
      if (this.#block[index] !== block || this.#space[index] !== space) continue;
      if ((this.#flags[index] & VALUE_ZERO_PAGE) === 0) return true;
    }
    return false;
  }

  build(
    endLsn: Lsn,
    tli: number,
    completesRecord: boolean,
    recordCount: number,
    walBytes: number,
  ): Modification {
    return {
      endLsn,
      tli,
      completesRecord,
      recordCount,
      walBytes,
      count: this.count,
      space: this.#space,
      block: this.#block,
      lsn: this.#lsn,
      flags: this.#flags,
      buffer: this.#buffer,
      offset: this.#offset,
      length: this.#length,
      hole: this.#hole,
      buffers: this.#madeLength === 0
        ? [this.#records]
        : [this.#records, this.#made.subarray(0, this.#madeLength)],
    };
  }

  #grow(): void {
    const size = this.#space.length * 2;
    this.#space = enlarged(this.#space, new Int32Array(size));
    this.#block = enlarged(this.#block, new Uint32Array(size));
    this.#lsn = enlarged(this.#lsn, new Float64Array(size));
    this.#flags = enlarged(this.#flags, new Uint8Array(size));
    this.#buffer = enlarged(this.#buffer, new Uint8Array(size));
    this.#offset = enlarged(this.#offset, new Int32Array(size));
    this.#length = enlarged(this.#length, new Int32Array(size));
    this.#hole = enlarged(this.#hole, new Uint32Array(size));
  }
}

/** Copies a full column to the start of a longer one. */
export function enlarged<T extends { set(source: T): void }>(old: T, target: T): T {
  target.set(old);
  return target;
}
