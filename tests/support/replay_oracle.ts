/**
 * The judge of redo: replays all WAL that a server wrote, and compares every page with what PostgreSQL says it must be.
 *
 * Oracle 1: with `wal_consistency_checking = all` each record carries images of its pages as they are after it.
 * Oracle 2: the image of an XLOG_FPI_FOR_HINT is the page as it was, hint bits aside.
 * Both compare after PostgreSQL's own masking (src/postgres/page/masks.ts).
 *
 * A page on which redo failed or differs is replaced by PostgreSQL's, so that one mistake is reported once.
 *
 * @module
 */
import { alignLsn, formatLsn, type Lsn } from "../../src/lsn.ts";
import { fsmBlockCutByTruncate } from "../../src/postgres/page/free_space_map.ts";
import {
  FSM_FORKNUM,
  managerOfPage,
  maskPage,
  VISIBILITYMAP_FORKNUM,
} from "../../src/postgres/page/masks.ts";
import { BLCKSZ, Page, SizeOfPageHeaderData } from "../../src/postgres/page/page.ts";
import { mapBlockCutByTruncate, mapBlocksAfterTruncate } from "../../src/postgres/page/visibility_map.ts";
import { getU32 } from "../../src/bytes/little_endian.ts";
import { UnsupportedError } from "../../src/errors.ts";
import { heapVisibilityEffects } from "../../src/postgres/effects/heap_visibility.ts";
import type { EffectSink } from "../../src/postgres/effects/effect_sink.ts";
import { finishGistSplit, gistImageNeedsRedo } from "../../src/postgres/redo/gist/gist.ts";
import { canRedo, type RedoContext, redoRecord, type RedoTarget } from "../../src/postgres/redo/registry.ts";
import type { VersionProfile } from "../../src/postgres/versions/profile.ts";
import { type ImageCodecs, restoreImage } from "../../src/postgres/wal/block_image.ts";
import { describeBlock, describeRecord, fullRecordTypeName } from "../../src/postgres/wal/describe.ts";
import { DecodedRecord } from "../../src/postgres/wal/record.ts";
import { RM_DBASE_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_SMGR_ID, RM_XLOG_ID } from "../../src/postgres/wal/rmgr.ts";
import { ReplayPages } from "./replay_pages.ts";
import { openWalDirectory, profileOfDataDirectory, readControlPoints, readRecords } from "./wal_files.ts";

export interface JudgeOptions {
  /** Directory with the WAL segments. */
  walDir: string;
  /**
   * The data directory as it was before the WAL in question, at rest. Its pg_control says where replay begins, and its
   * files what pages were like. Without it `startLsn` and `profile` must be given, and all relations begin empty.
   */
  baseDir?: string;
  profile?: VersionProfile;
  startLsn?: Lsn;
  /** Data checksums or wal_log_hints. */
  hintBitsLogged: boolean;
  codecs?: ImageCodecs;
  /** Differences kept per record type. Default: 3. */
  keep?: number;
  /** Sees each record and page before redo edits the page; may keep copies, must change neither. */
  beforeRedo?: (page: Page, record: DecodedRecord, target: RedoTarget) => void;
  /** Sees each record before anything is done with it; may keep copies, must not change it. */
  onRecord?: (record: DecodedRecord) => void;
}

/** One page that is not as it must be, or on which redo failed. */
export interface Difference {
  type: string;
  lsn: Lsn;
  record: string;
  block: string;
  /** What went wrong: an error of redo, or where the pages differ. */
  what: string;
  /** Hex of both pages around the first difference, masked; empty for errors. */
  dump: string;
  /** The pages as they were before masking, for a closer look. */
  got: Uint8Array;
  expected: Uint8Array;
}

/** Counts for one record type. */
export interface TypeCounts {
  records: number;
  /** Block references, implicit ones included. */
  blocks: number;
  /** Replayed by redo. */
  replayed: number;
  /** Restored from an image that applies. */
  images: number;
  /** Skipped because the page has the record already. */
  skipped: number;
  /** Compared with an image. */
  compared: number;
  different: number;
  /** Visibility map pages that lack bits of the image's because the image that they were made of did. */
  fewerBits: number;
  errors: number;
  /** No redo for this record. */
  unsupported: number;
}

export class Verdict {
  /** All pages that the WAL touched, as they are at its end. */
  pages?: ReplayPages;
  readonly types = new Map<string, TypeCounts>();
  readonly differences: Difference[] = [];
  records = 0;
  endLsn = 0 as Lsn;

  counts(type: string): TypeCounts {
    let found = this.types.get(type);
    if (found === undefined) {
      const fields = [
        "records",
        "blocks",
        "replayed",
        "images",
        "skipped",
        "compared",
        "different",
        "fewerBits",
        "errors",
        "unsupported",
      ];
      found = Object.fromEntries(fields.map((field) => [field, 0])) as unknown as TypeCounts;
      this.types.set(type, found);
    }
    return found;
  }

