/**
 * State files of prepared transactions: `pg_twophase/<xid>`.
 *
 * A PREPARE record's main data is the file's content; on disk a CRC-32C of it follows. varve stores the content alone,
 * bootstrap takes the CRC off, restore puts it back. Header of the content (access/xact.h `xl_xact_prepare`):
 * ```
 * offset width name
 *      0     4 magic            0x57F94534
 *      4     4 total_len        of the file: content and CRC
 *      8     4 xid
 *     12     4 database
 *     16     8 prepared_at      microseconds since 2000-01-01
 *     24     4 owner
 *     28     4 nsubxacts
 *     32     8 ncommitrels, nabortrels
 *     40     8 ncommitstats, nabortstats    15 and later; what follows moves up by 8 in 14
 *     48     4 ninvalmsgs
 *     52     1 initfileinval
 *     54     2 gidlen           with its terminating zero
 *     56     8 origin_lsn
 *     64     8 origin_timestamp
 *     72     . gid, padded to 8; subxids, 4 each; ...
 * ```
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { getI64, getU16, getU32, setU32 } from "../../bytes/little_endian.ts";
import { CorruptionError } from "../../errors.ts";
import { fullTransactionIdBefore, xidOfFullTransactionId } from "../transaction_id.ts";
import type { VersionProfile } from "../versions/profile.ts";

export const TWOPHASE_DIR = "pg_twophase";
const TWOPHASE_MAGIC = 0x57f94534;
const SizeOfCrc = 4;

/** Header of a prepared transaction's state. */
export interface TwoPhaseState {
  readonly xid: number;
  readonly gid: string;
  readonly database: number;
  /** Oid of the role that prepared it. */
  readonly owner: number;
  /** Microseconds since 2000-01-01 UTC. */
  readonly preparedAt: bigint;
  readonly subxids: readonly number[];
  /** Position of the origin's transaction; 0 without one. */
  readonly originLsn: bigint;
}

/** Where the fields after the counters are. */
function headerTail(profile: VersionProfile): number {
  return profile.twoPhase.hasStats ? 48 : 40;
}

/** `MAXALIGN(sizeof(xl_xact_prepare))`. */
function headerSize(profile: VersionProfile): number {
  return headerTail(profile) + 24;
}

/**
 * Reads the state of a prepared transaction: a file's content without CRC, or the main data of a PREPARE record.
 *
 * @param start Where it starts in `bytes`; it is `length` long.
 * @param object Its path or the like, for errors.
 * @throws {CorruptionError} If magic or lengths are wrong.
 */
export function parseTwoPhaseState(
  bytes: Uint8Array,
  profile: VersionProfile,
  object = TWOPHASE_DIR,
  start = 0,
  length: number = bytes.length - start,
): TwoPhaseState {
  const fail = (what: string, expected: string | number, got: number) =>
    new CorruptionError(`Cannot read prepared transaction: ${what}`, { object, expected, got });
  const gidOffset = start + headerSize(profile);
  const end = start + length;
  if (end > bytes.length || gidOffset > end) throw fail("header is cut off", headerSize(profile), length);
  if (getU32(bytes, start) !== TWOPHASE_MAGIC) {
    throw fail("wrong magic", TWOPHASE_MAGIC, getU32(bytes, start));
  }
  const totalLength = getU32(bytes, start + 4);
  if (totalLength !== length + SizeOfCrc) throw fail("wrong length", length + SizeOfCrc, totalLength);
  const tail = start + headerTail(profile);
  const gidLength = getU16(bytes, tail + 6);
  const count = getU32(bytes, start + 28);
  const subxidsOffset = gidOffset + Math.ceil(gidLength / 8) * 8;
  if (gidLength === 0 || subxidsOffset + count * 4 > end) {
    throw fail("gid and subtransactions are cut off", subxidsOffset + count * 4 - start, length);
  }
  const subxids: number[] = [];
  for (let index = 0; index < count; index++) subxids.push(getU32(bytes, subxidsOffset + index * 4));
  return {
    xid: getU32(bytes, start + 8),
    gid: new TextDecoder().decode(bytes.subarray(gidOffset, gidOffset + gidLength - 1)),
    database: getU32(bytes, start + 12),
    owner: getU32(bytes, start + 24),
    preparedAt: getI64(bytes, start + 16),
    subxids,
    originLsn: BigInt.asUintN(64, getI64(bytes, tail + 8)),
  };
}

/**
 * Takes the CRC off a file of pg_twophase.
 *
 * @returns A view of the content.
 * @throws {CorruptionError} If the file is too short, its length is not the one it names, or its CRC is wrong.
 */
export function decodeTwoPhaseFile(
  file: Uint8Array,
  profile: VersionProfile,
  object = TWOPHASE_DIR,
): Uint8Array {
  const crcOffset = file.length - SizeOfCrc;
  if (crcOffset < headerSize(profile) || crcOffset % 8 !== 0) {
    throw new CorruptionError("Cannot read prepared transaction: impossible file size", {
      object,
      got: file.length,
    });
  }
  const crc = crc32c(file, 0, crcOffset);
  if (crc !== getU32(file, crcOffset)) {
    throw new CorruptionError("Cannot read prepared transaction: wrong CRC", {
      object,
      offset: crcOffset,
      expected: crc,
      got: getU32(file, crcOffset),
    });
  }
  const content = file.subarray(0, crcOffset);
  parseTwoPhaseState(content, profile, object);
  return content;
}

/** The file that holds this content: the content and its CRC. */
export function encodeTwoPhaseFile(content: Uint8Array): Uint8Array {
  const file = new Uint8Array(content.length + SizeOfCrc);
  file.set(content);
  setU32(file, content.length, crc32c(content));
  return file;
}

/** The file's name: the xid in 8 hexadecimal digits until 16, epoch and xid in 16 from 17 on. */
export function twoPhaseFileName(fullXid: number, profile: VersionProfile): string {
  const digits = profile.twoPhase.fileNameDigits;
  const id = digits === 8 ? xidOfFullTransactionId(fullXid) : fullXid;
  return id.toString(16).toUpperCase().padStart(digits, "0");
}

/**
 * The full transaction id that a file name stands for, or undefined when it is no such name.
 *
 * @param nextXid The cluster's next full xid, from which names without an epoch (until 16) get theirs.
 */
export function parseTwoPhaseFileName(
  name: string,
  nextXid: number,
  profile: VersionProfile,
): number | undefined {
  const digits = profile.twoPhase.fileNameDigits;
  if (name.length !== digits || !/^[0-9A-F]+$/.test(name)) return undefined;
  const id = parseInt(name, 16);
  if (id > Number.MAX_SAFE_INTEGER) return undefined;
  return digits === 8 ? fullTransactionIdBefore(nextXid, id) : id;
}
