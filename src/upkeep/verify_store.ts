/**
 * Verification of what lies in a store: every layer read through, stored images judged, pages rebuilt.
 *
 * Upkeep; reads only. Three passes, all within an LSN range:
 * 1. *Layers.* Each layer of the range is read from end to end: its checksums (footer, index, every block), the order of
 *    its keys, that its blocks fit its index, and every value by itself (verify_values.ts). Pages of the base backup that
 *    were not written to while it ran must have the right pd_checksum, if the cluster has them.
 * 2. *Images.* A full-page image of WAL, stored as a value, is the second oracle (verify_images.ts) of what lies below it:
 *    - one that was logged for a hint bit must equal the page that the records below it make, byte for byte after masks;
 *    - one inside a record, which is kept with it, must equal what that record makes of that page, where redo has all that
 *      it needs; else its pd_lsn must name the record that changed the page last;
 *    - of XLOG_FPI, pd_lsn is all that can be judged;
 *    - a page of an image layer that compaction made must equal, byte for byte, what the deltas make without it, as long as
 *      those reach down to the base backup.
 *    Images for consistency checks are not kept: `follow --verify` and `import --verify` judge by those.
 * 3. *Pages.* Every page that exists at the range's end is rebuilt: that works, its header makes sense, and it is not newer
 *    than the LSN.
 *
 * A rate below 1 makes 2 and 3 take a sample; layers are always read whole.
 *
 * @module
 */
