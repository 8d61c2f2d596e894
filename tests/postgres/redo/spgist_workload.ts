/**
 * What a server must do to write every SP-GiST record, on every major.
 *
 * An index that is built over rows is logged as whole pages, so all of these begin empty.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** Runs all of it. */
export async function runSpgistWorkload(cluster: Cluster): Promise<void> {
  await growTexts(cluster);
  await splitPrefixes(cluster);
  await outgrowPages(cluster);
  await moveDead(cluster);
  await growPoints(cluster);
  await growNulls(cluster);
  await shrinkRoot(cluster);
}

/** Texts of many kinds in random order, thinned out and filled up again. */
async function growTexts(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE texts (i int, t text) WITH (autovacuum_enabled = off);
    CREATE INDEX texts_t ON texts USING spgist (t);
    INSERT INTO texts SELECT i, md5(i::text) FROM generate_series(1, 4000) i;
    INSERT INTO texts SELECT i, 'https://www.example.com/' || md5((i % 700)::text) || i FROM generate_series(1, 2000) i`);
  await cluster.exec("DELETE FROM texts WHERE hashint4(i) % 3 = 0");
  await cluster.exec("VACUUM texts");
  await cluster.exec("INSERT INTO texts SELECT i, md5(i::text) || i FROM generate_series(4001, 6000) i");
  await cluster.exec("DELETE FROM texts WHERE hashint4(i) % 4 <> 0");
  await cluster.exec("VACUUM texts");
  await cluster.exec("INSERT INTO texts SELECT i, md5(i::text) FROM generate_series(1, 3000) i");
  await cluster.exec("DELETE FROM texts");
  await cluster.exec("VACUUM texts");
  await cluster.exec("INSERT INTO texts SELECT i, md5(i::text) FROM generate_series(1, 1000) i");
}

/** Texts with long common beginnings that later ones part from, early and late. */
async function splitPrefixes(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE prefixes (i int, t text) WITH (autovacuum_enabled = off);
    CREATE INDEX prefixes_t ON prefixes USING spgist (t);
    INSERT INTO prefixes SELECT i, repeat('abcdefgh', 20) || repeat(chr(97 + i % 26), 30) || i FROM generate_series(1, 1500) i;
    INSERT INTO prefixes SELECT i, left(repeat('abcdefgh', 20), 159 - i % 157) || '#' || i FROM generate_series(1, 1500) i;
    INSERT INTO prefixes SELECT i, repeat(chr(33 + i % 90), 3 + i % 40) || '-' || i FROM generate_series(1, 4000) i`);
  // Longer than a page: suffix after suffix, one inner tuple each.
  await cluster.exec(`
    ALTER TABLE prefixes ALTER t SET STORAGE external;
    INSERT INTO prefixes SELECT i, repeat(chr(97 + i), 9000 + i) FROM generate_series(0, 5) i`);
}

/**
 * Inner tuples that gain nodes, one for each byte, until they must move: away from their parents' page, and back to it
 * when others have left.
 */
async function outgrowPages(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE nodes (t text) WITH (autovacuum_enabled = off);
    CREATE INDEX nodes_t ON nodes USING spgist (t);
    INSERT INTO nodes SELECT chr(35 + a) || chr(35 + b) || repeat('x', 100)
      FROM generate_series(1, 50) a, generate_series(1, 10) b, generate_series(1, 8);
    INSERT INTO nodes SELECT chr(35 + a) || chr(35 + b) || 'y'
      FROM generate_series(11, 85) b, generate_series(1, 50) a`);
  for (const first of ["z", "zz", "zzz"]) {
    await cluster.exec("VACUUM nodes");
    await cluster.exec(`
      INSERT INTO nodes SELECT '${first}' || chr(35 + a) || chr(35 + b) || repeat('x', 100)
        FROM generate_series(1, 30) a, generate_series(1, 10) b, generate_series(1, 8);
      INSERT INTO nodes SELECT '${first}' || chr(35 + a) || chr(35 + b) || 'y'
        FROM generate_series(11, 45) b, generate_series(1, 30) a`);
    await cluster.exec("VACUUM nodes");
    await cluster.exec(`
      INSERT INTO nodes SELECT '${first}' || chr(35 + a) || chr(35 + b) || 'y'
        FROM generate_series(46, 85) b, generate_series(1, 30) a`);
  }
}

/** A chain of which only a dead tuple is left, on a page that others have filled since. */
async function moveDead(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE dead (i int, t text) WITH (autovacuum_enabled = off);
    CREATE INDEX dead_t ON dead USING spgist (t);
    INSERT INTO dead SELECT i, md5(i::text) FROM generate_series(1, 3000) i`);
  await cluster.exec("DELETE FROM dead WHERE t LIKE '_3%'");
  await cluster.exec("VACUUM dead");
  await cluster.exec(`
    INSERT INTO dead SELECT i, md5(i::text) FROM generate_series(3001, 6000) i WHERE md5(i::text) NOT LIKE '_3%';
    INSERT INTO dead SELECT i, md5(i::text) || repeat('x', 900)
      FROM generate_series(6001, 9000) i WHERE md5(i::text) LIKE '_3%'`);
}

/** Quadtrees and k-d trees, where many rows may have one value. */
async function growPoints(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE points (i int, p point, r int4range, b box) WITH (autovacuum_enabled = off);
    CREATE INDEX points_quad ON points USING spgist (p) INCLUDE (i);
    CREATE INDEX points_kd ON points USING spgist (p kd_point_ops);
    CREATE INDEX points_r ON points USING spgist (r);
    CREATE INDEX points_b ON points USING spgist (b);
    INSERT INTO points SELECT i, point(hashint4(i) % 1000, hashint4(-i) % 1000),
      int4range(i % 100, i % 100 + i % 17), box(point(i % 50, i % 70), point(i % 60, i % 10)) FROM generate_series(1, 2500) i;
    INSERT INTO points SELECT i, point(1, 1), 'empty', box(point(0, 0), point(1, 1)) FROM generate_series(1, 1200) i`);
  await cluster.exec("DELETE FROM points WHERE i % 3 = 0");
  await cluster.exec("VACUUM points");
  await cluster.exec(
    "INSERT INTO points SELECT i, point(i % 30, 1), int4range(0, i) FROM generate_series(1, 1500) i",
  );
  await cluster.exec("DELETE FROM points WHERE i % 5 > 0");
  await cluster.exec("VACUUM points");
}

/** The tree of nulls. */
async function growNulls(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE nulls (i int, t text) WITH (autovacuum_enabled = off);
    CREATE INDEX nulls_t ON nulls USING spgist (t);
    INSERT INTO nulls SELECT i, NULL FROM generate_series(1, 3000) i`);
  await cluster.exec("DELETE FROM nulls WHERE i % 4 > 0");
  await cluster.exec("VACUUM nulls");
  await cluster.exec("INSERT INTO nulls SELECT i, NULL FROM generate_series(1, 4000) i");
}

/** A root that is a leaf page still. */
async function shrinkRoot(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE roots (i int, t text) WITH (autovacuum_enabled = off);
    CREATE INDEX roots_t ON roots USING spgist (t);
    INSERT INTO roots SELECT i, CASE WHEN i % 2 = 0 THEN i::text END FROM generate_series(1, 90) i`);
  for (const condition of ["i = 20", "i % 3 = 0", "i > 50", "true"]) {
    await cluster.exec(`DELETE FROM roots WHERE ${condition}`);
    await cluster.exec("VACUUM roots");
  }
}
