/**
 * What the whole cluster is at an LSN: the counters and limits that PostgreSQL keeps in shared memory and saves in
 * pg_control, moved forward by the records that move them in PostgreSQL's recovery.
 *
 * Write path, inside ingest, where one instance follows the WAL; restore, where the value stored at an LSN becomes a
 * new pg_control. The rules are those of `xlog_redo`, `AdvanceNextFullTransactionIdPastXid`,
 * `MultiXactAdvanceNextMXact` and their kin.
 *
 * **What is stored.** The next xid changes with almost every record, the next multixact with many. So a stored value
 * has them rounded up and stays true until a record goes beyond it; only then, or when anything else changed, does
 * {@linkcode ClusterState.needsSave} say so. Ask it after every record and store the value at that record's end LSN.
 * Rounding is safe for PostgreSQL, which skips the ids in between: a rounded xid never lies in the middle of a pg_xact
 * page that does not exist (1024 divides 32768), a rounded multixact is always the first of an offsets page not yet
 * used, a rounded member offset the first of a members page. Right after a shutdown checkpoint all are exact.
 *
 * Source: PostgreSQL src/backend/access/transam/{xlog,varsup,multixact,commit_ts}.c (14-18).
 *
 * @module
 */
import { getI32, getU16, getU32, getU64, setU16, setU32, setU64 } from "../../bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../errors.ts";
import { DEFAULT_WAL_SEGMENT_SIZE, INVALID_LSN, type Lsn } from "../../lsn.ts";
import type { CheckPoint } from "../files/check_point.ts";
import type { ClusterParameters, ControlFile } from "../files/control_file.ts";
import { MULTIXACT_MEMBERS_PER_PAGE, MULTIXACT_OFFSETS_PER_PAGE } from "../page/slru.ts";
import {
  epochOfFullTransactionId,
  FirstNormalTransactionId,
  fullTransactionId,
  InvalidTransactionId,
  multiXactIdPrecedes,
  transactionIdAdvance,
  transactionIdPrecedes,
  transactionIdRetreat,
  xidOfFullTransactionId,
} from "../transaction_id.ts";

/** A stored next xid is a multiple of this, unless it is exact. */
export const XID_STEP = 1024;

/** The counters as they are stored: not below the true ones, see the module's description. */
export interface CounterBounds {
  readonly nextXid: number;
  readonly nextMulti: number;
  readonly nextMultiOffset: number;
  readonly newestCommitTsXid: number;
}

/** See the module's description. Fields are read by anyone and changed by the methods only. */
export class ClusterState implements ClusterParameters {
  /** `nextXid`: epoch and xid, `epoch * 2^32 + xid`. */
  nextXid = FirstNormalTransactionId;
  nextOid = 0;
  nextMulti = 1;
  nextMultiOffset = 0;
  oldestXid = FirstNormalTransactionId;
  oldestXidDB = 0;
  oldestMulti = 1;
  oldestMultiDB = 0;
  oldestCommitTsXid = InvalidTransactionId;
  newestCommitTsXid = InvalidTransactionId;
  /** Oldest transaction still running; 0 after a shutdown checkpoint: none but prepared ones. */
  oldestActiveXid = InvalidTransactionId;
  tli = 1;
  prevTli = 1;
  fullPageWrites = true;

  /** Where the last checkpoint record starts. */
  checkPointLsn: Lsn = INVALID_LSN;
  /** Its redo pointer. */
  redoLsn: Lsn = INVALID_LSN;
  /** Its time, seconds since 1970. */
  time = 0;
  /** It was a shutdown checkpoint. */
  checkPointIsShutdown = false;

  /** `wal_level`: 0 minimal, 1 replica, 2 logical. */
  walLevel = 1;
  walLogHints = false;
  maxConnections = 0;
  maxWorkerProcesses = 0;
  maxWalSenders = 0;
  maxPreparedXacts = 0;
  maxLocksPerXact = 0;
  trackCommitTimestamp = false;

  /** `data_checksum_version`: 0 without checksums. */
  dataChecksumVersion = 0;
  walSegmentSize = DEFAULT_WAL_SEGMENT_SIZE;

  /** Last multixact offsets page that a record zeroed, -1 when none was seen. See `effects/multixact.ts`. */
  lastOffsetsPage = -1;
  /** Offsets page that came to be ahead of its zeroing record, or -1. See `effects/multixact.ts`. */
  preInitializedOffsetsPage = -1;

