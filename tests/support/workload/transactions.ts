/** Workload blocks: ways for a transaction to begin, nest and end. @module */
import { type Block, type Session, SHARED } from "./session.ts";

/** `shared.journal`: append-only, without conflicts, so that blocks here differ by their transactions alone. */
export const prepareTransactions: Block = async (session) => {
  await session.run(`
    CREATE TABLE IF NOT EXISTS ${SHARED}.journal (id bigserial, note text, payload text);
    CREATE SEQUENCE IF NOT EXISTS ${SHARED}.prepared_names;
  `);
};

function note(text: string, rows = 1): string {
  return `INSERT INTO ${SHARED}.journal (note, payload) SELECT '${text}', md5(i::text) FROM generate_series(1, ${rows}) i`;
}

/** Savepoints inside savepoints, released or rolled back to. */
export const savepoints: Block = async (session) => {
  const statements: string[] = [];
  for (let depth = 1; depth <= session.random.int(1, 6); depth++) {
    statements.push(`SAVEPOINT s${depth}`, note(`depth ${depth}`, session.random.int(1, 5)));
    if (session.random.chance(0.4)) statements.push(`ROLLBACK TO s${depth}`);
    else if (session.random.chance(0.3)) statements.push(`RELEASE s${depth}`);
  }
  await session.transaction(
    [note("outer"), ...statements, note("end")],
    session.random.chance(0.8) ? "COMMIT" : "ROLLBACK",
  );
};

/** More than 64 subtransactions: they are assigned to their parent in WAL before it ends. */
export const manySubtransactions: Block = async (session) => {
  await session.run(`DO $$ BEGIN
    FOR i IN 1..${session.random.int(70, 200)} LOOP
      BEGIN
        INSERT INTO ${SHARED}.journal (note) VALUES ('subtransaction ' || i);
        IF i % 7 = 0 THEN RAISE EXCEPTION 'undone'; END IF;
      EXCEPTION WHEN raise_exception THEN NULL;
      END;
    END LOOP;
  END $$`);
};

/** Thousands of rows in one, kept or not. */
export const largeTransaction: Block = async (session) => {
  const rows = session.random.int(2000, 20_000);
  await session.transaction([
    note("large", rows),
    `DELETE FROM ${SHARED}.journal WHERE note = 'large' AND id % ${session.random.int(2, 5)} = 0`,
  ], session.random.chance(0.7) ? "COMMIT" : "ROLLBACK");
};

/** Begun, worked in, taken back. */
export const rolledBack: Block = async (session) => {
  await session.transaction([note("rolled back", session.random.int(1, 100))], "ROLLBACK");
};

/** Ended by an error half-way. */
export const failed: Block = async (session) => {
  await session.run("BEGIN");
  await session.run(note("failed", 10));
  await session.run("SELECT 1 / 0").catch((error) => {
    if ((error as { code?: string }).code !== "22012") throw error;
  });
  await session.run("ROLLBACK");
};

/** A name for a prepared transaction that no other has had in this database. */
async function preparedName(session: Session): Promise<string> {
  const [{ name }] = await session.run(`SELECT nextval('${SHARED}.prepared_names')::text AS name`);
  return `varve-${session.database}-${name}`;
}

/** In two phases, with subtransactions, ended either way. */
export const twoPhase: Block = async (session) => {
  const name = await preparedName(session);
  await session.transaction([
    note("two phases", 5),
    "SAVEPOINT inner_one",
    note("inner", 3),
    ...(session.random.chance(0.3) ? ["ROLLBACK TO inner_one"] : []),
    // Its invalidations and dropped files travel with the prepared state.
    `CREATE TABLE ${session.own}.two_phase_${session.random.uint32()} AS SELECT 1 AS one`,
  ], `PREPARE TRANSACTION '${name}'`);
  if (session.random.chance(0.3)) await session.run("CHECKPOINT"); // moves its state from WAL to a file
  await session.run(`${session.random.chance(0.6) ? "COMMIT" : "ROLLBACK"} PREPARED '${name}'`);
};

/** Leaves one prepared for good, unless this database has `limit` of them already. It blocks nobody. */
export async function keepPrepared(session: Session, limit = 2): Promise<void> {
  const [{ open }] = await session.run(
    `SELECT count(*)::int AS open FROM pg_prepared_xacts WHERE database = current_database()`,
  );
  if (Number(open) >= limit) return;
  await session.transaction(
    [note("left prepared", 20)],
    `PREPARE TRANSACTION '${await preparedName(session)}'`,
  );
}
