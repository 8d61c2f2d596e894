/**
 * What a server must do to write every heap, heap2 and sequence record there is, on every major. Autovacuum is off.
 *
 * @module
 */
import type { Cluster } from "../../support/postgres.ts";
import { waitFor } from "../../support/wait.ts";

type Session = Awaited<ReturnType<ReturnType<Cluster["sql"]>["reserve"]>>;

/** Runs all of it. */
export async function runHeapWorkload(cluster: Cluster): Promise<void> {
  await insertTuples(cluster);
  await updateTuples(cluster, "changed");
  await pruneAndVacuum(cluster);
  await clearMapBits(cluster);
  await lockTuples(cluster);
  await insertSpeculatively(cluster);
  await moveBetweenPartitions(cluster);
  await changeInPlace(cluster);
  await advanceSequences(cluster);
  await truncateTails(cluster);
  // TRUNCATE, NEW_CID and REWRITE exist for logical decoding alone, for which updates share no bytes with old tuples.
  await cluster.configure({ wal_level: "logical" });
  await cluster.restart();
  await keepCatalogHistory(cluster);
  await updateTuples(cluster, "decoded");
  await rewriteCatalog(cluster);
  await leaveMapBitsCleared(cluster);
}

/** Runs statements with transaction blocks of their own on one connection. */
async function runTransaction(cluster: Cluster, statements: string): Promise<void> {
  const session = await cluster.sql().reserve();
  try {
    await session.unsafe(statements).simple();
  } finally {
    session.release();
  }
}

/** A slot: from here on, rewrites of catalog tables log where their rows went. */
async function keepCatalogHistory(cluster: Cluster): Promise<void> {
  await cluster.exec("SELECT pg_create_logical_replication_slot('heap_history', 'pgoutput')");
}

