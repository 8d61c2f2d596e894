/**
 * Compare-and-swap on a POSIX file system: the objects of the directory store that are written with a condition.
 *
 * No lock is taken, so none can go stale when its holder dies. A versioned object `a/b` is a directory:
 * ```
 * a/b~/                      `~` is not in the grammar of keys
 * a/b~/<incarnation>/        exactly one; a random name, new whenever the object is created
 * a/b~/<incarnation>/1
 * a/b~/<incarnation>/2
 * a/b~/<incarnation>/3       the current version: the highest number, whole and durable before it got its name
 * ```
 * - **Replacing** version 3 is link(2) of a complete, synced file onto `4`. The kernel lets exactly one of any number
 *   of processes succeed; the others get EEXIST.
 * - **Creating** is rename(2) of a prepared directory (`<incarnation>/1` inside) onto `a/b~`, which fails when that is
 *   a directory with something in it.
 * - **Deleting** is rename(2) of `a/b~` out of the way. A writer that had looked before finds no directory to link
 *   into, and cannot meet a later object by accident because that one has another incarnation.
 * - **Old versions** are unlinked in ascending order, never the newest {@linkcode KEPT_VERSIONS} and none that was
 *   current within the last minute. So while version 3 still exists after somebody linked 4, number 4 cannot have been
 *   used before: that writer has won. A writer that was suspended for so long that 3 is gone cannot tell, and says so
 *   (UnavailableError, which may hide a write that happened). What it may have put below newer versions nobody reads.
 *
 * The etag is `<incarnation>-<number>`: a name that belongs to one content for ever, so nothing needs hashing.
 *
 * @module
 */
import { type FileHandle, link, mkdir, open, readdir, rename, rm, stat } from "../../deps/node_fs.ts";
import { PreconditionFailedError, UnavailableError } from "../../errors.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Etag, ObjectBody, PutCondition } from "../../ports/object_store.ts";
import { type Disk, type FileFacts, fileFacts, parentOf, type TemporaryFile } from "./disk.ts";
import { isFsError } from "./fs_errors.ts";

/** Behind the name of a versioned object. */
export const VERSIONED_MARK = "~";

/** The newest versions are never removed. */
export const KEPT_VERSIONS = 4;

/** A write this many numbers apart looks for old versions to remove. */
const PRUNE_EVERY = 8;

/** How far to look for newer versions by name before listing the directory instead. */
const PROBES = 16;

/** How many objects' last known versions to remember. */
const MOST_KNOWN = 1000;

const INCARNATION = /^[0-9a-z]+-[0-9a-z]+$/;
const NUMBER = /^[1-9][0-9]{0,15}$/;

/** One version of an object. */
export interface Version {
  readonly incarnation: string;
  readonly number: number;
  readonly path: string;
}

/** What a key holds now: a version, a plain file, or nothing. */
interface Current {
  readonly version?: Version;
  readonly etag?: Etag;
}

/** The etag of a plain file, one that was written without a condition. */
export function plainEtag(facts: FileFacts): Etag {
  return `${facts.ino.toString(36)}-${facts.size.toString(36)}-${facts.modifiedMs.toString(36)}`;
}

/** The etag of a version. */
export function versionEtag(version: Version): Etag {
  return `${version.incarnation}-${version.number}`;
}

/** Finds, adds and removes versions. Paths are those of the object without the mark. */
export class Versions {
  readonly #disk: Disk;
  readonly #holdMs: number;
  readonly #clock: Clock;
  /** Where each object was when we last looked: numbers only grow, so that is where to look first. */
  readonly #known = new Map<string, { incarnation: string; number: number; seenMs: number }>();

  /** @param holdMs How long a version stays after another has replaced it. */
  constructor(disk: Disk, clock: Clock, holdMs: number) {
    this.#disk = disk;
    this.#clock = clock;
    this.#holdMs = holdMs;
  }

  /** Whether the object at `path` is or is about to become a versioned one. */
  async isVersioned(path: string): Promise<boolean> {
    return (await namesIn(path + VERSIONED_MARK)) !== undefined;
  }

