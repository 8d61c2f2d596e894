/** The memory layer against a plain model, and the space table. */
import { KeySpaceModel, randomModification } from "./memory_layer_model.ts";
import { type MemoryEntry, MemoryLayer } from "../../src/layer/memory_layer.ts";
import { NO_SPACE, SpaceTable } from "../../src/layer/space_table.ts";
import { ValueChain } from "../../src/layer/value_chain.ts";
import type { Lsn } from "../../src/lsn.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("layer/memory_layer");

test("SpaceTable.intern() gives one id per space, also of many", () => {
  const random = seededRandom("space table");
  const spaces = new SpaceTable();
  const ids = new Map<string, number>();
  for (let round = 0; round < 20_000; round++) {
    const [family, a, b, c, d] = [
      random.uint32() % 3,
      random.uint32() % 4 + 0xffff_fff0,
      random.uint32() % 7,
      random.uint32() % 500,
      random.uint32() % 4,
    ];
    const id = spaces.intern(family, a, b, c, d);
    const name = [family, a, b, c, d].join("/");
    const known = ids.get(name);
    if (known === undefined) ids.set(name, id);
    else if (known !== id) throw new Error(`${name} has ids ${known} and ${id}`);
  }
  assert.is(spaces.count, ids.size);
  for (const [name, id] of ids) {
    const [family, a, b, c, d] = name.split("/").map(Number);
    assert.equal(spaces.get(id), { family, a, b, c, d });
  }
  assert.is(spaces.find(9, 9, 9, 9, 9), NO_SPACE);
});

test("MemoryLayer.collect() finds what a model finds, at every LSN", () => {
  const random = seededRandom("memory layer");
  const start = 0x1_0000_0000_00 as Lsn;
  const layer = new MemoryLayer(start, 1);
  const model = new KeySpaceModel();
  let lsn: number = start;
  for (let round = 0; round < 50; round++) {
    const { modification, values } = randomModification(random, lsn);
    layer.append(modification);
    model.add(values);
    lsn = modification.endLsn;
  }
  assert.is(layer.endLsn, lsn);
  for (let round = 0; round < 2000; round++) {
    const [space, block] = [random.uint32() % 4, [0, 1, 127, 128, 129, 100_000][random.uint32() % 6]];
    const at = start + random.uint32() % (lsn - start + 16) as Lsn;
    const chain = new ValueChain();
    const ended = layer.collect(space, block, at, chain);
    const expected = model.collect(space, block, at);
    assert.equal(chain.lsns, expected.lsns);
    assert.is(ended, expected.ended);
  }
});

test("MemoryLayer.forEachVersion() visits each key in order, the last of equal LSNs", () => {
  const random = seededRandom("memory layer order");
  const layer = new MemoryLayer(0 as Lsn, 1);
  const model = new KeySpaceModel();
  let lsn = 8;
  for (let round = 0; round < 20; round++) {
    const { modification, values } = randomModification(random, lsn);
    layer.append(modification);
    model.add(values);
    lsn = modification.endLsn;
  }
  let visited = 0;
  for (let space = 0; space < 4; space++) {
    const blocks: number[] = [];
    layer.forEachBlock(space, (block) => blocks.push(block));
    assert.equal(blocks, [...blocks].sort((left, right) => left - right));
    for (const block of blocks) {
      const lsns: number[] = [];
      layer.forEachVersion(space, block, (entry) => lsns.push(entry.lsn));
      assert.equal(lsns, model.lsnsOf(space, block));
      visited += lsns.length;
    }
  }
  assert.ok(visited > 100);
});

test("MemoryLayer.visitInOrder() visits what forEachVersion() does, block after block", () => {
  const random = seededRandom("memory layer key order");
  const layer = new MemoryLayer(0 as Lsn, 1);
  for (let round = 0; round < 300; round++) {
    layer.append(randomModification(random, layer.endLsn).modification);
  }
  const copy = (entry: MemoryEntry) => ({ ...entry });
  const expected: MemoryEntry[] = [];
  const spaces = [2, 0, 3, 1];
  for (const space of spaces) {
    layer.forEachBlock(space, (block) => {
      layer.forEachVersion(space, block, (entry) => expected.push(copy(entry)));
    });
  }
  const order = layer.inKeyOrder(spaces);
  assert.is(order.blockCounts.reduce((sum, count) => sum + count), order.blocks.length);
  assert.is(order.starts.at(-1), layer.entryCount);
  const visited: MemoryEntry[] = [];
  for (let from = 0; from < order.blocks.length;) {
    const to = Math.min(order.blocks.length, from + 1 + random.uint32() % 5);
    layer.visitInOrder(order, from, to, (entry) => visited.push(copy(entry)));
    from = to;
  }
  assert.is(visited.length, expected.length);
  for (const [index, entry] of visited.entries()) {
    if (entry.bytes !== expected[index].bytes) throw new Error(`Entry ${index} has other bytes`);
  }
  const facts = (
    entry: MemoryEntry,
  ) => [entry.block, entry.lsn, entry.flags, entry.offset, entry.length, entry.hole];
  assert.equal(visited.map(facts), expected.map(facts));
  assert.ok(expected.length > 1000);
});

test.run();
