/**
 * `CheckPoint`: the body of checkpoint records, and pg_control's copy of the last one.
 *
 * Write path (effects of checkpoint records, bootstrap) and restore. 88 bytes (catalog/pg_control.h 14-18):
 * ```
 * offset width name
 *      0     8 redo
 *      8     4 ThisTimeLineID
 *     12     4 PrevTimeLineID
 *     16     1 fullPageWrites
 *     20     4 wal_level              17 and later; zero before
 *     24     8 nextXid                epoch in the upper half
 *     32     4 nextOid
 *     36     4 nextMulti
 *     40     4 nextMultiOffset
 *     44     4 oldestXid
 *     48     4 oldestXidDB
 *     52     4 oldestMulti
 *     56     4 oldestMultiDB
 *     64     8 time                   seconds since 1970
 *     72     4 oldestCommitTsXid
 *     76     4 newestCommitTsXid
 *     80     4 oldestActiveXid
 * ```
 *
 * @module
 */
import { getU32, getU64, setU32, setU64 } from "../../bytes/little_endian.ts";
import { CorruptionError } from "../../errors.ts";
import type { Lsn } from "../../lsn.ts";
import type { VersionProfile } from "../versions/profile.ts";

/** `sizeof(CheckPoint)`. */
export const SizeOfCheckPoint = 88;

/** See the module's description. */
export interface CheckPoint {
  readonly redo: Lsn;
  readonly tli: number;
  readonly prevTli: number;
  readonly fullPageWrites: boolean;
  /** Undefined where the major does not write it (14-16). */
  readonly walLevel?: number;
  /** `epoch * 2^32 + xid`. */
  readonly nextXid: number;
  readonly nextOid: number;
  readonly nextMulti: number;
  readonly nextMultiOffset: number;
  readonly oldestXid: number;
  readonly oldestXidDB: number;
  readonly oldestMulti: number;
  readonly oldestMultiDB: number;
  /** Seconds since 1970. */
  readonly time: number;
  readonly oldestCommitTsXid: number;
  readonly newestCommitTsXid: number;
  readonly oldestActiveXid: number;
}

/**
 * Reads a CheckPoint.
 *
 * @param object The file or record that holds it, for errors.
 * @throws {CorruptionError} If fewer than 88 bytes are there, or a 64-bit field is 2^53 or more.
 */
export function parseCheckPoint(
  bytes: Uint8Array,
  offset: number,
  profile: VersionProfile,
  object: string,
): CheckPoint {
  if (offset + SizeOfCheckPoint > bytes.length) {
    throw new CorruptionError("Cannot read CheckPoint: cut off", {
      object,
      expected: SizeOfCheckPoint,
      got: bytes.length - offset,
    });
  }
  return {
    redo: safeU64(bytes, offset, "redo", object) as Lsn,
    tli: getU32(bytes, offset + 8),
    prevTli: getU32(bytes, offset + 12),
    fullPageWrites: bytes[offset + 16] !== 0,
    walLevel: profile.checkPointHasWalLevel ? getU32(bytes, offset + 20) : undefined,
    nextXid: safeU64(bytes, offset + 24, "nextXid", object),
    nextOid: getU32(bytes, offset + 32),
    nextMulti: getU32(bytes, offset + 36),
    nextMultiOffset: getU32(bytes, offset + 40),
    oldestXid: getU32(bytes, offset + 44),
    oldestXidDB: getU32(bytes, offset + 48),
    oldestMulti: getU32(bytes, offset + 52),
    oldestMultiDB: getU32(bytes, offset + 56),
    time: safeU64(bytes, offset + 64, "time", object),
    oldestCommitTsXid: getU32(bytes, offset + 72),
    newestCommitTsXid: getU32(bytes, offset + 76),
    oldestActiveXid: getU32(bytes, offset + 80),
  };
}

/** Writes a CheckPoint's 88 bytes, padding zero. */
export function encodeCheckPoint(
  bytes: Uint8Array,
  offset: number,
  checkPoint: CheckPoint,
  profile: VersionProfile,
): void {
  bytes.fill(0, offset, offset + SizeOfCheckPoint);
  setU64(bytes, offset, checkPoint.redo);
  setU32(bytes, offset + 8, checkPoint.tli);
  setU32(bytes, offset + 12, checkPoint.prevTli);
  bytes[offset + 16] = checkPoint.fullPageWrites ? 1 : 0;
  if (profile.checkPointHasWalLevel) setU32(bytes, offset + 20, checkPoint.walLevel ?? 0);
  setU64(bytes, offset + 24, checkPoint.nextXid);
  setU32(bytes, offset + 32, checkPoint.nextOid);
  setU32(bytes, offset + 36, checkPoint.nextMulti);
  setU32(bytes, offset + 40, checkPoint.nextMultiOffset);
  setU32(bytes, offset + 44, checkPoint.oldestXid);
  setU32(bytes, offset + 48, checkPoint.oldestXidDB);
  setU32(bytes, offset + 52, checkPoint.oldestMulti);
  setU32(bytes, offset + 56, checkPoint.oldestMultiDB);
  setU64(bytes, offset + 64, checkPoint.time);
  setU32(bytes, offset + 72, checkPoint.oldestCommitTsXid);
  setU32(bytes, offset + 76, checkPoint.newestCommitTsXid);
  setU32(bytes, offset + 80, checkPoint.oldestActiveXid);
}

/** A u64 that must be below 2^53: LSNs, full transaction ids, times. */
function safeU64(bytes: Uint8Array, offset: number, field: string, object: string): number {
  const value = getU64(bytes, offset);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new CorruptionError(`Cannot read CheckPoint: ${field} is out of range`, {
      object,
      expected: "less than 2^53",
      got: value,
    });
  }
  return value;
}
