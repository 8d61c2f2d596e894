/**
 * A workload that reaches most of what a stock server writes to WAL, as a busy application would mix it.
 *
 * Its pieces are in `workload/`, one function each, and run alone as well. Given a seed, every session draws the same
 * blocks and values; how they interleave is the server's affair.
 *
 * @module
 */
import * as allTypes from "./workload/all_types.ts";
import * as btree from "./workload/btree.ts";
import * as databases from "./workload/databases.ts";
import * as ddl from "./workload/ddl.ts";
import * as heap from "./workload/heap.ts";
import * as maintenance from "./workload/maintenance.ts";
import * as rowLocks from "./workload/row_locks.ts";
import { type Block, isOutage, Session, SHARED } from "./workload/session.ts";
import * as toast from "./workload/toast.ts";
import * as transactions from "./workload/transactions.ts";
import * as wal from "./workload/wal.ts";
import * as wide from "./workload/wide.ts";
import type { Cluster } from "./postgres_cluster.ts";
import { SeededRandom } from "./random.ts";
import { waitFor } from "./wait.ts";

export { type Block, Session } from "./workload/session.ts";

export interface WorkloadOptions {
  /** See `seededRandom()`; the same seed gives the same work. */
  seed: number;
  /** Blocks that each session runs. One of this and `seconds` must be given. */
  rounds?: number;
  /** How long sessions go on beginning blocks. */
  seconds?: number;
  /** Concurrent users, two connections each. Default: 3. */
  sessions?: number;
  /** Default: postgres. */
  database?: string;
  /** Ends it early: no further block begins. */
  signal?: AbortSignal;
  /** Goes on after lost connections, as when the server is killed and started again meanwhile. Default: false. */
  surviveRestarts?: boolean;
  /** Leaves two transactions prepared at the end. Default: true. */
  keepPrepared?: boolean;
  /** Blocks and their weights, instead of all of {@linkcode BLOCKS}. */
  blocks?: WeightedBlocks;
}

export type WeightedBlocks = readonly (readonly [number, string, Block])[];

/** What was done. */
export interface WorkloadSummary {
  seed: number;
  /** Blocks that ended well, by name. */
  done: Record<string, number>;
  /** Blocks given up, by name: another session's lock, a deadlock, a lost connection where that may be. */
  givenUp: Record<string, number>;
}

/** All blocks with how often they come, and their names. */
export const BLOCKS: WeightedBlocks = [
  ...weighted(8, heap, "insertRows", "copyRows", "hotUpdates", "indexedUpdates", "growingUpdates"),
  ...weighted(4, heap, "deleteRows", "pruneOnePage", "updateTwice", "upserts"),
  ...weighted(4, allTypes, "insertAllTypes", "updateAllTypes"),
  ...weighted(2, wide, "manyColumns", "longKeys", "fullPages"),
  ...weighted(3, toast, "insertDocuments", "insertLz4Documents", "updateDocuments", "deleteDocuments"),
  ...weighted(3, transactions, "savepoints", "manySubtransactions", "rolledBack", "failed", "twoPhase"),
  ...weighted(1, transactions, "largeTransaction"),
  ...weighted(4, rowLocks, "sharedLocks", "updateUnderKeyShare", "keyShareOfUpdated"),
  ...weighted(3, rowLocks, "locksInSubtransactions", "children", "plainLocks"),
  ...weighted(4, btree, "ascendingKeys", "randomKeys", "duplicateKeys"),
  ...weighted(4, btree, "churnKeys", "deleteKeys", "killedKeys"),
  ...weighted(1, btree, "uniqueViolation"),
  ...weighted(4, maintenance, "vacuum", "vacuumFreeze", "vacuumTruncates"),
  ...weighted(1, maintenance, "vacuumFull", "vacuumFullCatalog", "cluster", "analyze"),
  ...weighted(1, maintenance, "reindex", "reindexConcurrently"),
  ...weighted(2, ddl, "createAndDrop", "truncate", "alterTable", "sequences"),
  ...weighted(2, ddl, "unloggedTable", "temporaryTable"),
  ...weighted(1, ddl, "materializedView", "partitions", "largeObject"),
  ...weighted(1, databases, "createDatabase", "moveDatabase", "tablespaceTable", "passingTablespace"),
  ...weighted(1, wal, "checkpoint", "switchWal", "restorePoint", "logicalMessage", "replicationOrigin"),
];

/** Some of a module's blocks, each as often. */
function weighted<K extends string>(weight: number, blocks: Record<K, Block>, ...names: K[]): WeightedBlocks {
  return names.map((name) => [weight, name, blocks[name]] as const);
}

