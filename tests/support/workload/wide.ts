/** Workload blocks: rows of many columns, keys of many bytes, tuples that fill a page. @module */
import { type Block, type Session, SHARED } from "./session.ts";

/** Columns of `shared.columns` beside its key. */
const COLUMNS = 40;
/** Bytes of a key in `shared.long_keys`: four fill a page. */
const KEY_BYTES = 1600;
/** Bytes of text that leave no room on a page: `MaxHeapTupleSize` less header, id and length word. */
const FULL_TEXT_BYTES = 8160 - 24 - 8 - 4;

/** One table for each; nothing in them is compressed or moved out of line. */
export const prepareWide: Block = async (session) => {
  const columns = Array.from({ length: COLUMNS }, (_, i) => `c${i} ${i % 3 === 0 ? "text" : "int"}`);
  await session.run(`
    CREATE TABLE IF NOT EXISTS ${SHARED}.columns (id bigserial PRIMARY KEY, ${columns.join(", ")});
    CREATE TABLE IF NOT EXISTS ${SHARED}.long_keys (id bigserial, k text);
    ALTER TABLE ${SHARED}.long_keys ALTER k SET STORAGE PLAIN;
    CREATE INDEX IF NOT EXISTS long_keys_k ON ${SHARED}.long_keys (k);
    CREATE INDEX IF NOT EXISTS long_keys_hash ON ${SHARED}.long_keys USING hash (k);
    CREATE TABLE IF NOT EXISTS ${SHARED}.full_pages (id bigserial, t text);
    ALTER TABLE ${SHARED}.full_pages ALTER t SET STORAGE PLAIN;
  `);
};

/** Rows with some columns null, others every time; then one column changes. */
export const manyColumns: Block = async (session) => {
  const isNull = Array.from({ length: COLUMNS }, () => session.random.chance(0.3));
  const names = isNull.map((_, i) => `c${i}`).join(", ");
  const values = isNull.map((nothing, i) =>
    nothing ? "NULL" : i % 3 === 0 ? `md5((i + ${i})::text)` : `i * ${i}`
  );
  await session.run(
    `INSERT INTO ${SHARED}.columns (${names}) SELECT ${values.join(", ")} FROM generate_series(1, ${
      session.random.int(1, 40)
    }) i`,
  );
  const changed = session.random.int(0, COLUMNS - 1);
  await session.run(
    `UPDATE ${SHARED}.columns SET c${changed} = ${changed % 3 === 0 ? "'changed'" : "7"} WHERE id % 19 = ${
      session.random.int(0, 18)
    }`,
  );
};

/** Keys that share their beginning or their end, and some that go again. */
export const longKeys: Block = async (session) => {
  const [number, padding] = ["md5(i::text)", `repeat('k', ${KEY_BYTES - 32})`];
  const key = session.random.chance(0.5) ? `${number} || ${padding}` : `${padding} || ${number}`;
  const from = session.random.int(0, 1_000_000);
  await session.run(
    `INSERT INTO ${SHARED}.long_keys (k) SELECT ${key} FROM generate_series(${from}, ${
      from + session.random.int(1, 30)
    }) i`,
  );
  if (session.random.chance(0.3)) await thinOut(session, "long_keys");
};

/** One tuple a page, and updates that find no room beside it. */
export const fullPages: Block = async (session) => {
  await session.run(
    `INSERT INTO ${SHARED}.full_pages (t) SELECT repeat(chr(97 + i % 26), ${FULL_TEXT_BYTES}) FROM generate_series(1, ${
      session.random.int(1, 10)
    }) i`,
  );
  await session.run(
    `UPDATE ${SHARED}.full_pages SET t = 'x' || substr(t, 2) WHERE id % 7 = ${session.random.int(0, 6)}`,
  );
  if (session.random.chance(0.3)) await thinOut(session, "full_pages");
};

async function thinOut(session: Session, table: string): Promise<void> {
  await session.run(`DELETE FROM ${SHARED}.${table} WHERE id % 5 = ${session.random.int(0, 4)}`);
  if (session.random.chance(0.5)) await session.run(`VACUUM ${SHARED}.${table}`);
}
