/**
 * Judges redo by the page images that PostgreSQL puts into its WAL.
 *
 * Upkeep, and beside the write path with `--verify`. An image is what PostgreSQL says a page is; the page beside it is
 * what redo makes of what is stored. How the two may be compared depends on the image; "before" and "after" are the page
 * as redo has it just below the record's end LSN, and at it:
 *
 * | image | is | compared with |
 * |---|---|---|
 * | for checking (`wal_consistency_checking`; not BKPIMAGE_APPLY) | the page after its record | after, byte for byte |
 * | XLOG_FPI_FOR_HINT | the page before, but for hint bits | before, byte for byte; and its position |
 * | inside a record whose redo needs nothing but what is in WAL | the page after its record | that record redone on before, byte for byte; and its position |
 * | inside any other record | the page after its record | before, by its position |
 * | XLOG_FPI | a page that was changed outside WAL: built by an index build, cut by a truncation | before, by its position |
 *
 * *Byte for byte*: after PostgreSQL's own masks (postgres/page/masks.ts), which take out hint bits, free space, pd_lsn and
 * pd_checksum. *By its position*: PostgreSQL copies the image before it stamps the record's LSN on the page, so that
 * pd_lsn inside the image is the end of the record that changed the page last. The page that redo has must carry the same:
 * it proves that no record of the page was lost or applied to another, not that the content is right. A page that was
 * built anew in memory (the halves of a GIN split, a freed overflow page of a hash index) or written by a GiST build
 * before it was logged has no such mark, but 0 or 1; then there is nothing to compare by. And when two sessions set hint
 * bits of a page at once, `MarkBufferDirtyHint` may log an image and not stamp its LSN: then the mark is that before it.
 *
 * *Needs nothing but what is in WAL*: with an image that applies, PostgreSQL leaves the block's own data out of the record
 * (`XLogRecordAssemble`), unless it was registered with REGBUF_KEEP_DATA. So redo has what it needs if the data is there,
 * or if this block reference never has any ({@linkcode WITHOUT_BLOCK_DATA}).
 *
 * One more thing that PostgreSQL's own redo does not get right either: CREATE DATABASE (15 and later, WAL_LOG) logs the
 * visibility maps that it copies as pages with a hole, which is all of their content (`RelationCopyStorageUsingBuffer`).
 * Redo has none of their bits then, which costs reads but harms nothing, until an image brings them; bits that redo has and
 * the primary does not would be wrong all the same.
 *
 * Not compared: pages of the free space map, which are not kept in step by WAL; pages that did not exist before, or were
 * zero: nothing was there to be changed; everything up to the end of the base backup, which is fuzzy.
 *
 * Source: PostgreSQL src/backend/access/transam/xloginsert.c, xlogrecovery.c `verifyBackupPageConsistency` (14-18).
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { managerOfPage, maskPage } from "../postgres/page/masks.ts";
import { BLCKSZ, Page } from "../postgres/page/page.ts";
import { finishGistSplit, gistImageNeedsRedo } from "../postgres/redo/gist/gist.ts";
import type { RedoContext, RedoFunction, RedoTarget } from "../postgres/redo/registry.ts";
import { isHintImage } from "../postgres/redo/xlog.ts";
import { type ImageCodecs, imageMethod, restoreImageBytes } from "../postgres/wal/block_image.ts";
import type { DecodedRecord } from "../postgres/wal/record.ts";
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_SPGIST_ID,
  RM_XLOG_ID,
} from "../postgres/wal/rmgr.ts";

/** How an image is compared. */
export type ImageTest = "after" | "before" | "redo" | "position";

/** What comparing an image has come to. */
export type Judgement = "equal" | "incomparable" | PageDifference;

/** `GistBuildLSN`, access/gist.h: pd_lsn of pages that an index build has written. 0 is that of a page made in memory. */
const GistBuildLSN = 1;
/** Of pd_lsn, which a page begins with. */
export const SIZE_OF_LSN = 8;

/** Where two pages differ. */
export interface PageDifference {
  /** Of the first byte that differs. */
  readonly offset: number;
  /** That byte in both pages, masked. */
  readonly got: number;
  readonly expected: number;
  /** The pages, not masked: what redo has made, and what PostgreSQL says. */
  readonly gotPage: Uint8Array;
  readonly expectedPage: Uint8Array;
}

