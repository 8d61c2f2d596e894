/**
 * What a server must do to write every record there is: the workloads of all managers one after another, each in a
 * database of its own, and what concerns the cluster as a whole around them.
 *
 * @module
 */
import {
  databases,
  execute,
  freezeEverything,
  largeMultiXacts,
  manyMultiXacts,
  origins,
  prepareTables,
  relations,
  transactions,
  twoPhase,
} from "../postgres/effects/cluster_workload.ts";
import { runBrinWorkload } from "../postgres/redo/brin_workload.ts";
import { runBtreeWorkload } from "../postgres/redo/btree_workload.ts";
import { runGenericWorkload } from "../postgres/redo/generic_workload.ts";
import { runGinWorkload } from "../postgres/redo/gin_workload.ts";
import { runGistWorkload } from "../postgres/redo/gist_workload.ts";
import { runHashWorkload } from "../postgres/redo/hash_workload.ts";
import { runHeapWorkload } from "../postgres/redo/heap_workload.ts";
import { runSpgistWorkload } from "../postgres/redo/spgist_workload.ts";
import type { Cluster, Settings } from "./postgres.ts";
import { setNextXid } from "./next_xid.ts";
import { waitFor } from "./wait.ts";

/** Beyond what a judged server has. */
export const OPCODE_SETTINGS: Settings = { track_commit_timestamp: "on", max_prepared_transactions: 400 };

/** The size of a WAL segment, which the record that a crash tears must pass. */
const SEGMENT_BYTES = 16 * 1024 * 1024;

/** Shortly before the second segment of pg_xact begins, so that the first can go. */
const FIRST_XID = 32 * 32_768 - 5000;

/** Since this major `pg_start_backup()` is `pg_backup_start()`. */
const FIRST_WITH_BACKUP_START = 15;

const MANAGERS: readonly (readonly [string, (cluster: Cluster) => Promise<void>])[] = [
  ["btree", runBtreeWorkload],
  ["hash", runHashWorkload],
  ["gin", runGinWorkload],
  ["spgist", runSpgistWorkload],
  ["brin", runBrinWorkload],
  ["generic", runGenericWorkload],
  ["heap", runHeapWorkload], // leaves the server with wal_level = logical
  ["gist", runGistWorkload], // and this one with wal_level = minimal
];

/** What must be done before the server starts. */
export function prepareEveryOpcode(cluster: Cluster): Promise<void> {
  return setNextXid(cluster, FIRST_XID);
}

/** Runs all of it. At the end the server is on its second timeline. */
export async function runEveryOpcode(cluster: Cluster): Promise<void> {
  await runClusterWorkload(cluster);
  for (const [name, run] of MANAGERS) {
    await cluster.exec(`CREATE DATABASE ${name}`);
    await run(within(cluster, name));
    // A server with another wal_level does not start with a slot of this one.
    await execute(cluster, ["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"]);
  }
  await cluster.configure({ wal_level: "replica", max_wal_senders: 10 });
  await cluster.restart();
  await invalidate(cluster);
  await hintBits(cluster);
  await tearRecord(cluster);
  await promote(cluster);
}

/** The same cluster, with statements going to another database unless they name one. */
function within(cluster: Cluster, database: string): Cluster {
  return new Proxy(cluster, {
    get(target, key) {
      if (key === "exec") return (query: string, name = database) => target.exec(query, name);
      if (key === "sql") return (name = database) => target.sql(name);
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Transactions, multixacts, relations, databases, origins, and the removal of what they leave in SLRUs. */
async function runClusterWorkload(cluster: Cluster): Promise<void> {
  await prepareTables(cluster);
  await transactions(cluster);
  await twoPhase(cluster, "first");
  await manyMultiXacts(cluster, 4500);
  await largeMultiXacts(cluster, 60);
  await relations(cluster);
  await databases(cluster);
  await origins(cluster, "first");
  await execute(cluster, ["COMMIT PREPARED 'first 3'", "ROLLBACK PREPARED 'first 6'"]);
  await freezeEverything(cluster);
  await setPoints(cluster);
}

/** Points in WAL: restore points, a backup, a switch, full-page writes on and off. */
async function setPoints(cluster: Cluster): Promise<void> {
  const [start, stop] = cluster.major >= FIRST_WITH_BACKUP_START
    ? ["pg_backup_start('opcodes', true)", "pg_backup_stop(false)"]
    : ["pg_start_backup('opcodes', true, false)", "pg_stop_backup(false, false)"];
  await execute(cluster, [
    "SELECT pg_create_restore_point('here')",
    `SELECT ${start}`,
    `SELECT ${stop}`,
    "SELECT pg_switch_wal()",
    "SELECT pg_logical_emit_message(true, 'opcodes', 'of a transaction'), pg_logical_emit_message(false, 'opcodes', 'of none')",
  ]);
  for (const value of ["on", "off"]) {
    await cluster.configure({ full_page_writes: value });
    cluster.reload();
    // The checkpointer takes it over when it gets to it, before sessions or after them: its own checkpoints tell that it has.
    await waitFor(async () => {
      await cluster.exec("CHECKPOINT");
      const [checkpoint] = await cluster.exec(
        "SELECT CASE WHEN full_page_writes THEN 'on' ELSE 'off' END AS value FROM pg_control_checkpoint()",
      );
      return checkpoint.value === value;
    }, { what: `the checkpointer has full_page_writes = ${value}`, timeoutMs: 60_000, intervalMs: 100 });
  }
}

/** Invalidations of a transaction that has no id. */
async function invalidate(cluster: Cluster): Promise<void> {
  await execute(cluster, [
    "CREATE TABLE analyzed AS SELECT i FROM generate_series(1, 100) i",
    "ANALYZE analyzed",
    "VACUUM (FREEZE, ANALYZE) analyzed",
    "ANALYZE analyzed",
  ]);
}

/** A page that is only read after a checkpoint, and gets hint bits that way. */
async function hintBits(cluster: Cluster): Promise<void> {
  await execute(cluster, [
    "CREATE TABLE hinted AS SELECT i FROM generate_series(1, 1000) i",
    "CHECKPOINT",
    "SELECT count(*) FROM hinted",
  ]);
}

/**
 * A crash that loses the end of a record: the segment in which it goes on is not there any more. What the server writes
 * then says that the record was never completed.
 */
async function tearRecord(cluster: Cluster): Promise<void> {
  const walDir = `${cluster.dataDir}/pg_wal`;
  const [{ segment }] = await cluster.exec("SELECT pg_walfile_name(pg_current_wal_lsn()) AS segment");
  const length = SEGMENT_BYTES + 100_000;
  await cluster.exec("CHECKPOINT");
  await cluster.exec(`SELECT pg_logical_emit_message(false, 'torn', repeat('m', ${length}))`);
  await cluster.kill9();
  for (const { name } of [...Deno.readDirSync(walDir)]) {
    if (/^[0-9A-F]{24}$/.test(name) && name > segment) await Deno.remove(`${walDir}/${name}`);
  }
  await cluster.start();
}

/** The server comes up as a standby of nobody, and is promoted. */
async function promote(cluster: Cluster): Promise<void> {
  await cluster.stop();
  const signal = `${cluster.dataDir}/standby.signal`;
  await Deno.writeTextFile(signal, "");
  const { uid, gid } = cluster.binaries.user;
  if (uid !== undefined) await Deno.chown(signal, uid, gid ?? null);
  await cluster.start();
  await cluster.exec("SELECT pg_promote()");
  await cluster.exec("CREATE TABLE promoted AS SELECT i FROM generate_series(1, 1000) i");
}
