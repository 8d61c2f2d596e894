/**
 * Write path, 2 of 5: stretches of raw WAL in, batches of whole records out.
 *
 * A {@linkcode WalAssembler} as a TransformStream. One batch per chunk that completes a record, so that a quiet server's
 * records come through at once; sources deliver 64-128 KiB at a time under load. Queues are bounded in bytes.
 *
 * @module
 */
import { WalAssembler, type WalAssemblerOptions } from "../postgres/wal/assembler.ts";
import { batchByteLength, type RecordBatch } from "../postgres/wal/record_batch.ts";
import type { WalChunk } from "./source/wal_source.ts";

/** Bytes of batches that wait for ingest. */
const QUEUE_BYTES = 1024 * 1024;

/**
 * The stage as a stream. It fails with what is wrong with the WAL, after all records before it; where the options allow
 * WAL to end (`endOfWal`), it closes there and reads no further.
 */
export function decodeWal(options: WalAssemblerOptions): TransformStream<WalChunk, RecordBatch> {
  const assembler = new WalAssembler(options);
  return new TransformStream<WalChunk, RecordBatch>(
    {
      transform(chunk, controller) {
        const batch = assembler.push(chunk.startLsn, chunk.data);
        if (batch !== null) controller.enqueue(batch);
        if (assembler.atEnd !== null) controller.terminate();
      },
      flush(controller) {
        const batch = assembler.finish();
        if (batch !== null) controller.enqueue(batch);
      },
    },
    { highWaterMark: 0, size: (chunk) => chunk.data.byteLength },
    { highWaterMark: QUEUE_BYTES, size: batchByteLength },
  );
}
