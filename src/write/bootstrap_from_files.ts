/**
 * Write path, before the stream: a timeline made from a base backup on disk, without a server.
 *
 * The backup's own files say what is needed: `backup_label` where redo starts, `backup_manifest` where the backup ended
 * and what checksum each file must have (checked while it is read, where it is a CRC-32C). A data directory without a
 * label is taken if its server was shut down cleanly: then redo starts, and everything is consistent, at its checkpoint.
 *
 * @module
 */
import type { BlockCodec } from "../bytes/block_codec.ts";
import { crc32c } from "../bytes/crc32c.ts";
import { CorruptionError, MismatchError, NotFoundError } from "../errors.ts";
import { SpaceTable } from "../layer/space_table.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { BackupDirectory } from "../ports/backup_directory.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { BACKUP_LABEL_FILE, parseBackupLabel } from "../postgres/files/backup_label.ts";
import {
  BACKUP_MANIFEST_FILE,
  type BackupManifest,
  type BackupManifestFile,
  formatCrc32c,
  parseBackupManifest,
  splitManifestChecksum,
} from "../postgres/files/backup_manifest.ts";
import { CONTROL_FILE_PATH, DB_SHUTDOWNED, parseControlFile } from "../postgres/files/control_file.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import { manifestLayer } from "../timeline/manifest.ts";
import { ManifestWriter } from "../timeline/manifest_store.ts";
import { BootstrapImporter } from "./bootstrap.ts";
import { isKept, tellSkipped } from "./bootstrap_from_server.ts";
import { ImageBuffer } from "./image_buffer.ts";

export interface FilesBootstrapOptions {
  base: BackupDirectory;
  store: ObjectStore;
  timeline: string;
  clock: Clock;
  local?: LocalLayers;
  codec?: BlockCodec;
  events?: EventSink;
  onProgress?(progress: { bytesDone: number; bytesTotal: number }): void;
  signal?: AbortSignal;
}

/** Where redo starts and where the files are consistent. */
interface BackupRange {
  startLsn: Lsn;
  consistentLsn: Lsn;
  tli: number;
}

/** Makes the timeline; durable when it resolves, with a writer's claim on it. */
export async function bootstrapFromFiles(options: FilesBootstrapOptions): Promise<ManifestWriter> {
  const { base, store, timeline, clock, local, codec, events, signal } = options;
  const profile = profileOfMajor(await readMajor(options));
  const manifest = await readBackupManifest(options);
  const range = await readRange(options, profile, manifest);
  const spaces = new SpaceTable();
  const buffer = new ImageBuffer({
    timeline,
    spaces,
    lsn: range.startLsn,
    epoch: 1,
    store,
    local,
    codec,
    clock,
    signal,
  });
  const importer = new BootstrapImporter(profile, spaces, buffer);
  const expected = expectedFiles(manifest);
  const bytesTotal = manifest?.files.reduce((sum, file) => sum + file.size, 0) ?? 0;
  let bytesDone = 0;
  for await (const entry of base.entries(signal)) {
    if (entry.type === "directory") {
      const tablespace = /^pg_tblspc\/(\d+)$/.exec(entry.path);
      if (tablespace !== null) importer.addTablespace(Number(tablespace[1]), entry.linkTarget ?? "");
      importer.addDirectory(entry.path);
    } else if (isKept(entry.path)) {
      await takeIn(options, importer, entry, expected.get(entry.path));
      expected.delete(entry.path);
      bytesDone += entry.size;
      options.onProgress?.({ bytesDone, bytesTotal: Math.max(bytesTotal, bytesDone) });
    }
  }
  for (const path of expected.keys()) {
    throw new CorruptionError("Cannot use the base backup: a file that its manifest names is missing", {
      object: path,
    }, { hint: "Take the backup again; pg_verifybackup lists every missing file." });
  }
  const result = await importer.finish((state) => state.tli = range.tli);
  const { systemIdentifier } = manifest ?? {};
  if (systemIdentifier !== undefined && systemIdentifier !== result.control.systemIdentifier) {
    throw new MismatchError(
      `Cannot import ${base.description}: its backup_manifest is of another cluster, expected system ${result.control.systemIdentifier}, got ${systemIdentifier}`,
    );
  }
  tellSkipped(result, events);
  events?.({
    level: "info",
    topic: "bootstrap.done",
    message: `Took in ${result.files} files of ${base.description}; reads are right from LSN ${
      formatLsn(range.consistentLsn)
    } on`,
    fields: { files: result.files, pages: result.pages, bytes: result.bytes },
  });
  return await ManifestWriter.create(store, clock, {
    timeline,
    facts: {
      systemId: String(result.control.systemIdentifier),
      major: profile.major,
      walSegmentSize: result.control.walSegmentSize,
      blockSize: result.control.blockSize,
      dataChecksums: result.control.dataChecksumVersion > 0,
      walLogHints: result.control.walLogHints,
    },
    tli: range.tli,
    startLsn: range.startLsn,
    consistentLsn: range.consistentLsn,
    diskConsistentLsn: range.startLsn,
    layers: buffer.descriptors.map(manifestLayer),
  }, signal);
}

