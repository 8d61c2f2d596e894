/**
 * The layer map: which layers hold the history of a key.
 *
 * Where the paths meet. A map never changes: {@linkcode LayerMap.withChanges} makes the next one, and a reader goes on
 * with the one it has.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { Key, KeySpace } from "./key.ts";
import { compareNewestFirst, coversKey, type LayerDescriptor, overlapsKeys } from "./layer_descriptor.ts";

/** One step of a search: the entries of the key with `from <= LSN < to` in `layer`. */
export interface LayerVisit {
  readonly layer: LayerDescriptor;
  /** Inclusive. */
  readonly from: Lsn;
  /** Exclusive. */
  readonly to: Lsn;
}

/** See the module's description. */
export class LayerMap {
  static readonly EMPTY: LayerMap = new LayerMap([]);
  readonly #layers: readonly LayerDescriptor[];
  /** Sum of the sizes of all layers. */
  readonly totalBytes: number;

  private constructor(layers: readonly LayerDescriptor[]) {
    this.#layers = [...layers].sort(compareNewestFirst);
    this.totalBytes = layers.reduce((sum, layer) => sum + layer.size, 0);
  }

  get count(): number {
    return this.#layers.length;
  }

  /** All layers, newest first. */
  layers(): Iterable<LayerDescriptor> {
    return this.#layers;
  }

  get(name: string): LayerDescriptor | undefined {
    return this.#layers.find((layer) => layer.name === name);
  }

  /**
   * The map after a change.
   *
   * @throws {RangeError} If a layer to remove is not there, or one to add is.
   */
  withChanges(changes: { add?: Iterable<LayerDescriptor>; remove?: Iterable<string> }): LayerMap {
    const byName = new Map(this.#layers.map((layer) => [layer.name, layer]));
    for (const name of changes.remove ?? []) {
      if (!byName.delete(name)) throw new RangeError(`Cannot remove layer ${name}: the map has none`);
    }
    for (const layer of changes.add ?? []) {
      if (byName.has(layer.name)) throw new RangeError(`Cannot add layer ${layer.name}: the map has it`);
      byName.set(layer.name, layer);
    }
    return new LayerMap([...byName.values()]);
  }

  /** What to visit for a key at an LSN, newest first; lazily, as most reads stop early. */
  *search(space: KeySpace, block: number, lsn: Lsn): Generator<LayerVisit, void> {
    let to = lsn + 1;
    for (const layer of this.#layers) {
      if (!coversKey(layer, space, block) || layer.lsnStart > lsn) continue;
      const end = Math.min(to, layer.lsnEnd);
      yield { layer, from: layer.lsnStart, to: end as Lsn };
      if (layer.complete) return;
      to = end;
    }
  }

  /** The layers that share a key with `[keyMin, keyMax]` and an LSN with `[lsnFrom, lsnTo)`, newest first. */
  overlapping(keyMin: Key, keyMax: Key, lsnFrom: Lsn, lsnTo: Lsn): LayerDescriptor[] {
    return this.#layers.filter((layer) =>
      overlapsKeys(layer, keyMin, keyMax) && layer.lsnStart < lsnTo && lsnFrom < layer.lsnEnd
    );
  }
}
