/**
 * An image layer's file: all that a key range holds at an LSN.
 *
 * Upkeep, inside image creation. It is *complete*: a key that is not in it did not exist, so that no read goes below it.
 * Therefore it has
 * - of relations and SLRUs every block below the length of its space at the LSN, by redo, blocks never written as zeros;
 *   dropped relations and blocks beyond the end are simply not there;
 * - of sizes every key, dropped ones as such, for they remember how long the space ever was;
 * - of everything else the newest value, if it is not dropped.
 *
 * @module
 */
import type { BlockCodec } from "../bytes/block_codec.ts";
import { CorruptionError, UnsupportedError } from "../errors.ts";
import {
  compareSpaces,
  FAMILY_RELATION_SIZE,
  FAMILY_SLRU_SIZE,
  type KeySpace,
  VALUE_DROPPED,
  VALUE_KIND_MASK,
  VALUE_RAW,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import type { KeyRange } from "../layer/key_range.ts";
import { type LayerSummary, LayerWriter } from "../layer/layer_writer.ts";
import type { Lsn } from "../lsn.ts";
import { BLCKSZ, Page } from "../postgres/page/page.ts";
import { type BulkKey, bulkRead, type BulkSource } from "../read/bulk_read.ts";
import type { Replayer } from "../read/replay.ts";
import type { LiveSpace } from "./images_plan.ts";
import type { Pacer } from "./pacer.ts";

export interface ImageFileOptions extends KeyRange {
  sources: readonly BulkSource[];
  lsn: Lsn;
  /** Spaces of pages that have blocks in the range, ascending; undefined: a range of plain values. */
  spaces: readonly LiveSpace[] | undefined;
  replayer: Replayer;
  codec?: BlockCodec;
  pacer?: Pacer;
  /** Bytes of layers to hold. Default 32 MiB. */
  readBytes?: number;
  signal?: AbortSignal;
}

/** A page that redo cannot make: a record of an unknown manager, or one that does not fit. Its space has no image. */
export class NoImageError extends Error {
  readonly space: KeySpace;

  constructor(space: KeySpace, block: number, cause: unknown) {
    super(`Cannot make an image of block ${block} of ${space.a}/${space.b}/${space.c} fork ${space.d}`, {
      cause,
    });
    this.space = space;
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * Yields the file in chunks and returns what is known of it.
 *
 * @throws {NoImageError} If a page cannot be made. @throws {CorruptionError} If a layer is damaged.
 */
export async function* imageLayerFile(options: ImageFileOptions): AsyncGenerator<Uint8Array, LayerSummary> {
  const { sources, keyMin, keyMax, lsn, spaces, codec, pacer, readBytes, signal } = options;
  const writer = new LayerWriter({ kind: "image", complete: true, lsnStart: lsn, codec });
  const keys = bulkRead(sources, keyMin, keyMax, { readBytes, signal });
  pacer?.restart();
  const entries = spaces === undefined
    ? addValues(writer, keys, lsn)
    : addPages(writer, keys, spaces, options);
  try {
    for (let mark = pacer?.mark(); !(await entries.next()).done; mark = pacer?.mark()) {
      const chunks = writer.take();
      if (chunks.length > 0) yield* chunks;
      if (mark === undefined) continue;
      pacer!.waited(mark);
      const pause = pacer!.pause(signal);
      if (pause !== undefined) await pause;
    }
  } finally {
    await entries.return(undefined);
  }
  const summary = writer.finish({ keyMin, keyMax });
  yield* writer.take();
  return summary;
}

/** Adds the newest value of each key; yields now and then, for others to run. */
async function* addValues(
  writer: LayerWriter,
  keys: AsyncIterable<BulkKey>,
  lsn: Lsn,
): AsyncGenerator<void, void> {
  for await (const { space, block, chain } of keys) {
    const flags = chain.flags[0];
    const isSize = space.family === FAMILY_RELATION_SIZE || space.family === FAMILY_SLRU_SIZE;
    const kind = flags & VALUE_KIND_MASK;
    if (kind === VALUE_DROPPED && !isSize) continue;
    if (kind !== VALUE_DROPPED && kind !== VALUE_RAW) {
      throw new NoImageError(space, block, new UnsupportedError("Cannot replay a value that is no page"));
    }
    writer.add(space, block, lsn, flags, chain.buffers[0], chain.offsets[0], chain.lengths[0]);
    yield;
  }
}

/** Adds every block that exists. */
async function* addPages(
  writer: LayerWriter,
  keys: AsyncGenerator<BulkKey, void>,
  spaces: readonly LiveSpace[],
  { keyMin, keyMax, lsn, replayer }: ImageFileOptions,
): AsyncGenerator<void, void> {
  const page = new Page();
  let next = await keys.next();
  try {
    for (const { space, blocks } of spaces) {
      const first = compareSpaces(space, keyMin) === 0 ? keyMin.block : 0;
      const end = compareSpaces(space, keyMax) === 0 ? Math.min(blocks, keyMax.block + 1) : blocks;
      for (let block = first; block < end; block++) {
        // What has no length has no pages: old values of dropped relations.
        while (!next.done && order(next.value, space, block) < 0) next = await keys.next();
        if (!next.done && order(next.value, space, block) === 0) {
          addPage(writer, next.value, space, block, lsn, replayer, page);
          next = await keys.next();
        } else writer.add(space, block, lsn, VALUE_RAW | VALUE_ZERO_PAGE, NO_BYTES, 0, 0);
        yield;
      }
    }
  } finally {
    await keys.return();
  }
}

function order(key: BulkKey, space: KeySpace, block: number): number {
  return compareSpaces(key.space, space) || key.block - block;
}

function addPage(
  writer: LayerWriter,
  { chain }: BulkKey,
  space: KeySpace,
  block: number,
  lsn: Lsn,
  replayer: Replayer,
  page: Page,
): void {
  try {
    replayer.replay(chain, space, block, page);
  } catch (error) {
    if (!(error instanceof UnsupportedError || error instanceof CorruptionError)) throw error;
    throw new NoImageError(space, block, error);
  }
  if (isZero(page)) writer.add(space, block, lsn, VALUE_RAW | VALUE_ZERO_PAGE, NO_BYTES, 0, 0);
  else writer.add(space, block, lsn, VALUE_RAW, page.u8, 0, BLCKSZ);
}

function isZero(page: Page): boolean {
  const words = page.u32;
  for (let index = 0; index < words.length; index++) if (words[index] !== 0) return false;
  return true;
}
