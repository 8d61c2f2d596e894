/**
 * `global/pg_control`: what a cluster is, and where its recovery begins.
 *
 * Bootstrap reads it (identity, parameters, counters); restore writes one that starts the restored directory. 8192
 * bytes, of which the first 296 matter (catalog/pg_control.h 14-18, `ControlFileData`; offsets are the same in all
 * of them up to 256):
 * ```
 * offset width name
 *      0     8 system_identifier
 *      8     4 pg_control_version        1300 (14-16), 1700, 1800
 *     12     4 catalog_version_no
 *     16     4 state                     DB_*
 *     24     8 time                      seconds since 1970
 *     32     8 checkPoint                start of the last checkpoint record
 *     40    88 checkPointCopy            its body, see check_point.ts
 *    128     8 unloggedLSN
 *    136     8 minRecoveryPoint
 *    144     4 minRecoveryPointTLI
 *    152     8 backupStartPoint
 *    160     8 backupEndPoint
 *    168     1 backupEndRequired
 *    172     4 wal_level
 *    176     1 wal_log_hints
 *    180     4 MaxConnections
 *    184     4 max_worker_processes
 *    188     4 max_wal_senders
 *    192     4 max_prepared_xacts
 *    196     4 max_locks_per_xact
 *    200     1 track_commit_timestamp
 *    204     4 maxAlign                  8
 *    208     8 floatFormat               1234567.0
 *    216     4 blcksz                    8192
 *    220     4 relseg_size               blocks in a file of a relation
 *    224     4 xlog_blcksz               8192
 *    228     4 xlog_seg_size
 *    232    20 nameDataLen, indexMaxKeys, toast_max_chunk_size, loblksize, float8ByVal
 *    252     4 data_checksum_version     0 without checksums
 *    256     1 default_char_signedness   18 only
 *  256/7    32 mock_authentication_nonce
 *  288/292   4 crc                       CRC-32C of all before
 * ```
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { getI64, getU32, getU64, setU32, setU64 } from "../../bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../errors.ts";
import { type Lsn, lsn } from "../../lsn.ts";
import type { VersionProfile } from "../versions/profile.ts";
import { type CheckPoint, encodeCheckPoint, parseCheckPoint } from "./check_point.ts";

/** Path inside the data directory. */
export const CONTROL_FILE_PATH = "global/pg_control";
/** `PG_CONTROL_FILE_SIZE`. */
export const PG_CONTROL_FILE_SIZE = 8192;

/** `DBState`. */
export const DB_STARTUP = 0;
export const DB_SHUTDOWNED = 1;
export const DB_SHUTDOWNED_IN_RECOVERY = 2;
export const DB_SHUTDOWNING = 3;
export const DB_IN_CRASH_RECOVERY = 4;
export const DB_IN_ARCHIVE_RECOVERY = 5;
export const DB_IN_PRODUCTION = 6;

/** Settings that XLOG_PARAMETER_CHANGE reports and pg_control keeps. */
export interface ClusterParameters {
  /** `wal_level`: 0 minimal, 1 replica, 2 logical. */
  readonly walLevel: number;
  readonly walLogHints: boolean;
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedXacts: number;
  readonly maxLocksPerXact: number;
  readonly trackCommitTimestamp: boolean;
}

/** What pg_control says. */
export interface ControlFile extends ClusterParameters {
  /** A u64 that uses all its bits. */
  readonly systemIdentifier: bigint;
  readonly pgControlVersion: number;
  readonly catalogVersion: number;
  /** `DB_*`. */
  readonly state: number;
  /** Last update, seconds since 1970. */
  readonly time: number;
  /** Where the last checkpoint record starts. */
  readonly checkPoint: Lsn;
  readonly checkPointCopy: CheckPoint;
  readonly unloggedLsn: Lsn;
  readonly minRecoveryPoint: Lsn;
  readonly minRecoveryPointTli: number;
  readonly backupStartPoint: Lsn;
  readonly backupEndPoint: Lsn;
  readonly backupEndRequired: boolean;
  /** `BLCKSZ` of the build. */
  readonly blockSize: number;
  /** Blocks in one file of a relation, 131072 by default. */
  readonly relationSegmentBlocks: number;
  readonly walBlockSize: number;
  readonly walSegmentSize: number;
  /** 0 without checksums. */
  readonly dataChecksumVersion: number;
}

/** Where the CRC is. */
function crcOffset(profile: VersionProfile): number {
  return profile.controlFile.charSignedness ? 292 : 288;
}

/**
 * Reads pg_control.
 *
 * @param bytes The file, or at least its first 296 bytes.
 * @throws {UnsupportedError} If another major wrote it, or the build has other block sizes than 8192 or another
 * alignment than 8.
 * @throws {CorruptionError} If it is cut off or its CRC is wrong.
 */