  /** Positions of replication origins by id. Not part of the stored value: whoever resumes fills it from theirs. */
  readonly origins: Map<number, bigint> = new Map();

  /** Something other than the rounded counters changed since the last {@linkcode ClusterState.markSaved}. */
  changed = true;

  /** The counters as last stored. */
  #saved: CounterBounds = { nextXid: 0, nextMulti: 0, nextMultiOffset: 0, newestCommitTsXid: 0 };
  /** The xid that advanceNextXid() was last given, or invalid when the next one may have gone back since. */
  #lastXid = InvalidTransactionId;
  /** Just after a shutdown checkpoint: store the counters as they are. */
  #exact = true;

  /** The state that a control file describes: that of its last checkpoint. */
  static fromControlFile(file: ControlFile): ClusterState {
    const state = new ClusterState();
    state.setParameters(file);
    state.dataChecksumVersion = file.dataChecksumVersion;
    state.walSegmentSize = file.walSegmentSize;
    state.#believe(file.checkPointCopy);
    state.#setCheckPoint(file.checkPointCopy, file.checkPoint, file.checkPoint === file.checkPointCopy.redo);
    // CheckPoint carries wal_level from 17 on only; pg_control always does.
    state.walLevel = file.walLevel;
    return state;
  }

  /** The state of a stored value's fields. Its counters are taken for exact, and as saved. */
  static fromStored(fields: Partial<ClusterState>): ClusterState {
    const state = Object.assign(new ClusterState(), fields);
    state.markSaved();
    return state;
  }

  /** An independent copy, so that a batch of records can be tried again. */
  clone(): ClusterState {
    const copy = Object.assign(new ClusterState(), this, { origins: new Map(this.origins) });
    copy.#saved = this.#saved;
    copy.#exact = this.#exact;
    return copy;
  }

  /** `XLogHintBitIsNeeded()`: changes of hint bits are in WAL, as full-page images. */
  get hintBitsLogged(): boolean {
    return this.dataChecksumVersion !== 0 || this.walLogHints;
  }

  /** The value stored last is not true any more. */
  needsSave(): boolean {
    const saved = this.#saved;
    return this.changed || this.nextXid > saved.nextXid ||
      multiXactIdPrecedes(saved.nextMulti, this.nextMulti) ||
      multiXactIdPrecedes(saved.nextMultiOffset, this.nextMultiOffset);
  }

