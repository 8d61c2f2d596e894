/**
 * Restore, 3 of 3: the files that make a heap of relation files a cluster: pg_control, WAL, prepared transactions.
 *
 * Pure. A `primary` is made to look as after a clean shutdown: pg_control says so and names a checkpoint record that is
 * the last one in pg_wal (made_wal.ts), so that nothing is replayed. Counters come from the cluster state at the LSN.
 * A `standby` is made to look like one that was stopped: its recovery begins at the primary's last checkpoint before the
 * LSN, over pages that have most of it already, and is consistent from the LSN on.
 *
 * @module
 */
import { UnsupportedError } from "../errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../lsn.ts";
import {
  CONTROL_FILE_PATH,
  DB_SHUTDOWNED,
  DB_SHUTDOWNED_IN_RECOVERY,
  patchControlFile,
} from "../postgres/files/control_file.ts";
import {
  encodeReplicationOrigins,
  REPLORIGIN_CHECKPOINT_PATH,
} from "../postgres/files/replication_origins.ts";
import { timelineHistoryFileName } from "../postgres/files/timeline_history.ts";
import { encodeTwoPhaseFile, TWOPHASE_DIR, twoPhaseFileName } from "../postgres/files/two_phase.ts";
import { InvalidTransactionId } from "../postgres/transaction_id.ts";
import { type MadeSegment, makeShutdownWal } from "./made_wal.ts";
import type { RestoreRole } from "./options.ts";
import type { PlannedFile, RestorePlan } from "./plan.ts";

/** `FirstNormalUnloggedLSN`: unlogged relations are as new. */
const FIRST_UNLOGGED_LSN = 1000 as Lsn;

/** Directories that every cluster has, parents first; PostgreSQL does not make them itself. */
const DIRECTORIES: readonly string[] = [
  "base",
  "global",
  "pg_commit_ts",
  "pg_dynshmem",
  "pg_logical",
  "pg_logical/mappings",
  "pg_logical/snapshots",
  "pg_multixact",
  "pg_multixact/members",
  "pg_multixact/offsets",
  "pg_notify",
  "pg_replslot",
  "pg_serial",
  "pg_snapshots",
  "pg_stat",
  "pg_stat_tmp",
  "pg_subtrans",
  "pg_tblspc",
  "pg_twophase",
  "pg_wal",
  "pg_wal/archive_status",
  "pg_xact",
];

/** As {@linkcode DIRECTORIES}, of the major. */
export function clusterDirectories(major: number): readonly string[] {
  return major >= 17 ? [...DIRECTORIES, "pg_wal/summaries"] : DIRECTORIES;
}

