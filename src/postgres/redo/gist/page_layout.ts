/**
 * The GiST page: its special space, its flags, and how redo makes and checks one.
 *
 * Read path, inside replay. The special space always is the page's last 16 bytes, so its fields are read and written
 * through constant indexes of the page's aligned views, after {@linkcode checkGistPage} has seen that `pd_special`
 * agrees.
 *
 * GISTPageOpaqueData (PostgreSQL src/include/access/gist.h, 14-18; little-endian):
 * ```
 * offset width name
 *   8176     8 nsn            as pd_lsn, upper half first: end of the record that finished the page's last split
 *   8184     4 rightlink      right sibling, InvalidBlockNumber on the rightmost page
 *   8188     2 flags          F_*
 *   8190     2 gist_page_id   0xff81
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../../errors.ts";
import { type Lsn, lsnHigh, lsnLow } from "../../../lsn.ts";
import { BLCKSZ, type Page } from "../../page/page.ts";
import { pageInit } from "../page_edit.ts";

export const InvalidBlockNumber = 0xffffffff;
export const GIST_ROOT_BLKNO = 0;

export const F_LEAF = 1 << 0;
export const F_DELETED = 1 << 1;
export const F_TUPLES_DELETED = 1 << 2;
export const F_FOLLOW_RIGHT = 1 << 3;
export const F_HAS_GARBAGE = 1 << 4;

const GIST_PAGE_ID = 0xff81;
const SizeOfGistPageOpaqueData = 16;
/** `pd_special` of every GiST page. */
export const GIST_SPECIAL = BLCKSZ - SizeOfGistPageOpaqueData;

/** Indexes into `Page.u32`: upper half of the NSN, lower half, right link. */
export const GIST_NSN = GIST_SPECIAL / 4;
export const GIST_RIGHTLINK = GIST_NSN + 2;
/** Index into `Page.u16`. */
export const GIST_FLAGS = GIST_SPECIAL / 2 + 6;

/** `gistinitpage`. */
export function initGistPage(page: Page, flags: number): void {
  pageInit(page, SizeOfGistPageOpaqueData);
  page.u32[GIST_RIGHTLINK] = InvalidBlockNumber;
  page.u16[GIST_FLAGS] = flags;
  page.u16[GIST_FLAGS + 1] = GIST_PAGE_ID;
}

/** Refuses a page that is not a GiST page: new, zeroed, or of something else. */
export function checkGistPage(page: Page): void {
  if (page.special !== GIST_SPECIAL || page.u16[GIST_FLAGS + 1] !== GIST_PAGE_ID) {
    throw new CorruptionError("Cannot edit a GiST page: no GiST special space", {
      expected: `${GIST_SPECIAL} and page id 0x${GIST_PAGE_ID.toString(16)}`,
      got: `${page.special} and 0x${page.u16[GIST_FLAGS + 1].toString(16)}`,
    });
  }
}

/** `GistPageSetNSN`. */
export function setNsn(page: Page, nsn: Lsn): void {
  page.u32[GIST_NSN] = lsnHigh(nsn);
  page.u32[GIST_NSN + 1] = lsnLow(nsn);
}
