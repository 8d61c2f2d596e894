/**
 * What a record does besides editing the pages it names: the way in.
 *
 * Write path, inside ingest. {@linkcode applyEffects} is called once for every record, in WAL order; it moves the
 * cluster's state forward and tells the sink the rest. Records of pages only (btree, gin, full-page images, ...) have
 * no effect but that of their xid. Nothing is read and nothing is replayed here.
 *
 * @module
 */
import { UnsupportedError } from "../../errors.ts";
import { formatLsn } from "../../lsn.ts";
import type { DecodedRecord } from "../wal/record.ts";
import {
  RM_CLOG_ID,
  RM_COMMIT_TS_ID,
  RM_DBASE_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_LOGICALMSG_ID,
  RM_MAX_BUILTIN_ID,
  RM_MULTIXACT_ID,
  RM_RELMAP_ID,
  RM_REPLORIGIN_ID,
  RM_SMGR_ID,
  RM_STANDBY_ID,
  RM_TBLSPC_ID,
  RM_XACT_ID,
  RM_XLOG_ID,
  rmgrName,
} from "../wal/rmgr.ts";
import { clogEffects, commitTsEffects } from "./clog.ts";
import type { ClusterState } from "./cluster_state.ts";
import { replicationOriginEffects, standbyEffects, xlogEffects } from "./control.ts";
import type { EffectSink } from "./effect_sink.ts";
import { heapVisibilityEffects } from "./heap_visibility.ts";
import { multixactEffects } from "./multixact.ts";
import { dbaseEffects, relmapEffects, smgrEffects, tblspcEffects } from "./storage.ts";
import { xactEffects } from "./xact.ts";

/**
 * Moves `state` forward and tells `sink` what else the record does.
 *
 * @throws {UnsupportedError} If the manager or its opcode is unknown, after its xid has been counted. The caller may
 * keep the record's bytes and go on: its block references are still right.
 * @throws {CorruptionError} If the record does not hold what its opcode needs.
 */
export function applyEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  if (record.xid !== 0) state.advanceNextXid(record.xid);
  if (!isKnownOpcode(record)) throw unknownOpcode(record);
  switch (record.rmid) {
    case RM_HEAP_ID:
    case RM_HEAP2_ID:
      return heapVisibilityEffects(record, sink);
    case RM_XACT_ID:
      return xactEffects(record, state, sink);
    case RM_XLOG_ID:
      return xlogEffects(record, state, sink);
    case RM_SMGR_ID:
      return smgrEffects(record, sink);
    case RM_STANDBY_ID:
      return standbyEffects(record, state);
    case RM_CLOG_ID:
      return clogEffects(record, state, sink);
    case RM_COMMIT_TS_ID:
      return commitTsEffects(record, state, sink);
    case RM_MULTIXACT_ID:
      return multixactEffects(record, state, sink);
    case RM_DBASE_ID:
      return dbaseEffects(record, sink);
    case RM_TBLSPC_ID:
      return tblspcEffects(record, sink);
    case RM_RELMAP_ID:
      return relmapEffects(record, sink);
    case RM_REPLORIGIN_ID:
      return replicationOriginEffects(record, state, sink);
  }
}

/**
 * Opcodes that PostgreSQL 14-18 have, one bit for each value of the upper half of `xl_info`. Managers not named here
 * work on pages only; whether their opcodes are known is for redo to say.
 */
const KNOWN_OPCODES: number[] = new Array(RM_MAX_BUILTIN_ID + 1).fill(0xffff);
KNOWN_OPCODES[RM_XLOG_ID] = 0x2fff; // 0x00..0xB0 and OVERWRITE_CONTRECORD 0xD0
KNOWN_OPCODES[RM_XACT_ID] = 0x7f7f; // seven opcodes; the upper bit is a flag
KNOWN_OPCODES[RM_SMGR_ID] = 0x0006;
KNOWN_OPCODES[RM_CLOG_ID] = 0x0003;
KNOWN_OPCODES[RM_TBLSPC_ID] = 0x0003;
KNOWN_OPCODES[RM_MULTIXACT_ID] = 0x000f;
KNOWN_OPCODES[RM_RELMAP_ID] = 0x0001;
KNOWN_OPCODES[RM_STANDBY_ID] = 0x0007;
KNOWN_OPCODES[RM_COMMIT_TS_ID] = 0x0003;
KNOWN_OPCODES[RM_REPLORIGIN_ID] = 0x0003;
KNOWN_OPCODES[RM_LOGICALMSG_ID] = 0x0001;
const XLOG_WITH_CHECKPOINT_REDO = 0x6fff;

/**
 * Whether all effects of such a record are known. Never so for managers that are not PostgreSQL's own.
 */
export function isKnownOpcode(record: DecodedRecord): boolean {
  const { rmid, profile } = record;
  if (rmid > RM_MAX_BUILTIN_ID) return false;
  const op = record.opInfo;
  if (rmid === RM_DBASE_ID) {
    const { createFileCopy, createWalLog, drop } = profile.dbase;
    return op === createFileCopy || op === createWalLog || op === drop;
  }
  const known = rmid === RM_XLOG_ID && profile.hasCheckpointRedo
    ? XLOG_WITH_CHECKPOINT_REDO
    : KNOWN_OPCODES[rmid];
  return ((known >>> (op >>> 4)) & 1) !== 0;
}

function unknownOpcode(record: DecodedRecord): UnsupportedError {
  return new UnsupportedError(
    `Cannot tell the effects of ${rmgrName(record.rmid)} record with info 0x${
      record.opInfo.toString(16)
    } of ` +
      `PostgreSQL ${record.profile.major} ending at LSN ${formatLsn(record.endLsn)}: unknown opcode`,
    { hint: "Pages that the record names are kept; anything else that it does is not." },
  );
}
