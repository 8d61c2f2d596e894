/** Workload blocks: databases created by copy and by WAL, filled, moved, dropped; tablespaces. @module */
import { postgres } from "../../../src/deps/postgres.ts";
import type { Block, Session } from "./session.ts";

/** Since this major `CREATE DATABASE` has strategies, and `wal_log` is the default. */
const FIRST_WITH_STRATEGY = 15;

/** Databases that one session keeps at most. */
const MAX_KEPT = 2;

function prefix(session: Session): string {
  return `${session.database}_w${session.index}_`;
}

/** Creates one from a template, writes to it, and drops it or an older one of this session. */
export const createDatabase: Block = async (session) => {
  const name = prefix(session) + session.random.uint32().toString(36);
  const template = session.random.pick(["template0", "template1"]);
  const strategy = session.random.pick(["file_copy", "wal_log"]);
  const clause = session.major >= FIRST_WITH_STRATEGY ? ` STRATEGY ${strategy}` : "";
  await session.run(`CREATE DATABASE ${name} TEMPLATE ${template}${clause}`);
  await insideDatabase(session, name, async (run) => {
    await run(`CREATE TABLE inhabitants AS SELECT i, md5(i::text) AS t FROM generate_series(1, 500) i`);
    await run(`CREATE INDEX ON inhabitants (t)`);
    await run(`VACUUM inhabitants`);
  });
  const kept = await session.run(
    `SELECT datname FROM pg_database WHERE datname LIKE '${prefix(session)}%' ORDER BY oid`,
  );
  if (session.random.chance(0.5)) await session.run(`DROP DATABASE IF EXISTS ${name}`);
  else if (kept.length > MAX_KEPT) await session.run(`DROP DATABASE IF EXISTS ${kept[0].datname}`);
};

/** Moves a database of this session between tablespaces, which copies its files. */
export const moveDatabase: Block = async (session) => {
  const [found] = await session.run(
    `SELECT datname, spcname FROM pg_database d JOIN pg_tablespace s ON s.oid = d.dattablespace
    WHERE datname LIKE '${prefix(session)}%' LIMIT 1`,
  );
  if (found === undefined) return createDatabase(session);
  const target = found.spcname === "pg_default" ? await ensureTablespace(session) : "pg_default";
  await session.run(`ALTER DATABASE ${found.datname} SET TABLESPACE ${target}`).catch(async (error) => {
    // A server killed while it moved the database leaves files behind that stand in the way of another try.
    if ((error as { code?: string }).code !== "55000") throw error;
    await session.run(`DROP DATABASE ${found.datname}`);
  });
};

/** A table in a tablespace of its own, moved back and forth. */
export const tablespaceTable: Block = async (session) => {
  const tablespace = await ensureTablespace(session);
  const table = `${session.own}.elsewhere`;
  await session.run(
    `CREATE TABLE IF NOT EXISTS ${table} (i int PRIMARY KEY, t text) TABLESPACE ${tablespace}`,
  );
  await session.run(`INSERT INTO ${table} SELECT i, md5(i::text) FROM generate_series(1, 300) i
    ON CONFLICT (i) DO UPDATE SET t = excluded.t || 'again'`);
  await session.run(`ALTER TABLE ${table} SET TABLESPACE ${session.random.pick([tablespace, "pg_default"])}`);
};

/** A tablespace that comes, is used, and goes. */
export const passingTablespace: Block = async (session) => {
  const name = `passing_${session.database}_${session.index}`;
  const location = await session.cluster.directory(`tablespaces/${name}`);
  await session.run(`DROP TABLE IF EXISTS ${session.own}.passing`); // left by a run that was cut off
  await session.run(`DROP TABLESPACE IF EXISTS ${name}`);
  await session.run(`CREATE TABLESPACE ${name} LOCATION '${location}'`);
  await session.run(`CREATE TABLE ${session.own}.passing (i int) TABLESPACE ${name}`);
  await session.run(`INSERT INTO ${session.own}.passing SELECT generate_series(1, 300)`);
  await session.run(`DROP TABLE ${session.own}.passing`);
  await session.run(`DROP TABLESPACE ${name}`);
};

/** This session's tablespace, created the first time. */
async function ensureTablespace(session: Session): Promise<string> {
  const name = `space_${session.database}_${session.index}`;
  const [found] = await session.run(`SELECT 1 FROM pg_tablespace WHERE spcname = '${name}'`);
  if (found === undefined) {
    const location = await session.cluster.directory(`tablespaces/${name}`);
    await session.run(`CREATE TABLESPACE ${name} LOCATION '${location}'`);
  }
  return name;
}

async function insideDatabase(
  session: Session,
  database: string,
  work: (run: (query: string) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const sql = postgres(session.cluster.url(database), { max: 1, onnotice: () => {}, fetch_types: false });
  try {
    await work((query) => sql.unsafe(query).simple());
  } finally {
    await sql.end({ timeout: 1 });
  }
}
