/**
 * A timeline that is being written: its flush loop, its pipeline, and how both end.
 *
 * Write path. Given a source, runs until the source ends, `stop` is called, a target is reached, or something fails for
 * good. Ending in order flushes everything first. Whatever happens, the flush loop and the source are closed before
 * `done` settles.
 *
 * @module
 */
import { FencedError, NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { ClusterState } from "../postgres/effects/cluster_state.ts";
import type { EndOfWal } from "../postgres/wal/assembler.ts";
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { Flusher } from "./flush.ts";
import type { IngestCounters, IngestOptions } from "./ingest.ts";
import { runPipeline } from "./pipeline.ts";
import type { WalChunk } from "./source/wal_source.ts";

/** 256 MiB of WAL. */
export const DEFAULT_CHECKPOINT_DISTANCE = 256 * 1024 * 1024;

export interface FollowerOptions {
  timeline: Timeline;
  state: ClusterState;
  flusher: Flusher;
  /** Opens the source; called once. The signal breaks it off; in order it ends by being cancelled. */
  openSource(signal: AbortSignal): { stream: ReadableStream<WalChunk>; startLsn: Lsn };
  readDatabase: IngestOptions["readDatabase"];
  checkpointDistance?: number;
  endOfWal?: EndOfWal;
  /** Makes a stage that looks at every batch of records before ingest: verification. The signal breaks it off. */
  inspect?(signal: AbortSignal): TransformStream<RecordBatch, RecordBatch>;
  /** Ends in order once records up to here have been taken in. */
  until?: Lsn;
  clock: Clock;
  events?: EventSink;
  faults?: FaultPoints;
}

/** See the module's description. */
export class Follower {
  readonly timeline: Timeline;
  readonly state: ClusterState;
  /** Settles when following has ended: resolves after a flush of everything, rejects with what went wrong. */
  readonly done: Promise<void>;
  #counters: IngestCounters = { unsupportedRecords: 0, unsupportedPages: 0 };
  readonly #options: FollowerOptions;
  /** Ends the source in order. */
  readonly #end = new AbortController();
  /** Breaks everything off. */
  readonly #abort = new AbortController();
  /** Aborted by what has failed before the sink. */
  readonly #failing = new AbortController();

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.timeline = options.timeline;
    this.state = options.state;
    this.done = this.#run();
    // Who does not look at `done` still may look at the status; an unhandled rejection would end the process.
    this.done.catch(() => {});
  }

  get counters(): IngestCounters {
    return this.#counters;
  }

  /** Takes in what was received, flushes it, and ends. Resolves when all is durable; rejects as `done` does. */
  async stop(): Promise<void> {
    this.#end.abort(new DOMException("Following was stopped", "AbortError"));
    await this.done;
  }

  /** Ends at once; what is not durable yet will be streamed again. Resolves when nothing runs any more. */
  async abort(): Promise<void> {
    this.#abort.abort(new DOMException("Following was broken off", "AbortError"));
    this.#end.abort(this.#abort.signal.reason);
    // First the flush: a write that waits for it to make room would never end, and the pipeline waits for that write.
    await this.#options.flusher.stop();
    await this.done.catch(() => {});
  }

  async #run(): Promise<void> {
    const { timeline, state, flusher, events } = this.#options;
    const end = this.#end.signal;
    // Also when no WAL comes that would notice.
    flusher.onFailure = (error) => this.#abort.abort(error);
    flusher.start();
    let source: EndableSource | undefined;
    try {
      const { stream, startLsn } = this.#options.openSource(this.#abort.signal);
      source = new EndableSource(stream, end, (error) => this.#failing.abort(error));
      const target = this.#target();
      this.#endWhenReached(target);
      await runPipeline({
        source: source.stream,
        startLsn,
        timeline,
        state,
        flusher,
        readDatabase: this.#options.readDatabase,
        checkpointDistance: this.#options.checkpointDistance ?? DEFAULT_CHECKPOINT_DISTANCE,
        endOfWal: this.#options.endOfWal,
        until: target,
        failing: this.#failing,
        inspect: this.#options.inspect?.(this.#abort.signal),
        onIngest: (counters) => this.#counters = counters,
        clock: this.#options.clock,
        events,
        faults: this.#options.faults,
        signal: this.#abort.signal,
      });
      this.#checkIsReadable();
      events?.({
        level: "info",
        topic: "follow.ended",
        message: `All WAL up to ${formatLsn(timeline.lastRecordLsn)} is durable`,
      });
    } catch (error) {
      if (error instanceof FencedError) {
        events?.({ level: "error", topic: "follow.fenced", message: error.message, error });
      }
      throw error;
    } finally {
      const ended = new DOMException("Following has ended", "AbortError");
      await source?.close(ended);
      this.#end.abort(ended);
      await flusher.stop();
      timeline.fail(ended);
    }
  }

  /** Before the base backup's end nothing could be read: a timeline that stops there would be of no use. */
  #target(): Lsn | undefined {
    const { until } = this.#options;
    return until === undefined ? undefined : Math.max(until, this.timeline.consistentLsn) as Lsn;
  }

  /** WAL that ends by itself must reach the base backup's end. */
  #checkIsReadable(): void {
    const { lastRecordLsn, consistentLsn, name } = this.timeline;
    if (this.#options.endOfWal === undefined || this.#end.signal.aborted || lastRecordLsn >= consistentLsn) {
      return;
    }
    throw new NotFoundError(
      `Cannot read from timeline "${name}" yet: its WAL ends at LSN ${
        formatLsn(lastRecordLsn)
      }, before its base ` +
        `backup does at ${formatLsn(consistentLsn)}`,
      { hint: "Import the WAL that follows, up to there at least: what is there already is kept." },
    );
  }

  #endWhenReached(target: Lsn | undefined): void {
    if (target === undefined) return;
    this.timeline.waitForRecord(target).then(
      () => this.#end.abort(new DOMException("The target was reached", "AbortError")),
      () => {},
    );
  }
}

