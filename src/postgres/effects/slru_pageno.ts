/**
 * The page number that begins the records of all SLRU managers: 4 bytes until PostgreSQL 16, 8 from 17 on.
 *
 * @module
 */
import { getU32, getU64 } from "../../bytes/little_endian.ts";
import { type SlruKind, slruMaxPage } from "../page/slru.ts";
import { checkedMain, corruptRecord } from "../redo/record_checks.ts";
import type { DecodedRecord } from "../wal/record.ts";

/**
 * Reads the page number at the start of the main data.
 *
 * @throws {CorruptionError} If no id of this kind lies on such a page.
 */
export function slruPagenoOf(record: DecodedRecord, kind: SlruKind): number {
  const size = record.profile.slruPagenoSize;
  const offset = checkedMain(record, size);
  const pageno = size === 4 ? getU32(record.bytes, offset) : getU64(record.bytes, offset);
  if (pageno > slruMaxPage(kind)) {
    throw corruptRecord(record, "impossible page number", `0..${slruMaxPage(kind)}`, pageno);
  }
  return pageno;
}
