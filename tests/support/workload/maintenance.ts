/** Workload blocks: vacuum in its forms, and rebuilding. @module */
import { type Block, SHARED } from "./session.ts";

const TABLES = ["accounts", "everything", "documents", "journal", "parents", "children", "keys"];

export const vacuum: Block = async (session) => {
  await session.run(
    `VACUUM ${session.random.pick(["", "(ANALYZE)", "(INDEX_CLEANUP ON)"])} ${SHARED}.${
      session.random.pick(TABLES)
    }`,
  );
};

export const vacuumFreeze: Block = async (session) => {
  await session.run(`VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) ${SHARED}.${session.random.pick(TABLES)}`);
};

/** The end of a table becomes empty and is cut off. */
export const vacuumTruncates: Block = async (session) => {
  const table = `${session.own}.tail`;
  await session.run(`DROP TABLE IF EXISTS ${table}`);
  await session.run(`CREATE TABLE ${table} WITH (vacuum_truncate = on) AS
    SELECT i, repeat('t', 200) AS filler FROM generate_series(1, ${session.random.int(500, 4000)}) i`);
  await session.run(`VACUUM ${table}`);
  await session.run(`DELETE FROM ${table} WHERE i > ${session.random.int(1, 400)}`);
  await session.run(`VACUUM ${table}`);
};

/** A new file for the table, and for its indexes. */
export const vacuumFull: Block = async (session) => {
  await session.run(`VACUUM FULL ${SHARED}.${session.random.pick(TABLES)}`);
};

/** Catalogs move too; mapped ones through the relation map. */
export const vacuumFullCatalog: Block = async (session) => {
  await session.run(
    `VACUUM FULL ${
      session.random.pick(["pg_class", "pg_attribute", "pg_type", "pg_statistic", "pg_depend"])
    }`,
  );
};

export const reindex: Block = async (session) => {
  const what = session.random.pick([
    `INDEX ${SHARED}.keys_a_b`,
    `INDEX ${SHARED}.accounts_branch`,
    `TABLE ${SHARED}.keys`,
    `TABLE ${SHARED}.everything`,
  ]);
  await session.run(`REINDEX ${what}`);
};

/** Builds beside the old one; commits several times on its way. */
export const reindexConcurrently: Block = async (session) => {
  await session.run(`CREATE TABLE IF NOT EXISTS ${session.own}.rebuilt (i int)`);
  await session.run(`INSERT INTO ${session.own}.rebuilt SELECT generate_series(1, 500)`);
  await session.run(`CREATE INDEX IF NOT EXISTS rebuilt_i ON ${session.own}.rebuilt (i)`);
  await session.run("SET lock_timeout = 0"); // given up half-way, it would leave an invalid index behind
  await session.run(`REINDEX INDEX CONCURRENTLY ${session.own}.rebuilt_i`).finally(() =>
    session.run("RESET lock_timeout").catch(() => {})
  );
};

export const cluster: Block = async (session) => {
  await session.run(`CLUSTER ${SHARED}.accounts USING accounts_branch`);
};

export const analyze: Block = async (session) => {
  await session.run(`ANALYZE ${SHARED}.${session.random.pick(TABLES)}`);
};
