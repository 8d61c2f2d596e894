/**
 * Pages as redo makes them, at one LSN after another: what verification compares with.
 *
 * Upkeep. Reads what is stored, through the timeline's reader, and replays it as every read does. A page that was asked
 * for is kept, and brought forward from there when it is asked for at a later LSN, so that judging all images of a page
 * costs each of its records once. Sizes are asked for too: a block beyond its fork's end is no page, whatever versions an
 * earlier fork or a longer one had of it.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import {
  FAMILY_RELATION,
  type KeySpace,
  sizeFamily,
  VALUE_DROPPED,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_IMAGE_OF_HINT,
  VALUE_KIND_MASK,
} from "../layer/key.ts";
import { NO_SPACE } from "../layer/space_table.ts";
import { ValueChain } from "../layer/value_chain.ts";
import { VISIBILITYMAP_FORKNUM } from "../postgres/page/masks.ts";
import { BLCKSZ, Page, SizeOfPageHeaderData } from "../postgres/page/page.ts";
import type { RedoFunction } from "../postgres/redo/registry.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { ImageCodecs } from "../postgres/wal/block_image.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { Replayer } from "../read/replay.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import { decodeSize } from "../timeline/sizes.ts";
import type { PageDifference } from "./verify_images.ts";

interface KnownPage {
  lsn: Lsn;
  page: Page;
}

interface KnownSize {
  lsn: Lsn;
  blocks: number | undefined;
}

const HINT_IMAGE = VALUE_FULL_PAGE_IMAGE | VALUE_IMAGE_OF_HINT;
const HINT_IMAGE_MASK = VALUE_KIND_MASK | VALUE_IMAGE_OF_HINT;

/** Forks whose size is remembered. */
const SIZES_KEPT = 10_000;

/** See the module's description. */
export class PageSource {
  readonly #reader: TimelineReader;
  readonly #replayer: Replayer;
  readonly #pagesKept: number;
  /** By space and block; least recently used first. */
  readonly #pages = new Map<string, KnownPage>();
  readonly #sizes = new Map<string, KnownSize>();

