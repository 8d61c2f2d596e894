/** Workload blocks: rows locked by several transactions at once, which takes multixacts. @module */
import { type Block, type Session, SHARED } from "./session.ts";

/** `shared.parents` and `shared.children`, bound by a foreign key. */
export const prepareRowLocks: Block = async (session) => {
  await session.run(`
    CREATE TABLE IF NOT EXISTS ${SHARED}.parents (id int PRIMARY KEY, visits int NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS ${SHARED}.children (parent int REFERENCES ${SHARED}.parents, note text);
    INSERT INTO ${SHARED}.parents SELECT i FROM generate_series(1, 300) i ON CONFLICT DO NOTHING;
  `);
};

function someParents(session: Session): string {
  const from = session.random.int(1, 290);
  return `id BETWEEN ${from} AND ${from + session.random.int(0, 10)}`;
}

/** Two sharers of the same rows. */
export const sharedLocks: Block = async (session) => {
  const rows = someParents(session);
  await session.run("BEGIN");
  await session.run(`SELECT id FROM ${SHARED}.parents WHERE ${rows} ORDER BY id FOR SHARE`);
  await session.runOther("BEGIN");
  await session.runOther(
    `SELECT id FROM ${SHARED}.parents WHERE ${rows} ORDER BY id FOR ${
      session.random.pick(["SHARE", "KEY SHARE"])
    }`,
  );
  await session.runOther(session.random.pick(["COMMIT", "ROLLBACK"]));
  await session.run("COMMIT");
};

/** A row updated while another transaction holds its key: a multixact with an updater among its members. */
export const updateUnderKeyShare: Block = async (session) => {
  const rows = someParents(session);
  await session.run("BEGIN");
  await session.run(`SELECT id FROM ${SHARED}.parents WHERE ${rows} ORDER BY id FOR KEY SHARE`);
  await session.runOther("BEGIN");
  await session.runOther(`UPDATE ${SHARED}.parents SET visits = visits + 1 WHERE ${rows}`);
  await session.runOther(session.random.chance(0.7) ? "COMMIT" : "ROLLBACK");
  await session.run(session.random.pick(["COMMIT", "ROLLBACK"]));
};

/** A lock taken in a subtransaction that is rolled back, and one that is kept. */
export const locksInSubtransactions: Block = async (session) => {
  const rows = someParents(session);
  await session.transaction([
    `SELECT id FROM ${SHARED}.parents WHERE ${rows} ORDER BY id FOR KEY SHARE`,
    "SAVEPOINT s",
    `SELECT id FROM ${SHARED}.parents WHERE ${rows} ORDER BY id FOR UPDATE`,
    session.random.pick(["ROLLBACK TO s", "RELEASE s"]),
    `UPDATE ${SHARED}.parents SET visits = visits + 1 WHERE ${rows}`,
  ]);
};

/** Both connections add children of the same parents: foreign keys lock them. */
export const children: Block = async (session) => {
  const insert = `INSERT INTO ${SHARED}.children SELECT id, 'child' FROM ${SHARED}.parents WHERE ${
    someParents(session)
  }`;
  await session.run("BEGIN");
  await session.run(insert);
  await session.runOther("BEGIN");
  await session.runOther(insert);
  await session.run("COMMIT");
  await session.runOther("COMMIT");
};

/** `FOR NO KEY UPDATE` on rows nobody changes. */
export const plainLocks: Block = async (session) => {
  await session.transaction([
    `SELECT id FROM ${SHARED}.parents WHERE ${someParents(session)} ORDER BY id FOR NO KEY UPDATE`,
  ]);
};

/** A key locked while its row is being updated: the lock follows the row to its new version. */
export const keyShareOfUpdated: Block = async (session) => {
  const rows = someParents(session);
  await session.run("BEGIN");
  await session.run(`UPDATE ${SHARED}.parents SET visits = visits + 1 WHERE ${rows}`);
  await session.runOther("BEGIN");
  await session.runOther(`SELECT id FROM ${SHARED}.parents WHERE ${rows} ORDER BY id FOR KEY SHARE`);
  await session.run(session.random.pick(["COMMIT", "ROLLBACK"]));
  await session.runOther("COMMIT");
};
