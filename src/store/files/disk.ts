/**
 * The durable steps of the directory store: temporary files, directories, fsync.
 *
 * What it promises: a file that {@linkcode Disk.writeTemporary} returned is on the disk with all of its bytes, and a
 * directory from {@linkcode Disk.ensureDirectory} survives a power failure, like all directories above it.
 *
 * @module
 */
import { mkdir, open, readdir, rename, rm, stat, unlink } from "../../deps/node_fs.ts";
import { createNewFile, type NewFile } from "../../deps/new_file.ts";
import type { Clock } from "../../ports/clock.ts";
import type { ObjectBody } from "../../ports/object_store.ts";
import { bodyPieces } from "../body.ts";
import { isFsError } from "./fs_errors.ts";

/** Where temporary files live, below the root: on its file system, and outside of the grammar of keys. */
export const TEMPORARY = "~tmp";

/** A leftover of a crash is removed when it is older. Nothing takes this long to write. */
const LEFTOVER_MS = 3_600_000;

/** A file's numbers, the same over all runtimes. */
export interface FileFacts {
  readonly size: number;
  readonly ino: number;
  readonly modifiedMs: number;
}

/** A complete and durable file under a temporary name. */
export interface TemporaryFile extends FileFacts {
  readonly path: string;
}

/** One directory on one file system. */
export class Disk {
  readonly root: string;
  readonly #clock: Clock;
  readonly #fsync: boolean;
  /** Directories that exist and whose entries in their parents are durable. */
  readonly #durable = new Set<string>();
  #lastModifiedMs = 0;

  constructor(root: string, clock: Clock, fsync: boolean) {
    this.root = root;
    this.#clock = clock;
    this.#fsync = fsync;
  }

  /** A name that nobody else uses; not in the grammar of keys. */
  uniqueName(): string {
    const word = () => Math.floor(this.#clock.random() * 2 ** 40).toString(36).padStart(8, "0");
    return `${Math.floor(this.#clock.now()).toString(36)}-${word()}${word()}`;
  }

  /** A path for something temporary; its directory exists. */
  async temporaryPath(): Promise<string> {
    const directory = `${this.root}/${TEMPORARY}`;
    await this.ensureDirectory(directory);
    return `${directory}/${this.uniqueName()}`;
  }

  /**
   * Writes while the next piece is being made, and has the disk begin early, so that the sync at the end has less to
   * wait for. A piece must stay as it is until the one after it has been taken.
   */
  async #writeBody(file: NewFile, body: ObjectBody, signal?: AbortSignal): Promise<void> {
    let writing: Promise<void> = Promise.resolve();
    let syncing: Promise<void> = Promise.resolve();
    let unsynced = 0;
    try {
      for await (const piece of bodyPieces(body, signal)) {
        await writing;
        writing = file.write(piece);
        writing.catch(() => {}); // awaited below, also after an error of the body
        unsynced += piece.length;
        if (this.#fsync && unsynced >= EARLY_SYNC_BYTES) {
          unsynced = 0;
          await syncing;
          syncing = writing.then(() => file.datasync());
          syncing.catch(() => {});
        }
      }
    } finally {
      // Nothing may be under way when the file is closed.
      await Promise.allSettled([writing, syncing]);
    }
    await writing;
    await syncing;
  }

