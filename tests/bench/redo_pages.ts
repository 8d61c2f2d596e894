/**
 * All pages of a data set in memory, and all records of its WAL applied to them: what the bench of redo measures.
 *
 * Records are filed under the pages that they change (redo_window.ts) and replayed page after page, each page's in the
 * order of WAL, once a stretch of WAL is complete. A page that is in the processor's cache anyway, and has nothing filed, is
 * changed at once. The status of transactions is set at once, too: it is one page for 32,768 of them.
 *
 * Pages lie in an arena; those that WAL does not make anew are read from the base directory when they are first touched.
 *
 * @module
 */
import { getU32 } from "../../src/bytes/little_endian.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { EffectSink } from "../../src/postgres/effects/effect_sink.ts";
import { heapVisibilityEffects } from "../../src/postgres/effects/heap_visibility.ts";
import {
  FSM_FORKNUM,
  managerOfPage,
  maskPage,
  VISIBILITYMAP_FORKNUM,
} from "../../src/postgres/page/masks.ts";
import { BLCKSZ, Page } from "../../src/postgres/page/page.ts";
import { CLOG_XACTS_PER_PAGE, SLRU_XACT } from "../../src/postgres/page/slru.ts";
import { mapBlockCutByTruncate, mapBlocksAfterTruncate } from "../../src/postgres/page/visibility_map.ts";
import { finishGistSplit, gistImageNeedsRedo } from "../../src/postgres/redo/gist/gist.ts";
import { type RedoContext, redoRecord, type RedoTarget } from "../../src/postgres/redo/registry.ts";
import { redoSlruPage } from "../../src/postgres/redo/slru.ts";
import { restoreImage } from "../../src/postgres/wal/block_image.ts";
import { DecodedRecord } from "../../src/postgres/wal/record.ts";
import type { RecordBatch } from "../../src/postgres/wal/record_batch.ts";
import { RM_DBASE_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_SMGR_ID, RM_XACT_ID } from "../../src/postgres/wal/rmgr.ts";
import { RedoWindow } from "./redo_window.ts";
import type { WalCorpus } from "./wal_corpus.ts";

const XLOG_SMGR_TRUNCATE = 0x20;
const XLOG_XACT_OPMASK = 0x70;
const XLOG_XACT_COMMIT = 0x00;
const XLOG_XACT_ABORT = 0x20;

const FORK_SUFFIXES = ["", "_fsm", "_vm", "_init"];
const ARENA_PAGES = 2048;
/** Places for forks that were used last; a power of two. */
const RECENT = 64;
const NO_PAGE = -1;
/** References whose records and pages are brought into the cache side by side. */
const GROUP = 128;

function forkPath(dataDir: string, db: number, rel: number, number: number): string {
  const folder = db === 0 ? "global" : `base/${db}`;
  return `${dataDir}/${folder}/${rel}${FORK_SUFFIXES[number]}`;
}

/** One fork of a relation. */
class Fork {
  /** Numbers of its pages; NO_PAGE: not touched so far. */
  readonly pages: number[] = [];
  readonly file: Deno.FsFile | undefined;
  /** Blocks of the file that still count. */
  fileBlocks: number;

  constructor(baseDir: string, readonly db: number, readonly rel: number, readonly number: number) {
    try {
      this.file = Deno.openSync(forkPath(baseDir, db, rel, number));
      this.fileBlocks = this.file.statSync().size / BLCKSZ;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      this.fileBlocks = 0;
    }
  }

  exists(block: number): boolean {
    return block < this.fileBlocks || block < this.pages.length;
  }
}

export class RedoPages {
  /** Pages edited by redo, restored from images, and left as they were. */
  replayed = 0;
  restored = 0;
  skipped = 0;
  readonly #baseDir: string;
  /** Every page that was touched, where it belongs; by number. */
  readonly #pages: Page[] = [];
  readonly #forkNumbers: number[] = [];
  readonly #blocks: number[] = [];
  readonly #window = new RedoWindow();
  /** What the records of the window lie in. */
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #words: Int32Array = new Int32Array(0);
  /** Only there so that no compiler leaves out the reads it comes from. */
  sum = 0;
  readonly #warmed: Uint32Array[] = [];
  /** One that is filed, and one that is replayed. */
  readonly #filed: DecodedRecord;
  readonly #record: DecodedRecord;
  readonly #context: RedoContext;
  readonly #target: RedoTarget = { blockIndex: 0, fork: 0, block: 0 };
  /** By database and relation, fork in the low bits: what one database of a bench needs. */
  readonly #forks = new Map<number, Fork>();
  /** Forks used last, at a place that their numbers give. */
  readonly #recent: (Fork | undefined)[] = new Array(RECENT).fill(undefined);
  readonly #arenas: ArrayBuffer[] = [];
  #arenaUsed = ARENA_PAGES;
  readonly #xactPages: Uint8Array[] = [];
  readonly #sink: EffectSink;

