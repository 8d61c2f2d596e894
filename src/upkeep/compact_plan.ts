/**
 * What to compact: which delta layers, into which key ranges. Pure.
 *
 * A *run* is a set of delta layers of one LSN range: one layer from a flush (level 0, all keys), or those that one
 * compaction made (level 1, split by key). A read that finds nothing visits every run above its key's newest complete
 * image, so their number is kept at `runsMax`. When there is one too many, the newest are merged, and with them those older
 * ones that are not much larger than what is merged already: each byte is rewritten a few times only, in runs that grow.
 *
 * Layers that are settled, below complete images over all of their keys, do not count: nobody who reads the newest
 * visits them. They stay as they are until they are collected.
 *
 * @module
 */
import { compareKeys, type Key } from "../layer/key.ts";
import { type KeyRange, previousKey } from "../layer/key_range.ts";
import type { ImageFloors } from "../layer/image_floors.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerIndex } from "../layer/layer_reader.ts";
import type { Lsn } from "../lsn.ts";

export interface CompactionPolicy {
  /** Runs that a read may have to visit. Default 3. */
  runsMax?: number;
  /** An older run goes with the newer ones if it has at most so many times their bytes. Default 1.5. */
  sizeRatio?: number;
  /** Bytes of a layer to aim at. Default 128 MiB. */
  layerBytes?: number;
  /** Runs merged at once, so that memory is bounded. Default 24. */
  mergeMax?: number;
  /** Bytes merged at once, so that time is: larger runs stay until images settle them. Default 8 GiB. */
  mergeBytesMax?: number;
}

export const DEFAULT_RUNS_MAX = 3;
export const DEFAULT_LAYER_BYTES = 128 * 1024 * 1024;
const DEFAULT_SIZE_RATIO = 1.5;
const DEFAULT_MERGE_MAX = 24;
const DEFAULT_MERGE_BYTES_MAX = 8 * 1024 * 1024 * 1024;
/** A layer may end early, where an image does, once it has this share of its bytes: so that it is settled with it. */
const EARLY_END_SHARE = 0.25;

/** Delta layers of one LSN range that are not settled. */
export interface Run {
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  /** In key order. */
  readonly layers: readonly LayerDescriptor[];
  readonly bytes: number;
}

/** Runs that are next to each other in LSN, to be merged. */
export interface CompactionPlan {
  /** Newest first, as a merge wants them. */
  readonly inputs: readonly LayerDescriptor[];
  readonly runs: number;
  readonly bytes: number;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
}

/** The runs that reads of the newest visit, oldest first. */
export function unsettledRuns(layers: Iterable<LayerDescriptor>, floors: ImageFloors): Run[] {
  const runs = new Map<string, LayerDescriptor[]>();
  for (const layer of layers) {
    if (layer.kind !== "delta" || floors.settles(layer)) continue;
    const range = `${layer.lsnStart}-${layer.lsnEnd}`;
    const run = runs.get(range);
    if (run === undefined) runs.set(range, [layer]);
    else run.push(layer);
  }
  return [...runs.values()].map((members) => ({
    lsnStart: members[0].lsnStart,
    lsnEnd: members[0].lsnEnd,
    layers: members.sort((left, right) => compareKeys(left.keyMin, right.keyMin)),
    bytes: members.reduce((sum, { size }) => sum + size, 0),
  })).sort((left, right) => left.lsnStart - right.lsnStart || left.lsnEnd - right.lsnEnd);
}

/** What to merge next; undefined when there is nothing to do. */
export function planCompaction(
  runs: readonly Run[],
  policy: CompactionPolicy = {},
): CompactionPlan | undefined {
  const { runsMax = DEFAULT_RUNS_MAX, sizeRatio = DEFAULT_SIZE_RATIO } = policy;
  const { mergeMax = DEFAULT_MERGE_MAX, mergeBytesMax = DEFAULT_MERGE_BYTES_MAX } = policy;
  if (runs.length <= runsMax) return undefined;
  let first = runs.length - 1;
  let bytes = runs[first].bytes;
  while (first > 0 && (first >= runsMax || runs[first - 1].bytes <= sizeRatio * bytes)) {
    if (bytes + runs[first - 1].bytes > mergeBytesMax) break;
    first--;
    bytes += runs[first].bytes;
  }
  return first === runs.length - 1 ? undefined : planOf(runs.slice(first, first + mergeMax));
}

/** Merges all there is, as much at once as may be; undefined when nothing is left to merge. */
export function planEverything(
  runs: readonly Run[],
  policy: CompactionPolicy = {},
): CompactionPlan | undefined {
  const { mergeMax = DEFAULT_MERGE_MAX, mergeBytesMax = DEFAULT_MERGE_BYTES_MAX } = policy;
  for (let first = 0; first < runs.length; first++) {
    let end = first + 1;
    let bytes = runs[first].bytes;
    while (end < runs.length && end - first < mergeMax && bytes + runs[end].bytes <= mergeBytesMax) {
      bytes += runs[end++].bytes;
    }
    const isDone = end === first + 1 && runs[first].layers.every(({ level }) => level > 0);
    if (!isDone) return planOf(runs.slice(first, end));
  }
  return undefined;
}

function planOf(runs: readonly Run[]): CompactionPlan {
  return {
    inputs: runs.toReversed().flatMap(({ layers }) => layers),
    runs: runs.length,
    bytes: runs.reduce((sum, { bytes }) => sum + bytes, 0),
    lsnStart: Math.min(...runs.map(({ lsnStart }) => lsnStart)) as Lsn,
    lsnEnd: Math.max(...runs.map(({ lsnEnd }) => lsnEnd)) as Lsn,
  };
}

/**
 * Cuts the keys of some layers into ranges of about `layerBytes`, by their indexes alone. The history of a key is never
 * cut, so a range may be larger.
 *
 * @param ends Keys behind which images end, ascending: a range that is large enough ends there too.
 */
export function splitKeys(
  indexes: readonly LayerIndex[],
  layerBytes: number,
  ends: readonly Key[] = [],
): KeyRange[] {
  const rows = indexes.flatMap((index) =>
    Array.from({ length: index.blockCount }, (_, block) => ({
      key: index.firstKey(block),
      bytes: index.blockLength(block),
    }))
  ).sort((left, right) => compareKeys(left.key, right.key));
  if (rows.length === 0) return [];
  let keyMin = rows[0].key;
  let keyMax = indexes[0].footer.keyMax;
  for (const { footer } of indexes) {
    if (compareKeys(footer.keyMin, keyMin) < 0) keyMin = footer.keyMin;
    if (compareKeys(footer.keyMax, keyMax) > 0) keyMax = footer.keyMax;
  }
  const ranges: KeyRange[] = [];
  let bytes = 0;
  let next = 0;
  const endBefore = (key: Key) => {
    ranges.push({ keyMin, keyMax: previousKey(key)! });
    keyMin = key;
    bytes = 0;
  };
  for (const row of rows) {
    let end: Key | undefined;
    while (next < ends.length && compareKeys(ends[next], row.key) <= 0) end = ends[next++];
    if (end !== undefined && compareKeys(end, keyMin) > 0 && bytes >= layerBytes * EARLY_END_SHARE) {
      endBefore(end);
    } else if (bytes >= layerBytes && compareKeys(row.key, keyMin) > 0) endBefore(row.key);
    bytes += row.bytes;
  }
  ranges.push({ keyMin, keyMax });
  return ranges;
}
