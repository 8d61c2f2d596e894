/**
 * Read path, 2 of 3: values of a key out of layer files, newest to oldest.
 *
 * The layer map says which layers to visit; each is opened once (its index is kept) and only the blocks that may hold the
 * key are read. Index and blocks are cached within a byte budget, and however many readers ask for one at once, it is
 * fetched by one flight that they share.
 *
 * @module
 */
import type { BlockCodecs } from "../bytes/block_codec.ts";
import { getU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import { SingleFlight } from "../flow/single_flight.ts";
import type { Lsn } from "../lsn.ts";
import { endsChain, type Key, type KeySpace, VALUE_FULL_PAGE_IMAGE, VALUE_KIND_MASK } from "../layer/key.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerMap } from "../layer/layer_map.ts";
import type { LayerVisit } from "../layer/layer_search.ts";
import { type LayerIndex, openLayer, readExactly } from "../layer/layer_reader.ts";
import type { SpaceTable } from "../layer/space_table.ts";
import { ValueChain } from "../layer/value_chain.ts";
import type { TimelineView } from "../timeline/timeline.ts";
import { ByteLru } from "./block_cache.ts";
import type { LayerFiles, LayerFileSource } from "./layer_files.ts";
import { type NewestValue, NewestValues } from "./newest_values.ts";

export interface LayerFetcherOptions {
  files: LayerFiles;
  /** What blocks may be compressed with. */
  codecs: BlockCodecs;
  /** Bytes of indexes and blocks to keep. Default 64 MiB. */
  cacheBytes?: number;
}

const DEFAULT_CACHE_BYTES = 64 * 1024 * 1024;

/** What reads cost, for metrics. */
export interface FetchCounters {
  reads: number;
  layersVisited: number;
  blocksFetched: number;
}

/** See the module's description. */
export class LayerFetcher {
  readonly counters: FetchCounters = { reads: 0, layersVisited: 0, blocksFetched: 0 };
  readonly files: LayerFiles;
  readonly #codecs: BlockCodecs;
  readonly #indexes: ByteLru<LayerIndex>;
  readonly #blocks: ByteLru<DecodedBlock>;
  readonly #indexFlights = new SingleFlight<string, LayerIndex>();
  readonly #blockFlights = new SingleFlight<string, DecodedBlock>();

  constructor(options: LayerFetcherOptions) {
    const { files, codecs, cacheBytes = DEFAULT_CACHE_BYTES } = options;
    this.files = files;
    this.#codecs = codecs;
    this.#indexes = new ByteLru(cacheBytes / 4);
    this.#blocks = new ByteLru(cacheBytes - cacheBytes / 4);
  }

  get cachedBytes(): number {
    return this.#indexes.bytes + this.#blocks.bytes;
  }

  /** Adds the values of a key at or below `lsn` to the chain, newest first, until one that ends it. */
  async collect(
    layers: LayerMap,
    space: KeySpace,
    block: number,
    lsn: Lsn,
    chain: ValueChain,
    signal?: AbortSignal,
  ): Promise<void> {
    this.counters.reads++;
    // Visits of one LSN range in several layers come one after the other and are merged; mostly there is one.
    let visits: LayerVisit[] = [];
    for (const visit of layers.search(space, block, lsn)) {
      if (!visit.merge && visits.length > 0) {
        if (await this.#collectFromAll(visits, space, block, chain, signal)) return;
        visits = [];
      }
      visits.push(visit);
    }
    if (visits.length > 0) await this.#collectFromAll(visits, space, block, chain, signal);
  }

  /** Visits the layers that share an LSN range; returns whether the chain ended. */
  async #collectFromAll(
    visits: readonly LayerVisit[],
    space: KeySpace,
    block: number,
    chain: ValueChain,
    signal?: AbortSignal,
  ): Promise<boolean> {
    this.counters.layersVisited += visits.length;
    if (visits.length === 1) return await this.#collectFrom(visits[0], space, block, chain, signal);
    const parts: ValueChain[] = [];
    for (const visit of visits) {
      const part = new ValueChain();
      await this.#collectFrom(visit, space, block, part, signal);
      parts.push(part);
    }
    return chain.pushMerged(parts);
  }

  /** The newest value of every key of a family at an LSN, in key order. */
  async listNewest(
    view: TimelineView,
    spaces: SpaceTable,
    family: number,
    lsn: Lsn,
    signal?: AbortSignal,
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
    for (const layer of view.layers.overlapping(keyMin, keyMax, 0 as Lsn, lsn + 1 as Lsn)) {
      const index = await this.#index(layer, signal);
      const { first, end } = index.blocksInRange(keyMin, keyMax);
      for (let blockIndex = first; blockIndex < end; blockIndex++) {
        newest.addBlock(await this.#block(layer, index, blockIndex, signal), family, lsn);
      }
    }
    return newest.sorted();
  }

  /** Visits one layer; returns whether the chain ended. */
  async #collectFrom(
    visit: LayerVisit,
    space: KeySpace,
    block: number,
    chain: ValueChain,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const { layer, from, to } = visit;
    const lsn = to - 1 as Lsn;
    const index = await this.#index(layer, signal);
    for (let blockIndex = index.findBlock(space, block, lsn); blockIndex >= 0; blockIndex--) {
      const decoded = await this.#block(layer, index, blockIndex, signal);
      const first = decoded.lowerBound(space, block);
      for (let entry = decoded.upperBound(space, block, lsn) - 1; entry >= first; entry--) {
        if (decoded.lsns[entry] < from) return false;
        if (pushEntry(chain, decoded, entry)) return true;
      }
      // Older entries of the key are in the block before only if it began before this one did.
      if (first > 0 || !index.continues(blockIndex)) return false;
    }
    return false;
  }

  async #index(layer: LayerDescriptor, signal?: AbortSignal): Promise<LayerIndex> {
    const cached = this.#indexes.get(layer.name);
    if (cached !== undefined) return cached;
    return await this.#indexFlights.run(layer.name, async (flight) => {
      const index = await this.#orFromStore(
        layer,
        (source) =>
          openLayer(source, layer.name, {
            codecs: this.#codecs,
            expectedChecksum: layer.checksum,
            signal: flight,
          }),
      );
      this.#indexes.set(layer.name, index, index.memoryBytes);
      return index;
    }, signal);
  }

  async #block(
    layer: LayerDescriptor,
    index: LayerIndex,
    blockIndex: number,
    signal?: AbortSignal,
  ): Promise<DecodedBlock> {
    const key = `${blockIndex}:${layer.name}`;
    const cached = this.#blocks.get(key);
    if (cached !== undefined) return cached;
    return await this.#blockFlights.run(key, async (flight) => {
      const block = await this.#orFromStore(layer, async (source) => {
        const offset = index.blockOffset(blockIndex);
        const length = index.blockLength(blockIndex);
        const raw = await readExactly(source, offset, length, layer.name, flight);
        return index.decodeBlock(raw, blockIndex);
      });
      this.counters.blocksFetched++;
      this.#blocks.set(key, block, block.memoryBytes);
      return block;
    }, signal);
  }

  /** Runs a read; if a local copy turns out to be damaged, drops it and reads from the store once. */
  async #orFromStore<T>(
    layer: LayerDescriptor,
    read: (source: LayerFileSource) => Promise<T>,
  ): Promise<T> {
    const source = this.files.source(layer);
    try {
      return await read(source);
    } catch (error) {
      if (!(error instanceof CorruptionError) || !(await source.discardCopy())) throw error;
      return await read(source);
    }
  }
}

/** Adds one entry of a block to the chain; returns whether the chain ends with it. */
function pushEntry(chain: ValueChain, block: DecodedBlock, entry: number): boolean {
  const lsn = block.lsns[entry] as Lsn;
  const oldest = chain.oldestLsn();
  // Two layers may share an LSN after a restart in the middle of a record of many pages: the values are the same.
  if (oldest !== undefined && lsn >= oldest) return false;
  const flags = block.flags[entry];
  let offset = block.valueOffsets[entry];
  let length = block.valueLengths[entry];
  let hole = 0;
  if ((flags & VALUE_KIND_MASK) === VALUE_FULL_PAGE_IMAGE) {
    if (length < 4) throw new CorruptionError("Cannot read a page image: too short", { lsn, got: length });
    hole = getU32(block.bytes, offset);
    offset += 4;
    length -= 4;
  }
  chain.push(lsn, flags, block.bytes, offset, length, hole);
  return endsChain(flags);
}
