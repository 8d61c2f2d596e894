/** Workload blocks: btree indexes that split, deduplicate, and lose pages. @module */
import { type Block, SHARED } from "./session.ts";

/** `shared.keys` with indexes of several shapes; the padded one grows levels from few rows. */
export const prepareBtree: Block = async (session) => {
  await session.run(`
    CREATE SEQUENCE IF NOT EXISTS ${SHARED}.key_ids;
    CREATE TABLE IF NOT EXISTS ${SHARED}.keys (id bigint, kind int, a int, b text, padded text);
    CREATE UNIQUE INDEX IF NOT EXISTS keys_id ON ${SHARED}.keys (id);
    CREATE INDEX IF NOT EXISTS keys_kind ON ${SHARED}.keys (kind);
    CREATE INDEX IF NOT EXISTS keys_a_b ON ${SHARED}.keys (a, b DESC NULLS FIRST);
    CREATE INDEX IF NOT EXISTS keys_plain ON ${SHARED}.keys (kind) INCLUDE (a) WITH (deduplicate_items = off);
    CREATE INDEX IF NOT EXISTS keys_padded ON ${SHARED}.keys (padded) WITH (fillfactor = 60);
    CREATE INDEX IF NOT EXISTS keys_part ON ${SHARED}.keys ((a % 7)) WHERE kind < 5;
  `);
};

const COLUMNS = `(id, kind, a, b, padded)`;

/** One value of each column from `i`. */
function values(kind: string, padding: number): string {
  return `nextval('${SHARED}.key_ids'), ${kind}, hashint4(i), nullif(md5(i::text), md5('7')), rpad(md5(i::text), ${padding}, 'p')`;
}

/** At the right end: the fast path and its split. */
export const ascendingKeys: Block = async (session) => {
  await session.run(
    `INSERT INTO ${SHARED}.keys ${COLUMNS} SELECT ${values("i % 10", 40)} FROM generate_series(1, ${
      session.random.int(50, 600)
    }) i`,
  );
};

/** Everywhere, with keys up to an eighth of a page: splits on all levels. */
export const randomKeys: Block = async (session) => {
  const from = session.random.int(0, 1_000_000);
  await session.run(`INSERT INTO ${SHARED}.keys ${COLUMNS}
    SELECT ${values("hashint4(i) % 50", session.random.int(100, 900))} FROM generate_series(${from}, ${
    from + 60
  }) i`);
};

/** One key many times: posting lists. */
export const duplicateKeys: Block = async (session) => {
  const from = session.random.int(0, 100);
  await session.run(`INSERT INTO ${SHARED}.keys ${COLUMNS}
    SELECT ${values(String(session.random.int(0, 9)), 32)} FROM generate_series(${from}, ${
    from + session.random.int(50, 400)
  }) i`);
};

/** An indexed column changes while the others' keys stay: version churn that bottom-up deletion answers. */
export const churnKeys: Block = async (session) => {
  const rest = session.random.int(0, 19);
  for (let i = 0; i < 3; i++) {
    await session.run(
      `UPDATE ${SHARED}.keys SET a = a + 1 WHERE id % 20 = ${rest} AND id > (SELECT max(id) - 3000 FROM ${SHARED}.keys)`,
    );
  }
};

/** Whole ranges go, and a vacuum unlinks their pages. */
export const deleteKeys: Block = async (session) => {
  const [row] = await session.run(
    `SELECT coalesce(min(id), 0) AS low, coalesce(max(id), 0) AS high FROM ${SHARED}.keys`,
  );
  const [low, high] = [Number(row.low), Number(row.high)];
  const from = session.random.int(low, high);
  await session.run(
    `DELETE FROM ${SHARED}.keys WHERE id BETWEEN ${from} AND ${from + Math.ceil((high - low) / 4)}`,
  );
  await session.run(`VACUUM ${SHARED}.keys`);
};

/** Dead entries are met by scans, marked, and deleted when room is needed. */
export const killedKeys: Block = async (session) => {
  const kind = session.random.int(0, 9);
  await session.run(`DELETE FROM ${SHARED}.keys WHERE kind = ${kind} AND id % 3 = 0`);
  await session.run(
    `SET enable_seqscan = off; SELECT count(a) FROM ${SHARED}.keys WHERE kind = ${kind}; RESET enable_seqscan`,
  );
  await ascendingKeys(session);
};

/** A duplicate of a unique key: refused, after its heap tuple was written. */
export const uniqueViolation: Block = async (session) => {
  await session.run(`INSERT INTO ${SHARED}.keys (id) SELECT id FROM ${SHARED}.keys LIMIT 1`).catch(
    (error) => {
      if ((error as { code?: string }).code !== "23505") throw error;
    },
  );
};
