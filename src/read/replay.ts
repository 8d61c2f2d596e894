/**
 * Read path, 3 of 3: a chain of values becomes a page.
 *
 * The oldest value of the chain is where the page starts (an image, a page as it was backed up, or zeros); every newer
 * one is a WAL record, replayed by `postgres/redo` oldest to newest. The page-LSN interlock is honoured: a record that
 * the page has already is skipped, because base backups are fuzzy.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { ImagePlace } from "../layer/image_value.ts";
import {
  endsChain,
  FAMILY_RELATION,
  type KeySpace,
  VALUE_COMPRESSION_MASK,
  VALUE_COMPRESSION_SHIFT,
  VALUE_DROPPED,
  VALUE_ENDS_GIST_SPLIT,
  VALUE_FROM_ZERO,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_KIND_MASK,
  VALUE_RAW,
  VALUE_RECORD,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import type { ValueChain } from "../layer/value_chain.ts";
import { BLCKSZ, type Page } from "../postgres/page/page.ts";
import type { SlruKind } from "../postgres/page/slru.ts";
import { SLRU_PAGES_PER_SEGMENT } from "../postgres/page/slru.ts";
import { finishGistSplit } from "../postgres/redo/gist/gist.ts";
import {
  type RedoContext,
  type RedoFunction,
  redoRecord,
  type RedoTarget,
} from "../postgres/redo/registry.ts";
import { redoSlruPage } from "../postgres/redo/slru.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import { type ImageCodecs, restoreImageBytes } from "../postgres/wal/block_image.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";

/** Replays chains; one per reader, reused, synchronous. */
export class Replayer {
  readonly #record: DecodedRecord;
  readonly #context: RedoContext;
  readonly #codecs: ImageCodecs;
  readonly #redo: RedoFunction;
  readonly #place = new ImagePlace();
  readonly #target: RedoTarget = { blockIndex: 0, fork: 0, block: 0 };

  /** @param redo For tests of who judges redo: one that is wrong. */
  constructor(
    profile: VersionProfile,
    context: RedoContext,
    codecs: ImageCodecs,
    redo: RedoFunction = redoRecord,
  ) {
    this.#record = new DecodedRecord(profile);
    this.#context = context;
    this.#codecs = codecs;
    this.#redo = redo;
  }

  /**
   * Builds the page that the chain describes.
   *
   * @param page Receives it; its content does not matter.
   * @throws {CorruptionError} If the chain has no start, or a record does not fit the page.
   * @throws {UnsupportedError} If a record's manager or opcode has no redo.
   */
  replay(chain: ValueChain, space: KeySpace, block: number, page: Page): void {
    if (chain.length === 0) {
      page.u32.fill(0);
      return;
    }
    const oldest = chain.length - 1;
    this.#start(chain, oldest, space, block, page);
    const firstRecord = (chain.flags[oldest] & VALUE_KIND_MASK) === VALUE_RECORD ? oldest : oldest - 1;
    for (let index = firstRecord; index >= 0; index--) this.#apply(chain, index, space, block, page);
  }

  /**
   * Brings a page from an older LSN up to the chain's: like `replay`, with what the page has already left out.
   *
   * @param page The page as of `lsn`, which may be older than the chain's oldest value or newer.
   */
  advance(chain: ValueChain, space: KeySpace, block: number, page: Page, lsn: Lsn): void {
    let count = chain.length;
    while (count > 0 && chain.lsns[count - 1] <= lsn) count--;
    if (count === 0) return;
    // Only the oldest value of a chain can be one that the page starts from anew.
    if (count === chain.length && endsChain(chain.flags[count - 1])) {
      return this.replay(chain, space, block, page);
    }
    for (let index = count - 1; index >= 0; index--) this.#apply(chain, index, space, block, page);
  }

  /** Puts the page into the state in which the oldest value says that it begins. */
  #start(chain: ValueChain, index: number, space: KeySpace, block: number, page: Page): void {
    const flags = chain.flags[index];
    const bytes = chain.buffers[index];
    const offset = chain.offsets[index];
    const length = chain.lengths[index];
    switch (flags & VALUE_KIND_MASK) {
      case VALUE_RAW:
        if ((flags & VALUE_ZERO_PAGE) !== 0) page.u32.fill(0);
        else if (length === BLCKSZ) page.u8.set(bytes.subarray(offset, offset + length));
        else {throw new CorruptionError("Cannot use a stored page", {
            lsn: chain.lsns[index],
            expected: BLCKSZ,
            got: length,
          });}
        break;
      case VALUE_FULL_PAGE_IMAGE: {
        const hole = chain.holes[index];
        const method = (flags & VALUE_COMPRESSION_MASK) >> VALUE_COMPRESSION_SHIFT;
        const place = this.#place;
        place.find(bytes, offset, length, flags, chain.lsns[index], this.#record);
        restoreImageBytes(
          bytes,
          place.offset,
          place.length,
          method,
          hole & 0xffff,
          hole >>> 16,
          page,
          this.#codecs,
          chain.lsns[index],
        );
        if (!page.isNew()) page.setLsn(chain.lsns[index]);
        if ((flags & VALUE_ENDS_GIST_SPLIT) !== 0) finishGistSplit(page, chain.lsns[index]);
        break;
      }
      case VALUE_RECORD:
        // The chain ends with a record: it makes the page from nothing, or its base is missing.
        if ((flags & VALUE_FROM_ZERO) === 0) throw missingBase(space, block, chain.lsns[index]);
        page.u32.fill(0);
        break;
      case VALUE_DROPPED:
        throw new CorruptionError("Cannot use a dropped value as a page", { lsn: chain.lsns[index] });
    }
  }

  #apply(chain: ValueChain, index: number, space: KeySpace, block: number, page: Page): void {
    const lsn = chain.lsns[index];
    const record = this.#record;
    record.decode(chain.buffers[index], chain.offsets[index], lsn);
    if (space.family !== FAMILY_RELATION) {
      redoSlruPage(page.u8, space.a as SlruKind, space.c * SLRU_PAGES_PER_SEGMENT + block, record);
      return;
    }
    const target = this.#target;
    target.blockIndex = findBlock(record, space, block);
    target.fork = space.d;
    target.block = block;
    // Pages that a record does not name carry no LSN of it.
    if (target.blockIndex >= 0 && lsn <= page.lsn) return;
    this.#redo(page, record, target, this.#context);
  }
}

/** Position of the block reference to this page, or -1 if the record touches it without naming it. */
export function findBlock(record: DecodedRecord, space: KeySpace, block: number): number {
  for (let index = 0; index < record.blockCount; index++) {
    if (
      record.blockNumber[index] === block && record.blockRel[index] === space.c &&
      record.blockFork[index] === space.d &&
      record.blockDb[index] === space.b && record.blockSpc[index] === space.a
    ) return index;
  }
  return -1;
}

function missingBase(space: KeySpace, block: number, lsn: Lsn): CorruptionError {
  return new CorruptionError(
    `Cannot rebuild block ${block} of ${space.a}/${space.b}/${space.c} fork ${space.d}: its oldest value is a record that needs a page before it`,
    { lsn },
    { hint: "A layer may be missing from the timeline; `varve info` lists what is there." },
  );
}
