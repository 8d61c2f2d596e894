/**
 * Directories of files that varve reads but did not write, for Deno, Bun and Node: base backups and WAL archives.
 *
 * @module
 */
import { lstat, open, readdir, readlink, resolve, stat } from "../deps/node_fs.ts";
import { fsError } from "./files/fs_errors.ts";
import type { BackupDirectory, BackupDirectoryEntry } from "../ports/backup_directory.ts";

/** Bytes of a read. */
const PIECE_BYTES = 1024 * 1024;

/** A base backup in plain format (`pg_basebackup -Fp`), or a copy of a stopped server's data directory. */
export function backupDirectory(path: string): BackupDirectory {
  const root = resolve(path);
  return {
    description: root,
    entries: (signal) => walkBackup(root, "", signal),
    read: (name, signal) => readPieces(`${root}/${name}`, signal),
  };
}

async function* walkBackup(
  root: string,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<BackupDirectoryEntry> {
  let names: string[];
  try {
    names = (await readdir(prefix === "" ? root : `${root}/${prefix}`)).sort();
  } catch (error) {
    throw fsError(`read the directory ${root}/${prefix}`, error);
  }
  for (const name of names) {
    signal?.throwIfAborted();
    const path = prefix === "" ? name : `${prefix}/${name}`;
    const isLink = (await lstat(`${root}/${path}`)).isSymbolicLink();
    const stats = await stat(`${root}/${path}`);
    if (stats.isDirectory()) {
      yield {
        path,
        type: "directory",
        size: 0,
        linkTarget: isLink ? await readlink(`${root}/${path}`) : undefined,
      };
      yield* walkBackup(root, path, signal);
    } else if (stats.isFile()) yield { path, type: "file", size: stats.size };
  }
}

async function* readPieces(path: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const handle = await open(path, "r");
  try {
    for (;;) {
      signal?.throwIfAborted();
      const piece = new Uint8Array(PIECE_BYTES);
      const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, null);
      if (bytesRead === 0) return;
      yield piece.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** A folder of WAL segments; see `SegmentDirectory` of write/source/archive.ts, which it fits. */
export function segmentDirectory(path: string): {
  description: string;
  list(): Promise<{ name: string; size: number }[]>;
  read(
    name: string,
    offset: number,
    length: number,
    signal?: AbortSignal,
    into?: Uint8Array,
  ): Promise<Uint8Array>;
} {
  const root = resolve(path);
  return {
    description: root,
    async list() {
      try {
        const files: { name: string; size: number }[] = [];
        for (const name of await readdir(root)) {
          const stats = await stat(`${root}/${name}`);
          if (stats.isFile()) files.push({ name, size: stats.size });
        }
        return files;
      } catch (error) {
        throw fsError(`read the directory ${root}`, error);
      }
    },
    async read(name, offset, length, _signal, into) {
      const handle = await open(`${root}/${name}`, "r");
      try {
        const bytes = into ?? new Uint8Array(length);
        let filled = 0;
        while (filled < length) {
          const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        return bytes.subarray(0, filled);
      } finally {
        await handle.close();
      }
    },
  };
}