/** Inserts one by one and many at once, on new pages and old ones, with and without NULLs, short and toasted. */
async function insertTuples(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE plain (i int, v int, t text, n numeric);
    INSERT INTO plain SELECT i, NULLIF(i % 3, 0), repeat('a', i % 60), NULLIF(i % 5, 2) FROM generate_series(1, 700) i;
    CREATE TABLE toasted (i int, t text);
    ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL;
    INSERT INTO toasted SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 12) i;
    UPDATE toasted SET t = t || 'x' WHERE i % 2 = 0;
    ALTER TABLE plain ADD c bigint DEFAULT 7, ADD d text;
    INSERT INTO plain SELECT i, i, 'later', 1, i, 'x' FROM generate_series(1, 20) i`);
  await runTransaction(
    cluster,
    "BEGIN; INSERT INTO plain VALUES (1); SAVEPOINT s; INSERT INTO plain VALUES (2); ROLLBACK TO s; INSERT INTO plain VALUES (3); COMMIT",
  );
  // COPY inserts whole batches; into a table of the same transaction it can freeze them at once.
  const file = `${await cluster.directory("copies")}/rows.txt`;
  await cluster.exec(
    `COPY (SELECT i, i % 7, repeat('c', i % 90), 1, 2, NULL FROM generate_series(1, 900) i) TO '${file}'`,
  );
  await cluster.exec(`COPY plain FROM '${file}'`);
  await cluster.exec("DELETE FROM plain WHERE i % 2 = 0");
  await cluster.exec("VACUUM plain");
  await cluster.exec(`COPY plain FROM '${file}'`);
  await runTransaction(
    cluster,
    `
    BEGIN;
    CREATE TABLE frozen (i int, v int, t text, n numeric, c bigint, d text);
    COPY frozen FROM '${file}' (FREEZE);
    COMMIT`,
  );
  // Into a page that COPY FREEZE left all-visible.
  await cluster.exec(`COPY frozen FROM '${file}'`);
  await cluster.exec(
    "CREATE TABLE made AS SELECT * FROM plain; CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM made",
  );
}

/** Updates that stay on their page and updates that leave it, that share a prefix, a suffix, both or nothing. */
async function updateTuples(cluster: Cluster, table: string): Promise<void> {
  await cluster.exec(`
    CREATE TABLE ${table} (i int PRIMARY KEY, a text, k int, c text) WITH (fillfactor = 25);
    CREATE INDEX ON ${table} (k);
    ALTER TABLE ${table} REPLICA IDENTITY FULL;
    INSERT INTO ${table} SELECT i, repeat('p', 40), i, repeat('s', 40) FROM generate_series(1, 300) i`);
  const changes = [
    "a = a || 'x'", // HOT, prefix and suffix
    "c = repeat('t', 30) WHERE i % 4 = 0", // HOT, prefix
    "i = -i, a = repeat('q', 41), k = -k, c = NULL WHERE i % 4 = 1", // nothing
    "a = NULL, c = c || 'tail' WHERE i % 4 = 2",
    "k = k + 1 WHERE i % 4 = 3", // prefix and suffix
    "k = k + 70000, c = repeat('u', 35) WHERE i % 5 = 0", // prefix
    "i = i + 16843009 WHERE i % 7 = 1", // suffix
    "c = repeat('w', 300) WHERE i % 7 = 2", // many to other pages
  ];
  for (const change of changes) await cluster.exec(`UPDATE ${table} SET ${change}`);
  await cluster.exec(`
    CREATE TABLE ${table}_first (a char(4), b text);
    INSERT INTO ${table}_first SELECT 'aaaa', repeat('b', 30) FROM generate_series(1, 10);
    UPDATE ${table}_first SET a = 'zzzz'`); // HOT, suffix
  await cluster.exec(`DELETE FROM ${table} WHERE i % 9 = 0`);
  // Few fit on a page, so that the new version takes a page of its own.
  await cluster.exec(`
    CREATE TABLE ${table}_wide (i int, t text);
    ALTER TABLE ${table}_wide ALTER t SET STORAGE PLAIN;
    INSERT INTO ${table}_wide SELECT i, repeat('w', 3000) FROM generate_series(1, 12) i;
    UPDATE ${table}_wide SET t = t || 'x'`);
}

/** Redirects, dead and unused line pointers; pruning by readers and by VACUUM; its second pass; freezing. */
async function pruneAndVacuum(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE pruned (i int PRIMARY KEY, v int, t text) WITH (fillfactor = 50);
    INSERT INTO pruned SELECT i, 0, repeat('x', i % 50) FROM generate_series(1, 600) i`);
  for (let round = 1; round <= 6; round++) {
    await cluster.exec(`UPDATE pruned SET v = v + 1 WHERE (i + ${round}) % 3 <> 0`);
    await cluster.exec("SELECT count(*) FROM pruned");
  }
  await cluster.exec("DELETE FROM pruned WHERE i % 10 < 4 OR i BETWEEN 300 AND 340");
  await cluster.exec("SELECT count(*) FROM pruned");
  await cluster.exec("VACUUM pruned");
  await cluster.exec("UPDATE pruned SET v = -v WHERE i % 2 = 1; DELETE FROM pruned WHERE i % 7 = 0");
  // Aborted versions at the end of a page: unused line pointers that 14 keeps and later majors drop.
  await runTransaction(cluster, "BEGIN; UPDATE pruned SET v = v + 100; ROLLBACK");
  await cluster.exec("SELECT count(*) FROM pruned");
  await runTransaction(
    cluster,
    "BEGIN; INSERT INTO pruned SELECT i, 1, 'gone' FROM generate_series(2000, 2200) i; ROLLBACK",
  );
  await cluster.exec("VACUUM pruned");
  await cluster.exec("INSERT INTO pruned SELECT i, 1, 'reused' FROM generate_series(3000, 3100) i");
  await cluster.exec("VACUUM (FREEZE) pruned");
  await cluster.exec("VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) plain");
  // Without an index, VACUUM frees in one pass.
  await cluster.exec("CREATE TABLE bare AS SELECT i, i % 3 AS v FROM generate_series(1, 500) i");
  await cluster.exec("UPDATE bare SET v = v + 1 WHERE i % 2 = 0; DELETE FROM bare WHERE i % 5 = 0");
  await cluster.exec("VACUUM bare");
  await cluster.exec("DELETE FROM bare WHERE i % 5 = 1");
  await cluster.exec("VACUUM (FREEZE) bare");
}

