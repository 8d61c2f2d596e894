/**
 * Names of record types, exactly as PostgreSQL's `rm_identify` and so pg_waldump and pg_walinspect print them; and whole
 * records on a line.
 *
 * For people: waldump, statistics, error messages, the verification report. Never on a hot path.
 *
 * Source: PostgreSQL src/backend/access/rmgrdesc/*.c (14-18). Opcodes that moved or changed their name between majors
 * are asked of the profile.
 *
 * @module
 */
import { formatLsn } from "../../lsn.ts";
import type { VersionProfile } from "../versions/profile.ts";
import { describeBlockChange } from "./describe_blocks.ts";
import type { DecodedRecord } from "./record.ts";
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_CLOG_ID,
  RM_COMMIT_TS_ID,
  RM_DBASE_ID,
  RM_GENERIC_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_LOGICALMSG_ID,
  RM_MULTIXACT_ID,
  RM_RELMAP_ID,
  RM_REPLORIGIN_ID,
  RM_SEQ_ID,
  RM_SMGR_ID,
  RM_SPGIST_ID,
  RM_STANDBY_ID,
  RM_TBLSPC_ID,
  RM_XACT_ID,
  RM_XLOG_ID,
  rmgrName,
} from "./rmgr.ts";

/** By the upper four bits of `xl_info`; holes are unknown opcodes. */
type Names = readonly (string | undefined)[];

const NAMES: (Names | undefined)[] = [];
NAMES[RM_XLOG_ID] = [
  "CHECKPOINT_SHUTDOWN",
  "CHECKPOINT_ONLINE",
  "NOOP",
  "NEXTOID",
  "SWITCH",
  "BACKUP_END",
  "PARAMETER_CHANGE",
  "RESTORE_POINT",
  "FPW_CHANGE",
  "END_OF_RECOVERY",
  "FPI_FOR_HINT",
  "FPI",
  undefined,
  "OVERWRITE_CONTRECORD",
];
// The opcode has three bits; the fourth is XLOG_XACT_HAS_INFO.
NAMES[RM_XACT_ID] = withFlag(
  [
    "COMMIT",
    "PREPARE",
    "ABORT",
    "COMMIT_PREPARED",
    "ABORT_PREPARED",
    "ASSIGNMENT",
    "INVALIDATION",
    undefined,
  ],
  "",
);
NAMES[RM_SMGR_ID] = [undefined, "CREATE", "TRUNCATE"];
NAMES[RM_CLOG_ID] = ["ZEROPAGE", "TRUNCATE"];
NAMES[RM_TBLSPC_ID] = ["CREATE", "DROP"];
NAMES[RM_MULTIXACT_ID] = ["ZERO_OFF_PAGE", "ZERO_MEM_PAGE", "CREATE_ID", "TRUNCATE_ID"];
NAMES[RM_RELMAP_ID] = ["UPDATE"];
NAMES[RM_STANDBY_ID] = ["LOCK", "RUNNING_XACTS", "INVALIDATIONS"];
NAMES[RM_HEAP_ID] = [
  ...["INSERT", "DELETE", "UPDATE", "TRUNCATE", "HOT_UPDATE", "HEAP_CONFIRM", "LOCK", "INPLACE"],
  ...["INSERT+INIT", undefined, "UPDATE+INIT", undefined, "HOT_UPDATE+INIT"],
];
NAMES[RM_BTREE_ID] = [
  ...["INSERT_LEAF", "INSERT_UPPER", "INSERT_META", "SPLIT_L", "SPLIT_R", "INSERT_POST", "DEDUP", "DELETE"],
  ...[
    "UNLINK_PAGE",
    "UNLINK_PAGE_META",
    "NEWROOT",
    "MARK_PAGE_HALFDEAD",
    "VACUUM",
    "REUSE_PAGE",
    "META_CLEANUP",
  ],
];
NAMES[RM_HASH_ID] = [
  ...["INIT_META_PAGE", "INIT_BITMAP_PAGE", "INSERT", "ADD_OVFL_PAGE", "SPLIT_ALLOCATE_PAGE", "SPLIT_PAGE"],
  ...["SPLIT_COMPLETE", "MOVE_PAGE_CONTENTS", "SQUEEZE_PAGE", "DELETE", "SPLIT_CLEANUP", "UPDATE_META_PAGE"],
  "VACUUM_ONE_PAGE",
];
NAMES[RM_GIN_ID] = [
  ...[undefined, "CREATE_PTREE", "INSERT", "SPLIT", "VACUUM_PAGE", "DELETE_PAGE", "UPDATE_META_PAGE"],
  ...["INSERT_LISTPAGE", "DELETE_LISTPAGE", "VACUUM_DATA_LEAF_PAGE"],
];
NAMES[RM_GIST_ID] = [
  ...["PAGE_UPDATE", "DELETE", "PAGE_REUSE", "PAGE_SPLIT", undefined, undefined, "PAGE_DELETE", "ASSIGN_LSN"],
];
NAMES[RM_SEQ_ID] = ["LOG"];
NAMES[RM_SPGIST_ID] = [
  ...[
    undefined,
    "ADD_LEAF",
    "MOVE_LEAFS",
    "ADD_NODE",
    "SPLIT_TUPLE",
    "PICKSPLIT",
    "VACUUM_LEAF",
    "VACUUM_ROOT",
  ],
  "VACUUM_REDIRECT",
];
NAMES[RM_BRIN_ID] = [
  ...[
    "CREATE_INDEX",
    "INSERT",
    "UPDATE",
    "SAMEPAGE_UPDATE",
    "REVMAP_EXTEND",
    "DESUMMARIZE",
    undefined,
    undefined,
  ],
  ...[undefined, "INSERT+INIT", "UPDATE+INIT"],
];
NAMES[RM_COMMIT_TS_ID] = ["ZEROPAGE", "TRUNCATE"];
NAMES[RM_REPLORIGIN_ID] = ["SET", "DROP"];
NAMES[RM_GENERIC_ID] = new Array(16).fill("Generic");
NAMES[RM_LOGICALMSG_ID] = ["MESSAGE"];