  constructor(corpus: WalCorpus) {
    this.#baseDir = corpus.baseDir;
    this.#filed = new DecodedRecord(corpus.profile);
    this.#record = new DecodedRecord(corpus.profile);
    this.#context = { hintBitsLogged: corpus.hintBitsLogged };
    const touchBlock = this.#touchBlock.bind(this);
    this.#sink = { touchBlock } as unknown as EffectSink;
  }

  /** Takes a batch, made in a {@linkcode WindowArena}: files its records, after those of the last window were replayed. */
  apply(batch: RecordBatch): void {
    const { offsets, endLsns, count } = batch;
    const buffer = batch.bytes.buffer as ArrayBuffer;
    if (buffer !== this.#bytes.buffer) {
      this.finish();
      this.#bytes = new Uint8Array(buffer);
      this.#words = new Int32Array(buffer);
      this.#window.begin(batch.startLsn);
    }
    const record = this.#filed;
    for (let index = 0; index < count; index++) {
      record.decode(this.#bytes, batch.bytes.byteOffset + offsets[index], endLsns[index] as Lsn);
      if (record.rmid === RM_SMGR_ID && record.opInfo === XLOG_SMGR_TRUNCATE) this.#truncate();
      else this.#file();
    }
  }

  /** Replays what is filed. */
  finish(): void {
    const window = this.#window;
    window.sort();
    const { length } = window;
    for (let at = 0; at < length; at += GROUP) {
      const end = Math.min(at + GROUP, length);
      this.#warm(at, end);
      for (let reference = at; reference < end; reference++) this.#replay(reference);
    }
    window.begin(this.#filed.endLsn);
  }

  /** Brings records and pages into the processor's cache side by side, so that redo does not wait for one after another. */
  #warm(first: number, end: number): void {
    const [window, words, pages] = [this.#window, this.#words, this.#pages];
    let sum = 0;
    let count = 0;
    for (let reference = first, last = -1; reference < end; reference++) {
      const word = window.recordAt(reference) >> 2;
      sum ^= words[word] ^ words[word + 16];
      const page = window.page(reference);
      if (page === last) continue;
      last = page;
      sum ^= (this.#warmed[count++] = pages[page].u32)[0];
    }
    for (let index = 0; index < count; index++) {
      const u32 = this.#warmed[index];
      // Where the new line pointer, the new tuple and the special space are.
      const pointers = u32[3];
      sum ^= u32[pointers >>> 2 & 2047] ^ u32[pointers >>> 18 & 2047] ^ u32[2047];
    }
    this.sum ^= sum;
  }

  #file(): void {
    const record = this.#filed;
    const { rmid } = record;
    for (let index = 0; index < record.blockCount; index++) {
      const fork = this.#fork(record.blockDb[index], record.blockRel[index], record.blockFork[index]);
      const page = fork.pages[record.blockNumber[index]];
      if (page !== undefined && page !== NO_PAGE && this.#window.isAtHand(page)) {
        this.#redo(record, index, page);
      } else this.#fileUnder(fork, index);
    }
    // What the record does to pages that it does not name.
    if (rmid === RM_HEAP_ID || rmid === RM_HEAP2_ID) heapVisibilityEffects(record, this.#sink);
    else if (rmid === RM_XACT_ID) {
      const op = record.info & XLOG_XACT_OPMASK;
      if (op === XLOG_XACT_COMMIT || op === XLOG_XACT_ABORT) this.#endTransaction();
    } else if (rmid === RM_DBASE_ID) throw new Error("Cannot measure: the load creates or drops databases");
  }

  /** Files the record under a page that is not at hand; one that it makes anew is made at once. */
  #fileUnder(fork: Fork, index: number): void {
    const record = this.#filed;
    const isInitialised = record.willInit(index);
    const isWhole = isInitialised || record.imageApplies(index);
    const page = this.#pageOf(fork, record.blockNumber[index], isWhole);
    if (isInitialised && !this.#window.has(page)) {
      this.#redo(record, index, page);
      this.#window.touch(page);
    } else this.#window.add(page, record.start, index, record.endLsn, isWhole);
  }

  #replay(reference: number): void {
    const [window, record] = [this.#window, this.#record];
    record.decode(this.#bytes, window.recordAt(reference), window.endLsn(reference) as Lsn);
    this.#redo(record, window.blockIndex(reference), window.page(reference));
  }

  #redo(record: DecodedRecord, index: number, number: number): void {
    const page = this.#pages[number];
    if (index >= 0 && record.imageApplies(index)) {
      restoreImage(record, index, page);
      if (gistImageNeedsRedo(record, index)) finishGistSplit(page, record.endLsn);
      this.restored++;
      return;
    }
    if (record.endLsn <= page.lsn && (index < 0 || !record.willInit(index))) {
      this.skipped++;
      return;
    }
    const target = this.#target;
    target.fork = this.#forkNumbers[number];
    target.block = this.#blocks[number];
    target.blockIndex = index;
    redoRecord(page, record, target, this.#context);
    this.replayed++;
  }

  #touchBlock(_spc: number, db: number, rel: number, forkNumber: number, block: number): void {
    const fork = this.#fork(db, rel, forkNumber);
    if (!fork.exists(block)) return;
    const record = this.#filed;
    const page = this.#pageOf(fork, block, false);
    if (this.#window.isAtHand(page)) this.#redo(record, -1, page);
    else this.#window.add(page, record.start, -1, record.endLsn, false);
  }

  /** The loads have no subtransactions, so that one page is all. */
  #endTransaction(): void {
    const pageno = Math.floor(this.#filed.xid / CLOG_XACTS_PER_PAGE);
    const page = this.#xactPages[pageno] ??= new Uint8Array(BLCKSZ);
    redoSlruPage(page, SLRU_XACT, pageno, this.#filed);
  }

  /** Pages that are cut off may be made anew: what was filed before is replayed first. */
  #truncate(): void {
    const { bytes, mainOffset } = this.#filed;
    const [blocks, spc, db, rel] = [0, 4, 8, 12].map((offset) => getU32(bytes, mainOffset + offset));
    this.finish();
    this.#cut(this.#fork(db, rel, 0), blocks);
    this.#cut(this.#fork(db, rel, VISIBILITYMAP_FORKNUM), mapBlocksAfterTruncate(blocks));
    const cut = mapBlockCutByTruncate(blocks);
    if (cut >= 0) this.#touchBlock(spc, db, rel, VISIBILITYMAP_FORKNUM, cut);
  }

  #cut(fork: Fork, blocks: number): void {
    fork.fileBlocks = Math.min(fork.fileBlocks, blocks);
    if (fork.pages.length > blocks) fork.pages.length = blocks;
  }

  #fork(db: number, rel: number, forkNumber: number): Fork {
    const place = (rel ^ forkNumber << 4) & (RECENT - 1);
    const recent = this.#recent[place];
    if (recent !== undefined && recent.rel === rel && recent.number === forkNumber && recent.db === db) {
      return recent;
    }
    const key = (db * 0x1_0000_0000 + rel) * 4 + forkNumber;
    let fork = this.#forks.get(key);
    if (fork === undefined) {
      fork = new Fork(this.#baseDir, db, rel, forkNumber);
      this.#forks.set(key, fork);
    }
    this.#recent[place] = fork;
    return fork;
  }

  #pageOf(fork: Fork, block: number, isWhole: boolean): number {
    const known = fork.pages[block];
    if (known !== undefined && known !== NO_PAGE) return known;
    if (this.#arenaUsed === ARENA_PAGES) {
      this.#arenas.push(new ArrayBuffer(ARENA_PAGES * BLCKSZ));
      this.#arenaUsed = 0;
    }
    const page = new Page(this.#arenas.at(-1), this.#arenaUsed++ * BLCKSZ);
    while (fork.pages.length < block) fork.pages.push(NO_PAGE);
    const number = fork.pages[block] = this.#pages.length;
    this.#pages.push(page);
    this.#forkNumbers.push(fork.number);
    this.#blocks.push(block);
    if (!isWhole && block < fork.fileBlocks) {
      fork.file!.seekSync(block * BLCKSZ, Deno.SeekMode.Start);
      fork.file!.readSync(page.u8);
    } else {
      // Memory that is read before it is written costs two faults.
      page.u32[0] = page.u32[1024] = 0;
    }
    return number;
  }

  /**
   * Compares every page with that of a data directory after recovery, masked as PostgreSQL does when it checks redo; free
   * space maps are not logged and left out. Spoils the pages.
   *
   * @returns How many pages were compared.
   * @throws {Error} If one differs.
   */
  compareWith(dataDir: string): number {
    let compared = 0;
    const theirs = new Page();
    for (const { db, rel, number, pages } of this.#forks.values()) {
      if (number === FSM_FORKNUM || pages.length === 0) continue;
      const path = forkPath(dataDir, db, rel, number);
      using file = Deno.openSync(path);
      for (const [block, page] of pages.entries()) {
        if (page === NO_PAGE) continue;
        file.seekSync(block * BLCKSZ, Deno.SeekMode.Start);
        if (file.readSync(theirs.u8) !== BLCKSZ) {
          throw new Error(`Cannot measure: ${path} has no block ${block}`);
        }
        const ours = this.#pages[page];
        const manager = managerOfPage(theirs, block);
        const isSame = ours.lsn === theirs.lsn;
        maskPage(ours, manager, number, block);
        maskPage(theirs, manager, number, block);
        if (!isSame || ours.u32.some((word, index) => word !== theirs.u32[index])) {
          throw new Error(`Cannot measure: block ${block} of ${path} is not what PostgreSQL made it`);
        }
        compared++;
      }
    }
    return compared;
  }

  /** Gives all memory back at once; a garbage collector would while the next replay is timed. */
  close(): void {
    for (const arena of this.#arenas) arena.transfer(0);
    for (const fork of this.#forks.values()) fork.file?.close();
  }
}
