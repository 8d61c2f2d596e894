/**
 * The messages of BASE_BACKUP's copy from PostgreSQL 15 on, and its result rows. Pure.
 *
 * First byte of a message (src/backend/backup/basebackup_copy.c, 15-18):
 * ```
 * 'n'  a new archive: name, 0, the tablespace's path or nothing, 0
 * 'm'  the manifest begins
 * 'd'  bytes of the archive or manifest
 * 'p'  8 bytes: how much the server has done
 * ```
 *
 * @module
 */
import { ProtocolError } from "../../errors.ts";
import type { Lsn } from "../../lsn.ts";
import type { DriverRow } from "../../ports/postgres_driver.ts";
import { parseLsnOrUndefined, parseTli, textValue } from "./identify.ts";

/** A tablespace of the backup. */
export interface BackupTablespace {
  /** Null: the data directory itself. */
  readonly oid: number | null;
  /** Where the server has it. Null: the data directory. */
  readonly path: string | null;
  /** Bytes, as the server estimates. */
  readonly estimatedSize: number;
}

/** A position of the backup. */
export interface BackupPosition {
  readonly lsn: Lsn;
  readonly tli: number;
}

export type BackupMessage =
  | { readonly kind: "archive"; readonly name: string; readonly path: string }
  | { readonly kind: "manifest" }
  | { readonly kind: "data"; readonly data: Uint8Array }
  | { readonly kind: "progress" };

const decoder = new TextDecoder();

/**
 * Reads one message. The data of a data message is a view.
 *
 * @throws {ProtocolError} If it is of an unknown kind or malformed.
 */
export function parseBackupMessage(message: Uint8Array): BackupMessage {
  switch (message[0]) {
    case 0x64: // d
      return { kind: "data", data: message.subarray(1) };
    case 0x70: // p
      return { kind: "progress" };
    case 0x6d: // m
      return { kind: "manifest" };
    case 0x6e: { // n
      const parts = decoder.decode(message.subarray(1)).split("\0");
      if (parts.length === 3 && parts[2] === "") return { kind: "archive", name: parts[0], path: parts[1] };
      throw new ProtocolError("Cannot read base backup: malformed announcement of an archive");
    }
    default:
      throw new ProtocolError(
        `Cannot read base backup: expected a message n, m, d or p, got byte ${message[0]}`,
      );
  }
}

/**
 * The OID that an archive's name tells, null for the data directory's.
 *
 * @throws {ProtocolError} If it is of neither kind.
 */
export function archiveOid(name: string): number | null {
  if (/^base\.tar$/.test(name)) return null;
  const match = /^(\d{1,10})\.tar$/.exec(name);
  if (match !== null && Number(match[1]) <= 0xffff_ffff) return Number(match[1]);
  throw new ProtocolError(`Cannot read base backup: expected base.tar or a tablespace's OID, got "${name}"`);
}

/**
 * Reads a row of position and timeline.
 *
 * @throws {ProtocolError} If it is none.
 */
export function parsePosition(row: DriverRow | undefined): BackupPosition {
  const [lsnText, tliText] = (row ?? []).map(textValue);
  const lsn = parseLsnOrUndefined(lsnText);
  const tli = parseTli(tliText);
  if (lsn !== undefined && tli !== undefined) return { lsn, tli };
  throw new ProtocolError(
    `Cannot read base backup: expected a position and a timeline, got "${lsnText}" and "${tliText}"`,
  );
}

/**
 * Reads a row of the list of tablespaces.
 *
 * @throws {ProtocolError} If it is none.
 */
export function parseTablespace(row: DriverRow): BackupTablespace {
  const [oid, path, kilobytes] = row.map(textValue);
  const isValid = row.length === 3 && (oid === null || /^\d{1,10}$/.test(oid)) &&
    (oid === null) === (path === null) &&
    (kilobytes === null || /^\d{1,15}$/.test(kilobytes));
  if (!isValid) {
    throw new ProtocolError(
      `Cannot read base backup: malformed tablespace "${oid}", "${path}", "${kilobytes}"`,
    );
  }
  return { oid: oid === null ? null : Number(oid), path, estimatedSize: Number(kilobytes ?? 0) * 1024 };
}
