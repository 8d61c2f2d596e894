/**
 * What of a page may differ between a primary and redo, overwritten with zeros: PostgreSQL's own rules.
 *
 * Verification compares a page that redo made with one that PostgreSQL wrote (an image in WAL, a data file) only after
 * both have been masked: hint bits are set without WAL, free space holds leftovers, and so on. Masking edits the page, so
 * callers mask copies.
 *
 * Source: PostgreSQL src/backend/access/common/bufmask.c and each access method's `*_mask` (14-18; the rules are the
 * same in all of them). One deliberate difference: `heap_mask` also runs on visibility map pages, where it blanks all of
 * their content as "free space"; here the content of map pages is kept, because redo must get it right.
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_GENERIC_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_SEQ_ID,
  RM_SPGIST_ID,
} from "../wal/rmgr.ts";
import {
  BLCKSZ,
  LP_NORMAL,
  LP_UNUSED,
  MAXALIGN,
  type Page,
  PD_ALL_VISIBLE,
  PD_HAS_FREE_LINES,
  PD_PAGE_FULL,
  SizeOfPageHeaderData,
} from "./page.ts";

export const MAIN_FORKNUM = 0;
export const FSM_FORKNUM = 1;
export const VISIBILITYMAP_FORKNUM = 2;
export const INIT_FORKNUM = 3;

const HEAP_XACT_MASK = 0xfff0;
const HEAP_XMIN_FROZEN = 0x0300;
const HEAP_XMAX_COMMITTED = 0x0400;
const HEAP_XMAX_INVALID = 0x0800;
/** `SpecTokenOffsetNumber`: a speculative insertion's `t_ctid` holds a token. */
const SpecTokenOffsetNumber = 0xfffe;
const SizeofHeapTupleHeader = 23;

const BTP_LEAF = 0x0001;
const BTP_SPLIT_END = 0x0020;
const BTP_HAS_GARBAGE = 0x0040;

const LH_PAGE_TYPE = 0x000f;
const LH_UNUSED_PAGE = 0;
const LH_OVERFLOW_PAGE = 1;
const LH_BUCKET_PAGE = 2;
const LH_PAGE_HAS_DEAD_TUPLES = 0x0080;

const GIN_DELETED = 0x0004;

const F_LEAF = 0x0001;
const F_FOLLOW_RIGHT = 0x0008;
const F_HAS_GARBAGE = 0x0010;

const BRIN_EVACUATE_PAGE = 1;
export const BRIN_PAGETYPE_META = 0xf091;
export const BRIN_PAGETYPE_REVMAP = 0xf092;
export const BRIN_PAGETYPE_REGULAR = 0xf093;

const HASHO_PAGE_ID = 0xff80;
const GIST_PAGE_ID = 0xff81;
const SPGIST_PAGE_ID = 0xff82;
const SEQ_MAGIC = 0x1717;

/**
 * Masks the page as manager `rmid` does; managers without rules of their own mask LSN and checksum.
 *
 * @throws {CorruptionError} If the page's pointers or items make no sense for that manager.
 */
export function maskPage(page: Page, rmid: number, fork: number, block: number): void {
  maskLsnAndChecksum(page);
  if (page.isNew()) return;
  if (fork === FSM_FORKNUM || fork === VISIBILITYMAP_FORKNUM) {
    maskHintBits(page);
    return;
  }
  switch (rmid) {
    case RM_HEAP_ID:
    case RM_HEAP2_ID:
      return maskHeap(page, block);
    case RM_BTREE_ID:
      return maskBtree(page);
    case RM_HASH_ID:
      return maskHash(page);
    case RM_GIN_ID:
      return maskGin(page);
    case RM_GIST_ID:
      return maskGist(page);
    case RM_SPGIST_ID:
      return maskSpgist(page);
    case RM_BRIN_ID:
      return maskBrin(page);
    case RM_SEQ_ID:
    case RM_GENERIC_ID:
      return maskUnusedSpace(page);
  }
}

/**
 * Which manager a page belongs to, by its special space: for pages of which only the bytes are known (data files,
 * full-page images of XLOG records). Pages without special space are taken for heap pages.
 */
export function managerOfPage(page: Page, block: number): number {
  const at = page.special;
  const size = BLCKSZ - at;
  if (size < 8 || size > BLCKSZ - SizeOfPageHeaderData) return RM_HEAP_ID;
  const last = page.u16[BLCKSZ / 2 - 1];
  if (size === 16) {
    if (last === GIST_PAGE_ID) return RM_GIST_ID;
    return last === HASHO_PAGE_ID ? RM_HASH_ID : RM_BTREE_ID;
  }
  if (size !== 8) return RM_GENERIC_ID;
  if (last === SPGIST_PAGE_ID) return RM_SPGIST_ID;
  if (last >= BRIN_PAGETYPE_META && last <= BRIN_PAGETYPE_REGULAR) return RM_BRIN_ID;
  if (block === 0 && page.u32[at >> 2] === SEQ_MAGIC) return RM_SEQ_ID;
  return RM_GIN_ID;
}

function maskLsnAndChecksum(page: Page): void {
  page.u32[0] = 0;
  page.u32[1] = 0;
  page.checksum = 0;
}

function maskHintBits(page: Page): void {
  page.pruneXid = 0;
  page.flags &= ~(PD_PAGE_FULL | PD_HAS_FREE_LINES | PD_ALL_VISIBLE);
}

function maskUnusedSpace(page: Page): void {
  const { lower, upper, special } = page;
  if (lower > upper || special < upper || lower < SizeOfPageHeaderData || special > BLCKSZ) {
    throw new CorruptionError(
      `Cannot mask a page with bad pointers: lower ${lower}, upper ${upper}, special ${special}`,
    );
  }
  page.u8.fill(0, lower, upper);
}

