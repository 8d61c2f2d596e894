/**
 * Image creation: where deltas stack up, a complete image ends what reads have to go through.
 *
 * Upkeep. Images are made of the newest that is durable, part by part, each named by a commit of its own: what is broken off
 * goes on with the parts that are left. They replace nothing. History stays readable at every LSN, since deltas below an
 * image stay until collection takes them; so branches, pins and reads of the past notice nothing but shorter ways.
 *
 * Not before the base backup's end, where pages are not right yet. A space with a page that redo cannot make (a custom
 * resource manager's) is left out, key range and all: its reads go on as before. It is tried again by the next process.
 *
 * @module
 */
import {
  compareKeys,
  compareSpaces,
  FAMILY_RELATION,
  FAMILY_SLRU,
  type KeySpace,
  sizeFamily,
  VALUE_DROPPED,
  VALUE_KIND_MASK,
} from "../layer/key.ts";
import { familyRange, keyOf, type KeyRange } from "../layer/key_range.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import { bulkRead, type BulkSource } from "../read/bulk_read.ts";
import { Replayer } from "../read/replay.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import { decodeSize } from "../timeline/sizes.ts";
import { compactionOpener, onceMoreWithoutCopies } from "./compact.ts";
import { DEFAULT_LAYER_BYTES } from "./compact_plan.ts";
import { imageLayerFile, NoImageError } from "./image_file.ts";
import {
  cutParts,
  dueParts,
  type ImagePolicy,
  type LiveSpace,
  rangesWithout,
  type WeighedPart,
  weighParts,
} from "./images_plan.ts";
import type { Pacer } from "./pacer.ts";
import type { UpkeepTarget } from "./upkeep_target.ts";

export interface ImageOptions extends ImagePolicy {
  /** Makes images of all parts that have deltas above their last one, or none yet. */
  everything?: boolean;
  /** Spaces without images, found before; those found now are added. */
  leftOut?: KeySpace[];
  /** Bytes of layers to hold. Default 32 MiB. */
  readBytes?: number;
  pacer?: Pacer;
  signal?: AbortSignal;
}

/** What is to be done, at which LSN. */
export interface ImagePlan {
  readonly lsn: Lsn;
  readonly parts: readonly WeighedPart[];
}

/** What was done. */
export interface ImagesResult {
  readonly lsn: Lsn;
  readonly images: number;
  readonly imageBytes: number;
  readonly seconds: number;
}

/** The images that are due now; undefined: none. */
export async function nextImages(
  target: UpkeepTarget,
  options: ImageOptions = {},
): Promise<ImagePlan | undefined> {
  const { attached: { timeline } } = target.parts;
  const { layerBytes = DEFAULT_LAYER_BYTES, leftOut = [], signal } = options;
  const lsn = target.durableLsn;
  if (lsn < timeline.consistentLsn || timeline.layers.count === 0) return undefined;
  const opener = compactionOpener(target);
  const sources = target.parts.attached.sources(lsn, "compaction");
  const relations = await liveSpaces(sources, FAMILY_RELATION, signal);
  const slrus = await liveSpaces(sources, FAMILY_SLRU, signal);
  const parts = await weighParts(
    cutParts(relations, slrus, layerBytes),
    timeline.layers,
    lsn,
    target.manifest.cutoffLsn,
    leftOut,
    {
      indexOf: async (layer) => (await opener.open(layer, signal)).index,
      keepOnly: (names) => opener.keepOnly(names),
    },
  );
  const due = options.everything === true
    ? parts.filter(({ deltaBytes, isCovered }) => deltaBytes > 0 || !isCovered)
    : dueParts(parts, options);
  return due.length === 0 ? undefined : { lsn, parts: due };
}

/**
 * Makes the images that are due.
 *
 * @returns What was done; undefined if nothing was.
 * @throws {CorruptionError} If a layer is damaged. @throws {FencedError} If a writer has taken over.
 * @throws {UnavailableError} If the store does not answer; what was committed stays.
 */