export interface ClusterFilesOptions {
  readonly role: RestoreRole;
  /** Timeline number of the restored cluster; that of the plan's state: its own goes on. */
  readonly tli: number;
  readonly walSegmentSize: number;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/** See the module's description. */
export interface ClusterFiles {
  readonly files: readonly PlannedFile[];
  readonly segments: readonly MadeSegment[];
  /** Goes last: without it nothing starts. */
  readonly control: PlannedFile;
  readonly checkPointLsn: Lsn;
}

/** Makes them. */
export function clusterFiles(plan: RestorePlan, options: ClusterFilesOptions): ClusterFiles {
  const shared = [
    ...withPreparedSetting(plan),
    ...preparedFiles(plan),
    ...originFiles(plan),
    ...missingConfiguration(plan),
  ];
  return options.role === "primary" ? asPrimary(plan, shared, options) : asStandby(plan, shared, options);
}

function asPrimary(plan: RestorePlan, shared: PlannedFile[], options: ClusterFilesOptions): ClusterFiles {
  const { state, lsn, profile, control } = plan;
  const { tli, walSegmentSize, nowMs } = options;
  const time = Math.floor(nowMs / 1000);
  const isNew = tli !== state.tli;
  const wal = makeShutdownWal({
    profile,
    systemId: control.systemIdentifier,
    walSegmentSize,
    tli,
    lsn,
    previousRecord: state.checkPointLsn,
    checkPoint: {
      ...state.toCheckPoint(),
      tli,
      prevTli: tli,
      time,
      // Nothing runs after a shutdown but what is prepared, which PostgreSQL finds in pg_twophase.
      oldestActiveXid: InvalidTransactionId,
    },
    fromLsn: isNew,
  });
  const patched = patchControlFile(plan.controlBytes, {
    ...parameters(plan),
    state: DB_SHUTDOWNED,
    time,
    checkPoint: wal.checkPointLsn,
    checkPointCopy: wal.checkPoint,
    unloggedLsn: FIRST_UNLOGGED_LSN,
    minRecoveryPoint: INVALID_LSN,
    minRecoveryPointTli: 0,
    backupStartPoint: INVALID_LSN,
    backupEndPoint: INVALID_LSN,
    backupEndRequired: false,
  }, profile);
  return {
    files: isNew ? [...shared, ...historyFiles(tli, state.tli, lsn)] : shared,
    segments: wal.segments,
    control: { path: CONTROL_FILE_PATH, bytes: patched },
    checkPointLsn: wal.checkPointLsn,
  };
}

/** The timeline's history, and the mark that says it is to be archived. */
function historyFiles(tli: number, parent: number, lsn: Lsn): PlannedFile[] {
  const name = timelineHistoryFileName(tli);
  const text = `${parent}\t${formatLsn(lsn)}\trestored by varve\n`;
  return [
    { path: `pg_wal/${name}`, bytes: new TextEncoder().encode(text) },
    { path: `pg_wal/archive_status/${name}.ready`, bytes: new Uint8Array(0) },
  ];
}

function asStandby(plan: RestorePlan, shared: PlannedFile[], options: ClusterFilesOptions): ClusterFiles {
  const { state, lsn, profile } = plan;
  if (options.tli !== state.tli) {
    throw new UnsupportedError("Cannot restore a standby on a timeline number of its own", {
      hint: "It goes on with the primary's WAL, so it keeps the primary's timeline number.",
    });
  }
  const patched = patchControlFile(plan.controlBytes, {
    ...parameters(plan),
    state: DB_SHUTDOWNED_IN_RECOVERY,
    time: Math.floor(options.nowMs / 1000),
    checkPoint: state.checkPointLsn,
    checkPointCopy: state.toCheckPoint(),
    unloggedLsn: FIRST_UNLOGGED_LSN,
    minRecoveryPoint: lsn,
    minRecoveryPointTli: state.tli,
    backupStartPoint: INVALID_LSN,
    backupEndPoint: INVALID_LSN,
    backupEndRequired: false,
  }, profile);
  return {
    files: [...shared, { path: "standby.signal", bytes: new Uint8Array(0) }],
    segments: [],
    control: { path: CONTROL_FILE_PATH, bytes: patched },
    checkPointLsn: state.checkPointLsn,
  };
}

function parameters({ state }: RestorePlan) {
  const { walLevel, walLogHints, maxConnections, maxWorkerProcesses, maxWalSenders } = state;
  const { maxPreparedXacts, maxLocksPerXact, trackCommitTimestamp } = state;
  return {
    walLevel,
    walLogHints,
    maxConnections,
    maxWorkerProcesses,
    maxWalSenders,
    maxPreparedXacts,
    maxLocksPerXact,
    trackCommitTimestamp,
  };
}

function preparedFiles({ preparedTransactions, profile }: RestorePlan): PlannedFile[] {
  return [...preparedTransactions].map(([xid, content]) => ({
    path: `${TWOPHASE_DIR}/${twoPhaseFileName(xid, profile)}`,
    bytes: encodeTwoPhaseFile(content),
  }));
}

function originFiles({ origins }: RestorePlan): PlannedFile[] {
  if (origins.size === 0) return [];
  return [{ path: REPLORIGIN_CHECKPOINT_PATH, bytes: encodeReplicationOrigins(origins) }];
}

const AUTO_CONF = "postgresql.auto.conf";

/**
 * The plan's files; where transactions are prepared, with the setting that lets a server take them up. The configuration
 * is that of the base backup, and may be from before the setting was raised: the server would not start.
 */
function withPreparedSetting({ files, preparedTransactions, state }: RestorePlan): readonly PlannedFile[] {
  if (preparedTransactions.size === 0 || state.maxPreparedXacts === 0) return files;
  const known = files.find(({ path }) => path === AUTO_CONF)?.bytes ?? new Uint8Array(0);
  const text = new TextDecoder().decode(known).replace(/([^\n])$/, "$1\n") +
    `# varve restore: prepared transactions need what the primary had\nmax_prepared_transactions = '${state.maxPreparedXacts}'\n`;
  return [
    ...files.filter(({ path }) => path !== AUTO_CONF),
    { path: AUTO_CONF, bytes: new TextEncoder().encode(text) },
  ];
}

/** Where configuration is kept outside the data directory, none was backed up: enough to start is put there. */
function missingConfiguration({ files, state }: RestorePlan): PlannedFile[] {
  const there = new Set(files.map(({ path }) => path));
  const made: Record<string, string> = {
    "postgresql.conf": [
      "# Made by varve restore: the cluster's own configuration was outside its data directory.",
      `max_connections = ${state.maxConnections}`,
      `max_worker_processes = ${state.maxWorkerProcesses}`,
      `max_wal_senders = ${state.maxWalSenders}`,
      `max_prepared_transactions = ${state.maxPreparedXacts}`,
      `max_locks_per_transaction = ${state.maxLocksPerXact}`,
      `wal_level = ${["minimal", "replica", "logical"][state.walLevel] ?? "replica"}`,
      `wal_log_hints = ${state.walLogHints ? "on" : "off"}`,
      `track_commit_timestamp = ${state.trackCommitTimestamp ? "on" : "off"}`,
      "",
    ].join("\n"),
    "pg_hba.conf":
      "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n",
    "pg_ident.conf": "",
  };
  return Object.entries(made).filter(([path]) => !there.has(path))
    .map(([path, text]) => ({ path, bytes: new TextEncoder().encode(text) }));
}
