/**
 * Verification beside the write path: every image in WAL, or a sample of them, against what redo makes of what was stored.
 *
 * A stage between decode and ingest hands each batch on at once and judges it when the sink has taken it in: then the
 * timeline can be read just below and at each of its records, through the same reader and redo that serve every other
 * read, however far following has got meanwhile. What images are and how they are judged: verify_images.ts.
 *
 * With a rate of 1 the write path waits for the judge, two batches behind it at most, and nothing is left out. With a
 * lower rate it does not wait for reads: a batch that comes while 32 MiB wait to be judged passes unjudged and is counted. Which images belong to the sample depends on page and LSN, so that in time every page's turn comes.
 *
 * @module
 */
import { CorruptionError, LsnCollectedError, UnavailableError, UnsupportedError } from "../errors.ts";
import { FAMILY_RELATION } from "../layer/key.ts";
import type { Lsn } from "../lsn.ts";
import { FSM_FORKNUM } from "../postgres/page/masks.ts";
import { Page } from "../postgres/page/page.ts";
import { type RedoFunction, redoRecord } from "../postgres/redo/registry.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { ImageCodecs } from "../postgres/wal/block_image.ts";
import { describeBlock, describeRecord, fullRecordTypeName } from "../postgres/wal/describe.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import {
  ImageJudge,
  type ImageTest,
  imageTest,
  isJudgeable,
  type Judgement,
  type PageDifference,
  SIZE_OF_LSN,
} from "./verify_images.ts";
import { PageSource } from "./verify_pages.ts";
import {
  type VerifyCounts,
  type VerifyDifference,
  VerifyReport,
  type VerifySummary,
} from "./verify_report.ts";

export interface VerifyOptions {
  /** Share of the images that is judged, above 0 and up to 1. Default: 1, all. */
  rate?: number;
  /** Whether the write path waits for the judge, so that nothing passes unjudged. Default: if the rate is 1. */
  waits?: boolean;
  /** Told of every difference, with both pages. */
  onDifference?(difference: VerifyDifference): void;
  /** For tests of verification itself: a redo that is wrong. */
  redo?: RedoFunction;
}

/** Batches that may wait to be judged when only a sample is. */
const WAITING_BYTES_MAX = 32 * 1024 * 1024;
/** Pages remembered when all images are judged: 64 MiB; and for a sample, which seldom meets a page twice. */
const PAGES_KEPT = 8192;
const SAMPLED_PAGES_KEPT = 256;

/** What verification has found in WAL. */
export interface WalVerifySummary extends VerifySummary {
  /** Bytes of WAL that passed unjudged because judging could not keep up. */
  readonly passedBytes: number;
}

/** See the module's description. */
export class WalVerifier {
  readonly report: VerifyReport;
  /** Bytes of WAL that passed unjudged because judging could not keep up. */
  passedBytes = 0;
  readonly #reader: TimelineReader;
  readonly #rate: number;
  readonly #waits: boolean;
  readonly #record: DecodedRecord;
  readonly #judge: ImageJudge;
  readonly #pages: PageSource;
  /** The batches before, judged one after the other. */
  #judged: Promise<void> = Promise.resolve();
  #waitingBytes = 0;
  #failure: { error: unknown } | undefined;

  constructor(reader: TimelineReader, codecs: ImageCodecs, options: VerifyOptions = {}) {
    const { rate = 1, waits = rate === 1, onDifference, redo = redoRecord } = options;
    if (!(rate > 0 && rate <= 1)) {
      throw new RangeError(`Cannot verify a share of ${rate}: expected more than 0, at most 1`);
    }
    const { facts } = reader.timeline;
    this.report = new VerifyReport(rate, onDifference);
    this.#reader = reader;
    this.#rate = rate;
    this.#waits = waits;
    this.#record = new DecodedRecord(profileOfMajor(facts.major));
    this.#judge = new ImageJudge({ hintBitsLogged: hintBitsLogged(facts) }, codecs, redo);
    this.#pages = new PageSource(reader, codecs, redo, rate === 1 ? PAGES_KEPT : SAMPLED_PAGES_KEPT);
  }

