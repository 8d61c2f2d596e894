/**
 * LSN arithmetic: byte positions in PostgreSQL's write-ahead log.
 *
 * A leaf: imported by everything, imports nothing. An {@linkcode Lsn} is a plain number (exact to 2^53,
 * 8 PiB of WAL) because bigint is 10-30x slower in loops; text `X/Y` exists only at the edges.
 *
 * Source: PostgreSQL src/include/access/xlogdefs.h, xlog_internal.h (14-18).
 *
 * @module
 */

/** A byte position in WAL, `0 <= lsn <= 2^53 - 1`. Branded so that a plain count is not taken for one. */
export type Lsn = number & { readonly __lsn: unique symbol };

/** `InvalidXLogRecPtr`: no position. */
export const INVALID_LSN: Lsn = 0 as Lsn;

/** Every record starts at a multiple of this (MAXALIGN). */
export const RECORD_ALIGNMENT = 8;
/** Size of a WAL page, `XLOG_BLCKSZ`. Builds with another size are refused at bootstrap. */
export const XLOG_BLCKSZ = 8192;
/** `SizeOfXLogShortPHD`. */
export const SIZE_OF_XLOG_SHORT_PHD = 24;
/** `SizeOfXLogLongPHD`, the header of a segment's first page. */
export const SIZE_OF_XLOG_LONG_PHD = 40;
/** 16 MiB, initdb's default. */
export const DEFAULT_WAL_SEGMENT_SIZE = 16 * 1024 * 1024;

/**
 * Makes an LSN of a number.
 *
 * @throws {RangeError} If `value` is not an integer in `[0, 2^53)`: beyond that numbers lose exactness.
 */
export function lsn(value: number): Lsn {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`Cannot use ${value} as an LSN: not an integer in [0, 2^53)`);
  }
  return value as Lsn;
}

/**
 * Makes an LSN of the two 32-bit halves in which PostgreSQL's files and messages carry it.
 *
 * @throws {RangeError} If the position is 2^53 or more.
 */
export function lsnFromHalves(high: number, low: number): Lsn {
  return lsn((high >>> 0) * 0x1_0000_0000 + (low >>> 0));
}

/** The upper 32 bits. */
export function lsnHigh(value: Lsn): number {
  return Math.floor(value / 0x1_0000_0000);
}

/** The lower 32 bits, unsigned. */
export function lsnLow(value: Lsn): number {
  return value % 0x1_0000_0000;
}

/**
 * Reads PostgreSQL's text form, for example `0/16B3748`.
 *
 * @throws {SyntaxError} If `text` is not two hexadecimal numbers of at most 8 digits around a slash.
 * @throws {RangeError} If the position is 2^53 or more.
 */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9a-fA-F]{1,8})\/([0-9a-fA-F]{1,8})$/.exec(text.trim());
  if (match === null) {
    throw new SyntaxError(`Cannot parse LSN "${text}": expected the form "X/Y" in hexadecimal`);
  }
  return lsnFromHalves(parseInt(match[1], 16), parseInt(match[2], 16));
}

/** Writes PostgreSQL's text form, upper case and without padding: `0/16B3748`. */
export function formatLsn(value: Lsn): string {
  return `${lsnHigh(value).toString(16).toUpperCase()}/${lsnLow(value).toString(16).toUpperCase()}`;
}

/** Rounds up to the next multiple of 8, where the next record may start. */
export function alignLsn(value: Lsn): Lsn {
  return value + calcPadding(value, RECORD_ALIGNMENT) as Lsn;
}

/** Bytes from `value` to the next multiple of `size`, 0 when it already is one. */
export function calcPadding(value: Lsn, size: number): number {
  return (size - value % size) % size;
}

/**
 * Moves an LSN that sits on a page boundary past that page's header; else only aligns it.
 *
 * For start points of streaming and for `pg_control`'s redo location alone. Never normalise an LSN that
 * keys a page version: record ends may legally sit on a page boundary.
 */
export function normalizeLsn(value: Lsn, walSegmentSize: number): Lsn {
  if (value % XLOG_BLCKSZ === 0) {
    return value + (value % walSegmentSize === 0 ? SIZE_OF_XLOG_LONG_PHD : SIZE_OF_XLOG_SHORT_PHD) as Lsn;
  }
  return alignLsn(value);
}
