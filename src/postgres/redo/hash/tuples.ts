/**
 * Redo of hash index tuples that come, move and go.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/hash/hash_xlog.c, access/hash_xlog.h (14-18):
 * ```
 * xl_hash_insert              0 2 offnum; data of block 0: the tuple
 * moved tuples (data)         ntups * 2 offset numbers, then as many tuples, each padded to 8 bytes
 * xl_hash_delete              0 1 clear_dead_marking, 1 1 is_primary_bucket_page; data of block 1: offset numbers
 * xl_hash_vacuum_one_page     0 4 xid, 4 2 ntuples, [6 1 isCatalogRel], 8 offset numbers
 * ```
 * Until 15 `ntuples` of the last one was an int; no page has 65536 tuples, so its lower half is all of it.
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { indexTupleSize, SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { BLCKSZ, MAXALIGN, type Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageIndexMultiDelete } from "../page_compaction.ts";
import { pageAddItem } from "../page_edit.ts";
import { checkedData, checkedMain, corruptRecord } from "../record_checks.ts";
import { checkHashPage, HASHO_FLAG, LH_PAGE_HAS_DEAD_TUPLES } from "./page_layout.ts";

const SizeOfHashInsert = 2;
const SizeOfHashDelete = 2;
const SizeOfHashVacuumOnePage = 8;

// Redo is synchronous: one list of offset numbers at a time.
const offnums = new Uint16Array(BLCKSZ / 4);

/** XLOG_HASH_INSERT on the page that takes the tuple. */
export function insertTuple(page: Page, record: DecodedRecord, index: number): void {
  checkHashPage(page);
  const main = checkedMain(record, SizeOfHashInsert);
  const tuple = checkedData(record, index, SizeOfIndexTupleData);
  pageAddItem(page, record.bytes, tuple, record.dataLength[index], getU16(record.bytes, main), false);
}

/** Adds `ntups` tuples that came from a later page of the bucket. */
export function addMovedTuples(page: Page, record: DecodedRecord, index: number, ntups: number): void {
  checkHashPage(page);
  const { bytes } = record;
  const places = checkedData(record, index, ntups * 2);
  const end = places + record.dataLength[index];
  let tuple = places + ntups * 2;
  let added = 0;
  while (tuple < end) {
    const left = end - tuple;
    if (left < SizeOfIndexTupleData) throw corruptRecord(record, "a moved tuple is cut off");
    const size = MAXALIGN(indexTupleSize(bytes, tuple));
    if (size < SizeOfIndexTupleData || size > left) {
      throw corruptRecord(record, "size of a moved tuple", `8..${left}`, size);
    }
    if (added === ntups) throw corruptRecord(record, `more than ${ntups} moved tuples`);
    pageAddItem(page, bytes, tuple, size, getU16(bytes, places + added * 2), false);
    added++;
    tuple += size;
  }
  if (added !== ntups) throw corruptRecord(record, "moved tuples", ntups, added);
}

/** Deletes the tuples whose offset numbers are the block's data: they have moved, here or to another bucket. */
export function deleteTuples(page: Page, record: DecodedRecord, index: number): void {
  checkHashPage(page);
  deleteListed(page, record, record.dataOffset[index], record.dataLength[index] >> 1);
}

/** XLOG_HASH_DELETE on the page that loses tuples. */
export function vacuumTuples(page: Page, record: DecodedRecord, index: number): void {
  const main = checkedMain(record, SizeOfHashDelete);
  deleteTuples(page, record, index);
  if (record.bytes[main] !== 0) page.u16[HASHO_FLAG] &= ~LH_PAGE_HAS_DEAD_TUPLES;
}

/** XLOG_HASH_VACUUM_ONE_PAGE on the page that loses dead tuples. */
export function removeDeadTuples(page: Page, record: DecodedRecord): void {
  checkHashPage(page);
  const count = deadTuples(record);
  const main = checkedMain(record, SizeOfHashVacuumOnePage + count * 2);
  deleteListed(page, record, main + SizeOfHashVacuumOnePage, count);
  page.u16[HASHO_FLAG] &= ~LH_PAGE_HAS_DEAD_TUPLES;
}

/** How many tuples XLOG_HASH_VACUUM_ONE_PAGE removes. */
export function deadTuples(record: DecodedRecord): number {
  return getU16(record.bytes, checkedMain(record, SizeOfHashVacuumOnePage) + 4);
}

function deleteListed(page: Page, record: DecodedRecord, list: number, count: number): void {
  if (count > page.maxOffsetNumber()) {
    throw corruptRecord(record, "tuples to delete", `at most ${page.maxOffsetNumber()}`, count);
  }
  for (let position = 0; position < count; position++) {
    offnums[position] = getU16(record.bytes, list + position * 2);
  }
  if (count > 0) pageIndexMultiDelete(page, offnums, count);
}
