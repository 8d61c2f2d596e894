/**
 * Readers of ancestors' layers, for branches: by range, with a cache of their own.
 *
 * Read path, beside fetch. Ancestors have no local copies here: what a process keeps on disk is its own timeline's.
 *
 * @module
 */
import type { BlockCodecs } from "../bytes/block_codec.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { PORTABLE_CODECS } from "../bytes/portable_codecs.ts";
import { LayerFetcher } from "./fetch.ts";
import { LayerFiles } from "./layer_files.ts";

export interface AncestorFetcherOptions {
  store: ObjectStore;
  clock: Clock;
  /** Of these bytes half is kept of all ancestors together. Default 64 MiB. */
  cacheBytes?: number;
  blockCodecs?: BlockCodecs;
  events?: EventSink;
}

const DEFAULT_CACHE_BYTES = 64 * 1024 * 1024;

/** See the module's description. */
export class AncestorFetchers {
  readonly #options: AncestorFetcherOptions;
  readonly #cacheBytes: number;
  readonly #fetchers = new Map<string, LayerFetcher>();

  /** @param count How many ancestors there are. */
  constructor(options: AncestorFetcherOptions, count: number) {
    this.#options = options;
    this.#cacheBytes = (options.cacheBytes ?? DEFAULT_CACHE_BYTES) / 2 / Math.max(1, count);
  }

  /** Reads layers of an ancestor, by its name. */
  of(timeline: string): LayerFetcher {
    let fetcher = this.#fetchers.get(timeline);
    if (fetcher === undefined) {
      const { store, clock, events, blockCodecs = PORTABLE_CODECS } = this.#options;
      const files = new LayerFiles({ timeline, store, clock, events });
      fetcher = new LayerFetcher({ files, codecs: blockCodecs, cacheBytes: this.#cacheBytes, clock });
      this.#fetchers.set(timeline, fetcher);
    }
    return fetcher;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#fetchers.values()].map(({ files }) => files.close()));
  }
}
