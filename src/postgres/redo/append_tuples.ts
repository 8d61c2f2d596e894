/**
 * Index tuples that a record carries one behind the other, put at the end of a page's line pointers.
 *
 * Read path, inside replay of GIN's pending list and of GiST. Every tuple says its own size; the record says how many
 * there are.
 *
 * @module
 */
import { indexTupleSize, SizeOfIndexTupleData } from "../page/index_tuple.ts";
import type { Page } from "../page/page.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { pageAddItem } from "./page_edit.ts";
import { corruptRecord } from "./record_checks.ts";

/**
 * Adds the `count` tuples that fill the record's bytes from `start` to `end` exactly.
 *
 * @throws {CorruptionError} If they do not, or if one does not fit on the page.
 */
export function appendTuples(
  page: Page,
  record: DecodedRecord,
  start: number,
  end: number,
  count: number,
): void {
  const { bytes } = record;
  let offnum = page.maxOffsetNumber() + 1;
  let offset = start;
  let added = 0;
  while (offset < end) {
    if (added === count) throw corruptRecord(record, `more than the ${count} index tuples it should have`);
    if (end - offset < SizeOfIndexTupleData) throw corruptRecord(record, "an index tuple is cut off");
    const size = indexTupleSize(bytes, offset);
    if (size < SizeOfIndexTupleData || size > end - offset) {
      throw corruptRecord(record, "an index tuple's size is impossible", `8..${end - offset}`, size);
    }
    pageAddItem(page, bytes, offset, size, offnum, false);
    offset += size;
    offnum++;
    added++;
  }
  if (added !== count) throw corruptRecord(record, "number of index tuples", count, added);
}