  /** The counters to store. */
  bounds(): CounterBounds {
    const { nextXid, nextMulti, nextMultiOffset, newestCommitTsXid } = this;
    if (this.#exact) return { nextXid, nextMulti, nextMultiOffset, newestCommitTsXid };
    const rounded = Math.ceil(nextXid / XID_STEP) * XID_STEP;
    // Where the xid wraps to 0, the special ones are skipped.
    const bound = Math.max(
      rounded,
      fullTransactionId(epochOfFullTransactionId(rounded), FirstNormalTransactionId),
    );
    return {
      nextXid: bound,
      // Never this very one: its page may exist already, holding the end of the multixact before.
      nextMulti: ((Math.floor(nextMulti / MULTIXACT_OFFSETS_PER_PAGE) + 1) * MULTIXACT_OFFSETS_PER_PAGE) >>>
        0,
      nextMultiOffset: roundUpToMembersPage(nextMultiOffset),
      newestCommitTsXid: newestCommitTsXid === InvalidTransactionId
        ? InvalidTransactionId
        : transactionIdRetreat(xidOfFullTransactionId(bound)),
    };
  }

  /** The value for this moment has been stored. */
  markSaved(): void {
    this.#saved = this.bounds();
    this.changed = false;
  }

  /** `AdvanceNextFullTransactionIdPastXid`: every xid in a record is below the next one. */
  advanceNextXid(xid: number): void {
    // Most records have the xid of the one before: nothing to compute then.
    if (xid === this.#lastXid) return;
    this.#lastXid = xid;
    const next = xidOfFullTransactionId(this.nextXid);
    if (transactionIdPrecedes(xid, next)) return;
    const advanced = transactionIdAdvance(xid);
    const epoch = epochOfFullTransactionId(this.nextXid) + (advanced < next ? 1 : 0);
    this.nextXid = fullTransactionId(epoch, advanced);
    this.#exact = false;
  }

  /** `MultiXactAdvanceNextMXact`. */
  advanceNextMulti(minMulti: number, minOffset: number): void {
    if (multiXactIdPrecedes(this.nextMulti, minMulti)) {
      this.nextMulti = minMulti;
      this.#exact = false;
    }
    if (multiXactIdPrecedes(this.nextMultiOffset, minOffset)) {
      this.nextMultiOffset = minOffset;
      this.#exact = false;
    }
  }

  /** XLOG_NEXTOID: the record is believed exactly. */
  setNextOid(oid: number): void {
    this.#set("nextOid", oid);
  }

  /** `SetTransactionIdLimit`, when it moves forward: CLOG_TRUNCATE names what pg_xact still holds. */
  advanceOldestXid(xid: number, db: number): void {
    if (!transactionIdPrecedes(this.oldestXid, xid)) return;
    this.#set("oldestXid", xid);
    this.#set("oldestXidDB", db);
  }

  /** `SetMultiXactIdLimit`, as the replay of a truncation calls it. */
  setOldestMulti(multi: number, db: number): void {
    this.#set("oldestMulti", multi);
    this.#set("oldestMultiDB", db);
  }

  /** `AdvanceOldestCommitTsXid`. */
  advanceOldestCommitTsXid(xid: number): void {
    if (
      this.oldestCommitTsXid !== InvalidTransactionId && transactionIdPrecedes(this.oldestCommitTsXid, xid)
    ) {
      this.#set("oldestCommitTsXid", xid);
    }
  }

  /** A commit timestamp was set for transactions up to this one. Stored as part of the next xid's rounding. */
  advanceNewestCommitTsXid(xid: number): void {
    if (transactionIdPrecedes(this.newestCommitTsXid, xid)) this.newestCommitTsXid = xid;
  }

  setOldestActiveXid(xid: number): void {
    this.#set("oldestActiveXid", xid);
  }

  setFullPageWrites(on: boolean): void {
    this.#set("fullPageWrites", on);
  }

  /** The position in the timeline of offsets pages; see `effects/multixact.ts`. */
  setOffsetsPages(last: number, preInitialized: number): void {
    this.#set("lastOffsetsPage", last);
    this.#set("preInitializedOffsetsPage", preInitialized);
  }

  /** XLOG_END_OF_RECOVERY: a new timeline number. */
  switchTimeline(tli: number, prevTli: number, walLevel: number): void {
    this.#set("tli", tli);
    this.#set("prevTli", prevTli);
    this.#set("walLevel", walLevel);
  }

  /** XLOG_PARAMETER_CHANGE, all but what a change of track_commit_timestamp does to the commit timestamps. */
  setParameters(parameters: ClusterParameters): void {
    this.#set("walLevel", parameters.walLevel);
    this.#set("walLogHints", parameters.walLogHints);
    this.#set("maxConnections", parameters.maxConnections);
    this.#set("maxWorkerProcesses", parameters.maxWorkerProcesses);
    this.#set("maxWalSenders", parameters.maxWalSenders);
    this.#set("maxPreparedXacts", parameters.maxPreparedXacts);
    this.#set("maxLocksPerXact", parameters.maxLocksPerXact);
    this.#set("trackCommitTimestamp", parameters.trackCommitTimestamp);
  }

  /** `ActivateCommitTs`: timestamps are kept from the next transaction on. */
  activateCommitTs(): void {
    if (this.oldestCommitTsXid !== InvalidTransactionId) return;
    const next = xidOfFullTransactionId(this.nextXid);
    this.#set("oldestCommitTsXid", next);
    this.#set("newestCommitTsXid", next);
  }

  /** `DeactivateCommitTs`. */
  deactivateCommitTs(): void {
    this.#set("oldestCommitTsXid", InvalidTransactionId);
    this.#set("newestCommitTsXid", InvalidTransactionId);
  }

  /**
   * Remembers how far a replication origin has come, `replorigin_advance`.
   *
   * @param force The position may go back.
   * @returns Whether it moved.
   */
  advanceOrigin(originId: number, remoteLsn: bigint, force: boolean): boolean {
    const current = this.origins.get(originId);
    if (current !== undefined && (force ? current === remoteLsn : current >= remoteLsn)) return false;
    this.origins.set(originId, remoteLsn);
    return true;
  }

  /**
   * XLOG_CHECKPOINT_SHUTDOWN: nothing ran, so its counters are believed exactly.
   *
   * @param start Where the record starts.
   */
  shutdownCheckPoint(checkPoint: CheckPoint, start: Lsn): void {
    this.#believe(checkPoint);
    this.#setCheckPoint(checkPoint, start, true);
  }

  /** XLOG_CHECKPOINT_ONLINE: its counters are from when it began, so they are only lower bounds, and nextOid is none. */
  onlineCheckPoint(checkPoint: CheckPoint, start: Lsn): void {
    if (this.nextXid < checkPoint.nextXid) {
      this.nextXid = checkPoint.nextXid;
      this.#exact = false;
    }
    this.advanceNextMulti(checkPoint.nextMulti, checkPoint.nextMultiOffset);
    if (multiXactIdPrecedes(this.oldestMulti, checkPoint.oldestMulti)) {
      this.setOldestMulti(checkPoint.oldestMulti, checkPoint.oldestMultiDB);
    }
    this.advanceOldestXid(checkPoint.oldestXid, checkPoint.oldestXidDB);
    if (checkPoint.oldestActiveXid !== InvalidTransactionId) {
      this.setOldestActiveXid(checkPoint.oldestActiveXid);
    }
    this.#setCheckPoint(checkPoint, start, false);
  }

  /** Takes all counters from a checkpoint, going back too. */
  #believe(checkPoint: CheckPoint): void {
    this.nextXid = checkPoint.nextXid;
    this.nextMulti = checkPoint.nextMulti;
    this.nextMultiOffset = checkPoint.nextMultiOffset;
    this.#exact = true;
    this.#lastXid = InvalidTransactionId;
    this.changed = true;
    this.#set("nextOid", checkPoint.nextOid);
    this.#set("oldestXid", checkPoint.oldestXid);
    this.#set("oldestXidDB", checkPoint.oldestXidDB);
    this.setOldestMulti(checkPoint.oldestMulti, checkPoint.oldestMultiDB);
    this.#set("oldestCommitTsXid", checkPoint.oldestCommitTsXid);
    this.#set("newestCommitTsXid", checkPoint.newestCommitTsXid);
    this.#set("oldestActiveXid", checkPoint.oldestActiveXid);
  }

  #setCheckPoint(checkPoint: CheckPoint, start: Lsn, shutdown: boolean): void {
    this.checkPointLsn = start;
    this.redoLsn = checkPoint.redo;
    this.time = checkPoint.time;
    this.checkPointIsShutdown = shutdown;
    this.fullPageWrites = checkPoint.fullPageWrites;
    this.tli = checkPoint.tli;
    this.prevTli = checkPoint.prevTli;
    if (checkPoint.walLevel !== undefined) this.walLevel = checkPoint.walLevel;
    this.changed = true;
  }

