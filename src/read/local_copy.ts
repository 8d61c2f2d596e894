/**
 * An open local copy of a layer, held open by those who read it.
 *
 * Read path, inside fetch. It is closed once it was dropped and its last reader has let go of it, so that a copy that is
 * found damaged, evicted or pushed out of the table of open files never disappears under a reader.
 *
 * @module
 */
import type { LocalLayerFile } from "../ports/local_layers.ts";

/** See the module's description. */
export class LocalCopy {
  readonly file: LocalLayerFile;
  #readers = 0;
  #isDropped = false;
  #whenIdle: (() => void)[] = [];

  constructor(file: LocalLayerFile) {
    this.file = file;
  }

  get inUse(): boolean {
    return this.#readers > 0;
  }

  /** Keeps it open until `release`; false if it has been dropped. */
  retain(): boolean {
    if (this.#isDropped) return false;
    this.#readers++;
    return true;
  }

  async release(): Promise<void> {
    if (--this.#readers > 0) return;
    if (this.#isDropped) await this.file.close();
    for (const wake of this.#whenIdle.splice(0)) wake();
  }

  /** Closes it, now or when its last reader lets go. */
  async drop(): Promise<void> {
    if (this.#isDropped) return;
    this.#isDropped = true;
    if (this.#readers === 0) await this.file.close();
  }

  /** Drops it and waits until nobody reads it any more. */
  async dropped(): Promise<void> {
    await this.drop();
    if (this.#readers > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }
}

/** A local copy could not be made or opened; the store may still serve. */
export class NotKept extends Error {
  constructor(cause: unknown) {
    super("Cannot keep a local copy", { cause });
  }
}

/** Marks a failure of the local disk as such. */
export async function keeping<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new NotKept(error);
  }
}