  /** The sum of a column over record types whose name starts with `prefix`. */
  total(column: keyof TypeCounts, prefix = ""): number {
    let sum = 0;
    for (const [type, counts] of this.types) if (type.startsWith(prefix)) sum += counts[column];
    return sum;
  }

  /** The table and the differences, for people; only record types whose name starts with `prefix`. */
  report(prefix = ""): string {
    const columns = [
      "records",
      "blocks",
      "replayed",
      "images",
      "skipped",
      "compared",
      "different",
      "fewerBits",
      "errors",
      "unsupported",
    ] as const;
    const lines = ["type".padEnd(32) + columns.map((column) => column.padStart(12)).join("")];
    const row = (name: string, values: number[]) =>
      name.padEnd(32) + values.map((value) => String(value).padStart(12)).join("");
    for (const type of [...this.types.keys()].sort()) {
      if (!type.startsWith(prefix)) continue;
      const counts = this.types.get(type)!;
      lines.push(row(type, columns.map((column) => counts[column])));
    }
    lines.push(row("total", columns.map((column) => this.total(column, prefix))));
    for (const difference of this.differences) {
      if (difference.type.startsWith(prefix)) lines.push("", formatDifference(difference));
    }
    return lines.join("\n");
  }
}

/**
 * Replays and compares. Reads nothing but the two directories, changes neither.
 *
 * @throws {CorruptionError} If the WAL itself cannot be decoded. What redo throws is part of the verdict.
 */
export function judgeRedo(options: JudgeOptions): Verdict {
  const wal = openWalDirectory(options.walDir);
  const profile = options.profile ?? profileOfDataDirectory(given(options.baseDir, "baseDir"));
  const startLsn = options.startLsn ?? readControlPoints(given(options.baseDir, "baseDir")).redoLsn;
  const judge = new Judge(profile, options);
  for (const batch of readRecords(wal, startLsn, profile)) {
    for (let index = 0; index < batch.count; index++) {
      judge.record.decode(batch.bytes, batch.offsets[index], batch.endLsns[index] as Lsn);
      judge.replay();
    }
  }
  return judge.verdict;
}

function given<T>(value: T | undefined, name: string): T {
  if (value === undefined) {
    throw new TypeError(`Cannot judge redo: neither ${name} nor what it stands for was given`);
  }
  return value;
}

class Judge {
  readonly verdict = new Verdict();
  readonly record: DecodedRecord;
  readonly #pages: ReplayPages;
  readonly #context: RedoContext;
  readonly #codecs: ImageCodecs;
  readonly #keep: number;
  readonly #beforeRedo: JudgeOptions["beforeRedo"];
  readonly #onRecord: JudgeOptions["onRecord"];
  readonly #target: RedoTarget = { blockIndex: 0, fork: 0, block: 0 };
  readonly #expected = new Page();
  readonly #masked = new Page();
  readonly #expectedMasked = new Page();
  readonly #kept = new Map<string, number>();
  readonly #touched: [number, number, number, number, number][] = [];
  /**
   * Visibility map pages made of an image whose hole is where their bits are: CREATE DATABASE with the WAL log strategy
   * writes those (`RelationCopyStorageUsingBuffer`). Any redo of them loses the bits, PostgreSQL's own included, which is
   * harmless: a bit that is not set is always safe.
   */
  readonly #emptiedMaps = new WeakSet<Page>();

  constructor(profile: VersionProfile, options: JudgeOptions) {
    this.record = new DecodedRecord(profile);
    this.#pages = new ReplayPages(options.baseDir);
    this.#context = { hintBitsLogged: options.hintBitsLogged };
    this.#codecs = options.codecs ?? {};
    this.#keep = options.keep ?? 3;
    this.#beforeRedo = options.beforeRedo;
    this.#onRecord = options.onRecord;
    this.verdict.pages = this.#pages;
  }

  replay(): void {
    const { record, verdict } = this;
    const type = fullRecordTypeName(record.profile, record.rmid, record.info);
    const counts = verdict.counts(type);
    counts.records++;
    verdict.records++;
    verdict.endLsn = alignLsn(record.endLsn);
    this.#onRecord?.(record);
    for (let index = 0; index < record.blockCount; index++) this.#replayBlock(type, counts, index);
    this.#replayEffects(type, counts);
  }

