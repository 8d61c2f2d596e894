/**
 * Everything that a key range holds at an LSN, in key order, by walking each layer once.
 *
 * Read path, for those who want all: image creation, restore. What one read collects newest to oldest comes here oldest to
 * newest, key after key; of each key only what a read would have collected is kept. Layers below a complete image are
 * not opened, and what they hold of keys that the image lacks does not come back. Only layer files are read: the LSN must
 * be at or below what is durable.
 *
 * @module
 */
import { compareSpaces, endsChain, type Key, type KeySpace } from "../layer/key.ts";
import { type FloorSegment, ImageFloors } from "../layer/image_floors.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import { compareNewestFirst, type LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerMap } from "../layer/layer_map.ts";
import { LayerMerge, readBytesWithin } from "../layer/layer_merge.ts";
import { ValueChain } from "../layer/value_chain.ts";
import type { Lsn } from "../lsn.ts";
import type { LayerOpener } from "./layer_opener.ts";

/** Layers to read from, up to an LSN: a timeline's own, or those of an ancestor up to where the branch begins. */
export interface BulkSource {
  readonly layers: LayerMap;
  readonly opener: LayerOpener;
  /** Entries above do not count. */
  readonly lsn: Lsn;
}

export interface BulkReadOptions {
  /** Bytes of layers held while reading. Default 32 MiB. */
  readBytes?: number;
  signal?: AbortSignal;
}

/** A key and its values. Valid until the next one is asked for. */
export interface BulkKey {
  readonly space: KeySpace;
  readonly block: number;
  /** Newest first, as replay.ts wants it; never empty. */
  readonly chain: ValueChain;
}

const DEFAULT_READ_BYTES = 32 * 1024 * 1024;

/**
 * Yields every key of the range that has a value, ascending, dropped ones too.
 *
 * @param sources One, or a branch and its ancestors.
 * @throws {CorruptionError} If a layer is damaged.
 */
export async function* bulkRead(
  sources: readonly BulkSource[],
  keyMin: Key,
  keyMax: Key,
  options: BulkReadOptions = {},
): AsyncGenerator<BulkKey, void> {
  const images = sources.flatMap(({ layers, lsn }) =>
    layers.overlapping(keyMin, keyMax, 0 as Lsn, lsn + 1 as Lsn).filter((layer) => layer.complete)
  );
  const floors = new ImageFloors(images, Number.MAX_SAFE_INTEGER as Lsn);
  for (const segment of floors.within(keyMin, keyMax)) yield* readSegment(sources, segment, options);
}

/** An input of the merge, and which of its entries count. */
interface Bounded {
  readonly layer: LayerDescriptor;
  readonly source: BulkSource;
}

/** The layers that a segment is made of. Of values with one key and LSN the last one counts: images after deltas. */
function layersOf(sources: readonly BulkSource[], { keyMin, keyMax, image, floor }: FloorSegment): Bounded[] {
  const found: Bounded[] = [];
  for (const source of sources) {
    for (const layer of source.layers.overlapping(keyMin, keyMax, 0 as Lsn, source.lsn + 1 as Lsn)) {
      if (layer === image || (layer.lsnEnd > floor + 1 && !layer.complete)) found.push({ layer, source });
    }
  }
  const rank = ({ layer }: Bounded) => layer.kind === "delta" ? 0 : layer.complete ? 2 : 1;
  return found.sort((left, right) =>
    rank(left) - rank(right) || -compareNewestFirst(left.layer, right.layer)
  );
}

async function* readSegment(
  sources: readonly BulkSource[],
  segment: FloorSegment,
  { readBytes = DEFAULT_READ_BYTES, signal }: BulkReadOptions,
): AsyncGenerator<BulkKey, void> {
  const { keyMin, keyMax, image, floor } = segment;
  const bounded = layersOf(sources, segment);
  if (bounded.length === 0) return;
  const inputs = await Promise.all(bounded.map(({ layer, source }) => source.opener.open(layer, signal)));
  const limits = bounded.map(({ source }) => source.lsn as number);
  // Below the floor only the image itself counts; deltas and partial images may have older entries.
  const floorsOf = bounded.map(({ layer }) => layer === image ? floor : floor + 1);
  const merge = await LayerMerge.open(inputs, {
    keyMin,
    keyMax,
    readBytes: readBytesWithin(readBytes, inputs.length),
    signal,
  });
  const chain = new ChainBuilder();
  try {
    for (;;) {
      const step = merge.next();
      if (!(typeof step === "boolean" ? step : await step)) break;
      const { block, space, rank } = merge;
      const { blocks, lsns } = block;
      for (let entry = merge.first; entry < merge.end; entry++) {
        const lsn = lsns[entry];
        if (lsn < floorsOf[rank] || lsn > limits[rank]) continue;
        if (chain.isOther(space, blocks[entry])) {
          yield chain.take();
        }
        chain.add(space, block, entry);
      }
    }
    if (!chain.isEmpty) yield chain.take();
  } finally {
    await merge.close();
  }
}

/** Gathers the values of one key, oldest first, and forgets what a newer one makes superfluous. */
class ChainBuilder {
  #space: KeySpace | undefined;
  #block = 0;
  readonly #parts: { block: DecodedBlock; entry: number }[] = [];
  readonly #chain = new ValueChain();

  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  /** Whether a key is not the one whose values have been gathered; false if none have. */
  isOther(space: KeySpace, block: number): boolean {
    if (this.#parts.length === 0) return false;
    return block !== this.#block || (space !== this.#space && compareSpaces(space, this.#space!) !== 0);
  }

  add(space: KeySpace, block: DecodedBlock, entry: number): void {
    this.#space = space;
    this.#block = block.blocks[entry];
    const parts = this.#parts;
    if (endsChain(block.flags[entry])) parts.length = 0;
    else {
      const last = parts.at(-1);
      // Two layers may hold the same value, or an image what a record has done.
      if (last !== undefined && last.block.lsns[last.entry] === block.lsns[entry]) return;
    }
    parts.push({ block, entry });
  }

  /** The key; the next one is gathered from here on. */
  take(): BulkKey {
    const chain = this.#chain;
    chain.clear();
    for (let index = this.#parts.length - 1; index >= 0; index--) {
      const { block, entry } = this.#parts[index];
      chain.pushEntry(block, entry);
    }
    this.#parts.length = 0;
    return { space: this.#space!, block: this.#block, chain };
  }
}
