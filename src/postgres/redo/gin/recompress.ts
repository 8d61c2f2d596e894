/**
 * Redo of changes to leaf pages of posting trees: whole posting lists ("segments") that go, come or are replaced, and
 * TIDs that join one.
 *
 * Read path, inside replay. The record counts the segments that the page had; its actions come in their order, so the
 * page is rewritten from left to right, and the segments not read yet are put aside before the first one changes.
 *
 * ginxlogRecompressDataLeaf (PostgreSQL src/include/access/ginxlog.h, src/backend/access/gin/ginxlog.c
 * `ginRedoRecompress`; 14-18):
 * ```
 * nactions 2, then per action:
 *   segno 1, type 1
 *     INSERT, REPLACE   a posting list
 *     ADDITEMS          count 2, as many TIDs of 6
 *     DELETE            nothing
 * ```
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { CorruptionError } from "../../../errors.ts";
import { SizeOfItemPointerData } from "../../page/index_tuple.ts";
import { BLCKSZ, InvalidOffsetNumber, type Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyBytes } from "../page_edit.ts";
import { checkedData, corruptRecord } from "../record_checks.ts";
import {
  checkGinKind,
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DATA_START,
  GIN_FLAGS,
  GIN_LEAF,
  GIN_MAXOFF,
  GIN_SPECIAL,
  GinDataPageMaxDataSize,
  setDataSize,
} from "./page_layout.ts";
import { checkedListSize, compressTids, mergeIntoList, packedList } from "./posting_list.ts";

export const GIN_SEGMENT_DELETE = 1;
export const GIN_SEGMENT_INSERT = 2;
export const GIN_SEGMENT_REPLACE = 3;
export const GIN_SEGMENT_ADDITEMS = 4;

// Segments put aside. Redo is synchronous: one page is rewritten at a time.
const tail: Uint8Array = new Uint8Array(BLCKSZ);

/** Where the old segments are read from, and where the new ones end so far; one rewrite at a time. */
const old = { bytes: tail, at: 0, end: 0, segno: 0 };
let writeAt = 0;

/** Block 0 of INSERT on a leaf of a posting tree, and of VACUUM_DATA_LEAF_PAGE. */
export function recompressLeaf(page: Page, record: DecodedRecord, index: number): void {
  checkGinKind(page, GIN_DATA | GIN_LEAF, GIN_DATA | GIN_LEAF);
  const data = checkedData(record, index, 2);
  const dataEnd = data + record.dataLength[index];
  if ((page.u16[GIN_FLAGS] & GIN_COMPRESSED) === 0) compressOldLeaf(page);
  if (page.lower < GIN_DATA_START || page.lower > GIN_SPECIAL) {
    throw new CorruptionError(`Cannot edit a GIN data leaf: pd_lower is ${page.lower}`);
  }
  old.bytes = page.u8;
  old.at = GIN_DATA_START;
  old.end = page.lower;
  old.segno = 0;
  writeAt = GIN_DATA_START;
  let at = data + 2;
  for (let left = getU16(record.bytes, data); left > 0; left--) {
    at = applyAction(page, record, at, dataEnd);
  }
  if (at !== dataEnd) throw corruptRecord(record, "actions do not fill the data", dataEnd - data, at - data);
  // Without a segment put aside the rest is where it was, behind what was written.
  if (old.bytes === tail) put(page, tail, old.at, old.end - old.at);
  else writeAt += old.end - old.at;
  setDataSize(page, writeAt - GIN_DATA_START);
}

/** One action, at `at` of the record's bytes. Returns where the next one starts. */
function applyAction(page: Page, record: DecodedRecord, at: number, end: number): number {
  const { bytes } = record;
  if (end - at < 2) throw corruptRecord(record, "an action is cut off");
  const segno = bytes[at];
  const type = bytes[at + 1];
  at += 2;
  skipTo(page, record, segno);
  if (type === GIN_SEGMENT_INSERT) {
    const size = checkedListSize(bytes, at, end);
    // Behind the last segment nothing has to make room.
    if (old.at < old.end) putAside(page);
    put(page, bytes, at, size);
    return at + size;
  }
  if (old.at >= old.end) throw corruptRecord(record, `no segment ${segno} on the page`);
  const oldSize = checkedListSize(old.bytes, old.at, old.end);
  let size = 0;
  if (type === GIN_SEGMENT_REPLACE) {
    size = checkedListSize(bytes, at, end);
    putAside(page);
    put(page, bytes, at, size);
  } else if (type === GIN_SEGMENT_ADDITEMS) {
    if (end - at < 2) throw corruptRecord(record, "an action is cut off");
    const count = getU16(bytes, at);
    size = 2 + count * SizeOfItemPointerData;
    if (size > end - at) throw corruptRecord(record, "TIDs to add are cut off", size, end - at);
    const packedSize = mergeIntoList(old.bytes, old.at, bytes, at + 2, count);
    putAside(page);
    put(page, packedList, 0, packedSize);
  } else if (type === GIN_SEGMENT_DELETE) putAside(page);
  else throw corruptRecord(record, "unknown action on a segment", "1..4", type);
  old.at += oldSize;
  old.segno++;
  return at + size;
}

/** Passes unchanged segments before number `segno`. */
function skipTo(page: Page, record: DecodedRecord, segno: number): void {
  if (segno < old.segno) throw corruptRecord(record, "actions are out of order", `>= ${old.segno}`, segno);
  while (old.segno < segno) {
    const size = checkedListSize(old.bytes, old.at, old.end);
    if (old.bytes === tail) put(page, tail, old.at, size);
    else writeAt += size;
    old.at += size;
    old.segno++;
  }
}

/** Before the page changes: copies the segments not read yet, from where they are read from then on. */
function putAside(page: Page): void {
  if (old.bytes === tail) return;
  const length = old.end - old.at;
  copyBytes(tail, 0, page.u8, old.at, length);
  old.bytes = tail;
  old.at = 0;
  old.end = length;
}

function put(page: Page, source: Uint8Array, offset: number, length: number): void {
  if (writeAt + length > GIN_SPECIAL) {
    throw new CorruptionError("Cannot edit a GIN data leaf: posting lists do not fit", {
      expected: `at most ${GinDataPageMaxDataSize}`,
      got: writeAt + length - GIN_DATA_START,
    });
  }
  copyBytes(page.u8, writeAt, source, offset, length);
  writeAt += length;
}

/** A leaf with plain TIDs, as PostgreSQL before 9.4 wrote it, becomes one of a single posting list. */
function compressOldLeaf(page: Page): void {
  const count = page.u16[GIN_MAXOFF];
  if (count * SizeOfItemPointerData > GinDataPageMaxDataSize) {
    throw new CorruptionError(`Cannot edit a GIN data leaf: it cannot have ${count} TIDs`);
  }
  const size = count > 0 ? compressTids(page.u8, GIN_DATA_START, count) : 0;
  copyBytes(page.u8, GIN_DATA_START, packedList, 0, size);
  setDataSize(page, size);
  page.u16[GIN_FLAGS] |= GIN_COMPRESSED;
  page.u16[GIN_MAXOFF] = InvalidOffsetNumber;
}
