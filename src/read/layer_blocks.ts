/**
 * Indexes and blocks of layers: kept in memory, fetched by one flight each, neighbours in one request.
 *
 * Read path, inside fetch. The index of a layer comes with the first read of its tail, whose length is guessed from what
 * indexes were long so far. Blocks that are wanted together and lie together come as one range, up to a megabyte; who
 * reads block after block is read ahead for, twice as far each time. Damaged bytes are fetched once more, from the store.
 *
 * @module
 */
import type { BlockCodecs } from "../bytes/block_codec.ts";
import { CorruptionError, VarveError } from "../errors.ts";
import { SingleFlight } from "../flow/single_flight.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { DEFAULT_BLOCK_BYTES, FOOTER_LENGTH } from "../layer/layer_format.ts";
import { type LayerIndex, type LayerSource, openLayer, readExactly } from "../layer/layer_reader.ts";
import { ByteLru } from "./block_cache.ts";
import type { LayerFiles, LayerFileSource } from "./layer_files.ts";
import type { LayerAccess } from "./layer_ranges.ts";

export interface LayerBlocksOptions {
  files: LayerFiles;
  /** What blocks may be compressed with. */
  codecs: BlockCodecs;
  /** Bytes of indexes and blocks to keep. Default 64 MiB. */
  cacheBytes?: number;
}

const DEFAULT_CACHE_BYTES = 64 * 1024 * 1024;
/** Bytes of blocks in one request, unless one block has more. */
const RUN_BYTES_MAX = 1024 * 1024;
/** More blocks than any layer has: 2^24 of 64 bytes at least. */
const BLOCKS_PER_LAYER = 2 ** 28;
/** Bytes of a layer's tail to ask for at first, whatever its size. */
const TAIL_BYTES_MIN = 4 * 1024;
const TAIL_BYTES_MAX = 1024 * 1024;
/** A layer that is no larger comes whole with its index. */
const WHOLE_BYTES_MAX = 32 * 1024;
/** An index is about 20 bytes for each 32 KiB until we know better. */
const FIRST_INDEX_SHARE = 1 / 1200;

/** Blocks `[first, end)` that were read in one request. */
interface Run {
  first: number;
  bytes: Uint8Array;
  source: LayerFileSource;
}

/** The end of a layer, as it was read. */
interface Tail {
  offset: number;
  bytes: Uint8Array;
}

/** See the module's description. */
export class LayerBlocks {
  readonly files: LayerFiles;
  /** Blocks that came from files or the store. */
  blocksFetched = 0;
  readonly #codecs: BlockCodecs;
  readonly #indexes: ByteLru<LayerIndex>;
  readonly #blocks: ByteLru<DecodedBlock, number>;
  /** A number for each layer: keys of blocks are numbers, for they are looked up all the time. */
  readonly #numbers = new Map<string, number>();
  readonly #indexFlights = new SingleFlight<string, LayerIndex>();
  readonly #blockFlights = new SingleFlight<number, DecodedBlock>();
  readonly #runFlights = new SingleFlight<string, Run>();
  /** Of each index in use: the block behind the last run, and how many blocks that run had. */
  readonly #sequences = new WeakMap<LayerIndex, { next: number; count: number }>();
  /** Bytes to read ahead: a small cache would not hold more. */
  readonly #aheadBytes: number;
  #indexShare = FIRST_INDEX_SHARE;

  constructor(options: LayerBlocksOptions) {
    const { files, codecs, cacheBytes = DEFAULT_CACHE_BYTES } = options;
    this.files = files;
    this.#codecs = codecs;
    this.#indexes = new ByteLru(cacheBytes / 4);
    this.#blocks = new ByteLru(cacheBytes - cacheBytes / 4);
    this.#aheadBytes = Math.min(RUN_BYTES_MAX, cacheBytes / 8);
  }

  get cachedBytes(): number {
    return this.#indexes.bytes + this.#blocks.bytes;
  }

