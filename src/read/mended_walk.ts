/**
 * Walks over many pages that outlive their layers: for restore, and for scans of a relation.
 *
 * Read path, around page_walk.ts. A walk goes by the layers of the moment that it was begun at. While it lasts, compaction
 * may replace them and collection delete them, and a local copy may turn out to be damaged. What single reads do then
 * (get_page.ts, fetch.ts) is done here for walks: the newest manifest is taken over, or the copies are let go of, and the
 * walk is begun anew from the page that it is at. Whoever asks for pages gets each once, and notices nothing. For one
 * position that is done once: what fails again is told.
 *
 * @module
 */
import { CorruptionError, NotFoundError } from "../errors.ts";
import type { MemoryLayer } from "../layer/memory_layer.ts";
import type { Lsn } from "../lsn.ts";
import type { Page } from "../postgres/page/page.ts";
import type { AttachedTimeline } from "./attach.ts";
import type { BulkSource } from "./bulk_read.ts";
import { type ReadOptions, viewAt } from "./get_page.ts";
import type { PageSource } from "./page_source.ts";
import { PageWalk, type PageWalkOptions } from "./page_walk.ts";

/** Of one moment: what a flush takes out of memory is in layers then. */
interface Moment {
  readonly sources: readonly BulkSource[];
  readonly memory: readonly MemoryLayer[];
}

/** Which pages a walk gives. */
export type MendedWalkOptions = Pick<PageWalkOptions, "spaces" | "firstBlock" | "blocksMax" | "memoryBytes">;

/** What walks at one LSN share: layers, their indexes, and the mending of both. */
export class WalkedLayers {
  readonly #attached: AttachedTimeline;
  readonly #lsn: Lsn;
  readonly #options: ReadOptions;
  #newest: Moment;

  /** @throws {LsnNotReachedError | LsnCollectedError} If the LSN cannot be read. */
  constructor(attached: AttachedTimeline, lsn: Lsn, options: ReadOptions = {}) {
    this.#attached = attached;
    this.#lsn = lsn;
    this.#options = options;
    this.#newest = this.#moment();
  }

  /** Walks over some pages. Close it. */
  walk(options: MendedWalkOptions): MendedWalk {
    return new MendedWalk(this, options);
  }

  get newest(): Moment {
    return this.#newest;
  }

  begin(moment: Moment, options: MendedWalkOptions): PageWalk {
    const { signal } = this.#options;
    return new PageWalk({ attached: this.#attached, lsn: this.#lsn, signal, ...moment, ...options });
  }

  /**
   * After a walk has failed: whether it is worth another try, by the newest moment then.
   *
   * @throws {LsnCollectedError} If the LSN has been collected meanwhile.
   */
  async mend(failed: Moment, error: unknown): Promise<boolean> {
    if (error instanceof NotFoundError) await this.#attached.refresh(this.#options.signal);
    else if (error instanceof CorruptionError) {
      const discarded = await Promise.all(failed.sources.map(({ opener }) => opener.discardCopies()));
      if (!discarded.includes(true)) return false;
    } else return false;
    this.#newest = this.#moment();
    return true;
  }

  #moment(): Moment {
    // Layers of an LSN that is kept no more may be there in part, which would pass for pages that were never written.
    const { memory } = viewAt(this.#attached.timeline, this.#lsn, this.#options);
    return { memory, sources: this.#attached.sources(this.#lsn, this.#options.cause) };
  }
}

/** See the module's description; {@linkcode WalkedLayers.walk} makes it. */
export class MendedWalk implements PageSource {
  readonly #layers: WalkedLayers;
  readonly #options: MendedWalkOptions;
  #moment: Moment;
  #walk: PageWalk;
  /** Spaces that the walk of now has not been given: it was begun behind them. */
  #passed = 0;

  constructor(layers: WalkedLayers, options: MendedWalkOptions) {
    this.#layers = layers;
    this.#options = options;
    this.#moment = layers.newest;
    this.#walk = layers.begin(this.#moment, options);
  }

  /** Begins to read what a page needs, without waiting for it. */
  begin(ordinal: number, block: number): void {
    this.#walk.begin(ordinal - this.#passed, block);
  }

  async read(ordinal: number, block: number, count: number, pages: readonly Page[]): Promise<void> {
    try {
      await this.#walk.read(ordinal - this.#passed, block, count, pages);
    } catch (error) {
      if (!(await this.#layers.mend(this.#moment, error))) throw error;
      await this.#walk.close();
      this.#moment = this.#layers.newest;
      const spaces = this.#options.spaces.slice(ordinal);
      this.#walk = this.#layers.begin(this.#moment, { ...this.#options, spaces, firstBlock: block });
      this.#passed = ordinal;
      // Pages that were filled already are filled again: what is in them does not matter.
      await this.#walk.read(0, block, count, pages);
    }
  }

  async close(): Promise<void> {
    await this.#walk.close();
  }
}
