/**
 * Write path, 2 of 5: stretches of raw WAL in, batches of whole records out.
 *
 * A {@linkcode WalAssembler} as a TransformStream. Records of a quiet server come through at once; while the server has
 * more to send, they are gathered to batches of 64 KiB. One chunk and one batch are held at a time, so back-pressure
 * reaches the source's queue, which is bounded in bytes.
 *
 * @module
 */
import { WalAssembler, type WalAssemblerOptions } from "../postgres/wal/assembler.ts";
import type { Lsn } from "../lsn.ts";
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import type { WalChunk } from "./source/wal_source.ts";

/** Record bytes that make a batch worth handing on while more WAL is on its way. */
const BATCH_BYTES = 64 * 1024;

export interface DecodeOptions extends WalAssemblerOptions {
  /** Ends with the first record that ends there or later. */
  until?: Lsn;
  /** Told at once what is wrong with the WAL; the stream says so when what came before has been read. */
  onFailure?(error: unknown): void;
  /** Nobody else reads the chunks: their memory is used again. Default: false. */
  exclusive?: boolean;
}

/**
 * The stage as a stream. It fails with what is wrong with the WAL; records before that which are still in later
 * stages' queues go with it, and come again when WAL is streamed anew. Where the options allow WAL to end (`endOfWal`), or
 * say where to stop, it closes there and reads no further.
 */
export function decodeWal(options: DecodeOptions): TransformStream<WalChunk, RecordBatch> {
  const assembler = new WalAssembler(options);
  const { until = Infinity as Lsn } = options;
  /** Returns whether it was the last one. */
  const enqueue = (batch: RecordBatch | null, controller: TransformStreamDefaultController<RecordBatch>) => {
    if (batch === null) return false;
    controller.enqueue(batch.endLsn < until ? batch : cutBatch(batch, until));
    return batch.endLsn >= until;
  };
  return new TransformStream<WalChunk, RecordBatch>(
    {
      transform(chunk, controller) {
        const moreComes = chunk.startLsn + chunk.data.length < chunk.serverWalEnd;
        const batch = push(assembler, chunk, moreComes ? BATCH_BYTES : 0, options);
        if (options.exclusive) chunk.release?.();
        if (enqueue(batch, controller)) return controller.terminate();
        if (assembler.failure !== undefined) {
          options.onFailure?.(assembler.failure);
          throw assembler.failure;
        }
        if (assembler.atEnd !== null) controller.terminate();
      },
      flush: (controller) => void enqueue(assembler.finish(), controller),
    },
    // A limit of 0 would never ask for the first chunk.
    { highWaterMark: 1, size: (chunk) => chunk.data.byteLength },
    { highWaterMark: 0 },
  );
}

function push(
  assembler: WalAssembler,
  { startLsn, data }: WalChunk,
  holdBelow: number,
  { onFailure }: DecodeOptions,
): RecordBatch | null {
  try {
    return assembler.push(startLsn, data, holdBelow);
  } catch (error) {
    onFailure?.(error);
    throw error;
  }
}

/** The batch up to and with the first record that ends at or beyond `until`. */
function cutBatch(batch: RecordBatch, until: Lsn): RecordBatch {
  const count = batch.endLsns.findIndex((end) => end >= until) + 1;
  return {
    ...batch,
    bytes: batch.bytes.subarray(0, batch.offsets[count] ?? batch.bytes.length),
    count,
    offsets: batch.offsets.subarray(0, count),
    startLsns: batch.startLsns.subarray(0, count),
    endLsns: batch.endLsns.subarray(0, count),
    endLsn: batch.endLsns[count - 1] as Lsn,
  };
}
