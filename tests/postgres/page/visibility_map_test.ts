import { Page } from "../../../src/postgres/page/page.ts";
import {
  HEAPBLOCKS_PER_PAGE,
  heapBlockToMapBlock,
  mapBlockCutByTruncate,
  mapBlocksAfterTruncate,
  VISIBILITYMAP_ALL_FROZEN,
  visibilityMapClear,
  visibilityMapGet,
  visibilityMapSet,
} from "../../../src/postgres/page/visibility_map.ts";
import { assert, suite } from "../../support/harness.ts";
import { seededRandom } from "../../support/random.ts";

const LAST_BLOCK = 0xfffffffe;

const test = suite("page/visibility_map");

test("visibilityMapSet() and visibilityMapClear() change the two bits of one heap block and say whether they did", () => {
  const random = seededRandom("page/visibility_map");
  const page = new Page();
  const model = new Uint8Array(HEAPBLOCKS_PER_PAGE);
  for (let time = 0; time < 5000; time++) {
    const at = random.pick([
      random.int(0, 20),
      random.int(0, HEAPBLOCKS_PER_PAGE - 1),
      HEAPBLOCKS_PER_PAGE - 1,
    ]);
    const heapBlock = at + HEAPBLOCKS_PER_PAGE * random.pick([0, 1, 100_000]);
    const bits = random.int(1, 3);
    if (random.chance(0.6)) {
      assert.is(visibilityMapSet(page, heapBlock, bits), model[at] !== bits);
      model[at] |= bits;
    } else {
      assert.is(visibilityMapClear(page, heapBlock, bits), (model[at] & bits) !== 0);
      model[at] &= ~bits;
    }
    assert.is(visibilityMapGet(page, heapBlock), model[at]);
  }
  assert.ok(model.every((bits, at) => visibilityMapGet(page, at) === bits));
  assert.ok(page.u8.subarray(0, 24).every((byte) => byte === 0), "the header is untouched");
});

test("visibilityMapGet() finds frozen bits above visible ones, four blocks to a byte", () => {
  const page = new Page();
  visibilityMapSet(page, 5, VISIBILITYMAP_ALL_FROZEN);
  assert.is(page.u8[25], 0x08);
});

test("heapBlockToMapBlock() reaches to the last heap block there can be", () => {
  assert.is(HEAPBLOCKS_PER_PAGE, 32672);
  assert.equal([0, 32671, 32672, LAST_BLOCK].map(heapBlockToMapBlock), [0, 0, 1, 131457]);
});

test("mapBlocksAfterTruncate() keeps the page that is cut, which mapBlockCutByTruncate() names", () => {
  assert.equal([0, 1, 32672, 32673, 65344].map(mapBlocksAfterTruncate), [0, 1, 1, 2, 2]);
  assert.equal([0, 1, 32672, 32673, 65344].map(mapBlockCutByTruncate), [-1, 0, -1, 1, -1]);
});

test.run();
