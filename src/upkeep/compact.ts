/**
 * Compaction: runs of delta layers become one run, split by key.
 *
 * Upkeep. One plan, its files one after another, one commit that names them instead of their inputs. Whatever breaks it off
 * before the commit leaves objects that no manifest names (orphans, which collection removes) and layers as they were; the
 * next round plans anew. Reads and ingest go on all the while: who reads holds the layer map of before.
 *
 * Memory is a budget of bytes for the inputs, one block and some chunks of the output, and the inputs' indexes.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import { ImageFloors } from "../layer/image_floors.ts";
import type { Key } from "../layer/key.ts";
import type { KeyRange } from "../layer/key_range.ts";
import { type LayerDescriptor, overlapsKeys } from "../layer/layer_descriptor.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { LayerOpener } from "../read/layer_opener.ts";
import {
  type CompactionPlan,
  type CompactionPolicy,
  DEFAULT_LAYER_BYTES,
  planCompaction,
  planEverything,
  splitKeys,
  unsettledRuns,
} from "./compact_plan.ts";
import { mergedLayerFile } from "./merge.ts";
import type { Pacer } from "./pacer.ts";
import type { UpkeepTarget } from "./upkeep_target.ts";

export interface CompactOptions extends CompactionPolicy {
  /** Merges all runs, also when reads need not visit many. */
  everything?: boolean;
  /** Bytes of inputs to hold. Default 32 MiB. */
  readBytes?: number;
  pacer?: Pacer;
  signal?: AbortSignal;
}

/** What a compaction has done. */
export interface CompactionResult {
  readonly runs: number;
  readonly inputs: number;
  readonly inputBytes: number;
  readonly outputs: number;
  readonly outputBytes: number;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  readonly seconds: number;
}

/** What a compaction would do now; undefined: nothing. */
export function nextCompaction(
  target: UpkeepTarget,
  options: CompactOptions = {},
): CompactionPlan | undefined {
  const { layers } = target.parts.attached.timeline;
  const all = layers.layers();
  const runs = unsettledRuns(all, new ImageFloors(all, target.durableLsn));
  return options.everything === true ? planEverything(runs, options) : planCompaction(runs, options);
}

/**
 * Compacts once.
 *
 * @returns What was done; undefined if there was nothing to do.
 * @throws {PreconditionFailedError} If somebody else has replaced an input meanwhile: plan anew.
 * @throws {CorruptionError} If an input is damaged. @throws {FencedError} If a writer has taken over.
 * @throws {UnavailableError} If the store does not answer.
 */
export async function compact(
  target: UpkeepTarget,
  options: CompactOptions = {},
): Promise<CompactionResult | undefined> {
  const plan = nextCompaction(target, options);
  if (plan === undefined) return undefined;
  const { attached, clock, events } = target.parts;
  const { layerBytes = DEFAULT_LAYER_BYTES, signal } = options;
  const startedMs = clock.monotonicMs();
  const opener = compactionOpener(target);
  const indexes = await Promise.all(
    plan.inputs.map(async (layer) => (await opener.open(layer, signal)).index),
  );
  const ranges = splitKeys(indexes, layerBytes, imageEnds(target));
  const outputs: LayerDescriptor[] = [];
  try {
    for (const range of ranges) outputs.push(await writeRange(target, plan, range, opener, options));
    await target.replace(outputs, plan.inputs, signal);
  } catch (error) {
    await target.discard(outputs);
    throw error;
  }
  const result = {
    runs: plan.runs,
    inputs: plan.inputs.length,
    inputBytes: plan.bytes,
    outputs: outputs.length,
    outputBytes: outputs.reduce((sum, { size }) => sum + size, 0),
    lsnStart: plan.lsnStart,
    lsnEnd: plan.lsnEnd,
    seconds: (clock.monotonicMs() - startedMs) / 1000,
  };
  events?.({
    level: "info",
    topic: "compaction.done",
    message:
      `Compacted ${result.inputs} layers of timeline "${attached.timeline.name}" into ${result.outputs}`,
    fields: { ...result, lsnStart: formatLsn(plan.lsnStart), lsnEnd: formatLsn(plan.lsnEnd) },
  });
  return result;
}

/** Layers as upkeep reads them: not through the caches of readers. */
export function compactionOpener(target: UpkeepTarget): LayerOpener {
  const { files, codecs } = target.parts.attached;
  return new LayerOpener((layer) => files.source(layer, { cause: "compaction" }), codecs.block);
}

/** Writes the layer of one key range; durable in the store when it resolves. */
async function writeRange(
  target: UpkeepTarget,
  plan: CompactionPlan,
  range: KeyRange,
  opener: LayerOpener,
  options: CompactOptions,
): Promise<LayerDescriptor> {
  const { codec } = target.parts;
  const { readBytes, pacer, signal } = options;
  const { lsnStart, lsnEnd } = plan;
  const layers = plan.inputs.filter((layer) => overlapsKeys(layer, range.keyMin, range.keyMax));
  const write = async () => {
    const inputs = await Promise.all(layers.map((layer) => opener.open(layer, signal)));
    return await target.store({
      identity: {
        kind: "delta",
        ...range,
        lsnStart,
        lsnEnd,
        epoch: target.epoch,
        unique: target.drawUnique(),
      },
      generate: () =>
        mergedLayerFile({ inputs, ...range, lsnStart, lsnEnd, codec, pacer, readBytes, signal }),
      signal,
    });
  };
  return await onceMoreWithoutCopies(opener, write);
}

/** Tries again from the store if what was read of local copies is damaged. */
export async function onceMoreWithoutCopies<T>(opener: LayerOpener, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CorruptionError) || !(await opener.discardCopies())) throw error;
    return await work();
  }
}

/** The keys behind which a complete image ends, ascending. */
function imageEnds(target: UpkeepTarget): Key[] {
  const all = target.parts.attached.timeline.layers.layers();
  return new ImageFloors(all, target.durableLsn).segments.slice(1).map(({ keyMin }) => keyMin);
}
