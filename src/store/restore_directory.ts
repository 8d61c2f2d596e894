/**
 * A directory as the target of a restore, for Deno, Bun and Node.
 *
 * Everything is written under a temporary name beside the directory, synced, and renamed: a directory that exists is a
 * whole one. User tablespaces go where they were, or where they are mapped to: there, too, the major's own directory is
 * written under a temporary name. What a broken-off restore leaves has `.restoring-` in its name and can be deleted.
 *
 * @module
 */
import {
  chown,
  chownSync,
  closeSync,
  dirname,
  type FileHandle,
  lchown,
  mkdir,
  mkdtemp,
  open,
  openSync,
  readdir,
  rename,
  resolve,
  rm,
  symlink,
  writeSync,
} from "../deps/node_fs.ts";
import { VarveError } from "../errors.ts";
import { Semaphore } from "../flow/semaphore.ts";
import type { RestoreFile, RestoreTarget } from "../ports/restore_target.ts";
import { fsError, isFsError } from "./files/fs_errors.ts";

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** Files synced at a time. */
const SYNCS = 8;
/** Up to here a write is over before a thread could have been asked to do it. */
const SYNC_WRITE_BYTES = 256 * 1024;

export interface RestoreDirectoryOptions {
  /** Where tablespaces go, by where they were. Default: where they were. */
  tablespaceMap?: ReadonlyMap<string, string>;
  /** Replaces a directory that is not empty. Default false. */
  force?: boolean;
  /** Makes files durable before the directory is put in place. Default true. */
  fsync?: boolean;
  /** Whom everything is to belong to; needs the right to give files away. Default: who writes. */
  owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Opens a directory for a restore.
 *
 * @throws {VarveError} `NOT_EMPTY` if there is something already, and `force` does not say that it may go; or if a server
 * runs there.
 */
export async function restoreDirectory(
  path: string,
  options: RestoreDirectoryOptions = {},
): Promise<RestoreTarget> {
  const root = resolve(path);
  const names = await namesIn(root);
  if (names?.includes("postmaster.pid")) {
    throw new VarveError("NOT_EMPTY", `Cannot restore to ${root}: a server runs there, or was killed there`, {
      hint: "Stop the server; if there is none, remove postmaster.pid.",
    });
  }
  if (names !== undefined && names.length > 0 && options.force !== true) {
    throw new VarveError("NOT_EMPTY", `Cannot restore to ${root}: the directory is not empty`, {
      hint: "Name another directory, or replace this one with --force.",
    });
  }
  try {
    await mkdir(dirname(root), { recursive: true });
    return new RestoreDirectory(root, await mkdtemp(`${root}.restoring-`), options);
  } catch (error) {
    throw fsError(`restore to ${root}`, error);
  }
}

/** What a directory has; undefined: there is none. */
async function namesIn(path: string): Promise<string[] | undefined> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isFsError(error, "ENOENT")) return undefined;
    throw fsError(`look into ${path}`, error);
  }
}

/** A rename, and the other way round, if it has to be undone. */
interface Move {
  readonly from: string;
  readonly to: string;
}

class RestoreDirectory implements RestoreTarget {
  readonly description: string;
  readonly parallel = true;
  readonly #root: string;
  readonly #temporary: string;
  readonly #suffix: string;
  readonly #options: RestoreDirectoryOptions;
  /** Tablespaces outside of the data directory, by oid. */
  readonly #places = new Map<string, string>();
  /** The majors' directories in them: temporary and final names. */
  readonly #outside: { temporary: string; final: string }[] = [];
  readonly #written: string[] = [];
  #isEnded = false;

  constructor(root: string, temporary: string, options: RestoreDirectoryOptions) {
    this.description = root;
    this.#root = root;
    this.#temporary = temporary;
    this.#suffix = temporary.slice(temporary.lastIndexOf(".restoring-"));
    this.#options = options;
    this.#written.push(temporary);
  }

  async directory(path: string): Promise<void> {
    const outside = /^pg_tblspc\/(\d+)\/([^/]+)$/.exec(path);
    const place = outside === null ? undefined : this.#places.get(outside[1]);
    if (outside !== null && place !== undefined) await this.#claim(`${place}/${outside[2]}`);
    await this.#makeDirectory(this.#locate(path));
  }

