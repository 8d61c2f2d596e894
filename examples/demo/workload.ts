/**
 * What goes on in the demo's database: a small shop with customers, orders and sessions, busy in chapters.
 *
 * @module
 */
import type { Sql } from "../../tests/support/postgres_cluster.ts";

const TABLES = `
  CREATE SCHEMA shop;
  CREATE EXTENSION pageinspect;
  CREATE TABLE shop.customers (id int PRIMARY KEY, name text NOT NULL, city text, note text);
  CREATE INDEX customers_city ON shop.customers (city, name);
  CREATE TABLE shop.orders (
    id bigserial PRIMARY KEY,
    customer int NOT NULL REFERENCES shop.customers,
    placed timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'new',
    total numeric(10, 2)
  );
  CREATE INDEX orders_open ON shop.orders (customer, placed) WHERE state <> 'done';
  CREATE TABLE shop.sessions (token uuid PRIMARY KEY, hits int NOT NULL, seen timestamptz) WITH (fillfactor = 60);
  CREATE TABLE shop.documents (id int PRIMARY KEY, body text);
  CREATE TABLE shop.drafts (id int, body text);
  INSERT INTO shop.customers
    SELECT n, 'Customer ' || n, 'City ' || n % 97, repeat('x', n % 60) FROM generate_series(1, 5000) n;
  INSERT INTO shop.sessions SELECT gen_random_uuid(), 0, now() FROM generate_series(1, 2000);
  INSERT INTO shop.documents
    SELECT n, (SELECT string_agg(md5(random()::text), ' ') FROM generate_series(1, 200 + n % 50))
    FROM generate_series(1, 150) n;
  INSERT INTO shop.drafts SELECT n, md5(n::text) FROM generate_series(1, 4000) n;
`;

/** What the shop's clients do, over and over. One statement is one transaction. */
const DEEDS = [
  `INSERT INTO shop.orders (customer, total)
     SELECT 1 + floor(random() * 4999)::int, random() * 500 FROM generate_series(1, 200)`,
  `UPDATE shop.orders SET state = 'done', total = total + 1
     WHERE id IN (SELECT id FROM shop.orders WHERE state = 'new' ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)`,
  `UPDATE shop.sessions SET hits = hits + 1, seen = clock_timestamp()
     WHERE token IN (SELECT token FROM shop.sessions TABLESAMPLE bernoulli (4) FOR UPDATE SKIP LOCKED)`,
  `UPDATE shop.customers SET city = 'City ' || floor(random() * 97), note = repeat('y', floor(random() * 80)::int)
     WHERE id IN (SELECT id FROM shop.customers TABLESAMPLE bernoulli (1) FOR UPDATE SKIP LOCKED)`,
  `UPDATE shop.documents SET body = reverse(body)
     WHERE id IN (SELECT id FROM shop.documents TABLESAMPLE bernoulli (2) FOR UPDATE SKIP LOCKED)`,
  `DELETE FROM shop.orders
     WHERE id IN (SELECT id FROM shop.orders WHERE state = 'done' ORDER BY id LIMIT 60 FOR UPDATE SKIP LOCKED)`,
];

/** What is done once between chapters, in words and in SQL. Later moments must not spoil earlier ones. */
export const EVENTS: readonly { what: string; statements: readonly string[] }[] = [
  { what: "vacuum", statements: ["VACUUM shop.orders", "VACUUM shop.sessions"] },
  {
    what: "a table is dropped, another rewritten",
    statements: ["DROP TABLE shop.drafts", "VACUUM FULL shop.customers"],
  },
  {
    what: "an index is built, a checkpoint",
    statements: ["CREATE INDEX orders_state ON shop.orders (state, total)", "CHECKPOINT"],
  },
  {
    what: "half of the orders go, vacuum",
    statements: ["DELETE FROM shop.orders WHERE id % 2 = 0", "VACUUM (FREEZE) shop.orders"],
  },
];

/** Makes the shop's tables. */
export async function openShop(sql: Sql): Promise<void> {
  await sql.unsafe(TABLES).simple();
}

/** Lets several clients work for a while, then waits until all are idle. Returns how many transactions they made. */
export async function runChapter(sql: Sql, seconds: number, clients: number): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let transactions = 0;
  const work = async (client: number) => {
    for (let deed = client; performance.now() < end; deed++) {
      await sql.unsafe(DEEDS[deed % DEEDS.length]);
      transactions++;
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, client) => work(client)));
  return transactions;
}
