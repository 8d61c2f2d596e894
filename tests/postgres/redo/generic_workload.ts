/**
 * What a server must do to write generic records of all kinds: the contrib bloom index is the one that does.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** Runs all of it. */
export async function runGenericWorkload(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE EXTENSION bloom;
    CREATE TABLE petals (i int4, t text) WITH (autovacuum_enabled = off);
    INSERT INTO petals SELECT i, md5(i::text) FROM generate_series(1, 2000) i;
    CREATE INDEX petals_built ON petals USING bloom (i, t) WITH (length = 80, col1 = 2, col2 = 4);
    CREATE INDEX petals_wide ON petals USING bloom (i) WITH (length = 4096);
    INSERT INTO petals SELECT i, md5(i::text) FROM generate_series(2001, 4000) i`);
  // Some tuples of every page, then whole pages, which insertions take again.
  await cluster.exec("DELETE FROM petals WHERE i % 5 = 0");
  await cluster.exec("VACUUM petals");
  await cluster.exec("DELETE FROM petals WHERE i BETWEEN 500 AND 2500");
  await cluster.exec("VACUUM petals");
  await cluster.exec("INSERT INTO petals SELECT i, md5(i::text) FROM generate_series(4001, 7000) i");
  await cluster.exec("DELETE FROM petals WHERE i % 2 = 0");
  await cluster.exec("VACUUM petals");
  await cluster.exec("INSERT INTO petals SELECT i, NULL FROM generate_series(7001, 7500) i");
  await cluster.exec("DELETE FROM petals");
  await cluster.exec("VACUUM petals");
  await cluster.exec("INSERT INTO petals SELECT i, md5(i::text) FROM generate_series(1, 500) i");
  await cluster.exec(`
    CREATE UNLOGGED TABLE passing (i int4);
    CREATE INDEX passing_i ON passing USING bloom (i);
    INSERT INTO passing SELECT i FROM generate_series(1, 500) i`);
}