/** Every kind of change of an all-visible page, again and again on one table. */
async function clearMapBits(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE visible (i int PRIMARY KEY, v int, t text) WITH (fillfactor = 70);
    INSERT INTO visible SELECT i, 0, repeat('x', 100) FROM generate_series(1, 2000) i`);
  for (const statement of CHANGES_OF_VISIBLE_PAGES) {
    await cluster.exec("VACUUM (FREEZE) visible");
    await cluster.exec(statement);
  }
  await cluster.exec("VACUUM visible");
}

const CHANGES_OF_VISIBLE_PAGES = [
  "UPDATE visible SET v = 1 WHERE i % 100 = 1", // HOT
  "DELETE FROM visible WHERE i % 90 = 5",
  "UPDATE visible SET i = -i WHERE i % 110 = 3", // on the same page
  "UPDATE visible SET t = repeat('y', 1500) WHERE i % 130 = 7", // to other pages
  "UPDATE visible SET t = repeat('z', 300) WHERE i BETWEEN 1 AND 60", // from and to all-visible pages
  "INSERT INTO visible SELECT i, 1, 'n' FROM generate_series(9000, 9020) i",
  "SELECT count(*) FROM (SELECT i FROM visible WHERE i % 150 = 11 FOR UPDATE) s",
];

/**
 * The same on tables of their own that stay so: the maps can be compared at the end, where no VACUUM has set bits
 * again.
 */
async function leaveMapBitsCleared(cluster: Cluster): Promise<void> {
  for (const [index, change] of CHANGES_OF_VISIBLE_PAGES.entries()) {
    const table = `left_${index}`;
    await cluster.exec(`
      CREATE TABLE ${table} (i int PRIMARY KEY, v int, t text) WITH (fillfactor = 70);
      INSERT INTO ${table} SELECT i, 0, repeat('x', 100) FROM generate_series(1, 1000) i`);
    await cluster.exec(`VACUUM (FREEZE) ${table}`);
    await cluster.exec(change.replace("visible", table));
  }
  // Updates off pages without free space, onto pages that are all-visible too, then many insertions at once.
  await cluster.exec(`
    CREATE TABLE crowded (i int, t text);
    ALTER TABLE crowded ALTER t SET STORAGE PLAIN;
    INSERT INTO crowded SELECT i, repeat('x', 900) FROM generate_series(1, 96) i`);
  for (let round = 0; round < 3; round++) {
    await cluster.exec(`DELETE FROM crowded WHERE i % 16 BETWEEN ${round * 4} AND ${round * 4 + 3}`);
    await cluster.exec("VACUUM (FREEZE) crowded");
    await cluster.exec(`UPDATE crowded SET t = repeat('y', 1800) WHERE i % 16 = ${round * 4 + 4}`);
  }
  const file = `${await cluster.directory("copies")}/more.txt`;
  await cluster.exec(`COPY (SELECT i, 'copied' FROM generate_series(1, 50) i) TO '${file}'`);
  await cluster.exec(
    "CREATE TABLE copied (i int, t text); INSERT INTO copied SELECT i FROM generate_series(1, 300) i",
  );
  await cluster.exec("VACUUM (FREEZE) copied");
  await cluster.exec(`COPY copied FROM '${file}'`);
  // A map that was cut in the middle of a page, over a heap that grew again.
  await cluster.exec(`
    CREATE TABLE shortened (i int, t text);
    INSERT INTO shortened SELECT i, repeat('x', 500) FROM generate_series(1, 600) i`);
  await cluster.exec("VACUUM (FREEZE) shortened");
  await cluster.exec("DELETE FROM shortened WHERE i > 250");
  await cluster.exec("VACUUM shortened");
  await cluster.exec("INSERT INTO shortened SELECT i, repeat('y', 500) FROM generate_series(1, 100) i");
}

/** Locks of every strength by one session and by several, and locks on rows that another session has just changed. */
async function lockTuples(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE locked (i int PRIMARY KEY, v int);
    CREATE TABLE refers (i int REFERENCES locked);
    INSERT INTO locked SELECT i, 0 FROM generate_series(1, 40) i`);
  await cluster.exec("VACUUM (FREEZE) locked");
  const [one, two] = await Promise.all([cluster.sql().reserve(), cluster.sql().reserve()]);
  try {
    await lockByTwo(one, two);
    await lockUpdated(one, two);
  } finally {
    one.release();
    two.release();
  }
  await cluster.exec("INSERT INTO refers SELECT i FROM generate_series(1, 40, 3) i");
  await runTransaction(
    cluster,
    `
    BEGIN; SELECT * FROM locked WHERE i = 33 FOR UPDATE; SAVEPOINT s; UPDATE locked SET v = 9 WHERE i = 33;
    ROLLBACK TO s; COMMIT`,
  );
  await runTransaction(
    cluster,
    "BEGIN; SELECT * FROM locked WHERE i = 34 FOR NO KEY UPDATE; PREPARE TRANSACTION 'locks'",
  );
  await cluster.exec("COMMIT PREPARED 'locks'");
  // The lock removes the link to a version that was rolled back.
  await runTransaction(cluster, "BEGIN; UPDATE locked SET v = 8 WHERE i > 35; ROLLBACK");
  await runTransaction(cluster, "BEGIN; SELECT * FROM locked WHERE i > 35 FOR UPDATE; COMMIT");
  await cluster.exec("DELETE FROM locked WHERE i = 35");
  await cluster.exec("VACUUM (FREEZE) locked");
}

