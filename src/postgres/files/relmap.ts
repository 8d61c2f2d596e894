/**
 * `pg_filenode.map`: which file holds each mapped catalog (those that are needed to read pg_class, and the shared ones).
 *
 * Readers resolve such a catalog's oid through it; effects carry it whole, restore writes it whole. Layout
 * (utils/cache/relmapper.c):
 * ```
 * offset width name
 *      0     4 magic           0x592717
 *      4     4 num_mappings    0..62 (14, 15), 0..64 (16 and later)
 *      8   8*n mappings        oid of the catalog, relfilenumber; room for all 62 or 64
 *      .     4 crc             CRC-32C of all before
 *      .     4 pad             14 and 15 only: 512 bytes in all; 524 from 16 on
 * ```
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { getU32 } from "../../bytes/little_endian.ts";
import { CorruptionError } from "../../errors.ts";
import type { VersionProfile } from "../versions/profile.ts";

export const RELMAPPER_FILENAME = "pg_filenode.map";
export const RELMAPPER_FILEMAGIC = 0x592717;

const MAPPINGS_OFFSET = 8;

/**
 * Reads a relation map.
 *
 * @param object Its path, for errors.
 * @returns Relfilenumber by catalog oid.
 * @throws {CorruptionError} If its size, magic, count or CRC is wrong.
 */
export function parseRelationMap(
  bytes: Uint8Array,
  profile: VersionProfile,
  object = RELMAPPER_FILENAME,
): Map<number, number> {
  const { fileSize, maxMappings } = profile.relMap;
  const fail = (what: string, expected: string | number, got: number, offset: number) =>
    new CorruptionError(`Cannot read relation map: ${what}`, { object, offset, expected, got });
  if (bytes.length !== fileSize) throw fail("wrong size", fileSize, bytes.length, 0);
  if (getU32(bytes, 0) !== RELMAPPER_FILEMAGIC) {
    throw fail("wrong magic", RELMAPPER_FILEMAGIC, getU32(bytes, 0), 0);
  }
  const count = getU32(bytes, 4);
  if (count > maxMappings) throw fail("too many mappings", `0..${maxMappings}`, count, 4);
  const crcOffset = MAPPINGS_OFFSET + maxMappings * 8;
  const crc = crc32c(bytes, 0, crcOffset);
  if (crc !== getU32(bytes, crcOffset)) throw fail("wrong CRC", crc, getU32(bytes, crcOffset), crcOffset);
  const map = new Map<number, number>();
  for (let index = 0; index < count; index++) {
    const offset = MAPPINGS_OFFSET + index * 8;
    map.set(getU32(bytes, offset), getU32(bytes, offset + 4));
  }
  return map;
}
