/**
 * `pg_logical/replorigin_checkpoint`: how far each replication origin has come, as of the last checkpoint.
 *
 * Bootstrap reads it, restore writes it. Layout (replication/logical/origin.c 14-18):
 * ```
 * offset  width name
 *      0      4 magic         0x1257DADE
 *      4   16*n roident 2, zero 6, remote_lsn 8
 *      .      4 crc           CRC-32C of all before
 * ```
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { getI64, getU16, getU32, setU16, setU32 } from "../../bytes/little_endian.ts";
import { CorruptionError } from "../../errors.ts";

/** Path inside the data directory. */
export const REPLORIGIN_CHECKPOINT_PATH = "pg_logical/replorigin_checkpoint";
const REPLICATION_STATE_MAGIC = 0x1257dade;
const SizeOfReplicationStateOnDisk = 16;

/**
 * Reads the file.
 *
 * @returns Remote position by origin id. A position is 64 bits of another system and need not be an LSN.
 * @throws {CorruptionError} If its length, magic or CRC is wrong.
 */
export function parseReplicationOrigins(bytes: Uint8Array): Map<number, bigint> {
  const object = REPLORIGIN_CHECKPOINT_PATH;
  const crcOffset = bytes.length - 4;
  if (crcOffset < 4 || (crcOffset - 4) % SizeOfReplicationStateOnDisk !== 0) {
    throw new CorruptionError("Cannot read replication origins: impossible file size", {
      object,
      got: bytes.length,
    });
  }
  if (getU32(bytes, 0) !== REPLICATION_STATE_MAGIC) {
    throw new CorruptionError("Cannot read replication origins: wrong magic", {
      object,
      expected: REPLICATION_STATE_MAGIC,
      got: getU32(bytes, 0),
    });
  }
  const crc = crc32c(bytes, 0, crcOffset);
  if (crc !== getU32(bytes, crcOffset)) {
    throw new CorruptionError("Cannot read replication origins: wrong CRC", {
      object,
      offset: crcOffset,
      expected: crc,
      got: getU32(bytes, crcOffset),
    });
  }
  const origins = new Map<number, bigint>();
  for (let offset = 4; offset < crcOffset; offset += SizeOfReplicationStateOnDisk) {
    origins.set(getU16(bytes, offset), BigInt.asUintN(64, getI64(bytes, offset + 8)));
  }
  return origins;
}

/** Writes the file, origins in the order given. */
export function encodeReplicationOrigins(origins: ReadonlyMap<number, bigint>): Uint8Array {
  const bytes = new Uint8Array(4 + origins.size * SizeOfReplicationStateOnDisk + 4);
  setU32(bytes, 0, REPLICATION_STATE_MAGIC);
  let offset = 4;
  for (const [id, remoteLsn] of origins) {
    setU16(bytes, offset, id);
    setU32(bytes, offset + 8, Number(remoteLsn & 0xffffffffn));
    setU32(bytes, offset + 12, Number(remoteLsn >> 32n));
    offset += SizeOfReplicationStateOnDisk;
  }
  setU32(bytes, offset, crc32c(bytes, 0, offset));
  return bytes;
}
