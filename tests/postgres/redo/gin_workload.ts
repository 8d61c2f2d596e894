/**
 * What a server must do to write every GIN record there is, on every major.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** 1300 bytes that do not compress: six keys fill a page, so a few hundred make a tree of four levels. */
const WIDE_KEY = "(SELECT string_agg(md5(i::text || '/' || j), '') FROM generate_series(1, 40) j) || i";

/** Runs all of it. */
export async function runGinWorkload(cluster: Cluster): Promise<void> {
  await growEntryTree(cluster);
  await growPostingTrees(cluster);
  await shrinkPostingTrees(cluster);
  await fillPendingList(cluster);
}

/** Entries that come, change and lose TIDs; splits on all levels, and of the root. */
async function growEntryTree(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE entries (i int, k text[]);
    ALTER TABLE entries ALTER COLUMN k SET STORAGE EXTERNAL;
    CREATE INDEX entries_k ON entries USING gin (k) WITH (fastupdate = off);
    INSERT INTO entries SELECT i, ARRAY[${WIDE_KEY}] FROM generate_series(1, 300) i;
    INSERT INTO entries SELECT i, ARRAY[${WIDE_KEY}, 'short' || i % 7, NULL] FROM generate_series(1, 100) i;
    INSERT INTO entries VALUES (0, '{}'), (0, NULL)`);
  await cluster.exec("DELETE FROM entries WHERE i % 3 = 0");
  await cluster.exec("VACUUM entries");
}

/** Posting trees: new ones, TIDs that join segments or make new ones, splits of leaves and of the root. */
async function growPostingTrees(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE posts (i int, k int[]);
    INSERT INTO posts SELECT i, CASE WHEN i % 4 = 0 THEN ARRAY[0, 1] ELSE ARRAY[0] END FROM generate_series(1, 31000) i;
    CREATE INDEX posts_k ON posts USING gin (k) WITH (fastupdate = on)`);
  // The first is applied when the list is emptied, the second row by row.
  await cluster.exec("INSERT INTO posts SELECT i, ARRAY[0, 1, 2] FROM generate_series(31001, 34000) i");
  await cluster.exec("SELECT gin_clean_pending_list('posts_k')");
  await cluster.exec("ALTER INDEX posts_k SET (fastupdate = off)");
  await cluster.exec("INSERT INTO posts SELECT i, ARRAY[0, 1, 2] FROM generate_series(34001, 34300) i");
}

/** VACUUM on posting trees: segments that shrink, that go, leaves that go; then TIDs in between what is left. */
async function shrinkPostingTrees(cluster: Cluster): Promise<void> {
  await cluster.exec("DELETE FROM posts WHERE i % 2 = 0 OR i BETWEEN 1000 AND 22000");
  await cluster.exec("VACUUM posts");
  await cluster.exec("INSERT INTO posts SELECT i, ARRAY[0, 3] FROM generate_series(1, 300) i");
  await cluster.exec("ALTER INDEX posts_k SET (fastupdate = on)");
  await cluster.exec("INSERT INTO posts SELECT i, ARRAY[0, 3] FROM generate_series(301, 3000) i");
  await cluster.exec("VACUUM posts");
  await cluster.exec("DELETE FROM posts");
  await cluster.exec("VACUUM posts");
}

/** The pending list: rows that join its tail, rows of several pages on an empty list and behind others. */
async function fillPendingList(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE pending (i int, k int[]);
    CREATE INDEX pending_k ON pending USING gin (k);
    INSERT INTO pending SELECT 1, array_agg(j) FROM generate_series(1, 3000) j;
    INSERT INTO pending SELECT 2, array_agg(j) FROM generate_series(1000, 4000) j;
    INSERT INTO pending SELECT i, ARRAY[i, i + 1] FROM generate_series(1, 500) i;
    INSERT INTO pending SELECT 3, array_agg(j) FROM generate_series(2000, 6000) j`);
  await cluster.exec("VACUUM pending");
  await cluster.exec("INSERT INTO pending VALUES (4, '{1,2,3}'), (5, '{}'), (6, NULL)");
  await cluster.exec("INSERT INTO pending SELECT 7, array_agg(j) FROM generate_series(1, 9000) j");
  await cluster.exec("SELECT gin_clean_pending_list('pending_k')");
}
