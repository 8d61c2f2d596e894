/**
 * WAL files as `varve waldump` is given them: segments, and folders with segments in them.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { getU32 } from "../bytes/little_endian.ts";
import { NotFoundError, UnsupportedError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { isWalSegmentSize, parseSegmentFileName } from "../postgres/wal/segment.ts";
import { segmentDirectory } from "../store/directory_files.ts";
import type { SegmentDirectory } from "../write/source/archive.ts";

/** Segments from several places as one directory, and where they begin. */
export interface WalFiles {
  readonly directory: SegmentDirectory;
  readonly startLsn: Lsn;
  /** PostgreSQL's timeline of the first segment. */
  readonly tli: number;
}

/** A file and where it is. */
interface Entry {
  readonly directory: SegmentDirectory;
  readonly size: number;
}

/**
 * Looks at the paths.
 *
 * @param from Begin with the segment of this LSN. Default: the first one.
 * @throws {NotFoundError} If a path does not exist, or there are no segments. @throws {UnsupportedError} If one is no WAL.
 */
export async function findWal(paths: readonly string[], from?: Lsn): Promise<WalFiles> {
  const entries = new Map<string, Entry>();
  for (const path of paths) {
    const isDirectory = await stat(path).then((stats) => stats.isDirectory(), (error) => {
      throw new NotFoundError(`Cannot read WAL from ${path}: ${error.code ?? error.message}`, {
        cause: error,
        hint: "Check the path, and that it may be read.",
      });
    });
    const directory = segmentDirectory(isDirectory ? path : dirname(path));
    const names = isDirectory ? undefined : basename(path);
    for (const { name, size } of await directory.list()) {
      if (names === undefined || name === names) entries.set(name, { directory, size });
    }
  }
  const shown = paths.join(", ");
  const first = await firstSegment(entries, shown, from);
  return { ...first, directory: union(entries, shown) };
}

function union(entries: Map<string, Entry>, description: string): SegmentDirectory {
  return {
    description,
    list: () => Promise.resolve(Array.from(entries, ([name, { size }]) => ({ name, size }))),
    read(name, offset, length, signal) {
      const entry = entries.get(name);
      if (entry === undefined) throw new NotFoundError(`Cannot read WAL segment ${name}: it was not named`);
      return entry.directory.read(name, offset, length, signal);
    },
  };
}

async function firstSegment(
  entries: Map<string, Entry>,
  shown: string,
  from: Lsn | undefined,
): Promise<{ startLsn: Lsn; tli: number }> {
  let first: { tli: number; startLsn: Lsn } | undefined;
  let walSegmentSize: number | undefined;
  for (const name of [...entries.keys()].sort()) {
    if (!/^[0-9A-F]{24}(\.partial)?$/.test(name)) continue;
    walSegmentSize ??= await segmentSizeOf(name, entries.get(name)!);
    if (walSegmentSize === undefined) continue; // preallocated
    const segment = parseSegmentFileName(name.slice(0, 24), walSegmentSize);
    if (segment === undefined) continue;
    const isBefore = from !== undefined && segment.startLsn + walSegmentSize <= from;
    if (!isBefore && (first === undefined || segment.startLsn < first.startLsn)) first = segment;
  }
  if (first !== undefined && (from === undefined || first.startLsn <= from)) return first;
  throw new NotFoundError(
    first === undefined && from === undefined
      ? `Cannot read WAL from ${shown}: there are no segments`
      : `Cannot read WAL from ${shown}: the segment of --start is not there`,
    { hint: "Name WAL segments (24 hexadecimal digits), or a folder of them: an archive, or pg_wal." },
  );
}

/** `xlp_seg_size` of a segment's first page. */
async function segmentSizeOf(name: string, { directory }: Entry): Promise<number | undefined> {
  const header = await directory.read(name, 0, 40);
  if (header.every((byte) => byte === 0)) return undefined;
  const size = header.length < 40 ? 0 : getU32(header, 32);
  if (isWalSegmentSize(size)) return size;
  throw new UnsupportedError(`Cannot read ${name}: it does not begin like a WAL segment`, {
    hint: "Compressed or encrypted archives must be unpacked first.",
  });
}