  /** The current version, or undefined when the object is not versioned. */
  async locate(path: string): Promise<Version | undefined> {
    const known = this.#known.get(path);
    // What was current within the hold time is still there, and so is everything that came after it: no gaps.
    if (known !== undefined && this.#clock.monotonicMs() - known.seenMs < this.#holdMs / 2) {
      const found = await this.#lookFrom(path, known.incarnation, known.number);
      if (found !== undefined) return found;
    }
    for (;;) {
      const incarnation = (await namesIn(path + VERSIONED_MARK))?.find((name) => INCARNATION.test(name));
      if (incarnation === undefined) return undefined;
      const numbers = await numbersIn(`${path}${VERSIONED_MARK}/${incarnation}`);
      if (numbers !== undefined) return this.#remember(path, incarnation, numbers[numbers.length - 1]);
      // Deleted between the two looks, and perhaps created anew: look again.
    }
  }

  async #lookFrom(path: string, incarnation: string, number: number): Promise<Version | undefined> {
    if ((await fileFacts(this.#pathOf(path, incarnation, number))) === undefined) return undefined;
    for (let next = number + 1; next <= number + PROBES; next++) {
      if ((await fileFacts(this.#pathOf(path, incarnation, next))) !== undefined) continue;
      return this.#remember(path, incarnation, next - 1);
    }
    return undefined;
  }

  #remember(path: string, incarnation: string, number: number): Version {
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    this.#known.set(path, { incarnation, number, seenMs: this.#clock.monotonicMs() });
    return { incarnation, number, path: this.#pathOf(path, incarnation, number) };
  }

  #pathOf(path: string, incarnation: string, number: number): string {
    return `${path}${VERSIONED_MARK}/${incarnation}/${number}`;
  }

  /**
   * Writes a version. With a condition, of all who name the same one exactly one resolves and the others reject with
   * PreconditionFailedError. Without, it becomes the newest version whatever is there.
   *
   * @param what The object, for errors.
   */
  async write(
    path: string,
    what: string,
    body: ObjectBody,
    condition: PutCondition | undefined,
    signal?: AbortSignal,
  ): Promise<{ etag: Etag }> {
    let current = await this.#current(path);
    checkCondition(what, condition, current.etag); // a writer that has lost already need not write
    const temporary = await this.#disk.writeTemporary(body, signal);
    try {
      for (;;) {
        signal?.throwIfAborted();
        const written = current.version === undefined
          ? await this.#create(path, what, temporary, condition)
          : await this.#append(path, what, temporary, current.version);
        if (written !== undefined) return { etag: versionEtag(written) };
        if (condition !== undefined) throw lost(what);
        current = await this.#current(path);
      }
    } finally {
      await this.#disk.removeFile(temporary.path);
    }
  }

  async #current(path: string): Promise<Current> {
    const version = await this.locate(path);
    if (version !== undefined) return { version, etag: versionEtag(version) };
    const plain = await fileFacts(path);
    return plain === undefined ? {} : { etag: plainEtag(plain) };
  }

  /** Links the file as the successor of `parent`; undefined when another writer was faster. */
  async #append(
    path: string,
    what: string,
    file: TemporaryFile,
    parent: Version,
  ): Promise<Version | undefined> {
    const { incarnation } = parent;
    const number = parent.number + 1;
    const target = this.#pathOf(path, incarnation, number);
    try {
      await link(file.path, target);
    } catch (error) {
      if (isFsError(error, "ENOENT")) return undefined; // the object was deleted
      if (!isFsError(error, "EEXIST")) throw error;
      // On network file systems a repeated request may meet its own success: then the file has two names by now.
      if ((await stat(file.path)).nlink < 2) return undefined;
    }
    if ((await fileFacts(parent.path)) === undefined) {
      throw new UnavailableError(
        `Cannot tell whether the write of ${what} happened: its predecessor is gone`,
        {
          hint:
            "This process was suspended for more than a minute in the middle of a write. Read the object again.",
        },
      );
    }
    await this.#syncIfThere(parentOf(target));
    const version = this.#remember(path, incarnation, number);
    if (number % PRUNE_EVERY === 0) await this.#prune(path, version);
    return version;
  }

  /** Puts a first version in place; undefined when another writer was faster. */
  async #create(
    path: string,
    what: string,
    file: TemporaryFile,
    condition: PutCondition | undefined,
  ): Promise<Version | undefined> {
    const home = path + VERSIONED_MARK;
    // The empty directory announces us to writers without a condition: they look for it after they have replaced the
    // plain file. So either they see it and add a version after ours, or we see their file here.
    await this.#disk.inDirectory(parentOf(path), () => makeDirectory(home));
    const plain = await fileFacts(path);
    checkCondition(what, condition, plain === undefined ? undefined : plainEtag(plain));

    const incarnation = this.#disk.uniqueName();
    const prepared = await this.#disk.temporaryPath();
    await mkdir(prepared);
    try {
      await mkdir(`${prepared}/${incarnation}`);
      await link(file.path, `${prepared}/${incarnation}/1`);
      await this.#disk.syncDirectory(`${prepared}/${incarnation}`);
      await this.#disk.syncDirectory(prepared);
      await rename(prepared, home);
    } catch (error) {
      await rm(prepared, { recursive: true, force: true });
      if (isFsError(error, "ENOTEMPTY", "EEXIST")) return undefined;
      throw error;
    }
    await this.#disk.syncDirectory(parentOf(path));
    if (plain !== undefined) await this.#disk.removeFile(path); // hidden from now on, and replaced
    return this.#remember(path, incarnation, 1);
  }

  async #syncIfThere(directory: string): Promise<void> {
    try {
      await this.#disk.syncDirectory(directory);
    } catch (error) {
      if (!isFsError(error, "ENOENT")) throw error; // written, and deleted since
    }
  }

