/**
 * The header at the start of every WAL page, read and judged.
 *
 * Write path, inside the assembler. A page header is the only thing that ties a stretch of bytes to a position, a
 * cluster and a major, so everything in it is checked, including the identity fields of a segment's first page.
 *
 * Layout (PostgreSQL src/include/access/xlog_internal.h, 14-18; little-endian):
 * ```
 *  0  2 xlp_magic     per major        2  2 xlp_info  XLP_* bits
 *  4  4 xlp_tli       timeline of the first record on the page
 *  8  8 xlp_pageaddr  LSN of the page
 * 16  4 xlp_rem_len   bytes of the record that goes on from the page before, 0 when none does
 * 20  4 (padding)     SizeOfXLogShortPHD = 24; the first page of a segment has more:
 * 24  8 xlp_sysid    32  4 xlp_seg_size    36  4 xlp_xlog_blcksz    SizeOfXLogLongPHD = 40
 * ```
 *
 * @module
 */
import { getI64, getU16, getU32, getU64 } from "../../bytes/little_endian.ts";
import { CorruptionError, MismatchError } from "../../errors.ts";
import {
  formatLsn,
  type Lsn,
  SIZE_OF_XLOG_LONG_PHD,
  SIZE_OF_XLOG_SHORT_PHD,
  XLOG_BLCKSZ,
} from "../../lsn.ts";
import { profileOfPageMagic } from "../versions/all.ts";
import type { VersionProfile } from "../versions/profile.ts";

export const XLP_FIRST_IS_CONTRECORD = 0x0001;
export const XLP_LONG_HEADER = 0x0002;
export const XLP_BKP_REMOVABLE = 0x0004;
export const XLP_FIRST_IS_OVERWRITE_CONTRECORD = 0x0008;
export const XLP_ALL_FLAGS = 0x000f;

/** What the pages of one WAL stream must have in common. */
export interface WalIdentity {
  readonly profile: VersionProfile;
  readonly walSegmentSize: number;
  /** The cluster's system identifier; unchecked when absent. */
  readonly systemId?: bigint;
}

/** Size of the header of the page at `pageLsn`. */
export function pageHeaderSize(pageLsn: Lsn, walSegmentSize: number): number {
  return pageLsn % walSegmentSize === 0 ? SIZE_OF_XLOG_LONG_PHD : SIZE_OF_XLOG_SHORT_PHD;
}

/** `xlp_info`. */
export function pageInfo(header: Uint8Array): number {
  return getU16(header, 2);
}

/** `xlp_tli`. */
export function pageTli(header: Uint8Array): number {
  return getU32(header, 4);
}

/** `xlp_rem_len`. */
export function pageRemainingLength(header: Uint8Array): number {
  return getU32(header, 16);
}

/** Whether the header is all zeros, as behind the end of WAL in a segment that has not been filled. */
export function isZeroPageHeader(header: Uint8Array, size: number): boolean {
  for (let index = 0; index < size; index++) if (header[index] !== 0) return false;
  return true;
}

/**
 * Checks everything in a page header that does not depend on the records before it.
 *
 * @param header Starts with the page's first {@linkcode pageHeaderSize} bytes.
 * @throws {MismatchError} If the page belongs to another cluster, major or segment size than expected.
 * @throws {CorruptionError} If it is no page header, or that of another page.
 */
export function checkPageHeader(header: Uint8Array, pageLsn: Lsn, identity: WalIdentity): void {
  const magic = getU16(header, 0);
  if (magic !== identity.profile.xlogPageMagic) throw wrongMagic(magic, pageLsn, identity.profile);
  const info = pageInfo(header);
  if ((info & ~XLP_ALL_FLAGS) !== 0) {
    throw new CorruptionError("Cannot decode WAL page: unknown bits in xlp_info", {
      lsn: pageLsn,
      got: hex(info),
    });
  }
  const pageAddress = getU64(header, 8);
  if (pageAddress !== pageLsn) {
    throw new CorruptionError("Cannot decode WAL page: its xlp_pageaddr is another page's", {
      lsn: pageLsn,
      expected: formatLsn(pageLsn),
      got: formatLsn(pageAddress as Lsn),
    });
  }
  const isFirst = pageLsn % identity.walSegmentSize === 0;
  if (((info & XLP_LONG_HEADER) !== 0) !== isFirst) {
    throw new MismatchError(
      `Cannot decode WAL page at LSN ${formatLsn(pageLsn)}: it ${
        isFirst ? "lacks" : "has"
      } a segment's long header, ` +
        `expected segments of ${identity.walSegmentSize} bytes`,
    );
  }
  if (isFirst) checkLongHeader(header, pageLsn, identity);
  if ((info & XLP_FIRST_IS_CONTRECORD) === 0 && pageRemainingLength(header) !== 0) {
    throw new CorruptionError("Cannot decode WAL page: xlp_rem_len without XLP_FIRST_IS_CONTRECORD", {
      lsn: pageLsn,
      expected: 0,
      got: pageRemainingLength(header),
    });
  }
}

function checkLongHeader(header: Uint8Array, pageLsn: Lsn, identity: WalIdentity): void {
  const mismatch = (field: string, expected: bigint | number, got: bigint | number) =>
    new MismatchError(
      `Cannot decode WAL segment at LSN ${
        formatLsn(pageLsn)
      }: ${field} differs, expected ${expected}, got ${got}`,
      { hint: "The WAL belongs to another cluster." },
    );
  const systemId = BigInt.asUintN(64, getI64(header, 24));
  if (identity.systemId !== undefined && systemId !== identity.systemId) {
    throw mismatch("xlp_sysid", identity.systemId, systemId);
  }
  const segmentSize = getU32(header, 32);
  if (segmentSize !== identity.walSegmentSize) {
    throw mismatch("xlp_seg_size", identity.walSegmentSize, segmentSize);
  }
  const blockSize = getU32(header, 36);
  if (blockSize !== XLOG_BLCKSZ) throw mismatch("xlp_xlog_blcksz", XLOG_BLCKSZ, blockSize);
}

function wrongMagic(magic: number, pageLsn: Lsn, profile: VersionProfile): Error {
  const other = profileOfPageMagic(magic);
  if (other !== undefined) {
    return new MismatchError(
      `Cannot decode WAL page at LSN ${formatLsn(pageLsn)}: expected PostgreSQL ${profile.major}, ` +
        `got a page of PostgreSQL ${other.major}`,
    );
  }
  return new CorruptionError("Cannot decode WAL page: wrong xlp_magic", {
    lsn: pageLsn,
    expected: hex(profile.xlogPageMagic),
    got: hex(magic),
  });
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(4, "0")}`;
}
