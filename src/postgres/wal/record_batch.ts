/**
 * A run of whole WAL records: what flows between decode and ingest.
 *
 * Write path. Columns instead of an object per record: a batch of 64 KiB holds a thousand records and costs four
 * allocations. The receiver owns the buffers (the memory layer keeps `bytes` as its arena), so nobody reuses them.
 *
 * `bytes`: record bytes as in WAL with the page headers taken out; every record starts 8-aligned, the padding behind
 * each is kept, nothing else lies between them.
 *
 * @module
 */
import type { Lsn } from "../../lsn.ts";

/** Consecutive records. Arrays have exactly `count` elements. */
export interface RecordBatch {
  /** Record bytes; `byteOffset` is a multiple of 8. */
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Where each record starts in `bytes`; multiples of 8. */
  readonly offsets: Int32Array;
  /** Where each record starts in WAL, past the page header (`ReadRecPtr`). */
  readonly startLsns: Float64Array;
  /**
   * Where each record ends in WAL, rounded up to 8 (`EndRecPtr`). It may lie exactly on a page boundary; that of an
   * XLOG_SWITCH is the end of its segment.
   */
  readonly endLsns: Float64Array;
  /** End of the record before the batch, or where decoding began. */
  readonly startLsn: Lsn;
  /** End of the last record. The next batch starts here. */
  readonly endLsn: Lsn;
  /**
   * Gives the three columns back to who made them, to be filled again; `bytes` is not touched. Only where who reads the
   * batch shares it with nobody; there is no need to.
   */
  release?(): void;
}
