/**
 * Redo of whole pages that a btree record carries: right halves of splits, new roots, the metapage.
 *
 * Read path, inside replay.
 *
 * Source: PostgreSQL src/backend/access/nbtree/nbtxlog.c `_bt_restore_page`, `_bt_restore_meta`, access/nbtxlog.h and
 * nbtree.h (the same in 14-18).
 *
 * xl_btree_metadata (in the record) and BTMetaPageData (on the page, from byte 24):
 * ```
 * record width name                              page
 *            4 btm_magic                           24
 *      0     4 version                             28
 *      4     4 root                                32
 *      8     4 level                               36
 *     12     4 fastroot                            40
 *     16     4 fastlevel                           44
 *     20     4 last_cleanup_num_delpages           48
 *            8 btm_last_cleanup_num_heap_tuples    56   always -1.0
 *     24     1 allequalimage                       64
 * ```
 *
 * @module
 */
import { getU32 } from "../../../bytes/little_endian.ts";
import { indexTupleSize, SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { LP_NORMAL, MAXALIGN, type Page, SizeOfItemId, SizeOfPageHeaderData } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { copyBytes } from "../page_edit.ts";
import { checkedData, corruptRecord } from "../record_checks.ts";
import { BTP_META, BTREE_SPECIAL, initBtreePage, P_NONE } from "./page_layout.ts";

const BTREE_MAGIC = 0x053162;
const SizeOfXlBtreeMetadata = 28;
const SizeOfBTMetaPageData = 48;
/** Upper half of the bits of -1.0; the lower is 0. */
const MINUS_ONE_HIGH = 0xbff00000;

const MAX_TUPLE_SPACE = BTREE_SPECIAL - SizeOfPageHeaderData;

// Where the tuples of a page's tuple space start; more line pointers than this do not fit on a page.
const starts = new Uint16Array(MAX_TUPLE_SPACE / SizeOfIndexTupleData);

/**
 * Fills an empty page with the tuple space that the record carries for it. The tuple with the highest offset number
 * comes first, so the space is copied as it is and line pointers are counted backwards.
 */
export function restoreTuples(page: Page, record: DecodedRecord, index: number): void {
  const { bytes } = record;
  const length = record.dataLength[index];
  const first = record.dataOffset[index];
  if (length > MAX_TUPLE_SPACE) {
    throw corruptRecord(record, "tuples do not fit on a page", `at most ${MAX_TUPLE_SPACE}`, length);
  }
  let count = 0;
  let offset = 0;
  while (offset < length) {
    if (length - offset < SizeOfIndexTupleData) throw corruptRecord(record, "a tuple is cut off");
    const size = MAXALIGN(indexTupleSize(bytes, first + offset));
    if (size < SizeOfIndexTupleData || size > length - offset) {
      throw corruptRecord(record, "a tuple's size is impossible", `8..${length - offset}`, size);
    }
    starts[count++] = offset;
    offset += size;
  }
  const lower = SizeOfPageHeaderData + count * SizeOfItemId;
  const upper = BTREE_SPECIAL - length;
  if (lower > upper) throw corruptRecord(record, `${count} tuples of ${length} bytes do not fit on a page`);
  copyBytes(page.u8, upper, bytes, first, length);
  for (let position = 0, next = length; position < count; position++) {
    // Highest address first: the last tuple of the space is number 1.
    const start = starts[count - 1 - position];
    page.setItemId(position + 1, upper + start, LP_NORMAL, next - start);
    next = start;
  }
  page.lower = lower;
  page.upper = upper;
}

/** Makes the metapage that the record carries for it. */
export function restoreMeta(page: Page, record: DecodedRecord, index: number): void {
  const data = checkedData(record, index, SizeOfXlBtreeMetadata);
  if (record.blockNumber[index] !== 0) {
    throw corruptRecord(record, "metapage is not block 0", 0, record.blockNumber[index]);
  }
  initBtreePage(page, P_NONE, P_NONE, 0, BTP_META);
  const { u32 } = page;
  u32[6] = BTREE_MAGIC;
  for (let field = 0; field < 6; field++) u32[7 + field] = getU32(record.bytes, data + field * 4);
  u32[15] = MINUS_ONE_HIGH;
  page.u8[64] = record.bytes[data + 24];
  // Past the metadata, so that what compresses pages by their hole does not lose it.
  page.lower = SizeOfPageHeaderData + SizeOfBTMetaPageData;
}
