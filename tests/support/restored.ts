/**
 * Judging restored clusters: content hashes of every table, PostgreSQL's own checkers, and what the server logs.
 *
 * @module
 */
import type { Lsn } from "../../src/lsn.ts";
import { parseLsn } from "../../src/lsn.ts";
import { restore } from "../../src/restore/restore.ts";
import type { RestoreOptions, RestoreSummary } from "../../src/restore/options.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { restoreDirectory } from "../../src/store/restore_directory.ts";
import { assert } from "./harness.ts";
import { type Cluster, type Settings, startCluster } from "./postgres.ts";
import type { PostgresMajor } from "./postgres.ts";
import { postgresBinaries } from "./postgres_binaries.ts";

/** Content of a cluster at a moment: a hash of every table by database and name. */
export interface Remembered {
  readonly lsn: Lsn;
  readonly hashes: Record<string, string>;
  readonly prepared: string[];
}

const TABLES = `SELECT n.nspname || '.' || c.relname AS name, c.relpersistence AS persistence
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg_toast%'
    AND n.nspname <> 'information_schema'
    AND (n.nspname <> 'pg_catalog' OR c.relname IN ('pg_class', 'pg_attribute', 'pg_proc', 'pg_authid', 'pg_database'))
  ORDER BY 1`;

/** Databases that can be looked into: not those whose dropping was broken off. */
export async function databasesOf(cluster: Cluster): Promise<string[]> {
  const rows = await cluster.exec(
    "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1",
  );
  return rows.map((row) => String(row.datname));
}

/** Hashes every table; unlogged ones count as empty. Nothing must be written meanwhile. */
export async function hashTables(cluster: Cluster): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const database of await databasesOf(cluster)) {
    const tables = await cluster.exec(TABLES, database);
    for (const { name, persistence } of tables) {
      const quoted = String(name).split(".").map((part) => `"${part}"`).join(".");
      // What statistics a vacuum leaves in pg_class is no content; relation files are not, either.
      const row = name === "pg_catalog.pg_class" ? "t.oid, t.relname, t.relkind, t.relfilenode" : "t.*";
      const [{ hash }] = persistence === "u" ? [{ hash: "unlogged" }] : await cluster.exec(
        `SELECT count(*) || ':' || coalesce(md5(string_agg(h, '' ORDER BY h)), '') AS hash
           FROM (SELECT md5(ROW(${row})::text) AS h FROM ${quoted} t) s`,
        database,
      );
      hashes[`${database}.${name}`] = String(hash);
    }
    await cluster.disconnect(database);
  }
  return hashes;
}

/** Remembers what a cluster holds now; nobody may be writing. */
export async function remember(cluster: Cluster): Promise<Remembered> {
  const [{ lsn }] = await cluster.exec("SELECT pg_current_wal_insert_lsn() AS lsn");
  const prepared = await cluster.exec("SELECT gid FROM pg_prepared_xacts ORDER BY 1");
  const hashes = await hashTables(cluster);
  return { lsn: parseLsn(String(lsn)), hashes, prepared: prepared.map((row) => String(row.gid)) };
}

/** Restores from a store to a directory that a server of that major may own. */
export async function restoreTo(
  store: ObjectStore,
  major: PostgresMajor,
  lsn: Lsn,
  path: string,
  options: Partial<RestoreOptions> & { tablespaceMap?: ReadonlyMap<string, string> } = {},
): Promise<RestoreSummary> {
  const { user } = await postgresBinaries(major);
  const owner = user.uid === undefined ? undefined : { uid: user.uid, gid: user.gid ?? 0 };
  const attached = await attachReader({ store, clock: systemClock });
  try {
    const target = await restoreDirectory(path, {
      fsync: false,
      owner,
      tablespaceMap: options.tablespaceMap,
    });
    return await restore(attached, lsn, target, { clock: systemClock, store, ...options });
  } finally {
    await attached.close();
  }
}

/** Starts a server on a restored directory and takes the directory over. */
export async function startRestored(
  major: PostgresMajor,
  dataDir: string,
  settings: Settings = {},
): Promise<Cluster> {
  return await startCluster({
    major,
    dataDir,
    settings: { max_prepared_transactions: 20, autovacuum: "off", ...settings },
  });
}

/** Lines of the server's log that tell of anything wrong. */
export function complaints(cluster: Cluster): string[] {
  return cluster.logTail(2000).split("\n").filter((line) =>
    /\b(WARNING|ERROR|FATAL|PANIC):/.test(line) &&
    // What we do ourselves when we stop it.
    !line.includes("terminating connection due to administrator command")
  );
}

/** Runs amcheck over every B-tree and heap, and pg_visibility over every map; returns what they find. */
export async function checkCluster(cluster: Cluster): Promise<string[]> {
  const found: string[] = [];
  for (const database of await databasesOf(cluster)) {
    await cluster.exec(
      "CREATE EXTENSION IF NOT EXISTS amcheck; CREATE EXTENSION IF NOT EXISTS pg_visibility",
      database,
    );
    const heaps = await cluster.exec(
      `SELECT c.oid::regclass::text AS name, r.blkno, r.offnum, r.msg
         FROM pg_class c, LATERAL verify_heapam(c.oid) r
        WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' AND c.relam = 2`,
      database,
    );
    for (const row of heaps) found.push(`${database}.${row.name} (${row.blkno}, ${row.offnum}): ${row.msg}`);
    const visible = await cluster.exec(
      `SELECT c.oid::regclass::text AS name, r.tid FROM pg_class c, LATERAL (
           SELECT t_ctid::text AS tid FROM pg_check_visible(c.oid) UNION ALL
           SELECT t_ctid::text FROM pg_check_frozen(c.oid)) r(tid)
        WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' AND c.relam = 2`,
      database,
    );
    for (const row of visible) found.push(`${database}.${row.name} ${row.tid}: visibility map is wrong`);
    const indexes = await cluster.exec(
      `SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relam = 403 AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid`,
      database,
    );
    for (const { oid, name } of indexes) {
      try {
        await cluster.exec(`SELECT bt_index_parent_check(${oid}, true)`, database);
      } catch (error) {
        found.push(`${database}.${name}: ${(error as Error).message}`);
      }
    }
    await cluster.disconnect(database);
  }
  return found;
}

/** Fails unless a cluster holds what was remembered. */
export function assertSame(
  actual: Record<string, string>,
  expected: Record<string, string>,
  what: string,
): void {
  const names = new Set([...Object.keys(actual), ...Object.keys(expected)]);
  const different = [...names].filter((name) => actual[name] !== expected[name])
    .map((name) => `${name}: expected ${expected[name]}, got ${actual[name]}`);
  assert.equal(different, [], what);
}
