/**
 * Commit and abort records, taken apart in place.
 *
 * Both paths: effects need to know which SLRU pages and relations a record touches, redo which bits it sets.
 * {@linkcode XactRecord} is a cursor like DecodedRecord: filled again and again, it holds offsets into the record's
 * bytes, never views, and promises that all of them lie inside the main data.
 *
 * Main data of COMMIT, ABORT, COMMIT_PREPARED and ABORT_PREPARED (access/xact.h 14-18, `ParseCommitRecord`); each part
 * is there when its bit in xinfo is set, and xinfo when `xl_info` has XLOG_XACT_HAS_INFO:
 * ```
 * 8 xact_time
 * 4 xinfo
 * 8 dbId, tsId                                    HAS_DBINFO
 * 4 nsubxacts, 4 each                             HAS_SUBXACTS
 * 4 nrels, 12 each: spc, db, rel                  HAS_RELFILELOCATORS
 * 4 nitems, 12 each (15-17) or 16 (18)            HAS_DROPPED_STATS
 * 4 nmsgs, 16 each                                HAS_INVALS (commits only)
 * 4 xid of the prepared transaction               HAS_TWOPHASE
 * n gid, zero-terminated                          HAS_GID, and HAS_TWOPHASE
 * 8 origin_lsn, 8 origin_timestamp                HAS_ORIGIN
 * ```
 *
 * @module
 */
import { getI32, getI64, getU32 } from "../../bytes/little_endian.ts";
import { corruptRecord } from "../redo/record_checks.ts";
import { type DecodedRecord, XLR_RMGR_INFO_MASK } from "../wal/record.ts";

export const XLOG_XACT_COMMIT = 0x00;
export const XLOG_XACT_PREPARE = 0x10;
export const XLOG_XACT_ABORT = 0x20;
export const XLOG_XACT_COMMIT_PREPARED = 0x30;
export const XLOG_XACT_ABORT_PREPARED = 0x40;
export const XLOG_XACT_ASSIGNMENT = 0x50;
export const XLOG_XACT_INVALIDATIONS = 0x60;
export const XLOG_XACT_OPMASK = 0x70;
export const XLOG_XACT_HAS_INFO = 0x80;

const XACT_XINFO_HAS_DBINFO = 1 << 0;
export const XACT_XINFO_HAS_SUBXACTS = 1 << 1;
const XACT_XINFO_HAS_RELFILELOCATORS = 1 << 2;
const XACT_XINFO_HAS_INVALS = 1 << 3;
export const XACT_XINFO_HAS_TWOPHASE = 1 << 4;
export const XACT_XINFO_HAS_ORIGIN = 1 << 5;
const XACT_XINFO_HAS_GID = 1 << 7;
const XACT_XINFO_HAS_DROPPED_STATS = 1 << 8;

const SizeOfRelFileLocator = 12;
const SizeOfSharedInvalidationMessage = 16;

/** A reusable cursor over one commit or abort record. */
export class XactRecord {
  /** True for commits, false for aborts. */
  committed = false;
  /** `*_PREPARED`: the transaction had been prepared before. */
  prepared = false;
  /** The transaction that ended; of a prepared one its own id, not that of the record. */
  xid = 0;
  /** Where the 8 bytes of `xact_time` are: microseconds since 2000-01-01. */
  timeOffset = 0;
  nsubxacts = 0;
  subxactsOffset = 0;
  nrels = 0;
  relsOffset = 0;
  hasOrigin = false;
  /** The remote LSN of the origin's transaction; meaningful with `hasOrigin`. */
  originLsn = 0n;
  /** Where the 8 bytes of the origin's own commit time are, with `hasOrigin`. */
  originTimeOffset = 0;

  #record!: DecodedRecord;
  #at = 0;

