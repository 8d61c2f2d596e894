/**
 * What differs between two versions of a page, in words: for a change of which only the pages are known.
 *
 * For people. Line pointers are compared as every page with a standard header has them; of a page that has none in that
 * place (a meta page, a bitmap) only the number of bytes is told.
 *
 * @module
 */
import { BLCKSZ, type Page, SizeOfItemId, SizeOfPageHeaderData } from "./page.ts";

/** Line pointers shown; more are counted. */
const ITEMS_SHOWN = 8;

/** For example `46 bytes differ; items 7, 8 changed; 2 items added`. */
export function describePageChange(before: Page, after: Page): string {
  if (before.isNew()) return "the page was new";
  let bytes = 0;
  // pd_lsn and pd_checksum differ always.
  for (let at = 10; at < BLCKSZ; at++) if (before.u8[at] !== after.u8[at]) bytes++;
  const parts = [bytes === 0 ? "nothing differs" : `${bytes} bytes differ`];
  if (hasItems(before) && hasItems(after)) parts.push(...describeItems(before, after));
  return parts.join("; ");
}

function describeItems(before: Page, after: Page): string[] {
  const [countBefore, countAfter] = [before.maxOffsetNumber(), after.maxOffsetNumber()];
  const changed: number[] = [];
  for (let offnum = 1; offnum <= Math.min(countBefore, countAfter); offnum++) {
    if (!isSameItem(before, after, offnum)) changed.push(offnum);
  }
  const parts: string[] = [];
  if (changed.length > ITEMS_SHOWN) parts.push(`${changed.length} items changed`);
  else if (changed.length > 0) {
    parts.push(`${changed.length === 1 ? "item" : "items"} ${changed.join(", ")} changed`);
  }
  if (countAfter > countBefore) parts.push(`${countAfter - countBefore} added`);
  if (countAfter < countBefore) parts.push(`${countBefore - countAfter} removed`);
  return parts;
}

/** By state and content: where on the page an item lies does not matter. */
function isSameItem(before: Page, after: Page, offnum: number): boolean {
  const length = before.itemLength(offnum);
  if (before.itemFlags(offnum) !== after.itemFlags(offnum) || length !== after.itemLength(offnum)) {
    return false;
  }
  const [from, to] = [before.itemOffset(offnum), after.itemOffset(offnum)];
  for (let at = 0; at < length; at++) if (before.u8[from + at] !== after.u8[to + at]) return false;
  return true;
}

/** Whether the bytes behind the header can be line pointers: all of them lie in the page. */
function hasItems(page: Page): boolean {
  const { lower, upper, special } = page;
  if (lower < SizeOfPageHeaderData || lower > upper || upper > special || special > BLCKSZ) return false;
  if ((lower - SizeOfPageHeaderData) % SizeOfItemId !== 0) return false;
  for (let offnum = 1; offnum <= page.maxOffsetNumber(); offnum++) {
    const length = page.itemLength(offnum);
    const offset = page.itemOffset(offnum);
    if (length > 0 && (offset < upper || offset + length > special)) return false;
  }
  return true;
}