/** Files that users and tools may change in a backup that is taken: `pg_verifybackup` does not look at them either. */
const MAY_CHANGE = ["postgresql.auto.conf", "recovery.signal", "standby.signal"];

/** What the manifest says of the files that are taken in, by path. */
function expectedFiles(manifest: BackupManifest | undefined): Map<string, BackupManifestFile> {
  const files = manifest?.files.filter(({ path }) => isKept(path) && !MAY_CHANGE.includes(path)) ?? [];
  return new Map(files.map((file) => [file.path, file]));
}

async function takeIn(
  options: FilesBootstrapOptions,
  importer: BootstrapImporter,
  entry: { path: string; size: number },
  expected: BackupManifestFile | undefined,
): Promise<void> {
  const { base, signal } = options;
  if (expected !== undefined && expected.size !== entry.size) {
    throw differs(entry.path, `${expected.size} bytes`, `${entry.size} bytes`);
  }
  importer.beginFile(entry.path, entry.size);
  let crc: number | undefined;
  for await (const chunk of base.read(entry.path, signal)) {
    if (expected?.checksumAlgorithm === "CRC32C") crc = crc32c(chunk, 0, chunk.length, crc);
    importer.data(chunk);
    await importer.drain();
  }
  importer.endFile();
  if (expected?.checksumAlgorithm !== "CRC32C") return;
  const got = formatCrc32c(crc ?? crc32c(new Uint8Array(0), 0, 0));
  if (got !== expected.checksum) throw differs(entry.path, expected.checksum, got);
}

function differs(object: string, expected: string, got: string): CorruptionError {
  return new CorruptionError("Cannot use the base backup: a file differs from its manifest", {
    object,
    expected,
    got,
  }, { hint: "Take the backup again; pg_verifybackup lists every damaged file." });
}

async function readMajor(options: FilesBootstrapOptions): Promise<number> {
  const bytes = await readSmall(options, "PG_VERSION");
  const major = bytes === undefined ? NaN : Number(new TextDecoder().decode(bytes).trim());
  if (Number.isInteger(major)) return major;
  throw new NotFoundError(`Cannot import ${options.base.description}: it has no usable PG_VERSION`, {
    hint:
      "Give the directory of a plain base backup (pg_basebackup -Fp), or a cleanly stopped data directory.",
  });
}

async function readBackupManifest(options: FilesBootstrapOptions): Promise<BackupManifest | undefined> {
  const bytes = await readSmall(options, BACKUP_MANIFEST_FILE);
  if (bytes === undefined) return undefined;
  const { hashed, checksum } = splitManifestChecksum(bytes);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", hashed.slice()));
  const got = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (got !== checksum) {
    throw new CorruptionError("Cannot use the base backup: its manifest is damaged", {
      object: BACKUP_MANIFEST_FILE,
      expected: checksum,
      got,
    }, { hint: "Take the backup again." });
  }
  return parseBackupManifest(bytes);
}

async function readRange(
  options: FilesBootstrapOptions,
  profile: VersionProfile,
  manifest: BackupManifest | undefined,
): Promise<BackupRange> {
  const { description } = options.base;
  const labelBytes = await readSmall(options, BACKUP_LABEL_FILE);
  if (labelBytes === undefined) {
    const controlBytes = await readSmall(options, CONTROL_FILE_PATH);
    if (controlBytes === undefined) {
      throw new NotFoundError(`Cannot import ${description}: it has no ${CONTROL_FILE_PATH}`);
    }
    const control = parseControlFile(controlBytes, profile);
    if (control.state !== DB_SHUTDOWNED) {
      throw new MismatchError(
        `Cannot import ${description}: no backup_label, and its server was not shut down cleanly`,
        {
          hint:
            "Import a base backup with its backup_label, or stop the server with pg_ctl stop -m fast first.",
        },
      );
    }
    const { redo, tli } = control.checkPointCopy;
    return { startLsn: redo, consistentLsn: redo, tli };
  }
  const label = parseBackupLabel(labelBytes);
  const ends = manifest?.walRanges.map((walRange) => walRange.endLsn) ?? [];
  if (ends.length === 0) {
    throw new NotFoundError(`Cannot import ${description}: no backup_manifest tells where the backup ended`, {
      hint: "Take the backup with pg_basebackup and keep its backup_manifest.",
    });
  }
  return { startLsn: label.startLsn, consistentLsn: Math.max(...ends) as Lsn, tli: label.startTli };
}

/** A file that is read whole, or undefined if it is not there. */
async function readSmall(options: FilesBootstrapOptions, path: string): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of options.base.read(path, options.signal)) pieces.push(piece);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT" || error instanceof NotFoundError) return undefined;
    throw error;
  }
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}
