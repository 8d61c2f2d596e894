/**
 * WAL segments: their sizes, numbers and file names.
 *
 * Used by archive readers and by everything that shows a segment. Pure arithmetic.
 *
 * A segment file is named by three 8-digit hexadecimal numbers: timeline, upper part, lower part, where the segment
 * number is `upper * (4 GiB / segment size) + lower`. Source: PostgreSQL src/include/access/xlog_internal.h (14-18).
 *
 * @module
 */
import { type Lsn, lsn } from "../../lsn.ts";

const MIN_SEGMENT_SIZE = 1024 * 1024;
const MAX_SEGMENT_SIZE = 1024 * 1024 * 1024;
const FOUR_GIB = 0x1_0000_0000;

/** Whether `initdb --wal-segsize` accepts it: a power of two from 1 MiB to 1 GiB. */
export function isWalSegmentSize(size: number): boolean {
  return size >= MIN_SEGMENT_SIZE && size <= MAX_SEGMENT_SIZE && Number.isInteger(Math.log2(size));
}

/** The number of the segment that holds the byte at `position`. */
export function segmentNumber(position: Lsn, walSegmentSize: number): number {
  return Math.floor(position / walSegmentSize);
}

/** Where segment `segno` starts. */
export function segmentStart(segno: number, walSegmentSize: number): Lsn {
  return lsn(segno * walSegmentSize);
}

/** The first segment boundary at or after `position`. */
export function segmentEnd(position: Lsn, walSegmentSize: number): Lsn {
  return Math.ceil(position / walSegmentSize) * walSegmentSize as Lsn;
}

/** `XLogFileName`. */
export function segmentFileName(tli: number, segno: number, walSegmentSize: number): string {
  const perUpper = FOUR_GIB / walSegmentSize;
  return [tli, Math.floor(segno / perUpper), segno % perUpper].map(hex8).join("");
}

/** What a segment's file name says, `undefined` when it is none (history files, `.partial`, other suffixes). */
export function parseSegmentFileName(
  name: string,
  walSegmentSize: number,
): { tli: number; segno: number; startLsn: Lsn } | undefined {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name);
  if (match === null) return undefined;
  const [tli, upper, lower] = match.slice(1).map((digits) => parseInt(digits, 16));
  const perUpper = FOUR_GIB / walSegmentSize;
  const segno = upper * perUpper + lower;
  if (lower >= perUpper || segno * walSegmentSize > Number.MAX_SAFE_INTEGER) return undefined;
  return { tli, segno, startLsn: segmentStart(segno, walSegmentSize) };
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, "0");
}