  /** A tablespace's place must not hold another cluster of the same major. */
  async #claim(final: string): Promise<void> {
    const names = await namesIn(final);
    if (names !== undefined && names.length > 0) {
      throw new VarveError("NOT_EMPTY", `Cannot restore a tablespace to ${dirname(final)}: it is in use`, {
        hint: "Restore it elsewhere with --tablespace-map OLD=NEW.",
      });
    }
    this.#outside.push({ temporary: final + this.#suffix, final });
  }

  async #makeDirectory(path: string): Promise<void> {
    try {
      await mkdir(path, { mode: DIRECTORY_MODE });
      await this.#giveAway(path);
    } catch (error) {
      throw fsError(`restore to ${this.#root}`, error);
    }
    this.#written.push(path);
  }

  async tablespace(oid: number, location: string): Promise<void> {
    const link = `${this.#temporary}/pg_tblspc/${oid}`;
    const place = this.#options.tablespaceMap?.get(location) ?? location;
    // One inside of the data directory: made with allow_in_place_tablespaces.
    if (!place.startsWith("/")) return await this.#makeDirectory(link);
    try {
      if (await namesIn(place) === undefined) {
        // Those above it are not ours alone.
        await mkdir(dirname(place), { recursive: true });
        await mkdir(place, { mode: DIRECTORY_MODE });
        await this.#giveAway(place);
      }
      await symlink(place, link);
      const { owner } = this.#options;
      if (owner !== undefined) await lchown(link, owner.uid, owner.gid);
    } catch (error) {
      throw fsError(`restore a tablespace to ${place}`, error);
    }
    this.#places.set(String(oid), place);
  }

  async file(path: string, size: number): Promise<RestoreFile> {
    const located = this.#locate(path);
    try {
      const handle = await open(located, "wx", FILE_MODE);
      await this.#giveAway(located);
      this.#written.push(located);
      return new DirectoryFile(located, handle, size);
    } catch (error) {
      throw fsError(`write ${located}`, error);
    }
  }

  async put(path: string, bytes: Uint8Array): Promise<void> {
    if (bytes.length > SYNC_WRITE_BYTES) {
      const file = await this.file(path, bytes.length);
      await file.write(bytes);
      return await file.close();
    }
    const located = this.#locate(path);
    try {
      const descriptor = openSync(located, "wx", FILE_MODE);
      try {
        for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at, bytes.length - at);
      } finally {
        closeSync(descriptor);
      }
      const { owner } = this.#options;
      if (owner !== undefined) chownSync(located, owner.uid, owner.gid);
    } catch (error) {
      throw fsError(`write ${located}`, error);
    }
    this.#written.push(located);
  }

  async #giveAway(path: string): Promise<void> {
    const { owner } = this.#options;
    if (owner !== undefined) await chown(path, owner.uid, owner.gid);
  }

  #locate(path: string): string {
    const outside = /^pg_tblspc\/(\d+)\/([^/]+)(.*)$/.exec(path);
    const place = outside === null ? undefined : this.#places.get(outside[1]);
    if (outside === null || place === undefined) return `${this.#temporary}/${path}`;
    return `${place}/${outside[2]}${this.#suffix}${outside[3]}`;
  }

  async commit(): Promise<void> {
    await this.#giveAway(this.#temporary);
    if (this.#options.fsync ?? true) await this.#sync(this.#written);
    // An empty directory is replaced by the rename itself.
    const isReplaced = this.#options.force === true && ((await namesIn(this.#root))?.length ?? 0) > 0;
    const aside = `${this.#root}.replaced${this.#suffix.replace(".restoring", "")}`;
    const moves = this.#outside.map(({ temporary, final }) => ({ from: temporary, to: final }));
    if (isReplaced) moves.push({ from: this.#root, to: aside });
    moves.push({ from: this.#temporary, to: this.#root });
    await this.#moveAll(moves);
    this.#isEnded = true;
    try {
      if (isReplaced) await rm(aside, { recursive: true, force: true });
    } catch (error) {
      throw fsError(`delete what ${this.#root} has replaced`, error);
    }
  }

  /** Renames one after another, and makes that durable; if it fails, what was moved goes back, the last first. */
  async #moveAll(moves: readonly Move[]): Promise<void> {
    let done = 0;
    try {
      for (; done < moves.length; done++) await rename(moves[done].from, moves[done].to);
      if (this.#options.fsync ?? true) {
        await this.#sync([dirname(this.#root), ...this.#outside.map(({ final }) => dirname(final))]);
      }
    } catch (error) {
      const left: string[] = [];
      for (const { from, to } of moves.slice(0, done).reverse()) {
        // Nothing more can be done about one that does not; the others still can go.
        await rename(to, from).catch(() => left.push(to));
      }
      const doing = `put ${this.#root} in place` +
        (left.length === 0 ? "" : `, nor take ${left.join(" and ")} back`);
      if (!isFsError(error, "ENOTEMPTY", "EEXIST")) throw fsError(doing, error);
      throw new VarveError("NOT_EMPTY", `Cannot ${doing}: ${moves[done].to} is in use by now`, {
        cause: error,
        hint: "Somebody has written there since the restore began. Restore it elsewhere.",
      });
    }
  }

  async #sync(paths: readonly string[]): Promise<void> {
    const limit = new Semaphore(SYNCS);
    await Promise.all(paths.map((path) =>
      limit.run(async () => {
        const handle = await open(path, "r");
        try {
          await handle.sync();
        } finally {
          await handle.close();
        }
      })
    )).catch((error) => {
      throw fsError(`sync ${this.#root}`, error);
    });
  }

  async abort(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const path of [this.#temporary, ...this.#outside.map(({ temporary }) => temporary)]) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

class DirectoryFile implements RestoreFile {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #size: number;
  #written = 0;

  constructor(path: string, handle: FileHandle, size: number) {
    this.#path = path;
    this.#handle = handle;
    this.#size = size;
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < bytes.length;) {
        at += (await this.#handle.write(bytes, at, bytes.length - at, this.#written + at)).bytesWritten;
      }
    } catch (error) {
      throw fsError(`write ${this.#path}`, error);
    }
    this.#written += bytes.length;
  }

  async close(): Promise<void> {
    await this.#handle.close();
    if (this.#written !== this.#size) {
      throw new TypeError(`Cannot end ${this.#path}: expected ${this.#size} bytes, got ${this.#written}`);
    }
  }
}
