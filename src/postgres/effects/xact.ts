/**
 * Effects of transaction records: status bits, commit timestamps, dropped relations, prepared transactions, origins.
 *
 * Write path, inside ingest; `redo/slru_xact.ts` sets the bits when a page is read.
 *
 * Source: PostgreSQL src/backend/access/transam/{xact,twophase}.c (14-18), `xact_redo`, `PrepareRedoAdd`.
 *
 * @module
 */
import { getI32, getU32 } from "../../bytes/little_endian.ts";
import { formatLsn } from "../../lsn.ts";
import { parseTwoPhaseState } from "../files/two_phase.ts";
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  SLRU_COMMIT_TS,
  SLRU_XACT,
  type SlruKind,
} from "../page/slru.ts";
import { corruptRecord } from "../redo/record_checks.ts";
import { FirstNormalTransactionId, fullTransactionIdBefore } from "../transaction_id.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { rmgrName } from "../wal/rmgr.ts";
import type { ClusterState } from "./cluster_state.ts";
import type { EffectSink } from "./effect_sink.ts";
import { cutXactRecord } from "./xact_cut.ts";
import {
  XactRecord,
  XLOG_XACT_ABORT,
  XLOG_XACT_ABORT_PREPARED,
  XLOG_XACT_COMMIT,
  XLOG_XACT_COMMIT_PREPARED,
  XLOG_XACT_OPMASK,
  XLOG_XACT_PREPARE,
} from "./xact_record.ts";

/** `DoNotReplicateId`: an origin whose progress is not kept. */
const DoNotReplicateId = 0xffff;

/** Records longer than this (many subtransactions, dropped relations, invalidations) are cut to what a page needs. */
const CUT_ABOVE = 256;

// Effects are synchronous and never re-entered: one cursor is enough.
const xact = new XactRecord();

/** Effects of the Transaction manager's records. Assignments and invalidations have none. */
export function xactEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  switch (record.info & XLOG_XACT_OPMASK) {
    case XLOG_XACT_COMMIT:
    case XLOG_XACT_COMMIT_PREPARED:
    case XLOG_XACT_ABORT:
    case XLOG_XACT_ABORT_PREPARED:
      return endOfTransaction(record, state, sink);
    case XLOG_XACT_PREPARE:
      return prepare(record, state, sink);
  }
}

function endOfTransaction(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes } = record;
  xact.parse(record);
  if (xact.xid < FirstNormalTransactionId) {
    throw corruptRecord(record, "no transaction id", "a normal one", xact.xid);
  }
  state.advanceNextXid(xact.xid);
  for (let index = 0; index < xact.nsubxacts; index++) state.advanceNextXid(xact.subxact(index));
  touchPages(record, SLRU_XACT, CLOG_XACTS_PER_PAGE, sink);
  if (xact.committed && state.trackCommitTimestamp) {
    touchPages(record, SLRU_COMMIT_TS, COMMIT_TS_XACTS_PER_PAGE, sink);
    state.advanceNewestCommitTsXid(xact.nsubxacts > 0 ? xact.subxact(xact.nsubxacts - 1) : xact.xid);
  }
  for (let offset = xact.relsOffset, left = xact.nrels; left > 0; left--, offset += 12) {
    sink.dropRelation(getU32(bytes, offset), getU32(bytes, offset + 4), getU32(bytes, offset + 8));
  }
  if (xact.hasOrigin) originProgress(record.originId, xact.originLsn, state, sink);
  if (xact.prepared) sink.dropTwoPhase(fullTransactionIdBefore(state.nextXid, xact.xid));
  sink.transactionEnd(xact.committed, getTimestamp(bytes, xact.timeOffset), xact.xid);
}

/**
 * Names every page that holds the transaction or one of its subtransactions. Those are in ascending order, so that
 * they come in runs, one for each page; the transaction itself is older and lies on the first.
 */
function touchPages(record: DecodedRecord, kind: SlruKind, perPage: number, sink: EffectSink): void {
  const cuts = record.totalLength > CUT_ABOVE && xact.hasAscendingSubxacts();
  let pageno = Math.floor(xact.xid / perPage);
  let first = 0;
  for (let index = 0; index < xact.nsubxacts; index++) {
    const next = Math.floor(xact.subxact(index) / perPage);
    if (next === pageno) continue;
    sink.touchSlruPage(kind, pageno, cuts ? cutXactRecord(record, xact, first, index) : undefined);
    pageno = next;
    first = index;
  }
  sink.touchSlruPage(kind, pageno, cuts ? cutXactRecord(record, xact, first, xact.nsubxacts) : undefined);
}

function prepare(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes, mainOffset, mainLength } = record;
  const prepared = parseTwoPhaseState(bytes, record.profile, recordName(record), mainOffset, mainLength);
  if (prepared.xid < FirstNormalTransactionId) {
    throw corruptRecord(record, "no transaction id", "a normal one", prepared.xid);
  }
  state.advanceNextXid(prepared.xid);
  for (const subxid of prepared.subxids) state.advanceNextXid(subxid);
  const fullXid = fullTransactionIdBefore(state.nextXid, prepared.xid);
  sink.putTwoPhase(fullXid, bytes.slice(mainOffset, mainOffset + mainLength));
  if (record.originId !== 0) originProgress(record.originId, prepared.originLsn, state, sink);
}

/** Names a record where an error expects a file's name. */
function recordName(record: DecodedRecord): string {
  return `${rmgrName(record.rmid)} record ending at LSN ${formatLsn(record.endLsn)}`;
}

function originProgress(originId: number, remoteLsn: bigint, state: ClusterState, sink: EffectSink): void {
  if (originId === 0 || originId === DoNotReplicateId) return;
  if (state.advanceOrigin(originId, remoteLsn, false)) sink.setOrigin(originId, remoteLsn);
}

/** A TimestampTz as a number; exact for 285 years around 2000. */
export function getTimestamp(bytes: Uint8Array, offset: number): number {
  return getI32(bytes, offset + 4) * 0x1_0000_0000 + getU32(bytes, offset);
}