async function lockByTwo(one: Session, two: Session): Promise<void> {
  await one.unsafe("BEGIN; SELECT * FROM locked WHERE i < 10 FOR KEY SHARE").simple();
  await two.unsafe("BEGIN; SELECT * FROM locked WHERE i < 10 FOR SHARE").simple();
  await one.unsafe("COMMIT");
  await two.unsafe("COMMIT");
  // A shared lock travels to the new version.
  await one.unsafe("BEGIN; SELECT * FROM locked WHERE i BETWEEN 10 AND 20 FOR KEY SHARE").simple();
  await two.unsafe("BEGIN; UPDATE locked SET v = v + 1 WHERE i BETWEEN 10 AND 20").simple();
  await two.unsafe("COMMIT");
  await one.unsafe("COMMIT");
}

/** Key share locks on an old version go on to versions that are not committed yet. */
async function lockUpdated(one: Session, two: Session): Promise<void> {
  await one.unsafe("BEGIN; UPDATE locked SET v = v + 1 WHERE i BETWEEN 20 AND 30").simple();
  await two.unsafe("BEGIN; SELECT * FROM locked WHERE i BETWEEN 20 AND 30 FOR KEY SHARE").simple();
  await one.unsafe("COMMIT");
  await two.unsafe("UPDATE locked SET v = v + 1 WHERE i BETWEEN 25 AND 27");
  await two.unsafe("COMMIT");
}

