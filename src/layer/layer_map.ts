/**
 * The layer map: which layers hold the history of a key.
 *
 * Where the paths meet. A map never changes: {@linkcode LayerMap.withChanges} makes the next one, which shares nearly
 * all with it, and a reader goes on with the one it has. A search takes O(log n) and then its answer, step by step.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { Key, KeySpace } from "./key.ts";
import { compareNewestFirst, type LayerDescriptor } from "./layer_descriptor.ts";
import { type LayerVisit, visitLayers } from "./layer_search.ts";
import { LayerSet } from "./layer_set.ts";

/** What {@linkcode LayerMap.withChanges} does: removals first. */
export interface LayerChanges {
  readonly add?: Iterable<LayerDescriptor>;
  /** Names. */
  readonly remove?: Iterable<string>;
}

/** See the module's description. */
export class LayerMap {
  static readonly EMPTY: LayerMap = new LayerMap(LayerSet.EMPTY, LayerSet.EMPTY, 0);

  readonly #deltas: LayerSet;
  readonly #images: LayerSet;
  /** Sum of the sizes of all layers, in bytes, wherever they are. */
  readonly totalBytes: number;

  private constructor(deltas: LayerSet, images: LayerSet, totalBytes: number) {
    this.#deltas = deltas;
    this.#images = images;
    this.totalBytes = totalBytes;
  }

  static of(layers: Iterable<LayerDescriptor>): LayerMap {
    return LayerMap.EMPTY.withChanges({ add: layers });
  }

  get count(): number {
    return this.#deltas.count + this.#images.count;
  }
  get deltaCount(): number {
    return this.#deltas.count;
  }
  get imageCount(): number {
    return this.#images.count;
  }

  /** All layers, newest first. */
  layers(): LayerDescriptor[] {
    return [...this.#deltas.layers(), ...this.#images.layers()].sort(compareNewestFirst);
  }

  get(name: string): LayerDescriptor | undefined {
    return this.#deltas.get(name) ?? this.#images.get(name);
  }

  /**
   * The map after a change; this one stays as it is.
   *
   * @throws {RangeError} If a layer to remove is not there, or one to add is.
   */
  withChanges(changes: LayerChanges): LayerMap {
    let { totalBytes } = this;
    const remove = new Set(changes.remove);
    for (const name of remove) {
      const layer = this.get(name);
      if (layer === undefined) {
        throw new RangeError(`Cannot remove layer ${name}: the map has none of this name`);
      }
      totalBytes -= layer.size;
    }
    const names = new Set<string>();
    const add: { delta: LayerDescriptor[]; image: LayerDescriptor[] } = { delta: [], image: [] };
    for (const layer of changes.add ?? []) {
      const isThere = names.has(layer.name) ||
        (this.get(layer.name) !== undefined && !remove.has(layer.name));
      if (isThere) throw new RangeError(`Cannot add layer ${layer.name}: the map has one of this name`);
      names.add(layer.name);
      add[layer.kind].push(layer);
      totalBytes += layer.size;
    }
    const deltas = this.#deltas.withChanges(add.delta, onlyOf(this.#deltas, remove));
    const images = this.#images.withChanges(add.image, onlyOf(this.#images, remove));
    return new LayerMap(deltas, images, totalBytes);
  }

  /** What to visit for a key at an LSN, newest first, lazily; layer_search.ts has the rules. */
  search(space: KeySpace, block: number, lsn: Lsn): Generator<LayerVisit, void> {
    return visitLayers(this.#deltas.stab(space, block, lsn), this.#images.stab(space, block, lsn), lsn);
  }

  /** The layers that share a key with `[keyMin, keyMax]` and an LSN with `[lsnFrom, lsnTo)`, newest first. */
  overlapping(keyMin: Key, keyMax: Key, lsnFrom: Lsn, lsnTo: Lsn): LayerDescriptor[] {
    return [...this.#deltas.overlapping(keyMin, keyMax), ...this.#images.overlapping(keyMin, keyMax)]
      .filter((layer) => layer.lsnStart < lsnTo && lsnFrom < layer.lsnEnd)
      .sort(compareNewestFirst);
  }
}

function onlyOf(set: LayerSet, names: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...names].filter((name) => set.get(name) !== undefined));
}
