/**
 * Read path, 2 of 3: values of a key out of layer files, newest to oldest.
 *
 * The layer map says which layers to visit; of each, only the blocks that may hold the key are read (layer_blocks.ts keeps
 * what was fetched). A read that has to wait for one layer asks for the next ones at the same time, for twice as many
 * bytes with every layer that did not end the chain, but none behind an image, which mostly ends it: the time of a read grows with
 * the logarithm of its layers, and what it fetches in vain stays within what it needs.
 *
 * @module
 */
import { Histogram } from "../flow/histogram.ts";
import { sideBySide } from "../flow/side_by_side.ts";
import type { Lsn } from "../lsn.ts";
import { endsChain, FAMILY_RELATION, FAMILY_SLRU, type Key, type KeySpace } from "../layer/key.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { ImageFloors } from "../layer/image_floors.ts";
import type { LayerMap } from "../layer/layer_map.ts";
import type { LayerIndex } from "../layer/layer_reader.ts";
import type { LayerVisit } from "../layer/layer_search.ts";
import type { SpaceTable } from "../layer/space_table.ts";
import { ValueChain } from "../layer/value_chain.ts";
import type { Clock } from "../ports/clock.ts";
import type { TimelineView } from "../timeline/timeline.ts";
import type { FetchCause } from "./fetch_counters.ts";
import { LayerBlocks, type LayerBlocksOptions } from "./layer_blocks.ts";
import type { LayerFiles } from "./layer_files.ts";
import type { LayerAccess } from "./layer_ranges.ts";
import { type NewestValue, NewestValues } from "./newest_values.ts";

export interface LayerFetcherOptions extends LayerBlocksOptions {
  /** Without it the time that reads wait is not measured. */
  clock?: Clock;
}

/** What reads cost, for metrics. */
export interface FetchCounters {
  reads: number;
  layersVisited: number;
  blocksFetched: number;
}

/** Layers asked for ahead of the one that a read is at, at most. */
const AHEAD_MAX = 16;
/** What the first layers asked for ahead may cost together; twice as much each time. */
const AHEAD_BYTES_MIN = 96 * 1024;
/** Blocks of one key read together at first, when its values fill several. */
const SPAN_MIN = 4;
const SPAN_MAX = 32;
/** Layers that a listing or a prefetch reads side by side. */
const LISTING_WIDTH = 8;
/** Bytes of blocks that a listing holds of one layer at a time. */
const LISTING_BYTES = 1024 * 1024;

/** The layers of an ancestor, which a branch reads up to where it begins. */
export interface AncestorSource {
  readonly fetcher: LayerFetcher;
  readonly layers: LayerMap;
  readonly lsn: Lsn;
}

/** See the module's description. */
export class LayerFetcher {
  readonly files: LayerFiles;
  /** Of reads that had to fetch something, or not: layers visited, requests to the store, seconds waited for it. */
  readonly layersPerRead: Histogram = new Histogram([0, 1, 2, 3, 5, 8, 13, 21, 50, 100]);
  readonly requestsPerRead: Histogram = new Histogram([0, 1, 2, 3, 5, 8, 13, 21, 50, 100]);
  readonly waitSeconds: Histogram = new Histogram([
    0.001,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    10,
  ]);
  readonly #blocks: LayerBlocks;
  readonly #clock: Clock | undefined;
  #reads = 0;
  #layersVisited = 0;

  constructor(options: LayerFetcherOptions) {
    this.files = options.files;
    this.#blocks = new LayerBlocks(options);
    this.#clock = options.clock;
  }

  get counters(): FetchCounters {
    return {
      reads: this.#reads,
      layersVisited: this.#layersVisited,
      blocksFetched: this.#blocks.blocksFetched,
    };
  }

  get cachedBytes(): number {
    return this.#blocks.cachedBytes;
  }

