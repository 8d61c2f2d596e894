/**
 * Restore: pages of many forks go to their files, in key order.
 *
 * Forks are cut into parts of neighbouring keys; a few parts are worked on at a time, each with a page source and two
 * buffers of its own, so that reading, replaying and writing overlap and memory stays bounded.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { FAMILY_RELATION, type KeySpace } from "../layer/key.ts";
import { BLCKSZ, type Page, pagesIn } from "../postgres/page/page.ts";
import type { RestoreFile, RestoreTarget } from "../ports/restore_target.ts";
import type { PageSource } from "../read/page_source.ts";
import { checkPage } from "./page_check.ts";
import { type PlannedFork, RELATION_SEGMENT_BLOCKS } from "./plan.ts";

/** Pages of one write: 1 MiB. */
const CHUNK_PAGES = 128;
/** A part is closed when it has so many pages: 512 MiB. */
const PART_PAGES = 65_536;
/** Parts worked on at a time, where the target takes it. */
const PARALLEL_PARTS = 2;

export interface WritePagesOptions {
  readonly forks: readonly PlannedFork[];
  readonly target: RestoreTarget;
  readonly lsn: Lsn;
  /** Whether pages are checked before they are written. */
  readonly checkPages: boolean;
  /** Opens pages of some spaces, in key order. */
  open(spaces: readonly KeySpace[], blocksMax: number): PageSource;
  onBytes(bytes: number): void;
  readonly signal?: AbortSignal;
}

/** Writes all forks; returns the number of files. */
export async function writePages(options: WritePagesOptions): Promise<number> {
  const parts = cutIntoParts(options.forks);
  let next = 0;
  let files = 0;
  const failure = new AbortController();
  const signal = options.signal === undefined
    ? failure.signal
    : AbortSignal.any([options.signal, failure.signal]);
  const work = async () => {
    while (next < parts.length) {
      signal.throwIfAborted();
      files += await new PartWriter(options, parts[next++], signal).run();
    }
  };
  const workers = Array.from({ length: options.target.parallel ? PARALLEL_PARTS : 1 }, async () => {
    try {
      await work();
    } catch (error) {
      failure.abort(error); // the others would go on in vain
      throw error;
    }
  });
  const outcomes = await Promise.allSettled(workers);
  // What went wrong first is what counts.
  if (failure.signal.aborted) throw failure.signal.reason;
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  return files;
}

/** Parts of neighbouring keys: of one family each, and not too many pages. */
function cutIntoParts(forks: readonly PlannedFork[]): PlannedFork[][] {
  const parts: PlannedFork[][] = [];
  let part: PlannedFork[] = [];
  let pages = 0;
  for (const fork of forks) {
    const isFull = pages >= PART_PAGES || part[0]?.space.family !== fork.space.family;
    if (isFull && part.length > 0) {
      parts.push(part);
      part = [];
      pages = 0;
    }
    part.push(fork);
    pages += fork.blocks;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

/** A buffer of pages, with views of them. */
class Chunk {
  readonly bytes = new Uint8Array(CHUNK_PAGES * BLCKSZ);
  readonly pages: readonly Page[] = pagesIn(this.bytes.buffer);
  /** The write that still needs it. */
  busy: Promise<void> = Promise.resolve();
}

class PartWriter {
  readonly #options: WritePagesOptions;
  readonly #forks: readonly PlannedFork[];
  readonly #signal: AbortSignal;
  readonly #chunks = [new Chunk(), new Chunk()];
  #turn = 0;

  constructor(options: WritePagesOptions, forks: readonly PlannedFork[], signal: AbortSignal) {
    this.#options = options;
    this.#forks = forks;
    this.#signal = signal;
  }

  async run(): Promise<number> {
    const blocksMax = this.#forks.reduce((most, { blocks }) => Math.max(most, blocks), 0);
    const source = this.#options.open(this.#forks.map(({ space }) => space), blocksMax);
    let files = 0;
    try {
      for (let ordinal = 0; ordinal < this.#forks.length; ordinal++) {
        files += await this.#writeFork(source, ordinal, this.#forks[ordinal]);
      }
      await Promise.all(this.#chunks.map((chunk) => chunk.busy));
    } finally {
      await Promise.allSettled(this.#chunks.map((chunk) => chunk.busy));
      await source.close();
    }
    return files;
  }

  /** An empty fork has one file, too. */
  async #writeFork(source: PageSource, ordinal: number, fork: PlannedFork): Promise<number> {
    const { target } = this.#options;
    const { blocks, paths } = fork;
    if (blocks <= CHUNK_PAGES) {
      const chunk = await this.#readChunk(source, ordinal, 0, blocks);
      const bytes = chunk.bytes.subarray(0, blocks * BLCKSZ);
      chunk.busy = this.#chunks[this.#turn].busy.then(async () => {
        for (const path of paths) await target.put(path(0), bytes);
      });
      chunk.busy.catch(() => undefined);
      this.#options.onBytes(bytes.length * paths.length);
      return paths.length;
    }
    let files = 0;
    // A stream takes one file after the other.
    await Promise.all(this.#chunks.map((chunk) => chunk.busy));
    for (let start = 0; start < blocks; start += RELATION_SEGMENT_BLOCKS) {
      const end = Math.min(start + RELATION_SEGMENT_BLOCKS, blocks);
      const segment = start / RELATION_SEGMENT_BLOCKS;
      const opened: RestoreFile[] = [];
      try {
        for (const path of paths) opened.push(await target.file(path(segment), (end - start) * BLCKSZ));
        for (let block = start; block < end; block += CHUNK_PAGES) {
          await this.#writeChunk(source, ordinal, block, Math.min(CHUNK_PAGES, end - block), opened);
        }
        await Promise.all(this.#chunks.map((chunk) => chunk.busy));
      } catch (error) {
        await Promise.allSettled(this.#chunks.map((chunk) => chunk.busy));
        await Promise.allSettled(opened.map((file) => file.close()));
        throw error;
      }
      for (const file of opened) await file.close();
      files += opened.length;
    }
    return files;
  }

  async #writeChunk(
    source: PageSource,
    ordinal: number,
    block: number,
    count: number,
    files: readonly RestoreFile[],
  ): Promise<void> {
    const chunk = await this.#readChunk(source, ordinal, block, count);
    const bytes = chunk.bytes.subarray(0, count * BLCKSZ);
    const other = this.#chunks[this.#turn];
    // Files take their bytes in order.
    chunk.busy = other.busy.then(async () => {
      for (const file of files) await file.write(bytes);
    });
    chunk.busy.catch(() => undefined);
    this.#options.onBytes(bytes.length * files.length);
  }

  async #readChunk(source: PageSource, ordinal: number, block: number, count: number): Promise<Chunk> {
    this.#signal.throwIfAborted();
    const chunk = this.#chunks[this.#turn];
    this.#turn = 1 - this.#turn;
    await chunk.busy;
    if (count > 0) await source.read(ordinal, block, count, chunk.pages);
    if (this.#options.checkPages) {
      const { space } = this.#forks[ordinal];
      for (let index = 0; index < count; index++) this.#check(space, block + index, chunk.pages[index]);
    }
    return chunk;
  }

  #check(space: KeySpace, block: number, page: Page): void {
    if (space.family !== FAMILY_RELATION) return;
    const problem = checkPage(page, this.#options.lsn);
    if (problem === undefined) return;
    throw new CorruptionError(
      `Cannot restore block ${block} of ${space.a}/${space.b}/${space.c} fork ${space.d} as of LSN ${
        formatLsn(this.#options.lsn)
      }: ${problem}`,
    );
  }
}
