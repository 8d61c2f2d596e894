/**
 * A record without its page images: what is kept of a record that is to be replayed.
 *
 * Write path, inside flush. The images that apply have become values of their own, those for consistency checks are not
 * needed; main data and the data of every block stay, because redo of one page may look at another block's data.
 *
 * @module
 */
import { setU32 } from "../../bytes/little_endian.ts";
import {
  BKPBLOCK_HAS_IMAGE,
  BKPBLOCK_SAME_REL,
  type DecodedRecord,
  SizeOfXLogRecord,
  XLR_BLOCK_ID_DATA_LONG,
  XLR_BLOCK_ID_DATA_SHORT,
  XLR_BLOCK_ID_ORIGIN,
  XLR_BLOCK_ID_TOPLEVEL_XID,
} from "./record.ts";

/**
 * Writes the record without images into `target`, which must hold `record.totalLength` bytes, and returns its length.
 *
 * The result decodes like the original but for the images; `xl_tot_len` is right, `xl_crc` is zero.
 */
export function stripImages(record: DecodedRecord, target: Uint8Array): number {
  const { bytes, start } = record;
  target.set(bytes.subarray(start, start + SizeOfXLogRecord));
  let at = SizeOfXLogRecord;
  for (let index = 0; index < record.blockCount; index++) {
    const flags = record.blockFlags[index] & ~BKPBLOCK_HAS_IMAGE;
    target[at] = record.blockId[index];
    target[at + 1] = flags;
    target[at + 2] = record.dataLength[index];
    target[at + 3] = record.dataLength[index] >>> 8;
    at += 4;
    if ((flags & BKPBLOCK_SAME_REL) === 0) {
      setU32(target, at, record.blockSpc[index]);
      setU32(target, at + 4, record.blockDb[index]);
      setU32(target, at + 8, record.blockRel[index]);
      at += 12;
    }
    setU32(target, at, record.blockNumber[index]);
    at += 4;
  }
  at = putOptionalHeaders(record, target, at);
  for (let index = 0; index < record.blockCount; index++) {
    const offset = record.dataOffset[index];
    target.set(bytes.subarray(offset, offset + record.dataLength[index]), at);
    at += record.dataLength[index];
  }
  target.set(bytes.subarray(record.mainOffset, record.mainOffset + record.mainLength), at);
  at += record.mainLength;
  setU32(target, 0, at);
  setU32(target, 20, 0);
  return at;
}

function putOptionalHeaders(record: DecodedRecord, target: Uint8Array, at: number): number {
  if (record.originId !== 0) {
    target[at] = XLR_BLOCK_ID_ORIGIN;
    target[at + 1] = record.originId;
    target[at + 2] = record.originId >>> 8;
    at += 3;
  }
  if (record.toplevelXid !== 0) {
    target[at] = XLR_BLOCK_ID_TOPLEVEL_XID;
    setU32(target, at + 1, record.toplevelXid);
    at += 5;
  }
  if (record.mainLength > 255) {
    target[at] = XLR_BLOCK_ID_DATA_LONG;
    setU32(target, at + 1, record.mainLength);
    at += 5;
  } else if (record.mainLength > 0) {
    target[at] = XLR_BLOCK_ID_DATA_SHORT;
    target[at + 1] = record.mainLength;
    at += 2;
  }
  return at;
}
