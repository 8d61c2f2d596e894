/**
 * Work for a server that reaches every record of the managers that have no pages, in the amounts at which SLRU pages
 * and segments begin and end.
 *
 * @module
 */
import { postgres } from "../../../src/deps/postgres.ts";
import type { Cluster } from "../../support/postgres.ts";

/** Since this major `CREATE DATABASE` has strategies. */
const FIRST_WITH_STRATEGY = 15;

/** Runs statements on a connection of its own, where transactions may begin and end. */
export async function execute(cluster: Cluster, statements: string[], database = "postgres"): Promise<void> {
  const sql = postgres(cluster.url(database), { max: 1, onnotice: () => {}, fetch_types: false });
  try {
    for (const statement of statements) await sql.unsafe(statement).simple();
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** What the other pieces need. */
export async function prepareTables(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE journal (id bigserial PRIMARY KEY, note text);
    CREATE TABLE locked (id int PRIMARY KEY, v int);
    INSERT INTO locked SELECT i, 0 FROM generate_series(1, 5000) i;
    CREATE PROCEDURE subtransactions(n int, fails int) LANGUAGE plpgsql AS $$ BEGIN
      FOR i IN 1..n LOOP
        BEGIN
          PERFORM pg_logical_emit_message(true, '', ''); -- takes an id of its own
          IF i % fails = 0 THEN RAISE EXCEPTION 'undone'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
      END LOOP;
    END $$;
  `);
}

/** Transactions of all shapes; together more xids than a page of pg_xact and than a segment of pg_commit_ts has. */
export async function transactions(cluster: Cluster): Promise<void> {
  await execute(cluster, [
    "INSERT INTO journal (note) VALUES ('committed')",
    "BEGIN; INSERT INTO journal (note) VALUES ('aborted'); ROLLBACK",
    `BEGIN; INSERT INTO journal (note) VALUES ('a'); SAVEPOINT s; INSERT INTO journal (note) VALUES ('b');
      ROLLBACK TO s; SAVEPOINT t; INSERT INTO journal (note) VALUES ('c'); COMMIT`,
    "CALL subtransactions(200, 7)",
    "BEGIN; CALL subtransactions(2000, 3000000); ROLLBACK",
    // One commit record with subtransactions on two pages of pg_xact and 42 of pg_commit_ts.
    "CALL subtransactions(34000, 3000000)",
  ]);
}

/** Prepared with subtransactions, dropped files and a name; some ended either way, some left, some checkpointed. */
export async function twoPhase(cluster: Cluster, prefix: string): Promise<void> {
  const prepare = [1, 2, 3, 4, 5, 6].map((number) =>
    `BEGIN;
      CREATE TABLE ${prefix}_two_phase_${number} (i int);
      INSERT INTO journal (note) VALUES ('prepared');
      CALL subtransactions(${number * 30}, 4);
      PREPARE TRANSACTION '${prefix} ${number}'`
  );
  await execute(cluster, [
    ...prepare.slice(0, 3),
    "CHECKPOINT",
    ...prepare.slice(3),
    `COMMIT PREPARED '${prefix} 1'`,
    `ROLLBACK PREPARED '${prefix} 2'`,
    `COMMIT PREPARED '${prefix} 4'`,
    `ROLLBACK PREPARED '${prefix} 5'`,
  ]);
}

/** More multixacts than a page of offsets has, of two members each: a transaction and one of its subtransactions. */
export async function manyMultiXacts(cluster: Cluster, count: number): Promise<void> {
  await execute(cluster, [`DO $$ BEGIN
    PERFORM FROM locked FOR KEY SHARE;
    FOR i IN 1..${count} LOOP
      BEGIN
        PERFORM FROM locked WHERE id = i FOR NO KEY UPDATE;
      EXCEPTION WHEN raise_exception THEN NULL;
      END;
    END LOOP;
  END $$`]);
}

/**
 * Multixacts of 2, 3, ... members, by prepared transactions that all lock one row: with 330 of them more members than a
 * segment has. They end either way.
 */
export async function largeMultiXacts(cluster: Cluster, lockers: number): Promise<void> {
  const numbers = Array.from({ length: lockers }, (_, index) => index + 1);
  await execute(cluster, [
    ...numbers.map((number) =>
      `BEGIN; SELECT FROM locked WHERE id = 5000 FOR KEY SHARE; PREPARE TRANSACTION 'lock ${number}'`
    ),
    "UPDATE locked SET v = v + 1 WHERE id = 5000",
    ...numbers.map((number) => `${number % 3 === 0 ? "ROLLBACK" : "COMMIT"} PREPARED 'lock ${number}'`),
  ]);
}

/** Relations made, cut, moved and dropped; mapped catalogs rewritten. */
export async function relations(cluster: Cluster): Promise<void> {
  const location = await cluster.directory("elsewhere");
  await execute(cluster, [
    `CREATE TABLE dropped (i int PRIMARY KEY, t text);
      INSERT INTO dropped SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i;
      CREATE TABLE cut AS SELECT * FROM dropped;
      CREATE UNLOGGED TABLE unlogged AS SELECT * FROM dropped`,
    "DROP TABLE dropped",
    "BEGIN; DROP TABLE unlogged; CREATE TABLE never (i int); ROLLBACK",
    "BEGIN; SAVEPOINT s; CREATE TABLE neither (i int); ROLLBACK TO s; COMMIT",
    "TRUNCATE cut",
    "CREATE TEMPORARY TABLE passing AS SELECT generate_series(1, 100)",
    `CREATE TABLESPACE elsewhere LOCATION '${location}'`,
    "CREATE TABLE moved TABLESPACE elsewhere AS SELECT generate_series(1, 100) i",
    "ALTER TABLE moved SET TABLESPACE pg_default; ALTER TABLE locked SET TABLESPACE elsewhere",
    "VACUUM FULL pg_class",
    "VACUUM FULL pg_database",
    "VACUUM FULL pg_authid",
  ]);
}

/** Databases by each strategy, with a tablespace of their own, moved and dropped; a tablespace that goes. */
export async function databases(cluster: Cluster): Promise<void> {
  const passing = await cluster.directory("passing");
  const strategies = cluster.major >= FIRST_WITH_STRATEGY ? ["file_copy", "wal_log"] : ["only"];
  for (const strategy of strategies) {
    const clause = strategy === "only" ? "" : `STRATEGY ${strategy}`;
    const name = `db_${strategy}`;
    await execute(cluster, [`CREATE DATABASE ${name} ${clause}`]);
    await execute(cluster, [
      "CREATE TABLE inhabitants AS SELECT generate_series(1, 100) i",
      "CREATE TABLE away TABLESPACE elsewhere AS SELECT generate_series(1, 100) i",
      "VACUUM FULL pg_class",
    ], name);
    await execute(cluster, [
      `CREATE DATABASE ${name}_copy TEMPLATE ${name} ${clause}`,
      `CREATE DATABASE ${name}_gone TEMPLATE ${name} ${clause}`,
      `DROP DATABASE ${name}_gone`,
      `DROP DATABASE ${name}`,
    ]);
  }
  await execute(cluster, [
    `CREATE TABLESPACE passing LOCATION '${passing}'`,
    `ALTER DATABASE db_${strategies[0]}_copy SET TABLESPACE passing`,
    `ALTER DATABASE db_${strategies[0]}_copy SET TABLESPACE pg_default`,
    "DROP TABLESPACE passing",
  ]);
}

/** Replication origins: commits, prepared ones too, that came from elsewhere; progress set, moved back, dropped. */
export async function origins(cluster: Cluster, prefix: string): Promise<void> {
  await execute(cluster, [
    ...["one", "two", "three"].map((name) => `SELECT pg_replication_origin_create('${prefix} ${name}')`),
    `SELECT pg_replication_origin_session_setup('${prefix} one')`,
    `BEGIN; SELECT pg_replication_origin_xact_setup('0/AFFE', '2001-02-03 04:05:06Z');
      INSERT INTO journal (note) VALUES ('from elsewhere'); CALL subtransactions(3, 2); COMMIT`,
    `BEGIN; SELECT pg_replication_origin_xact_setup('0/BEEF', '2002-03-04 05:06:07Z');
      INSERT INTO journal (note) VALUES ('from elsewhere, prepared'); PREPARE TRANSACTION '${prefix} elsewhere'`,
    "SELECT pg_replication_origin_session_reset()",
    `COMMIT PREPARED '${prefix} elsewhere'`,
    "SELECT pg_switch_wal()",
    `SELECT pg_replication_origin_advance('${prefix} two', 'FFFFFFFF/12345678')`,
    `SELECT pg_replication_origin_advance('${prefix} two', '0/12345678')`,
    `SELECT pg_replication_origin_advance('${prefix} three', '1/0')`,
    `SELECT pg_replication_origin_drop('${prefix} three')`,
  ]);
}

/** Freezes all rows of all databases, so that old segments can go, and lets them. */
export async function freezeEverything(cluster: Cluster): Promise<void> {
  await execute(cluster, ["UPDATE pg_database SET datallowconn = true"]);
  const rows: { datname: string }[] = await cluster.exec("SELECT datname FROM pg_database");
  for (const { datname } of rows) await execute(cluster, ["VACUUM FREEZE"], datname);
}
