/**
 * All pages of a data set in memory, and all records of its WAL applied to them in order, as PostgreSQL's recovery does: what
 * the bench of redo measures.
 *
 * Pages lie in an arena; those that WAL does not make anew are read from the base directory when they are first touched.
 *
 * @module
 */
import { getU32 } from "../../src/bytes/little_endian.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { EffectSink } from "../../src/postgres/effects/effect_sink.ts";
import { heapVisibilityEffects } from "../../src/postgres/effects/heap_visibility.ts";
import { VISIBILITYMAP_FORKNUM } from "../../src/postgres/page/masks.ts";
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
import type { WalCorpus } from "./wal_corpus.ts";

const XLOG_SMGR_TRUNCATE = 0x20;
const XLOG_XACT_OPMASK = 0x70;
const XLOG_XACT_COMMIT = 0x00;
const XLOG_XACT_ABORT = 0x20;

const FORK_SUFFIXES = ["", "_fsm", "_vm", "_init"];
const ARENA_PAGES = 2048;
/** Places for forks that were used last; a power of two. */
const RECENT = 64;
/** Records that are decoded ahead. */
const WINDOW = 32;

/** One fork of a relation. */
class Fork {
  readonly pages: (Page | undefined)[] = [];
  readonly file: Deno.FsFile | undefined;
  /** Blocks of the file that still count. */
  fileBlocks: number;

  constructor(baseDir: string, readonly db: number, readonly rel: number, readonly number: number) {
    const folder = db === 0 ? "global" : `base/${db}`;
    const path = `${baseDir}/${folder}/${rel}${FORK_SUFFIXES[number]}`;
    try {
      this.file = Deno.openSync(path);
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
  /** Records that are decoded before they are applied one by one, and the pages of all their blocks. */
  readonly #window: DecodedRecord[];
  readonly #pages: Page[] = [];
  #record: DecodedRecord;
  /** Only there so that no compiler leaves out the reads it comes from. */
  warmed = 0;
  readonly #context: RedoContext;
  readonly #target: RedoTarget = { blockIndex: 0, fork: 0, block: 0 };
  /** By database and relation, fork in the low bits: what one database of a bench needs. */
  readonly #forks = new Map<number, Fork>();
  /** Forks used last, at a place that their numbers give. */
  readonly #recent: (Fork | undefined)[] = new Array(RECENT).fill(undefined);
  #arena = new ArrayBuffer(ARENA_PAGES * BLCKSZ);
  #arenaUsed = 0;
  readonly #xactPages: Uint8Array[] = [];
  readonly #sink: EffectSink;

  constructor(corpus: WalCorpus) {
    this.#baseDir = corpus.baseDir;
    this.#window = Array.from({ length: WINDOW }, () => new DecodedRecord(corpus.profile));
    this.#record = this.#window[0];
    this.#context = { hintBitsLogged: corpus.hintBitsLogged };
    const touchBlock = this.#touchBlock.bind(this);
    this.#sink = { touchBlock } as unknown as EffectSink;
  }

  /** Applies a batch. */
  apply(batch: RecordBatch): void {
    const { bytes, offsets, endLsns, count } = batch;
    for (let at = 0; at < count;) {
      let [decoded, pageCount] = [0, 0];
      while (decoded < WINDOW && at < count) {
        const record = this.#window[decoded++];
        record.decode(bytes, offsets[at], endLsns[at] as Lsn);
        at++;
        if (record.rmid === RM_SMGR_ID) break; // may cut off pages that records behind it make anew
        for (let index = 0; index < record.blockCount; index++) {
          this.#pages[pageCount++] = this.#pageOf(record, index);
        }
      }
      this.#warm(pageCount);
      let next = 0;
      for (let index = 0; index < decoded; index++) {
        this.#record = this.#window[index];
        next = this.#applyRecord(next);
      }
    }
  }

  /** Brings pages of the window into the processor's cache side by side, so that redo does not wait for one after another. */
  #warm(pageCount: number): void {
    const pages = this.#pages;
    let sum = 0;
    for (let index = 0; index < pageCount; index++) sum ^= pages[index].u32[0];
    for (let index = 0; index < pageCount; index++) {
      const page = pages[index];
      // Where the new line pointer, the new tuple and the special space are.
      const { u16, u32 } = page;
      sum ^= u32[u16[6] >> 2 & 2047] ^ u32[u16[7] >> 2 & 2047] ^ u32[u16[8] >> 2 & 2047];
    }
    this.warmed ^= sum;
  }

  close(): void {
    for (const fork of this.#forks.values()) fork.file?.close();
  }

  #pageOf(record: DecodedRecord, index: number): Page {
    const fork = this.#fork(record.blockDb[index], record.blockRel[index], record.blockFork[index]);
    const block = record.blockNumber[index];
    const page = fork.pages[block];
    if (page !== undefined) return page;
    return record.imageApplies(index) ? this.#newPage(fork, block) : this.#readPage(fork, block);
  }

  /** Applies the record to its pages, the first of which is `#pages[next]`; returns where those of the next record begin. */
  #applyRecord(next: number): number {
    const record = this.#record;
    // Records of the storage manager name no block.
    for (let index = 0; index < record.blockCount; index++) this.#applyBlock(index, this.#pages[next++]);
    this.#applyRest();
    return next;
  }