  /**
   * Fills the cursor from a COMMIT, ABORT, COMMIT_PREPARED or ABORT_PREPARED record.
   *
   * @throws {CorruptionError} If a part reaches beyond the record's main data.
   */
  parse(record: DecodedRecord): void {
    const op = record.info & XLOG_XACT_OPMASK;
    this.#record = record;
    this.#at = record.mainOffset;
    this.committed = op === XLOG_XACT_COMMIT || op === XLOG_XACT_COMMIT_PREPARED;
    this.prepared = op === XLOG_XACT_COMMIT_PREPARED || op === XLOG_XACT_ABORT_PREPARED;
    this.xid = record.xid;
    this.timeOffset = this.#take(8);
    this.nsubxacts = this.nrels = 0;
    this.hasOrigin = false;
    let xinfo = 0;
    if ((record.info & XLR_RMGR_INFO_MASK & XLOG_XACT_HAS_INFO) !== 0) {
      xinfo = getU32(record.bytes, this.#take(4));
      this.#parseParts(xinfo);
    }
    if (this.prepared && (xinfo & XACT_XINFO_HAS_TWOPHASE) === 0) {
      throw corruptRecord(record, "the prepared transaction's id is missing");
    }
  }

  #parseParts(xinfo: number): void {
    const { bytes, profile } = this.#record;
    if ((xinfo & XACT_XINFO_HAS_DBINFO) !== 0) this.#take(8);
    if ((xinfo & XACT_XINFO_HAS_SUBXACTS) !== 0) {
      this.nsubxacts = this.#takeArray(4);
      this.subxactsOffset = this.#at - this.nsubxacts * 4;
    }
    if ((xinfo & XACT_XINFO_HAS_RELFILELOCATORS) !== 0) {
      this.nrels = this.#takeArray(SizeOfRelFileLocator);
      this.relsOffset = this.#at - this.nrels * SizeOfRelFileLocator;
    }
    if ((xinfo & XACT_XINFO_HAS_DROPPED_STATS) !== 0 && profile.xactStatsItemSize > 0) {
      this.#takeArray(profile.xactStatsItemSize);
    }
    if (this.committed && (xinfo & XACT_XINFO_HAS_INVALS) !== 0) {
      this.#takeArray(SizeOfSharedInvalidationMessage);
    }
    if ((xinfo & XACT_XINFO_HAS_TWOPHASE) !== 0) {
      const xid = getU32(bytes, this.#take(4));
      if (this.prepared) this.xid = xid;
      if ((xinfo & XACT_XINFO_HAS_GID) !== 0) this.#skipString();
    }
    if ((xinfo & XACT_XINFO_HAS_ORIGIN) !== 0) {
      this.hasOrigin = true;
      this.originLsn = BigInt.asUintN(64, getI64(bytes, this.#take(8)));
      this.originTimeOffset = this.#take(8);
    }
  }

  /** Subtransaction number `index`, `0 <= index < nsubxacts`. */
  subxact(index: number): number {
    return getU32(this.#record.bytes, this.subxactsOffset + index * 4);
  }

  /**
   * Whether the transaction and its subtransactions, in this order, have ascending ids. PostgreSQL writes them so; only
   * where ids wrap around within one transaction they do not.
   */
  hasAscendingSubxacts(): boolean {
    let last = this.xid;
    for (let index = 0; index < this.nsubxacts; index++) {
      const xid = this.subxact(index);
      if (xid <= last) return false;
      last = xid;
    }
    return true;
  }

  /** The next `length` bytes: returns where they start. */
  #take(length: number): number {
    const start = this.#at;
    const { mainOffset, mainLength } = this.#record;
    if (start + length > mainOffset + mainLength) {
      throw corruptRecord(this.#record, "main data is too short", start + length - mainOffset, mainLength);
    }
    this.#at = start + length;
    return start;
  }

  /** A count and that many elements: returns the count. */
  #takeArray(elementSize: number): number {
    const count = getI32(this.#record.bytes, this.#take(4));
    if (count < 0) throw corruptRecord(this.#record, "negative count", "0 or more", count);
    this.#take(count * elementSize);
    return count;
  }

  #skipString(): void {
    const { bytes, mainOffset, mainLength } = this.#record;
    const end = mainOffset + mainLength;
    while (this.#at < end && bytes[this.#at] !== 0) this.#at++;
    this.#take(1);
  }
}