/** A source that can be ended in order, and of which can be known that it is closed. */
class EndableSource {
  /** Passes chunks on until the signal fires; then it ends as if the source had, and what came before is kept. */
  readonly stream: ReadableStream<WalChunk>;
  readonly #reader: ReadableStreamDefaultReader<WalChunk>;
  #cancelling: Promise<void> | undefined;

  /** @param onFailure Told at once when the source fails; its reader is told when it comes to read. */
  constructor(source: ReadableStream<WalChunk>, signal: AbortSignal, onFailure: (error: unknown) => void) {
    this.#reader = source.getReader();
    this.#reader.closed.catch((error) => this.#cancelling === undefined && onFailure(error));
    this.stream = new ReadableStream<WalChunk>({
      start: (controller) => {
        const end = () => {
          if (this.#cancelling !== undefined) return;
          this.close(signal.reason);
          controller.close();
        };
        if (signal.aborted) end();
        else signal.addEventListener("abort", end, { once: true });
      },
      pull: async (controller) => {
        const next = this.#reader.read();
        // What has failed is closed, and cannot be ended in order any more.
        next.catch((error) => {
          onFailure(error);
          this.#cancelling ??= Promise.resolve();
        });
        const { done, value } = await next;
        if (this.#cancelling !== undefined) return;
        if (!done) return controller.enqueue(value);
        this.#cancelling = Promise.resolve();
        controller.close();
      },
      cancel: (reason) => this.close(reason),
    }, { highWaterMark: 0 });
  }

  /** Ends the source, if it has not ended; resolves when it is closed, whether well or not. */
  close(reason: unknown): Promise<void> {
    return this.#cancelling ??= this.#reader.cancel(reason).catch(() => {});
  }
}
