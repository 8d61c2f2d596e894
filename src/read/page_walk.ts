/**
 * Many pages at one LSN, each layer walked once: for restore, and for scans of a relation.
 *
 * Where `getPage` looks for one key in every layer that may hold it, this walks all layers that a key range overlaps side by
 * side in key order, as a merge does, and replays page after page. Memory is bounded: a layer takes two reads ahead, and
 * is begun only when the walk has come to its first key, or to that of the one before.
 *
 * The rules are those of layer_search.ts, seen from the key: of all values at or below the LSN the newest count, down to
 * the first that ends the chain; the newest complete image that covers a key is its floor, even where it lacks the key.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { compareKeys, endsChain, type Key, type KeySpace } from "../layer/key.ts";
import { keyAfter } from "../layer/layer_coverage.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { scanLayer, type ScanStep } from "../layer/layer_scan.ts";
import type { MemoryLayer } from "../layer/memory_layer.ts";
import { NO_SPACE } from "../layer/space_table.ts";
import { ValueChain } from "../layer/value_chain.ts";
import type { Page } from "../postgres/page/page.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { AttachedTimeline } from "./attach.ts";
import type { BulkSource } from "./bulk_read.ts";
import { Replayer } from "./replay.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import { LayerCursor } from "./layer_cursor.ts";
import { type PageSource, setChecksum } from "./page_source.ts";

const READ_BYTES_MAX = 2 * 1024 * 1024;
const READ_BYTES_MIN = 64 * 1024;

export interface PageWalkOptions {
  readonly attached: Pick<AttachedTimeline, "timeline" | "codecs">;
  /** Layers of the timeline, and of those that it is a branch of. */
  readonly sources: readonly BulkSource[];
  /** Memory layers, newest first, of the same moment as `sources`. */
  readonly memory: readonly MemoryLayer[];
  /** In key order, all of the families of relations and SLRUs. */
  readonly spaces: readonly KeySpace[];
  /** First block that is asked for, of the first space. Default 0. */
  readonly firstBlock?: number;
  /** Most blocks that any of them has. */
  readonly blocksMax: number;
  readonly lsn: Lsn;
  /** Bytes for what is read ahead. */
  readonly memoryBytes: number;
  readonly signal?: AbortSignal;
}

/** See the module's description. */
export class PageWalk implements PageSource {
  readonly #options: PageWalkOptions;
  readonly #replayer: Replayer;
  readonly #hasChecksums: boolean;
  /** Not begun yet; the next one last. */
  readonly #waiting: LayerCursor[];
  #active: LayerCursor[] = [];
  readonly #memory: { layer: MemoryLayer; ids: number[] }[];
  /** Values of the key at hand, as runs of ascending LSN, one for each cursor. */
  readonly #values = new ValueChain();
  readonly #runStarts: number[] = [];
  readonly #runTails: number[] = [];
  readonly #runIsImage: boolean[] = [];
  readonly #chain = new ValueChain();
  readonly #abort = new AbortController();