export async function makeImages(
  target: UpkeepTarget,
  options: ImageOptions = {},
): Promise<ImagesResult | undefined> {
  const { clock, events, attached: { timeline } } = target.parts;
  const plan = await nextImages(target, options);
  if (plan === undefined) return undefined;
  const startedMs = clock.monotonicMs();
  const made: LayerDescriptor[] = [];
  const { leftOut = [] } = options;
  for (const part of plan.parts) {
    const ranges = rangesWithout(part, leftOut);
    for (let range = ranges.shift(); range !== undefined; range = ranges.shift()) {
      const written = await writeImage(target, plan.lsn, range, part.spaces, options);
      if (written instanceof NoImageError) {
        leftOut.push(written.space);
        ranges.unshift(...rangesWithout(range, [written.space]));
        events?.({
          level: "warn",
          topic: "images.left_out",
          message: `${written.message}; this relation keeps its history as it is`,
          error: written.cause,
        });
      } else {
        await target.replace([written], [], options.signal).catch(async (error) => {
          await target.discard([written]);
          throw error;
        });
        made.push(written);
      }
    }
  }
  const result = {
    lsn: plan.lsn,
    images: made.length,
    imageBytes: made.reduce((sum, { size }) => sum + size, 0),
    seconds: (clock.monotonicMs() - startedMs) / 1000,
  };
  events?.({
    level: "info",
    topic: "images.done",
    message: `Made ${made.length} image layers of timeline "${timeline.name}" at ${formatLsn(plan.lsn)}`,
    fields: { ...result, lsn: formatLsn(plan.lsn) },
  });
  return result;
}

/** The spaces of a family that exist, with their lengths, ascending. */
async function liveSpaces(
  sources: readonly BulkSource[],
  family: number,
  signal?: AbortSignal,
): Promise<LiveSpace[]> {
  const { keyMin, keyMax } = familyRange(sizeFamily(family));
  const live: LiveSpace[] = [];
  for await (const { space, chain } of bulkRead(sources, keyMin, keyMax, { signal })) {
    if ((chain.flags[0] & VALUE_KIND_MASK) === VALUE_DROPPED) continue;
    const { blocks } = decodeSize(chain.buffers[0], chain.offsets[0], chain.lengths[0]);
    live.push({ space: { ...space, family }, blocks });
  }
  return live;
}

/** Writes one image layer, durable in the store when it resolves; or says why there is none. */
async function writeImage(
  target: UpkeepTarget,
  lsn: Lsn,
  range: KeyRange,
  spaces: readonly LiveSpace[] | undefined,
  options: ImageOptions,
): Promise<LayerDescriptor | NoImageError> {
  const { attached, codec } = target.parts;
  const { pacer, readBytes, signal } = options;
  const { facts } = attached.timeline;
  const sources = attached.sources(lsn, "compaction");
  const context = { hintBitsLogged: hintBitsLogged(facts) };
  const replayer = new Replayer(profileOfMajor(facts.major), context, attached.codecs.image);
  const within = spaces?.filter(({ space, blocks }) =>
    blocks > 0 && compareSpaces(range.keyMin, space) <= 0 && compareKeys(keyOf(space), range.keyMax) <= 0
  );
  let refusal: NoImageError | undefined;
  async function* generate() {
    const file = imageLayerFile({
      sources,
      ...range,
      lsn,
      spaces: within,
      replayer,
      codec,
      pacer,
      readBytes,
      signal,
    });
    try {
      return yield* file;
    } catch (error) {
      if (error instanceof NoImageError) refusal = error;
      throw error;
    }
  }
  const lsns = { lsnStart: lsn, lsnEnd: lsn + 1 as Lsn };
  try {
    return await onceMoreWithoutCopies(sources[0].opener, () =>
      target.store({
        identity: { kind: "image", ...range, ...lsns, epoch: target.epoch, unique: target.drawUnique() },
        generate,
        signal,
      }));
  } catch (error) {
    if (refusal !== undefined) return refusal;
    throw error;
  }
}
