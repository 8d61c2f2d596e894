/**
 * The memory layer: page versions that are not in a layer file yet.
 *
 * Where the paths meet: the sink appends, readers collect, the flush walks it in key order. Values stay where ingest
 * put them (ranges of batch buffers); the layer only adds 32 bytes per entry and, per space, an index from block to the
 * newest entry, from which older ones are linked. Appending allocates nothing per entry. An entry's words lie together,
 * because walking in key order meets entries in random order, and each is then one cache miss:
 * ```
 * word 0 previous entry of the key, or -1   4 length of the value
 *      1 number of the buffer               5 hole (full-page images)
 *      2 offset in it                       6 (LSN - base) / 8, base being the layer's start rounded down to 8
 *      3 flags                              7 LSN % 8 (0 for records)
 * ```
 *
 * A frozen layer takes no more entries. Everything here is synchronous; entries of one key come in ascending LSN.
 *
 * @module
 */
import type { ByteArena } from "../bytes/arena.ts";
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import { endsChain } from "./key.ts";
import { type BlocksInOrder, type KeyOrder, keyOrder } from "./key_order.ts";
import { isShared, type MemorySnapshot, placeBuffers, viewsOfBuffers } from "./memory_snapshot.ts";
import { enlarged, type Modification } from "./modification.ts";
import type { SpaceTable } from "./space_table.ts";
import type { ValueChain } from "./value_chain.ts";

const NO_ENTRY = -1;
const ENTRY_WORDS = 8;
/** Entries that there is room for at first. An arena's memory costs nothing until it is touched; growing copies it. */
const PLAIN_ENTRIES = 1 << 12;
const ARENA_ENTRIES = 1 << 22;
/** Values touched ahead: their lines must stay in the first-level cache until they are visited. */
const PREFETCH_ENTRIES = 64;
const PREVIOUS = 0;
const BUFFER = 1;
const OFFSET = 2;
const FLAGS = 3;
const LENGTH = 4;
const HOLE = 5;
const LSN_EIGHTHS = 6;
const LSN_REST = 7;

/** Blocks per chunk of a space's index: 512 bytes each, so that many small relations stay small. */
const CHUNK_BLOCKS = 128;
const CHUNK_SHIFT = 7;

/** Index of one space: chunk number to newest entry per block. */
type BlockIndex = Int32Array[];

/** One entry as the flush sees it. Reused from call to call. */
export interface MemoryEntry {
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
  /** {@linkcode ENTRY_WORDS} per entry. */
  #entries: Int32Array;
  readonly #arena: ByteArena | undefined;
  /** What word 6 counts from. */
  readonly #base: number;
  readonly #buffers: Uint8Array[] = [];
  /** By space id; undefined where the space has no entry here. */
  readonly #index: (BlockIndex | undefined)[] = [];

