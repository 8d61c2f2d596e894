/**
 * The layers of one kind: a built {@linkcode LayerCoverage}, and the latest changes beside it.
 *
 * Inside the layer map, and as it: never changed after it was made. A change copies only what lies beside the coverage;
 * when that has grown it is built anew.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { Key, KeySpace } from "./key.ts";
import { type CoverageCursor, LayerCoverage } from "./layer_coverage.ts";
import { compareNewestFirst, coversKey, type LayerDescriptor, overlapsKeys } from "./layer_descriptor.ts";

/** Layers kept beside the coverage: a search looks at every one of them. */
const ADDED_MAX = 128;
/** Layers gone from the coverage that a search may have to step over. */
const REMOVED_MAX = 256;

/** See the module's description. */
export class LayerSet {
  static readonly EMPTY: LayerSet = new LayerSet(new LayerCoverage([]), [], new Uint8Array(0), 0);

  readonly #coverage: LayerCoverage;
  /** Newest first. */
  readonly #added: readonly LayerDescriptor[];
  /** 1 for each layer of the coverage that is gone. */
  readonly #removed: Uint8Array;
  readonly #removedCount: number;

  private constructor(
    coverage: LayerCoverage,
    added: readonly LayerDescriptor[],
    removed: Uint8Array,
    removedCount: number,
  ) {
    this.#coverage = coverage;
    this.#added = added;
    this.#removed = removed;
    this.#removedCount = removedCount;
  }

  get count(): number {
    return this.#coverage.layers.length - this.#removedCount + this.#added.length;
  }

  get(name: string): LayerDescriptor | undefined {
    const number = this.#coverage.numberOf(name);
    if (number !== undefined && this.#removed[number] === 0) return this.#coverage.layers[number];
    return this.#added.find((layer) => layer.name === name);
  }

  /** All layers, newest first. */
  layers(): LayerDescriptor[] {
    return [...this.#remaining(), ...this.#added].sort(compareNewestFirst);
  }

  #remaining(): LayerDescriptor[] {
    return this.#coverage.layers.filter((_, number) => this.#removed[number] === 0);
  }

  /** The set without `remove`, all of which it has, and with `add`, none of which it has then. */
  withChanges(add: readonly LayerDescriptor[], remove: ReadonlySet<string>): LayerSet {
    if (add.length === 0 && remove.size === 0) return this;
    const added = [...this.#added.filter((layer) => !remove.has(layer.name)), ...add].sort(
      compareNewestFirst,
    );
    const removed = this.#removed.slice();
    let removedCount = this.#removedCount;
    for (const name of remove) {
      const number = this.#coverage.numberOf(name);
      if (number === undefined || removed[number] === 1) continue;
      removed[number] = 1;
      removedCount++;
    }
    const changed = new LayerSet(this.#coverage, added, removed, removedCount);
    return added.length > ADDED_MAX || removedCount > REMOVED_MAX ? changed.#rebuilt() : changed;
  }

  #rebuilt(): LayerSet {
    const coverage = new LayerCoverage([...this.#remaining(), ...this.#added]);
    return new LayerSet(coverage, [], new Uint8Array(coverage.layers.length), 0);
  }

  /** The layers that cover a key and start at or before the LSN, newest first. */
  stab(space: KeySpace, block: number, lsn: Lsn): LayerCursor {
    const added = this.#added.filter((layer) => layer.lsnStart <= lsn && coversKey(layer, space, block));
    return new LayerCursor(
      this.#coverage.layers,
      this.#coverage.stab(space, block, lsn),
      this.#removed,
      added,
    );
  }

  /** All layers that share a key with the range, in no order. */
  overlapping(keyMin: Key, keyMax: Key): LayerDescriptor[] {
    const found = this.#added.filter((layer) => overlapsKeys(layer, keyMin, keyMax));
    for (const number of this.#coverage.overlapping(keyMin, keyMax)) {
      if (this.#removed[number] === 0) found.push(this.#coverage.layers[number]);
    }
    return found;
  }
}

/** What {@linkcode LayerSet.stab} finds, one by one. */
export class LayerCursor {
  readonly #layers: readonly LayerDescriptor[];
  readonly #covering: CoverageCursor;
  readonly #removed: Uint8Array;
  readonly #added: readonly LayerDescriptor[];
  #addedAt = 0;
  /** The next one of the coverage. */
  #built: LayerDescriptor | undefined;
  /** The next one; `undefined` at the end. */
  current: LayerDescriptor | undefined;

  constructor(
    layers: readonly LayerDescriptor[],
    covering: CoverageCursor,
    removed: Uint8Array,
    added: readonly LayerDescriptor[],
  ) {
    this.#layers = layers;
    this.#covering = covering;
    this.#removed = removed;
    this.#added = added;
    this.#built = this.#nextBuilt();
    this.current = this.#choose();
  }

  /** Steps over the current one. */
  advance(): void {
    if (this.current === this.#built) this.#built = this.#nextBuilt();
    else this.#addedAt++;
    this.current = this.#choose();
  }

  #choose(): LayerDescriptor | undefined {
    const built = this.#built;
    const added = this.#added[this.#addedAt];
    if (built === undefined || added === undefined) return built ?? added;
    return compareNewestFirst(built, added) <= 0 ? built : added;
  }

  #nextBuilt(): LayerDescriptor | undefined {
    for (;;) {
      const number = this.#covering.next();
      if (number < 0) return undefined;
      if (this.#removed[number] === 0) return this.#layers[number];
    }
  }
}
