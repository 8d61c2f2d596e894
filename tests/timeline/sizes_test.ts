/** Sizes: the table of current ones, and the bytes of a size. */
import { CorruptionError } from "../../src/errors.ts";
import { ABSENT, decodeSize, encodeSize, SizeTable } from "../../src/timeline/sizes.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("timeline/sizes");

test("SizeTable: a space never seen is absent and never had a block", () => {
  const sizes = new SizeTable();
  for (const space of [0, 255, 256, 1_000_000]) {
    assert.is(sizes.get(space), ABSENT);
    assert.is(sizes.highWater(space), 0);
  }
});

test("SizeTable.set() keeps the most blocks a space ever had, unless told it", () => {
  const sizes = new SizeTable();
  for (const [blocks, highWater] of [[3, 3], [1, 3], [ABSENT, 3], [0, 3], [5, 5]]) {
    sizes.set(7, blocks);
    assert.equal([sizes.get(7), sizes.highWater(7)], [blocks, highWater]);
  }
  sizes.set(8, ABSENT, 0xffff_fffe);
  sizes.set(8, 2);
  assert.equal([sizes.get(8), sizes.highWater(8)], [2, 0xffff_fffe]);
});

test("SizeTable holds what a map holds, over all of its growth", () => {
  const random = seededRandom("sizes");
  const sizes = new SizeTable();
  const model = new Map<number, number>();
  for (let round = 0; round < 5000; round++) {
    const space = random.int(0, 3000);
    const blocks = random.chance(0.1) ? ABSENT : random.uint32();
    sizes.set(space, blocks);
    model.set(space, blocks);
  }
  for (let space = 0; space <= 3000; space++) {
    if (sizes.get(space) !== (model.get(space) ?? ABSENT)) assert.unreachable(`space ${space}`);
  }
  assert.ok(model.size > 1000);
});

test("decodeSize() reads what encodeSize() writes, and nothing of another length", () => {
  const bytes = new Uint8Array(20);
  bytes.set(encodeSize(0xffff_fffe, 0xffff_ffff), 5);
  assert.equal(decodeSize(bytes, 5, 8), { blocks: 0xffff_fffe, highWater: 0xffff_ffff });
  for (const length of [0, 7, 9]) assert.raises(() => decodeSize(bytes, 5, length), CorruptionError);
});

test.run();