const HEAP2_UNTIL_16: Names = [
  ...["REWRITE", "PRUNE", "VACUUM", "FREEZE_PAGE", "VISIBLE", "MULTI_INSERT", "LOCK_UPDATED", "NEW_CID"],
  ...[undefined, undefined, undefined, undefined, undefined, "MULTI_INSERT+INIT"],
];
const HEAP2_FROM_17: Names = [
  ...["REWRITE", "PRUNE_ON_ACCESS", "PRUNE_VACUUM_SCAN", "PRUNE_VACUUM_CLEANUP"],
  ...HEAP2_UNTIL_16.slice(4),
];

function withFlag(names: Names, suffix: string): Names {
  return [...names, ...names.map((name) => name === undefined ? undefined : name + suffix)];
}

/**
 * `rm_identify`: the record type's name within its manager, for example `INSERT+INIT`; `UNKNOWN (f0)` where PostgreSQL
 * has none.
 *
 * @param info `xl_info`; the four low bits do not count.
 */
export function recordTypeName(profile: VersionProfile, rmid: number, info: number): string {
  return identify(profile, rmid, info >> 4 & 15) ?? `UNKNOWN (${(info & 0xf0).toString(16)})`;
}

function identify(profile: VersionProfile, rmid: number, opcode: number): string | undefined {
  if (rmid === RM_HEAP2_ID) return (profile.heapPrune === "v17" ? HEAP2_FROM_17 : HEAP2_UNTIL_16)[opcode];
  if (rmid === RM_DBASE_ID) {
    const { createFileCopy, createWalLog, drop } = profile.dbase;
    if (opcode << 4 === createFileCopy) return createWalLog < 0 ? "CREATE" : "CREATE_FILE_COPY";
    if (opcode << 4 === createWalLog) return "CREATE_WAL_LOG";
    return opcode << 4 === drop ? "DROP" : undefined;
  }
  if (rmid === RM_XLOG_ID && opcode === 0x0e && profile.hasCheckpointRedo) return "CHECKPOINT_REDO";
  return NAMES[rmid]?.[opcode];
}

/** The full name as pg_waldump's statistics have it: `Heap/INSERT+INIT`. */
export function fullRecordTypeName(profile: VersionProfile, rmid: number, info: number): string {
  return `${rmgrName(rmid)}/${recordTypeName(profile, rmid, info)}`;
}

const FORK_SUFFIXES = ["", "_fsm", "_vm", "_init"];

/** A block reference as `1663/5/16384_vm blk 0`. */
export function describeBlock(record: DecodedRecord, index: number): string {
  const fork = FORK_SUFFIXES[record.blockFork[index]] ?? `_fork${record.blockFork[index]}`;
  return `${record.blockSpc[index]}/${record.blockDb[index]}/${record.blockRel[index]}${fork} blk ${
    record.blockNumber[index]
  }`;
}

/** One line about a record: type, end, transaction, lengths, blocks and what comes with each. */
export function describeRecord(record: DecodedRecord): string {
  const parts = [
    `${fullRecordTypeName(record.profile, record.rmid, record.info)} end ${formatLsn(record.endLsn)}`,
    `xid ${record.xid}`,
    `info 0x${record.info.toString(16)}`,
    `main ${record.mainLength}`,
  ];
  for (let index = 0; index < record.blockCount; index++) {
    const extras = [`data ${record.dataLength[index]}`];
    if (record.willInit(index)) extras.push("init");
    if (record.hasImage(index)) {
      extras.push(`${record.imageApplies(index) ? "image" : "check image"} ${record.imageLength[index]}`);
    }
    const change = describeBlockChange(record, index);
    const what = change === "" ? "" : `: ${change}`;
    parts.push(`blk#${record.blockId[index]} ${describeBlock(record, index)} (${extras.join(", ")})${what}`);
  }
  return parts.join("; ");
}
