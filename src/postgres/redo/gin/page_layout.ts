/**
 * The GIN page: its special space, its kinds, and how redo makes and checks one.
 *
 * Read path, inside replay. The special space always is the page's last 8 bytes, so its fields are read and written
 * through constant indexes of the page's aligned views, after a check that `pd_special` agrees.
 *
 * GinPageOpaqueData (PostgreSQL src/include/access/ginblock.h, 14-18; little-endian):
 * ```
 * offset width name
 *   8184     4 rightlink     right sibling, InvalidBlockNumber on the rightmost page
 *   8188     2 maxoff        posting items (inner data page); heap tuples (list page); TIDs (data leaf before 9.4)
 *   8190     2 flags         GIN_*
 * ```
 * Kinds of pages, by flags:
 * ```
 * entry tree           line pointers and index tuples, as in a btree; GIN_LEAF
 * posting tree         GIN_DATA, no line pointers:
 *   inner page         24 right bound (TID) 6, 32 posting items of 10: child block 4, TID 6; pd_lower after the last
 *   leaf               24 right bound (TID) 6, 32 compressed posting lists ("segments"); pd_lower after the last
 *                      GIN_LEAF, GIN_COMPRESSED (without: TIDs of 6 from 32 on, as written before 9.4)
 * pending list         GIN_LIST, line pointers and index tuples; GIN_LIST_FULLROW ends a row
 * metapage             GIN_META, block 0: GinMetaPageData from byte 24
 * deleted              GIN_DELETED
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../../errors.ts";
import { SizeOfIndexTupleData } from "../../page/index_tuple.ts";
import { BLCKSZ, FirstOffsetNumber, type Page, SizeOfPageHeaderData } from "../../page/page.ts";
import { pageInit } from "../page_edit.ts";

export const InvalidBlockNumber = 0xffffffff;

export const GIN_DATA = 1 << 0;
export const GIN_LEAF = 1 << 1;
export const GIN_DELETED = 1 << 2;
export const GIN_META = 1 << 3;
export const GIN_LIST = 1 << 4;
export const GIN_LIST_FULLROW = 1 << 5;
export const GIN_INCOMPLETE_SPLIT = 1 << 6;
export const GIN_COMPRESSED = 1 << 7;

const SizeOfGinPageOpaqueData = 8;
/** `pd_special` of every GIN page. */
export const GIN_SPECIAL = BLCKSZ - SizeOfGinPageOpaqueData;
/** Where posting items and posting lists begin on a data page, past the right bound. */
export const GIN_DATA_START = 32;
/** `GinDataPageMaxDataSize`. */
export const GinDataPageMaxDataSize = GIN_SPECIAL - GIN_DATA_START;
/** `sizeof(PostingItem)`. */
export const SizeOfPostingItem = 10;

/** Index into `Page.u32`. */
export const GIN_RIGHTLINK = GIN_SPECIAL / 4;
/** Indexes into `Page.u16`. */
export const GIN_MAXOFF = GIN_SPECIAL / 2 + 2;
export const GIN_FLAGS = GIN_MAXOFF + 1;

/** `GinInitPage`. */
export function initGinPage(page: Page, flags: number): void {
  pageInit(page, SizeOfGinPageOpaqueData);
  page.u32[GIN_RIGHTLINK] = InvalidBlockNumber;
  page.u16[GIN_FLAGS] = flags;
}

/** Refuses a page without GIN's special space: new, zeroed, or of something else. */
export function checkGinPage(page: Page): void {
  if (page.special !== GIN_SPECIAL) {
    throw new CorruptionError("Cannot edit a GIN page: no GIN special space", {
      expected: GIN_SPECIAL,
      got: page.special,
    });
  }
}

/** Refuses a page that is not a GIN page, or one whose flags among `mask` are not exactly `flags`. */
export function checkGinKind(page: Page, mask: number, flags: number): void {
  checkGinPage(page);
  if ((page.u16[GIN_FLAGS] & mask) !== flags) {
    throw new CorruptionError("Cannot edit a GIN page of another kind", {
      expected: `flags & 0x${mask.toString(16)} = 0x${flags.toString(16)}`,
      got: `0x${page.u16[GIN_FLAGS].toString(16)}`,
    });
  }
}

/** `GinDataPageSetDataSize`. */
export function setDataSize(page: Page, size: number): void {
  page.lower = GIN_DATA_START + size;
}

/**
 * Start of an index tuple on an entry page, after checking that its line pointer exists and that the item holds a
 * tuple header and ends before the special space.
 *
 * @throws {CorruptionError} If any of that does not hold.
 */
export function checkedEntry(page: Page, offnum: number): number {
  if (offnum < FirstOffsetNumber || offnum > page.maxOffsetNumber()) {
    throw new CorruptionError("Cannot find the GIN entry", {
      expected: `1..${page.maxOffsetNumber()}`,
      got: offnum,
    });
  }
  const offset = page.itemOffset(offnum);
  const length = page.itemLength(offnum);
  if (length < SizeOfIndexTupleData || offset < SizeOfPageHeaderData || offset + length > GIN_SPECIAL) {
    throw new CorruptionError(`Cannot use GIN entry ${offnum}: offset ${offset}, length ${length}`);
  }
  return offset;
}

/**
 * Number of posting items on an inner data page, after checking that they fit on it.
 *
 * @throws {CorruptionError} If they do not.
 */
export function checkedPostingItems(page: Page): number {
  const maxoff = page.u16[GIN_MAXOFF];
  if (maxoff * SizeOfPostingItem > GinDataPageMaxDataSize) {
    throw new CorruptionError("Cannot edit a GIN data page: too many posting items", {
      expected: `at most ${Math.floor(GinDataPageMaxDataSize / SizeOfPostingItem)}`,
      got: maxoff,
    });
  }
  return maxoff;
}
