/**
 * Redo of generic records: bytes to put on a page, written by extensions that have no resource manager of their own
 * (the contrib bloom index).
 *
 * Read path, inside replay. A page that is new or was logged whole comes with an image, and never here.
 *
 * Data of each block reference (PostgreSQL src/backend/access/transam/generic_xlog.c, 14-18), repeated:
 * ```
 * 0 2 offset on the page   2 2 length   4 length bytes
 * ```
 * The deltas say nothing of the hole between `pd_lower` and `pd_upper`; it becomes zeros, as it did on the primary.
 *
 * @module
 */
import { getU16 } from "../../bytes/little_endian.ts";
import { BLCKSZ, type Page } from "../page/page.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { copyBytes } from "./page_edit.ts";
import { checkedBlockId, corruptRecord } from "./record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "./registry.ts";

/** `MAX_GENERIC_XLOG_PAGES`. */
const MAX_GENERIC_XLOG_PAGES = 4;
const SizeOfDeltaHeader = 4;

/** Replays one generic record on one page. See `RedoFunction`. */
export function redoGeneric(
  page: Page,
  record: DecodedRecord,
  target: RedoTarget,
  _context: RedoContext,
): void {
  if (record.opInfo !== 0) throw unsupportedRecord(record);
  const index = target.blockIndex;
  const id = checkedBlockId(record, index);
  if (id >= MAX_GENERIC_XLOG_PAGES) {
    throw corruptRecord(record, "block reference", `0..${MAX_GENERIC_XLOG_PAGES - 1}`, id);
  }
  applyDeltas(page, record, record.dataOffset[index], record.dataLength[index]);
  const { lower, upper } = page;
  if (lower > upper || upper > BLCKSZ) {
    throw corruptRecord(record, `page with lower ${lower} and upper ${upper} after the deltas`);
  }
  page.u8.fill(0, lower, upper);
  page.setLsn(record.endLsn);
}

function applyDeltas(page: Page, record: DecodedRecord, start: number, length: number): void {
  const { bytes } = record;
  const end = start + length;
  let at = start;
  while (at < end) {
    if (end - at < SizeOfDeltaHeader) throw corruptRecord(record, "header of a delta is cut off");
    const offset = getU16(bytes, at);
    const size = getU16(bytes, at + 2);
    at += SizeOfDeltaHeader;
    if (size > end - at) throw corruptRecord(record, "bytes of a delta", `at most ${end - at}`, size);
    if (offset + size > BLCKSZ) {
      throw corruptRecord(record, "end of a delta on the page", `at most ${BLCKSZ}`, offset + size);
    }
    copyBytes(page.u8, offset, bytes, at, size);
    at += size;
  }
}
