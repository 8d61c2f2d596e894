/**
 * Effects of records about the cluster as a whole: checkpoints, counters, parameters, running transactions, origins.
 *
 * Write path, inside ingest. Layouts:
 * ```
 * NEXTOID             oid 4                                                catalog/pg_control.h
 * CHECKPOINT_*        CheckPoint, see files/check_point.ts
 * BACKUP_END          start LSN of the backup 8
 * PARAMETER_CHANGE    MaxConnections, max_worker_processes, max_wal_senders, max_prepared_xacts,
 *                     max_locks_per_xact, wal_level, 4 each;
 *                     wal_log_hints 1, track_commit_timestamp 1            access/xlog_internal.h
 * RESTORE_POINT       rp_time 8, rp_name 64, zero-terminated               access/xlog_internal.h
 * FPW_CHANGE          full_page_writes 1
 * END_OF_RECOVERY     end_time 8, ThisTimeLineID 4, PrevTimeLineID 4, wal_level 4 (17 and later)
 * RUNNING_XACTS       xcnt, subxcnt, subxid_overflow, nextXid, oldestRunningXid, latestCompletedXid, 4 each; xids
 *                                                                          storage/standbydefs.h
 * REPLORIGIN_SET      remote_lsn 8, node_id 2, force 1                     replication/origin.h
 * REPLORIGIN_DROP     node_id 2
 * ```
 *
 * Source: `xlog_redo`, `standby_redo`, `replorigin_redo`, `CommitTsParameterChange` of PostgreSQL 14-18.
 *
 * @module
 */
import { getI64, getU16, getU32, getU64 } from "../../bytes/little_endian.ts";
import { formatLsn, type Lsn } from "../../lsn.ts";
import { parseCheckPoint, SizeOfCheckPoint } from "../files/check_point.ts";
import { SLRU_COMMIT_TS, slruPageOf } from "../page/slru.ts";
import { checkedMain, corruptRecord } from "../redo/record_checks.ts";
import { FirstNormalTransactionId, transactionIdRetreat, xidOfFullTransactionId } from "../transaction_id.ts";
import type { DecodedRecord } from "../wal/record.ts";
import type { ClusterState } from "./cluster_state.ts";
import type { EffectSink } from "./effect_sink.ts";
import { recordStartLsn } from "./record_start.ts";
import { getTimestamp } from "./xact.ts";

/** Bytes of a restore point's name. */
const MAXFNAMELEN = 64;

export const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
export const XLOG_CHECKPOINT_ONLINE = 0x10;
export const XLOG_NEXTOID = 0x30;
export const XLOG_BACKUP_END = 0x50;
export const XLOG_PARAMETER_CHANGE = 0x60;
export const XLOG_RESTORE_POINT = 0x70;
export const XLOG_FPW_CHANGE = 0x80;
export const XLOG_END_OF_RECOVERY = 0x90;

export const XLOG_RUNNING_XACTS = 0x10;

export const XLOG_REPLORIGIN_DROP = 0x10;

/** Effects of the XLOG manager's records. Opcodes not named here have none: full-page images, switches, notes. */
export function xlogEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes } = record;
  switch (record.opInfo) {
    case XLOG_CHECKPOINT_SHUTDOWN:
    case XLOG_CHECKPOINT_ONLINE:
      return checkPoint(record, state);
    case XLOG_NEXTOID:
      return state.setNextOid(getU32(bytes, checkedMain(record, 4)));
    case XLOG_BACKUP_END:
      return sink.backupEnd(lsnAt(record, checkedMain(record, 8)));
    case XLOG_PARAMETER_CHANGE:
      return parameterChange(record, state, sink);
    case XLOG_RESTORE_POINT:
      return restorePoint(record, sink);
    case XLOG_FPW_CHANGE:
      return state.setFullPageWrites(bytes[checkedMain(record, 1)] !== 0);
    case XLOG_END_OF_RECOVERY:
      return endOfRecovery(record, state);
  }
}