  #set<K extends keyof this>(field: K, value: this[K]): void {
    if (this[field] === value) return;
    this[field] = value;
    this.changed = true;
  }

  /** A CheckPoint that says this state; its redo pointer and time are those of the last one. */
  toCheckPoint(): CheckPoint {
    return {
      redo: this.redoLsn,
      tli: this.tli,
      prevTli: this.prevTli,
      fullPageWrites: this.fullPageWrites,
      walLevel: this.walLevel,
      nextXid: this.nextXid,
      nextOid: this.nextOid,
      nextMulti: this.nextMulti,
      nextMultiOffset: this.nextMultiOffset,
      oldestXid: this.oldestXid,
      oldestXidDB: this.oldestXidDB,
      oldestMulti: this.oldestMulti,
      oldestMultiDB: this.oldestMultiDB,
      time: this.time,
      oldestCommitTsXid: this.oldestCommitTsXid,
      newestCommitTsXid: this.newestCommitTsXid,
      oldestActiveXid: this.oldestActiveXid,
    };
  }
}

/** The first member offset, from `offset` on, that begins a members page. */
function roundUpToMembersPage(offset: number): number {
  const rounded = Math.ceil(offset / MULTIXACT_MEMBERS_PER_PAGE) * MULTIXACT_MEMBERS_PER_PAGE;
  return rounded > 0xffffffff ? 0 : rounded; // the last page is not full: then the circle begins anew
}

