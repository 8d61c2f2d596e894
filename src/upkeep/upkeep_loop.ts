/**
 * Upkeep beside a writer: looks after every flush what is to be done, and does it out of everybody's way.
 *
 * One thing at a time, in this order: compaction until reads have few runs to visit, images that are due, then whatever
 * tasks were given (retention, collection). A store that does not answer is tried again later, as is what somebody else has
 * changed under way; any other failure is told, and tried again later still: following goes on without upkeep. Only
 * being fenced ends it.
 *
 * @module
 */
import { FencedError, NotFoundError, PreconditionFailedError, UnavailableError } from "../errors.ts";
import { Backoff } from "../flow/backoff.ts";
import { ImageFloors } from "../layer/image_floors.ts";
import type { KeySpace } from "../layer/key.ts";
import type { Lsn } from "../lsn.ts";
import { compact } from "./compact.ts";
import { type CompactionPolicy, DEFAULT_RUNS_MAX, unsettledRuns } from "./compact_plan.ts";
import { makeImages } from "./images.ts";
import type { ImagePolicy } from "./images_plan.ts";
import { Pacer } from "./pacer.ts";
import type { UpkeepTarget } from "./upkeep_target.ts";

/** Something else to do regularly. */
export interface UpkeepTask {
  /** For events. */
  readonly name: string;
  /** Does what is to be done now, if anything. */
  run(target: UpkeepTarget, signal: AbortSignal): Promise<void>;
}

/** When to do what, and how fast. */
export interface UpkeepOptions extends CompactionPolicy, ImagePolicy {
  /** Milliseconds between two looks while nothing is flushed. Default 20 s. */
  intervalMs?: number;
  /** Share of the time that upkeep takes while WAL comes in, above 0 to 1. Default 0.15. */
  busyShare?: number;
  /** Bytes of layers to hold at once. Default 32 MiB. */
  readBytes?: number;
  /** Done in each round after compaction and images. */
  tasks?: readonly UpkeepTask[];
}

/** What was done since the process started. Bytes are those of layer files. */
export interface UpkeepCounters {
  compactions: number;
  /** Layers replaced by others, and their bytes. */
  compactedLayers: number;
  bytesRead: number;
  /** Layers made by compaction, and their bytes. */
  deltaLayers: number;
  deltaBytes: number;
  imageLayers: number;
  imageBytes: number;
  /** Layers that flushes made meanwhile, and their bytes: what the others are measured by. */
  flushedLayers: number;
  flushedBytes: number;
  failures: number;
}

const DEFAULT_INTERVAL_MS = 20_000;
const DEFAULT_BUSY_SHARE = 0.15;
/** WAL that came so long ago says that more is to come. */
const BUSY_MS = 500;
/** Runs, relative to those wanted, from which on upkeep no longer waits for flushes. */
const URGENT = 4;
/** How long that is taken to be so. */
const URGENCY_MS = 1000;

/** Between two rounds while WAL comes in. */
const ROUND_PAUSE_MS = 1000;
/** What is not settled must have grown by one part in so many before images are weighed again. */
const WEIGHING_GROWTH = 16;

/** See the module's description. */
export class UpkeepLoop {
  readonly counters: UpkeepCounters = {
    compactions: 0,
    compactedLayers: 0,
    bytesRead: 0,
    deltaLayers: 0,
    deltaBytes: 0,
    imageLayers: 0,
    imageBytes: 0,
    flushedLayers: 0,
    flushedBytes: 0,
    failures: 0,
  };
  readonly #target: UpkeepTarget;
  readonly #options: UpkeepOptions;
  readonly #stopped = new AbortController();
  readonly #leftOut: KeySpace[] = [];
  readonly #pacer: Pacer;
  #seenLsn: Lsn;
  /** Where the last round found what is durable. */
  #doneLsn = 0 as Lsn;
  #wal = { bytes: 0, atMs: -Infinity };
  #loop: Promise<void> | undefined;

