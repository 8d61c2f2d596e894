/**
 * Effects of CLOG and CommitTs records: new pages, and segments that are no longer needed.
 *
 * Write path, inside ingest. Layouts, page numbers of 4 bytes until 16 and 8 from 17 on (access/clog.h, commit_ts.h):
 * ```
 * ZEROPAGE             page number
 * CLOG_TRUNCATE        page number, oldestXact 4, oldestXactDb 4
 * COMMIT_TS_TRUNCATE   page number, oldestXid 4
 * ```
 *
 * Source: PostgreSQL src/backend/access/transam/{clog,commit_ts}.c (14-18), `clog_redo`, `commit_ts_redo`.
 *
 * @module
 */
import { getU32 } from "../../bytes/little_endian.ts";
import { SLRU_COMMIT_TS, SLRU_XACT, slruPageOf, slruPagePrecedes } from "../page/slru.ts";
import { checkedMain } from "../redo/record_checks.ts";
import { xidOfFullTransactionId } from "../transaction_id.ts";
import type { DecodedRecord } from "../wal/record.ts";
import type { ClusterState } from "./cluster_state.ts";
import type { EffectSink } from "./effect_sink.ts";
import { slruPagenoOf } from "./slru_pageno.ts";

export const CLOG_ZEROPAGE = 0x00;
export const CLOG_TRUNCATE = 0x10;
export const COMMIT_TS_ZEROPAGE = 0x00;
export const COMMIT_TS_TRUNCATE = 0x10;

/** Effects of the CLOG manager's records. */
export function clogEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const pageno = slruPagenoOf(record, SLRU_XACT);
  if (record.opInfo === CLOG_ZEROPAGE) return sink.zeroSlruPage(SLRU_XACT, pageno);
  const size = record.profile.slruPagenoSize;
  const offset = checkedMain(record, size + 8) + size;
  // PostgreSQL replays only the limit for status lookups and gets oldestXid with the next checkpoint; a restored
  // cluster begins with this one, and must not think that it may look at what is removed here.
  state.advanceOldestXid(getU32(record.bytes, offset), getU32(record.bytes, offset + 4));
  // SimpleLruTruncate's guard against an apparent wrap-around.
  const latestPage = slruPageOf(SLRU_XACT, xidOfFullTransactionId(state.nextXid));
  if (!slruPagePrecedes(SLRU_XACT, latestPage, pageno)) sink.truncateSlru(SLRU_XACT, pageno);
}

/** Effects of the CommitTs manager's records. */
export function commitTsEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const pageno = slruPagenoOf(record, SLRU_COMMIT_TS);
  if (record.opInfo === COMMIT_TS_ZEROPAGE) return sink.zeroSlruPage(SLRU_COMMIT_TS, pageno);
  const size = record.profile.slruPagenoSize;
  const offset = checkedMain(record, size + 4) + size;
  state.advanceOldestCommitTsXid(getU32(record.bytes, offset));
  sink.truncateSlru(SLRU_COMMIT_TS, pageno);
}
