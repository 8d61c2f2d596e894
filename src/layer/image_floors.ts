/**
 * Which complete image is the newest over each part of the key space: the floor below which no read goes.
 *
 * Upkeep and bulk reads. What a read of one key finds step by step (layer_search.ts) is here for ranges, at one LSN: deltas
 * that end at or below the floor of all their keys are *settled*, nobody who reads at or above the floor visits them.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { compareKeys, type Key } from "./key.ts";
import { greaterKey, KEY_MAX, KEY_MIN, type KeyRange, lesserKey, nextKey, previousKey } from "./key_range.ts";
import type { LayerDescriptor } from "./layer_descriptor.ts";

/** A stretch of keys that have the same floor. */
export interface FloorSegment extends KeyRange {
  /** The newest complete image over it; undefined: there is none. */
  readonly image: LayerDescriptor | undefined;
  /** LSN of that image; 0 without one, so that all entries lie above. */
  readonly floor: Lsn;
}

/** See the module's description. Immutable. */
export class ImageFloors {
  /** In key order, without gaps, from the least key to the greatest. */
  readonly segments: readonly FloorSegment[];

  /** @param layers Of them, complete images at or below `lsn` count. */
  constructor(layers: Iterable<LayerDescriptor>, lsn: Lsn) {
    const images: LayerDescriptor[] = [];
    for (const layer of layers) if (layer.complete && layer.lsnStart <= lsn) images.push(layer);
    this.segments = sweep(images);
  }

  /** The segments that share a key with a range, clipped to it. */
  within(keyMin: Key, keyMax: Key): FloorSegment[] {
    const { segments } = this;
    const found: FloorSegment[] = [];
    for (let index = this.#find(keyMin); index < segments.length; index++) {
      const segment = segments[index];
      if (compareKeys(segment.keyMin, keyMax) > 0) break;
      found.push({
        ...segment,
        keyMin: greaterKey(segment.keyMin, keyMin),
        keyMax: lesserKey(segment.keyMax, keyMax),
      });
    }
    return found;
  }

  /** The lowest floor in a range. */
  lowest(keyMin: Key, keyMax: Key): Lsn {
    let lowest = Number.MAX_SAFE_INTEGER;
    for (let index = this.#find(keyMin); index < this.segments.length; index++) {
      const segment = this.segments[index];
      if (compareKeys(segment.keyMin, keyMax) > 0) break;
      lowest = Math.min(lowest, segment.floor);
    }
    return lowest as Lsn;
  }

  /** Whether no read at or above the floors visits the layer; of keys in a range, if one is given. */
  settles(layer: LayerDescriptor, { keyMin, keyMax }: KeyRange = layer): boolean {
    return this.lowest(greaterKey(layer.keyMin, keyMin), lesserKey(layer.keyMax, keyMax)) + 1 >= layer.lsnEnd;
  }

  /** The segment that holds a key. */
  #find(key: Key): number {
    let low = 0;
    let high = this.segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (compareKeys(this.segments[middle].keyMin, key) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Goes through the keys at which an image begins or has ended; at each the newest of those under way counts. */
function sweep(images: LayerDescriptor[]): FloorSegment[] {
  const starting = images.toSorted((left, right) => compareKeys(left.keyMin, right.keyMin));
  const cuts: Key[] = [KEY_MIN];
  for (const { keyMin, keyMax } of starting) {
    cuts.push(keyMin);
    const behind = nextKey(keyMax);
    if (behind !== undefined) cuts.push(behind);
  }
  cuts.sort(compareKeys);
  const segments: FloorSegment[] = [];
  let open: LayerDescriptor[] = [];
  let next = 0;
  for (let index = 0; index < cuts.length; index++) {
    const keyMin = cuts[index];
    const isLast = index + 1 === cuts.length;
    if (!isLast && compareKeys(keyMin, cuts[index + 1]) === 0) continue;
    open = open.filter((image) => compareKeys(image.keyMax, keyMin) >= 0);
    while (next < starting.length && compareKeys(starting[next].keyMin, keyMin) <= 0) {
      open.push(starting[next++]);
    }
    let image: LayerDescriptor | undefined;
    for (const each of open) if (image === undefined || each.lsnStart > image.lsnStart) image = each;
    const keyMax = isLast ? KEY_MAX : previousKey(cuts[index + 1])!;
    const before = segments.at(-1);
    if (before !== undefined && before.image === image) segments[segments.length - 1] = { ...before, keyMax };
    else segments.push({ keyMin, keyMax, image, floor: image?.lsnStart ?? 0 as Lsn });
  }
  return segments;
}
