/**
 * Visibility map pages: two bits for each block of a heap.
 *
 * Shared by heap redo, truncation and readers. The caller keeps block numbers below 2^32.
 *
 * Page layout (PostgreSQL src/backend/access/heap/visibilitymap.c, visibilitymapdefs.h, 14-18):
 * ```
 * offset width
 *      0    24 page header (pd_lower 24, pd_upper = pd_special = 8192)
 *     24  8168 map: heap block h has bits 2*(h % 4) and 2*(h % 4) + 1 of byte (h % 32672) / 4 on page h / 32672
 *                   lower bit VISIBILITYMAP_ALL_VISIBLE, upper bit VISIBILITYMAP_ALL_FROZEN
 * ```
 *
 * @module
 */
import { BLCKSZ, MAXALIGN, type Page, SizeOfPageHeaderData } from "./page.ts";

/** `VISIBILITYMAP_FORKNUM`. */
export const VISIBILITYMAP_FORKNUM = 2;

export const VISIBILITYMAP_ALL_VISIBLE = 0x01;
export const VISIBILITYMAP_ALL_FROZEN = 0x02;
export const VISIBILITYMAP_VALID_BITS = 0x03;

/** Where the map starts on its page. */
const MAP_OFFSET = MAXALIGN(SizeOfPageHeaderData);
/** `MAPSIZE`: bytes of map on one page. */
export const MAPSIZE = BLCKSZ - MAP_OFFSET;
const HEAPBLOCKS_PER_BYTE = 4;
/** `HEAPBLOCKS_PER_PAGE`: heap blocks that one map page describes. */
export const HEAPBLOCKS_PER_PAGE = MAPSIZE * HEAPBLOCKS_PER_BYTE;

/** `HEAPBLK_TO_MAPBLOCK`: the map page that describes a heap block. */
export function heapBlockToMapBlock(heapBlock: number): number {
  return Math.floor(heapBlock / HEAPBLOCKS_PER_PAGE);
}

/** `visibilitymap_get_status`: the two bits of a heap block; 0 on a page that was never written. */
export function visibilityMapGet(page: Page, heapBlock: number): number {
  return (page.u8[mapByte(heapBlock)] >> mapShift(heapBlock)) & VISIBILITYMAP_VALID_BITS;
}

/** `visibilitymap_set` without its LSN: adds bits. True when they were not exactly these before. */
export function visibilityMapSet(page: Page, heapBlock: number, bits: number): boolean {
  if (visibilityMapGet(page, heapBlock) === bits) return false;
  page.u8[mapByte(heapBlock)] |= bits << mapShift(heapBlock);
  return true;
}

/** `visibilitymap_clear_locked`: clears bits. True when any of them was set. */
export function visibilityMapClear(page: Page, heapBlock: number, bits: number): boolean {
  const byte = mapByte(heapBlock);
  const mask = bits << mapShift(heapBlock);
  if ((page.u8[byte] & mask) === 0) return false;
  page.u8[byte] &= ~mask;
  return true;
}

/** Blocks that the map keeps when its heap is cut to `heapBlocks`. */
export function mapBlocksAfterTruncate(heapBlocks: number): number {
  return Math.ceil(heapBlocks / HEAPBLOCKS_PER_PAGE);
}

/** The map page that loses only some of its bits when the heap is cut to `heapBlocks`, or -1 if none does. */
export function mapBlockCutByTruncate(heapBlocks: number): number {
  return heapBlocks % HEAPBLOCKS_PER_PAGE === 0 ? -1 : heapBlockToMapBlock(heapBlocks);
}

/** `visibilitymap_prepare_truncate`, on the page that it edits: clears the bits of `heapBlocks` and all blocks after. */
export function visibilityMapTruncate(page: Page, heapBlocks: number): void {
  const byte = mapByte(heapBlocks);
  page.u8.fill(0, byte + 1, BLCKSZ);
  page.u8[byte] &= (1 << mapShift(heapBlocks)) - 1;
}

/** Offset on the page of the byte with a heap block's bits. */
function mapByte(heapBlock: number): number {
  return MAP_OFFSET + ((heapBlock % HEAPBLOCKS_PER_PAGE) >> 2);
}

function mapShift(heapBlock: number): number {
  return (heapBlock % HEAPBLOCKS_PER_BYTE) * 2;
}
