/**
 * What a server must do to write every BRIN record, on every major.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";

/** Runs all of it. */
export async function runBrinWorkload(cluster: Cluster): Promise<void> {
  await growTuples(cluster);
  await growRevmap(cluster);
  await summarizeAgain(cluster);
  await removeAndAdd(cluster);
}

/** Summaries of text that grow: in place, then to another page, at last to a page that the update adds. */
async function growTuples(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE grow (i int, t text) WITH (fillfactor = 10, autovacuum_enabled = off);
    ALTER TABLE grow ALTER t SET STORAGE plain;
    CREATE INDEX grow_t ON grow USING brin (t) WITH (pages_per_range = 1);
    INSERT INTO grow SELECT i, repeat(chr(97 + i % 13), 60) FROM generate_series(1, 400) i`);
  await cluster.exec("SELECT brin_summarize_new_values('grow_t')");
  for (const length of [61, 90, 200, 420, 700]) {
    await cluster.exec(
      `UPDATE grow SET t = repeat(chr(97 + (i + ${length}) % 26), ${length}) WHERE i % 7 = ${length % 7}`,
    );
    await cluster.exec("VACUUM grow");
  }
}

/** More ranges than one revmap page holds: the second one takes the place of tuples, which are evacuated. */
async function growRevmap(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE wide (i int, t text) WITH (autovacuum_enabled = off);
    ALTER TABLE wide ALTER t SET STORAGE plain;
    CREATE INDEX wide_i ON wide USING brin (i, t) WITH (pages_per_range = 1);
    INSERT INTO wide SELECT i, repeat('x', 7000) FROM generate_series(1, 1100) i`);
  await cluster.exec("SELECT brin_summarize_new_values('wide_i')");
  await cluster.exec("INSERT INTO wide SELECT i, repeat('x', 7000) FROM generate_series(1101, 1500) i");
  await cluster.exec("SELECT brin_summarize_new_values('wide_i')");
  await cluster.exec("CREATE INDEX wide_built ON wide USING brin (i) WITH (pages_per_range = 1)");
}

/** Ranges that lose their summary and get another one. */
async function summarizeAgain(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    SELECT brin_desummarize_range('wide_i', i) FROM generate_series(0, 1499, 3) i;
    SELECT brin_desummarize_range('grow_t', i) FROM generate_series(0, 20) i`);
  await cluster.exec(
    "SELECT brin_summarize_range('wide_i', i) FROM generate_series(1499, 0, -6) i",
  );
  await cluster.exec("VACUUM wide, grow");
  await cluster.exec("SELECT brin_desummarize_range('wide_built', i) FROM generate_series(1499, 1300, -1) i");
}

/** Other operator classes, and the empty index of an unlogged table. */
async function removeAndAdd(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE boxes (i int, b box, a inet);
    CREATE INDEX boxes_b ON boxes USING brin (b, a inet_inclusion_ops) WITH (pages_per_range = 2);
    CREATE INDEX boxes_multi ON boxes USING brin (i int4_minmax_multi_ops) WITH (pages_per_range = 2);
    CREATE INDEX boxes_bloom ON boxes USING brin (i int4_bloom_ops) WITH (pages_per_range = 4);
    INSERT INTO boxes SELECT i, box(point(i, -i), point(i + 1, i)), '10.0.0.0'::inet + i FROM generate_series(1, 3000) i`);
  await cluster.exec("VACUUM boxes");
  await cluster.exec(
    "INSERT INTO boxes SELECT i * 7 % 3001, NULL, '::1' FROM generate_series(1, 500) i",
  );
  await cluster.exec("DELETE FROM boxes WHERE i % 3 = 0");
  await cluster.exec("VACUUM boxes");
  await cluster.exec(
    "INSERT INTO boxes SELECT i * 7, box(point(i, i), point(0, 0)) FROM generate_series(1, 1000) i",
  );
  await cluster.exec(`
    CREATE UNLOGGED TABLE passing (i int);
    CREATE INDEX passing_i ON passing USING brin (i);
    INSERT INTO passing SELECT i FROM generate_series(1, 1000) i`);
}
