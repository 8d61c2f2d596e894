/**
 * WAL of the loads that redo is measured on: pgbench-like, bulk insert, random updates, GIN, GiST. Kept in the cache.
 *
 * Each is what one or more sessions write after a clean start, so that each page's first change is a page image, as after
 * any checkpoint.
 *
 * @module
 */
import { cached, sharedCacheDirectory } from "../support/cache.ts";
import { type Cluster, type PostgresMajor, startCluster } from "../support/postgres.ts";
import { runCommand } from "../support/processes.ts";
import {
  openWalDirectory,
  profileOfDataDirectory,
  readControlPoints,
  readRecords,
} from "../support/wal_files.ts";
import { keepSegmentsFrom, openCorpus, type WalCorpus, walCorpus } from "./wal_corpus.ts";

interface Load {
  /** Part of the corpus's identity, with `version`. */
  name: string;
  version: number;
  /** Before the WAL in question. */
  schema: string[];
  run: (cluster: Cluster) => Promise<void>;
}

const MAJOR: PostgresMajor = 15;

/** Calls a procedure that commits each change, in two sessions. */
async function callTwice(cluster: Cluster, call: string): Promise<void> {
  await Promise.all([cluster.exec(call), cluster.exec(call)]);
}

const LOADS: readonly Load[] = [
  {
    name: "bulk-insert",
    version: 1,
    schema: ["CREATE TABLE bulk (id int PRIMARY KEY, other int, note text, at timestamp)"],
    run: async (cluster) => {
      const file = `${await cluster.directory("copies")}/bulk.txt`;
      const rows = (from: number, to: number) =>
        `SELECT i, i % 1000, md5(i::text), '2001-02-03'::timestamp + i * interval '1 second' FROM generate_series(${from}, ${to}) i`;
      await cluster.exec(`INSERT INTO bulk ${rows(1, 700_000)}`);
      await cluster.exec(`COPY (${rows(700_001, 1_400_000)}) TO '${file}'`);
      await cluster.exec(`COPY bulk FROM '${file}'`);
    },
  },
  {
    name: "random-updates",
    version: 2,
    schema: [
      "CREATE TABLE rows (id int, kind int, v int, note text) WITH (fillfactor = 90)",
      "INSERT INTO rows SELECT i, i % 5000, 0, md5(i::text) FROM generate_series(1, 300000) i",
      "ALTER TABLE rows ADD PRIMARY KEY (id)",
      "CREATE INDEX rows_kind ON rows (kind)",
      `CREATE PROCEDURE change(n int) LANGUAGE plpgsql AS $$ DECLARE one int; other int; BEGIN
        FOR i IN 1..n LOOP
          one := 1 + floor(random() * 300000);
          other := 1 + floor(random() * 300000);
          UPDATE rows SET v = v + 1 WHERE id = one;
          UPDATE rows SET kind = (other + i) % 5000, note = md5(i::text) WHERE id = other;
          COMMIT;
        END LOOP;
      END $$`,
    ],
    run: (cluster) => callTwice(cluster, "CALL change(250000)"),
  },
  {
    name: "gin",
    version: 1,
    schema: [
      "CREATE TABLE tagged (id int, tags int[])",
      "CREATE INDEX tagged_tags ON tagged USING gin (tags) WITH (fastupdate = off)",
    ],
    run: async (cluster) => {
      await cluster.exec(`INSERT INTO tagged
        SELECT i, ARRAY[i % 10, i % 97, hashint4(i) % 5003, hashint4(-i) % 20011, hashint4(i + 1) % 100000]
        FROM generate_series(1, 200000) i`);
      await cluster.exec("DELETE FROM tagged WHERE id % 5 = 0");
      await cluster.exec("VACUUM tagged");
    },
  },
  {
    name: "gist",
    version: 1,
    schema: [
      "CREATE TABLE places (id int, at point)",
      "CREATE INDEX places_at ON places USING gist (at)",
    ],
    run: async (cluster) => {
      await cluster.exec(`INSERT INTO places
        SELECT i, point(hashint4(i) % 100000, hashint4(-i) % 100000) FROM generate_series(1, 500000) i`);
      await cluster.exec("DELETE FROM places WHERE id % 5 = 0");
      await cluster.exec("VACUUM places");
    },
  },
];

/** Names of all loads. */
export const REDO_LOADS: readonly string[] = ["pgbench", ...LOADS.map(({ name }) => name)];

/** Finds or generates the corpus of a load. */
export async function redoCorpus(name: string): Promise<WalCorpus> {
  if (name === "pgbench") return await walCorpus({ transactions: 400_000 });
  const load = LOADS.find((candidate) => candidate.name === name);
  if (load === undefined) {
    throw new RangeError(`Cannot find load "${name}": expected one of ${REDO_LOADS.join(", ")}`);
  }
  const folder = `${sharedCacheDirectory()}/wal/${name}-${load.version}-${MAJOR}`;
  const path = await cached(folder, (directory) => generate(load, directory));
  return openCorpus(path, false);
}

async function generate(load: Load, directory: string): Promise<void> {
  await using cluster = await startCluster({
    major: MAJOR,
    checksums: false,
    onDisk: true,
    settings: {
      shared_buffers: "256MB",
      max_wal_size: "100GB",
      wal_keep_size: "100GB",
      wal_recycle: "off",
      synchronous_commit: "off",
      autovacuum: "off",
    },
  });
  for (const statement of load.schema) await cluster.exec(statement);
  await cluster.stop();
  await runCommand("cp", ["-R", cluster.dataDir, `${directory}/base`]);
  await Deno.remove(`${directory}/base/pg_wal`, { recursive: true });
  await cluster.start();
  await load.run(cluster);
  await cluster.stop();
  const startLsn = readControlPoints(`${directory}/base`).redoLsn;
  await keepSegmentsFrom(`${cluster.dataDir}/pg_wal`, `${directory}/pg_wal`, startLsn);
  let [endLsn, records] = [0, 0];
  const profile = profileOfDataDirectory(`${directory}/base`);
  for (const batch of readRecords(openWalDirectory(`${directory}/pg_wal`), startLsn, profile)) {
    endLsn = batch.endLsn;
    records += batch.count;
  }
  await Deno.writeTextFile(`${directory}/corpus.json`, JSON.stringify({ endLsn, records }));
}
