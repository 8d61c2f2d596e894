/**
 * WAL as it lies in files: `pg_wal` of a stopped cluster, or an archive.
 *
 * @module
 */
import { getU32 } from "../../src/bytes/little_endian.ts";
import { type Lsn, lsn } from "../../src/lsn.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import type { VersionProfile } from "../../src/postgres/versions/profile.ts";
import { type EndOfWal, WalAssembler } from "../../src/postgres/wal/assembler.ts";
import type { RecordBatch } from "../../src/postgres/wal/record_batch.ts";
import { parseSegmentFileName, segmentNumber, segmentStart } from "../../src/postgres/wal/segment.ts";

/** A stretch of WAL. */
export interface WalPiece {
  startLsn: Lsn;
  data: Uint8Array;
}

/** A directory with segments, and how they are to be read. */
export interface WalDirectory {
  path: string;
  walSegmentSize: number;
}

/** Opens a directory of segments; their size is that of any one file in it. */
export function openWalDirectory(path: string): WalDirectory {
  for (const entry of Deno.readDirSync(path)) {
    if (/^[0-9A-F]{24}$/.test(entry.name)) {
      return { path, walSegmentSize: Deno.statSync(`${path}/${entry.name}`).size };
    }
  }
  throw new Error(`Cannot find WAL segments in ${path}`);
}

/** The segments that there are, by number; of several timelines the latest. */
function segmentFiles(directory: WalDirectory): Map<number, string> {
  const found = new Map<number, { tli: number; path: string }>();
  for (const entry of Deno.readDirSync(directory.path)) {
    const segment = parseSegmentFileName(entry.name, directory.walSegmentSize);
    if (segment === undefined || (found.get(segment.segno)?.tli ?? 0) > segment.tli) continue;
    found.set(segment.segno, { tli: segment.tli, path: `${directory.path}/${entry.name}` });
  }
  return new Map([...found].map(([segno, { path }]) => [segno, path]));
}

/** Reads from `startLsn` to the first segment that is missing, in pieces of `pieceSize` bytes at the most. */
export function* readWal(directory: WalDirectory, startLsn: Lsn, pieceSize = 1 << 20): Generator<WalPiece> {
  const files = segmentFiles(directory);
  let at: number = startLsn;
  for (let segno = segmentNumber(startLsn, directory.walSegmentSize);; segno++) {
    const path = files.get(segno);
    if (path === undefined) return;
    const bytes = Deno.readFileSync(path);
    const base = segmentStart(segno, directory.walSegmentSize);
    for (let offset = at - base; offset < bytes.length; offset += pieceSize) {
      yield {
        startLsn: lsn(base + offset),
        data: bytes.subarray(offset, Math.min(offset + pieceSize, bytes.length)),
      };
    }
    at = base + bytes.length;
  }
}

/**
 * Like {@linkcode readWal}, with one buffer for all pieces: each is overwritten by the next. For measurements.
 */
export function* readWalReusing(
  directory: WalDirectory,
  startLsn: Lsn,
  pieceSize: number,
): Generator<WalPiece> {
  const files = segmentFiles(directory);
  const buffer = new Uint8Array(pieceSize);
  let at: number = startLsn;
  for (let segno = segmentNumber(startLsn, directory.walSegmentSize);; segno++) {
    const path = files.get(segno);
    if (path === undefined) return;
    using file = Deno.openSync(path);
    file.seekSync(at - segmentStart(segno, directory.walSegmentSize), Deno.SeekMode.Start);
    for (let length; (length = file.readSync(buffer)) !== null; at += length) {
      yield { startLsn: lsn(at), data: buffer.subarray(0, length) };
    }
  }
}

/** Reads whole records from `startLsn` to the end of WAL. */
export function* readRecords(
  directory: WalDirectory,
  startLsn: Lsn,
  profile: VersionProfile,
  endOfWal: EndOfWal = "invalid",
): Generator<RecordBatch> {
  const { walSegmentSize } = directory;
  const assembler = new WalAssembler({ startLsn, walSegmentSize, profile, endOfWal });
  for (const piece of readWal(directory, startLsn)) {
    const batch = assembler.push(piece.startLsn, piece.data);
    if (batch !== null) yield batch;
    if (assembler.atEnd !== null) return;
  }
}

/** What `global/pg_control` says about where recovery starts. */
export interface ControlPoints {
  /** `checkPoint`: start of the last checkpoint's record. */
  checkpointLsn: Lsn;
  /** `checkPointCopy.redo`: where replay begins. */
  redoLsn: Lsn;
}

/** Reads them from a data directory. The offsets are the same in 14-18 (catalog/pg_control.h). */
export function readControlPoints(dataDir: string): ControlPoints {
  const bytes = Deno.readFileSync(`${dataDir}/global/pg_control`);
  const at = (offset: number) => lsn(getU32(bytes, offset + 4) * 0x1_0000_0000 + getU32(bytes, offset));
  return { checkpointLsn: at(32), redoLsn: at(40) };
}

/** The profile of the major that a data directory belongs to. */
export function profileOfDataDirectory(dataDir: string): VersionProfile {
  return profileOfMajor(Number(Deno.readTextFileSync(`${dataDir}/PG_VERSION`)));
}
