/**
 * A stopped server whose WAL holds images for all of verification's tests: consistency images, images in records of every
 * access method, images for hint bits.
 *
 * @module
 */
import { type Cluster, type PostgresMajor, type Settings, startCluster } from "./postgres.ts";
import { findProgram, runCommand } from "./processes.ts";

/** A cluster at rest, and its data directory as it was before. */
export interface VerifiedWal extends AsyncDisposable {
  cluster: Cluster;
  base: string;
  wal: string;
  /** File number of table `t`, whose newest images were logged for hint bits. */
  rel: number;
}

const ROWS = "i, i % 97, md5(i::text), point(i % 211, i % 173), ARRAY[i % 10, i % 100]";

/** Every access method, with a checkpoint after each step so that the next one writes images. */
const STEPS = [
  `CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, w text NOT NULL, p point NOT NULL, a int[] NOT NULL);
   CREATE INDEX ON t USING hash (v);
   CREATE INDEX ON t USING gin (a);
   CREATE INDEX ON t USING gist (p);
   CREATE INDEX ON t USING spgist (w);
   CREATE INDEX ON t USING brin (id) WITH (pages_per_range = 2)`,
  `INSERT INTO t SELECT ${ROWS} FROM generate_series(1, 1500) i`,
  "UPDATE t SET v = v + 1 WHERE id % 3 = 0",
  "DELETE FROM t WHERE id % 7 = 0",
  "VACUUM t",
  `INSERT INTO t SELECT ${ROWS} FROM generate_series(1501, 2000) i`,
  "SELECT id FROM t WHERE id % 5 = 0 FOR UPDATE",
  "UPDATE t SET w = w || 'x' WHERE id % 11 = 0",
  "DELETE FROM t WHERE id % 13 = 0",
  "SELECT count(*), sum(v) FROM t",
];

/**
 * Makes one; takes about two seconds.
 *
 * @param work Instead of the usual one.
 */
export async function verifiedWal(
  major: PostgresMajor,
  settings: Settings = {},
  work: (cluster: Cluster) => Promise<void> = runSteps,
): Promise<VerifiedWal> {
  const cluster = await startCluster({
    major,
    checksums: true,
    settings: { wal_consistency_checking: "all", wal_keep_size: "4GB", autovacuum: "off", ...settings },
  });
  try {
    await cluster.stop("fast");
    const base = `${cluster.rootDir}/base`;
    const cp = findProgram("cp");
    if (cp === undefined) throw new Error("Cannot copy: no cp on this machine");
    await runCommand(cp, ["-a", cluster.dataDir, base]);
    await cluster.start();
    await work(cluster);
    const [{ rel }] = await cluster.exec("SELECT pg_relation_filenode(to_regclass('t'))::int AS rel");
    await cluster.stop("fast");
    const wal = `${cluster.dataDir}/pg_wal`;
    return { cluster, base, wal, rel, [Symbol.asyncDispose]: () => cluster.dispose() };
  } catch (error) {
    await cluster.dispose();
    throw error;
  }
}

/** The same work on a server that runs. */
export async function runSteps(cluster: Cluster): Promise<void> {
  for (const step of STEPS) {
    await cluster.exec(step);
    await cluster.exec("CHECKPOINT");
  }
}
