/**
 * Free space map pages: a tree over the pages of a relation, one byte for the space on each.
 *
 * Shared by truncation and readers. PostgreSQL writes no WAL for this map but full-page images and truncations, so a
 * followed map is a hint as it is in PostgreSQL, only older. The caller keeps block numbers below 2^32.
 *
 * Page layout (PostgreSQL src/include/storage/fsm_internals.h, src/backend/storage/freespace, 14-18):
 * ```
 * offset width
 *      0    24 page header (pd_lower 24, pd_upper = pd_special = 8192)
 *     24     4 fp_next_slot, where the next search starts
 *     28  8164 fp_nodes, a binary tree in an array: nodes 0..4094 are the greater of their children 2n+1 and 2n+2,
 *                        nodes 4095..8163 are the page's 4069 slots
 * ```
 * Pages form a tree of three levels over 4069 slots each: a slot of the lowest level holds the free space of one heap
 * block (in 1/256 of a page), a slot of an upper level the greatest node of the page below it. In the file, a page
 * comes directly before its first child: root, its first child, that one's children, the second child, and so on.
 *
 * @module
 */
import { BLCKSZ, MAXALIGN, type Page, SizeOfPageHeaderData } from "./page.ts";

/** `FSM_FORKNUM`. */
export const FSM_FORKNUM = 1;

/** Where `fp_nodes` starts on its page. */
const NODES_OFFSET = MAXALIGN(SizeOfPageHeaderData) + 4;
const NodesPerPage = BLCKSZ - NODES_OFFSET;
const NonLeafNodesPerPage = BLCKSZ / 2 - 1;
/** `SlotsPerFSMPage`. */
export const SlotsPerFSMPage = NodesPerPage - NonLeafNodesPerPage;
const FSM_TREE_DEPTH = 3;

/** `fsm_logical_to_physical`: block of the lowest-level page with number `leafPage`, counted along its level. */
export function fsmLeafToBlock(leafPage: number): number {
  let pages = 0;
  for (let level = 0; level < FSM_TREE_DEPTH; level++) {
    pages += leafPage + 1;
    leafPage = Math.floor(leafPage / SlotsPerFSMPage);
  }
  return pages - 1;
}

/** Block of the map page that holds the free space of a heap block. */
export function heapBlockToFsmBlock(heapBlock: number): number {
  return fsmLeafToBlock(Math.floor(heapBlock / SlotsPerFSMPage));
}

/** Free space of a heap block as its map page has it: 0..255, in steps of 32 bytes. */
export function fsmGetAvail(page: Page, heapBlock: number): number {
  return page.u8[NODES_OFFSET + NonLeafNodesPerPage + heapBlock % SlotsPerFSMPage];
}

/** Blocks that the map keeps when its heap is cut to `heapBlocks`. */
export function fsmBlocksAfterTruncate(heapBlocks: number): number {
  return heapBlockToFsmBlock(heapBlocks) + (heapBlocks % SlotsPerFSMPage === 0 ? 0 : 1);
}

/** The map page that loses only some of its slots when the heap is cut to `heapBlocks`, or -1 if none does. */
export function fsmBlockCutByTruncate(heapBlocks: number): number {
  return heapBlocks % SlotsPerFSMPage === 0 ? -1 : heapBlockToFsmBlock(heapBlocks);
}

/** `fsm_truncate_avail`, on the page that it edits: no space on `heapBlocks` and all blocks after. */
export function fsmTruncateAvail(page: Page, heapBlocks: number): void {
  const nodes = page.u8;
  const first = NODES_OFFSET + NonLeafNodesPerPage + heapBlocks % SlotsPerFSMPage;
  let changed = false;
  for (let index = first; index < BLCKSZ && !changed; index++) changed = nodes[index] !== 0;
  if (!changed) return;
  nodes.fill(0, first, BLCKSZ);
  rebuild(nodes);
}

/** `fsm_rebuild_page`: upper nodes from the slots. The last upper nodes have one child or none. */
function rebuild(nodes: Uint8Array): void {
  for (let node = NonLeafNodesPerPage - 1; node >= 0; node--) {
    const left = 2 * node + 1;
    const leftValue = left < NodesPerPage ? nodes[NODES_OFFSET + left] : 0;
    const rightValue = left + 1 < NodesPerPage ? nodes[NODES_OFFSET + left + 1] : 0;
    nodes[NODES_OFFSET + node] = leftValue > rightValue ? leftValue : rightValue;
  }
}