  /** Writes `body` to a temporary file and makes it durable. Nothing is left behind when it rejects. */
  async writeTemporary(body: ObjectBody, signal?: AbortSignal): Promise<TemporaryFile> {
    const path = await this.temporaryPath();
    const file = await this.inDirectory(parentOf(path), () => createNewFile(path));
    let isOpen = true;
    try {
      await this.#writeBody(file, body, signal);
      // The time of modification tells two versions of an object apart, so no two writes of ours may share it.
      // Half a millisecond keeps it clear of rounding, which runtimes do differently.
      this.#lastModifiedMs = Math.max(Math.floor(this.#clock.now()), this.#lastModifiedMs + 1);
      const seconds = (this.#lastModifiedMs + 0.5) / 1000;
      await file.setModified(seconds);
      if (this.#fsync) await file.sync();
      isOpen = false;
      await file.close();
      return { path, ...factsOf(await stat(path)) };
    } catch (error) {
      if (isOpen) await file.close();
      await this.removeFile(path);
      throw error;
    }
  }

  /** Moves a file into place over whatever was there, and makes that durable. Readers see the old or the new one, whole. */
  async replace(from: string, to: string): Promise<void> {
    const directory = parentOf(to);
    await this.inDirectory(directory, () => rename(from, to));
    await this.syncDirectory(directory);
  }

  /** Runs a step that needs `directory` to be there, which somebody may have removed since we made it. */
  async inDirectory<T>(directory: string, step: () => Promise<T>): Promise<T> {
    await this.ensureDirectory(directory);
    try {
      return await step();
    } catch (error) {
      if (!isFsError(error, "ENOENT")) throw error;
      this.#durable.clear();
      await this.ensureDirectory(directory);
      return await step();
    }
  }

  /** Makes sure that a directory exists and will after a power failure. */
  async ensureDirectory(path: string): Promise<void> {
    if (this.#durable.has(path)) return;
    const isNew = await this.#makeDirectory(path);
    // Another process may have made it a moment ago and not have synced its entry yet. What is above the root is not ours.
    if (isNew || path !== this.root) await this.syncDirectory(parentOf(path));
    this.#durable.add(path);
  }

  /** Tells whether it was not there. */
  async #makeDirectory(path: string, triesLeft = 2): Promise<boolean> {
    try {
      await mkdir(path);
      return true;
    } catch (error) {
      if (isFsError(error, "EEXIST")) return false;
      if (!isFsError(error, "ENOENT") || triesLeft === 0) throw error;
      const parent = parentOf(path);
      this.#durable.delete(parent); // it is not there, whatever we believed
      await this.ensureDirectory(parent);
      return await this.#makeDirectory(path, triesLeft - 1);
    }
  }

  /** Makes a directory's entries durable. */
  async syncDirectory(path: string): Promise<void> {
    if (!this.#fsync) return;
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /** Removes a file, which may be gone already. */
  async removeFile(path: string): Promise<void> {
    try {
      await unlink(path);
    } catch (error) {
      if (!isFsError(error, "ENOENT")) throw error;
    }
  }

  /** Removes what writers that crashed have left behind. Best effort: a read-only store has nothing to sweep. */
  async sweep(): Promise<void> {
    const directory = `${this.root}/${TEMPORARY}`;
    try {
      for (const name of await readdir(directory)) {
        const path = `${directory}/${name}`;
        const age = this.#clock.now() - (await stat(path)).mtimeMs;
        if (age > LEFTOVER_MS) await rm(path, { recursive: true, force: true });
      }
    } catch (error) {
      // Gone meanwhile or not ours to remove: no reason to refuse to read the store.
      if (!isFsError(error, "ENOENT", "ENOTDIR", "EACCES", "EPERM", "EROFS")) throw error;
    }
  }
}

/** A regular file's facts, or undefined when there is none. */
export async function fileFacts(path: string): Promise<FileFacts | undefined> {
  try {
    const stats = await stat(path);
    return stats.isFile() ? factsOf(stats) : undefined;
  } catch (error) {
    if (isFsError(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** The numbers that identify a file's content. */
export function factsOf(stats: { size: number; ino: number; mtimeMs: number }): FileFacts {
  return { size: stats.size, ino: stats.ino, modifiedMs: Math.floor(stats.mtimeMs) };
}

/** The directory that a path names its last component in. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

/** Bytes after which the disk is told to begin. */
const EARLY_SYNC_BYTES = 32 * 1024 * 1024;
