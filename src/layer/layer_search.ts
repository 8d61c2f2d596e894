/**
 * The rules by which layers are visited for one key at one LSN, newest first.
 *
 * Read path. Entries are keyed by record end LSN and a read at L wants those at or below it, so the search starts below
 * the exclusive end L + 1. Then, as long as there are layers:
 * - the newest image at or below is the floor: deltas are read only above it, for it holds their effect up to and
 *   including its LSN;
 * - then the image. If it is complete, the search ends: a key that is absent there does not exist. If it is partial
 *   (of a base backup), absence proves nothing: the search goes on below, deltas at the image's own LSN included.
 *
 * Deltas of one key do not overlap in LSN, but for one LSN where a layer ends and the next begins; there the same LSN may
 * be met twice. If compaction has left others (one key's history in two files of the same LSN range), the overlap is cut
 * out and visited in several layers, all but the first marked `merge`.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { LayerDescriptor } from "./layer_descriptor.ts";
import type { LayerCursor } from "./layer_set.ts";

/** One step of a search: the entries of the key with `from <= LSN < to` in `layer`. */
export interface LayerVisit {
  readonly layer: LayerDescriptor;
  /** Inclusive. */
  readonly from: Lsn;
  /** Exclusive. */
  readonly to: Lsn;
  /** Rare: the visit before has the same LSN range in another delta, and the two are to be merged by LSN. */
  readonly merge: boolean;
}

/** Lazily, as most reads stop at the first or second layer. The cursors give layers that start at or below `lsn`. */
export function* visitLayers(
  deltas: LayerCursor,
  images: LayerCursor,
  lsn: Lsn,
): Generator<LayerVisit, void> {
  let top = lsn + 1;
  let open: LayerDescriptor[] = [];
  for (;; images.advance()) {
    const image = images.current;
    const floor = image === undefined ? 0 : image.lsnEnd;
    // Equal for a second image at the same LSN: nothing lies between.
    if (floor < top) open = yield* visitDeltas(deltas, open, floor, top);
    if (image === undefined) return;
    yield { layer: image, from: image.lsnStart, to: image.lsnEnd, merge: false };
    if (image.complete) return;
    top = image.lsnEnd;
  }
}

/** One delta's part of `[floor, top)`. */
interface Slice {
  layer: LayerDescriptor;
  from: number;
  to: number;
}

/**
 * Visits what deltas have in `[floor, top)`.
 *
 * @param open Deltas already stepped over that reach below `top`.
 * @returns Those that reach below `floor`.
 */
function* visitDeltas(
  deltas: LayerCursor,
  open: readonly LayerDescriptor[],
  floor: number,
  top: number,
): Generator<LayerVisit, LayerDescriptor[]> {
  const below: LayerDescriptor[] = [];
  let openAt = 0;
  const peek = (): LayerDescriptor | undefined => {
    if (openAt < open.length) return open[openAt];
    const layer = deltas.current;
    return layer !== undefined && layer.lsnEnd > floor ? layer : undefined;
  };
  const take = (layer: LayerDescriptor): Slice => {
    if (openAt < open.length) openAt++;
    else deltas.advance();
    if (layer.lsnStart < floor) below.push(layer);
    return { layer, from: Math.max(layer.lsnStart, floor), to: Math.min(layer.lsnEnd, top) };
  };
  for (let layer = peek(); layer !== undefined; layer = peek()) {
    const slice = take(layer);
    let group: Slice[] | undefined;
    let from = slice.from;
    for (let next = peek(); next !== undefined && Math.min(next.lsnEnd, top) > from + 1; next = peek()) {
      const overlapping = take(next);
      (group ??= [slice]).push(overlapping);
      from = Math.min(from, overlapping.from);
    }
    if (group === undefined) yield { layer, from: slice.from as Lsn, to: slice.to as Lsn, merge: false };
    else yield* visitGroup(group);
  }
  return below;
}

/** Cuts overlapping slices at every one's ends, so that parts are either equal or apart. */
function* visitGroup(group: readonly Slice[]): Generator<LayerVisit, void> {
  const cuts = [...new Set(group.flatMap(({ from, to }) => [from, to]))].sort((left, right) => right - left);
  for (let i = 1; i < cuts.length; i++) {
    const [from, to] = [cuts[i] as Lsn, cuts[i - 1] as Lsn];
    const parts = group.filter((slice) => slice.from <= from && to <= slice.to);
    for (const [n, { layer }] of parts.entries()) yield { layer, from, to, merge: n > 0 };
  }
}
