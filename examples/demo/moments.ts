/**
 * Moments of the server's life: what its own pages looked like, and the LSN that belongs to it.
 *
 * A page is taken with pageinspect's `get_raw_page()`, which copies it from the server's buffers. If the server wrote no
 * WAL between before the first and after the last of them, then all of them are what they were at that LSN.
 *
 * @module
 */
import { formatLsn, type Lsn, parseLsn, type RelationId } from "../../mod.ts";
import type { Sql } from "../../tests/support/postgres_cluster.ts";

/** Pages of one relation that are looked at, at most. */
const PAGES_PER_RELATION = 12;
const ATTEMPTS = 50;

/** A page as the server showed it. */
export interface RememberedPage {
  relation: RelationId;
  /** For messages. */
  name: string;
  block: number;
  /** 8192 bytes. */
  bytes: Uint8Array;
}

/** An LSN, and what the server showed then. */
export interface Moment {
  lsn: Lsn;
  at: Date;
  relations: number;
  pages: RememberedPage[];
}

interface Relation {
  oid: number;
  name: string;
  spc: number;
  db: number;
  rel: number;
  blocks: number;
}

/** Tables, their TOAST tables and btrees of the shop, and two of the catalog's. */
const RELATIONS = `
  SELECT c.oid::int, c.oid::regclass::text AS name, pg_relation_filenode(c.oid)::int AS rel, d.oid::int AS db,
    coalesce(nullif(c.reltablespace, 0), d.dattablespace)::int AS spc,
    (pg_relation_size(c.oid) / 8192)::int AS blocks
  FROM pg_class c JOIN pg_database d ON d.datname = current_database()
  WHERE c.relkind IN ('r', 'i', 't') AND pg_relation_size(c.oid) > 0 AND (
    c.relnamespace = 'shop'::regnamespace OR c.oid IN ('pg_class'::regclass, 'pg_class_oid_index'::regclass)
    OR EXISTS (SELECT FROM pg_class t WHERE t.relnamespace = 'shop'::regnamespace AND t.reltoastrelid <> 0
      AND c.oid IN (SELECT t.reltoastrelid UNION
        SELECT indexrelid FROM pg_index WHERE indrelid = t.reltoastrelid)))
  ORDER BY c.oid`;

/**
 * Remembers this moment. Nobody else may be writing.
 *
 * @throws {Error} If the server does not come to rest.
 */
export async function rememberMoment(sql: Sql): Promise<Moment> {
  let before = await insertLsn(sql);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const relations = await sql.unsafe<Relation[]>(RELATIONS);
    const pages = (await Promise.all(relations.map((relation) => pagesOf(sql, relation)))).flat();
    const after = await insertLsn(sql);
    if (after === before) return { lsn: after, at: new Date(), relations: relations.length, pages };
    before = after; // looking at the catalog may set hint bits, once, and those may be logged
  }
  throw new Error(`Cannot remember a moment: the server still writes WAL at ${formatLsn(before)}`);
}

async function insertLsn(sql: Sql): Promise<Lsn> {
  const [{ lsn }] = await sql`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
  return parseLsn(lsn);
}

/** The first, the last, and some in between. */
async function pagesOf(sql: Sql, { oid, name, spc, db, rel, blocks }: Relation): Promise<RememberedPage[]> {
  const step = Math.max(1, (blocks - 1) / (PAGES_PER_RELATION - 1));
  const wanted: number[] = [];
  for (let at = 0; at <= blocks - 1; at += step) wanted.push(Math.round(at));
  const rows = await sql<{ block: number; bytes: Uint8Array }[]>`
    SELECT block, get_raw_page(${oid}::regclass::text, 'main', block) AS bytes
    FROM unnest(${wanted}::int[]) AS block`;
  return rows.map(({ block, bytes }) => ({ relation: { spc, db, rel }, name, block, bytes }));
}