import { getU16 } from "../bytes/little_endian.ts";
import { CorruptionError, LsnCollectedError, NotFoundError, UnsupportedError } from "../errors.ts";
import {
  FAMILY_RELATION,
  FAMILY_SLRU,
  type KeySpace,
  VALUE_COMPRESSION_MASK,
  VALUE_COMPRESSION_SHIFT,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_IMAGE_OF_HINT,
  VALUE_KIND_MASK,
  VALUE_RAW,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import { ImagePlace } from "../layer/image_value.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { LayerMap } from "../layer/layer_map.ts";
import { openLayer } from "../layer/layer_reader.ts";
import { scanLayer } from "../layer/layer_scan.ts";
import { describeKey } from "../layer/layer_text.ts";
import type { Lsn } from "../lsn.ts";
import { FSM_FORKNUM } from "../postgres/page/masks.ts";
import { BLCKSZ, Page } from "../postgres/page/page.ts";
import { SLRU_PAGES_PER_SEGMENT, type SlruKind } from "../postgres/page/slru.ts";
import { type RedoFunction, redoRecord } from "../postgres/redo/registry.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import { restoreImageBytes } from "../postgres/wal/block_image.ts";
import { fullRecordTypeName } from "../postgres/wal/describe.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";
import type { AttachedTimeline } from "../read/attach.ts";
import { LayerFetcher } from "../read/fetch.ts";
import { type SpaceSize, TimelineReader } from "../read/get_page.ts";
import { findBlock } from "../read/replay.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import { Timeline } from "../timeline/timeline.ts";
import {
  compareWhole,
  ImageJudge,
  type ImageTest,
  isJudgeable,
  type Judgement,
  type PageDifference,
  testOfRecord,
} from "./verify_images.ts";
import { PageSource } from "./verify_pages.ts";
import { type VerifyDifference, VerifyReport } from "./verify_report.ts";
import { checkPageChecksum, checkPageHeader, checkValue, HOLE_BYTES } from "./verify_values.ts";
import { describeDifference, isPosition, isSampled } from "./verify_wal.ts";

export interface StoreVerifyOptions {
  /** Layers and images from here on. Default: all. */
  from?: Lsn;
  /** Layers and images up to here, and pages as of here. Default: the last record. */
  to?: Lsn;
  /** Share of images and pages that is judged, above 0 and up to 1. Default: 1. */
  rate?: number;
  onDifference?(difference: VerifyDifference): void;
  /** Told as it goes on. */
  onProgress?(progress: StoreVerifyProgress): void;
  /** For tests of verification itself: a redo that is wrong. */
  redo?: RedoFunction;
  signal?: AbortSignal;
}

/** What was read so far. */
export interface StoreVerifyProgress {
  layers: number;
  layersTotal: number;
  layerBytes: number;
  entries: number;
  pages: number;
}

/** Rows of the report. */
const LAYER = "layer";
const BACKUP_PAGE = "page of the base backup";
const LAYER_IMAGE = "image of a layer";
const REBUILT_PAGE = "page rebuilt";
const REBUILT_SLRU_PAGE = "SLRU page rebuilt";

/** Pages remembered: 64 MiB. */
const PAGES_KEPT = 8192;
/** Pages rebuilt at once. */
const PAGES_AT_ONCE = 16;

/**
 * Verifies a timeline's store. What is found goes into the report; see there.
 *
 * @throws {UnavailableError} If the store does not answer. @throws {LsnCollectedError} If `to` cannot be read.
 */
export async function verifyStore(
  attached: AttachedTimeline,
  options: StoreVerifyOptions = {},
): Promise<{ report: VerifyReport; progress: StoreVerifyProgress }> {
  const verifier = new StoreVerifier(attached, options);
  await verifier.run();
  return { report: verifier.report, progress: verifier.progress };
}

class StoreVerifier {
  readonly report: VerifyReport;
  readonly progress: StoreVerifyProgress = { layers: 0, layersTotal: 0, layerBytes: 0, entries: 0, pages: 0 };
  readonly #attached: AttachedTimeline;
  readonly #options: StoreVerifyOptions;
  readonly #rate: number;
  readonly #from: Lsn;
  readonly #to: Lsn;
  readonly #record: DecodedRecord;
  readonly #stored: PageSource;
  /** Pages made without image layers; undefined where deltas do not reach down to the base backup. */
  readonly #replayed: PageSource | undefined;
  readonly #judge: ImageJudge;
  readonly #place = new ImagePlace();
  readonly #backupPage = new Page();

  constructor(attached: AttachedTimeline, options: StoreVerifyOptions) {
    const { timeline, reader, codecs, manifest } = attached;
    const { rate = 1, from = 0 as Lsn, to = timeline.lastRecordLsn, redo = redoRecord } = options;
    if (!(rate > 0 && rate <= 1)) {
      throw new RangeError(`Cannot verify a share of ${rate}: expected more than 0, at most 1`);
    }
    this.report = new VerifyReport(rate, options.onDifference);
    this.#attached = attached;
    this.#options = options;
    this.#rate = rate;
    this.#from = from;
    this.#to = to;
    this.#record = new DecodedRecord(profileOfMajor(timeline.facts.major));
    this.#judge = new ImageJudge({ hintBitsLogged: hintBitsLogged(timeline.facts) }, codecs.image, redo);
    this.#stored = new PageSource(reader, codecs.image, redo, PAGES_KEPT);
    const isWhole = manifest.cutoffLsn <= manifest.consistentLsn && manifest.ancestor === undefined;
    this.#replayed = isWhole
      ? new PageSource(readerWithoutImages(attached), codecs.image, redo, PAGES_KEPT)
      : undefined;
  }

  async run(): Promise<void> {
    const layers = this.#attached.timeline.layers.layers()
      .filter((layer) => layer.lsnStart <= this.#to && layer.lsnEnd > this.#from)
      .toReversed();
    this.progress.layersTotal = layers.length;
    for (const layer of layers) {
      await this.#verifyLayer(layer);
      this.progress.layers++;
      this.progress.layerBytes += layer.size;
      this.#options.onProgress?.(this.progress);
    }
    await this.#verifyPages(await this.#listSizes(FAMILY_RELATION));
    await this.#verifySlruPages(await this.#listSizes(FAMILY_SLRU));
    this.report.advance(Math.max(this.#from, this.#attached.timeline.startLsn) as Lsn, this.#to);
  }

  async #verifyLayer(layer: LayerDescriptor): Promise<void> {
    const { files, codecs } = this.#attached;
    const { signal } = this.#options;
    this.report.counts(LAYER).records++;
    try {
      const source = files.source(layer);
      const index = await openLayer(source, layer.name, {
        codecs: codecs.block,
        expectedChecksum: layer.checksum,
        signal,
      });
      for await (const { block, first, end } of scanLayer(source, index, { signal })) {
        this.progress.entries += end - first;
        await this.#verifyEntries(layer, block, first, end);
      }
    } catch (error) {
      if (!(error instanceof CorruptionError || error instanceof NotFoundError)) throw error;
      this.report.add({
        lsn: layer.lsnStart,
        type: LAYER,
        record: layer.name,
        block: "-",
        message: error.message,
      });
    }
  }

  async #verifyEntries(
    layer: LayerDescriptor,
    block: DecodedBlock,
    first: number,
    end: number,
  ): Promise<void> {
    let spaceIndex = block.spaceOf(first);
    let space = block.spaceAt(spaceIndex);
    for (let entry = first; entry < end; entry++) {
      if (entry >= block.spaceStarts[spaceIndex + 1]) space = block.spaceAt(++spaceIndex);
      try {
        checkValue(block, entry, space, this.#record);
        if (space.family !== FAMILY_RELATION) continue;
        const kind = block.flags[entry] & VALUE_KIND_MASK;
        if (kind === VALUE_FULL_PAGE_IMAGE) await this.#judgeWalImage(layer, block, entry, space);
        else if (kind === VALUE_RAW && (block.flags[entry] & VALUE_ZERO_PAGE) === 0) {
          await this.#judgeStoredPage(layer, block, entry, space);
        }
      } catch (error) {
        this.#addError(error, LAYER, block.lsns[entry] as Lsn, space, block.blocks[entry], layer.name);
      }
    }
  }

  /** A full-page image out of WAL. */
  async #judgeWalImage(
    layer: LayerDescriptor,
    entries: DecodedBlock,
    entry: number,
    space: KeySpace,
  ): Promise<void> {
    const lsn = entries.lsns[entry] as Lsn;
    const block = entries.blocks[entry];
    const { timeline } = this.#attached;
    if (lsn <= timeline.consistentLsn || !this.#isInRange(lsn) || space.d === FSM_FORKNUM) return;
    if (!isSampled(this.#rate, space.c, space.d, block, lsn)) return;
    const { type, test, index } = this.#restoreImage(entries, entry, space);
    await this.#judging(type, lsn, space, block, layer.name, async () => {
      const { signal } = this.#options;
      const page = await this.#stored.at(space, block, lsn - 1 as Lsn, signal);
      if (!isJudgeable(page, lsn)) return "incomparable";
      const judge = (page: Page) => this.#judge.compare(test, page, space.d, block, this.#record, index);
      const judgement = judge(page);
      if (typeof judgement !== "object") return judgement;
      if (!isPosition(judgement, test)) {
        const isHollow = await this.#stored.isHollowMap(space, block, lsn - 1 as Lsn, judgement, signal);
        return isHollow ? "incomparable" : judgement;
      }
      const marked = this.#judge.expected.lsn;
      const unstamped = await this.#stored.withoutHintStamps(space, block, page, marked, signal);
      return unstamped === undefined ? judgement : judge(unstamped);
    }, test === "position");
  }

  /** Restores a stored image; says how it is judged, and of which record it is. */
  #restoreImage(entries: DecodedBlock, entry: number, space: KeySpace): {
    type: string;
    test: ImageTest;
    index: number;
  } {
    const { bytes } = entries;
    const flags = entries.flags[entry];
    const lsn = entries.lsns[entry] as Lsn;
    const offset = entries.valueOffsets[entry];
    const record = this.#record;
    const place = this.#place;
    place.find(bytes, offset + HOLE_BYTES, entries.valueLengths[entry] - HOLE_BYTES, flags, lsn, record);
    restoreImageBytes(
      bytes,
      place.offset,
      place.length,
      (flags & VALUE_COMPRESSION_MASK) >> VALUE_COMPRESSION_SHIFT,
      getU16(bytes, offset),
      getU16(bytes, offset + 2),
      this.#judge.expected,
      this.#attached.codecs.image,
      lsn,
    );
    if ((flags & VALUE_IMAGE_OF_HINT) !== 0) return { type: "XLOG/FPI_FOR_HINT", test: "before", index: -1 };
    if (place.recordOffset < 0) return { type: "XLOG/FPI", test: "position", index: -1 };
    record.decode(bytes, place.recordOffset, lsn);
    const index = findBlock(record, space, entries.blocks[entry]);
    const type = fullRecordTypeName(record.profile, record.rmid, record.info);
    return { type, test: index < 0 ? "position" : testOfRecord(record, index), index };
  }

  /** A page of an image layer: of the base backup, or as compaction has made it. */
  async #judgeStoredPage(
    layer: LayerDescriptor,
    entries: DecodedBlock,
    entry: number,
    space: KeySpace,
  ): Promise<void> {
    const lsn = entries.lsns[entry] as Lsn;
    const block = entries.blocks[entry];
    const { timeline } = this.#attached;
    if (!this.#isInRange(lsn)) return;
    const at = entries.valueOffsets[entry];
    if (lsn <= timeline.startLsn) {
      // Written while the backup ran, it may be torn: PostgreSQL's image in WAL puts that right.
      const page = this.#backupPage;
      page.u8.set(entries.bytes.subarray(at, at + page.u8.length));
      if (!timeline.facts.dataChecksums || page.lsn >= timeline.startLsn) return;
      await this.#judging(BACKUP_PAGE, lsn, space, block, layer.name, () => {
        checkPageHeader(page, lsn);
        checkPageChecksum(page, block, lsn);
        return Promise.resolve("equal" as const);
      });
    } else if (layer.kind === "image" && this.#replayed !== undefined) {
      const replayed = this.#replayed;
      if (!isSampled(this.#rate, space.c, space.d, block, lsn)) return;
      await this.#judging(LAYER_IMAGE, lsn, space, block, layer.name, async () => {
        const page = await replayed.at(space, block, lsn, this.#options.signal);
        if (page === undefined) {
          throw new CorruptionError("The layer has a page that does not exist", { lsn });
        }
        return compareWhole(page, Page.from(entries.bytes.subarray(at, at + BLCKSZ)));
      });
    }
  }

  /** What exists at the range's end; nothing if a layer is damaged that would tell. */
  async #listSizes(family: number): Promise<SpaceSize[]> {
    try {
      return await this.#attached.reader.listSizes(family, this.#to, { signal: this.#options.signal });
    } catch (error) {
      if (!(error instanceof CorruptionError || error instanceof NotFoundError)) throw error;
      const what = family === FAMILY_RELATION ? REBUILT_PAGE : REBUILT_SLRU_PAGE;
      const message = `No page can be rebuilt: ${error.message}`;
      this.report.add({ lsn: this.#to, type: what, record: "", block: "all", message });
      return [];
    }
  }

  async #verifyPages(sizes: readonly SpaceSize[]): Promise<void> {
    const { reader } = this.#attached;
    const { signal } = this.#options;
    const lsn = this.#to;
    let group: Promise<void>[] = [];
    for (const { space, blocks = 0 } of sizes) {
      const relation = { spc: space.a, db: space.b, rel: space.c };
      for (let block = 0; block < blocks; block++) {
        if (!isSampled(this.#rate, space.c, space.d, block, lsn)) continue;
        group.push(this.#judging(REBUILT_PAGE, lsn, space, block, "", async () => {
          checkPageHeader(
            Page.from(await reader.getPage(relation, space.d, block, lsn, { signal, blocks })),
            lsn,
          );
          return "equal";
        }));
        if (group.length < PAGES_AT_ONCE) continue;
        await Promise.all(group);
        group = [];
        this.#options.onProgress?.(this.progress);
      }
    }
    await Promise.all(group);
  }

  async #verifySlruPages(sizes: readonly SpaceSize[]): Promise<void> {
    const { reader } = this.#attached;
    const { signal } = this.#options;
    const lsn = this.#to;
    for (const { space, blocks = 0 } of sizes) {
      for (let block = 0; block < blocks; block++) {
        if (!isSampled(this.#rate, space.c, space.a, block, lsn)) continue;
        await this.#judging(REBUILT_SLRU_PAGE, lsn, space, block, "", async () => {
          const pageno = space.c * SLRU_PAGES_PER_SEGMENT + block;
          await reader.getSlruPage(space.a as SlruKind, pageno, lsn, { signal });
          return "equal";
        });
      }
    }
  }

  /** Runs one comparison, counts it, and notes what it has found. */
  async #judging(
    type: string,
    lsn: Lsn,
    space: KeySpace,
    block: number,
    where: string,
    judge: () => Promise<Judgement>,
    byPosition = false,
  ): Promise<void> {
    const counts = this.report.counts(type);
    try {
      const judgement = await judge();
      if (judgement === "incomparable") return;
      counts.records++;
      if (byPosition) counts.positions++;
      else counts.pages++;
      this.progress.pages++;
      if (judgement !== "equal") this.#addDifference(type, lsn, space, block, where, judgement);
    } catch (error) {
      if (error instanceof UnsupportedError) counts.unsupported++;
      else if (error instanceof LsnCollectedError) counts.unread++;
      else this.#addError(error, type, lsn, space, block, where);
    }
  }

  #addDifference(
    type: string,
    lsn: Lsn,
    space: KeySpace,
    block: number,
    where: string,
    difference: PageDifference,
  ): void {
    const message = describeDifference(difference, type === LAYER_IMAGE ? "after" : "before");
    this.report.add({
      lsn,
      type,
      record: where,
      block: describeKey({ ...space, block }),
      message,
      ...difference,
    });
  }

  #addError(error: unknown, type: string, lsn: Lsn, space: KeySpace, block: number, where: string): void {
    if (!(error instanceof CorruptionError || error instanceof NotFoundError)) throw error;
    this.report.add({
      lsn,
      type,
      record: where,
      block: describeKey({ ...space, block }),
      message: error.message,
    });
  }

  #isInRange(lsn: Lsn): boolean {
    return lsn >= this.#from && lsn <= this.#to;
  }
}

/** Reads the same timeline from its deltas and the base backup alone. */
function readerWithoutImages({ timeline, files, codecs, manifest }: AttachedTimeline): TimelineReader {
  const deltas = timeline.layers.layers().filter((layer) => layer.kind === "delta" || !layer.complete);
  const without = new Timeline({
    name: timeline.name,
    facts: timeline.facts,
    tli: manifest.tli,
    startLsn: timeline.startLsn,
    consistentLsn: timeline.consistentLsn,
    diskConsistentLsn: timeline.lastRecordLsn,
    layers: LayerMap.of(deltas),
  });
  return new TimelineReader(without, new LayerFetcher({ files, codecs: codecs.block }), codecs.image);
}