function maskLinePointerFlags(page: Page): void {
  const count = page.maxOffsetNumber();
  for (let offnum = 1; offnum <= count; offnum++) page.setItemFlags(offnum, LP_UNUSED);
}

function maskContent(page: Page): void {
  page.u8.fill(0, SizeOfPageHeaderData);
  page.lower = 0;
  page.upper = 0;
}

/** Offset of the special space, which must hold at least `size` bytes. */
function specialSpace(page: Page, size: number): number {
  const at = page.special;
  if (at < SizeOfPageHeaderData || at > BLCKSZ - size || (at & 7) !== 0) {
    throw new CorruptionError(`Cannot mask a page: its special space at ${at} does not hold ${size} bytes`);
  }
  return at;
}

function maskHeap(page: Page, block: number): void {
  maskHintBits(page);
  maskUnusedSpace(page);
  const count = page.maxOffsetNumber();
  for (let offnum = 1; offnum <= count; offnum++) {
    const at = page.itemOffset(offnum);
    const length = page.itemLength(offnum);
    if (length === 0) continue; // no storage
    const padded = MAXALIGN(length);
    if (at < SizeOfPageHeaderData || at + padded > BLCKSZ || (at & 7) !== 0) {
      throw new CorruptionError(
        `Cannot mask a page: line pointer ${offnum} has offset ${at} and length ${length}`,
      );
    }
    if (page.itemFlags(offnum) === LP_NORMAL) {
      if (length < SizeofHeapTupleHeader) {
        throw new CorruptionError(`Cannot mask a page: tuple ${offnum} is of ${length} bytes`);
      }
      maskTuple(page, at, block, offnum);
    }
    page.u8.fill(0, at + length, at + padded);
  }
}

/** HeapTupleHeader: t_xmin 4, t_xmax 4, t_field3 4, t_ctid 6 (block high, block low, offset), t_infomask2 2, t_infomask 2 */
function maskTuple(page: Page, at: number, block: number, offnum: number): void {
  const words = page.u16;
  const infomask = at + 20 >> 1;
  if ((words[infomask] & HEAP_XMIN_FROZEN) !== HEAP_XMIN_FROZEN) words[infomask] &= ~HEAP_XACT_MASK;
  else words[infomask] &= ~(HEAP_XMAX_INVALID | HEAP_XMAX_COMMITTED);
  page.u32[at + 8 >> 2] = 0; // t_cid: redo writes FirstCommandId
  const ctid = at + 12 >> 1;
  if (words[ctid + 2] === SpecTokenOffsetNumber) {
    words[ctid] = block >>> 16;
    words[ctid + 1] = block & 0xffff;
    words[ctid + 2] = offnum;
  }
}

/** BTPageOpaqueData: btpo_prev 4, btpo_next 4, btpo_level 4, btpo_flags 2, btpo_cycleid 2 */
function maskBtree(page: Page): void {
  maskHintBits(page);
  maskUnusedSpace(page);
  const flags = specialSpace(page, 16) + 12 >> 1;
  if ((page.u16[flags] & BTP_LEAF) !== 0) maskLinePointerFlags(page);
  page.u16[flags] &= ~(BTP_HAS_GARBAGE | BTP_SPLIT_END);
  page.u16[flags + 1] = 0;
}

/** HashPageOpaqueData: hasho_prevblkno 4, hasho_nextblkno 4, hasho_bucket 4, hasho_flag 2, hasho_page_id 2 */
function maskHash(page: Page): void {
  maskHintBits(page);
  maskUnusedSpace(page);
  const flag = specialSpace(page, 16) + 12 >> 1;
  const kind = page.u16[flag] & LH_PAGE_TYPE;
  if (kind === LH_UNUSED_PAGE) maskContent(page);
  else if (kind === LH_BUCKET_PAGE || kind === LH_OVERFLOW_PAGE) maskLinePointerFlags(page);
  page.u16[flag] &= ~LH_PAGE_HAS_DEAD_TUPLES;
}

/** GinPageOpaqueData: rightlink 4, maxoff 2, flags 2 */
function maskGin(page: Page): void {
  maskHintBits(page);
  const flags = page.u16[specialSpace(page, 8) + 6 >> 1];
  if ((flags & GIN_DELETED) !== 0) maskContent(page);
  else if (page.lower > SizeOfPageHeaderData) maskUnusedSpace(page);
}

/** GISTPageOpaqueData: nsn 8, rightlink 4, flags 2, gist_page_id 2 */
function maskGist(page: Page): void {
  maskHintBits(page);
  maskUnusedSpace(page);
  const at = specialSpace(page, 16);
  const flags = at + 12 >> 1;
  page.u32[at >> 2] = 0;
  page.u32[(at >> 2) + 1] = 0;
  page.u16[flags] |= F_FOLLOW_RIGHT;
  if ((page.u16[flags] & F_LEAF) !== 0) maskLinePointerFlags(page);
  page.u16[flags] &= ~F_HAS_GARBAGE;
}

function maskSpgist(page: Page): void {
  maskHintBits(page);
  if (page.lower >= SizeOfPageHeaderData) maskUnusedSpace(page);
}

/** BrinSpecialSpace: 4 words of 2 bytes; flags in the third, page type in the last */
function maskBrin(page: Page): void {
  maskHintBits(page);
  const at = specialSpace(page, 8) >> 1;
  const kind = page.u16[at + 3];
  if (kind === BRIN_PAGETYPE_REGULAR || (kind === BRIN_PAGETYPE_META && page.lower > SizeOfPageHeaderData)) {
    maskUnusedSpace(page);
  }
  page.u16[at + 2] &= ~BRIN_EVACUATE_PAGE;
}