  /** @param pagesKept Pages to remember; 8 KiB each. */
  constructor(reader: TimelineReader, codecs: ImageCodecs, redo: RedoFunction, pagesKept: number) {
    const { facts } = reader.timeline;
    this.#reader = reader;
    this.#replayer = new Replayer(
      profileOfMajor(facts.major),
      { hintBitsLogged: hintBitsLogged(facts) },
      codecs,
      redo,
    );
    this.#pagesKept = pagesKept;
  }

  /**
   * The page as of an LSN; undefined if the block did not exist then. The caller must not change it, and must be done with
   * it before it asks for another.
   *
   * @throws {CorruptionError} @throws {UnsupportedError} @throws {UnavailableError} As `TimelineReader.getPage`.
   */
  async at(space: KeySpace, block: number, lsn: Lsn, signal?: AbortSignal): Promise<Page | undefined> {
    const blocks = await this.#sizeAt(space, lsn, signal);
    if (blocks === undefined || block >= blocks) return undefined;
    const key = keyOf(space, block);
    const known = this.#pages.get(key);
    this.#pages.delete(key);
    if (known === undefined || known.lsn > lsn) {
      const chain = await this.#collect(space, block, lsn, signal);
      const page = known?.page ?? new Page();
      this.#replayer.replay(chain, space, block, page);
      this.#keep(key, { lsn, page });
      return page;
    }
    const chain = this.#fromMemory(space, block, known.lsn, lsn) ??
      await this.#collect(space, block, lsn, signal);
    this.#replayer.advance(chain, space, block, known.page, known.lsn);
    this.#keep(key, { lsn, page: known.page });
    return known.page;
  }

  /**
   * A copy of the page with the older pd_lsn `marked`, if that is what PostgreSQL may have instead: because everything
   * since was images logged for hint bits, which the primary need not have stamped. Else undefined.
   */
  async withoutHintStamps(
    space: KeySpace,
    block: number,
    page: Page,
    marked: Lsn,
    signal?: AbortSignal,
  ): Promise<Page | undefined> {
    const copy = Page.from(page.u8);
    const older = new Page();
    for (let at = page.lsn; at > marked; at = older.lsn) {
      const newest = await this.#collect(space, block, at, signal);
      if (newest.lsns[0] !== at || (newest.flags[0] & HINT_IMAGE_MASK) !== HINT_IMAGE) return undefined;
      const before = at - 1 as Lsn;
      this.#replayer.replay(await this.#collect(space, block, before, signal), space, block, older);
      if (older.lsn < marked) return undefined;
    }
    copy.setLsn(marked);
    return older.lsn === marked ? copy : undefined;
  }

  /**
   * Whether a visibility map page differs only because it came as an image without content; see verify_images.ts.
   *
   * @param lsn That the page was made at.
   */
  async isHollowMap(
    space: KeySpace,
    block: number,
    lsn: Lsn,
    { gotPage, expectedPage }: PageDifference,
    signal?: AbortSignal,
  ): Promise<boolean> {
    if (space.d !== VISIBILITYMAP_FORKNUM) return false;
    for (let at = SizeOfPageHeaderData; at < BLCKSZ; at++) {
      if ((gotPage[at] & ~expectedPage[at]) !== 0) return false;
    }
    const chain = await this.#collect(space, block, lsn, signal);
    const base = chain.length - 1;
    return (chain.flags[base] & VALUE_KIND_MASK) === VALUE_FULL_PAGE_IMAGE &&
      chain.holes[base] >>> 16 === BLCKSZ - SizeOfPageHeaderData;
  }

  /** From here on the page is this one, whatever redo makes of it: a mistake is to be found once, not again and again. */
  correct(space: KeySpace, block: number, lsn: Lsn, page: Page): void {
    const key = keyOf(space, block);
    this.#pages.delete(key);
    this.#keep(key, { lsn, page });
  }

  async #sizeAt(space: KeySpace, lsn: Lsn, signal?: AbortSignal): Promise<number | undefined> {
    const sizes = { ...space, family: sizeFamily(FAMILY_RELATION) };
    const key = keyOf(space, 0);
    const known = this.#sizes.get(key);
    let chain: ValueChain | undefined;
    if (known !== undefined && known.lsn <= lsn) {
      chain = this.#fromMemory(sizes, 0, known.lsn, lsn);
      if (chain !== undefined && !(chain.lsns[0] > known.lsn)) {
        known.lsn = lsn;
        return known.blocks;
      }
    }
    chain ??= await this.#collect(sizes, 0, lsn, signal);
    const exists = chain.length > 0 && (chain.flags[0] & VALUE_KIND_MASK) !== VALUE_DROPPED;
    const blocks = exists
      ? decodeSize(chain.buffers[0], chain.offsets[0], chain.lengths[0]).blocks
      : undefined;
    if (this.#sizes.size >= SIZES_KEPT) this.#sizes.clear();
    this.#sizes.set(key, { lsn, blocks });
    return blocks;
  }

  /** The values in `(from, lsn]`, and perhaps older ones; undefined if some may have left memory for layer files. */
  #fromMemory(space: KeySpace, block: number, from: Lsn, lsn: Lsn): ValueChain | undefined {
    const { timeline } = this.#reader;
    const { memory } = timeline.view();
    if (memory[memory.length - 1].startLsn > from) return undefined;
    const chain = new ValueChain();
    const id = timeline.spaces.findSpace(space);
    if (id === NO_SPACE) return chain;
    for (const layer of memory) {
      if (layer.collect(id, block, lsn, chain) || layer.startLsn <= from) break;
    }
    return chain;
  }

  #collect(space: KeySpace, block: number, lsn: Lsn, signal?: AbortSignal): Promise<ValueChain> {
    return this.#reader.collectValues(space, block, lsn, { signal, evenInconsistent: true });
  }

  #keep(key: string, known: KnownPage): void {
    this.#pages.set(key, known);
    if (this.#pages.size <= this.#pagesKept) return;
    for (const oldest of this.#pages.keys()) {
      this.#pages.delete(oldest);
      return;
    }
  }
}

function keyOf({ a, b, c, d }: KeySpace, block: number): string {
  return `${a}/${b}/${c}/${d}/${block}`;
}
