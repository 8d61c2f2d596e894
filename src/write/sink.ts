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
import type { Timeline } from "../timeline/timeline.ts";
import type { Flusher } from "./flush.ts";

export interface SinkOptions {
  timeline: Timeline;
  flusher: Flusher;
  /** Bytes of WAL after which the open memory layer is frozen; sooner, when it takes a tenth more of memory. */
  checkpointDistance: number;
  /** Frozen layers that may wait while the next one fills. Default 1, so that memory is bounded by two layers. */
  frozenLayersMax?: number;
  /** Told of the last record LSN after every modification. */
  onProgress?(): void;
}

/** Memory of an open layer, relative to the checkpoint distance: WAL of many small records takes more than its length. */
const MEMORY_FACTOR_MAX = 1.1;

/** See the module's description. */
export function timelineSink(options: SinkOptions): WritableStream<Modification> {
  const { timeline, flusher, checkpointDistance, frozenLayersMax = 1 } = options;
  const memoryMax = checkpointDistance * MEMORY_FACTOR_MAX;
  return new WritableStream<Modification>({
    async write(modification) {
      flusher.throwIfFailed();
      timeline.append(modification);
      options.onProgress?.();
      const { walBytes, memoryBytes } = timeline.openLayer;
      if (walBytes >= checkpointDistance || memoryBytes >= memoryMax) {
        while (timeline.frozen.length >= frozenLayersMax) await flusher.waitForRoom();
        timeline.freeze();
        flusher.kick();
      }
    },
    close: () => flusher.flushAll(),
  });
}
