/**
 * Commit and abort records cut to what one SLRU page needs of them.
 *
 * Write path, inside ingest. A record is kept once for every page that it touches; that of a transaction with a million
 * subtransactions is 4 MiB long and touches 1300 pages of pg_xact and pg_commit_ts. What redo needs on one page is the
 * status, the time, the origin and the ids on that page: a record of the same kind, which redo replays like any other.
 *
 * @module
 */
import { setU16, setU32 } from "../../bytes/little_endian.ts";
import { copyBytes } from "../redo/page_edit.ts";
import {
  type DecodedRecord,
  SizeOfXLogRecord,
  XLR_BLOCK_ID_DATA_LONG,
  XLR_BLOCK_ID_DATA_SHORT,
  XLR_BLOCK_ID_ORIGIN,
} from "../wal/record.ts";
import {
  XACT_XINFO_HAS_ORIGIN,
  XACT_XINFO_HAS_SUBXACTS,
  XACT_XINFO_HAS_TWOPHASE,
  type XactRecord,
  XLOG_XACT_HAS_INFO,
  XLOG_XACT_OPMASK,
} from "./xact_record.ts";

/** Of the header, `xl_tot_len`, `xl_xid` and `xl_prev` come first, then `xl_info` and `xl_rmid`. */
const XL_INFO_OFFSET = 16;

/**
 * A record of the same transaction with subtransactions `[first, end)` alone, and without dropped relations and
 * invalidations. Its CRC is zero: a store has its own.
 *
 * @param xact The record, taken apart.
 */
export function cutXactRecord(
  record: DecodedRecord,
  xact: XactRecord,
  first: number,
  end: number,
): Uint8Array {
  const count = end - first;
  const mainLength = 12 + (count > 0 ? 4 + count * 4 : 0) + (xact.prepared ? 4 : 0) +
    (xact.hasOrigin ? 16 : 0);
  const originLength = record.originId === 0 ? 0 : 3;
  const mainHeader = mainLength < 256 ? 2 : 5;
  const bytes = new Uint8Array(SizeOfXLogRecord + originLength + mainHeader + mainLength);
  copyBytes(bytes, 0, record.bytes, record.start, XL_INFO_OFFSET);
  setU32(bytes, 0, bytes.length);
  bytes[XL_INFO_OFFSET] = (record.info & XLOG_XACT_OPMASK) | XLOG_XACT_HAS_INFO;
  bytes[XL_INFO_OFFSET + 1] = record.rmid;
  let at = SizeOfXLogRecord;
  if (originLength > 0) {
    bytes[at] = XLR_BLOCK_ID_ORIGIN;
    setU16(bytes, at + 1, record.originId);
    at += originLength;
  }
  if (mainHeader === 2) {
    bytes[at] = XLR_BLOCK_ID_DATA_SHORT;
    bytes[at + 1] = mainLength;
  } else {
    bytes[at] = XLR_BLOCK_ID_DATA_LONG;
    setU32(bytes, at + 1, mainLength);
  }
  writeMain(bytes, at + mainHeader, record, xact, first, count);
  return bytes;
}

/** The main data; see `xact_record.ts` for its layout. */
function writeMain(
  bytes: Uint8Array,
  at: number,
  record: DecodedRecord,
  xact: XactRecord,
  first: number,
  count: number,
): void {
  const xinfo = (count > 0 ? XACT_XINFO_HAS_SUBXACTS : 0) | (xact.prepared ? XACT_XINFO_HAS_TWOPHASE : 0) |
    (xact.hasOrigin ? XACT_XINFO_HAS_ORIGIN : 0);
  copyBytes(bytes, at, record.bytes, xact.timeOffset, 8);
  setU32(bytes, at + 8, xinfo);
  at += 12;
  if (count > 0) {
    setU32(bytes, at, count);
    copyBytes(bytes, at + 4, record.bytes, xact.subxactsOffset + first * 4, count * 4);
    at += 4 + count * 4;
  }
  if (xact.prepared) {
    setU32(bytes, at, xact.xid);
    at += 4;
  }
  if (xact.hasOrigin) copyBytes(bytes, at, record.bytes, xact.originTimeOffset - 8, 16);
}
