import {
  fsmBlockCutByTruncate,
  fsmBlocksAfterTruncate,
  fsmGetAvail,
  fsmLeafToBlock,
  fsmTruncateAvail,
  heapBlockToFsmBlock,
  SlotsPerFSMPage,
} from "../../../src/postgres/page/free_space_map.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { assert, suite } from "../../support/harness.ts";
import { seededRandom } from "../../support/random.ts";

const NODES = 28;
const FIRST_SLOT = 4095;

/** The greatest slot below a node, found by walking down. */
function greatestBelow(slots: Uint8Array, node: number): number {
  if (node >= FIRST_SLOT) return slots[node - FIRST_SLOT] ?? 0;
  return Math.max(greatestBelow(slots, 2 * node + 1), greatestBelow(slots, 2 * node + 2));
}

/** A page with these slots, node by node from the definition. */
function makePage(slots: Uint8Array): Page {
  const page = new Page();
  for (let node = 0; node < FIRST_SLOT; node++) page.u8[NODES + node] = greatestBelow(slots, node);
  page.u8.set(slots, NODES + FIRST_SLOT);
  return page;
}

const test = suite("page/free_space_map");

test("fsmLeafToBlock() counts pages in depth-first order", () => {
  assert.is(SlotsPerFSMPage, 4069);
  const blocks: number[] = [];
  let block = 1; // after the root
  for (let middle = 0; middle < 3; middle++) {
    block++; // the middle page itself
    for (let leaf = 0; leaf < SlotsPerFSMPage; leaf++) blocks.push(block++);
  }
  for (let leaf = 0; leaf < blocks.length; leaf++) {
    if (fsmLeafToBlock(leaf) !== blocks[leaf]) assert.is(fsmLeafToBlock(leaf), blocks[leaf], `leaf ${leaf}`);
  }
  assert.equal([0, 4068, 4069, 0xfffffffe].map(heapBlockToFsmBlock), [2, 2, 3, 1055794]);
});

test("fsmTruncateAvail() empties the slots that go and makes the upper nodes fit", () => {
  const random = seededRandom("page/free_space_map");
  for (const cut of [0, 1, 2, 1000, 4067, 4068]) {
    const slots = random.bytes(SlotsPerFSMPage);
    const page = makePage(slots);
    assert.is(fsmGetAvail(page, SlotsPerFSMPage * 7 + 4068), slots[4068]);
    fsmTruncateAvail(page, SlotsPerFSMPage * 5 + cut);
    slots.fill(0, cut);
    assert.equal(page.u8, makePage(slots).u8);
  }
});

test("fsmTruncateAvail() leaves a page alone that has nothing to lose", () => {
  const page = makePage(new Uint8Array(SlotsPerFSMPage).fill(9, 0, 50));
  page.u8[NODES] = 200; // stale upper nodes are repaired only with a change, as in PostgreSQL
  const before = page.u8.slice();
  fsmTruncateAvail(page, 50);
  assert.equal(page.u8, before);
});

test("fsmBlocksAfterTruncate() keeps the page that is cut, which fsmBlockCutByTruncate() names", () => {
  const sizes = [0, 1, 4069, 4070];
  assert.equal(sizes.map(fsmBlocksAfterTruncate), [2, 3, 3, 4]);
  assert.equal(sizes.map(fsmBlockCutByTruncate), [-1, 2, -1, 3]);
});

test.run();
