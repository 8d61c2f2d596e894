/** Workload blocks: rows with a column of every common type, short and long, null and not. @module */
import { type Block, SHARED } from "./session.ts";

/** Columns, each with an expression over `i` (and `r`, a hash of it) that makes a value. */
const COLUMNS: readonly (readonly [string, string])[] = [
  ["smallint", "(r % 32768)::smallint"],
  ["integer", "r"],
  ["bigint", "r::bigint * 1000003"],
  ["numeric", "r::numeric / 7"],
  ["numeric(12,3)", "(r % 100000)::numeric / 1000"],
  ["real", "r / 3.0"],
  ["double precision", "r / 7.0"],
  ["boolean", "r % 2 = 0"],
  ['"char"', 'chr(65 + abs(r) % 26)::"char"'],
  ["char(10)", "md5(i::text)"],
  ["varchar(40)", "md5(r::text)"],
  ["text", "repeat(md5(r::text), abs(r) % 8)"],
  ["bytea", "decode(md5(r::text), 'hex')"],
  ["name", "md5(i::text)::name"],
  ["date", "date '2000-01-01' + abs(r) % 20000"],
  ["time", "time '00:00' + abs(r) % 86400 * interval '1 second'"],
  ["timetz", "timetz '00:00+02' + abs(r) % 86400 * interval '1 second'"],
  ["timestamp", "timestamp '2000-01-01' + r * interval '1 second'"],
  ["timestamptz", "timestamptz '2000-01-01+00' + r * interval '1 second'"],
  ["interval", "r * interval '1 minute'"],
  ["uuid", "md5(r::text)::uuid"],
  ["json", "json_build_object('i', i, 'r', r)"],
  ["jsonb", "jsonb_build_object('i', i, 'list', array[r, i], 'text', md5(r::text))"],
  ["inet", "('10.' || abs(r) % 256 || '.0.' || i % 256)::inet"],
  ["cidr", "('10.' || abs(r) % 256 || '.0.0/16')::cidr"],
  ["macaddr", "substr(md5(r::text), 1, 12)::macaddr"],
  ["bit(9)", "(abs(r) % 512)::bit(9)"],
  ["bit varying", "abs(r)::bit(20)::varbit"],
  ["point", "point(r, i)"],
  ["box", "box(point(0, 0), point(abs(r), i))"],
  ["polygon", "polygon(circle(point(r, i), 5))"],
  ["int4range", "int4range(-abs(r), i)"],
  ["tstzrange", "tstzrange(timestamptz '2000-01-01+00', NULL)"],
  ["int4[]", "array[i, r, NULL]"],
  ["text[]", "array[md5(r::text), '', NULL]"],
  ["tsvector", "to_tsvector('simple', md5(r::text) || ' word ' || i)"],
  ["money", "(abs(r) % 1000)::money"],
  ["oid", "abs(r)::oid"],
  ["pg_lsn", "'0/1'::pg_lsn + abs(r)"],
  ["shared.mood", "(array['sad', 'ok', 'happy'])[1 + abs(r) % 3]::shared.mood"],
  ["shared.pair", "row(i, md5(r::text))::shared.pair"],
  ["shared.positive", "abs(r)"],
];

/** `shared.everything`, one column a type. */
export const prepareAllTypes: Block = async (session) => {
  const [{ exists }] = await session.run(`SELECT to_regclass('${SHARED}.everything') IS NOT NULL AS exists`);
  if (exists === true || exists === "t") return;
  const columns = COLUMNS.map(([type], i) => `c${i} ${type}`).join(", ");
  await session.run(`
    CREATE TYPE ${SHARED}.mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE ${SHARED}.pair AS (number int, word text);
    CREATE DOMAIN ${SHARED}.positive AS int CHECK (VALUE >= 0);
    CREATE TABLE ${SHARED}.everything (id bigserial PRIMARY KEY, ${columns});
  `);
};

function cast([type, value]: readonly [string, string]): string {
  return `(${value})::${type}`;
}

/** Rows of every type; some columns are null, others every time. */
export const insertAllTypes: Block = async (session) => {
  const values = COLUMNS.map((column) => session.random.chance(0.1) ? "NULL" : cast(column));
  const names = COLUMNS.map((_, i) => `c${i}`);
  const from = session.random.int(0, 100_000);
  await session.run(`INSERT INTO ${SHARED}.everything (${names.join(", ")})
    SELECT ${values.join(", ")} FROM (
      SELECT i::int, hashint4(i::int) % 1000000 AS r FROM generate_series(${from}, ${
    from + session.random.int(1, 40)
  }) i
    ) numbers`);
};

/** One column gets a value, another loses its own. */
export const updateAllTypes: Block = async (session) => {
  const [set, cleared] = session.random.shuffle(COLUMNS.map((_, i) => i));
  await session.run(`UPDATE ${SHARED}.everything SET c${set} = fresh.value, c${cleared} = NULL
    FROM (SELECT i, ${
    cast(COLUMNS[set])
  } AS value FROM (SELECT i, hashint4(i) % 1000000 AS r FROM generate_series(1, 30) i) n) fresh
    WHERE id % 97 = fresh.i`);
  if (session.random.chance(0.2)) {
    await session.run(`DELETE FROM ${SHARED}.everything WHERE id % 53 = ${session.random.int(0, 52)}`);
  }
};