  constructor(target: UpkeepTarget, options: UpkeepOptions = {}) {
    this.#target = target;
    this.#options = options;
    const { clock, attached: { timeline } } = target.parts;
    this.#seenLsn = timeline.remoteConsistentLsn;
    const { busyShare = DEFAULT_BUSY_SHARE } = options;
    this.#pacer = new Pacer({
      clock,
      busyShare,
      isBusy: () => this.#isBusy(),
      isBehind: () => target.isIngestBehind && !this.#isUrgent(),
    });
  }

  /** All bytes written over those that flushes wrote; null before the first flush. */
  get writeAmplification(): number | null {
    const { flushedBytes, deltaBytes, imageBytes } = this.counters;
    return flushedBytes === 0 ? null : (flushedBytes + deltaBytes + imageBytes) / flushedBytes;
  }

  /** Whether all was done that is to be done of what is durable now. */
  get isIdle(): boolean {
    return this.#doneLsn >= this.#target.durableLsn;
  }

  /** Starts the loop. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Breaks off what is under way, which leaves nothing half done; resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopped.abort(new DOMException("Upkeep was stopped", "AbortError"));
    await this.#loop;
    this.#countFlushed();
  }

  async #run(): Promise<void> {
    const { clock, attached } = this.#target.parts;
    const { signal } = this.#stopped;
    const backoff = new Backoff(clock, { initialMs: 1000, factor: 2, maxMs: 600_000 });
    while (!signal.aborted) {
      try {
        await this.round(signal);
        backoff.reset();
        // Planning costs too, however little there is to do.
        if (this.#isBusy()) await clock.sleep(ROUND_PAUSE_MS, signal);
        await this.#idle(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#weighedAt = undefined;
        if (!this.#report(error)) return;
        // A guest, or an ancestor's upkeep, has put others in the place of layers, long ago.
        if (error instanceof NotFoundError) await attached.refresh(signal).catch(() => {});
        await backoff.wait(signal).catch(() => {});
      }
    }
  }

  /** Does all that is to be done now. */
  async round(signal: AbortSignal): Promise<void> {
    const { counters } = this;
    const lsn = this.#target.durableLsn;
    const options = { ...this.#options, pacer: this.#pacer, leftOut: this.#leftOut, signal };
    for (;;) {
      this.#countFlushed();
      const done = await compact(this.#target, options);
      if (done === undefined) break;
      counters.compactions++;
      counters.compactedLayers += done.inputs;
      counters.bytesRead += done.inputBytes;
      counters.deltaLayers += done.outputs;
      counters.deltaBytes += done.outputBytes;
    }
    if (this.#mayBeDue()) {
      const made = await makeImages(this.#target, options);
      counters.imageLayers += made?.images ?? 0;
      counters.imageBytes += made?.imageBytes ?? 0;
    }
    for (const task of this.#options.tasks ?? []) await task.run(this.#target, signal);
    this.#doneLsn = lsn;
  }

  /**
   * Whether to weigh what images are due, which takes a look at the index of every layer that is not settled: once these have
   * grown by a sixteenth.
   */
  #mayBeDue(): boolean {
    const all = this.#target.parts.attached.timeline.layers.layers();
    const runs = unsettledRuns(all, new ImageFloors(all, this.#target.durableLsn));
    const bytes = runs.reduce((sum, run) => sum + run.bytes, 0);
    const { flushedBytes } = this.counters;
    if (this.#weighedAt !== undefined && (flushedBytes - this.#weighedAt) * WEIGHING_GROWTH < bytes) {
      return false;
    }
    this.#weighedAt = flushedBytes;
    return bytes > 0;
  }
  #weighedAt: number | undefined;

  /** Waits for the next flush, or some time. */
  async #idle(stopped: AbortSignal): Promise<void> {
    const { clock, attached: { timeline } } = this.#target.parts;
    const woken = new AbortController();
    const signal = AbortSignal.any([stopped, woken.signal]);
    // What became durable during the round counts.
    const next = this.#doneLsn + 1 as Lsn;
    await Promise.race([
      clock.sleep(this.#options.intervalMs ?? DEFAULT_INTERVAL_MS, signal).catch(() => {}),
      timeline.waitForDurable(next, signal),
    ]).finally(() => woken.abort());
  }

  /** Tells of a failure; returns whether to go on. */
  #report(error: unknown): boolean {
    const { events } = this.#target.parts;
    // Following has ended, and with it the timeline.
    if (error instanceof FencedError || (error as Error | null)?.name === "AbortError") return false;
    this.counters.failures++;
    const isUsual = error instanceof UnavailableError || error instanceof PreconditionFailedError;
    events?.({
      level: isUsual ? "warn" : "error",
      topic: "upkeep.failed",
      message: `Upkeep did not get done: ${(error as Error).message}`,
      error,
    });
    return true;
  }

  /** Layers of flushes, each counted once. */
  #countFlushed(): void {
    const { layers } = this.#target.parts.attached.timeline;
    let newest = this.#seenLsn as number;
    for (const { kind, level, lsnStart, lsnEnd, size } of layers.layers()) {
      if (kind !== "delta" || level > 0 || lsnStart <= this.#seenLsn) continue;
      this.counters.flushedLayers++;
      this.counters.flushedBytes += size;
      newest = Math.max(newest, lsnEnd - 1);
    }
    this.#seenLsn = newest as Lsn;
  }

  #isBusy(): boolean {
    const { clock, attached: { timeline } } = this.#target.parts;
    const now = clock.monotonicMs();
    if (timeline.walBytes !== this.#wal.bytes) this.#wal = { bytes: timeline.walBytes, atMs: now };
    return now - this.#wal.atMs < BUSY_MS;
  }

  #isUrgent(): boolean {
    const { clock, attached: { timeline: { layers } } } = this.#target.parts;
    const now = clock.monotonicMs();
    if (now - this.#urgent.atMs < URGENCY_MS) return this.#urgent.is;
    const most = URGENT * (this.#options.runsMax ?? DEFAULT_RUNS_MAX);
    let flushed = 0;
    if (layers.deltaCount > most) {
      for (const { kind, level } of layers.layers()) if (kind === "delta" && level === 0) flushed++;
    }
    this.#urgent = { is: flushed > most, atMs: now };
    return this.#urgent.is;
  }
  #urgent = { is: false, atMs: -Infinity };
}
