/** Workload blocks: plain rows, inserted, updated with and without index changes, deleted, pruned. @module */
import { type Block, type Session, SHARED } from "./session.ts";

/** Rows to begin with. */
const INITIAL_ROWS = 2000;

/** `shared.accounts`: narrow rows with room on their pages, so that updates stay on them. */
export const prepareHeap: Block = async (session) => {
  await session.run(`
    CREATE SEQUENCE IF NOT EXISTS ${SHARED}.account_ids;
    CREATE TABLE IF NOT EXISTS ${SHARED}.accounts (
      id bigint PRIMARY KEY DEFAULT nextval('${SHARED}.account_ids'),
      branch int NOT NULL, balance bigint NOT NULL DEFAULT 0, filler text
    ) WITH (fillfactor = 70);
    CREATE INDEX IF NOT EXISTS accounts_branch ON ${SHARED}.accounts (branch);
    INSERT INTO ${SHARED}.accounts (branch, filler) SELECT i % 20, md5(i::text) FROM generate_series(1, ${INITIAL_ROWS}) i
      WHERE NOT EXISTS (SELECT FROM ${SHARED}.accounts);
  `);
};

/** A condition that picks about `share` of the accounts, others every time. */
function someAccounts(session: Session, share: number): string {
  return `hashint8(id + ${session.random.int(0, 1_000_000)}) % 1000 BETWEEN 0 AND ${
    Math.round(share * 1000)
  }`;
}

export const insertRows: Block = async (session) => {
  const rows = session.random.int(1, 200);
  await session.run(`INSERT INTO ${SHARED}.accounts (branch, filler)
    SELECT ${session.random.int(0, 100)}, md5(i::text) FROM generate_series(1, ${rows}) i`);
};

/** Several rows a record: `XLOG_HEAP2_MULTI_INSERT`. */
export const copyRows: Block = async (session) => {
  const rows = Array.from(
    { length: session.random.int(1, 300) },
    () =>
      `${session.random.int(0, 100)}\t${session.random.int(-1000, 1000)}\t${
        session.random.text(session.random.int(0, 60))
      }`,
  );
  await session.copy(`${SHARED}.accounts (branch, balance, filler)`, rows);
};

/** No indexed column changes: heap-only tuples, as long as the page has room. */
export const hotUpdates: Block = async (session) => {
  await session.run(
    `UPDATE ${SHARED}.accounts SET balance = balance + 1 WHERE ${someAccounts(session, 0.02)}`,
  );
};

/** An indexed column changes: new index entries, often on other pages. */
export const indexedUpdates: Block = async (session) => {
  const branch = session.random.int(0, 100);
  await session.run(`UPDATE ${SHARED}.accounts SET branch = ${branch} WHERE ${someAccounts(session, 0.01)}`);
};

/** Rows outgrow their pages. */
export const growingUpdates: Block = async (session) => {
  await session.run(
    `UPDATE ${SHARED}.accounts SET filler = filler || repeat('x', ${session.random.int(1, 100)})
    WHERE length(filler) < 500 AND ${someAccounts(session, 0.01)}`,
  );
};

export const deleteRows: Block = async (session) => {
  await session.run(`DELETE FROM ${SHARED}.accounts WHERE ${someAccounts(session, 0.01)}`);
};

/** One row again and again, with reads between: its page is pruned on the way. */
export const pruneOnePage: Block = async (session) => {
  const [row] = await session.run(
    `SELECT min(id) AS id FROM ${SHARED}.accounts WHERE id > ${session.random.int(0, 2000)}`,
  );
  if (row?.id === null || row === undefined) return;
  const update = `UPDATE ${SHARED}.accounts SET balance = balance - 1 WHERE id = ${row.id}`;
  for (let i = 0; i < 40; i++) await session.run(update);
  await session.run(`SELECT count(*) FROM ${SHARED}.accounts WHERE id = ${row.id}`);
};

/** The same row twice in one transaction, then a choice of end: combined command ids. */
export const updateTwice: Block = async (session) => {
  const where = someAccounts(session, 0.003);
  await session.transaction([
    `UPDATE ${SHARED}.accounts SET balance = 1 WHERE ${where}`,
    `UPDATE ${SHARED}.accounts SET balance = 2, branch = branch + 1 WHERE ${where}`,
    `DELETE FROM ${SHARED}.accounts WHERE ${where} AND id % 5 = 0`,
  ], session.random.chance(0.7) ? "COMMIT" : "ROLLBACK");
};

/** Inserts that may find their row present: speculative insertion. Ids below zero, where the sequence never comes. */
export const upserts: Block = async (session) => {
  const from = session.random.int(-3000, -100);
  await session.run(
    `INSERT INTO ${SHARED}.accounts (id, branch) SELECT i, 0 FROM generate_series(${from}, ${from + 40}) i
    ON CONFLICT (id) DO UPDATE SET balance = accounts.balance + 10`,
  );
};
