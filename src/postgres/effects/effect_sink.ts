/**
 * What a WAL record does besides editing the pages it names: the vocabulary.
 *
 * Write path, inside ingest. `effects/*.ts` are pure functions from a record to calls on an {@linkcode EffectSink};
 * ingest implements the sink and turns the calls into versioned keys. The sink is told facts in record order, and all
 * of one record's facts take effect at the record's end LSN. A record that names blocks has no other effect than
 * {@linkcode EffectSink.touchBlock}, so the order of blocks and effects within a record does not matter. A record
 * never names one page of an SLRU both as zeroed and as touched.
 *
 * @module
 */
import type { Lsn } from "../../lsn.ts";
import type { SlruKind } from "../page/slru.ts";

/** Who a relation is. `spc` is never 0 here: records carry the real tablespace oid. */
export interface RelationId {
  spc: number;
  db: number;
  rel: number;
}

/** The facts. Every method is cheap and synchronous; none may throw but for corrupt input. */
export interface EffectSink {
  /**
   * The record must also be replayed on this page, which it does not name (visibility map bits, cut map pages).
   * Nothing happens if the block does not exist.
   */
  touchBlock(spc: number, db: number, rel: number, fork: number, block: number): void;
  /**
   * The record must be replayed on this SLRU page. Pages may be named more than once per record. A page that does not
   * exist (its segment was removed, or never written) exists from here on and is zero before the record.
   *
   * @param cut A shorter record that does the same to this page, to be kept in place of the whole one, which may be
   * megabytes long and concern thousands of pages. Given only where that saves much; it is the sink's.
   */
  touchSlruPage(kind: SlruKind, pageno: number, cut?: Uint8Array): void;

  /** A fork now exists (with 0 blocks if it did not exist before). */
  createFork(spc: number, db: number, rel: number, fork: number): void;
  /** A fork is cut to `nblocks` if it is longer; nothing happens if it does not exist or is shorter. */
  truncateFork(spc: number, db: number, rel: number, fork: number, nblocks: number): void;
  /** The relation is gone, all forks. */
  dropRelation(spc: number, db: number, rel: number): void;

  /**
   * A database directory now exists as a copy of `source`, every fork of every relation and its map (file copy
   * strategy). What was there before is gone.
   */
  copyDatabase(spc: number, db: number, sourceSpc: number, sourceDb: number): void;
  /** A database directory now exists, empty; its relations come as WAL (WAL log strategy). */
  createDatabase(spc: number, db: number): void;
  /** The database directory in this tablespace is gone with all its relations. */
  dropDatabase(spc: number, db: number): void;
  /** `path` is where its link points; empty for a tablespace in place (15 and later, for tests). */
  createTablespace(spc: number, path: string): void;
  dropTablespace(spc: number): void;

  /** The relation map of a database (or of the shared catalogs: spc 1664, db 0) is now this file. `bytes` is the sink's. */
  putRelmap(spc: number, db: number, bytes: Uint8Array): void;

  /** The SLRU page exists and is all zero from here on. */
  zeroSlruPage(kind: SlruKind, pageno: number): void;
  /** Segments wholly before `cutoffPage` are removed: those for which `slruMayDeleteSegment()` says so. */
  truncateSlru(kind: SlruKind, cutoffPage: number): void;
  /** Segments `[first, end)`, circularly, are removed (multixact members): those that `slruSegmentInRange()` names. */
  deleteSlruSegments(kind: SlruKind, firstSegno: number, endSegno: number): void;
  /** All segments are removed (commit timestamps, when track_commit_timestamp goes off). */
  clearSlru(kind: SlruKind): void;

  /**
   * The state file of a prepared transaction: content without its trailing CRC; `bytes` is the sink's.
   *
   * @param fullXid Epoch and xid: `epoch * 2^32 + xid`.
   */
  putTwoPhase(fullXid: number, bytes: Uint8Array): void;
  dropTwoPhase(fullXid: number): void;

  /**
   * Progress of a replication origin moved to this position, which is one of another system: 64 bits that need not be
   * an LSN.
   */
  setOrigin(originId: number, remoteLsn: bigint): void;
  dropOrigin(originId: number): void;

  /**
   * A transaction committed (or aborted) at this time: microseconds since 2000-01-01 UTC, exact below 2^53 (285 years).
   * Feeds the index of times.
   *
   * @param xid Its id without epoch; of a prepared one its own, not that of the record.
   */
  transactionEnd(committed: boolean, timestampMicros: number, xid: number): void;

  /** `pg_create_restore_point` was called. */
  restorePoint(name: string, timestampMicros: number): void;

  /** A backup that began at `startLsn` has ended: pages copied by it are consistent from this record on. */
  backupEnd(startLsn: Lsn): void;
}
