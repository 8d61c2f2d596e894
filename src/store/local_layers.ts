/**
 * Local copies of layer files in one directory, for Deno, Bun and Node.
 *
 * A copy is written under a temporary name, synced, renamed, and the directory synced, so that a name is either absent or
 * a whole file. Temporary files of a process that died are removed at open; a directory serves one process at a time.
 *
 * @module
 */
import { createNewFile, type NewFile } from "../deps/new_file.ts";
import { type FileHandle, mkdir, open, readdir, rename, resolve, rm, stat } from "../deps/node_fs.ts";
import { CorruptionError } from "../errors.ts";
import type { LocalLayerFile, LocalLayers, LocalLayerWriter } from "../ports/local_layers.ts";
import { fsError, isFsError } from "./files/fs_errors.ts";

const TEMPORARY_SUFFIX = ".temporary";

/**
 * Opens (and makes) a directory of local copies.
 *
 * @param options.shared Another process may be using it: its temporary files are left alone.
 */
export async function openLocalLayers(
  directory: string,
  options: { shared?: boolean } = {},
): Promise<LocalLayers> {
  const root = resolve(directory);
  try {
    await mkdir(root, { recursive: true });
    for (const name of await readdir(root)) {
      if (name.endsWith(TEMPORARY_SUFFIX) && !options.shared) await rm(`${root}/${name}`, { force: true });
    }
  } catch (error) {
    throw fsError(`open the directory of local layers ${root}`, error);
  }
  return new DirectoryOfLayers(root);
}

class DirectoryOfLayers implements LocalLayers {
  readonly #root: string;
  #sequence = 0;

  constructor(root: string) {
    this.#root = root;
  }

  async list(): Promise<{ name: string; size: number }[]> {
    const names = (await readdir(this.#root)).filter((name) => !name.endsWith(TEMPORARY_SUFFIX));
    return await Promise.all(
      names.map(async (name) => ({ name, size: (await stat(this.#path(name))).size })),
    );
  }

  async open(name: string): Promise<LocalLayerFile | undefined> {
    try {
      const handle = await open(this.#path(name), "r");
      return new ReadableLayer(name, handle, (await handle.stat()).size);
    } catch (error) {
      if (isFsError(error, "ENOENT")) return undefined;
      throw fsError(`read the local copy of layer ${name}`, error);
    }
  }

  async create(name: string): Promise<LocalLayerWriter> {
    const path = this.#path(name);
    const temporary = `${path}.${++this.#sequence}${TEMPORARY_SUFFIX}`;
    try {
      return new WritableLayer(this.#root, path, temporary, await createNewFile(temporary));
    } catch (error) {
      throw fsError(`write a local copy of layer ${name}`, error);
    }
  }

  async remove(name: string): Promise<void> {
    await rm(this.#path(name), { force: true });
  }

  #path(name: string): string {
    if (!/^[A-Za-z0-9_-]+$/.test(name)) throw new TypeError(`Cannot use "${name}" as a layer name`);
    return `${this.#root}/${name}`;
  }
}

class ReadableLayer implements LocalLayerFile {
  readonly #name: string;
  readonly #handle: FileHandle;
  readonly size: number;

  constructor(name: string, handle: FileHandle, size: number) {
    this.#name = name;
    this.#handle = handle;
    this.size = size;
  }

  async readRange(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) {
        throw new CorruptionError("Cannot read the local copy of a layer: it is too short", {
          object: this.#name,
          offset: offset + done,
          expected: offset + length,
          got: this.size,
        });
      }
      done += bytesRead;
    }
    return bytes;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

class WritableLayer implements LocalLayerWriter {
  readonly #directory: string;
  readonly #path: string;
  readonly #temporary: string;
  #file: NewFile | undefined;

  constructor(directory: string, path: string, temporary: string, file: NewFile) {
    this.#directory = directory;
    this.#path = path;
    this.#temporary = temporary;
    this.#file = file;
  }

  async write(chunk: Uint8Array): Promise<void> {
    try {
      await this.#file!.write(chunk);
    } catch (error) {
      throw fsError("write a local copy of a layer", error);
    }
  }

  async commit(): Promise<void> {
    try {
      await this.#file!.sync();
      await this.#close();
      await rename(this.#temporary, this.#path);
      const directory = await open(this.#directory, "r");
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (error) {
      throw fsError("make a local copy of a layer durable", error);
    }
  }

  async abort(): Promise<void> {
    await this.#close();
    await rm(this.#temporary, { force: true });
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}
