/**
 * The entries of a tar archive that arrives in pieces.
 *
 * Between a base backup's bytes and its files. The archive itself is read by an injected decoder (modern-tar, strictly);
 * here its entries are judged: no size or name is believed before it was checked, a body that ends early is an error.
 *
 * PostgreSQL writes ustar headers, sizes from 8 GiB on in base 256 (src/port/tar.c, 14-18). Before 15 it leaves out the two
 * empty blocks that end an archive.
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";

/** What a decoder tells of an entry. */
export interface DecodedTarEntry {
  header: { name: string; size: number; mode?: number; type?: string; linkname?: string };
  body: ReadableStream<Uint8Array>;
}

/** Makes a decoder: bytes in, entries out. In strict mode it fails for damaged and incomplete archives. */
export type UntarFunction = (
  options: { strict: boolean },
) => ReadableWritablePair<DecodedTarEntry, Uint8Array>;

/** An entry with its content. */
export interface TarEntry {
  /** As in the archive, without a slash at the end. */
  readonly path: string;
  readonly type: "file" | "directory" | "symlink";
  /** Bytes of content; 0 for all but files. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Where a symlink leads; empty for others. */
  readonly linkTarget: string;
  /** The content, in order. What is not read is skipped when the next entry is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
}

const TYPES: readonly string[] = ["file", "directory", "symlink"];

/**
 * Reads an archive entry by entry. The pieces of a body are views of the pieces of the archive.
 *
 * @param name What is being read, for errors.
 * @throws {CorruptionError} If the archive is damaged or incomplete, or has an entry that no PostgreSQL makes.
 */
export async function* readTar(
  archive: ReadableStream<Uint8Array>,
  untar: UntarFunction,
  name: string,
): AsyncGenerator<TarEntry, void, undefined> {
  let failure: unknown;
  // A failure of the archive's own source must not be taken for a damaged archive.
  const watched = watchFailure(archive, (error) => failure ??= error);
  const entries = watched.pipeThrough(untar({ strict: true })).getReader();
  const explain = (error: unknown) => {
    if (failure !== undefined) return failure;
    const reason = error instanceof Error ? error.message : String(error);
    return new CorruptionError(`Cannot read tar archive (${reason})`, { object: name }, { cause: error });
  };
  try {
    for (;;) {
      const { done, value } = await entries.read().catch((error) => {
        throw explain(error);
      });
      if (done) return;
      const body = new TarBody(value, name, explain);
      yield checkedEntry(value, body, name);
      await body.skip();
    }
  } finally {
    await entries.cancel().catch(() => {}); // whatever is wrong has been told
  }
}

function watchFailure(
  source: ReadableStream<Uint8Array>,
  onFailure: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        onFailure(error);
        controller.error(error);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}

function checkedEntry({ header }: DecodedTarEntry, body: TarBody, archive: string): TarEntry {
  const { name, size, mode = 0, type = "file", linkname = "" } = header;
  const path = name.replace(/^\.\//, "").replace(/\/+$/, "");
  const refuse = (what: string, got: string | number) =>
    new CorruptionError(`Cannot take tar entry: ${what}`, { object: archive, got: JSON.stringify(got) });
  if (!TYPES.includes(type)) throw refuse("it is neither file, directory nor symlink", type);
  if (!Number.isSafeInteger(size) || size < 0) throw refuse("impossible size", size);
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..") || path.includes("\0")) {
    throw refuse("its name leads out of the archive", name);
  }
  return { path, type: type as TarEntry["type"], size, mode: mode & 0o7777, linkTarget: linkname, body };
}

/** An entry's content; counts, so that less or more than announced is an error. */
class TarBody implements AsyncIterable<Uint8Array> {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #path: string;
  readonly #size: number;
  readonly #archive: string;
  readonly #explain: (error: unknown) => unknown;
  #got = 0;
  #isTaken = false;

  constructor(entry: DecodedTarEntry, archive: string, explain: (error: unknown) => unknown) {
    this.#reader = entry.body.getReader();
    this.#path = entry.header.name;
    this.#size = entry.header.size;
    this.#archive = archive;
    this.#explain = explain;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    if (this.#isTaken) throw new TypeError(`Cannot read ${this.#path} from ${this.#archive} twice`);
    this.#isTaken = true;
    for (let piece = await this.#next(); piece !== null; piece = await this.#next()) yield piece;
  }

  /**
   * Lets the decoder go on to the next entry. By reading the rest: modern-tar 0.8.6 reads an entry ahead, and
   * cancelling a body takes away the body of that one.
   */
  async skip(): Promise<void> {
    this.#isTaken = true;
    while ((await this.#next()) !== null);
  }

  async #next(): Promise<Uint8Array | null> {
    const { done, value } = await this.#reader.read().catch((error) => {
      throw this.#explain(error);
    });
    this.#got += value?.length ?? 0;
    if (!done) return value;
    if (this.#got === this.#size) return null;
    throw new CorruptionError("Cannot read tar entry: its content has another size than announced", {
      object: `${this.#path} in ${this.#archive}`,
      expected: this.#size,
      got: this.#got,
    });
  }
}
