/**
 * Where to make images: the key space in parts, and what each would cost and save. Pure.
 *
 * A *part* is as much as goes into one image layer, by the sizes of relations at the LSN. It is *due* when the deltas above
 * its newest complete image have come to a share of what the image would take: so images cost a few times the bytes of
 * deltas at most, however large the cluster, and only where changes are. Parts that hold up collection, because deltas
 * below the cut-off have no complete image above them, are due together, by the same measure.
 *
 * @module
 */
import { type FloorSegment, ImageFloors } from "../layer/image_floors.ts";
import {
  compareKeys,
  FAMILY_FILE,
  FAMILY_RELATION,
  FAMILY_RELATION_SIZE,
  FAMILY_SLRU,
  FAMILY_SLRU_SIZE,
  type KeySpace,
} from "../layer/key.ts";
import { familyRange, KEY_MAX, keyOf, type KeyRange, nextKey, previousKey } from "../layer/key_range.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerMap } from "../layer/layer_map.ts";
import type { LayerIndex } from "../layer/layer_reader.ts";
import type { Lsn } from "../lsn.ts";
import { BLCKSZ } from "../postgres/page/page.ts";

export interface ImagePolicy {
  /** An image is due when deltas above the last one have so many times its bytes. Default 1. */
  imageRatio?: number;
  /** ... and at least so many bytes. Default 1 MiB. */
  imageDeltaBytesMin?: number;
  /** Bytes of a layer to aim at. Default 128 MiB. */
  layerBytes?: number;
}

export const DEFAULT_IMAGE_RATIO = 1;
const DEFAULT_DELTA_BYTES_MIN = 1024 * 1024;

/** A space of pages that exists, and its length. */
export interface LiveSpace {
  readonly space: KeySpace;
  readonly blocks: number;
}

/** See the module's description. Together the parts are the whole key space. */
export interface Part extends KeyRange {
  /** Its spaces of pages, none of which ends outside unless it goes on in the next part; undefined: plain values. */
  readonly spaces: readonly LiveSpace[] | undefined;
  /** Bytes of the pages; of plain values the image of before tells. */
  readonly pageBytes: number;
}

/** A part, and what is known of its layers. */
export interface WeighedPart extends Part {
  /** What an image would take, about. */
  readonly imageBytes: number;
  /** Deltas above the newest complete images, and those of them at or below the cut-off. */
  readonly deltaBytes: number;
  readonly cutOffBytes: number;
  /** Whether complete images lie under all of it. */
  readonly isCovered: boolean;
}

/** Cuts the key space. Spaces ascend. */
export function cutParts(
  relations: readonly LiveSpace[],
  slrus: readonly LiveSpace[],
  layerBytes: number,
): Part[] {
  const values = (first: number, last: number): Part => ({
    ...familyRange(first, last),
    spaces: undefined,
    pageBytes: 0,
  });
  return [
    ...cutFamily(FAMILY_RELATION, relations, layerBytes),
    values(FAMILY_RELATION_SIZE, FAMILY_RELATION_SIZE),
    ...cutFamily(FAMILY_SLRU, slrus, layerBytes),
    values(FAMILY_SLRU_SIZE, FAMILY_FILE),
    values(FAMILY_FILE + 1, KEY_MAX.family),
  ];
}

function cutFamily(family: number, live: readonly LiveSpace[], layerBytes: number): Part[] {
  const { keyMin, keyMax } = familyRange(family);
  const blocksMax = Math.max(1, Math.floor(layerBytes / BLCKSZ));
  const parts: Part[] = [];
  let from = keyMin;
  let spaces: LiveSpace[] = [];
  let blocks = 0;
  for (const each of live) {
    let firstBlock = 0;
    while (blocks + each.blocks - firstBlock > blocksMax) {
      // A space that would not fit by itself is cut; others go whole into the next part.
      const cut = each.blocks > blocksMax ? firstBlock + blocksMax - blocks : firstBlock;
      if (cut > firstBlock) spaces.push(each);
      const start = keyOf(each.space, cut);
      parts.push({
        keyMin: from,
        keyMax: previousKey(start)!,
        spaces,
        pageBytes: (blocks + cut - firstBlock) * BLCKSZ,
      });
      [from, spaces, blocks, firstBlock] = [start, [], 0, cut];
    }
    spaces.push(each);
    blocks += each.blocks - firstBlock;
  }
  parts.push({ keyMin: from, keyMax, spaces, pageBytes: blocks * BLCKSZ });
  return parts;
}

