/**
 * Redo of the edits on single GiST pages: tuples that come, change or go, and pages that go.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/gist/gistxlog.c `gistRedoPageUpdateRecord`, `gistRedoDeleteRecord`,
 * `gistRedoPageDelete`, access/gistxlog.h, gist.h:
 * ```
 * gistxlogPageUpdate, main data    ntodelete 2, ntoinsert 2
 *   block 0                        offset numbers to delete 2 each, then index tuples to insert
 * gistxlogDelete, main data        conflict horizon 4, ntodelete 2, [16 and later: isCatalogRel 1, pad 1],
 *                                  offset numbers 2 each
 * gistxlogPageDelete, main data    deleteXid 8, downlinkOffset 2
 * ```
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import { indexTupleSize, SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { BLCKSZ, type Page, SizeOfItemId, SizeOfPageHeaderData } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { appendTuples } from "../append_tuples.ts";
import { pageIndexMultiDelete } from "../page_compaction.ts";
import { pageIndexTupleDelete, pageIndexTupleOverwrite } from "../page_edit.ts";
import { checkedData, checkedMain, corruptRecord } from "../record_checks.ts";
import {
  checkGistPage,
  F_DELETED,
  F_HAS_GARBAGE,
  F_LEAF,
  F_TUPLES_DELETED,
  GIST_FLAGS,
  GIST_SPECIAL,
} from "./page_layout.ts";

const SizeOfPageUpdate = 4;
const SizeOfPageDelete = 10;
/** `GISTDeletedPageContents`, from the end of the page header: deleteXid 8. */
const SizeOfDeletedPageContents = 8;

// Redo is synchronous: one list of offset numbers at a time.
const deleted = new Uint16Array(BLCKSZ / SizeOfItemId);

/** PAGE_UPDATE, block 0. */
export function updatePage(page: Page, record: DecodedRecord, index: number): void {
  checkGistPage(page);
  const main = checkedMain(record, SizeOfPageUpdate);
  const { bytes } = record;
  const ntodelete = getU16(bytes, main);
  const ntoinsert = getU16(bytes, main + 2);
  const data = checkedData(record, index, ntodelete * 2);
  const tuples = data + ntodelete * 2;
  const end = data + record.dataLength[index];
  if (ntodelete === 1 && ntoinsert === 1) {
    // The new tuple takes the old one's place, as it did on the primary.
    const size = end - tuples;
    if (size < SizeOfIndexTupleData || indexTupleSize(bytes, tuples) !== size) {
      throw corruptRecord(record, "index tuple's size is not that of the data", `${size}, at least 8`);
    }
    pageIndexTupleOverwrite(page, getU16(bytes, data), bytes, tuples, size);
    return;
  }
  if (ntodelete > 0) {
    deleteTuples(page, record, data, ntodelete);
    if ((page.u16[GIST_FLAGS] & F_LEAF) !== 0) page.u16[GIST_FLAGS] |= F_TUPLES_DELETED;
  }
  appendTuples(page, record, tuples, end, ntoinsert);
}

/** DELETE: tuples that were marked dead, to make room for an insertion. */
export function deleteDeadTuples(page: Page, record: DecodedRecord): void {
  checkGistPage(page);
  const header = record.profile.sizeOfGistDelete;
  const main = checkedMain(record, header);
  const count = getU16(record.bytes, main + 4);
  if (record.mainLength < header + count * 2) {
    throw corruptRecord(record, "offset numbers are cut off", header + count * 2, record.mainLength);
  }
  deleteTuples(page, record, main + header, count);
  // PostgreSQL's own redo sets F_TUPLES_DELETED too, but the primary does not, and nothing ever asks for it: the page
  // is to be the primary's.
  page.u16[GIST_FLAGS] &= ~F_HAS_GARBAGE;
}

function deleteTuples(page: Page, record: DecodedRecord, offnums: number, count: number): void {
  if (count > page.maxOffsetNumber()) {
    throw corruptRecord(record, "tuples to delete", `at most ${page.maxOffsetNumber()}`, count);
  }
  if (count > deleted.length) throw corruptRecord(record, "tuples to delete", deleted.length, count);
  for (let position = 0; position < count; position++) {
    deleted[position] = getU16(record.bytes, offnums + position * 2);
  }
  if (count > 0) pageIndexMultiDelete(page, deleted, count);
}

/** PAGE_DELETE, block 0: the empty page that goes. */
export function markDeleted(page: Page, record: DecodedRecord): void {
  checkGistPage(page);
  const main = checkedMain(record, SizeOfPageDelete);
  page.u16[GIST_FLAGS] |= F_DELETED;
  page.lower = SizeOfPageHeaderData + SizeOfDeletedPageContents;
  page.u32[SizeOfPageHeaderData / 4] = getU32(record.bytes, main);
  page.u32[SizeOfPageHeaderData / 4 + 1] = getU32(record.bytes, main + 4);
  if (page.upper < page.lower || page.upper > GIST_SPECIAL) {
    throw corruptRecord(record, "page to delete has an impossible pd_upper", undefined, page.upper);
  }
}

/** PAGE_DELETE, block 1: the parent loses the downlink. */
export function removeDownlink(page: Page, record: DecodedRecord): void {
  checkGistPage(page);
  pageIndexTupleDelete(page, getU16(record.bytes, checkedMain(record, SizeOfPageDelete) + 8));
}