function checkPoint(record: DecodedRecord, state: ClusterState): void {
  const offset = checkedMain(record, SizeOfCheckPoint);
  const body = parseCheckPoint(
    record.bytes,
    offset,
    record.profile,
    `checkpoint record at ${formatLsn(record.endLsn)}`,
  );
  if (xidOfFullTransactionId(body.nextXid) < FirstNormalTransactionId) {
    throw corruptRecord(record, "no next transaction id", "a normal one", body.nextXid);
  }
  const start = recordStartLsn(record, state.walSegmentSize);
  if (record.opInfo === XLOG_CHECKPOINT_SHUTDOWN) state.shutdownCheckPoint(body, start);
  else state.onlineCheckPoint(body, start);
}

function parameterChange(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes } = record;
  const offset = checkedMain(record, 26);
  const tracked = state.trackCommitTimestamp;
  state.setParameters({
    maxConnections: getU32(bytes, offset),
    maxWorkerProcesses: getU32(bytes, offset + 4),
    maxWalSenders: getU32(bytes, offset + 8),
    maxPreparedXacts: getU32(bytes, offset + 12),
    maxLocksPerXact: getU32(bytes, offset + 16),
    walLevel: getU32(bytes, offset + 20),
    walLogHints: bytes[offset + 24] !== 0,
    trackCommitTimestamp: bytes[offset + 25] !== 0,
  });
  if (state.trackCommitTimestamp === tracked) return;
  if (tracked) {
    state.deactivateCommitTs();
    sink.clearSlru(SLRU_COMMIT_TS);
  } else {
    // ActivateCommitTs: the page for the next transaction is made without a record of its own. None exists, because
    // all were removed when tracking was off.
    state.activateCommitTs();
    sink.zeroSlruPage(SLRU_COMMIT_TS, slruPageOf(SLRU_COMMIT_TS, xidOfFullTransactionId(state.nextXid)));
  }
}

function restorePoint(record: DecodedRecord, sink: EffectSink): void {
  const { bytes } = record;
  const offset = checkedMain(record, 8 + MAXFNAMELEN);
  let end = offset + 8;
  while (end < offset + 8 + MAXFNAMELEN && bytes[end] !== 0) end++;
  sink.restorePoint(new TextDecoder().decode(bytes.slice(offset + 8, end)), getTimestamp(bytes, offset));
}

function endOfRecovery(record: DecodedRecord, state: ClusterState): void {
  const { bytes } = record;
  const hasWalLevel = record.profile.checkPointHasWalLevel;
  const offset = checkedMain(record, hasWalLevel ? 20 : 16);
  const walLevel = hasWalLevel ? getU32(bytes, offset + 16) : state.walLevel;
  state.switchTimeline(getU32(bytes, offset + 8), getU32(bytes, offset + 12), walLevel);
}

/** Effects of the Standby manager's records: of locks and invalidations none. */
export function standbyEffects(record: DecodedRecord, state: ClusterState): void {
  if (record.opInfo !== XLOG_RUNNING_XACTS) return;
  const { bytes } = record;
  const offset = checkedMain(record, 24);
  const nextXid = getU32(bytes, offset + 12);
  if (nextXid >= FirstNormalTransactionId) state.advanceNextXid(transactionIdRetreat(nextXid));
  state.setOldestActiveXid(getU32(bytes, offset + 16));
}

/** Effects of the ReplicationOrigin manager's records. */
export function replicationOriginEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes } = record;
  if (record.opInfo === XLOG_REPLORIGIN_DROP) {
    const originId = getU16(bytes, checkedMain(record, 2));
    state.origins.delete(originId);
    return sink.dropOrigin(originId);
  }
  const offset = checkedMain(record, 11);
  const originId = getU16(bytes, offset + 8);
  const remoteLsn = BigInt.asUintN(64, getI64(bytes, offset));
  if (state.advanceOrigin(originId, remoteLsn, bytes[offset + 10] !== 0)) sink.setOrigin(originId, remoteLsn);
}

function lsnAt(record: DecodedRecord, offset: number): Lsn {
  const value = getU64(record.bytes, offset);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw corruptRecord(record, "LSN is out of range", "less than 2^53", value);
  }
  return value as Lsn;
}