  constructor(options: PageWalkOptions) {
    this.#options = options;
    const { attached, spaces, lsn, memoryBytes, blocksMax } = options;
    const { timeline, codecs } = attached;
    this.#hasChecksums = timeline.facts.dataChecksums;
    this.#replayer = new Replayer(
      profileOfMajor(timeline.facts.major),
      { hintBitsLogged: hintBitsLogged(timeline.facts) },
      codecs.image,
    );
    this.#memory = options.memory.filter((layer) => layer.lastLsn > layer.startLsn).map((layer) => ({
      layer,
      ids: spaces.map((space) => timeline.spaces.findSpace(space)),
    }));
    const keyMin: Key = { ...spaces[0], block: options.firstBlock ?? 0 };
    const keyMax: Key = { ...spaces[spaces.length - 1], block: blocksMax };
    const found = layersOf(options.sources, keyMin, keyMax);
    const needed = new Set(neededLayers(found.map(({ layer }) => layer), keyMin, keyMax, lsn));
    const inputs = found.filter(({ layer }) => needed.has(layer));
    const readBytes = Math.max(
      READ_BYTES_MIN,
      Math.min(READ_BYTES_MAX, Math.floor(memoryBytes / 3 / Math.max(1, inputs.length))),
    );
    this.#waiting = inputs.map(({ layer, source }) =>
      new LayerCursor(layer, source.lsn, spaces, () => this.#scan(layer, source, keyMin, keyMax, readBytes))
    ).sort((left, right) => right.firstOrdinal - left.firstOrdinal || right.firstBlock - left.firstBlock);
  }

  async #scan(
    layer: LayerDescriptor,
    { opener }: BulkSource,
    keyMin: Key,
    keyMax: Key,
    readBytes: number,
  ): Promise<AsyncGenerator<ScanStep, void>> {
    const { signal: outer } = this.#options;
    const signal = outer === undefined ? this.#abort.signal : AbortSignal.any([outer, this.#abort.signal]);
    const { source, index } = await opener.open(layer, signal);
    const first = compareKeys(keyMin, layer.keyMin) > 0 ? keyMin : layer.keyMin;
    const last = compareKeys(keyMax, layer.keyMax) < 0 ? keyMax : layer.keyMax;
    return scanLayer(source, index, { keyMin: first, keyMax: last, readBytes, signal });
  }

  /** Begins to read what a page needs, without waiting for it. */
  begin(ordinal: number, block: number): void {
    this.#activate(ordinal, block);
  }

  async read(ordinal: number, block: number, count: number, pages: readonly Page[]): Promise<void> {
    const space = this.#options.spaces[ordinal];
    for (let index = 0; index < count; index++) {
      if (!this.#collect(ordinal, block + index)) await this.#collectLoading(ordinal, block + index);
      const page = pages[index];
      if (this.#memory.length > 0) this.#collectFromMemory(ordinal, block + index);
      this.#chooseNewest();
      this.#replayer.replay(this.#chain, space, block + index, page);
      if (this.#hasChecksums) setChecksum(page, space, block + index);
    }
  }

  async close(): Promise<void> {
    this.#abort.abort();
    const cursors = [...this.#active, ...this.#waiting];
    this.#active = [];
    this.#waiting.length = 0;
    await Promise.all(cursors.map((cursor) => cursor.close().catch(() => undefined)));
  }

  /** Begins layers whose first key has been reached, and lets go of those that have ended. */
  #activate(ordinal: number, block: number): void {
    const waiting = this.#waiting;
    for (let next = waiting.at(-1); next !== undefined; next = waiting.at(-1)) {
      if (next.firstOrdinal > ordinal || (next.firstOrdinal === ordinal && next.firstBlock > block)) break;
      waiting.pop();
      next.start();
      this.#active.push(next);
      // The next one is on its way when the walk gets there.
      waiting.at(-1)?.start();
    }
    for (let index = this.#active.length - 1; index >= 0; index--) {
      if (this.#active[index].ordinal === Infinity && !covers(this.#active[index], ordinal, block)) {
        this.#active.splice(index, 1);
      }
    }
  }

  /** Collects the values of a key without waiting; false: a cursor needs its next block. */
  #collect(ordinal: number, block: number): boolean {
    this.#values.clear();
    this.#runStarts.length = this.#runIsImage.length = 0;
    this.#activate(ordinal, block);
    const active = this.#active;
    // Looked at first, all of them: a key is collected in one go.
    for (let index = 0; index < active.length; index++) {
      const cursor = active[index];
      cursor.skipTo(ordinal, block);
      if (cursor.needsBlock(ordinal, block)) return false;
    }
    const floor = this.#floor(ordinal, block);
    for (let index = 0; index < active.length; index++) {
      const cursor = active[index];
      if (cursor.ordinal !== ordinal || cursor.block !== block) continue;
      const start = this.#beginRun(cursor);
      cursor.take(this.#values, start, fromOf(cursor, floor));
      if (cursor.needsBlock(ordinal, block)) {
        this.#unfinished = index;
        return false;
      }
    }
    this.#unfinished = -1;
    return true;
  }
  /** The cursor that has given a part of the key's values and may have more in its next block; -1: none. */
  #unfinished = -1;

  /** As {@linkcode PageWalk.#collect}, waiting for blocks. */
  async #collectLoading(ordinal: number, block: number): Promise<void> {
    let resumeAt = this.#unfinished;
    this.#unfinished = -1;
    if (resumeAt < 0) {
      for (const cursor of this.#active) {
        for (
          cursor.skipTo(ordinal, block);
          cursor.needsBlock(ordinal, block);
          cursor.skipTo(ordinal, block)
        ) {
          await cursor.load();
        }
      }
      resumeAt = 0;
    }
    const floor = this.#floor(ordinal, block);
    for (let index = resumeAt; index < this.#active.length; index++) {
      const cursor = this.#active[index];
      const isResumed = index === resumeAt && this.#runStarts.length > 0;
      const start = isResumed ? this.#runStarts[this.#runStarts.length - 1] : this.#beginRun(cursor);
      while (cursor.needsBlock(ordinal, block) || (cursor.ordinal === ordinal && cursor.block === block)) {
        if (cursor.needsBlock(ordinal, block)) await cursor.load();
        else cursor.take(this.#values, start, fromOf(cursor, floor));
      }
    }
  }

  #beginRun(cursor: LayerCursor): number {
    const start = this.#values.length;
    this.#runStarts.push(start);
    this.#runIsImage.push(cursor.layer.kind === "image");
    return start;
  }

  /** The LSN of the newest complete image that covers the key: nothing older counts. */
  #floor(ordinal: number, block: number): number {
    let floor = 0;
    for (const cursor of this.#active) {
      const { complete, lsnStart } = cursor.layer;
      if (complete && lsnStart > floor && covers(cursor, ordinal, block)) floor = lsnStart;
    }
    return floor;
  }

  /** Values in memory are newer than those in layers: they come first. */
  #collectFromMemory(ordinal: number, block: number): void {
    this.#chain.clear();
    for (const { layer, ids } of this.#memory) {
      const id = ids[ordinal];
      if (id !== NO_SPACE && layer.collect(id, block, this.#options.lsn, this.#chain)) return;
    }
  }

  /** Merges the runs into the chain, newest first, each LSN once, down to the first value that ends it. */
  #chooseNewest(): void {
    const chain = this.#chain;
    const values = this.#values;
    if (this.#memory.length === 0) chain.clear();
    else if (chain.length > 0 && endsChain(chain.flags[chain.length - 1])) return;
    if (chain.length === 0 && values.length === 1) return this.#pushToChain(0);
    const runs = this.#runStarts.length;
    const tails = this.#runTails;
    for (let run = 0; run < runs; run++) {
      tails[run] = (run + 1 < runs ? this.#runStarts[run + 1] : values.length) - 1;
    }
    for (;;) {
      let newest = -1;
      for (let run = 0; run < runs; run++) {
        const tail = tails[run];
        if (tail < this.#runStarts[run]) continue;
        if (newest < 0) newest = run;
        else {
          const order = values.lsns[tail] - values.lsns[tails[newest]];
          if (order > 0 || (order === 0 && this.#runIsImage[run])) newest = run;
        }
      }
      if (newest < 0) return;
      const at = tails[newest]--;
      const oldest = chain.oldestLsn();
      if (oldest !== undefined && values.lsns[at] >= oldest) continue;
      this.#pushToChain(at);
      if (endsChain(values.flags[at])) return;
    }
  }

  #pushToChain(at: number): void {
    const { lsns, flags, buffers, offsets, lengths, holes } = this.#values;
    this.#chain.push(lsns[at], flags[at], buffers[at], offsets[at], lengths[at], holes[at]);
  }
}

/** Layers that share a key with the range and have entries that count. */
export function layersOf(
  sources: readonly BulkSource[],
  keyMin: Key,
  keyMax: Key,
): { layer: LayerDescriptor; source: BulkSource }[] {
  return sources.flatMap((source) =>
    source.layers.overlapping(keyMin, keyMax, 0 as Lsn, source.lsn + 1 as Lsn)
      .map((layer) => ({ layer, source }))
  );
}

/** Entries that a cursor gives under a floor: deltas those above it, images those at it. */
function fromOf(cursor: LayerCursor, floor: number): Lsn {
  return (cursor.layer.kind === "image" ? floor : floor + 1) as Lsn;
}

function covers(cursor: LayerCursor, ordinal: number, block: number): boolean {
  const { firstOrdinal, firstBlock, lastOrdinal, lastBlock } = cursor;
  return (firstOrdinal < ordinal || (firstOrdinal === ordinal && firstBlock <= block)) &&
    (lastOrdinal > ordinal || (lastOrdinal === ordinal && lastBlock >= block));
}

/**
 * Leaves out layers that cannot matter: whose part of the key range lies wholly under complete images that are no older
 * than anything in them.
 */
export function neededLayers(
  layers: readonly LayerDescriptor[],
  keyMin: Key,
  keyMax: Key,
  lsn: Lsn,
): LayerDescriptor[] {
  const images = layers.filter((layer) => layer.complete && layer.lsnStart <= lsn)
    .sort((left, right) => compareKeys(left.keyMin, right.keyMin));
  if (images.length === 0) return [...layers];
  return layers.filter((layer) => {
    let from: Key | undefined = compareKeys(layer.keyMin, keyMin) > 0 ? layer.keyMin : keyMin;
    const to = compareKeys(layer.keyMax, keyMax) < 0 ? layer.keyMax : keyMax;
    for (const image of images) {
      if (image === layer || image.lsnEnd < layer.lsnEnd || sameRank(image, layer)) continue;
      if (compareKeys(image.keyMin, from) > 0) continue;
      if (compareKeys(image.keyMax, to) >= 0) return false;
      if (compareKeys(image.keyMax, from) >= 0) from = keyAfter(image.keyMax);
      if (from === undefined) return false;
    }
    return true;
  });
}

/** Two images at one LSN do not stand for each other. */
function sameRank(image: LayerDescriptor, layer: LayerDescriptor): boolean {
  return layer.kind === "image" && layer.lsnEnd === image.lsnEnd;
}
