/**
 * Write path, 4 of 5: the timeline as a WritableStream of modifications.
 *
 * `write` resolves when the modification can be read; durable it is when the timeline's `remoteConsistentLsn` has
 * passed its end. When enough WAL lies in the open memory layer it is frozen and handed to the flush; when the flush
 * cannot keep up, `write` waits, and back-pressure reaches the source. `close` flushes what is left.
 *
 * @module
 */
import type { Modification } from "../layer/modification.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { Flusher } from "./flush.ts";

export interface SinkOptions {
  timeline: Timeline;
  flusher: Flusher;
  /** Bytes of WAL after which the open memory layer is frozen; sooner, by its memory, where there is an encoder. */
  checkpointDistance: number;
  /** Frozen layers that may wait while the next one fills. Default 1, so that memory is bounded by two layers. */
  frozenLayersMax?: number;
  /** Fires when what comes before the sink has failed: waiting for room is of no more use. */
  failing?: AbortSignal;
  /** Nobody else reads the modifications: their columns are used again. Default: false. */
  exclusive?: boolean;
  /** Told of the last record LSN after every modification. */
  onProgress?(): void;
  faults?: FaultPoints;
}

/**
 * Memory that the open layer may take, and that all may while one is being flushed, relative to the checkpoint distance.
 * The open layer reaches its bound where many bytes come of little WAL: many small records, or a database copied by file.
 */
const MEMORY_FACTORS = { open: 0.8, all: 1 };
/**
 * The same where another thread encodes layers. The next layer fills meanwhile and should not have to wait, so that memory
 * holds two whole ones: they are smaller.
 */
const SHARED_MEMORY_FACTORS = { open: 0.4, all: 0.85 };

/** See the module's description. */
export function timelineSink(options: SinkOptions): WritableStream<Modification> {
  const { timeline, flusher, checkpointDistance, frozenLayersMax = 1, faults, failing } = options;
  const factors = timeline.arena === undefined ? MEMORY_FACTORS : SHARED_MEMORY_FACTORS;
  const memoryMax = checkpointDistance * factors.open;
  const totalMax = checkpointDistance * factors.all;
  return new WritableStream<Modification>({
    async write(modification) {
      flusher.throwIfFailed();
      timeline.append(modification);
      if (options.exclusive) modification.release?.();
      options.onProgress?.();
      if (faults !== undefined) await faults("walreceiver-after-ingest");
      const { walBytes, memoryBytes } = timeline.openLayer;
      if (walBytes >= checkpointDistance || memoryBytes >= memoryMax) {
        while (timeline.frozen.length >= frozenLayersMax) await flusher.waitForRoom(failing);
        timeline.freeze();
        flusher.kick();
      }
      while (timeline.frozen.length > 0 && timeline.memoryBytes >= totalMax) {
        await flusher.waitForRoom(failing);
      }
    },
    close: () => flusher.flushAll(),
  });
}
