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
  /**
   * Gives the columns back to who made them, to be filled again; the buffers are not touched. To be called by whoever
   * took the modification in and shares it with nobody; there is no need to.
   */
  release?(): void;
}

/** Columns that modifications have given back. */
export interface ModificationColumns {
  readonly space: Int32Array;
  readonly block: Uint32Array;
  readonly lsn: Float64Array;
  readonly flags: Uint8Array;
  readonly buffer: Uint8Array;
  readonly offset: Int32Array;
  readonly length: Int32Array;
  readonly hole: Uint32Array;
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
  readonly #spare: ModificationColumns[] | undefined;
  /** Buffer 1: values made by ingest. */
  #made = NOTHING;
  #madeLength = 0;

  /**
   * @param records The batch's bytes, into which `addRecordRange` points.
   * @param capacity Entries expected.
   * @param spare Columns to fill, of which the builder takes one set and to which its modification gives it back.
   */
  constructor(records: Uint8Array, capacity: number, spare?: ModificationColumns[]) {
    const columns = spare?.pop() ?? newColumns(Math.max(capacity, 64));
    this.#records = records;
    this.#spare = spare;
    this.#space = columns.space;
    this.#block = columns.block;
    this.#lsn = columns.lsn;
    this.#flags = columns.flags;
    this.#buffer = columns.buffer;
    this.#offset = columns.offset;
    this.#length = columns.length;
    this.#hole = columns.hole;
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
    const columns: ModificationColumns = {
      space: this.#space,
      block: this.#block,
      lsn: this.#lsn,
      flags: this.#flags,
      buffer: this.#buffer,
      offset: this.#offset,
      length: this.#length,
      hole: this.#hole,
    };
    const spare = this.#spare;
    let isReleased = false;
    return {
      ...columns,
      endLsn,
      tli,
      completesRecord,
      recordCount,
      walBytes,
      count: this.count,
      release() {
        if (!isReleased && spare !== undefined && spare.length < SPARE_MAX) spare.push(columns);
        isReleased = true;
      },
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

/** Sets of columns kept: one is filled while another is taken in. */
const SPARE_MAX = 2;

function newColumns(size: number): ModificationColumns {
  return {
    space: new Int32Array(size),
    block: new Uint32Array(size),
    lsn: new Float64Array(size),
    flags: new Uint8Array(size),
    buffer: new Uint8Array(size),
    offset: new Int32Array(size),
    length: new Int32Array(size),
    hole: new Uint32Array(size),
  };
}

/** Copies a full column to the start of a longer one. */
export function enlarged<T extends { set(source: T): void }>(old: T, target: T): T {
  target.set(old);
  return target;
}
