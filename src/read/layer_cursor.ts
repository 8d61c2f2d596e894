/**
 * A cursor over one layer, in key order: for who reads many neighbouring keys, each layer once.
 *
 * Inside page_walk.ts. The cursor stands on an entry; its key is (ordinal, block), where the ordinal says where the
 * entry's space stands among the spaces that are wanted: a whole number, or for any other space the half before the next
 * wanted one. Moving on inside a block is synchronous; the next block takes a promise.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { compareSpaces, endsChain, type KeySpace } from "../layer/key.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { ScanStep } from "../layer/layer_scan.ts";
import type { ValueChain } from "../layer/value_chain.ts";

/** The ordinal of a space: see the module's description. */
export function ordinalOf(spaces: readonly KeySpace[], space: KeySpace): number {
  let low = 0;
  let high = spaces.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareSpaces(spaces[middle], space);
    if (order === 0) return middle;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return low - 0.5;
}

/** See the module's description. */
export class LayerCursor {
  readonly layer: LayerDescriptor;
  /** The layer's first and last keys. */
  readonly firstOrdinal: number;
  readonly firstBlock: number;
  readonly lastOrdinal: number;
  readonly lastBlock: number;
  /** Key of the entry that it stands on; past the end, ordinal Infinity. */
  ordinal = -Infinity;
  block = 0;

  readonly #lsnMax: number;
  readonly #spaces: readonly KeySpace[];
  readonly #open: () => Promise<AsyncGenerator<ScanStep, void>>;
  #steps: AsyncGenerator<ScanStep, void> | undefined;
  #next: Promise<IteratorResult<ScanStep, void>> | undefined;
  #decoded: DecodedBlock | undefined;
  #entry = 0;
  #end = 0;
  /** Ordinals of the block's spaces; the one that the cursor is in, and the entry after its last. */
  #ordinals = new Float64Array(0);
  #space = 0;
  #spaceEnd = 0;

  /** @param lsnMax Entries above do not count. @param open Opens the layer; nothing is read before `start`. */
  constructor(
    layer: LayerDescriptor,
    lsnMax: Lsn,
    spaces: readonly KeySpace[],
    open: () => Promise<AsyncGenerator<ScanStep, void>>,
  ) {
    this.layer = layer;
    this.#lsnMax = lsnMax;
    this.#spaces = spaces;
    this.#open = open;
    this.firstOrdinal = ordinalOf(spaces, layer.keyMin);
    this.firstBlock = layer.keyMin.block;
    this.lastOrdinal = ordinalOf(spaces, layer.keyMax);
    this.lastBlock = layer.keyMax.block;
  }

  /** Begins to read, without waiting for it. */
  start(): void {
    this.#next ??= this.#steps === undefined ? this.#first() : this.#steps.next();
    // Whoever waits for it is told of its failure.
    this.#next.catch(() => undefined);
  }

  /** Stands before the key, in a block that has been used up: {@linkcode load} the next one. */
  needsBlock(ordinal: number, block: number): boolean {
    return this.#entry === this.#end && this.ordinal !== Infinity &&
      (this.#decoded === undefined || this.ordinal < ordinal ||
        (this.ordinal === ordinal && this.block <= block));
  }

  async #first(): Promise<IteratorResult<ScanStep, void>> {
    this.#steps = await this.#open();
    return await this.#steps.next();
  }

  async load(): Promise<void> {
    this.start();
    const { value, done } = await this.#next!;
    if (done || value === undefined) {
      this.#decoded = undefined;
      this.#entry = this.#end = 0;
      this.ordinal = Infinity;
      return;
    }
    // Decoding the next one has to wait until this one is used: blocks are made one at a time.
    this.#next = undefined;
    const decoded = value.block;
    this.#decoded = decoded;
    this.#entry = value.first;
    this.#end = value.end;
    if (this.#ordinals.length < decoded.spaceCount) this.#ordinals = new Float64Array(decoded.spaceCount * 2);
    for (let index = 0; index < decoded.spaceCount; index++) {
      this.#ordinals[index] = ordinalOf(this.#spaces, decoded.spaceAt(index));
    }
    this.#space = decoded.spaceOf(this.#entry);
    this.#spaceEnd = decoded.spaceStarts[this.#space + 1];
    this.#settle();
  }

  /** Moves to the first entry at or after a key, as far as this block goes. */
  skipTo(ordinal: number, block: number): void {
    const decoded = this.#decoded;
    if (decoded === undefined) return;
    while (this.#entry < this.#end) {
      if (this.ordinal < ordinal) this.#entry = Math.min(this.#spaceEnd, this.#end);
      else if (this.ordinal === ordinal && this.block < block) this.#entry++;
      else return;
      this.#settle();
    }
  }

  /**
   * Adds the entries of the key that it stands on, from `from` on and as far as this block goes, oldest
   * first, and moves past them. One that ends a chain replaces all that were added from `firstIndex` on.
   */
  take(values: ValueChain, firstIndex: number, from: Lsn): void {
    const decoded = this.#decoded!;
    const { lsns, flags, blocks } = decoded;
    const { block } = this;
    const end = Math.min(this.#spaceEnd, this.#end);
    let entry = this.#entry;
    for (; entry < end && blocks[entry] === block; entry++) {
      if (lsns[entry] < from || lsns[entry] > this.#lsnMax) continue;
      if (endsChain(flags[entry])) values.cut(firstIndex);
      values.pushEntry(decoded, entry);
    }
    this.#entry = entry;
    // At the end of a block the key stays: the next block may go on with it.
    if (entry < this.#end) this.#settle();
  }

  /** Ends the reading. */
  async close(): Promise<void> {
    await this.#next?.catch(() => undefined);
    await this.#steps?.return();
  }

  #settle(): void {
    const decoded = this.#decoded!;
    if (this.#entry === this.#end) return;
    while (this.#entry >= this.#spaceEnd) {
      this.#space++;
      this.#spaceEnd = decoded.spaceStarts[this.#space + 1];
    }
    this.ordinal = this.#ordinals[this.#space];
    this.block = decoded.blocks[this.#entry];
  }
}
