/**
 * A store in a directory of a POSIX file system, for Deno, Bun and Node.
 *
 * Both paths. An object is a file named by its key, put in place by: temporary name, write, fsync, rename, fsync of
 * the directory. One that is ever written with a condition is a directory of versions instead (`files/versions.ts`),
 * which any number of processes can compare-and-swap without locks.
 *
 * What it promises beyond the port:
 * - `list`, `head`, `get` and `delete` see objects, however they are kept. Leftovers of crashes are invisible, and
 *   removed at open when they are older than an hour.
 * - A write without a condition to a versioned object adds a version. Writing one key in both ways at the same moment
 *   from several processes is defined (the last to resolve wins) but one write may be seen twice.
 * - `delete` is not synced: a power failure may bring an object back.
 * - A range read of an object that another process has just replaced may see the former content for 100 ms. Nothing
 *   else is ever out of date.
 * - The key of one object cannot be the folder of another (`a` and `a/b`), unlike on S3: `STORE_DENIED`.
 *
 * @module
 */
import { type FileHandle, open, readSync, resolve, stat } from "../deps/node_fs.ts";
import { systemClock } from "../deps/system_clock.ts";
import { CorruptionError, NotFoundError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type {
  CallOptions,
  Etag,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../ports/object_store.ts";
import { Disk, factsOf } from "./files/disk.ts";
import { fsError, isFsError } from "./files/fs_errors.ts";
import { HandleCache, type HeldObject, type OpenObject } from "./files/handles.ts";
import { plainEtag, versionEtag, Versions } from "./files/versions.ts";
import { infoOf, walk } from "./files/walk.ts";

export { restoreDirectory, type RestoreDirectoryOptions } from "./restore_directory.ts";
import { checkKey, checkPrefix, checkRange } from "./keys.ts";

/** Bytes per piece of a streamed object. */
const STREAM_PIECE = 1 << 18;

/** Where and how. */
export interface FilesStoreOptions {
  /** The directory. Made by the first write when it does not exist. */
  path: string;
  /** `false` leaves out every fsync: for tests and benches, where a power failure costs nothing. Default true. */
  fsync?: boolean;
  /**
   * Ranges of up to this many bytes are read with a blocking pread: some 20 times less work for what is in the page
   * cache, at the price that a slow disk holds up everything else. For local disks. Default 0: never.
   */
  syncReadLimit?: number;
  /** Files to keep open for range reads. Default 64. */
  openFiles?: number;
  /** Milliseconds that a version stays on disk after its successor; for tests. Default one minute. */
  versionHoldMs?: number;
  clock?: Clock;
}

/** Objects as files. */
export class FilesStore implements ObjectStore {
  readonly description: string;
  readonly #root: string;
  readonly #disk: Disk;
  readonly #versions: Versions;
  readonly #handles: HandleCache;
  readonly #syncReadLimit: number;

  private constructor(options: FilesStoreOptions) {
    const clock = options.clock ?? systemClock;
    this.#root = resolve(options.path);
    this.description = `file://${this.#root}`;
    this.#disk = new Disk(this.#root, clock, options.fsync ?? true);
    this.#versions = new Versions(this.#disk, clock, options.versionHoldMs ?? 60_000);
    this.#syncReadLimit = options.syncReadLimit ?? 0;
    this.#handles = new HandleCache(
      {
        open: (key) => this.#open(key),
        currentEtag: async (key) => (await infoOf(this.#root, key, this.#versions))?.etag,
      },
      clock,
      options.openFiles ?? 64,
    );
  }

  /** Opens the store, which need not exist yet, and sweeps what crashed writers left behind. */
  static async open(options: FilesStoreOptions): Promise<FilesStore> {
    const store = new FilesStore(options);
    await store.#translate(`open ${store.description}`, () => store.#disk.sweep());
    return store;
  }

  put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: Etag }> {
    return this.#run("write", key, options, async (path) => {
      try {
        if (options.condition === undefined && !(await this.#versions.isVersioned(path))) {
          const etag = await this.#putPlain(path, body, options.signal);
          // It may have become a versioned object meanwhile, which hides our file: then add a version as well.
          if (!(await this.#versions.isVersioned(path))) return { etag };
        }
        return await this.#versions.write(path, this.#name(key), body, options.condition, options.signal);
      } finally {
        this.#handles.drop(key);
      }
    });
  }

  async #putPlain(path: string, body: ObjectBody, signal: AbortSignal | undefined): Promise<Etag> {
    const temporary = await this.#disk.writeTemporary(body, signal);
    try {
      signal?.throwIfAborted();
      await this.#disk.replace(temporary.path, path);
    } catch (error) {
      await this.#disk.removeFile(temporary.path);
      throw error;
    }
    return plainEtag(temporary);
  }

  get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    return this.#run("read", key, options, async () => {
      const object = await this.#open(key);
      try {
        const bytes = new Uint8Array(object.size);
        await this.#readFully(key, object, bytes, 0);
        options.signal?.throwIfAborted();
        return { bytes, etag: object.etag };
      } finally {
        await object.handle.close();
      }
    });
  }

  async getRange(
    key: string,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): Promise<Uint8Array> {
    checkRange(offset, length);
    options.signal?.throwIfAborted();
    let held = this.#handles.tryHold(key); // a key that is found was checked before
    try {
      if (held === undefined) {
        checkKey(key);
        held = await this.#handles.hold(key);
      }
      if (offset + length > held.size) throw beyondEnd(key, offset, length, held.size);
      const bytes = new Uint8Array(length);
      if (length <= this.#syncReadLimit) this.#readSync(key, held, bytes, offset);
      else await this.#readFully(key, held, bytes, offset);
      options.signal?.throwIfAborted();
      return bytes;
    } catch (error) {
      throw fsError(`read ${this.#name(key)}`, error);
    } finally {
      held?.release();
    }
  }

  #readSync(key: string, held: HeldObject, bytes: Uint8Array, offset: number): void {
    for (let at = 0; at < bytes.length;) {
      const count = readSync(held.handle.fd, bytes, at, bytes.length - at, offset + at);
      if (count === 0) throw beyondEnd(key, offset, bytes.length, offset + at);
      at += count;
    }
  }

  async #readFully(key: string, object: OpenObject, bytes: Uint8Array, offset: number): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const { bytesRead } = await object.handle.read(bytes, at, bytes.length - at, offset + at);
      if (bytesRead === 0) throw beyondEnd(key, offset, bytes.length, offset + at);
      at += bytesRead;
    }
  }

  getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const { range, signal } = options;
    if (range !== undefined) checkRange(range.offset, range.length);
    return this.#run("read", key, options, async () => {
      const object = await this.#open(key);
      const { offset, length } = range ?? { offset: 0, length: object.size };
      if (offset + length > object.size) {
        await object.handle.close();
        throw beyondEnd(key, offset, length, object.size);
      }
      return { size: length, body: this.#stream(key, object, offset, offset + length, signal) };
    });
  }

  #stream(
    key: string,
    object: OpenObject,
    start: number,
    end: number,
    signal: AbortSignal | undefined,
  ): ReadableStream<Uint8Array> {
    let at = start;
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        try {
          signal?.throwIfAborted();
          if (at === end) {
            await object.handle.close();
            return controller.close();
          }
          const piece = new Uint8Array(Math.min(STREAM_PIECE, end - at));
          await this.#translate(`read ${this.#name(key)}`, () => this.#readFully(key, object, piece, at));
          at += piece.length;
          controller.enqueue(piece);
        } catch (error) {
          await object.handle.close();
          throw error;
        }
      },
      cancel: () => object.handle.close(),
    }, { highWaterMark: 0 });
  }

  head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    return this.#run("look at", key, options, async () => {
      const info = await infoOf(this.#root, key, this.#versions);
      if (info === undefined) throw this.#absent("look at", key);
      return info;
    });
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    checkPrefix(prefix);
    try {
      options.signal?.throwIfAborted();
      for await (const info of walk(this.#root, prefix, this.#versions)) {
        options.signal?.throwIfAborted();
        yield info;
      }
    } catch (error) {
      throw fsError(`list "${prefix}" in ${this.description}`, error);
    }
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#run("delete", key, options, async (path) => {
      try {
        // First what versions hide, or it would come to light again.
        await this.#removePlain(path);
        await this.#versions.remove(path);
      } finally {
        this.#handles.drop(key);
      }
    });
  }

  async #removePlain(path: string): Promise<void> {
    try {
      await this.#disk.removeFile(path);
    } catch (error) {
      // A component is a file, or the path is a folder of keys (EPERM on some systems): no such object.
      if (!isFsError(error, "ENOTDIR", "EISDIR") && !(isFsError(error, "EPERM") && await isFolder(path))) {
        throw error;
      }
    }
  }

  // deno-lint-ignore require-await -- the interface is asynchronous
  async close(): Promise<void> {
    this.#handles.close();
  }

  /** Opens what `key` is now. */
  async #open(key: string): Promise<OpenObject> {
    const path = `${this.#root}/${key}`;
    for (let retried = false;; retried = true) {
      const current = await this.#versions.open(path);
      if (current !== undefined) return await openObject(current.handle, versionEtag(current.version));
      try {
        return await openObject(await open(path, "r"));
      } catch (error) {
        if (!isFsError(error, "ENOENT", "ENOTDIR", "EISDIR")) throw error;
      }
      // Between the two looks a plain object may have become a versioned one: look once more before saying no.
      if (retried) throw this.#absent("read", key);
    }
  }

  #absent(doing: string, key: string): NotFoundError {
    return new NotFoundError(`Cannot ${doing} ${this.#name(key)}: no such object`);
  }

  #name(key: string): string {
    return `object "${key}" in ${this.description}`;
  }

  async #run<T>(
    doing: string,
    key: string,
    options: CallOptions,
    work: (path: string) => Promise<T>,
  ): Promise<T> {
    checkKey(key);
    options.signal?.throwIfAborted();
    return await this.#translate(`${doing} ${this.#name(key)}`, () => work(`${this.#root}/${key}`));
  }

  async #translate<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw fsError(doing, error);
    }
  }
}

/** @param etag Of a version; that of a plain file is made of its facts. */
async function openObject(handle: FileHandle, etag?: Etag): Promise<OpenObject> {
  try {
    const stats = await handle.stat();
    // As reading it would say; some systems let a directory be opened.
    if (stats.isDirectory()) throw Object.assign(new Error("EISDIR: is a directory"), { code: "EISDIR" });
    const facts = factsOf(stats);
    return { handle, size: facts.size, etag: etag ?? plainEtag(facts) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path)).isDirectory();
}

function beyondEnd(key: string, offset: number, length: number, size: number): CorruptionError {
  return new CorruptionError(`Cannot read ${length} bytes: they reach beyond the object's end`, {
    object: key,
    offset,
    expected: `${offset + length} bytes`,
    got: `${size} bytes`,
  });
}
