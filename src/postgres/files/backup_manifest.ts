/**
 * `backup_manifest`: the files of a base backup with sizes and checksums, and the WAL that it needs.
 *
 * `import` and bootstrap check a backup against it. JSON (backup/backup_manifest.c, common/parse_manifest.c, 14-18;
 * version 2 since 17, which adds the system identifier). Its last line carries a SHA-256 of everything before that
 * line, which pure synchronous code cannot compute: {@linkcode splitManifestChecksum} says what to hash.
 *
 * @module
 */
import { CorruptionError, UnsupportedError } from "../../errors.ts";
import { type Lsn, parseLsn } from "../../lsn.ts";

export const BACKUP_MANIFEST_FILE = "backup_manifest";

export type ManifestChecksumAlgorithm = "NONE" | "CRC32C" | "SHA224" | "SHA256" | "SHA384" | "SHA512";

const CHECKSUM_DIGITS: Record<ManifestChecksumAlgorithm, number> = {
  NONE: 0,
  CRC32C: 8,
  SHA224: 56,
  SHA256: 64,
  SHA384: 96,
  SHA512: 128,
};

/** One file of the backup. */
export interface BackupManifestFile {
  /** Relative to the data directory; files of tablespaces as pg_tblspc/<oid>/... */
  readonly path: string;
  readonly size: number;
  readonly checksumAlgorithm: ManifestChecksumAlgorithm;
  /** Hexadecimal, lower case. A CRC-32C is in the byte order of the server that wrote it: see {@linkcode formatCrc32c}. */
  readonly checksum: string;
}

/** A stretch of WAL that the backup needs. */
export interface BackupWalRange {
  readonly tli: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** What a backup manifest says. */
export interface BackupManifest {
  readonly version: number;
  /** From version 2 (PostgreSQL 17) on. */
  readonly systemIdentifier?: bigint;
  readonly files: readonly BackupManifestFile[];
  readonly walRanges: readonly BackupWalRange[];
  /** SHA-256 of the manifest without its last line, hexadecimal, lower case. */
  readonly manifestChecksum: string;
}

/** How a manifest writes a CRC-32C: the four bytes as a little-endian server has them. */
export function formatCrc32c(crc: number): string {
  let text = "";
  for (let shift = 0; shift < 32; shift += 8) text += ((crc >>> shift) & 0xff).toString(16).padStart(2, "0");
  return text;
}

/**
 * Finds the bytes that `Manifest-Checksum` is about: all before the last line.
 *
 * @throws {CorruptionError} If there is no such last line.
 */
export function splitManifestChecksum(bytes: Uint8Array): { hashed: Uint8Array; checksum: string } {
  // The last line ends with a line feed; the one before it ends what is hashed.
  let end = bytes.length - 1;
  while (end > 0 && bytes[end - 1] !== 0x0a) end--;
  const line = new TextDecoder().decode(bytes.subarray(end, Math.min(end + 200, bytes.length)));
  const match = /^"Manifest-Checksum": "([0-9a-fA-F]{64})"\}\n$/.exec(line);
  if (match === null) throw malformed("the last line is not its checksum");
  return { hashed: bytes.subarray(0, end), checksum: match[1].toLowerCase() };
}

/**
 * Reads a backup manifest. Its own checksum is not checked, see {@linkcode splitManifestChecksum}.
 *
 * @throws {CorruptionError} If it is no manifest.
 * @throws {UnsupportedError} If its version is not 1 or 2.
 */
export function parseBackupManifest(bytes: Uint8Array): BackupManifest {
  const { checksum } = splitManifestChecksum(bytes);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw malformed("not JSON", cause);
  }
  const manifest = asObject(json);
  const version = asInteger(manifest["PostgreSQL-Backup-Manifest-Version"]);
  if (version !== 1 && version !== 2) {
    throw new UnsupportedError(`Cannot read backup manifest: expected version 1 or 2, got ${version}`);
  }
  return {
    version,
    // JSON.parse loses the low bits of a 64-bit number, so it is read from the text.
    systemIdentifier: version === 1 ? undefined : systemIdentifierOf(bytes),
    files: asArray(manifest["Files"]).map(parseFile),
    walRanges: asArray(manifest["WAL-Ranges"]).map(parseWalRange),
    manifestChecksum: checksum,
  };
}

function systemIdentifierOf(bytes: Uint8Array): bigint {
  const head = new TextDecoder().decode(bytes.subarray(0, 1024));
  const match = /"System-Identifier": ([0-9]{1,20}),/.exec(head);
  if (match === null) throw malformed("no system identifier");
  return BigInt.asUintN(64, BigInt(match[1]));
}

function parseFile(json: unknown): BackupManifestFile {
  const file = asObject(json);
  const algorithm = file["Checksum-Algorithm"] === undefined ? "NONE" : asText(file["Checksum-Algorithm"]);
  if (!Object.hasOwn(CHECKSUM_DIGITS, algorithm)) throw malformed(`unknown checksum algorithm ${algorithm}`);
  const checksumAlgorithm = algorithm as ManifestChecksumAlgorithm;
  const checksum = checksumAlgorithm === "NONE" ? "" : asText(file["Checksum"]).toLowerCase();
  if (!/^[0-9a-f]*$/.test(checksum) || checksum.length !== CHECKSUM_DIGITS[checksumAlgorithm]) {
    throw malformed(`impossible ${checksumAlgorithm} checksum`);
  }
  const path = file["Path"] === undefined ? decodePath(asText(file["Encoded-Path"])) : asText(file["Path"]);
  return { path, size: asInteger(file["Size"]), checksumAlgorithm, checksum };
}

/** `Encoded-Path`: a path that is not UTF-8, in hexadecimal. */
function decodePath(hex: string): string {
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(hex)) throw malformed("impossible Encoded-Path");
  return new TextDecoder().decode(Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16)));
}

function parseWalRange(json: unknown): BackupWalRange {
  const range = asObject(json);
  return {
    tli: asInteger(range["Timeline"]),
    startLsn: asLsn(range["Start-LSN"]),
    endLsn: asLsn(range["End-LSN"]),
  };
}

function malformed(what: string, cause?: unknown): CorruptionError {
  return new CorruptionError(`Cannot read backup manifest: ${what}`, { object: BACKUP_MANIFEST_FILE }, {
    cause,
  });
}

function asObject(json: unknown): Record<string, unknown> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw malformed("an object is missing");
  }
  return json as Record<string, unknown>;
}

function asArray(json: unknown): unknown[] {
  if (!Array.isArray(json)) throw malformed("a list is missing");
  return json;
}

function asText(json: unknown): string {
  if (typeof json !== "string") throw malformed("a text is missing");
  return json;
}

function asInteger(json: unknown): number {
  if (!Number.isSafeInteger(json) || (json as number) < 0) {
    throw malformed("a number is missing or impossible");
  }
  return json as number;
}

function asLsn(json: unknown): Lsn {
  try {
    return parseLsn(asText(json));
  } catch (cause) {
    throw malformed("an LSN is missing or impossible", cause);
  }
}
