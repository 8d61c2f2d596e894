/**
 * The read path on one screen: locate, fetch, replay.
 *
 * ```
 * getPage(rel, fork, block, lsn)
 *   1. is the LSN readable, does the block exist at it          relation sizes are versioned values too
 *   2. collect values newest to oldest                          memory layers, then layer files (fetch.ts)
 *   3. replay oldest to newest                                  replay.ts
 * ```
 * All reads of one call work on one {@linkcode TimelineView}.
 *
 * @module
 */
import { LsnCollectedError, LsnNotReachedError, NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import {
  FAMILY_RELATION,
  FAMILY_SLRU,
  type KeySpace,
  sizeFamily,
  VALUE_DROPPED,
  VALUE_KIND_MASK,
} from "../layer/key.ts";
import { NO_SPACE } from "../layer/space_table.ts";
import { ValueChain } from "../layer/value_chain.ts";
import type { RelationId } from "../postgres/effects/effect_sink.ts";
import { Page } from "../postgres/page/page.ts";
import { pageChecksum } from "../postgres/page/checksum.ts";
import { SLRU_PAGES_PER_SEGMENT, type SlruKind } from "../postgres/page/slru.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { ImageCodecs } from "../postgres/wal/block_image.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import { decodeSize } from "../timeline/sizes.ts";
import type { Timeline, TimelineView } from "../timeline/timeline.ts";
import type { AncestorSource, LayerFetcher } from "./fetch.ts";
import type { FetchCause } from "./fetch_counters.ts";
import type { NewestValue } from "./newest_values.ts";
import { Replayer } from "./replay.ts";

export interface ReadOptions {
  signal?: AbortSignal;
  /** Reads before the base backup's end too, where pages are not right yet: for the writer that resumes there. */
  evenInconsistent?: boolean;
  /** On whose behalf, for metrics and priorities. Default `read`. */
  cause?: FetchCause;
  /** The fork's length at the LSN, from who knows it: then it is not looked up for every page. */
  blocks?: number;
}

/** A space and its length. */
export interface SpaceSize {
  space: KeySpace;
  /** Undefined when it does not exist. */
  blocks: number | undefined;
  /** The most blocks that it ever had. */
  highWater: number;
}

/** What a reader knows beyond its own timeline's layers. */
export interface ReaderSurroundings {
  /** Reads layers of an ancestor. */
  fetcherOf?(timeline: string): LayerFetcher;
  /** Takes over the manifest as it is now. */
  refresh?(signal?: AbortSignal): Promise<unknown>;
}

/** Reads pages, sizes and other values of a timeline at any LSN that it holds. */
export class TimelineReader {
  readonly timeline: Timeline;
  readonly #fetcher: LayerFetcher;
  readonly #replayer: Replayer;
  readonly #surroundings: ReaderSurroundings;

  constructor(
    timeline: Timeline,
    fetcher: LayerFetcher,
    codecs: ImageCodecs,
    surroundings: ReaderSurroundings = {},
  ) {
    this.timeline = timeline;
    this.#fetcher = fetcher;
    this.#surroundings = surroundings;
    this.#replayer = new Replayer(
      profileOfMajor(timeline.facts.major),
      { hintBitsLogged: hintBitsLogged(timeline.facts) },
      codecs,
    );
  }

  /**
   * The 8192 bytes of a page as of an LSN: what the server's buffer held when the record ending there had been replayed,
   * hint bits aside. Its checksum is set if the cluster has checksums. A block that exists but was never written is zeros.
   *
   * @param relation Tablespace, database and file number, as `pg_relation_filenode` and friends tell.
   * @param fork 0 main, 1 free space map, 2 visibility map, 3 init.
   * @param block Block number, from 0.
   * @throws {NotFoundError} If the fork does not exist at that LSN, or is shorter.
   * @throws {LsnNotReachedError} If the LSN lies beyond the last record.
   * @throws {LsnCollectedError} If the LSN lies before the history that is kept, and no pin or branch holds it.
   * @throws {CorruptionError} If stored bytes are damaged.
   * @throws {UnsupportedError} If a record that changed the page cannot be replayed.
   * @throws {UnavailableError} If the store does not answer.
   */
  async getPage(
    relation: RelationId,
    fork: number,
    block: number,
    lsn: Lsn,
    options: ReadOptions = {},
  ): Promise<Uint8Array> {
    const view = viewAt(this.timeline, lsn, options);
    const space = relationSpace(relation, fork);
    // Both at once: mostly the page exists, and what either has to wait for comes together.
    const rebuilding = this.#rebuild(view, space, block, lsn, options);
    rebuilding.catch(() => {}); // of no interest where there is no such page
    const blocks = options.blocks ?? await this.#size(view, space, lsn, options);
    if (blocks === undefined) {
      throw new NotFoundError(
        `Cannot read ${describe(relation, fork)}: it does not exist at LSN ${formatLsn(lsn)}`,
      );
    }
    if (!(block >= 0 && block < blocks)) {
      throw new NotFoundError(
        `Cannot read block ${block} of ${describe(relation, fork)}: it has ${blocks} blocks at LSN ${
          formatLsn(lsn)
        }`,
      );
    }
    const page = await rebuilding;
    if (this.timeline.facts.dataChecksums && !page.isNew()) page.checksum = pageChecksum(page, block);
    return page.u8;
  }

  /** Blocks of a fork at an LSN, undefined if it does not exist then. */
  async relationSize(
    relation: RelationId,
    fork: number,
    lsn: Lsn,
    options: ReadOptions = {},
  ): Promise<number | undefined> {
    return await this.#size(viewAt(this.timeline, lsn, options), relationSpace(relation, fork), lsn, options);
  }

  /** A page of an SLRU (transaction status and its like), undefined if it does not exist at that LSN. */
  async getSlruPage(
    kind: SlruKind,
    pageno: number,
    lsn: Lsn,
    options: ReadOptions = {},
  ): Promise<Uint8Array | undefined> {
    const view = viewAt(this.timeline, lsn, options);
    const space = {
      family: FAMILY_SLRU,
      a: kind,
      b: 0,
      c: Math.floor(pageno / SLRU_PAGES_PER_SEGMENT),
      d: 0,
    };
    const block = pageno % SLRU_PAGES_PER_SEGMENT;
    const pages = await this.#size(view, space, lsn, options);
    if (pages === undefined || block >= pages) return undefined;
    return (await this.#rebuild(view, space, block, lsn, options)).u8;
  }

  /** The newest value of a key at or below an LSN: a copy of its bytes; undefined if there is none or it is dropped. */
  async getValue(
    space: KeySpace,
    block: number,
    lsn: Lsn,
    options: ReadOptions = {},
  ): Promise<Uint8Array | undefined> {
    const chain = await this.#collect(viewAt(this.timeline, lsn, options), space, block, lsn, options);
    if (chain.length === 0 || (chain.flags[0] & VALUE_KIND_MASK) === VALUE_DROPPED) return undefined;
    return chain.buffers[0].slice(chain.offsets[0], chain.offsets[0] + chain.lengths[0]);
  }

  /**
   * The values of a key at or below an LSN, newest first, down to the one that needs nothing older: what its page at that
   * LSN is replayed from.
   */
  async collectValues(
    space: KeySpace,
    block: number,
    lsn: Lsn,
    options: ReadOptions = {},
  ): Promise<ValueChain> {
    return await this.#collect(viewAt(this.timeline, lsn, options), space, block, lsn, options);
  }

  /**
   * The newest value of a key that a branch's ancestors hold at an LSN, even beyond the one where the branch leaves them: for
   * values that are about more LSNs than their own. A copy; undefined if there is none.
   */
  async getAncestorValue(
    space: KeySpace,
    block: number,
    lsn: Lsn,
    options: ReadOptions = {},
  ): Promise<Uint8Array | undefined> {
    const { signal, cause } = options;
    const ancestors = this.#ancestorsOf(this.timeline.view());
    for (const { fetcher, layers, lsn: top } of ancestors) {
      const chain = new ValueChain();
      // One that was itself left further down has nothing to tell of what lies beyond.
      const upTo = top === ancestors[0].lsn ? lsn : Math.min(lsn, top) as Lsn;
      const hasEnded = await fetcher.collect(layers, space, block, upTo, chain, signal, cause);
      if (chain.length > 0) {
        return chain.buffers[0].slice(chain.offsets[0], chain.offsets[0] + chain.lengths[0]);
      }
      if (hasEnded) break;
    }
    return undefined;
  }

  /** Every space of a size family (relations, SLRU segments) that exists at an LSN, with its length, in key order. */
  async listSizes(family: number, lsn: Lsn, options: ReadOptions = {}): Promise<SpaceSize[]> {
    const values = await this.#listAll(sizeFamily(family), lsn, options);
    return values.filter((value) => !value.dropped).map((value) => sizeOf(family, value));
  }

  /** Like {@linkcode listSizes}, with spaces that are gone: their length is undefined, their high-water mark is known. */
  async listSizesEver(family: number, lsn: Lsn, options: ReadOptions = {}): Promise<SpaceSize[]> {
    const values = await this.#listAll(sizeFamily(family), lsn, options);
    return values.map((value) => sizeOf(family, value));
  }

  /** The newest value of every key of a family at an LSN, dropped ones left out, in key order. */
  async listValues(family: number, lsn: Lsn, options: ReadOptions = {}): Promise<NewestValue[]> {
    return (await this.#listAll(family, lsn, options)).filter((value) => !value.dropped);
  }

  async #listAll(family: number, lsn: Lsn, options: ReadOptions): Promise<NewestValue[]> {
    return await this.#onceMore(
      lsn,
      options,
      viewAt(this.timeline, lsn, options),
      (view) =>
        this.#fetcher.listNewest(
          view,
          this.timeline.spaces,
          family,
          lsn,
          options.signal,
          options.cause,
          this.#ancestorsOf(view),
        ),
    );
  }

  async #size(
    view: TimelineView,
    space: KeySpace,
    lsn: Lsn,
    options: ReadOptions,
  ): Promise<number | undefined> {
    const sizeSpace = { ...space, family: sizeFamily(space.family) };
    const chain = await this.#collect(view, sizeSpace, 0, lsn, options);
    if (chain.length === 0 || (chain.flags[0] & VALUE_KIND_MASK) === VALUE_DROPPED) return undefined;
    return decodeSize(chain.buffers[0], chain.offsets[0], chain.lengths[0]).blocks;
  }

  async #rebuild(
    view: TimelineView,
    space: KeySpace,
    block: number,
    lsn: Lsn,
    options: ReadOptions,
  ): Promise<Page> {
    const chain = await this.#collect(view, space, block, lsn, options);
    const page = new Page();
    this.#replayer.replay(chain, space, block, page);
    return page;
  }

  /** Values of a key at or below `lsn`, newest first, until the chain ends. */
  #collect(
    view: TimelineView,
    space: KeySpace,
    block: number,
    lsn: Lsn,
    options: ReadOptions,
  ): Promise<ValueChain> {
    return this.#onceMore(lsn, options, view, (view) => this.#collectIn(view, space, block, lsn, options));
  }

  async #collectIn(
    view: TimelineView,
    space: KeySpace,
    block: number,
    lsn: Lsn,
    options: ReadOptions,
  ): Promise<ValueChain> {
    const chain = new ValueChain();
    const id = this.timeline.spaces.findSpace(space);
    if (id !== NO_SPACE) {
      for (const layer of view.memory) if (layer.collect(id, block, lsn, chain)) return chain;
    }
    const { signal, cause } = options;
    if (await this.#fetcher.collect(view.layers, space, block, lsn, chain, signal, cause)) return chain;
    for (const { fetcher, layers, lsn: top } of this.#ancestorsOf(view)) {
      const upTo = Math.min(lsn, top) as Lsn;
      if (await fetcher.collect(layers, space, block, upTo, chain, signal, cause)) return chain;
    }
    return chain;
  }

  /** Where a branch reads on. */
  #ancestorsOf(view: TimelineView): AncestorSource[] {
    const { fetcherOf } = this.#surroundings;
    return view.ancestors.map(({ timeline, lsn, layers }) => ({
      fetcher: fetcherOf!(timeline),
      lsn,
      layers,
    }));
  }

  /**
   * A read; if a layer's object is gone, once more by the manifest as it is now, where another layer is in its place.
   *
   * @throws {LsnCollectedError} If the LSN has been collected meanwhile.
   */
  async #onceMore<T>(
    lsn: Lsn,
    options: ReadOptions,
    view: TimelineView,
    read: (view: TimelineView) => Promise<T>,
  ): Promise<T> {
    const { refresh } = this.#surroundings;
    try {
      return await read(view);
    } catch (error) {
      if (!(error instanceof NotFoundError) || refresh === undefined) throw error;
      await refresh(options.signal);
      return await read(viewAt(this.timeline, lsn, options));
    }
  }
}

/**
 * A timeline as it is now, for reads at an LSN.
 *
 * @throws {LsnNotReachedError} If the LSN lies beyond the last record. @throws {LsnCollectedError} If it is kept no more.
 */
export function viewAt(timeline: Timeline, lsn: Lsn, options: ReadOptions): TimelineView {
  const view = timeline.view();
  if (lsn > view.lastRecordLsn) throw new LsnNotReachedError(lsn, view.lastRecordLsn);
  if (lsn < view.floorLsn && !view.heldLsns.has(lsn) && options.evenInconsistent !== true) {
    throw new LsnCollectedError(lsn, view.floorLsn);
  }
  return view;
}

function sizeOf(family: number, { space, bytes, dropped }: NewestValue): SpaceSize {
  const { blocks, highWater } = decodeSize(bytes, 0, bytes.length);
  return { space: { ...space, family }, blocks: dropped ? undefined : blocks, highWater };
}

function relationSpace(relation: RelationId, fork: number): KeySpace {
  return { family: FAMILY_RELATION, a: relation.spc, b: relation.db, c: relation.rel, d: fork };
}

function describe(relation: RelationId, fork: number): string {
  return `relation ${relation.spc}/${relation.db}/${relation.rel} fork ${fork}`;
}
