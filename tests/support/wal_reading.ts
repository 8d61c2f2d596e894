/**
 * Runs WAL through the assembler in every way that tests need, and compares what comes out.
 *
 * @module
 */
import { type Lsn, lsn } from "../../src/lsn.ts";
import type { WalAssembler } from "../../src/postgres/wal/assembler.ts";
import type { RecordBatch } from "../../src/postgres/wal/record_batch.ts";

/** One record, copied out of its batch. */
export interface ReadRecord {
  startLsn: number;
  endLsn: number;
  bytes: Uint8Array;
}

/** What came out of an assembler, and how it ended. */
export interface Reading {
  records: ReadRecord[];
  batches: RecordBatch[];
  error: unknown;
}

/** The records of a batch. Checks that its columns hold together. */
export function recordsOf(batch: RecordBatch): ReadRecord[] {
  const { bytes, count, offsets, startLsns, endLsns } = batch;
  if (bytes.byteOffset % 8 !== 0) throw new Error(`A batch starts at ${bytes.byteOffset} of its buffer`);
  if ([offsets, startLsns, endLsns].some((column) => column.length !== count) || count === 0) {
    throw new Error(
      `A batch of ${count} records has columns of ${offsets.length}, ${startLsns.length}, ${endLsns.length}`,
    );
  }
  if (batch.endLsn !== endLsns[count - 1]) throw new Error("A batch does not end where its last record does");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, index) => {
    const length = view.getUint32(offsets[index], true);
    const next = index + 1 < count ? offsets[index + 1] : bytes.length;
    if (next !== offsets[index] + length + (-length & 7)) {
      throw new Error("Records of a batch do not lie end to end");
    }
    return {
      startLsn: startLsns[index],
      endLsn: endLsns[index],
      bytes: bytes.slice(offsets[index], offsets[index] + length),
    };
  });
}

/**
 * Pushes `wal`, which begins at `startLsn`, in chunks of the lengths given (the last one again and again), until it ends
 * or fails.
 */
export function readAll(
  assembler: WalAssembler,
  startLsn: Lsn,
  wal: Uint8Array,
  chunkLengths: Iterable<number> = [wal.length],
): Reading {
  const reading: Reading = { records: [], batches: [], error: undefined };
  const take = (batch: RecordBatch | null) => {
    if (batch === null) return;
    const before = reading.batches.at(-1);
    if (before !== undefined && batch.startLsn !== before.endLsn) {
      throw new Error("Batches do not follow each other");
    }
    reading.batches.push(batch);
    reading.records.push(...recordsOf(batch));
  };
  const lengths = chunkLengths[Symbol.iterator]();
  let length = wal.length;
  try {
    for (let at = 0; at < wal.length && assembler.atEnd === null; at += length) {
      const next = lengths.next();
      if (!next.done) length = next.value;
      take(assembler.push(lsn(startLsn + at), wal.subarray(at, at + length)));
    }
    take(assembler.finish());
    take(assembler.finish());
  } catch (error) {
    reading.error = error;
  }
  return reading;
}

/** Index of the first record that differs, or -1 when `a` and `b` are the same. */
export function firstDifference(a: readonly ReadRecord[], b: readonly ReadRecord[]): number {
  const count = Math.max(a.length, b.length);
  for (let index = 0; index < count; index++) {
    if (index >= a.length || index >= b.length || !isSameRecord(a[index], b[index])) return index;
  }
  return -1;
}

export function isSameRecord(a: ReadRecord, b: ReadRecord): boolean {
  if (a.startLsn !== b.startLsn || a.endLsn !== b.endLsn || a.bytes.length !== b.bytes.length) return false;
  for (let at = 0; at < a.bytes.length; at++) if (a.bytes[at] !== b.bytes[at]) return false;
  return true;
}
