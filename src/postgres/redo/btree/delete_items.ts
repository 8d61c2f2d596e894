/**
 * Redo of the removal of btree leaf tuples, whole ones and single TIDs of posting lists.
 *
 * Read path, inside replay. VACUUM and the deletions that insertions make share the data of block 0:
 * ```
 * ndeleted * 2   offset numbers of the tuples that go
 * nupdated * 2   offset numbers of the posting list tuples that lose TIDs
 * per update     ndeletedtids 2, then as many positions in the list (2 each)
 * ```
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c `btree_xlog_vacuum`, `btree_xlog_delete`,
 * `btree_xlog_updates`, nbtdedup.c `_bt_update_posting`, access/nbtxlog.h (14-18). `xl_btree_vacuum`: ndeleted 2,
 * nupdated 2. `xl_btree_delete`: xid 4, ndeleted 2, nupdated 2, and from 16 on isCatalogRel 1, which only standbys
 * need.
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { SizeOfItemPointerData } from "../../page/index_tuple.ts";
import { BLCKSZ, MAXALIGN, type Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageIndexMultiDelete } from "../page_compaction.ts";
import { copyBytes, pageIndexTupleOverwrite } from "../page_edit.ts";
import { checkedData, checkedMain, corruptRecord } from "../record_checks.ts";
import { BTP_HAS_GARBAGE, BTPO_CYCLEID, BTPO_FLAGS, checkBtreePage, checkedTuple } from "./page_layout.ts";
import {
  checkedPosting,
  copyTid,
  postingCount,
  postingOffset,
  setPlainHeader,
  setPostingHeader,
} from "./posting.ts";

const SizeOfBtreeVacuum = 4;
const SizeOfBtreeDelete = 8;

// Redo is synchronous: one tuple and one list of offset numbers at a time.
const updated = new Uint8Array(BLCKSZ);
const deleted = new Uint16Array(BLCKSZ / 4);

/** VACUUM of a leaf page. */
export function vacuumItems(page: Page, record: DecodedRecord, index: number): void {
  const main = checkedMain(record, SizeOfBtreeVacuum);
  removeItems(page, record, index, getU16(record.bytes, main), getU16(record.bytes, main + 2));
  // The primary always does; redo before 18 forgot it, which nobody can tell: the cycle ended with the primary's VACUUM.
  page.u16[BTPO_CYCLEID] = 0;
}

/** Deletion of dead or duplicate tuples, to make room for an insertion. */
export function deleteItems(page: Page, record: DecodedRecord, index: number): void {
  const main = checkedMain(record, SizeOfBtreeDelete);
  removeItems(page, record, index, getU16(record.bytes, main + 4), getU16(record.bytes, main + 6));
}

function removeItems(
  page: Page,
  record: DecodedRecord,
  index: number,
  ndeleted: number,
  nupdated: number,
): void {
  checkBtreePage(page);
  const data = checkedData(record, index, (ndeleted + nupdated) * 2);
  if (ndeleted > page.maxOffsetNumber()) {
    throw corruptRecord(record, "tuples to delete", `at most ${page.maxOffsetNumber()}`, ndeleted);
  }
  const end = data + record.dataLength[index];
  const offnums = data + ndeleted * 2;
  let update = offnums + nupdated * 2;
  for (let position = 0; position < nupdated; position++) {
    if (end - update < 2) throw corruptRecord(record, "an update is cut off");
    const ntids = getU16(record.bytes, update);
    if (end - update < 2 + ntids * 2) throw corruptRecord(record, "an update is cut off");
    removeTids(page, record, getU16(record.bytes, offnums + position * 2), update + 2, ntids);
    update += 2 + ntids * 2;
  }
  for (let position = 0; position < ndeleted; position++) {
    deleted[position] = getU16(record.bytes, data + position * 2);
  }
  if (ndeleted > 0) pageIndexMultiDelete(page, deleted, ndeleted);
  page.u16[BTPO_FLAGS] &= ~BTP_HAS_GARBAGE;
}

/** Takes `ntids` TIDs out of the list of tuple `offnum`; with one TID left it becomes a plain tuple. */
function removeTids(
  page: Page,
  record: DecodedRecord,
  offnum: number,
  positions: number,
  ntids: number,
): void {
  const source = page.u8;
  const tuple = checkedTuple(page, offnum);
  checkedPosting(source, tuple, page.itemLength(offnum));
  const count = postingCount(source, tuple);
  const list = tuple + postingOffset(source, tuple);
  const keySize = postingOffset(source, tuple);
  const kept = count - ntids;
  if (kept < 1) {
    throw corruptRecord(record, "TIDs to delete of a posting list", `at most ${count - 1}`, ntids);
  }

  const size = kept > 1 ? MAXALIGN(keySize + kept * SizeOfItemPointerData) : keySize;
  copyBytes(updated, 0, source, tuple, keySize);
  updated.fill(0, keySize, MAXALIGN(size));
  if (kept > 1) setPostingHeader(updated, 0, size, kept, keySize);
  else setPlainHeader(updated, 0, size);
  let target = kept > 1 ? keySize : 0;
  let gone = 0;
  for (let position = 0; position < count; position++) {
    if (gone < ntids && getU16(record.bytes, positions + gone * 2) === position) gone++;
    else if (position - gone < kept) {
      copyTid(updated, target, source, list + position * SizeOfItemPointerData);
      target += SizeOfItemPointerData;
    }
  }
  if (gone !== ntids) throw corruptRecord(record, `TIDs to delete are out of order or range`, ntids, gone);
  pageIndexTupleOverwrite(page, offnum, updated, 0, MAXALIGN(size));
}