  #replayBlock(type: string, counts: TypeCounts, index: number): void {
    const { record } = this;
    counts.blocks++;
    const [fork, block] = [record.blockFork[index], record.blockNumber[index]];
    const existed = this.#pages.exists(
      record.blockSpc[index],
      record.blockDb[index],
      record.blockRel[index],
      fork,
      block,
    );
    const page = this.#pages.get(
      record.blockSpc[index],
      record.blockDb[index],
      record.blockRel[index],
      fork,
      block,
    );
    if (record.imageApplies(index)) {
      counts.images++;
      restoreImage(record, index, this.#expected, this.#codecs);
      const isHint = record.rmid === RM_XLOG_ID && record.opInfo === XLOG_FPI_FOR_HINT;
      if (isHint && existed && fork !== FSM_FORKNUM && !page.isNew()) {
        this.#compare(type, counts, page, managerOfPage(page, block), fork, block, index);
      }
      page.u8.set(this.#expected.u8);
      const isEmptied = record.rmid === RM_XLOG_ID &&
        record.holeLength[index] === BLCKSZ - SizeOfPageHeaderData;
      if (isEmptied && fork === VISIBILITYMAP_FORKNUM) this.#emptiedMaps.add(page);
      if (gistImageNeedsRedo(record, index)) finishGistSplit(page, record.endLsn);
      return;
    }
    if (!record.willInit(index) && record.endLsn <= page.lsn) {
      counts.skipped++;
      return;
    }
    const replayed = this.#redo(type, counts, page, index, fork, block);
    if (!record.hasImage(index)) return;
    restoreImage(record, index, this.#expected, this.#codecs);
    const matches = replayed && this.#compare(type, counts, page, record.rmid, fork, block, index);
    if (!matches) {
      page.u8.set(this.#expected.u8);
      this.#emptiedMaps.delete(page);
    }
  }

  /** Runs redo; a failure leaves a note, and the page as redo left it. */
  #redo(type: string, counts: TypeCounts, page: Page, index: number, fork: number, block: number): boolean {
    if (!canRedo(this.record.rmid)) {
      counts.unsupported++;
      return false;
    }
    this.#target.blockIndex = index;
    this.#target.fork = fork;
    this.#target.block = block;
    this.#beforeRedo?.(page, this.record, this.#target);
    try {
      redoRecord(page, this.record, this.#target, this.#context);
      counts.replayed++;
      return true;
    } catch (error) {
      if (error instanceof UnsupportedError) counts.unsupported++;
      else counts.errors++;
      const what = error instanceof Error ? `${error.name}: ${error.message}\n${error.stack}` : String(error);
      this.#keepDifference(type, index, what, "", page, page);
      return false;
    }
  }

  /** Compares `page` with `#expected`, both masked. */
  #compare(
    type: string,
    counts: TypeCounts,
    page: Page,
    rmid: number,
    fork: number,
    block: number,
    index: number,
  ): boolean {
    counts.compared++;
    this.#masked.u8.set(page.u8);
    this.#expectedMasked.u8.set(this.#expected.u8);
    try {
      maskPage(this.#expectedMasked, rmid, fork, block);
      maskPage(this.#masked, rmid, fork, block);
    } catch (error) {
      counts.different++;
      this.#keepDifference(type, index, `Masking failed: ${String(error)}`, "", page, this.#expected);
      return false;
    }
    const [a, b] = [this.#masked.u32, this.#expectedMasked.u32];
    for (let word = 0; word < a.length; word++) {
      if (a[word] === b[word]) continue;
      if (this.#emptiedMaps.has(page) && isSubset(this.#masked, this.#expectedMasked)) {
        counts.fewerBits++;
        return false;
      }
      let offset = word * 4;
      while (this.#masked.u8[offset] === this.#expectedMasked.u8[offset]) offset++;
      counts.different++;
      const { what, dump } = describeDifference(this.#masked, this.#expectedMasked, offset);
      this.#keepDifference(type, index, what, dump, page, this.#expected);
      return false;
    }
    return true;
  }

  #keepDifference(type: string, index: number, what: string, dump: string, got: Page, expected: Page): void {
    const kept = this.#kept.get(type) ?? 0;
    this.#kept.set(type, kept + 1);
    if (kept >= this.#keep) return;
    const { record } = this;
    this.verdict.differences.push({
      type,
      lsn: record.endLsn,
      record: describeRecord(record),
      block: index >= 0
        ? describeBlock(record, index)
        : `implicit fork ${this.#target.fork} blk ${this.#target.block}`,
      what,
      dump,
      got: got.u8.slice(),
      expected: expected.u8.slice(),
    });
  }

  /** What the record does to pages that it does not name. */
  #replayEffects(type: string, counts: TypeCounts): void {
    const { record } = this;
    if (record.rmid === RM_HEAP_ID || record.rmid === RM_HEAP2_ID) {
      heapVisibilityEffects(record, this as unknown as EffectSink);
    } else if (record.rmid === RM_SMGR_ID && record.opInfo === XLOG_SMGR_TRUNCATE) this.#truncate();
    else if (record.rmid === RM_DBASE_ID && record.opInfo === record.profile.dbase.createFileCopy) {
      this.#copyDatabase();
    }
    for (const [spc, db, rel, fork, block] of this.#touched) {
      if (!this.#pages.exists(spc, db, rel, fork, block)) continue;
      counts.blocks++;
      const page = this.#pages.get(spc, db, rel, fork, block);
      if (record.endLsn <= page.lsn) counts.skipped++;
      else this.#redo(type, counts, page, -1, fork, block);
    }
    this.#touched.length = 0;
  }

  touchBlock(spc: number, db: number, rel: number, fork: number, block: number): void {
    this.#touched.push([spc, db, rel, fork, block]);
  }

  /** xl_smgr_truncate: blkno 4, spc 4, db 4, rel 4, flags 4 */
  #truncate(): void {
    const { bytes, mainOffset } = this.record;
    const [blocks, spc, db, rel, flags] = [0, 4, 8, 12, 16].map((offset) =>
      getU32(bytes, mainOffset + offset)
    );
    if ((flags & 1) !== 0) this.#pages.truncate(spc, db, rel, 0, blocks);
    if ((flags & 2) !== 0) {
      this.#pages.truncate(spc, db, rel, VISIBILITYMAP_FORKNUM, mapBlocksAfterTruncate(blocks));
      const cut = mapBlockCutByTruncate(blocks);
      if (cut >= 0) this.touchBlock(spc, db, rel, VISIBILITYMAP_FORKNUM, cut);
    }
    if ((flags & 4) !== 0) {
      const cut = fsmBlockCutByTruncate(blocks);
      if (cut >= 0) this.touchBlock(spc, db, rel, FSM_FORKNUM, cut);
    }
  }

  /** xl_dbase_create_file_copy_rec: db 4, spc 4, source db 4, source spc 4 */
  #copyDatabase(): void {
    const { bytes, mainOffset } = this.record;
    const [db, spc, sourceDb, sourceSpc] = [0, 4, 8, 12].map((offset) => getU32(bytes, mainOffset + offset));
    this.#pages.copyDatabase(spc, db, sourceSpc, sourceDb);
  }
}

const XLOG_FPI_FOR_HINT = 0xa0;
const XLOG_SMGR_TRUNCATE = 0x20;

/** Whether no bit is set in `left` that is not in `right`. */
function isSubset(left: Page, right: Page): boolean {
  return left.u32.every((word, index) => (word & ~right.u32[index]) === 0);
}

function describeDifference(got: Page, expected: Page, offset: number): { what: string; dump: string } {
  let count = 0;
  for (let at = 0; at < got.u8.length; at++) if (got.u8[at] !== expected.u8[at]) count++;
  const what = `first of ${count} differing bytes at offset ${offset} (${placeOnPage(expected, offset)}): ` +
    `got 0x${got.u8[offset].toString(16)}, expected 0x${expected.u8[offset].toString(16)}; ` +
    `headers: got ${describeHeader(got)}, expected ${describeHeader(expected)}`;
  const from = Math.max(0, (offset & ~15) - 32);
  return { what, dump: `got:\n${hexDump(got.u8, from, 112)}\nexpected:\n${hexDump(expected.u8, from, 112)}` };
}

function describeHeader(page: Page): string {
  return `flags ${page.flags} lower ${page.lower} upper ${page.upper} special ${page.special} items ${page.maxOffsetNumber()}`;
}

/** In which part of the page a byte lies. */
function placeOnPage(page: Page, offset: number): string {
  if (offset < 24) return "page header";
  if (offset < page.lower) return `line pointer ${((offset - 24) >> 2) + 1}`;
  if (offset >= page.special) return `special space + ${offset - page.special}`;
  for (let offnum = 1; offnum <= page.maxOffsetNumber(); offnum++) {
    const at = page.itemOffset(offnum);
    if (offset >= at && offset < at + page.itemLength(offnum)) return `item ${offnum} + ${offset - at}`;
  }
  return "between items";
}

/** Lines of 16 bytes with their offset. */
export function hexDump(bytes: Uint8Array, from: number, length: number): string {
  const lines: string[] = [];
  for (let at = from; at < Math.min(from + length, bytes.length); at += 16) {
    const part = Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, "0")).join(
      " ",
    );
    lines.push(`  ${String(at).padStart(5)}: ${part}`);
  }
  return lines.join("\n");
}

function formatDifference(difference: Difference): string {
  return `--- ${difference.type} at ${
    formatLsn(difference.lsn)
  }, ${difference.block}\n${difference.record}\n${difference.what}` +
    (difference.dump === "" ? "" : `\n${difference.dump}`);
}
