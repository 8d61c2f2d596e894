/** Workload blocks: relations that appear, change and go. Each session works in its own schema. @module */
import type { Block, Session } from "./session.ts";

export const prepareDdl: Block = async (session) => {
  await session.run(`
    CREATE SCHEMA IF NOT EXISTS ${session.own};
    CREATE TABLE IF NOT EXISTS ${session.own}.emptied (i int PRIMARY KEY, t text);
  `);
};

function freshName(session: Session): string {
  return `${session.own}.t${session.random.uint32().toString(36)}`;
}

/** Created, filled, indexed, and dropped or kept or taken back. */
export const createAndDrop: Block = async (session) => {
  const table = freshName(session);
  const statements = [
    `CREATE TABLE ${table} AS SELECT i, md5(i::text) AS t FROM generate_series(1, ${
      session.random.int(1, 2000)
    }) i`,
    `CREATE INDEX ON ${table} (t)`,
    `CREATE UNIQUE INDEX ON ${table} (i)`,
  ];
  await session.transaction(statements, session.random.chance(0.8) ? "COMMIT" : "ROLLBACK");
  if (session.random.chance(0.7)) await session.run(`DROP TABLE IF EXISTS ${table}`);
};

/** Emptied by a new file, or in place when it is new in the same transaction. */
export const truncate: Block = async (session) => {
  const fill =
    `INSERT INTO ${session.own}.emptied SELECT i, repeat('e', i % 3000) FROM generate_series(1, 300) i ON CONFLICT DO NOTHING`;
  await session.run(fill);
  await session.transaction(
    [`TRUNCATE ${session.own}.emptied`, ...(session.random.chance(0.5) ? [fill] : [])],
    session.random.chance(0.8) ? "COMMIT" : "ROLLBACK",
  );
  const table = freshName(session);
  await session.transaction([
    `CREATE TABLE ${table} (i int)`,
    `INSERT INTO ${table} SELECT generate_series(1, 1000)`,
    `TRUNCATE ${table}`,
    `INSERT INTO ${table} VALUES (1)`,
    `DROP TABLE ${table}`,
  ]);
};

/** Columns added, retyped (a rewrite) and dropped. */
export const alterTable: Block = async (session) => {
  const table = freshName(session);
  await session.run(`CREATE TABLE ${table} (i int, t text)`);
  await session.run(`INSERT INTO ${table} SELECT i, md5(i::text) FROM generate_series(1, 500) i`);
  await session.run(`ALTER TABLE ${table} ADD COLUMN extra int DEFAULT 7`);
  await session.run(`ALTER TABLE ${table} ALTER i TYPE bigint`);
  await session.run(`ALTER TABLE ${table} DROP COLUMN t`);
  await session.run(`UPDATE ${table} SET extra = 8 WHERE i % 9 = 0`);
  await session.run(`DROP TABLE ${table}`);
};

/** Not in WAL but for its creation and its init fork. */
export const unloggedTable: Block = async (session) => {
  const table = freshName(session);
  await session.run(`CREATE UNLOGGED TABLE ${table} (i int PRIMARY KEY, t text)`);
  await session.run(`INSERT INTO ${table} SELECT i, 'u' FROM generate_series(1, 100) i`);
  await session.run(session.random.chance(0.5) ? `ALTER TABLE ${table} SET LOGGED` : `DROP TABLE ${table}`);
};

/** Private to the session: its files are not varve's. */
export const temporaryTable: Block = async (session) => {
  await session.transaction([
    "CREATE TEMPORARY TABLE scratch ON COMMIT DROP AS SELECT generate_series(1, 1000) AS i",
    "UPDATE scratch SET i = i + 1",
  ]);
};

export const materializedView: Block = async (session) => {
  const view = freshName(session);
  await session.run(`CREATE MATERIALIZED VIEW ${view} AS SELECT i FROM generate_series(1, 700) i`);
  await session.run(`REFRESH MATERIALIZED VIEW ${view}`);
  await session.run(`DROP MATERIALIZED VIEW ${view}`);
};

export const partitions: Block = async (session) => {
  const table = freshName(session);
  await session.run(`CREATE TABLE ${table} (i int, t text) PARTITION BY RANGE (i)`);
  for (const from of [0, 100, 200]) {
    await session.run(
      `CREATE TABLE ${table}_${from} PARTITION OF ${table} FOR VALUES FROM (${from}) TO (${from + 100})`,
    );
  }
  await session.run(`CREATE INDEX ON ${table} (t)`);
  await session.run(`INSERT INTO ${table} SELECT i, md5(i::text) FROM generate_series(0, 299) i`);
  await session.run(`UPDATE ${table} SET i = (i + 100) % 300 WHERE i % 10 = 0`); // rows move between partitions
  await session.run(`ALTER TABLE ${table} DETACH PARTITION ${table}_100`);
  await session.run(`DROP TABLE ${table}_100`);
  if (session.random.chance(0.7)) await session.run(`DROP TABLE ${table}`);
};

/** Sequences drawn from, set, restarted, dropped. */
export const sequences: Block = async (session) => {
  const sequence = freshName(session);
  await session.run(`CREATE SEQUENCE ${sequence} CACHE ${session.random.pick([1, 10])}`);
  await session.run(`SELECT nextval('${sequence}') FROM generate_series(1, ${session.random.int(1, 100)})`);
  await session.run(`SELECT setval('${sequence}', ${session.random.int(1, 1_000_000)})`);
  await session.run(`ALTER SEQUENCE ${sequence} RESTART WITH 5`);
  await session.run(`SELECT nextval('${sequence}')`);
  if (session.random.chance(0.6)) await session.run(`DROP SEQUENCE ${sequence}`);
};

/** A large object: rows of a catalog, in pages of 2 KiB. */
export const largeObject: Block = async (session) => {
  await session.run(
    `SELECT lo_from_bytea(0, convert_to(repeat(md5(random()::text), ${session.random.int(1, 500)}), 'UTF8'))`,
  );
};