/** Where indexes of layers come from. */
export interface LayerIndexes {
  indexOf(layer: LayerDescriptor): Promise<LayerIndex>;
  /** Those of other layers are no longer needed: parts are weighed in key order. */
  keepOnly(names: ReadonlySet<string>): void;
}

const nameOf = ({ name }: LayerDescriptor) => name;

/**
 * Weighs the parts by the indexes of their layers; no value is read.
 *
 * @param leftOut Spaces that have no images; they weigh nothing.
 */
export async function weighParts(
  parts: readonly Part[],
  layers: LayerMap,
  lsn: Lsn,
  cutoffLsn: Lsn,
  leftOut: readonly KeySpace[],
  indexes: LayerIndexes,
): Promise<WeighedPart[]> {
  const floors = new ImageFloors(layers.layers(), lsn);
  const weighed: WeighedPart[] = [];
  for (const part of parts) {
    let [deltaBytes, cutOffBytes, oldImageBytes] = [0, 0, 0];
    indexes.keepOnly(
      new Set(layers.overlapping(part.keyMin, part.keyMax, 0 as Lsn, lsn + 1 as Lsn).map(nameOf)),
    );
    const segments = rangesWithout(part, leftOut).flatMap((each) => floors.within(each.keyMin, each.keyMax));
    for (const segment of segments) {
      for (const layer of layers.overlapping(segment.keyMin, segment.keyMax, 0 as Lsn, lsn + 1 as Lsn)) {
        if (
          layer.kind === "image"
            ? layer !== segment.image && layer.complete
            : layer.lsnEnd <= segment.floor + 1
        ) {
          continue;
        }
        // How long pages are is known without looking.
        if (layer.kind === "image" && part.spaces !== undefined) continue;
        const bytes = bytesWithin(await indexes.indexOf(layer), segment);
        if (layer.kind === "image") {
          oldImageBytes += layer === segment.image || segment.image === undefined ? bytes : 0;
        } else {
          deltaBytes += bytes;
          if (layer.lsnEnd <= cutoffLsn + 1) cutOffBytes += bytes;
        }
      }
    }
    const imageBytes = part.spaces === undefined ? oldImageBytes : part.pageBytes;
    const isCovered = segments.every(({ image }) => image !== undefined);
    weighed.push({ ...part, imageBytes, deltaBytes, cutOffBytes, isCovered });
  }
  return weighed;
}

function bytesWithin(index: LayerIndex, { keyMin, keyMax }: FloorSegment): number {
  const { first, end } = index.blocksInRange(keyMin, keyMax);
  return end > first ? index.blockOffset(end) - index.blockOffset(first) : 0;
}

/** What remains of a range without some spaces. */
export function rangesWithout(range: KeyRange, spaces: readonly KeySpace[]): KeyRange[] {
  let ranges = [{ keyMin: range.keyMin, keyMax: range.keyMax }];
  for (const space of spaces) {
    const first = keyOf(space);
    const last = keyOf(space, KEY_MAX.block);
    ranges = ranges.flatMap(({ keyMin, keyMax }) => {
      if (compareKeys(last, keyMin) < 0 || compareKeys(keyMax, first) < 0) return [{ keyMin, keyMax }];
      const rest: KeyRange[] = [];
      if (compareKeys(keyMin, first) < 0) rest.push({ keyMin, keyMax: previousKey(first)! });
      if (compareKeys(last, keyMax) < 0) rest.push({ keyMin: nextKey(last)!, keyMax });
      return rest;
    });
  }
  return ranges;
}

/** The parts that are due. */
export function dueParts(parts: readonly WeighedPart[], policy: ImagePolicy = {}): WeighedPart[] {
  const { imageRatio = DEFAULT_IMAGE_RATIO, imageDeltaBytesMin = DEFAULT_DELTA_BYTES_MIN } = policy;
  const isMuch = (deltas: number, images: number) =>
    deltas >= Math.max(imageDeltaBytesMin, imageRatio * images);
  const holding = parts.filter(({ cutOffBytes }) => cutOffBytes > 0);
  const held = holding.reduce((sum, { cutOffBytes }) => sum + cutOffBytes, 0);
  const freed = isMuch(held, holding.reduce((sum, { imageBytes }) => sum + imageBytes, 0));
  return parts.filter((part) => isMuch(part.deltaBytes, part.imageBytes) || (freed && part.cutOffBytes > 0));
}
