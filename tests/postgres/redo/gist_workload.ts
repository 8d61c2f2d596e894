/**
 * What a server must do to write every GiST record there is, on every major.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** 800 bytes: nine keys fill a page, so a few hundred rows make a tree of four levels. */
const WIDE_KEY =
  "cube((SELECT array_agg(((i * 7919 + j * 104729) % 10007)::float8) FROM generate_series(1, 50) j))";

/** Runs all of it. */
export async function runGistWorkload(cluster: Cluster): Promise<void> {
  await runFollowableGistWorkload(cluster);
  await insertUnlogged(cluster);
}

/** Runs what a follower can follow: all but what needs wal_level = minimal. */
export async function runFollowableGistWorkload(cluster: Cluster): Promise<void> {
  await cluster.exec("CREATE EXTENSION cube");
  await cluster.exec("CREATE EXTENSION btree_gist");
  await splitDeepTree(cluster);
  await splitIntoMany(cluster);
  await deletePages(cluster);
  await deleteDeadTuples(cluster);
}

/** Splits on all levels and of the root, each finished in the parent with and without room for it. */
async function splitDeepTree(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE deep (i int, k cube);
    ALTER TABLE deep ALTER COLUMN k SET STORAGE PLAIN;
    CREATE INDEX deep_k ON deep USING gist (k);
    INSERT INTO deep SELECT i, ${WIDE_KEY} FROM generate_series(1, 600) i`);
  await cluster.exec("DELETE FROM deep WHERE i % 3 = 0 OR i BETWEEN 100 AND 300");
  await cluster.exec("VACUUM deep");
  await cluster.exec(`INSERT INTO deep SELECT i, ${WIDE_KEY} FROM generate_series(601, 700) i`);
}

/** Keys of very different sizes, the large ones last in their range: a half of a split that does not fit on a page. */
async function splitIntoMany(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE uneven (k text);
    CREATE INDEX uneven_k ON uneven USING gist (k);
    INSERT INTO uneven SELECT lpad(g::text, 4, '0') || CASE WHEN i <= 12 THEN 'a' || i
        ELSE 'z' || i || (SELECT string_agg(md5(i || '/' || g || '/' || j), '') FROM generate_series(1, 57) j) END
      FROM generate_series(1, 40) g, generate_series(1, 17) i ORDER BY g, i`);
}

/** Leaves that become empty and are taken again. */
async function deletePages(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE points (i int, p point);
    CREATE INDEX points_p ON points USING gist (p);
    INSERT INTO points SELECT i, point(i % 100, i / 100) FROM generate_series(1, 5000) i`);
  await cluster.exec("DELETE FROM points WHERE i BETWEEN 1000 AND 4000");
  await cluster.exec("VACUUM points");
  await cluster.exec("DELETE FROM points WHERE i % 100 = 7");
  await cluster.exec("VACUUM points");
  await cluster.exec("SELECT txid_current()");
  await cluster.exec("VACUUM points");
  await cluster.exec("INSERT INTO points SELECT i, point(i % 10, i % 77) FROM generate_series(6000, 8000) i");
}

/** Dead tuples that a scan marks and the next insertion into the full page removes. */
async function deleteDeadTuples(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE dead (i int, p point);
    CREATE INDEX dead_p ON dead USING gist (p);
    INSERT INTO dead SELECT i, point(i, i) FROM generate_series(1, 1000) i`);
  for (let round = 0; round < 4; round++) {
    await cluster.exec(`DELETE FROM dead WHERE i % 4 = ${round}`);
    await cluster.exec(`SET enable_seqscan = off; SET enable_bitmapscan = off;
      SELECT count(i) FROM dead WHERE p <@ box '(0,0),(2000,2000)'`);
    await cluster.exec(
      "INSERT INTO dead SELECT i * 4 + 1, point(i * 4, i * 4) FROM generate_series(1, 250) i",
    );
  }
}

/** An index that is as new as its transaction: with wal_level = minimal, splits get LSNs of empty records. */
async function insertUnlogged(cluster: Cluster): Promise<void> {
  await cluster.configure({ wal_level: "minimal", max_wal_senders: 0 });
  await cluster.restart();
  // One query, one transaction.
  await cluster.exec(`
    CREATE TABLE fresh (i int, p point);
    CREATE INDEX fresh_p ON fresh USING gist (p);
    INSERT INTO fresh SELECT i, point(i % 40, i / 40) FROM generate_series(1, 1000) i`);
  await cluster.exec("INSERT INTO fresh SELECT i, point(i % 40, i / 40) FROM generate_series(1, 400) i");
}
