/**
 * The memory layer: page versions that are not in a layer file yet.
 *
 * Where the paths meet: the sink appends, readers collect, the flush walks it in key order. Values stay where ingest
 * put them (ranges of batch buffers); the layer only adds columns and, per space, an index from block to the newest
 * entry, from which older ones are linked. Appending allocates nothing per entry.
 *
 * A frozen layer takes no more entries. Everything here is synchronous; entries of one key come in ascending LSN.
 *
 * @module
 */
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import { endsChain } from "./key.ts";
import { enlarged, type Modification } from "./modification.ts";
import type { SpaceTable } from "./space_table.ts";
import type { ValueChain } from "./value_chain.ts";

const NO_ENTRY = -1;
/** Blocks per chunk of a space's index: 512 bytes each, so that many small relations stay small. */
const CHUNK_BLOCKS = 128;
const CHUNK_SHIFT = 7;

/** Index of one space: chunk number to newest entry per block. */
type BlockIndex = Int32Array[];

/** One entry as the flush sees it. Reused from call to call. */
export interface MemoryEntry {
  space: number;
  block: number;
  lsn: Lsn;
  flags: number;
  bytes: Uint8Array;
  offset: number;
  length: number;
  hole: number;
}

/** See the module's description. */
export class MemoryLayer {
  /** All entries have an LSN above this one. */
  readonly startLsn: Lsn;
  #endLsn: Lsn;
  #lastLsn: Lsn;
  #tli: number;
  #count = 0;
  #walBytes = 0;
  #valueBytes = 0;
  #previous = new Int32Array(4096);
  #lsn = new Float64Array(4096);
  #flags = new Uint8Array(4096);
  #buffer = new Int32Array(4096);
  #offset = new Int32Array(4096);
  #length = new Int32Array(4096);
  #hole = new Uint32Array(4096);
  readonly #buffers: Uint8Array[] = [];
  /** By space id; undefined where the space has no entry here. */
  readonly #index: (BlockIndex | undefined)[] = [];

  constructor(startLsn: Lsn, tli: number) {
    this.startLsn = startLsn;
    this.#tli = tli;
    this.#endLsn = startLsn;
    this.#lastLsn = startLsn;
  }

  /** The end of the last record that is here whole. */
  get endLsn(): Lsn {
    return this.#endLsn;
  }
  /** PostgreSQL's timeline that `endLsn` is on. */
  get tli(): number {
    return this.#tli;
  }
  /** All entries have an LSN at or below this one; beyond `endLsn` only while a record of many pages comes in. */
  get lastLsn(): Lsn {
    return this.#lastLsn;
  }
  get entryCount(): number {
    return this.#count;
  }
  /** Bytes of memory held, roughly: buffers plus columns. */
  get memoryBytes(): number {
    return this.#valueBytes + this.#previous.length * 33;
  }
  /** Bytes of WAL that went in. */
  get walBytes(): number {
    return this.#walBytes;
  }