  /** @param arena Where the entries' memory comes from. Default: buffers of their own. */
  constructor(startLsn: Lsn, tli: number, arena?: ByteArena) {
    this.startLsn = startLsn;
    this.#arena = arena;
    this.#entries = entriesIn(arena, (arena === undefined ? PLAIN_ENTRIES : ARENA_ENTRIES) * ENTRY_WORDS);
    this.#base = startLsn - startLsn % 8;
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
  /** Bytes of memory in use, roughly: buffers plus entries. */
  get memoryBytes(): number {
    return this.#valueBytes + this.#count * ENTRY_WORDS * 4;
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
    while ((this.#count + count) * ENTRY_WORDS > this.#entries.length) {
      this.#entries = enlarged(this.#entries, entriesIn(this.#arena, this.#entries.length * 2));
    }
    const first = this.#count;
    const { lsn, flags, offset, length, hole, buffer } = modification;
    const entries = this.#entries;
    const base = this.#base;
    for (let index = 0; index < count; index++) {
      const entry = first + index;
      const blockNumber = block[index];
      const chunk = this.#chunk(space[index], blockNumber);
      const slot = blockNumber & (CHUNK_BLOCKS - 1);
      const at = entry * ENTRY_WORDS;
      const rest = lsn[index] & 7; // of floating-point numbers, % is slow
      entries[at + PREVIOUS] = chunk[slot];
      entries[at + BUFFER] = firstBuffer + buffer[index];
      entries[at + OFFSET] = offset[index];
      entries[at + FLAGS] = flags[index];
      entries[at + LENGTH] = length[index];
      entries[at + HOLE] = hole[index];
      entries[at + LSN_EIGHTHS] = (lsn[index] - rest - base) / 8;
      entries[at + LSN_REST] = rest;
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
    const entries = this.#entries;
    for (let entry = chunk[block & (CHUNK_BLOCKS - 1)]; entry !== NO_ENTRY;) {
      const at = entry * ENTRY_WORDS;
      entry = entries[at + PREVIOUS];
      const entryLsn = this.#lsnAt(at);
      if (entryLsn > lsn) continue;
      const flags = entries[at + FLAGS];
      const bytes = this.#buffers[entries[at + BUFFER]];
      chain.push(
        entryLsn,
        flags,
        bytes,
        entries[at + OFFSET],
        entries[at + LENGTH],
        entries[at + HOLE] >>> 0,
      );
      if (endsChain(flags)) return true;
    }
    return false;
  }

  /**
   * The layer for another thread, or undefined if more than `copyMax` bytes would have to be copied because they are not
   * in shared memory. The layer must be frozen.
   */
  snapshot(spaces: SpaceTable, copyMax: number): MemorySnapshot | undefined {
    const places = placeBuffers(this.#buffers, copyMax);
    if (places === undefined) return undefined;
    const sorted = this.sortedSpaces(spaces);
    const entries = this.#entries.subarray(0, this.#count * ENTRY_WORDS);
    return {
      startLsn: this.startLsn,
      endLsn: this.#endLsn,
      lastLsn: this.#lastLsn,
      tli: this.#tli,
      walBytes: this.#walBytes,
      entryCount: this.#count,
      entries: isShared(entries) ? entries : entries.slice(),
      spaces: sorted.map((space) => spaces.get(space)),
      ...this.#blocksInOrder(sorted),
      ...places,
    };
  }

  /** The layer of a snapshot, frozen. Its spaces are interned in `spaces`, which must be empty. */
  static fromSnapshot(snapshot: MemorySnapshot, spaces: SpaceTable): MemoryLayer {
    const layer = new MemoryLayer(snapshot.startLsn, snapshot.tli);
    layer.#endLsn = snapshot.endLsn;
    layer.#lastLsn = snapshot.lastLsn;
    layer.#walBytes = snapshot.walBytes;
    layer.#count = snapshot.entryCount;
    layer.#entries = snapshot.entries;
    for (const bytes of viewsOfBuffers(snapshot)) {
      layer.#buffers.push(bytes);
      layer.#valueBytes += bytes.byteLength;
    }
    let at = 0;
    snapshot.spaces.forEach((space, index) => {
      const id = spaces.internSpace(space);
      for (const end = at + snapshot.blockCounts[index]; at < end; at++) {
        const block = snapshot.blocks[at];
        layer.#chunk(id, block)[block & (CHUNK_BLOCKS - 1)] = snapshot.newest[at];
      }
    });
    return layer;
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

  #blocksInOrder(sorted: readonly number[]): BlocksInOrder {
    const blocks: number[] = [];
    const newest: number[] = [];
    const blockCounts = Int32Array.from(sorted, (space) => {
      const before = blocks.length;
      this.forEachBlock(space, (block) => {
        blocks.push(block);
        newest.push(this.#index[space]![block >>> CHUNK_SHIFT][block & (CHUNK_BLOCKS - 1)]);
      });
      return blocks.length - before;
    });
    return { blockCounts, blocks: Uint32Array.from(blocks), newest: Int32Array.from(newest) };
  }

  /** All entries in the order of a layer file, given the spaces in it (see {@linkcode sortedSpaces}). */
  inKeyOrder(sorted: readonly number[]): KeyOrder {
    return keyOrder(this.#entries, ENTRY_WORDS, this.#count, this.#blocksInOrder(sorted));
  }

  /**
   * Calls `visit` for every entry of blocks `[from, to)` of an order, with an object that is reused. Of several entries
   * with one key and LSN only the one that came last is visited.
   */
  visitInOrder(keyOrder: KeyOrder, from: number, to: number, visit: (entry: MemoryEntry) => void): void {
    const { order, starts, blocks } = keyOrder;
    const entries = this.#entries;
    const view = this.#view;
    let touched = starts[from];
    for (let index = from; index < to; index++) {
      view.block = blocks[index];
      const end = starts[index + 1];
      for (let position = starts[index]; position < end; position++) {
        if (position >= touched) {
          touched = Math.min(position + PREFETCH_ENTRIES, starts[to]);
          if (this.#prefetch(order, position, touched) < 0) return; // never: the sum is used, so it must be computed
        }
        const at = order[position] * ENTRY_WORDS;
        view.lsn = this.#lsnAt(at);
        if (position + 1 < end && this.#lsnAt(order[position + 1] * ENTRY_WORDS) === view.lsn) continue;
        view.flags = entries[at + FLAGS];
        view.bytes = this.#buffers[entries[at + BUFFER]];
        view.offset = entries[at + OFFSET];
        view.length = entries[at + LENGTH];
        view.hole = entries[at + HOLE] >>> 0;
        visit(view);
      }
    }
  }

  /**
   * Touches entries `order[from, to)` and their values. They lie all over memory; loads that do not wait for each other
   * overlap, while visiting them one by one would pay for every cache miss in full.
   */
  #prefetch(order: Int32Array, from: number, to: number): number {
    const entries = this.#entries;
    const buffers = this.#buffers;
    let sum = 0;
    for (let position = from; position < to; position++) {
      const at = order[position] * ENTRY_WORDS;
      const bytes = buffers[entries[at + BUFFER]];
      const offset = entries[at + OFFSET];
      const length = entries[at + LENGTH];
      if (length > 0) sum += bytes[offset] + bytes[offset + length - 1];
      if (length > 128) sum += bytes[offset + 64];
    }
    return sum;
  }

  /**
   * Calls `visit` for every entry of a block, oldest first, with an object that is reused. Of several entries with one
   * LSN only the one that came last is visited.
   */
  forEachVersion(space: number, block: number, visit: (entry: MemoryEntry) => void): void {
    const chunk = this.#index[space]?.[block >>> CHUNK_SHIFT];
    if (chunk === undefined) return;
    const entries = this.#entries;
    const found: number[] = [];
    let newer = -1;
    for (let entry = chunk[block & (CHUNK_BLOCKS - 1)]; entry !== NO_ENTRY;) {
      const at = entry * ENTRY_WORDS;
      entry = entries[at + PREVIOUS];
      const lsn = this.#lsnAt(at);
      if (lsn !== newer) found.push(at);
      newer = lsn;
    }
    const view = this.#view;
    view.block = block;
    for (const at of found.reverse()) {
      view.lsn = this.#lsnAt(at);
      view.flags = entries[at + FLAGS];
      view.bytes = this.#buffers[entries[at + BUFFER]];
      view.offset = entries[at + OFFSET];
      view.length = entries[at + LENGTH];
      view.hole = entries[at + HOLE] >>> 0;
      visit(view);
    }
  }

  /** LSN of the entry whose words start at `at`. */
  #lsnAt(at: number): Lsn {
    return this.#base + (this.#entries[at + LSN_EIGHTHS] >>> 0) * 8 + this.#entries[at + LSN_REST] as Lsn;
  }
  readonly #view: MemoryEntry = {
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
}

/** Room for entries. An arena's is not zero, but no entry is read before it is written. */
function entriesIn(arena: ByteArena | undefined, words: number): Int32Array {
  if (arena === undefined) return new Int32Array(words);
  const piece = arena.allocate(words * 4);
  return new Int32Array(piece.buffer, piece.byteOffset, words);
}
