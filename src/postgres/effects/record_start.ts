/**
 * Where a record starts in WAL, from where it ends: page headers may lie between.
 *
 * Source: PostgreSQL src/backend/access/transam/xlog.c (14-18), `XLogRecPtrToBytePos`, `XLogBytePosToRecPtr`.
 *
 * @module
 */
import { type Lsn, SIZE_OF_XLOG_LONG_PHD, SIZE_OF_XLOG_SHORT_PHD, XLOG_BLCKSZ } from "../../lsn.ts";
import type { DecodedRecord } from "../wal/record.ts";

const USABLE_PAGE = XLOG_BLCKSZ - SIZE_OF_XLOG_SHORT_PHD;
/** What a segment's first page holds less than any other one. */
const LONG_HEADER_EXTRA = SIZE_OF_XLOG_LONG_PHD - SIZE_OF_XLOG_SHORT_PHD;

/** The LSN of the record's first byte (`ReadRecPtr`). Not for XLOG_SWITCH, whose end is that of its segment. */
export function recordStartLsn(record: DecodedRecord, walSegmentSize: number): Lsn {
  const usableSegment = walSegmentSize / XLOG_BLCKSZ * USABLE_PAGE - LONG_HEADER_EXTRA;
  const aligned = Math.ceil(record.totalLength / 8) * 8;
  return lsnOfBytePosition(
    bytePosition(record.endLsn, walSegmentSize, usableSegment) - aligned,
    walSegmentSize,
    usableSegment,
  );
}

/** How many bytes of records precede an LSN: its distance from 0 without page headers. */
function bytePosition(lsn: Lsn, walSegmentSize: number, usableSegment: number): number {
  const segment = Math.floor(lsn / walSegmentSize);
  const inSegment = lsn % walSegmentSize;
  const page = Math.floor(inSegment / XLOG_BLCKSZ);
  const inPage = inSegment % XLOG_BLCKSZ;
  let position = segment * usableSegment;
  if (page > 0) position += page * USABLE_PAGE - LONG_HEADER_EXTRA;
  // An end on a page boundary lies before that page's header.
  if (inPage > 0) position += inPage - (page === 0 ? SIZE_OF_XLOG_LONG_PHD : SIZE_OF_XLOG_SHORT_PHD);
  return position;
}

function lsnOfBytePosition(position: number, walSegmentSize: number, usableSegment: number): Lsn {
  const segment = Math.floor(position / usableSegment);
  let left = position % usableSegment;
  let lsn = segment * walSegmentSize;
  if (left < USABLE_PAGE - LONG_HEADER_EXTRA) return lsn + SIZE_OF_XLOG_LONG_PHD + left as Lsn;
  left -= USABLE_PAGE - LONG_HEADER_EXTRA;
  lsn += XLOG_BLCKSZ + Math.floor(left / USABLE_PAGE) * XLOG_BLCKSZ;
  return lsn + SIZE_OF_XLOG_SHORT_PHD + left % USABLE_PAGE as Lsn;
}
