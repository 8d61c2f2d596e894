/**
 * What a value in a layer must be like, whatever page it belongs to: lengths, record headers, page headers.
 *
 * Upkeep, for the scrub of a store. Checksums of blocks, the order of keys and what a block's entries span are checked by
 * whoever reads the layer; this looks at what is inside.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import {
  FAMILY_RELATION,
  FAMILY_RELATION_SIZE,
  FAMILY_SLRU,
  FAMILY_SLRU_SIZE,
  type KeySpace,
  VALUE_DROPPED,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_KIND_MASK,
  VALUE_RAW,
  VALUE_RECORD,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import { ImagePlace } from "../layer/image_value.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { Lsn } from "../lsn.ts";
import { pageChecksum } from "../postgres/page/checksum.ts";
import { BLCKSZ, type Page } from "../postgres/page/page.ts";
import type { DecodedRecord } from "../postgres/wal/record.ts";
import { decodeSize } from "../timeline/sizes.ts";

/** `PD_VALID_FLAG_BITS`, storage/bufpage.h. */
const PD_VALID_FLAG_BITS = 0x0007;
/** `PageGetPageSize | PG_PAGE_LAYOUT_VERSION`. */
const PAGESIZE_VERSION = BLCKSZ | 4;
/** Bytes of a full-page image's value that say where its hole is. */
export const HOLE_BYTES = 4;

const place = new ImagePlace();

/**
 * Checks one entry of a block.
 *
 * @param record A cursor to decode with.
 * @throws {CorruptionError} If it cannot be what its key and flags say.
 */
export function checkValue(block: DecodedBlock, entry: number, space: KeySpace, record: DecodedRecord): void {
  const flags = block.flags[entry];
  const offset = block.valueOffsets[entry];
  const length = block.valueLengths[entry];
  const lsn = block.lsns[entry] as Lsn;
  const { family } = space;
  if (family === FAMILY_RELATION_SIZE || family === FAMILY_SLRU_SIZE) {
    if ((flags & VALUE_KIND_MASK) !== VALUE_DROPPED) decodeSize(block.bytes, offset, length);
  }
  if (family !== FAMILY_RELATION && family !== FAMILY_SLRU) return;
  switch (flags & VALUE_KIND_MASK) {
    case VALUE_RAW: {
      const expected = (flags & VALUE_ZERO_PAGE) === 0 ? BLCKSZ : 0;
      if (length !== expected) {
        throw new CorruptionError("A page has another length", { lsn, expected, got: length });
      }
      return;
    }
    case VALUE_RECORD:
      record.decode(block.bytes, offset, lsn);
      if (record.totalLength !== length) {
        throw new CorruptionError("A record has another length", {
          lsn,
          expected: record.totalLength,
          got: length,
        });
      }
      if (record.prevLsn >= lsn) {
        throw new CorruptionError("A record comes before the one that it follows", { lsn });
      }
      return;
    case VALUE_FULL_PAGE_IMAGE:
      if (length <= HOLE_BYTES) {
        throw new CorruptionError("A page image has an impossible length", { lsn, got: length });
      }
      place.find(block.bytes, offset + HOLE_BYTES, length - HOLE_BYTES, flags, lsn, record);
      if (place.length < 1 || place.length > BLCKSZ) {
        throw new CorruptionError("A page image has an impossible length", { lsn, got: place.length });
      }
      if (place.recordOffset >= 0) record.decode(block.bytes, place.recordOffset, lsn);
      return;
    default:
      throw new CorruptionError("A page is marked as dropped", { lsn });
  }
}

/**
 * `PageIsVerified`, and that the page is not newer than the LSN that it was read at.
 *
 * @throws {CorruptionError} If the header makes no sense.
 */
export function checkPageHeader(page: Page, lsn: Lsn): void {
  const refuse = (what: string, expected: string | number, got: string | number): never => {
    throw new CorruptionError(what, { lsn, expected, got });
  };
  if (page.isNew()) {
    if (page.u32.some((word) => word !== 0)) refuse("A new page is not all zeros", 0, "other bytes");
    return;
  }
  const { flags, lower, upper, special, pagesizeVersion } = page;
  if ((flags & ~PD_VALID_FLAG_BITS) !== 0) {
    refuse("A page has unknown flags", `0..${PD_VALID_FLAG_BITS}`, flags);
  }
  if (lower > upper || upper > special || special > BLCKSZ) {
    refuse("A page has impossible pointers", "lower <= upper <= special", `${lower}, ${upper}, ${special}`);
  }
  if ((special & 7) !== 0) refuse("A page's special space is not aligned", "a multiple of 8", special);
  if (pagesizeVersion !== PAGESIZE_VERSION) {
    refuse("A page has another size or layout", PAGESIZE_VERSION, pagesizeVersion);
  }
  if (page.lsn > lsn) refuse("A page is newer than the LSN that it was read at", `at most ${lsn}`, page.lsn);
}

/** @throws {CorruptionError} If pd_checksum is not that of the page. */
export function checkPageChecksum(page: Page, block: number, lsn: Lsn): void {
  if (page.isNew()) return;
  const expected = pageChecksum(page, block);
  if (page.checksum !== expected) {
    throw new CorruptionError("A page has a wrong checksum", { lsn, expected, got: page.checksum });
  }
}