/** INSERT ... ON CONFLICT that stays, and one that finds its conflict only after the row is on the page. */
async function insertSpeculatively(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE SEQUENCE key_calls;
    CREATE FUNCTION slow_key(k text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
      IF current_setting('varve.slow', true) = 'on' THEN
        -- First the look for conflicts, then, with the row on its page, the insertion into the index.
        IF nextval('key_calls') = 2 THEN PERFORM pg_advisory_xact_lock(77); END IF;
      END IF;
      RETURN k;
    END $$;
    CREATE TABLE upserted (k text, v int DEFAULT 0);
    CREATE UNIQUE INDEX ON upserted (slow_key(k));
    INSERT INTO upserted VALUES ('a'), ('b') ON CONFLICT (slow_key(k)) DO NOTHING;
    INSERT INTO upserted VALUES ('b'), ('c') ON CONFLICT (slow_key(k)) DO UPDATE SET v = upserted.v + 1`);
  const [slow, quick] = await Promise.all([cluster.sql().reserve(), cluster.sql().reserve()]);
  try {
    await quick.unsafe("BEGIN; SELECT pg_advisory_xact_lock(77)").simple();
    await slow.unsafe("SET varve.slow = 'on'");
    const insertion = slow.unsafe(
      "INSERT INTO upserted VALUES ('d') ON CONFLICT (slow_key(k)) DO UPDATE SET v = 100",
    )
      .execute();
    await waitFor(async () => {
      const rows = await cluster.exec("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
      return rows.length > 0;
    }, { what: "the speculative insertion waits for the advisory lock" });
    await cluster.exec("INSERT INTO upserted VALUES ('d', 1)");
    await quick.unsafe("COMMIT");
    await insertion;
  } finally {
    slow.release();
    quick.release();
  }
}

async function moveBetweenPartitions(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE parts (i int, v int) PARTITION BY LIST (v);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
    INSERT INTO parts SELECT i, i % 2 FROM generate_series(1, 50) i;
    UPDATE parts SET v = 1 - v WHERE i % 5 = 0`);
}

/** Statistics and flags that are overwritten where they stand. */
async function changeInPlace(cluster: Cluster): Promise<void> {
  await cluster.exec("CREATE INDEX ON plain (i); CREATE INDEX ON made (i)");
  await cluster.exec("ANALYZE plain; ANALYZE made");
  await cluster.exec("VACUUM made");
}

async function advanceSequences(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE SEQUENCE counted INCREMENT 5 CACHE 3;
    SELECT nextval('counted') FROM generate_series(1, 100);
    SELECT setval('counted', 4711);
    ALTER SEQUENCE counted RESTART WITH 7;
    CREATE TABLE serials (i serial, j bigint GENERATED ALWAYS AS IDENTITY);
    INSERT INTO serials DEFAULT VALUES; INSERT INTO serials DEFAULT VALUES;
    TRUNCATE serials RESTART IDENTITY`);
}

/** Tables whose end is empty: VACUUM cuts them, with their maps, in the middle of a map page. */
async function truncateTails(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE cut (i int, t text);
    INSERT INTO cut SELECT i, repeat('x', 500) FROM generate_series(1, 600) i`);
  await cluster.exec("VACUUM (FREEZE) cut");
  await cluster.exec("DELETE FROM cut WHERE i > 250");
  await cluster.exec("VACUUM cut");
  await cluster.exec("INSERT INTO cut SELECT i, repeat('y', 500) FROM generate_series(1, 100) i");
  await cluster.exec("VACUUM cut");
  await runTransaction(
    cluster,
    "BEGIN; CREATE TABLE emptied (i int); INSERT INTO emptied VALUES (1); TRUNCATE emptied; INSERT INTO emptied VALUES (2); COMMIT",
  );
}

/** VACUUM FULL of a table that logical decoding reads, after changes that a slot may still have to decode. */
async function rewriteCatalog(cluster: Cluster): Promise<void> {
  await cluster.exec("CREATE TABLE catalogued (i int PRIMARY KEY, v int) WITH (user_catalog_table = true)");
  await cluster.exec("INSERT INTO catalogued SELECT i, 0 FROM generate_series(1, 50) i");
  await cluster.exec("UPDATE catalogued SET v = 1 WHERE i % 3 = 0");
  await cluster.exec("VACUUM FULL catalogued");
  await cluster.exec("UPDATE pg_description SET description = description WHERE objsubid = 1");
  await cluster.exec("VACUUM FULL pg_description");
  await cluster.exec("TRUNCATE cut, parts");
  await cluster.exec("CLUSTER changed USING changed_pkey");
}