  /** Removes what is old, in ascending order. What cannot be removed now is met again by a later write. */
  async #prune(path: string, newest: Version): Promise<void> {
    const at = (number: number) => this.#pathOf(path, newest.incarnation, number);
    try {
      const numbers = await numbersIn(`${path}${VERSIONED_MARK}/${newest.incarnation}`) ?? [];
      // The file system's own clock on both sides: machines that share a store need not agree on the time.
      const nowMs = (await stat(at(newest.number))).ctimeMs;
      for (const [i, number] of numbers.entries()) {
        if (number > newest.number - KEPT_VERSIONS) return;
        // Usually number + 1, but a writer that was suspended may have put one where others were removed.
        const replacedMs = (await stat(at(numbers[i + 1]))).ctimeMs;
        if (nowMs - replacedMs < this.#holdMs) return;
        await this.#disk.removeFile(at(number));
      }
    } catch (error) {
      if (!isFsError(error, "ENOENT")) throw error; // another writer prunes too, or the object was deleted
    }
  }

  /** Removes the object with all of its versions, if it is a versioned one. */
  async remove(path: string): Promise<void> {
    this.#known.delete(path);
    if (!(await this.isVersioned(path))) return;
    const aside = await this.#disk.temporaryPath();
    try {
      await rename(path + VERSIONED_MARK, aside);
    } catch (error) {
      if (isFsError(error, "ENOENT")) return;
      throw error;
    }
    await rm(aside, { recursive: true, force: true });
  }

  /** Opens the current version for reading; undefined when the object is not versioned. */
  async open(path: string): Promise<{ version: Version; handle: FileHandle } | undefined> {
    for (;;) {
      const version = await this.locate(path);
      if (version === undefined) return undefined;
      try {
        return { version, handle: await open(version.path, "r") };
      } catch (error) {
        if (!isFsError(error, "ENOENT")) throw error; // superseded long ago, or deleted: look again
      }
    }
  }
}

function checkCondition(what: string, condition: PutCondition | undefined, current: Etag | undefined): void {
  if (condition === undefined) return;
  const wanted = "ifMatch" in condition ? condition.ifMatch : undefined;
  if (current === wanted) return;
  throw new PreconditionFailedError(
    `Cannot write ${what}: expected ${wanted ?? "none"}, got ${current ?? "none"}`,
  );
}

function lost(what: string): PreconditionFailedError {
  return new PreconditionFailedError(`Cannot write ${what}: another writer was faster`);
}

/** Names in a directory, or undefined when there is none. */
async function namesIn(path: string): Promise<string[] | undefined> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isFsError(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** Version numbers in a directory, ascending; undefined when there is no such directory. */
async function numbersIn(path: string): Promise<number[] | undefined> {
  const numbers = (await namesIn(path))?.filter((name) => NUMBER.test(name)).map(Number);
  return numbers === undefined || numbers.length === 0 ? undefined : numbers.sort((a, b) => a - b);
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (!isFsError(error, "EEXIST")) throw error;
  }
}
