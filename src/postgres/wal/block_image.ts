/**
 * From a page image inside a WAL record to the page.
 *
 * Both paths: ingest turns images into values, replay starts from them, verification compares with them. It promises a
 * page of exactly 8 KiB or a typed error, and never more memory than that, whatever a compressed image claims.
 *
 * The image is the page without its hole (the free space between `pd_lower` and `pd_upper`), compressed or not:
 * `page[0, hole_offset) ++ page[hole_offset + hole_length, 8192)`. Source: PostgreSQL `RestoreBlockImage` of
 * src/backend/access/transam/xlogreader.c (14-18).
 *
 * @module
 */
import { lz4DecompressBlock } from "../../bytes/lz4.ts";
import { pglzDecompress } from "../../bytes/pglz.ts";
import { zstdDecompress } from "../../bytes/zstd.ts";
import { CorruptionError, UnsupportedError } from "../../errors.ts";
import type { Lsn } from "../../lsn.ts";
import { BLCKSZ, type Page } from "../page/page.ts";
import type { DecodedRecord } from "./record.ts";

/** How an image is compressed: numbers that layers keep, whatever the major's bits were. Never renumber. */
export const IMAGE_NOT_COMPRESSED = 0;
export const IMAGE_PGLZ = 1;
export const IMAGE_LZ4 = 2;
export const IMAGE_ZSTD = 3;

/** Decompressors of the runtime that are faster than ours; all optional. */
export interface ImageCodecs {
  /** Decompresses one frame to exactly `rawSize` bytes; throws on bad input. */
  readonly zstd?: { decompress(frame: Uint8Array, rawSize: number): Uint8Array };
}

const NO_CODECS: ImageCodecs = {};

// Restoring is synchronous, so one of these is enough.
const scratch = new Uint8Array(BLCKSZ);

/**
 * Which of the `IMAGE_` methods an image is compressed with.
 *
 * @throws {UnsupportedError} If the record names one that its major does not have.
 */
export function imageMethod(record: DecodedRecord, index: number): number {
  const info = record.imageInfo[index];
  const { compressedMask, pglz, lz4, zstd } = record.profile.bkpImage;
  const method = info & compressedMask;
  if (method === 0) return IMAGE_NOT_COMPRESSED;
  if (method === pglz) return IMAGE_PGLZ;
  if (method === lz4) return IMAGE_LZ4;
  if (method === zstd) return IMAGE_ZSTD;
  throw new UnsupportedError(
    `Cannot restore a page image of PostgreSQL ${record.profile.major}: bimg_info 0x${
      info.toString(16)
    } names no ` +
      "known compression method",
  );
}

/**
 * Fills `page` from the image of block reference `index`, and sets its LSN to the record's end unless the page is new.
 *
 * @throws {RangeError} If the block reference has no image.
 * @throws {CorruptionError} If the image does not decompress to a page. `page` is then unchanged.
 * @throws {UnsupportedError} If it is compressed by an unknown method.
 */
export function restoreImage(
  record: DecodedRecord,
  index: number,
  page: Page,
  codecs: ImageCodecs = NO_CODECS,
): void {
  if (index < 0 || index >= record.blockCount || record.imageLength[index] === 0) {
    throw new RangeError(`Cannot restore an image: block reference ${index} has none`);
  }
  restoreImageBytes(
    record.bytes,
    record.imageOffset[index],
    record.imageLength[index],
    imageMethod(record, index),
    record.holeOffset[index],
    record.holeLength[index],
    page,
    codecs,
    record.endLsn,
  );
  if (!page.isNew()) page.setLsn(record.endLsn);
}

/**
 * Fills `page` from an image that lies somewhere in `bytes`. Its LSN is what the image says.
 *
 * @param lsn For error messages.
 * @throws {CorruptionError} If the parts do not make a page. `page` is then unchanged.
 * @throws {UnsupportedError} If `method` is unknown.
 */
export function restoreImageBytes(
  bytes: Uint8Array,
  offset: number,
  length: number,
  method: number,
  holeOffset: number,
  holeLength: number,
  page: Page,
  codecs: ImageCodecs,
  lsn: Lsn,
): void {
  const rawSize = BLCKSZ - holeLength;
  if (
    offset < 0 || length < 0 || offset + length > bytes.length || rawSize < 0 || holeOffset < 0 ||
    holeOffset > rawSize
  ) {
    throw new CorruptionError(
      `Cannot restore a page image: ${length} bytes with a hole of ${holeLength} at ${holeOffset} do not make a page`,
      { lsn },
    );
  }
  let source = bytes;
  let from = offset;
  if (method === IMAGE_NOT_COMPRESSED) {
    if (length !== rawSize) {
      throw new CorruptionError("Cannot restore a page image", { lsn, expected: rawSize, got: length });
    }
  } else {
    source = decompress(bytes, offset, length, method, rawSize, codecs, lsn);
    from = 0;
  }
  const target = page.u8;
  if (holeLength === 0) target.set(source.subarray(from, from + BLCKSZ));
  else {
    target.set(source.subarray(from, from + holeOffset));
    target.fill(0, holeOffset, holeOffset + holeLength);
    target.set(source.subarray(from + holeOffset, from + rawSize), holeOffset + holeLength);
  }
}

/** Returns a buffer that starts with the page less its hole. */
function decompress(
  bytes: Uint8Array,
  offset: number,
  length: number,
  method: number,
  rawSize: number,
  codecs: ImageCodecs,
  lsn: Lsn,
): Uint8Array {
  switch (method) {
    case IMAGE_PGLZ:
      if (pglzDecompress(bytes, offset, length, scratch, rawSize)) return scratch;
      throw invalidImage("pglz", lsn);
    case IMAGE_LZ4:
      if (lz4DecompressBlock(bytes, offset, length, scratch, rawSize)) return scratch;
      throw invalidImage("lz4", lsn);
    case IMAGE_ZSTD:
      if (codecs.zstd !== undefined) {
        return decompressElsewhere(codecs.zstd, bytes.subarray(offset, offset + length), rawSize, lsn);
      }
      if (zstdDecompress(bytes, offset, length, scratch, rawSize)) return scratch;
      throw invalidImage("zstd", lsn);
    default:
      throw new UnsupportedError(`Cannot restore a page image: unknown compression method ${method}`);
  }
}

function decompressElsewhere(
  codec: NonNullable<ImageCodecs["zstd"]>,
  frame: Uint8Array,
  rawSize: number,
  lsn: Lsn,
): Uint8Array {
  let raw: Uint8Array;
  try {
    raw = codec.decompress(frame, rawSize);
  } catch (cause) {
    throw invalidImage("zstd", lsn, cause);
  }
  if (raw.length !== rawSize) throw invalidImage("zstd", lsn);
  return raw;
}

function invalidImage(method: string, lsn: Lsn, cause?: unknown): CorruptionError {
  return new CorruptionError(`Cannot restore a page image: invalid ${method} data`, { lsn }, { cause });
}
