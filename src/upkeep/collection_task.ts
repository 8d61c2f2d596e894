/**
 * Collection beside a writer: retention and removed layers every ten minutes, orphans once a day.
 *
 * Upkeep, a task of its loop. Removed layers leave the layer map of this process with the commit that removes them; their
 * objects go when the grace time is over, for others.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import { changedRetention, type RetentionChange } from "./retain.ts";
import { collect, type CollectionPlan, DEFAULT_GRACE_MS, isEmptyPlan, planCollection } from "./gc.ts";
import type { UpkeepTask } from "./upkeep_loop.ts";
import type { UpkeepTarget } from "./upkeep_target.ts";

export interface CollectionTaskOptions {
  /** Changes the timeline's policy, the first time. */
  retention?: RetentionChange;
  /** Milliseconds that objects of removed layers stay. Default 1 hour. */
  graceMs?: number;
  /** Milliseconds between two collections. Default 10 minutes. */
  intervalMs?: number;
}

/** What was done since the process started. */
export interface CollectionCounters {
  runs: number;
  /** Layers that retention no longer needed. */
  collectedLayers: number;
  collectedBytes: number;
  /** Objects deleted: of layers removed by retention and compaction, and orphans. */
  deletedObjects: number;
  deletedBytes: number;
  orphans: number;
}

const DEFAULT_INTERVAL_MS = 10 * 60_000;
/** Looking for orphans lists all objects: not right at the start, and then rarely. */
const FIRST_ORPHANS_MS = 3_600_000;
const ORPHANS_MS = 24 * 3_600_000;

/** See the module's description. */
export class CollectionTask implements UpkeepTask {
  readonly name = "collection";
  readonly counters: CollectionCounters = {
    runs: 0,
    collectedLayers: 0,
    collectedBytes: 0,
    deletedObjects: 0,
    deletedBytes: 0,
    orphans: 0,
  };
  readonly #options: CollectionTaskOptions;
  #change: RetentionChange | undefined;
  #lastMs = -Infinity;
  #orphansMs: number | undefined;

  constructor(options: CollectionTaskOptions = {}) {
    this.#options = options;
    this.#change = options.retention;
  }

  async run(target: UpkeepTarget, signal: AbortSignal): Promise<void> {
    const { clock, store, attached, events } = target.parts;
    const now = clock.monotonicMs();
    this.#orphansMs ??= now + FIRST_ORPHANS_MS;
    const { intervalMs = DEFAULT_INTERVAL_MS, graceMs = DEFAULT_GRACE_MS } = this.#options;
    if (now - this.#lastMs < intervalMs) return;
    // Guests may have changed the policy. And what ancestors have removed goes when their grace time is over: well before
    // that, read on in what took its place.
    await attached.refresh(signal);
    const orphans = now >= this.#orphansMs;
    const policy = this.#change && changedRetention(target.manifest.retention, this.#change);
    const options = { store, clock, reader: attached.reader, policy, graceMs, orphans, signal };
    const plan = await planCollection(target.manifest, options);
    if (policy !== undefined || !isEmptyPlan(plan)) {
      const manifest = await collect(plan, (edit, signal) => target.commit(edit, signal), options);
      // By the manifest of now: flushes may have named more while objects were deleted.
      const named = new Set(target.manifest.layers.map(({ name }) => name));
      const gone = attached.timeline.layers.layers().filter(({ name }) => !named.has(name));
      attached.timeline.replaceLayers([], gone);
      await Promise.all(gone.map(({ name }) => attached.files.forget(name)));
      this.#count(plan);
      events?.({
        level: "info",
        topic: "gc.done",
        message: `Collected ${plan.layers.length} layers, deleted ${
          plan.expired.length + plan.orphans.length
        } objects; history is kept from ${formatLsn(manifest.cutoffLsn)} on`,
        fields: {
          cutoffLsn: formatLsn(manifest.cutoffLsn),
          collected: plan.layers.length,
          deleted: plan.expired.length,
          orphans: plan.orphans.length,
        },
      });
    }
    this.counters.runs++;
    this.#change = undefined;
    this.#lastMs = now;
    if (orphans) this.#orphansMs = now + ORPHANS_MS;
  }

  #count({ layers, expired, orphans }: CollectionPlan): void {
    const { counters } = this;
    const bytes = (objects: readonly { size: number }[]) => objects.reduce((sum, { size }) => sum + size, 0);
    counters.collectedLayers += layers.length;
    counters.collectedBytes += bytes(layers);
    counters.deletedObjects += expired.length + orphans.length;
    counters.deletedBytes += bytes(expired) + bytes(orphans);
    counters.orphans += orphans.length;
  }
}