  /** Bytes that a visit to a layer is likely to fetch. */
  costOf(layer: LayerDescriptor): number {
    const index = this.#indexes.peek(layer.name);
    return (index === undefined ? this.#tailBytes(layer.size) : 0) +
      Math.min(layer.size, index?.footer.blockBytes ?? DEFAULT_BLOCK_BYTES);
  }

  /** The index if it is at hand. */
  cachedIndex(layer: LayerDescriptor): LayerIndex | undefined {
    return this.#indexes.get(layer.name);
  }

  /** The block if it is at hand. */
  cachedBlock(layer: LayerDescriptor, blockIndex: number): DecodedBlock | undefined {
    return this.#blocks.get(this.#key(layer, blockIndex));
  }

  /** A layer's index. */
  async index(layer: LayerDescriptor, access: LayerAccess, signal?: AbortSignal): Promise<LayerIndex> {
    const cached = this.#indexes.get(layer.name);
    if (cached !== undefined) return cached;
    return await this.#indexFlights.run(layer.name, async (flight) => {
      const tail: Tail = { offset: layer.size, bytes: new Uint8Array(0) };
      const index = await this.#twice(
        layer,
        access,
        (source) =>
          openLayer(keepingTail(source, tail), layer.name, {
            codecs: this.#codecs,
            expectedChecksum: layer.checksum,
            tailBytes: this.#tailBytes(layer.size),
            signal: flight,
          }),
      );
      this.#takeBlocks(layer, index, tail);
      this.#learn(index);
      this.#indexes.set(layer.name, index, index.memoryBytes);
      return index;
    }, signal);
  }

  /** One block; who reads them in order gets some of the next ones with it. */
  async block(
    layer: LayerDescriptor,
    index: LayerIndex,
    blockIndex: number,
    access: LayerAccess,
    signal?: AbortSignal,
  ): Promise<DecodedBlock> {
    const key = this.#key(layer, blockIndex);
    const cached = this.#blocks.get(key);
    if (cached !== undefined) return cached;
    if (this.#blockFlights.has(key)) {
      return await this.#board(layer, index, blockIndex, blockIndex, blockIndex + 1, access, signal);
    }
    const count = this.#readAhead(index, blockIndex);
    const end = this.#runEnd(layer, index, blockIndex, count, this.#aheadBytes);
    this.#sequences.set(index, { next: end, count: end - blockIndex });
    const wanted = this.#board(layer, index, blockIndex, blockIndex, end, access, signal);
    // Nobody waits for the others yet.
    for (let each = blockIndex + 1; each < end; each++) {
      this.#board(layer, index, each, blockIndex, end, access, signal).catch(() => {});
    }
    return await wanted;
  }

  /** Blocks `[first, end)`, in as few requests as they need. */
  async blocks(
    layer: LayerDescriptor,
    index: LayerIndex,
    first: number,
    end: number,
    access: LayerAccess,
    signal?: AbortSignal,
  ): Promise<DecodedBlock[]> {
    const found: (DecodedBlock | Promise<DecodedBlock>)[] = [];
    for (let blockIndex = first; blockIndex < end;) {
      const cached = this.cachedBlock(layer, blockIndex);
      if (cached !== undefined || this.#blockFlights.has(this.#key(layer, blockIndex))) {
        found.push(
          cached ?? this.#board(layer, index, blockIndex, blockIndex, blockIndex + 1, access, signal),
        );
        blockIndex++;
        continue;
      }
      const runEnd = this.#runEnd(layer, index, blockIndex, end - blockIndex, RUN_BYTES_MAX);
      for (let each = blockIndex; each < runEnd; each++) {
        found.push(this.#board(layer, index, each, blockIndex, runEnd, access, signal));
      }
      blockIndex = runEnd;
    }
    // All have their say before the first error has it: no rejection goes unheard.
    for (const each of found) if (each instanceof Promise) each.catch(() => {});
    return await Promise.all(found);
  }

  /** The flight of one block, which is fetched as part of the run `[first, end)`. */
  #board(
    layer: LayerDescriptor,
    index: LayerIndex,
    blockIndex: number,
    first: number,
    end: number,
    access: LayerAccess,
    signal?: AbortSignal,
  ): Promise<DecodedBlock> {
    const key = this.#key(layer, blockIndex);
    return this.#blockFlights.run(key, async (flight) => {
      const run = await this.#runFlights.run(
        runKey(layer, first, end),
        (signal) => this.#readRun(layer, index, first, end, access, signal),
        flight,
      );
      const block = await this.#decode(layer, index, blockIndex, run, end - first > 1, access, flight);
      this.blocksFetched++;
      this.#blocks.set(key, block, block.memoryBytes);
      return block;
    }, signal);
  }

  async #readRun(
    layer: LayerDescriptor,
    index: LayerIndex,
    first: number,
    end: number,
    access: LayerAccess,
    signal: AbortSignal,
  ): Promise<Run> {
    const offset = index.blockOffset(first);
    return await this.#twice(layer, access, async (source) => ({
      first,
      source,
      bytes: await readExactly(source, offset, index.blockOffset(end) - offset, layer.name, signal),
    }));
  }

  async #decode(
    layer: LayerDescriptor,
    index: LayerIndex,
    blockIndex: number,
    run: Run,
    isShared: boolean,
    access: LayerAccess,
    signal: AbortSignal,
  ): Promise<DecodedBlock> {
    const start = index.blockOffset(blockIndex) - index.blockOffset(run.first);
    const end = start + index.blockLength(blockIndex);
    try {
      // A copy of its own, or one block in the cache would keep its neighbours' bytes alive.
      return index.decodeBlock(
        isShared ? run.bytes.slice(start, end) : run.bytes.subarray(start, end),
        blockIndex,
      );
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      await run.source.discardCopy();
      const offset = index.blockOffset(blockIndex);
      const source = this.files.source(layer, access);
      const raw = await readExactly(source, offset, index.blockLength(blockIndex), layer.name, signal);
      return index.decodeBlock(raw, blockIndex);
    }
  }

  /** Runs a read; if the bytes turn out to be damaged, drops the local copy they came from and reads once more. */
  async #twice<T>(
    layer: LayerDescriptor,
    access: LayerAccess,
    read: (source: LayerFileSource) => Promise<T>,
  ): Promise<T> {
    const source = this.files.source(layer, access);
    try {
      return await read(source);
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      await source.discardCopy();
      return await read(this.files.source(layer, access));
    }
  }

  /** Blocks that came with the tail: those of a small layer, mostly. */
  #takeBlocks(layer: LayerDescriptor, index: LayerIndex, { offset, bytes }: Tail): void {
    for (let at = index.blockCount - 1; at >= 0 && index.blockOffset(at) >= offset; at--) {
      const start = index.blockOffset(at) - offset;
      const raw = bytes.slice(start, start + index.blockLength(at));
      try {
        const block = index.decodeBlock(raw, at);
        this.blocksFetched++;
        this.#blocks.set(this.#key(layer, at), block, block.memoryBytes);
      } catch (error) {
        // Who needs it will fetch it, and see.
        if (!(error instanceof VarveError)) throw error;
      }
    }
  }

  /** How many blocks to read from this one on: more and more for who reads them in order. */
  #readAhead(index: LayerIndex, blockIndex: number): number {
    const before = this.#sequences.get(index);
    return before?.next === blockIndex ? before.count * 2 : 1;
  }

  /** Where a run from `first` on ends: at most `count` blocks, none at hand or on its way, not too long together. */
  #runEnd(
    layer: LayerDescriptor,
    index: LayerIndex,
    first: number,
    count: number,
    bytesMax: number,
  ): number {
    const limit = Math.min(index.blockCount, first + count);
    const offset = index.blockOffset(first);
    let end = first + 1;
    while (end < limit && index.blockOffset(end + 1) - offset <= bytesMax) {
      const key = this.#key(layer, end);
      if (this.#blocks.has(key) || this.#blockFlights.has(key)) break;
      end++;
    }
    return end;
  }

  #key(layer: LayerDescriptor, blockIndex: number): number {
    let number = this.#numbers.get(layer.name);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(layer.name, number);
    }
    return number * BLOCKS_PER_LAYER + blockIndex;
  }

  #tailBytes(size: number): number {
    if (size <= WHOLE_BYTES_MAX) return size;
    const guess = Math.ceil(size * this.#indexShare) + FOOTER_LENGTH;
    return Math.min(Math.max(guess, TAIL_BYTES_MIN), TAIL_BYTES_MAX);
  }

  /** The greatest share of recent layers, forgotten slowly: a guess that is too short costs a request. */
  #learn(index: LayerIndex): void {
    if (index.footer.indexLength < TAIL_BYTES_MIN) return;
    const share = (index.footer.indexLength / index.size) * 1.1;
    this.#indexShare = share > this.#indexShare ? share : this.#indexShare * 0.9 + share * 0.1;
  }
}

function runKey(layer: LayerDescriptor, first: number, end: number): string {
  return `${first}-${end}:${layer.name}`;
}

/** A source that leaves what was read nearest to the layer's end in `tail`. */
function keepingTail(source: LayerSource, tail: Tail): LayerSource {
  return {
    size: source.size,
    readRange: async (offset, length, signal) => {
      const bytes = await source.readRange(offset, length, signal);
      if (offset + length === source.size) Object.assign(tail, { offset, bytes });
      return bytes;
    },
  };
}