/** How the image of a block reference is compared; it must have one. */
export function imageTest(record: DecodedRecord, index: number): ImageTest {
  if (!record.imageApplies(index)) return "after";
  if (isHintImage(record)) return "before";
  return testOfRecord(record, index);
}

/** How an image is compared that applies, and that was not logged for a hint bit: `redo` if that has all it needs. */
export function testOfRecord(record: DecodedRecord, index: number): "redo" | "position" {
  if (record.rmid === RM_XLOG_ID) return "position";
  return record.dataLength[index] > 0 || isWithoutBlockData(record, index) ? "redo" : "position";
}

/** See the module's description. Reused for image after image; synchronous. */
export class ImageJudge {
  readonly #context: RedoContext;
  readonly #codecs: ImageCodecs;
  readonly #redo: RedoFunction;
  readonly #target: RedoTarget = { blockIndex: 0, fork: 0, block: 0 };
  readonly #work = new Page();

  constructor(context: RedoContext, codecs: ImageCodecs, redo: RedoFunction) {
    this.#context = context;
    this.#codecs = codecs;
    this.#redo = redo;
  }

  /** What PostgreSQL says the page is: to be filled before `compare`, as the image has it, pd_lsn and all. */
  readonly expected: Page = new Page();

  /**
   * Compares the image of a block reference.
   *
   * @param page What redo has: for the test `after` the page as of the record's end, else as of just below it. Not changed.
   * @returns The first difference, if there is one.
   * @throws {CorruptionError} If the image is damaged, or redo finds that record and page do not fit.
   * @throws {UnsupportedError} If there is no redo for the record.
   */
  judge(record: DecodedRecord, index: number, test: ImageTest, page: Page): Judgement {
    restoreImageBytes(
      record.bytes,
      record.imageOffset[index],
      record.imageLength[index],
      imageMethod(record, index),
      record.holeOffset[index],
      record.holeLength[index],
      this.expected,
      this.#codecs,
      record.endLsn,
    );
    return this.compare(test, page, record.blockFork[index], record.blockNumber[index], record, index);
  }

