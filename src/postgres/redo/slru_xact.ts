/**
 * Redo of transaction records on pg_xact and pg_commit_ts pages.
 *
 * Read path, inside replay. A page of pg_xact has two bits per transaction, lowest first; one of pg_commit_ts 10 bytes:
 * the time (of the origin's commit, if there is one) and the origin's id.
 *
 * Source: PostgreSQL src/backend/access/transam/{xact,clog,commit_ts}.c (14-18): `TransactionIdSetTreeStatus`,
 * `TransactionTreeSetCommitTsData`. Passing through "subcommitted" leaves no trace and is left out.
 *
 * @module
 */
import { setU16 } from "../../bytes/little_endian.ts";
import { XactRecord } from "../effects/xact_record.ts";
import { CLOG_XACTS_PER_PAGE, COMMIT_TS_XACTS_PER_PAGE } from "../page/slru.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { copyBytes } from "./page_edit.ts";

export const TRANSACTION_STATUS_COMMITTED = 0x01;
export const TRANSACTION_STATUS_ABORTED = 0x02;

/** `SizeOfCommitTimestampEntry`. */
const SizeOfCommitTimestampEntry = 10;

// Redo is synchronous: one cursor is enough.
const xact = new XactRecord();

/** Sets the status of a transaction and its subtransactions, of those that lie on this page. */
export function redoXactStatus(page: Uint8Array, pageno: number, record: DecodedRecord): void {
  xact.parse(record);
  const status = xact.committed ? TRANSACTION_STATUS_COMMITTED : TRANSACTION_STATUS_ABORTED;
  setStatus(page, pageno, xact.xid, status);
  for (let index = 0; index < xact.nsubxacts; index++) setStatus(page, pageno, xact.subxact(index), status);
}

function setStatus(page: Uint8Array, pageno: number, xid: number, status: number): void {
  const index = xid - pageno * CLOG_XACTS_PER_PAGE;
  if (index < 0 || index >= CLOG_XACTS_PER_PAGE) return;
  const shift = (index & 3) * 2;
  page[index >>> 2] = (page[index >>> 2] & ~(3 << shift)) | (status << shift);
}

/** Sets the commit timestamp of a transaction and its subtransactions, of those that lie on this page. Aborts have none. */
export function redoCommitTimestamp(page: Uint8Array, pageno: number, record: DecodedRecord): void {
  xact.parse(record);
  if (!xact.committed) return;
  setTimestamp(page, pageno, xact.xid, record);
  for (let index = 0; index < xact.nsubxacts; index++) {
    setTimestamp(page, pageno, xact.subxact(index), record);
  }
}

function setTimestamp(page: Uint8Array, pageno: number, xid: number, record: DecodedRecord): void {
  const index = xid - pageno * COMMIT_TS_XACTS_PER_PAGE;
  if (index < 0 || index >= COMMIT_TS_XACTS_PER_PAGE) return;
  const offset = index * SizeOfCommitTimestampEntry;
  copyBytes(page, offset, record.bytes, xact.hasOrigin ? xact.originTimeOffset : xact.timeOffset, 8);
  setU16(page, offset + 8, record.originId);
}