export function parseControlFile(bytes: Uint8Array, profile: VersionProfile): ControlFile {
  const crcAt = crcOffset(profile);
  if (bytes.length < crcAt + 4) {
    throw new CorruptionError("Cannot read pg_control: cut off", {
      object: CONTROL_FILE_PATH,
      expected: `at least ${crcAt + 4} bytes`,
      got: bytes.length,
    });
  }
  const version = getU32(bytes, 8);
  if (version !== profile.controlFile.version) {
    throw new UnsupportedError(
      `Cannot read pg_control: expected version ${profile.controlFile.version} of PostgreSQL ${profile.major}, got ${version}`,
    );
  }
  const crc = crc32c(bytes, 0, crcAt);
  if (crc !== getU32(bytes, crcAt)) {
    throw new CorruptionError("Cannot read pg_control: wrong CRC", {
      object: CONTROL_FILE_PATH,
      offset: crcAt,
      expected: crc,
      got: getU32(bytes, crcAt),
    });
  }
  checkBuild(bytes);
  return {
    systemIdentifier: BigInt.asUintN(64, getI64(bytes, 0)),
    pgControlVersion: version,
    catalogVersion: getU32(bytes, 12),
    state: getU32(bytes, 16),
    time: getU64(bytes, 24),
    checkPoint: getLsn(bytes, 32),
    checkPointCopy: parseCheckPoint(bytes, 40, profile, CONTROL_FILE_PATH),
    unloggedLsn: getLsn(bytes, 128),
    minRecoveryPoint: getLsn(bytes, 136),
    minRecoveryPointTli: getU32(bytes, 144),
    backupStartPoint: getLsn(bytes, 152),
    backupEndPoint: getLsn(bytes, 160),
    backupEndRequired: bytes[168] !== 0,
    walLevel: getU32(bytes, 172),
    walLogHints: bytes[176] !== 0,
    maxConnections: getU32(bytes, 180),
    maxWorkerProcesses: getU32(bytes, 184),
    maxWalSenders: getU32(bytes, 188),
    maxPreparedXacts: getU32(bytes, 192),
    maxLocksPerXact: getU32(bytes, 196),
    trackCommitTimestamp: bytes[200] !== 0,
    blockSize: getU32(bytes, 216),
    relationSegmentBlocks: getU32(bytes, 220),
    walBlockSize: getU32(bytes, 224),
    walSegmentSize: getU32(bytes, 228),
    dataChecksumVersion: getU32(bytes, 252),
  };
}

/** What every file format here assumes of the build that wrote it. */
const BUILD_CONSTANTS: readonly (readonly [number, string, number])[] = [
  [204, "maxAlign", 8],
  [216, "BLCKSZ", 8192],
  [224, "XLOG_BLCKSZ", 8192],
];

function checkBuild(bytes: Uint8Array): void {
  for (const [offset, name, expected] of BUILD_CONSTANTS) {
    const got = getU32(bytes, offset);
    if (got !== expected) {
      throw new UnsupportedError(
        `Cannot use this cluster: its server was built with ${name} ${got}, expected ${expected}`,
      );
    }
  }
  if (getU32(bytes, 220) === 0) {
    throw new CorruptionError("Cannot read pg_control: relseg_size is 0", {
      object: CONTROL_FILE_PATH,
      offset: 220,
    });
  }
  const segmentSize = getU32(bytes, 228);
  if (segmentSize < 2 ** 20 || segmentSize > 2 ** 30 || (segmentSize & (segmentSize - 1)) !== 0) {
    throw new CorruptionError("Cannot read pg_control: impossible WAL segment size", {
      object: CONTROL_FILE_PATH,
      offset: 228,
      expected: "a power of two from 1 MiB to 1 GiB",
      got: segmentSize,
    });
  }
}

/** What {@linkcode patchControlFile} can change. */
export type ControlFilePatch = Partial<
  Pick<
    ControlFile,
    | keyof ClusterParameters
    | "state"
    | "time"
    | "checkPoint"
    | "checkPointCopy"
    | "unloggedLsn"
    | "minRecoveryPoint"
    | "minRecoveryPointTli"
    | "backupStartPoint"
    | "backupEndPoint"
    | "backupEndRequired"
  >
>;

const LSN_FIELDS = [
  ["checkPoint", 32],
  ["unloggedLsn", 128],
  ["minRecoveryPoint", 136],
  ["backupStartPoint", 152],
  ["backupEndPoint", 160],
] as const;
const U32_FIELDS = [
  ["state", 16],
  ["minRecoveryPointTli", 144],
  ["walLevel", 172],
  ["maxConnections", 180],
  ["maxWorkerProcesses", 184],
  ["maxWalSenders", 188],
  ["maxPreparedXacts", 192],
  ["maxLocksPerXact", 196],
] as const;
const BOOL_FIELDS = [["backupEndRequired", 168], ["walLogHints", 176], [
  "trackCommitTimestamp",
  200,
]] as const;

/**
 * A copy of pg_control with some fields changed and its CRC made new; everything else stays as it is.
 *
 * @throws {UnsupportedError | CorruptionError} As {@linkcode parseControlFile}, of `bytes`.
 */
export function patchControlFile(
  bytes: Uint8Array,
  patch: ControlFilePatch,
  profile: VersionProfile,
): Uint8Array {
  parseControlFile(bytes, profile);
  const file = new Uint8Array(PG_CONTROL_FILE_SIZE);
  file.set(bytes.subarray(0, PG_CONTROL_FILE_SIZE));
  if (patch.time !== undefined) setU64(file, 24, patch.time);
  if (patch.checkPointCopy !== undefined) encodeCheckPoint(file, 40, patch.checkPointCopy, profile);
  for (const [field, offset] of LSN_FIELDS) setIfGiven(patch[field], (value) => setU64(file, offset, value));
  for (const [field, offset] of U32_FIELDS) setIfGiven(patch[field], (value) => setU32(file, offset, value));
  for (const [field, offset] of BOOL_FIELDS) {
    setIfGiven(patch[field], (value) => file[offset] = value ? 1 : 0);
  }
  const crcAt = crcOffset(profile);
  setU32(file, crcAt, crc32c(file, 0, crcAt));
  return file;
}

function setIfGiven<T>(value: T | undefined, set: (value: T) => void): void {
  if (value !== undefined) set(value);
}

function getLsn(bytes: Uint8Array, offset: number): Lsn {
  const value = getU64(bytes, offset);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new CorruptionError("Cannot read pg_control: LSN out of range", {
      object: CONTROL_FILE_PATH,
      offset,
      expected: "less than 2^53",
      got: value,
    });
  }
  return lsn(value);
}
