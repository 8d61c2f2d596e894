/**
 * What is known of a layer without reading it: its ranges, size and name. The manifest lists these, the layer map searches them.
 *
 * Where the paths meet. A plain object, never changed after it was made.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { compareKeys, compareSpaces, type Key, type KeySpace } from "./key.ts";
import type { LayerKind } from "./layer_format.ts";
import { formatLayerName } from "./layer_name.ts";
import type { LayerSummary } from "./layer_writer.ts";

/** See the module's description. */
export interface LayerDescriptor {
  /** As layer_name.ts makes it; unique in a timeline. */
  readonly name: string;
  readonly kind: LayerKind;
  readonly keyMin: Key;
  /** Inclusive. */
  readonly keyMax: Key;
  readonly lsnStart: Lsn;
  /** Exclusive; `lsnStart + 1` of an image layer. */
  readonly lsnEnd: Lsn;
  /** Bytes of the file. */
  readonly size: number;
  /** Of the footer: stands for the whole file. */
  readonly checksum: number;
  /** Image layers: a key of the range that is absent did not exist. Those of a base backup are not complete. */
  readonly complete: boolean;
  /** 0: as the flush or the base backup wrote it; 1: made by compaction. */
  readonly level: number;
  /** Of the writer that made it. */
  readonly epoch: number;
}

/** Describes a layer that a writer has finished. */
export function describeLayer(
  summary: LayerSummary,
  epoch: number,
  unique: number,
  level = 0,
): LayerDescriptor {
  const { kind, keyMin, keyMax, lsnStart, lsnEnd, size, checksum, complete } = summary;
  const name = formatLayerName({ kind, keyMin, keyMax, lsnStart, lsnEnd, epoch, unique });
  return { name, kind, keyMin, keyMax, lsnStart, lsnEnd, size, checksum, complete, level, epoch };
}

/** Whether a layer's key range holds a key. */
export function coversKey(layer: LayerDescriptor, space: KeySpace, block: number): boolean {
  const { keyMin, keyMax } = layer;
  return (compareSpaces(keyMin, space) || keyMin.block - block) <= 0 &&
    (compareSpaces(keyMax, space) || keyMax.block - block) >= 0;
}

/** Whether a layer's key range and `[keyMin, keyMax]` share a key. */
export function overlapsKeys(layer: LayerDescriptor, keyMin: Key, keyMax: Key): boolean {
  return compareKeys(layer.keyMin, keyMax) <= 0 && compareKeys(keyMin, layer.keyMax) <= 0;
}

/**
 * The order in which layers are visited: by the end of their LSN range, newest first. Of two that end together an
 * image goes first, and of images a complete one; then the later start. Names only make it total.
 */
export function compareNewestFirst(left: LayerDescriptor, right: LayerDescriptor): number {
  return right.lsnEnd - left.lsnEnd || rank(left) - rank(right) || right.lsnStart - left.lsnStart ||
    (left.name < right.name ? -1 : left.name > right.name ? 1 : 0);
}

function rank(layer: LayerDescriptor): number {
  return layer.kind === "delta" ? 2 : layer.complete ? 0 : 1;
}
