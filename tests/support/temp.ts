/**
 * Temporary directories that are removed when they are disposed of.
 *
 * ```ts
 * await using directory = await temporaryDirectory("layers");
 * ```
 *
 * @module
 */
import { statfs } from "node:fs/promises";

export interface TemporaryDirectory extends AsyncDisposable {
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** The path of an entry inside. */
  join(...names: string[]): string;
  remove(): Promise<void>;
}

/** Those not removed yet: a test that hung never comes to its end, so its directory goes with the process. */
const left = new Set<string>();

globalThis.addEventListener("unload", () => {
  for (const path of left) {
    try {
      Deno.removeSync(path, { recursive: true });
    } catch (error) {
      console.error(`Cannot remove ${path}: ${error}`);
    }
  }
});

/** Makes one. `name` shows in its path. */
export async function temporaryDirectory(name = "test"): Promise<TemporaryDirectory> {
  const path = await Deno.realPath(await Deno.makeTempDir({ prefix: `varve-${name}-` }));
  left.add(path);
  const remove = () => {
    left.delete(path);
    return removeTree(path);
  };
  return { path, join: (...names) => [path, ...names].join("/"), remove, [Symbol.asyncDispose]: remove };
}

/** Removes a tree that may be gone already, or still grow: a server that is ending may add a file meanwhile. */
export async function removeTree(path: string): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      return await Deno.remove(path, { recursive: true });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      if (attempt === 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** A server's files may grow to this much before memory runs short. */
const ROOMY_BYTES = 6 * 1024 ** 3;

/**
 * Where data directories of servers go that live for seconds: memory where there is plenty, because file systems slow
 * down badly when a thousand files are created right after a thousand were removed; else the usual place.
 */
export async function scratchDirectory(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return undefined;
  try {
    const { bavail, bsize } = await statfs("/dev/shm");
    const roomy = bavail * bsize >= ROOMY_BYTES && Deno.systemMemoryInfo().available >= 2 * ROOMY_BYTES;
    return roomy ? "/dev/shm" : undefined;
  } catch {
    return undefined; // there is none
  }
}
