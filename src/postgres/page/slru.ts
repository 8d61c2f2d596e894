/**
 * SLRU files: transaction status, multixacts, commit timestamps. Arithmetic of their pages.
 *
 * Shared by effects, redo and readers. SLRU pages have no header, no LSN and no checksum. A page number counts pages of
 * the whole SLRU; a segment is a file of up to 32 pages, named by its number in hexadecimal.
 *
 * | kind | entry | entries per page |
 * |---|---|---|
 * | xact | 2 bits per transaction | 32768 |
 * | multixact offsets | 4 bytes per multixact | 2048 |
 * | multixact members | groups of 4 flag bytes and 4 xids; 409 groups | 1636 |
 * | commit_ts | 8 bytes timestamp, 2 bytes origin | 819 |
 *
 * Source: PostgreSQL src/backend/access/transam/{slru,clog,multixact,commit_ts}.c, src/include/access/slru.h (14-18).
 * Page numbers are 64-bit in records since 17, yet cannot exceed 32 bits while ids do not; none of these four has
 * 17's long segment names.
 *
 * @module
 */
import { multiXactIdPrecedes, transactionIdPrecedes } from "../transaction_id.ts";

/** Which SLRU. Values are stable: they are part of varve's keys. */
export const SLRU_XACT = 0;
export const SLRU_MULTIXACT_OFFSETS = 1;
export const SLRU_MULTIXACT_MEMBERS = 2;
export const SLRU_COMMIT_TS = 3;

export type SlruKind = 0 | 1 | 2 | 3;

export const SLRU_KINDS: readonly SlruKind[] = [
  SLRU_XACT,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_COMMIT_TS,
];

/** Directory of each kind inside the data directory. */
export const SLRU_DIRECTORIES: readonly string[] = [
  "pg_xact",
  "pg_multixact/offsets",
  "pg_multixact/members",
  "pg_commit_ts",
];

/** `SLRU_PAGES_PER_SEGMENT`. */
export const SLRU_PAGES_PER_SEGMENT = 32;

export const CLOG_XACTS_PER_PAGE = 32768;
export const MULTIXACT_OFFSETS_PER_PAGE = 2048;
export const MULTIXACT_MEMBERS_PER_PAGE = 1636;
export const COMMIT_TS_XACTS_PER_PAGE = 819;

const ENTRIES_PER_PAGE = [
  CLOG_XACTS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  MULTIXACT_MEMBERS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
] as const;

/** Entries of a full page of this kind: xids, multixacts, members, xids. */
export function slruEntriesPerPage(kind: SlruKind): number {
  return ENTRIES_PER_PAGE[kind];
}

/** The page that holds this xid (xact, commit_ts), multixact id (offsets) or member offset (members). */
export function slruPageOf(kind: SlruKind, id: number): number {
  return Math.floor(id / ENTRIES_PER_PAGE[kind]);
}

/** The segment that holds this page. */
export function slruSegmentOf(pageno: number): number {
  return Math.floor(pageno / SLRU_PAGES_PER_SEGMENT);
}

/** The greatest page number that an id of 32 bits can reach. */
export function slruMaxPage(kind: SlruKind): number {
  return slruPageOf(kind, 0xffffffff);
}

/** The greatest segment number that an id of 32 bits can reach. */
export function slruMaxSegment(kind: SlruKind): number {
  return slruSegmentOf(slruMaxPage(kind));
}

/**
 * The kind's `PagePrecedes`: whether every entry of `page1` is older than every one of `page2`, on the circle of ids.
 * Not a total order: of two pages half the circle apart neither precedes.
 */
export function slruPagePrecedes(kind: SlruKind, page1: number, page2: number): boolean {
  const perPage = ENTRIES_PER_PAGE[kind];
  // PostgreSQL moves ids past the special ones; members have none.
  const shift = kind === SLRU_MULTIXACT_MEMBERS ? 0 : kind === SLRU_MULTIXACT_OFFSETS ? 2 : 4;
  const id1 = (page1 * perPage + shift) >>> 0;
  const id2 = (page2 * perPage + shift) >>> 0;
  const last2 = (id2 + perPage - 1) >>> 0;
  if (kind === SLRU_MULTIXACT_OFFSETS || kind === SLRU_MULTIXACT_MEMBERS) {
    return multiXactIdPrecedes(id1, id2) && multiXactIdPrecedes(id1, last2);
  }
  return transactionIdPrecedes(id1, id2) && transactionIdPrecedes(id1, last2);
}

/** `SlruMayDeleteSegment`: whether `SimpleLruTruncate(cutoffPage)` removes this segment. */
export function slruMayDeleteSegment(kind: SlruKind, segno: number, cutoffPage: number): boolean {
  const first = segno * SLRU_PAGES_PER_SEGMENT;
  return slruPagePrecedes(kind, first, cutoffPage) &&
    slruPagePrecedes(kind, first + SLRU_PAGES_PER_SEGMENT - 1, cutoffPage);
}

/**
 * Whether a segment lies in `[firstSegno, endSegno)` on the circle of segments; an empty range when both are equal.
 * `PerformMembersTruncation` removes exactly these.
 */
export function slruSegmentInRange(segno: number, firstSegno: number, endSegno: number): boolean {
  if (firstSegno <= endSegno) return segno >= firstSegno && segno < endSegno;
  return segno >= firstSegno || segno < endSegno;
}

/** `SlruFileName` without its directory: at least four hexadecimal digits, upper case. */
export function slruSegmentName(segno: number): string {
  return segno.toString(16).toUpperCase().padStart(4, "0");
}

/** The segment number of a file name, or undefined when no segment has that name. */
export function parseSlruSegmentName(name: string): number | undefined {
  if (!/^[0-9A-F]{4,6}$/.test(name)) return undefined;
  const segno = parseInt(name, 16);
  // A segment has one name only: 00000 is none.
  return slruSegmentName(segno) === name ? segno : undefined;
}

/** Kind and segment of a path relative to the data directory, or undefined when it is no segment of these SLRUs. */
export function parseSlruPath(path: string): { kind: SlruKind; segno: number } | undefined {
  const slash = path.lastIndexOf("/");
  const kind = SLRU_DIRECTORIES.indexOf(path.slice(0, slash < 0 ? 0 : slash));
  if (kind < 0) return undefined;
  const segno = parseSlruSegmentName(path.slice(slash + 1));
  if (segno === undefined || segno > slruMaxSegment(kind as SlruKind)) return undefined;
  return { kind: kind as SlruKind, segno };
}

/** The path of a segment relative to the data directory. */
export function slruSegmentPath(kind: SlruKind, segno: number): string {
  return `${SLRU_DIRECTORIES[kind]}/${slruSegmentName(segno)}`;
}
