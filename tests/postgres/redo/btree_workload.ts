/**
 * What a server must do to write every btree record there is, on every major.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** 600 bytes that are not compressed: a dozen keys fill a page, so a few hundred rows make a tree of four levels. */
const WIDE_KEY = "lpad(i::text, 8, '0') || repeat('x', 592)";

/** Runs all of it. */
export async function runBtreeWorkload(cluster: Cluster): Promise<void> {
  await deleteSubtrees(cluster);
  await splitInRandomOrder(cluster);
  await splitPostingLists(cluster);
  await churnVersions(cluster);
}

/**
 * Trees whose left parts go: half-dead leaves, unlinked leaves and parents, fast roots that sink and rise again, pages
 * that are taken again.
 */
async function deleteSubtrees(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE deep (i int, k text);
    ALTER TABLE deep ALTER COLUMN k SET STORAGE PLAIN;
    CREATE INDEX deep_k ON deep (k) WITH (fillfactor = 60);
    INSERT INTO deep SELECT i, ${WIDE_KEY} FROM generate_series(1, 1200) i`);
  // A hole inside a level, then all to the left: the rest is one leaf, which becomes the fast root.
  await cluster.exec("DELETE FROM deep WHERE i BETWEEN 200 AND 600");
  await cluster.exec("VACUUM deep");
  await cluster.exec("DELETE FROM deep WHERE i < 1195");
  await cluster.exec("VACUUM deep");
  await cluster.exec("SELECT txid_current()");
  await cluster.exec("VACUUM deep");
  // It splits again and again, with pages that the vacuums left.
  await cluster.exec(`INSERT INTO deep SELECT i, ${WIDE_KEY} FROM generate_series(1300, 1700) i`);
  await cluster.exec("DELETE FROM deep");
  await cluster.exec("VACUUM deep");
}

/** Splits on all levels with the new tuple on either side, in the middle and at the ends. */
async function splitInRandomOrder(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE mixed (i int, k text);
    ALTER TABLE mixed ALTER COLUMN k SET STORAGE PLAIN;
    CREATE INDEX mixed_k ON mixed (k);
    CREATE UNIQUE INDEX mixed_i ON mixed (i) WITH (fillfactor = 10);
    INSERT INTO mixed SELECT i, ${WIDE_KEY} FROM generate_series(1, 900) i ORDER BY md5(i::text);
    INSERT INTO mixed SELECT i, ${WIDE_KEY} FROM generate_series(-300, -1) i ORDER BY i DESC`);
}

/**
 * Duplicates: deduplication, posting lists that VACUUM thins out, and new tuples whose TIDs fall into lists, with and
 * without a page split.
 */
async function splitPostingLists(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE same (i int, v int, w text);
    CREATE INDEX same_v ON same (v);
    CREATE INDEX same_w ON same (w) WITH (fillfactor = 50);
    INSERT INTO same SELECT i, i % 7, 'w' || i % 40 FROM generate_series(1, 3000) i`);
  for (let round = 1; round <= 2; round++) {
    await cluster.exec(`DELETE FROM same WHERE hashint4(i + ${round}) % 3 = 0`);
    await cluster.exec("VACUUM same");
    await cluster.exec(`INSERT INTO same SELECT i, i % 7, 'w' || i % 40 FROM generate_series(1, 1200) i`);
  }
  await cluster.exec("DELETE FROM same WHERE v < 6");
  await cluster.exec("VACUUM same");

  // Full leaves of few lists that cannot grow, over half empty heap pages: what fills those splits a list and its leaf.
  await cluster.exec(`
    CREATE TABLE gaps (k text) WITH (fillfactor = 50);
    ALTER TABLE gaps ALTER COLUMN k SET STORAGE PLAIN;
    CREATE INDEX gaps_k ON gaps (k);
    INSERT INTO gaps SELECT repeat(chr(65 + i % 2), 1000) FROM generate_series(1, 1200) i;
    ALTER TABLE gaps SET (fillfactor = 100)`);
  await cluster.exec("VACUUM gaps");
  await cluster.exec("INSERT INTO gaps SELECT repeat(chr(65 + i % 2), 1000) FROM generate_series(1, 1200) i");
}

/** Versions of rows: deletions of dead tuples that an insertion makes, also of single TIDs of posting lists. */
async function churnVersions(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE churn (id int, a int, b int) WITH (fillfactor = 70);
    CREATE UNIQUE INDEX churn_id ON churn (id);
    CREATE INDEX churn_a ON churn (a);
    CREATE INDEX churn_b ON churn (b);
    INSERT INTO churn SELECT i, i % 20, 0 FROM generate_series(1, 1200) i`);
  for (let round = 1; round <= 6; round++) {
    await cluster.exec(`UPDATE churn SET b = ${round} WHERE id % 2 = ${round % 2}`);
    // A scan marks what is dead to all, the next insertion into a full page deletes it.
    await cluster.exec(`SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;
      SELECT sum(b) FROM churn WHERE a BETWEEN 0 AND 20; SELECT sum(b) FROM churn WHERE id > 0`);
  }
}