  #applyBlock(index: number, page: Page): void {
    const record = this.#record;
    if (record.imageApplies(index)) {
      restoreImage(record, index, page);
      if (gistImageNeedsRedo(record, index)) finishGistSplit(page, record.endLsn);
      this.restored++;
      return;
    }
    if (!record.willInit(index) && record.endLsn <= page.lsn) {
      this.skipped++;
      return;
    }
    const target = this.#target;
    target.blockIndex = index;
    target.fork = record.blockFork[index];
    target.block = record.blockNumber[index];
    redoRecord(page, record, target, this.#context);
    this.replayed++;
  }

  /** What the record does to pages that it does not name. */
  #applyRest(): void {
    const record = this.#record;
    const { rmid } = record;
    if (rmid === RM_HEAP_ID || rmid === RM_HEAP2_ID) heapVisibilityEffects(record, this.#sink);
    else if (rmid === RM_XACT_ID) {
      const op = record.info & XLOG_XACT_OPMASK;
      if (op === XLOG_XACT_COMMIT || op === XLOG_XACT_ABORT) this.#endTransaction();
    } else if (rmid === RM_SMGR_ID && record.opInfo === XLOG_SMGR_TRUNCATE) this.#truncate();
    else if (rmid === RM_DBASE_ID) throw new Error("Cannot measure: the load creates or drops databases");
  }

  #touchBlock(_spc: number, db: number, rel: number, forkNumber: number, block: number): void {
    const fork = this.#fork(db, rel, forkNumber);
    if (!fork.exists(block)) return;
    const page = fork.pages[block] ?? this.#readPage(fork, block);
    if (this.#record.endLsn <= page.lsn) return;
    const target = this.#target;
    target.blockIndex = -1;
    target.fork = forkNumber;
    target.block = block;
    redoRecord(page, this.#record, target, this.#context);
  }

  /** The loads have no subtransactions, so that one page is all. */
  #endTransaction(): void {
    const pageno = Math.floor(this.#record.xid / CLOG_XACTS_PER_PAGE);
    const page = this.#xactPages[pageno] ??= new Uint8Array(BLCKSZ);
    redoSlruPage(page, SLRU_XACT, pageno, this.#record);
  }

  #truncate(): void {
    const { bytes, mainOffset } = this.#record;
    const [blocks, spc, db, rel] = [0, 4, 8, 12].map((offset) => getU32(bytes, mainOffset + offset));
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

  /** A page of zeros. */
  #newPage(fork: Fork, block: number): Page {
    if (this.#arenaUsed === ARENA_PAGES) {
      this.#arena = new ArrayBuffer(ARENA_PAGES * BLCKSZ);
      this.#arenaUsed = 0;
    }
    const page = new Page(this.#arena, this.#arenaUsed++ * BLCKSZ);
    while (fork.pages.length < block) fork.pages.push(undefined);
    fork.pages[block] = page;
    return page;
  }

  #readPage(fork: Fork, block: number): Page {
    const page = this.#newPage(fork, block);
    if (block < fork.fileBlocks) {
      fork.file!.seekSync(block * BLCKSZ, Deno.SeekMode.Start);
      fork.file!.readSync(page.u8);
    }
    return page;
  }
}
