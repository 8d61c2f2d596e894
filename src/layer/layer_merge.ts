/**
 * Walks many layers at once, in the order of (key, LSN).
 *
 * Upkeep (compaction) and bulk reads (images, restore). Streams: memory is two reads of each layer. What comes next is
 * told as a stretch of entries of one block and one space, so that entries are copied without an object for each; as long
 * as no block has to be fetched a step is synchronous.
 *
 * @module
 */
import { compareSpaces, type Key, type KeySpace } from "./key.ts";
import type { DecodedBlock } from "./layer_block.ts";
import type { LayerIndex, LayerSource } from "./layer_reader.ts";
import { scanLayer, type ScanStep } from "./layer_scan.ts";

/** A layer to walk. */
export interface MergeInput {
  readonly source: LayerSource;
  readonly index: LayerIndex;
}

export interface MergeOptions {
  keyMin: Key;
  /** Inclusive. */
  keyMax: Key;
  /** Bytes of one read of one layer. Default: see layer_scan.ts. */
  readBytes?: number;
  signal?: AbortSignal;
}

/** Reads of one layer when `inputs` share a budget: each holds one read, and one ahead. */
export function readBytesWithin(budgetBytes: number, inputs: number): number {
  return Math.max(64 * 1024, Math.min(1024 * 1024, Math.floor(budgetBytes / (2 * Math.max(1, inputs)))));
}

/** See the module's description. After `next`, the entries `[first, end)` of `block`, all of `space`, are next. */
export class LayerMerge {
  #cursors: Cursor[];
  #current: Cursor | undefined;
  block!: DecodedBlock;
  first = 0;
  end = 0;
  space!: KeySpace;
  /** Which of the inputs they are from. */
  rank = 0;

  private constructor(cursors: Cursor[]) {
    this.#cursors = cursors;
  }

  /**
   * Opens the layers. The caller closes the merge, whatever happens.
   *
   * @param inputs Of entries with one key and LSN, that of an earlier input comes first.
   */
  static async open(inputs: readonly MergeInput[], options: MergeOptions): Promise<LayerMerge> {
    const cursors = inputs.map((input, rank) => new Cursor(input, rank, options));
    try {
      const loaded = await Promise.all(cursors.map((cursor) => cursor.load()));
      return new LayerMerge(cursors.filter((_, index) => loaded[index]));
    } catch (error) {
      await Promise.allSettled(cursors.map((cursor) => cursor.close()));
      throw error;
    }
  }

  /** Goes on to the next stretch; false at the end. A promise only where a block must be fetched. */
  next(): boolean | Promise<boolean> {
    const current = this.#current;
    if (current === undefined) return this.#choose();
    current.at = this.end;
    if (current.at === current.stop) return this.#refill(current);
    if (current.at === current.spaceEnd) current.enterSpace();
    return this.#choose();
  }

  /** Ends all reading. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#cursors.map((cursor) => cursor.close()));
  }

  async #refill(cursor: Cursor): Promise<boolean> {
    if (!(await cursor.load())) this.#cursors = this.#cursors.filter((each) => each !== cursor);
    return this.#choose();
  }

  #choose(): boolean {
    const cursors = this.#cursors;
    if (cursors.length === 0) return false;
    let least = cursors[0];
    let second: Cursor | undefined;
    for (let index = 1; index < cursors.length; index++) {
      const cursor = cursors[index];
      if (compareCursors(cursor, least) < 0) {
        second = least;
        least = cursor;
      } else if (second === undefined || compareCursors(cursor, second) < 0) second = cursor;
    }
    this.#current = least;
    this.block = least.block;
    this.space = least.space;
    this.rank = least.rank;
    this.first = least.at;
    this.end = second === undefined ? least.spaceEnd : least.endBefore(second);
    return true;
  }
}

/** Where the walk is in one layer. */
class Cursor {
  readonly #steps: AsyncGenerator<ScanStep, void>;
  readonly rank: number;
  block!: DecodedBlock;
  /** The next entry, and the end of those in range. */
  at = 0;
  stop = 0;
  /** The space of the next entry, and where it ends in the block. */
  space!: KeySpace;
  spaceEnd = 0;

  constructor(input: MergeInput, rank: number, options: MergeOptions) {
    const { source, index } = input;
    this.#steps = scanLayer(source, index, options);
    this.rank = rank;
  }

  /** Takes the next block; false if there is none. */
  async load(): Promise<boolean> {
    const step = await this.#steps.next();
    if (step.done === true) return false;
    const { block, first, end } = step.value;
    this.block = block;
    this.at = first;
    this.stop = end;
    this.enterSpace();
    return true;
  }

  enterSpace(): void {
    const { block } = this;
    const number = block.spaceOf(this.at);
    this.space = block.spaceAt(number);
    this.spaceEnd = Math.min(this.stop, block.spaceStarts[number + 1]);
  }

  /** The end of the entries of this space that sort before another cursor's next; at least one does. */
  endBefore(other: Cursor): number {
    if (compareSpaces(this.space, other.space) !== 0) return this.spaceEnd;
    const { blocks, lsns } = this.block;
    const block = other.block.blocks[other.at];
    const lsn = other.block.lsns[other.at];
    const isBefore = (entry: number) =>
      blocks[entry] < block ||
      (blocks[entry] === block && (lsns[entry] < lsn || (lsns[entry] === lsn && this.rank < other.rank)));
    let low = this.at + 1;
    // Mostly it is near.
    let step = 1;
    while (low + step < this.spaceEnd && isBefore(low + step)) {
      low += step;
      step *= 2;
    }
    let high = Math.min(this.spaceEnd, low + step);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  async close(): Promise<void> {
    await this.#steps.return();
  }
}

function compareCursors(left: Cursor, right: Cursor): number {
  return compareSpaces(left.space, right.space) ||
    left.block.blocks[left.at] - right.block.blocks[right.at] ||
    left.block.lsns[left.at] - right.block.lsns[right.at] || left.rank - right.rank;
}