  /**
   * Compares `expected` with what redo has.
   *
   * @param record Needed for the tests `after` and `redo`, with the position of its reference to the page.
   */
  compare(
    test: ImageTest,
    page: Page,
    fork: number,
    block: number,
    record?: DecodedRecord,
    index = -1,
  ): Judgement {
    const { expected } = this;
    if (test === "after") return comparePages(page, expected, record!.rmid, fork, block);
    const position = comparePositions(page, expected);
    if (test === "position" || typeof position === "object") return position;
    if (test === "before") return comparePages(page, expected, managerOfPage(page, block), fork, block);
    this.#work.u8.set(page.u8);
    this.#target.blockIndex = index;
    this.#target.fork = fork;
    this.#target.block = block;
    this.#redo(this.#work, record!, this.#target, this.#context);
    return comparePages(this.#work, expected, record!.rmid, fork, block);
  }

  /** The page after the record, as PostgreSQL has it: what to go on with where redo was wrong. */
  pageAfter(record: DecodedRecord, index: number): Page {
    const page = new Page();
    page.u8.set(this.expected.u8);
    if (!page.isNew()) page.setLsn(record.endLsn);
    if (record.imageApplies(index) && gistImageNeedsRedo(record, index)) finishGistSplit(page, record.endLsn);
    return page;
  }
}

const masked = new Page();
const maskedExpected = new Page();

/**
 * Compares two pages after masking copies of them.
 *
 * @param rmid Whose masks.
 * @throws {CorruptionError} If a page makes no sense to its manager.
 */
export function comparePages(
  page: Page,
  expected: Page,
  rmid: number,
  fork: number,
  block: number,
): Judgement {
  masked.u32.set(page.u32);
  maskedExpected.u32.set(expected.u32);
  maskPage(maskedExpected, rmid, fork, block);
  maskPage(masked, rmid, fork, block);
  return firstDifference(masked, maskedExpected, page, expected);
}

/** Compares pd_lsn alone, if the image has one. */
export function comparePositions(page: Page, expected: Page): Judgement {
  if (expected.lsn <= GistBuildLSN) return "incomparable";
  return firstDifference(page, expected, page, expected, SIZE_OF_LSN);
}

/** Compares all of two pages but pd_checksum, which is worked out when a page is read. */
export function compareWhole(page: Page, expected: Page): Judgement {
  masked.u32.set(page.u32);
  maskedExpected.u32.set(expected.u32);
  masked.checksum = maskedExpected.checksum = 0;
  return firstDifference(masked, maskedExpected, page, expected);
}

function firstDifference(
  left: Page,
  right: Page,
  page: Page,
  expected: Page,
  length = BLCKSZ,
): Judgement {
  const [a, b] = [left.u32, right.u32];
  const words = length >> 2;
  let word = 0;
  while (word < words && a[word] === b[word]) word++;
  if (word === words) return "equal";
  let offset = word * 4;
  while (left.u8[offset] === right.u8[offset]) offset++;
  return {
    offset,
    got: left.u8[offset],
    expected: right.u8[offset],
    gotPage: page.u8.slice(),
    expectedPage: expected.u8.slice(),
  };
}

/** Whether a page was there to be changed by what came at `lsn`. */
export function isJudgeable(page: Page | undefined, lsn: Lsn): page is Page {
  return page !== undefined && !page.isNew() && page.lsn < lsn;
}

/**
 * Block references that never carry data of their own, as bits by block id, by manager and the upper four bits of
 * `xl_info`: redo of these blocks works from main data and other blocks' numbers alone. From the `XLogRegisterBufData`
 * calls of each access method (14-18).
 */
const WITHOUT_BLOCK_DATA: Readonly<Record<number, Readonly<Record<number, number>>>> = {
  // DELETE; UPDATE's old page; HEAP_CONFIRM; LOCK
  [RM_HEAP_ID]: { 0x1: 0b1, 0x2: 0b10, 0x5: 0b1, 0x6: 0b1, 0xa: 0b10 },
  // VISIBLE's map and heap page; LOCK_UPDATED
  [RM_HEAP2_ID]: { 0x4: 0b11, 0x6: 0b1 },
  // The child of INSERT_UPPER and INSERT_META; right sibling and child of SPLIT_L, SPLIT_R; siblings of UNLINK_PAGE and
  // UNLINK_PAGE_META; NEWROOT's left child; MARK_PAGE_HALFDEAD's parent
  [RM_BTREE_ID]: {
    0x1: 0b10,
    0x2: 0b10,
    0x3: 0b1100,
    0x4: 0b1100,
    0x8: 0b110,
    0x9: 0b110,
    0xa: 0b10,
    0xb: 0b10,
  },
  // The meta page of INIT_BITMAP_PAGE and INSERT; ADD_OVFL_PAGE's bucket; SPLIT_ALLOCATE_PAGE's old bucket;
  // SPLIT_COMPLETE; SQUEEZE_PAGE's freed page and its neighbours; SPLIT_CLEANUP; UPDATE_META_PAGE; VACUUM_ONE_PAGE
  [RM_HASH_ID]: {
    0x1: 0b10,
    0x2: 0b10,
    0x3: 0b10,
    0x4: 0b1,
    0x6: 0b11,
    0x8: 0b11100,
    0xa: 0b1,
    0xb: 0b1,
    0xc: 0b11,
  },
  // The child of INSERT and SPLIT; DELETE_PAGE
  [RM_GIN_ID]: { 0x2: 0b10, 0x3: 0b1000, 0x5: 0b111 },
  // The child of PAGE_UPDATE and PAGE_SPLIT; DELETE; PAGE_DELETE
  [RM_GIST_ID]: { 0x0: 0b10, 0x1: 0b1, 0x3: 0b1, 0x6: 0b11 },
  // Everything is in the main data
  [RM_SPGIST_ID]: { 0x1: 0b11, 0x2: 0b111, 0x3: 0b111, 0x4: 0b11, 0x5: 0b1111, 0x6: 0b1, 0x7: 0b1, 0x8: 0b1 },
  // The map page of INSERT and UPDATE, UPDATE's old page; REVMAP_EXTEND's meta page; DESUMMARIZE
  [RM_BRIN_ID]: { 0x1: 0b10, 0x2: 0b110, 0x4: 0b1, 0x5: 0b11, 0x9: 0b10, 0xa: 0b110 },
};

function isWithoutBlockData(record: DecodedRecord, index: number): boolean {
  const ids = WITHOUT_BLOCK_DATA[record.rmid]?.[record.opInfo >> 4] ?? 0;
  return (ids >> record.blockId[index] & 1) !== 0;
}
