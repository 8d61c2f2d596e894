/**
 * Where a full-page image lies in its value, and where the record that brought it.
 *
 * Both paths. A page that came as an image inside a record keeps that record, too, so that its history can be told and the
 * image be judged by what the record does; of XLOG_FPI and XLOG_FPI_FOR_HINT, which do nothing else, only the image is kept.
 * In memory nothing is copied: the value is a stretch of WAL, from the record's start to the end of this page's image. In a
 * layer it is
 * ```
 *  0  2 hole offset   2  2 hole length            (layer_writer.ts; taken off before the value is handed on)
 *  4  4 length of the image                       only with VALUE_IMAGE_WITH_RECORD
 *  8    the image    the record without images    else the image alone, from 4 to the end
 * ```
 *
 * @module
 */
import { getU32, setU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import type { DecodedRecord } from "../postgres/wal/record.ts";
import { stripImages } from "../postgres/wal/strip_images.ts";
import { VALUE_CARRIES_IMAGES, VALUE_IMAGE_WITH_RECORD } from "./key.ts";

/** Bytes before the image in a layer, the hole not counted. */
const LENGTH_BYTES = 4;

/** Where things are, as offsets into the value's buffer. Reused. */
export class ImagePlace {
  offset = 0;
  length = 0;
  /** Start of the record, or -1. */
  recordOffset = -1;

  /**
   * Finds the image of a value.
   *
   * @param offset Start of the value in `bytes`, past the hole. @param record A cursor to decode with.
   * @throws {CorruptionError} If the value is too short for what it says.
   */
  find(
    bytes: Uint8Array,
    offset: number,
    length: number,
    flags: number,
    lsn: Lsn,
    record: DecodedRecord,
  ): void {
    if ((flags & VALUE_CARRIES_IMAGES) !== 0) {
      record.decode(bytes, offset, lsn);
      this.length = record.imageLength[imageEndingAt(record, offset + length)];
      this.offset = offset + length - this.length;
      this.recordOffset = offset;
      return;
    }
    this.offset = offset;
    this.length = length;
    this.recordOffset = -1;
    if ((flags & VALUE_IMAGE_WITH_RECORD) === 0) return;
    const imageLength = length < LENGTH_BYTES ? Infinity : getU32(bytes, offset);
    if (imageLength > length - LENGTH_BYTES) {
      throw new CorruptionError("Cannot read a page image: it is longer than its value", {
        lsn,
        got: length,
      });
    }
    this.offset = offset + LENGTH_BYTES;
    this.length = imageLength;
    this.recordOffset = this.offset + imageLength;
  }
}

/** Which block reference's image ends there. */
function imageEndingAt(record: DecodedRecord, end: number): number {
  for (let index = 0; index < record.blockCount; index++) {
    if (record.imageLength[index] > 0 && record.imageOffset[index] + record.imageLength[index] === end) {
      return index;
    }
  }
  throw new CorruptionError("Cannot read a page image: its record has none there", { lsn: record.endLsn });
}

/**
 * Writes the value of an image that is in memory as it is in a layer, and returns its length.
 *
 * @param record Decoded from the value's start. @param end Where the value ends in the record's buffer.
 * @param target Must hold the record's length, and 4 bytes.
 */
export function putImageValue(record: DecodedRecord, end: number, target: Uint8Array): number {
  const length = record.imageLength[imageEndingAt(record, end)];
  setU32(target, 0, length);
  target.set(record.bytes.subarray(end - length, end), LENGTH_BYTES);
  const at = LENGTH_BYTES + length;
  return at + stripImages(record, target.subarray(at));
}
