/**
 * The write path on one screen.
 *
 * ```
 * source --> decode --> ingest --> timeline sink --> flush --> store
 * ReadableStream  TransformStream  TransformStream  WritableStream
 * ```
 * Standard web streams, so that a user can tee, insert or replace a stage; queues are bounded in bytes and back-pressure
 * reaches the source. The pipeline ends when the source ends (everything is flushed then) or by the first error of any
 * stage, which it rejects with.
 *
 * @module
 */
import type { Modification } from "../layer/modification.ts";
import type { ClusterState } from "../postgres/effects/cluster_state.ts";
import type { EndOfWal } from "../postgres/wal/assembler.ts";
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { decodeWal } from "./decode.ts";
import type { Flusher } from "./flush.ts";
import { type IngestCounters, type IngestOptions, ingestWal } from "./ingest.ts";
import { timelineSink } from "./sink.ts";
import type { WalChunk } from "./source/wal_source.ts";

export interface PipelineOptions {
  source: ReadableStream<WalChunk>;
  /** Position of the source's first byte. */
  startLsn: Lsn;
  timeline: Timeline;
  state: ClusterState;
  flusher: Flusher;
  readDatabase: IngestOptions["readDatabase"];
  /** Bytes of WAL in a memory layer before it is flushed. */
  checkpointDistance: number;
  /** How decoding may find the end of WAL: a stream never does, an archive does. */
  endOfWal?: EndOfWal;
  /** Ends with the first record that ends there or later. */
  until?: Lsn;
  /** Aborted by what fails upstream: a write that waits for the store then tells it at once. */
  failing?: AbortController;
  /** A stage between decode and ingest that looks at every batch and hands it on: verification. */
  inspect?: TransformStream<RecordBatch, RecordBatch>;
  /** Counts records that are not understood. */
  onIngest?(counters: IngestCounters): void;
  /** Told after every modification. */
  onProgress?(): void;
  /** For pauses while the store does not answer reads that ingest needs. */
  clock?: Clock;
  events?: EventSink;
  faults?: FaultPoints;
  signal?: AbortSignal;
}

/** Runs the write path until its source ends. */
export async function runPipeline(options: PipelineOptions): Promise<void> {
  const { source, startLsn, timeline, state, flusher, readDatabase, checkpointDistance, events, signal } =
    options;
  const decode = decodeWal({
    startLsn,
    walSegmentSize: timeline.facts.walSegmentSize,
    profile: profileOfMajor(timeline.facts.major),
    systemId: BigInt(timeline.facts.systemId),
    endOfWal: options.endOfWal,
    arena: timeline.arena,
    until: options.until,
    onFailure: (error) => options.failing?.abort(error),
    exclusive: true,
  });
  const ingest = ingestWal({
    timeline,
    state,
    readDatabase,
    clock: options.clock,
    events,
    // Who inspects batches may still look at one that went on.
    exclusive: options.inspect === undefined,
    signal,
  });
  options.onIngest?.(ingest.counters);
  const sink = timelineSink({
    timeline,
    flusher,
    checkpointDistance,
    failing: options.failing?.signal,
    exclusive: true,
    onProgress: options.onProgress,
    faults: options.faults,
  });
  const decoded: ReadableStream<RecordBatch> = source.pipeThrough(decode);
  const batches = options.inspect === undefined ? decoded : decoded.pipeThrough(options.inspect);
  const modifications: ReadableStream<Modification> = batches.pipeThrough(ingest);
  await modifications.pipeTo(sink, { signal });
}