  /** The stage; to be used once. It ends when all that waited has been judged. */
  stage(signal?: AbortSignal): TransformStream<RecordBatch, RecordBatch> {
    return new TransformStream<RecordBatch, RecordBatch>({
      transform: async (batch, controller) => {
        this.#throwIfFailed();
        controller.enqueue(batch);
        if (!this.#waits && this.#waitingBytes > WAITING_BYTES_MAX) {
          this.passedBytes += batch.endLsn - batch.startLsn;
          return;
        }
        const before = this.#judged;
        this.#enqueue(batch, signal);
        if (this.#waits) await before;
      },
      flush: async () => {
        await this.#judged;
        this.#throwIfFailed();
      },
    });
  }

  /** What was found, as plain values; of the differences the first ones. */
  summary(differencesMax?: number): WalVerifySummary {
    return { ...this.report.summary(differencesMax), passedBytes: this.passedBytes };
  }

  /** What was found, for people. */
  format(): string {
    if (this.passedBytes === 0) return this.report.format();
    return this.report.format() +
      `${this.passedBytes} bytes of WAL passed unjudged: judging could not keep up\n`;
  }

  /** Judges the images of a batch that the timeline has taken in. */
  async judgeBatch(batch: RecordBatch, signal?: AbortSignal): Promise<void> {
    const record = this.#record;
    for (let index = 0; index < batch.count; index++) {
      const endLsn = batch.endLsns[index] as Lsn;
      record.decode(batch.bytes, batch.offsets[index], endLsn);
      if (record.blockCount === 0) continue;
      // Before the base backup's end pages are not right yet.
      if (endLsn > this.#reader.timeline.consistentLsn) await this.#judgeRecord(record, signal);
    }
    this.report.advance(batch.startLsn, batch.endLsn);
  }

  #enqueue(batch: RecordBatch, signal?: AbortSignal): void {
    const bytes = batch.bytes.length;
    this.#waitingBytes += bytes;
    this.#judged = this.#judged.then(async () => {
      try {
        if (this.#failure !== undefined) return;
        await this.#reader.timeline.waitForRecord(batch.endLsn, signal);
        await this.judgeBatch(batch, signal);
      } catch (error) {
        this.#failure ??= { error };
      } finally {
        this.#waitingBytes -= bytes;
      }
    });
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #judgeRecord(record: DecodedRecord, signal?: AbortSignal): Promise<void> {
    let counts: VerifyCounts | undefined;
    for (let index = 0; index < record.blockCount; index++) {
      if (record.imageLength[index] === 0 || record.blockFork[index] === FSM_FORKNUM) continue;
      if (!this.#isSampled(record, index)) continue;
      const type = fullRecordTypeName(record.profile, record.rmid, record.info);
      if (counts === undefined) (counts = this.report.counts(type)).records++;
      await this.#judgeBlock(record, index, type, counts, signal);
    }
  }

  async #judgeBlock(
    record: DecodedRecord,
    index: number,
    type: string,
    counts: VerifyCounts,
    signal?: AbortSignal,
  ): Promise<void> {
    const { endLsn } = record;
    const test = imageTest(record, index);
    const space = {
      family: FAMILY_RELATION,
      a: record.blockSpc[index],
      b: record.blockDb[index],
      c: record.blockRel[index],
      d: record.blockFork[index],
    };
    const block = record.blockNumber[index];
    try {
      const lsn = test === "after" ? endLsn : endLsn - 1 as Lsn;
      const page = await this.#pages.at(space, block, lsn, signal);
      if (test !== "after" && !isJudgeable(page, endLsn)) return;
      if (page === undefined) throw new CorruptionError("The block does not exist", { lsn });
      let judgement = this.#judge.judge(record, index, test, page);
      if (isPosition(judgement, test)) {
        const { lsn: marked } = Page.from(judgement.expectedPage);
        const unstamped = await this.#pages.withoutHintStamps(space, block, page, marked, signal);
        if (unstamped !== undefined) judgement = this.#judge.judge(record, index, test, unstamped);
      }
      if (
        typeof judgement === "object" && await this.#pages.isHollowMap(space, block, lsn, judgement, signal)
      ) {
        judgement = "incomparable";
      }
      if (judgement === "incomparable") return;
      if (test === "position") counts.positions++;
      else counts.pages++;
      if (judgement === "equal") return;
      this.#add(record, index, type, describeDifference(judgement, test), judgement);
      if (test === "after") {
        this.#pages.correct(space, block, endLsn, this.#judge.pageAfter(record, index));
      }
    } catch (error) {
      if (error instanceof UnsupportedError) counts.unsupported++;
      else if (error instanceof UnavailableError || error instanceof LsnCollectedError) counts.unread++;
      else if (error instanceof CorruptionError) this.#add(record, index, type, error.message);
      else throw error;
    }
  }

  #add(
    record: DecodedRecord,
    index: number,
    type: string,
    message: string,
    difference?: PageDifference,
  ): void {
    this.report.add({
      lsn: record.endLsn,
      type,
      record: describeRecord(record),
      block: describeBlock(record, index),
      message,
      ...difference,
    });
  }

  #isSampled({ blockRel, blockNumber, blockFork, endLsn }: DecodedRecord, index: number): boolean {
    return this.#rate === 1 ||
      isSampled(this.#rate, blockRel[index], blockFork[index], blockNumber[index], endLsn);
  }
}

/** Whether it is pd_lsn that differs: of pages compared byte by byte it is masked. */
export function isPosition(judgement: Judgement, test: ImageTest): judgement is PageDifference {
  return typeof judgement === "object" && test !== "after" && judgement.offset < SIZE_OF_LSN;
}

/** A difference in words. */
export function describeDifference(difference: PageDifference, test: ImageTest): string {
  const { offset, got, expected } = difference;
  const what = isPosition(difference, test)
    ? "a record of the page is lost, or is another page's: pd_lsn"
    : "the page";
  return `${what} differs first at offset ${offset}: redo has ${hex(got)}, PostgreSQL ${hex(expected)}`;
}

function hex(byte: number): string {
  return `0x${byte.toString(16).padStart(2, "0")}`;
}

/**
 * Whether what happened to a page at an LSN is one of the sample: by a hash of both, so that what was judged can be judged
 * again. The finalizer of MurmurHash3 spreads it.
 */
export function isSampled(rate: number, rel: number, fork: number, block: number, lsn: Lsn): boolean {
  let hash = rel ^ fork ^ Math.imul(block, 0x9e3779b1) ^ Math.imul(lsn / 8 | 0, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return (hash ^ hash >>> 16) >>> 0 < rate * 0x1_0000_0000;
}
