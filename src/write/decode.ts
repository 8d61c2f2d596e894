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
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import type { WalChunk } from "./source/wal_source.ts";

/** Record bytes that make a batch worth handing on while more WAL is on its way. */
const BATCH_BYTES = 64 * 1024;

export interface DecodeOptions extends WalAssemblerOptions {
  /** Nobody else reads the chunks: their memory is used again. Default: false. */
  exclusive?: boolean;
}

/**
 * The stage as a stream. It fails with what is wrong with the WAL; records before that which are still in later
 * stages' queues go with it, and come again when WAL is streamed anew. Where the options allow WAL to end (`endOfWal`), it
 * closes there and reads no further.
 */
export function decodeWal(options: DecodeOptions): TransformStream<WalChunk, RecordBatch> {
  const assembler = new WalAssembler(options);
  return new TransformStream<WalChunk, RecordBatch>(
    {
      transform(chunk, controller) {
        const moreComes = chunk.startLsn + chunk.data.length < chunk.serverWalEnd;
        const batch = assembler.push(chunk.startLsn, chunk.data, moreComes ? BATCH_BYTES : 0);
        if (options.exclusive) chunk.release?.();
        if (batch !== null) controller.enqueue(batch);
        if (assembler.failure !== undefined) throw assembler.failure;
        if (assembler.atEnd !== null) controller.terminate();
      },
      flush(controller) {
        const batch = assembler.finish();
        if (batch !== null) controller.enqueue(batch);
      },
    },
    // A limit of 0 would never ask for the first chunk.
    { highWaterMark: 1, size: (chunk) => chunk.data.byteLength },
    { highWaterMark: 0 },
  );
}
