/**
 * Names in shared catalogs as of an LSN: databases and roles, read from their pages without a server.
 *
 * Restore of one database by its name needs it. A row counts if its inserter had committed by then and its deleter had not,
 * which transaction status as of the LSN tells. Columns (catalog/pg_database.h, pg_authid.h 14-18):
 * ```
 * pg_database 1262: oid 4, datname 64, ...
 * pg_authid   1260: oid 4, rolname 64, rolsuper 1, ...
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../bytes/little_endian.ts";
import { NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { FAMILY_RELMAP } from "../layer/key.ts";
import { GLOBALTABLESPACE_OID } from "../postgres/files/relation_path.ts";
import { parseRelationMap } from "../postgres/files/relmap.ts";
import { MAIN_FORKNUM } from "../postgres/page/masks.ts";
import { LP_NORMAL, Page } from "../postgres/page/page.ts";
import { CLOG_XACTS_PER_PAGE, SLRU_XACT } from "../postgres/page/slru.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { TimelineReader } from "../read/get_page.ts";

export const DatabaseRelationId = 1262;
export const AuthIdRelationId = 1260;

const NAMEDATALEN = 64;
const SizeofHeapTupleHeader = 23;
const FirstNormalTransactionId = 3;

const HEAP_XMAX_LOCK_ONLY = 0x0080;
const HEAP_XMIN_COMMITTED = 0x0100;
const HEAP_XMIN_INVALID = 0x0200;
const HEAP_XMAX_INVALID = 0x0800;
const HEAP_XMAX_IS_MULTI = 0x1000;

const TRANSACTION_STATUS_COMMITTED = 1;

/** A row's oid and name. */
export interface CatalogName {
  readonly oid: number;
  readonly name: string;
}

/** Names of a shared catalog as of an LSN. */
export async function readSharedNames(
  reader: TimelineReader,
  catalog: number,
  lsn: Lsn,
  signal?: AbortSignal,
): Promise<CatalogName[]> {
  const profile = profileOfMajor(reader.timeline.facts.major);
  const space = { family: FAMILY_RELMAP, a: GLOBALTABLESPACE_OID, b: 0, c: 0, d: 0 };
  const map = await reader.getValue(space, 0, lsn, { signal });
  const rel = map === undefined ? undefined : parseRelationMap(map, profile).get(catalog);
  if (rel === undefined) {
    throw new NotFoundError(`Cannot read names: catalog ${catalog} is not mapped at LSN ${formatLsn(lsn)}`);
  }
  const relation = { spc: GLOBALTABLESPACE_OID, db: 0, rel };
  const blocks = await reader.relationSize(relation, MAIN_FORKNUM, lsn, { signal }) ?? 0;
  const names: CatalogName[] = [];
  for (let block = 0; block < blocks; block++) {
    const page = Page.from(await reader.getPage(relation, MAIN_FORKNUM, block, lsn, { signal }));
    if (page.isNew()) continue;
    for (let number = 1; number <= page.maxOffsetNumber(); number++) {
      if (page.itemFlags(number) !== LP_NORMAL) continue;
      const tuple = page.u8.subarray(
        page.itemOffset(number),
        page.itemOffset(number) + page.itemLength(number),
      );
      const row = readRow(tuple);
      if (row !== undefined && await isVisible(reader, tuple, lsn, signal)) names.push(row);
    }
  }
  return names;
}

/** The oid of a database by its name. @throws {NotFoundError} If there is none of that name; the hint names those there. */
export async function findDatabase(
  reader: TimelineReader,
  name: string,
  lsn: Lsn,
  signal?: AbortSignal,
): Promise<number> {
  const names = await readSharedNames(reader, DatabaseRelationId, lsn, signal);
  const found = names.find((row) => row.name === name);
  if (found !== undefined) return found.oid;
  throw new NotFoundError(
    `Cannot find database "${name}": there is none of that name at LSN ${formatLsn(lsn)}`,
    {
      hint: `It has: ${names.map((row) => row.name).join(", ")}.`,
    },
  );
}

function readRow(tuple: Uint8Array): CatalogName | undefined {
  if (tuple.length < SizeofHeapTupleHeader) return undefined;
  const start = tuple[22];
  if (tuple.length < start + 4 + NAMEDATALEN) return undefined;
  const name = tuple.subarray(start + 4, start + 4 + NAMEDATALEN);
  const end = name.indexOf(0);
  return {
    oid: getU32(tuple, start),
    name: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
  };
}

async function isVisible(
  reader: TimelineReader,
  tuple: Uint8Array,
  lsn: Lsn,
  signal?: AbortSignal,
): Promise<boolean> {
  const mask = getU16(tuple, 20);
  const isInserted = (mask & HEAP_XMIN_COMMITTED) !== 0 ||
    ((mask & HEAP_XMIN_INVALID) === 0 && await hasCommitted(reader, getU32(tuple, 0), lsn, signal));
  if (!isInserted) return false;
  // A multixact that is not only locks comes of an update beside a key lock: nobody locks rows of these by their key.
  if ((mask & (HEAP_XMAX_INVALID | HEAP_XMAX_LOCK_ONLY | HEAP_XMAX_IS_MULTI)) !== 0) return true;
  return !await hasCommitted(reader, getU32(tuple, 4), lsn, signal);
}

async function hasCommitted(
  reader: TimelineReader,
  xid: number,
  lsn: Lsn,
  signal?: AbortSignal,
): Promise<boolean> {
  if (xid < FirstNormalTransactionId) return xid !== 0;
  const page = await reader.getSlruPage(SLRU_XACT, Math.floor(xid / CLOG_XACTS_PER_PAGE), lsn, { signal });
  if (page === undefined) return true; // so old that its status is no longer kept
  const at = xid % CLOG_XACTS_PER_PAGE;
  return (page[at >> 2] >> ((at & 3) * 2) & 3) === TRANSACTION_STATUS_COMMITTED;
}