/** The format that this build writes. 1: first. */
const STATE_FORMAT = 1;

/** What a field is on disk: a byte that is 0 or 1, an unsigned number of 4 or 8 bytes, a number that may be -1. */
type FieldWidth = "bool" | "u32" | "i32" | "u64";

/**
 * The stored value, in this order and without gaps: u16 format, then these, little-endian. 126 bytes. A new field is
 * added at the end, with a new format number; a value of an older format ends before it.
 */
const STORED_FIELDS: readonly (readonly [keyof ClusterState, FieldWidth])[] = [
  ["nextXid", "u64"],
  ["nextOid", "u32"],
  ["nextMulti", "u32"],
  ["nextMultiOffset", "u32"],
  ["oldestXid", "u32"],
  ["oldestXidDB", "u32"],
  ["oldestMulti", "u32"],
  ["oldestMultiDB", "u32"],
  ["oldestCommitTsXid", "u32"],
  ["newestCommitTsXid", "u32"],
  ["oldestActiveXid", "u32"],
  ["tli", "u32"],
  ["prevTli", "u32"],
  ["fullPageWrites", "bool"],
  ["checkPointLsn", "u64"],
  ["redoLsn", "u64"],
  ["time", "u64"],
  ["checkPointIsShutdown", "bool"],
  ["walLevel", "u32"],
  ["walLogHints", "bool"],
  ["maxConnections", "u32"],
  ["maxWorkerProcesses", "u32"],
  ["maxWalSenders", "u32"],
  ["maxPreparedXacts", "u32"],
  ["maxLocksPerXact", "u32"],
  ["trackCommitTimestamp", "bool"],
  ["dataChecksumVersion", "u32"],
  ["walSegmentSize", "u32"],
  ["lastOffsetsPage", "i32"],
  ["preInitializedOffsetsPage", "i32"],
];

function widthInBytes(width: FieldWidth): number {
  return width === "bool" ? 1 : width === "u64" ? 8 : 4;
}

/** Length of the value that {@linkcode encodeClusterState} makes. */
const STORED_LENGTH = STORED_FIELDS.reduce((sum, [, width]) => sum + widthInBytes(width), 2);

/** The value to store for this moment: everything as it is, the counters as {@linkcode ClusterState.bounds}. */
export function encodeClusterState(state: ClusterState): Uint8Array {
  const bytes = new Uint8Array(STORED_LENGTH);
  const bounds: Partial<ClusterState> = state.bounds();
  setU16(bytes, 0, STATE_FORMAT);
  let offset = 2;
  for (const [field, width] of STORED_FIELDS) {
    const value = Number(bounds[field] ?? state[field]);
    if (width === "bool") bytes[offset] = value;
    else if (width === "u64") setU64(bytes, offset, value);
    else setU32(bytes, offset, value);
    offset += widthInBytes(width);
  }
  return bytes;
}

/**
 * Reads a stored value. The counters of the result may be higher than they were; see the module of ClusterState.
 *
 * @throws {UnsupportedError} If a newer build wrote it.
 * @throws {CorruptionError} If it is too short or too long.
 */
export function decodeClusterState(bytes: Uint8Array): ClusterState {
  const format = bytes.length < 2 ? 0 : getU16(bytes, 0);
  if (format > STATE_FORMAT) {
    throw new UnsupportedError(
      `Cannot read a cluster state of format ${format}: this build knows up to ${STATE_FORMAT}`,
    );
  }
  if (format === 0 || bytes.length !== STORED_LENGTH) {
    throw new CorruptionError("Cannot read a cluster state", {
      expected: `${STORED_LENGTH} bytes`,
      got: bytes.length,
    });
  }
  const fields: Record<string, number | boolean> = {};
  let offset = 2;
  for (const [field, width] of STORED_FIELDS) {
    if (width === "bool") fields[field] = bytes[offset] !== 0;
    else if (width === "u64") fields[field] = getU64(bytes, offset);
    else fields[field] = width === "u32" ? getU32(bytes, offset) : getI32(bytes, offset);
    offset += widthInBytes(width);
  }
  return ClusterState.fromStored(fields as Partial<ClusterState>);
}
