/**
 * Effects on files as such: relations created and cut, databases, tablespaces, relation maps.
 *
 * Write path, inside ingest. Layouts, all fields 4 bytes:
 * ```
 * SMGR_CREATE             spc, db, rel, fork                                   catalog/storage_xlog.h
 * SMGR_TRUNCATE           blkno, spc, db, rel, flags
 * DBASE_CREATE(_FILE_COPY) db_id, tablespace_id, src_db_id, src_tablespace_id   commands/dbcommands_xlog.h
 * DBASE_CREATE_WAL_LOG    db_id, tablespace_id                                 15 and later
 * DBASE_DROP              db_id, ntablespaces, tablespace ids
 * TBLSPC_CREATE           ts_id, path with its terminating zero                commands/tablespace.h
 * TBLSPC_DROP             ts_id
 * RELMAP_UPDATE           dbid, tsid, nbytes, the file                         utils/relmapper.h
 * ```
 *
 * Source: `smgr_redo`, `dbase_redo`, `tblspc_redo`, `relmap_redo` of PostgreSQL 14-18.
 *
 * @module
 */
import { getU32 } from "../../bytes/little_endian.ts";
import { FSM_FORKNUM, fsmBlockCutByTruncate, fsmBlocksAfterTruncate } from "../page/free_space_map.ts";
import { INIT_FORKNUM, MAIN_FORKNUM } from "../page/masks.ts";
import {
  mapBlockCutByTruncate,
  mapBlocksAfterTruncate,
  VISIBILITYMAP_FORKNUM,
} from "../page/visibility_map.ts";
import { checkedMain, corruptRecord } from "../redo/record_checks.ts";
import { SMGR_TRUNCATE_FSM, SMGR_TRUNCATE_HEAP, SMGR_TRUNCATE_VM, XLOG_SMGR_CREATE } from "../redo/smgr.ts";
import type { DecodedRecord } from "../wal/record.ts";
import type { EffectSink } from "./effect_sink.ts";

export const XLOG_TBLSPC_CREATE = 0x00;
export const XLOG_TBLSPC_DROP = 0x10;
export const XLOG_RELMAP_UPDATE = 0x00;

/** Effects of the Storage manager's records. */
export function smgrEffects(record: DecodedRecord, sink: EffectSink): void {
  const { bytes } = record;
  if (record.opInfo === XLOG_SMGR_CREATE) {
    const offset = checkedMain(record, 16);
    const fork = getU32(bytes, offset + 12);
    if (fork > INIT_FORKNUM) throw corruptRecord(record, "impossible fork", `0..${INIT_FORKNUM}`, fork);
    return sink.createFork(getU32(bytes, offset), getU32(bytes, offset + 4), getU32(bytes, offset + 8), fork);
  }
  const offset = checkedMain(record, 20);
  const blocks = getU32(bytes, offset);
  const spc = getU32(bytes, offset + 4);
  const db = getU32(bytes, offset + 8);
  const rel = getU32(bytes, offset + 12);
  const flags = getU32(bytes, offset + 16);
  sink.createFork(spc, db, rel, MAIN_FORKNUM);
  if ((flags & SMGR_TRUNCATE_HEAP) !== 0) sink.truncateFork(spc, db, rel, MAIN_FORKNUM, blocks);
  // Of the maps, the page with the first entry that goes is either cut off or keeps the entries before; of the latter
  // the record clears the tail.
  if ((flags & SMGR_TRUNCATE_FSM) !== 0) {
    const cut = fsmBlockCutByTruncate(blocks);
    if (cut >= 0) sink.touchBlock(spc, db, rel, FSM_FORKNUM, cut);
    sink.truncateFork(spc, db, rel, FSM_FORKNUM, fsmBlocksAfterTruncate(blocks));
  }
  if ((flags & SMGR_TRUNCATE_VM) !== 0) {
    const cut = mapBlockCutByTruncate(blocks);
    if (cut >= 0) sink.touchBlock(spc, db, rel, VISIBILITYMAP_FORKNUM, cut);
    sink.truncateFork(spc, db, rel, VISIBILITYMAP_FORKNUM, mapBlocksAfterTruncate(blocks));
  }
}

/** Effects of the Database manager's records. */
export function dbaseEffects(record: DecodedRecord, sink: EffectSink): void {
  const { bytes, profile } = record;
  const op = record.opInfo;
  const offset = checkedMain(record, 8);
  const db = getU32(bytes, offset);
  if (op === profile.dbase.createFileCopy) {
    checkedMain(record, 16);
    return sink.copyDatabase(
      getU32(bytes, offset + 4),
      db,
      getU32(bytes, offset + 12),
      getU32(bytes, offset + 8),
    );
  }
  if (op === profile.dbase.createWalLog) return sink.createDatabase(getU32(bytes, offset + 4), db);
  const count = getU32(bytes, offset + 4);
  if (count > (record.mainLength - 8) / 4) {
    throw corruptRecord(
      record,
      "impossible number of tablespaces",
      `at most ${(record.mainLength - 8) / 4}`,
      count,
    );
  }
  for (let index = 0; index < count; index++) sink.dropDatabase(getU32(bytes, offset + 8 + index * 4), db);
}

/** Effects of the Tablespace manager's records. */
export function tblspcEffects(record: DecodedRecord, sink: EffectSink): void {
  const { bytes } = record;
  const offset = checkedMain(record, 4);
  const spc = getU32(bytes, offset);
  if (record.opInfo === XLOG_TBLSPC_DROP) return sink.dropTablespace(spc);
  const end = offset + record.mainLength;
  const zero = bytes.indexOf(0, offset + 4);
  if (zero < 0 || zero >= end) throw corruptRecord(record, "the path is not ended");
  sink.createTablespace(spc, new TextDecoder().decode(bytes.subarray(offset + 4, zero)));
}

/** Effects of the RelMap manager's records. */
export function relmapEffects(record: DecodedRecord, sink: EffectSink): void {
  const { bytes, profile } = record;
  const offset = checkedMain(record, 12);
  const length = getU32(bytes, offset + 8);
  if (length !== profile.relMap.fileSize || record.mainLength < 12 + length) {
    throw corruptRecord(record, "wrong size of relation map", profile.relMap.fileSize, length);
  }
  const file = bytes.slice(offset + 12, offset + 12 + length);
  sink.putRelmap(getU32(bytes, offset + 4), getU32(bytes, offset), file);
}
