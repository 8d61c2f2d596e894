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
import type { ZstdDecoder } from "../../bytes/zstd_codec.ts";
import { CorruptionError, UnsupportedError } from "../../errors.ts";
import { formatLsn, type Lsn } from "../../lsn.ts";
import { BLCKSZ, type Page } from "../page/page.ts";
import type { DecodedRecord } from "./record.ts";

/** Decompressors that come from outside the core. */
export interface ImageCodecs {
  /** For `wal_compression = zstd`. Without it such images throw {@linkcode UnsupportedError}. */
  readonly zstd?: ZstdDecoder;
}

// Restoring is synchronous, so one of these is enough.
const scratch = new Uint8Array(BLCKSZ);

/**
 * Fills `page` from the image of block reference `index`, and sets its LSN to the record's end unless the page is new.
 *
 * @throws {RangeError} If the block reference has no image.
 * @throws {CorruptionError} If the image does not decompress to a page. `page` is then unchanged.
 * @throws {UnsupportedError} If it is compressed by a method that is not at hand.
 */
export function restoreImage(record: DecodedRecord, index: number, page: Page, codecs: ImageCodecs): void {
  const length = record.imageLength[index];
  if (index < 0 || index >= record.blockCount || length === 0) {
    throw new RangeError(`Cannot restore an image: block reference ${index} has none`);
  }
  restoreImageBytes(
    record.bytes,
    record.imageOffset[index],
    length,
    imageMethod(record, index),
    record.holeOffset[index],
    record.holeLength[index],
    page,
    codecs,
    record.endLsn,
  );
  if (!page.isNew()) page.setLsn(record.endLsn);
}

/** How an image is compressed; the numbers are those of layer values too. */
export const IMAGE_NOT_COMPRESSED = 0;
export const IMAGE_PGLZ = 1;
export const IMAGE_LZ4 = 2;
export const IMAGE_ZSTD = 3;

/**
 * How the image of block reference `index` is compressed.
 *
 * @throws {CorruptionError} If its flags name no known method.
 */
export function imageMethod(record: DecodedRecord, index: number): number {
  const info = record.imageInfo[index];
  const { compressedMask, pglz, lz4, zstd } = record.profile.bkpImage;
  if ((info & compressedMask) === 0) return IMAGE_NOT_COMPRESSED;
  if ((info & pglz) !== 0) return IMAGE_PGLZ;
  if ((info & lz4) !== 0) return IMAGE_LZ4;
  if ((info & zstd) !== 0) return IMAGE_ZSTD;
  throw new CorruptionError(`Cannot restore the image of block reference ${record.blockId[index]}: unknown compression`, {
    lsn: record.endLsn,
    got: info,
  });
}

/**
 * Fills `page` from image bytes wherever they are kept; leaves the LSN as the image has it.
 *
 * @param method One of IMAGE_NOT_COMPRESSED .. IMAGE_ZSTD.
 * @throws {CorruptionError} If they do not make a page. `page` is then unchanged.
 * @throws {UnsupportedError} If they are compressed by a method that is not at hand.
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
  if (holeOffset + holeLength > BLCKSZ || (method === IMAGE_NOT_COMPRESSED && length !== rawSize)) {
    throw new CorruptionError(`Cannot restore a page image of ${length} bytes with hole ${holeOffset}+${holeLength}`, { lsn });
  }
  const source = method === IMAGE_NOT_COMPRESSED ? bytes : decompress(bytes, offset, length, method, rawSize, codecs, lsn);
  const from = method === IMAGE_NOT_COMPRESSED ? offset : 0;
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
  if (method === IMAGE_PGLZ) {
    if (pglzDecompress(bytes, offset, length, scratch, rawSize)) return scratch;
    throw invalid(lsn, "pglz");
  }
  if (method === IMAGE_LZ4) {
    if (lz4DecompressBlock(bytes, offset, length, scratch, rawSize)) return scratch;
    throw invalid(lsn, "lz4");
  }
  if (codecs.zstd === undefined) {
    throw new UnsupportedError(
      `Cannot restore the page image in the record ending at LSN ${formatLsn(lsn)}: it is compressed with zstd, ` +
        "and no decoder for that was given",
      { hint: "Pass a zstd decoder, or set wal_compression to pglz or lz4 on the server." },
    );
  }
  const raw = codecs.zstd.decompress(bytes.subarray(offset, offset + length), rawSize);
  if (raw === undefined || raw.length !== rawSize) throw invalid(lsn, "zstd");
  return raw;
}

function invalid(lsn: Lsn, method: string): CorruptionError {
  return new CorruptionError(`Cannot restore a page image: invalid ${method} data`, { lsn });
}