/** Lock not had in time, deadlock, serialization failure, object in use: another session's doing. */
const CONFLICTS = new Set(["55P03", "40P01", "40001", "55006"]);
/** So many blocks given up one after another are no conflicts. */
const MAX_CONFLICTS_IN_A_ROW = 20;

/** Creates the shared tables. Safe to repeat. */
export async function prepareWorkload(session: Session): Promise<void> {
  await session.run(`CREATE SCHEMA IF NOT EXISTS ${SHARED}`);
  await heap.prepareHeap(session);
  await allTypes.prepareAllTypes(session);
  await toast.prepareToast(session);
  await transactions.prepareTransactions(session);
  await rowLocks.prepareRowLocks(session);
  await btree.prepareBtree(session);
  await wide.prepareWide(session);
}

/**
 * Runs the mix and returns what was done. At the end no transaction is open but the prepared ones.
 *
 * @throws {Error} If a block fails for another reason than a conflict, naming block and seed.
 */
export async function mixedWorkload(cluster: Cluster, options: WorkloadOptions): Promise<WorkloadSummary> {
  if ((options.rounds === undefined) === (options.seconds === undefined)) {
    throw new TypeError("Cannot run a workload: expected one of rounds and seconds");
  }
  const random = new SeededRandom(options.seed);
  const database = options.database ?? "postgres";
  const sessions = Array.from(
    { length: options.sessions ?? 3 },
    (_, index) => new Session(cluster, database, index, random.fork()),
  );
  const summary: WorkloadSummary = { seed: options.seed, done: {}, givenUp: {} };
  try {
    await insist(sessions[0], prepareWorkload, options);
    for (const session of sessions) await insist(session, ddl.prepareDdl, options);
    const failure = new AbortController();
    const signal = AbortSignal.any([
      failure.signal,
      ...(options.signal === undefined ? [] : [options.signal]),
    ]);
    const outcomes = await Promise.allSettled(
      sessions.map((session) =>
        runSession(session, { ...options, signal }, summary).catch((error) => {
          failure.abort(); // the others would go on in vain
          throw error;
        })
      ),
    );
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    if (options.keepPrepared ?? true) {
      for (let i = 0; i < 2; i++) {
        await insist(sessions[0], (session) => transactions.keepPrepared(session), options);
      }
    }
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
  return summary;
}

async function runSession(
  session: Session,
  options: WorkloadOptions,
  summary: WorkloadSummary,
): Promise<void> {
  const blocks = (options.blocks ?? BLOCKS).map(([weight, name, block]) =>
    [weight, { name, block }] as const
  );
  const end = options.seconds === undefined ? Infinity : performance.now() + options.seconds * 1000;
  for (let round = 0; round < (options.rounds ?? Infinity) && performance.now() < end; round++) {
    if (options.signal?.aborted) return;
    const { name, block } = session.random.weighted(blocks);
    const ended = await attempt(session, name, block, options);
    const counts = ended ? summary.done : summary.givenUp;
    counts[name] = (counts[name] ?? 0) + 1;
  }
}

/** Runs one block; returns whether it ended well, after which, as before, both connections are free. */
async function attempt(
  session: Session,
  name: string,
  block: Block,
  options: WorkloadOptions,
): Promise<boolean> {
  try {
    await block(session);
    session.conflictsInARow = 0;
    return true;
  } catch (error) {
    if (isConflict(error)) {
      await session.recover();
      if (++session.conflictsInARow > MAX_CONFLICTS_IN_A_ROW) throw failed(name, options, error);
    } else if (isOutage(error) && options.surviveRestarts) {
      await reconnect(session, options.signal);
    } else {
      throw failed(name, options, error);
    }
    return false;
  }
}

function failed(name: string, options: WorkloadOptions, error: unknown): Error {
  const message = error instanceof Error ? error.message : String(error);
  return new Error(`Workload block ${name} failed (seed ${options.seed}): ${message}`, { cause: error });
}

/** Runs a block until it ends well. */
async function insist(session: Session, block: Block, options: WorkloadOptions): Promise<void> {
  while (!(await attempt(session, block.name, block, options)) && !options.signal?.aborted);
}

function isConflict(error: unknown): boolean {
  const { code = "", message = "" } = error as { code?: string; message?: string };
  // VACUUM FULL and CLUSTER copy rows that are dead but recent, whose TOAST another vacuum may have removed already.
  const lostToast = code === "XX001" && message.includes("toast value");
  // A name may be missed for a moment while VACUUM FULL or REINDEX rewrites the catalog that holds it.
  const missedName = code === "42P01";
  return CONFLICTS.has(code) || lostToast || missedName;
}

async function reconnect(session: Session, signal?: AbortSignal): Promise<void> {
  const isBack = async () => await session.reconnect() || signal?.aborted;
  await waitFor(isBack, { what: "the server answers again", intervalMs: 50, timeoutMs: 120_000 });
}
