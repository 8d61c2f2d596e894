/**
 * What must be true of any page of a relation at an LSN, whatever is on it.
 *
 * Pure. `PageIsVerified` of PostgreSQL (storage/page/bufpage.c, 14-18) without the checksum, and that nothing on it is
 * from after the LSN.
 *
 * @module
 */
import { formatLsn, type Lsn } from "../lsn.ts";
import {
  BLCKSZ,
  MAXALIGN,
  type Page,
  PG_PAGE_LAYOUT_VERSION,
  SizeOfPageHeaderData,
} from "../postgres/page/page.ts";

/** `PD_VALID_FLAG_BITS`. */
const VALID_FLAG_BITS = 0x0007;

/** What is wrong with a page, in words; undefined: nothing. A new page must be all zeros. */
export function checkPage(page: Page, lsn: Lsn): string | undefined {
  if (page.isNew()) return page.isAllZero() ? undefined : "it is new, but not all zeros";
  const { lower, upper, special } = page;
  if (page.pagesizeVersion !== (BLCKSZ | PG_PAGE_LAYOUT_VERSION)) {
    return `its page size and version are ${page.pagesizeVersion}`;
  }
  if ((page.flags & ~VALID_FLAG_BITS) !== 0) return `its flags are ${page.flags}`;
  if (
    lower < SizeOfPageHeaderData || lower > upper || upper > special || special > BLCKSZ ||
    special !== MAXALIGN(special)
  ) return `its header has lower ${lower}, upper ${upper}, special ${special}`;
  if (page.lsn > lsn) return `its LSN is ${formatLsn(page.lsn)}`;
  return undefined;
}
