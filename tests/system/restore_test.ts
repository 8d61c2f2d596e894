/**
 * Restored directories, all majors, checksums on and off: stock PostgreSQL starts on what varve wrote as of an LSN, finds
 * nothing to complain about, and shows what the primary showed then.
 *
 * `VARVE_RESTORE_POINTS` and `VARVE_RESTORE_LSNS` raise the number of remembered moments and of random LSNs of each server.
 *
 * @module
 */
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import { verifyDirectory } from "../../src/restore/verify.ts";
import { backupDirectory } from "../../src/store/directory_files.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type CommitLog, keepLedger, ledgerOf, makeLedger, readCommits } from "../support/ledger.ts";
import { type Cluster, POSTGRES_MAJORS, type PostgresMajor, startCluster } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import * as restored from "../support/restored.ts";
import { removeTree, scratchDirectory } from "../support/temp.ts";
import { mixedWorkload } from "../support/workload.ts";

const POINTS = Number(Deno.env.get("VARVE_RESTORE_POINTS") ?? 1);
const LSNS = Number(Deno.env.get("VARVE_RESTORE_LSNS") ?? 1);
/** Blocks of the workload that each session runs before a moment is remembered. */
const ROUNDS = 14;

const test = suite("system/restore", { timeoutMs: 120_000 + (POINTS + LSNS) * 60_000, sanitize: false });

/** A followed history: its store, moments in it, and what committed where. */
interface History extends AsyncDisposable {
  readonly store: ObjectStore;
  readonly path: string;
  readonly remembered: restored.Remembered[];
  readonly log: CommitLog;
}

async function makeHistory(major: PostgresMajor, checksums: boolean, seed: number): Promise<History> {
  const path = await Deno.realPath(
    await Deno.makeTempDir({ prefix: "varve-restore-", dir: await scratchDirectory() }),
  );
  await Deno.chmod(path, 0o755); // servers of another user look into it
  await using cluster = await startCluster({
    major,
    checksums,
    settings: {
      max_prepared_transactions: 50,
      track_commit_timestamp: checksums ? "on" : "off",
      wal_keep_size: "4GB",
      checkpoint_timeout: "30s",
    },
  });
  await makeLedger(cluster);
  const store = await testStore(`${path}/store`);
  const following = await followCluster(cluster, store);
  const remembered: restored.Remembered[] = [];
  for (let point = 0; point < POINTS; point++) {
    await mixedWorkload(cluster, { seed: seed + point, rounds: ROUNDS });
    remembered.push(await restored.remember(cluster));
  }
  const stop = new AbortController();
  const ledger = keepLedger(cluster, seed, stop.signal);
  await mixedWorkload(cluster, { seed: seed + POINTS, rounds: ROUNDS, keepPrepared: false })
    .finally(() => stop.abort());
  await ledger;
  await cluster.exec("CHECKPOINT");
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const { startLsn, facts } = following.manifest;
  const log = await readCommits(cluster, startLsn, facts.systemId);
  return {
    store,
    path,
    remembered,
    log,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await removeTree(path);
    },
  };
}

let restores = 0;

/** Restores as of an LSN, with tablespaces in a folder of their own, and checks the files. */
async function restoreAndVerify(history: History, major: PostgresMajor, lsn: Lsn): Promise<string> {
  const { store, path } = history;
  const name = `restored-${++restores}`; // tablespaces of those before are still there
  const target = `${path}/${name}`;
  const tablespaceMap = { get: (old: string) => `${path}/${name}-${old.split("/").at(-1)}` };
  const summary = await restored.restoreTo(store, major, lsn, target, {
    tablespaceMap: tablespaceMap as ReadonlyMap<string, string>,
  });
  const verified = await verifyDirectory(backupDirectory(target), { lsn });
  assert.equal(verified.problems, []);
  assert.is(verified.pages, summary.pages - summary.slruPages);
  return target;
}

/** What was remembered is there, checkers find nothing, prepared transactions can be ended, and it takes writes. */
async function judgeRemembered(
  history: History,
  major: PostgresMajor,
  moment: restored.Remembered,
): Promise<void> {
  const dataDir = await restoreAndVerify(history, major, moment.lsn);
  await using cluster = await restored.startRestored(major, dataDir);
  const what = `as of ${formatLsn(moment.lsn)}`;
  restored.assertSame(await restored.hashTables(cluster), moment.hashes, what);
  const prepared = await endPrepared(cluster);
  assert.equal(prepared, moment.prepared, what);
  assert.ok(prepared.length > 0, "something is prepared");
  assert.equal(await restored.checkCluster(cluster), [], what);
  await cluster.exec("CREATE TABLE written_later AS SELECT generate_series(1, 1000) AS n; CHECKPOINT");
  await cluster.restart();
  const [{ n }] = await cluster.exec("SELECT count(*)::int AS n FROM written_later");
  assert.is(n, 1000);
  assert.equal(restored.complaints(cluster), [], what);
}

/** Commits and rolls back what is prepared, in turns; pg_visibility takes rows that are newer for invisible while it is. */
async function endPrepared(cluster: Cluster): Promise<string[]> {
  const prepared = await cluster.exec("SELECT gid, database FROM pg_prepared_xacts ORDER BY gid");
  for (const [index, { gid, database }] of prepared.entries()) {
    await cluster.exec(`${index % 2 === 0 ? "COMMIT" : "ROLLBACK"} PREPARED '${gid}'`, String(database));
  }
  return prepared.map((row) => String(row.gid));
}

/** Exactly what was committed by an LSN is there, and checkers find nothing. */
async function judgeAt(history: History, major: PostgresMajor, lsn: Lsn): Promise<void> {
  const dataDir = await restoreAndVerify(history, major, lsn);
  await using cluster = await restored.startRestored(major, dataDir);
  const what = `as of ${formatLsn(lsn)}`;
  const visible = await ledgerOf(cluster);
  const ours = ledgerEver(history);
  assert.equal(visible, ours.filter((xid) => history.log.commits.get(xid)! <= lsn), what);
  await endPrepared(cluster);
  assert.equal(await restored.checkCluster(cluster), [], what);
  await cluster.exec("CREATE TABLE written_later AS SELECT generate_series(1, 1000) AS n");
  assert.equal(restored.complaints(cluster), [], what);
}

/** The ledger's transactions at the end of history. */
const ledgers = new WeakMap<History, string[]>();
function ledgerEver(history: History): string[] {
  const ledger = ledgers.get(history);
  if (ledger === undefined) throw new Error("The ledger at the end was not read");
  return ledger;
}

for (const major of POSTGRES_MAJORS) {
  for (const checksums of [true, false]) {
    const what = `PostgreSQL ${major} ${checksums ? "with" : "without"} checksums`;
    test(`restore() makes directories that ${what} starts on`, async () => {
      const random = seededRandom(`restore ${what}`);
      await using history = await makeHistory(major, checksums, random.seed);
      for (const moment of history.remembered) await judgeRemembered(history, major, moment);
      // The end of history tells which transactions are the ledger's.
      const { recordEnds } = history.log;
      const last = await restoreAndVerify(history, major, recordEnds.at(-1)!);
      await using cluster = await restored.startRestored(major, last);
      ledgers.set(history, await ledgerOf(cluster));
      await cluster.dispose();
      const first = recordEnds.findIndex((end) => end > history.remembered.at(-1)!.lsn);
      for (let count = 0; count < LSNS; count++) {
        await judgeAt(history, major, recordEnds[random.int(first, recordEnds.length - 1)]);
      }
    });
  }
}

test.run();
