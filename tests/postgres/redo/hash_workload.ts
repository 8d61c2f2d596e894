/**
 * What a server must do to write every hash index record that a small index can have, on every major.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** Runs all of it. */
export async function runHashWorkload(cluster: Cluster): Promise<void> {
  await freeEmptyPage(cluster);
  await growAndShrink(cluster);
  await squeezeChains(cluster);
  await removeDeadTuples(cluster);
}

/** Buckets that split, and the copies left behind by that, which VACUUM takes away. */
async function growAndShrink(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE grow (v int);
    CREATE INDEX grow_v ON grow USING hash (v) WITH (fillfactor = 10);
    INSERT INTO grow SELECT i FROM generate_series(1, 2500) i`);
  await cluster.exec("DELETE FROM grow WHERE v % 5 = 0");
  await cluster.exec("VACUUM grow");
  await cluster.exec("INSERT INTO grow SELECT i FROM generate_series(2501, 4000) i");
  // Metapages for more buckets than two: for the rows that are there, and for as many as statistics claim.
  await cluster.exec("CREATE INDEX grow_more ON grow USING hash (v)");
  await cluster.exec("UPDATE pg_class SET reltuples = 600000 WHERE relname = 'grow'");
  await cluster.exec("CREATE INDEX grow_most ON grow USING hash (v)");
}

/** Long chains of overflow pages, thinned out: tuples move forward, emptied pages are freed and taken again. */
async function squeezeChains(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE chain (i int, v int);
    CREATE INDEX chain_v ON chain USING hash (v);
    INSERT INTO chain SELECT i, i % 2 FROM generate_series(1, 5000) i`);
  await cluster.exec("DELETE FROM chain WHERE hashint4(i) % 3 = 0");
  await cluster.exec("VACUUM chain");
  await cluster.exec("INSERT INTO chain SELECT i, 1 FROM generate_series(5001, 7500) i");
  await cluster.exec("DELETE FROM chain WHERE hashint4(i) % 8 <> 1");
  await cluster.exec("VACUUM chain");
  await cluster.exec("INSERT INTO chain SELECT i, 0 FROM generate_series(7501, 9000) i");
  // Only the start of the chains stays, so that whole pages at their ends are empty; at last all of them.
  await cluster.exec("DELETE FROM chain WHERE i > 600");
  await cluster.exec("VACUUM chain");
  await cluster.exec("INSERT INTO chain SELECT i, i % 2 FROM generate_series(9001, 11000) i");
  await cluster.exec("DELETE FROM chain");
  await cluster.exec("VACUUM chain");
}

/** An empty page at the end of a chain whose first page is full and stays as it is from then on. */
async function freeEmptyPage(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE tail (i int, v int);
    CREATE INDEX tail_v ON tail USING hash (v);
    INSERT INTO tail SELECT i, 1 FROM generate_series(1, 1200) i;
    DELETE FROM tail WHERE i > 810`);
  await cluster.exec("VACUUM tail");
}

/** Dead tuples that a scan has marked, deleted by the insertion that finds their page full. */
async function removeDeadTuples(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE dead (i int, v int);
    CREATE INDEX dead_v ON dead USING hash (v);
    INSERT INTO dead SELECT i, 7 FROM generate_series(1, 1000) i`);
  for (let round = 1; round <= 3; round++) {
    await cluster.exec(`DELETE FROM dead WHERE i % 4 = ${round}`);
    await cluster.exec(
      `SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT sum(i) FROM dead WHERE v = 7`,
    );
    await cluster.exec(
      `INSERT INTO dead SELECT i, 7 FROM generate_series(${round} * 1000, ${round} * 1000 + 400) i`,
    );
  }
}