  /** Takes in a modification. Its buffers belong to this layer from now on. */
  append(modification: Modification): void {
    const { count, space, block, buffers } = modification;
    const firstBuffer = this.#buffers.length;
    for (const buffer of buffers) {
      this.#buffers.push(buffer);
      this.#valueBytes += buffer.byteLength;
    }
    while (this.#count + count > this.#previous.length) this.#grow();
    const first = this.#count;
    this.#lsn.set(modification.lsn.subarray(0, count), first);
    this.#flags.set(modification.flags.subarray(0, count), first);
    this.#offset.set(modification.offset.subarray(0, count), first);
    this.#length.set(modification.length.subarray(0, count), first);
    this.#hole.set(modification.hole.subarray(0, count), first);
    for (let index = 0; index < count; index++) {
      const entry = first + index;
      this.#buffer[entry] = firstBuffer + modification.buffer[index];
      const blockNumber = block[index];
      const chunk = this.#chunk(space[index], blockNumber);
      const slot = blockNumber & (CHUNK_BLOCKS - 1);
      this.#previous[entry] = chunk[slot];
      chunk[slot] = entry;
    }
    this.#count = first + count;
    this.#walBytes += modification.walBytes;
    this.#lastLsn = modification.endLsn;
    if (modification.completesRecord) {
      this.#endLsn = modification.endLsn;
      this.#tli = modification.tli;
    }
  }

  /**
   * Collects the values of a key at or below `lsn`, newest first, until one that ends the chain.
   *
   * @returns Whether the chain ended here.
   */
  collect(space: number, block: number, lsn: Lsn, chain: ValueChain): boolean {
    const chunk = this.#index[space]?.[block >>> CHUNK_SHIFT];
    if (chunk === undefined) return false;
    for (let entry = chunk[block & (CHUNK_BLOCKS - 1)]; entry !== NO_ENTRY; entry = this.#previous[entry]) {
      if (this.#lsn[entry] > lsn) continue;
      const flags = this.#flags[entry];
      chain.push(
        this.#lsn[entry] as Lsn,
        flags,
        this.#buffers[this.#buffer[entry]],
        this.#offset[entry],
        this.#length[entry],
        this.#hole[entry],
      );
      if (endsChain(flags)) return true;
    }
    return false;
  }

  /** The spaces that have entries here, sorted as on disk. */
  sortedSpaces(spaces: SpaceTable): number[] {
    const ids: number[] = [];
    for (let id = 0; id < this.#index.length; id++) if (this.#index[id] !== undefined) ids.push(id);
    return ids.sort((left, right) => spaces.compare(left, right));
  }

  /** Calls `visit` for every block of a space that has entries, in ascending order. */
  forEachBlock(space: number, visit: (block: number) => void): void {
    const index = this.#index[space];
    if (index === undefined) return;
    // forEach skips holes, also of very sparse arrays, and goes in ascending order.
    index.forEach((chunk, chunkNumber) => {
      const base = chunkNumber * CHUNK_BLOCKS;
      for (let slot = 0; slot < CHUNK_BLOCKS; slot++) if (chunk[slot] !== NO_ENTRY) visit(base + slot);
    });
  }

  /** Calls `visit` for every entry of a block, oldest first, with an object that is reused. */
  forEachVersion(space: number, block: number, visit: (entry: MemoryEntry) => void): void {
    const chunk = this.#index[space]?.[block >>> CHUNK_SHIFT];
    if (chunk === undefined) return;
    let depth = 0;
    for (let entry = chunk[block & (CHUNK_BLOCKS - 1)]; entry !== NO_ENTRY; entry = this.#previous[entry]) {
      if (depth === this.#stack.length) this.#stack = enlarged(this.#stack, new Int32Array(depth * 2));
      this.#stack[depth++] = entry;
    }
    const view = this.#view;
    view.space = space;
    view.block = block;
    while (depth > 0) {
      const entry = this.#stack[--depth];
      view.lsn = this.#lsn[entry] as Lsn;
      view.flags = this.#flags[entry];
      view.bytes = this.#buffers[this.#buffer[entry]];
      view.offset = this.#offset[entry];
      view.length = this.#length[entry];
      view.hole = this.#hole[entry];
      visit(view);
    }
  }
  #stack = new Int32Array(256);
  readonly #view: MemoryEntry = {
    space: 0,
    block: 0,
    lsn: INVALID_LSN,
    flags: 0,
    bytes: new Uint8Array(0),
    offset: 0,
    length: 0,
    hole: 0,
  };

  #chunk(space: number, block: number): Int32Array {
    let index = this.#index[space];
    if (index === undefined) {
      // Filled, so that the array of a new timeline does not turn into a dictionary.
      while (this.#index.length <= space) this.#index.push(undefined);
      index = this.#index[space] = [];
    }
    const chunkNumber = block >>> CHUNK_SHIFT;
    let chunk = index[chunkNumber];
    if (chunk === undefined) chunk = index[chunkNumber] = new Int32Array(CHUNK_BLOCKS).fill(NO_ENTRY);
    return chunk;
  }

  #grow(): void {
    const size = this.#previous.length * 2;
    this.#previous = enlarged(this.#previous, new Int32Array(size));
    this.#lsn = enlarged(this.#lsn, new Float64Array(size));
    this.#flags = enlarged(this.#flags, new Uint8Array(size));
    this.#buffer = enlarged(this.#buffer, new Int32Array(size));
    this.#offset = enlarged(this.#offset, new Int32Array(size));
    this.#length = enlarged(this.#length, new Int32Array(size));
    this.#hole = enlarged(this.#hole, new Uint32Array(size));
  }
}