  /**
   * Adds the values of a key at or below `lsn` to the chain, newest first, until one that ends it.
   *
   * @returns Whether nothing older matters: the chain ended, or a complete image says that the key did not exist.
   */
  async collect(
    layers: LayerMap,
    space: KeySpace,
    block: number,
    lsn: Lsn,
    chain: ValueChain,
    signal?: AbortSignal,
    cause: FetchCause = "read",
  ): Promise<boolean> {
    this.#reads++;
    const read = new KeyRead(this.#blocks, space, block, layers.search(space, block, lsn), cause, signal);
    const startedMs = this.#clock?.monotonicMs();
    try {
      return await read.run(chain);
    } finally {
      this.#layersVisited += read.visited;
      this.layersPerRead.observe(read.visited);
      this.requestsPerRead.observe(read.requests);
      if (startedMs !== undefined && read.hasWaited) {
        this.waitSeconds.observe((this.#clock!.monotonicMs() - startedMs) / 1000);
      }
    }
  }

  /**
   * The newest value of every key of a family at an LSN, in key order.
   *
   * @param ancestors Where a branch reads on, the nearest first.
   */
  async listNewest(
    view: TimelineView,
    spaces: SpaceTable,
    family: number,
    lsn: Lsn,
    signal?: AbortSignal,
    cause: FetchCause = "read",
    ancestors: readonly AncestorSource[] = [],
  ): Promise<NewestValue[]> {
    const newest = new NewestValues();
    for (const memory of view.memory) {
      for (const id of memory.sortedSpaces(spaces)) {
        if (spaces.familyOf(id) === family) newest.addMemory(memory, id, spaces.get(id), lsn);
      }
    }
    const keyMin: Key = { family, a: 0, b: 0, c: 0, d: 0, block: 0 };
    const keyMax: Key = {
      family,
      a: 0xffff_ffff,
      b: 0xffff_ffff,
      c: 0xffff_ffff,
      d: 0xff,
      block: 0xffff_ffff,
    };
    const sources = [{ fetcher: this, layers: view.layers, lsn }, ...ancestors];
    const visits = sources.flatMap(({ fetcher, layers, lsn: top }) => {
      const upTo = Math.min(lsn, top) as Lsn;
      const found = layers.overlapping(keyMin, keyMax, 0 as Lsn, upTo + 1 as Lsn);
      return found.map((layer) => ({ fetcher, layer, upTo }));
    });
    // What lies below a complete image does not count: what that lacks is gone.
    const floors = new ImageFloors(visits.map(({ layer }) => layer), lsn);
    const segments = floors.within(keyMin, keyMax);
    const open = visits.filter(({ layer }) =>
      segments.some(({ image }) => image === layer) || !floors.settles(layer, { keyMin, keyMax })
    );
    await sideBySide(open, LISTING_WIDTH, async ({ fetcher, layer, upTo }) => {
      const take = (block: DecodedBlock) => newest.addBlock(block, family, upTo, segments);
      await fetcher.#forEachBlock(layer, keyMin, keyMax, { cause }, take, signal);
    });
    return newest.sorted();
  }

  /**
   * Fetches what reads of blocks `[first, end)` of a space at an LSN will need, as far as it is not here yet: many blocks
   * a request, several layers side by side. What it fetches waits in the cache; more than that holds is fetched in vain.
   */
  async prefetch(
    layers: LayerMap,
    space: KeySpace,
    first: number,
    end: number,
    lsn: Lsn,
    signal?: AbortSignal,
    cause: FetchCause = "prefetch",
  ): Promise<void> {
    if (end <= first) return;
    const wanted: LayerDescriptor[] = [];
    // What the first block's search visits mostly serves its neighbours too; they find out by themselves what does not.
    for (const { layer } of layers.search(space, first, lsn)) {
      if (!wanted.includes(layer)) wanted.push(layer);
      if (layer.kind === "image") break;
    }
    const keyMin: Key = { ...space, block: first };
    const keyMax: Key = { ...space, block: end - 1 };
    await sideBySide(wanted, LISTING_WIDTH, async (layer) => {
      await this.#forEachBlock(layer, keyMin, keyMax, { cause }, () => {}, signal);
    });
  }

  /** Hands over the blocks of a layer that may hold keys of a range, read a megabyte at a time. */
  async #forEachBlock(
    layer: LayerDescriptor,
    keyMin: Key,
    keyMax: Key,
    access: LayerAccess,
    take: (block: DecodedBlock) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const index = await this.#blocks.index(layer, access, signal);
    const { first, end } = index.blocksInRange(keyMin, keyMax);
    for (let from = first; from < end;) {
      let to = from + 1;
      while (to < end && index.blockOffset(to + 1) - index.blockOffset(from) <= LISTING_BYTES) to++;
      for (const block of await this.#blocks.blocks(layer, index, from, to, access, signal)) take(block);
      from = to;
    }
  }
}

/** One search for the values of one key. */
class KeyRead implements LayerAccess {
  readonly cause: FetchCause;
  visited = 0;
  requests = 0;
  /** Whether anything was not at hand. */
  hasWaited = false;
  readonly #blocks: LayerBlocks;
  readonly #space: KeySpace;
  readonly #block: number;
  readonly #search: Iterator<LayerVisit, void>;
  readonly #signal: AbortSignal | undefined;
  /** Visits that were looked up, but not made yet; the first `#asked` of them have been asked for. */
  readonly #next: LayerVisit[] = [];
  #asked = 0;
  readonly #aheadMin: number;
  /** Bytes to ask for ahead. */
  #aheadBytes: number;
  #isAtEnd = false;

  constructor(
    blocks: LayerBlocks,
    space: KeySpace,
    block: number,
    search: Iterator<LayerVisit, void>,
    cause: FetchCause,
    signal: AbortSignal | undefined,
  ) {
    this.#blocks = blocks;
    this.#space = space;
    this.#block = block;
    this.#search = search;
    this.cause = cause;
    this.#signal = signal;
    // Whole layers are not fetched on a mere suspicion; and where one value ends the search, the next layer may have it.
    const isOfMany = space.family === FAMILY_RELATION || space.family === FAMILY_SLRU;
    this.#aheadMin = isOfMany ? AHEAD_BYTES_MIN : AHEAD_BYTES_MIN / 4;
    this.#aheadBytes = isOfMany && !blocks.files.downloadsAtOnce ? AHEAD_BYTES_MIN : 0;
  }

  onRequest(): void {
    this.requests++;
  }

  /** Returns whether nothing older matters. */
  async run(chain: ValueChain): Promise<boolean> {
    let isComplete = false;
    for (let visit = this.#take(); visit !== undefined; visit = this.#take()) {
      // Visits of one LSN range in several layers come one after the other and are merged; mostly there is one.
      if (!this.#peek(0)?.merge) {
        if (await this.#visit(visit, chain)) return true;
        isComplete = visit.layer.complete;
        continue;
      }
      const visits = [visit];
      while (this.#peek(0)?.merge) visits.push(this.#take()!);
      const parts = visits.map(() => new ValueChain());
      await sideBySide(visits.map((_, i) => i), visits.length, async (i) => {
        await this.#visit(visits[i], parts[i]);
      });
      if (chain.pushMerged(parts)) return true;
    }
    return isComplete;
  }

  /** Adds what one layer has; returns whether the chain ended. */
  async #visit(visit: LayerVisit, chain: ValueChain): Promise<boolean> {
    this.visited++;
    if (this.hasWaited) this.#lookAhead(visit);
    const { layer, from, to } = visit;
    const [space, block] = [this.#space, this.#block];
    const lsn = to - 1 as Lsn;
    const index = this.#blocks.cachedIndex(layer) ?? await this.#waitFor(visit, this.#index(layer));
    let span = SPAN_MIN;
    for (let at = index.findBlock(space, block, lsn); at >= 0;) {
      const cached = this.#blocks.cachedBlock(layer, at);
      const decoded = cached === undefined
        ? await this.#waitFor(visit, this.#span(layer, index, at, from, span))
        : [cached];
      span = Math.min(span * 2, SPAN_MAX);
      for (let i = decoded.length - 1; i >= 0; i--, at--) {
        const ended = pushBlock(chain, decoded[i], space, block, lsn, from);
        if (ended !== undefined) return ended;
        // Older entries of the key are in the block before only if it began before this one did.
        if (!index.continues(at) || !index.startsWith(at, space, block)) return false;
      }
    }
    return false;
  }

  #index(layer: LayerDescriptor): Promise<LayerIndex> {
    return this.#blocks.index(layer, this, this.#signal);
  }

  /** A block, with those before it that are known to hold older entries of the key, as many as `span`. */
  async #span(
    layer: LayerDescriptor,
    index: LayerIndex,
    at: number,
    from: Lsn,
    span: number,
  ): Promise<DecodedBlock[]> {
    let first = at;
    while (at - first + 1 < span && index.continues(first) && index.firstLsn(first) > from) {
      if (!index.startsWith(first, this.#space, this.#block)) break;
      first--;
    }
    if (first === at) return [await this.#blocks.block(layer, index, at, this, this.#signal)];
    return await this.#blocks.blocks(layer, index, first, at + 1, this, this.#signal);
  }

  /** Something is not at hand: while it comes, the next layers may as well. */
  async #waitFor<T>(visit: LayerVisit, coming: Promise<T>): Promise<T> {
    if (!this.hasWaited) {
      this.hasWaited = true;
      this.#lookAhead(visit);
    }
    return await coming;
  }

  /** Asks for the layers behind this one, for twice as many bytes each time, as far as the chain is likely to reach. */
  #lookAhead(visit: LayerVisit): void {
    if (visit.layer.kind === "image") return;
    let bytes = 0;
    for (let i = 0; i < AHEAD_MAX && bytes < this.#aheadBytes; i++) {
      const next = this.#peek(i);
      if (next === undefined) break;
      bytes += this.#blocks.costOf(next.layer);
      if (i >= this.#asked) {
        this.#asked++;
        this.#ask(next).catch(() => {}); // who comes to this layer will see what is wrong with it
      }
      if (next.layer.kind === "image") break;
    }
    this.#aheadBytes = Math.max(this.#aheadMin, this.#aheadBytes * 2);
  }

  async #ask({ layer, from, to }: LayerVisit): Promise<void> {
    const index = await this.#index(layer);
    const at = index.findBlock(this.#space, this.#block, to - 1 as Lsn);
    if (at >= 0) await this.#span(layer, index, at, from, SPAN_MIN);
  }

  #take(): LayerVisit | undefined {
    const visit = this.#peek(0);
    this.#next.shift();
    if (this.#asked > 0) this.#asked--;
    return visit;
  }

  #peek(ahead: number): LayerVisit | undefined {
    while (this.#next.length <= ahead && !this.#isAtEnd) {
      const { done, value } = this.#search.next();
      if (done) this.#isAtEnd = true;
      else this.#next.push(value);
    }
    return this.#next[ahead];
  }
}

/**
 * Adds the key's entries of one block, `from <= LSN <= lsn`, newest first. Returns whether the chain ended, or undefined
 * if the block before may hold older ones.
 */
function pushBlock(
  chain: ValueChain,
  decoded: DecodedBlock,
  space: KeySpace,
  block: number,
  lsn: Lsn,
  from: Lsn,
): boolean | undefined {
  const first = decoded.lowerBound(space, block);
  for (let entry = decoded.upperBound(space, block, lsn) - 1; entry >= first; entry--) {
    if (decoded.lsns[entry] < from) return false;
    if (pushEntry(chain, decoded, entry)) return true;
  }
  return first > 0 ? false : undefined;
}
/** Adds one entry of a block to the chain; returns whether the chain ends with it. */
function pushEntry(chain: ValueChain, block: DecodedBlock, entry: number): boolean {
  const lsn = block.lsns[entry] as Lsn;
  const oldest = chain.oldestLsn();
  // Two layers may share an LSN after a restart in the middle of a record of many pages: the values are the same.
  if (oldest !== undefined && lsn >= oldest) return false;
  chain.pushEntry(block, entry);
  return endsChain(block.flags[entry]);
}
