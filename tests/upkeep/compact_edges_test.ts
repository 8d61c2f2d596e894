/** Upkeep at its edges: local copies that come and go or are damaged, pages that redo cannot make, plans. */
import { UnsupportedError } from "../../src/errors.ts";
import { ImageFloors } from "../../src/layer/image_floors.ts";
import { compareKeys, FAMILY_RELATION, type Key } from "../../src/layer/key.ts";
import { KEY_MAX, KEY_MIN, keyOf, nextKey, previousKey } from "../../src/layer/key_range.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import type { Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { planCompaction, planEverything, type Run } from "../../src/upkeep/compact_plan.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { cutParts, dueParts, rangesWithout } from "../../src/upkeep/images_plan.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { randomKeys } from "../support/layers.ts";
import { DB, filledPage, imageRecord, pageRecord, recordOf, SPC } from "../support/made_wal.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { SeededRandom, seededRandom } from "../support/random.ts";
import { SMALL, Twins } from "./twins.ts";

const test = suite("upkeep/edges", { timeoutMs: 60_000 });

test("compact() leaves local copies of what it made, and none of what it replaced", async () => {
  const local = new MemoryLocalLayers();
  const twins = await Twins.open(new SeededRandom(11), { local });
  for (let flush = 0; flush < 4; flush++) {
    await twins.writeRandom(25);
    await twins.flush();
  }
  const { attached, store, clock, manifest } = twins.kept;
  const target = UpkeepTarget.ofWriter({ attached, store, clock, local }, manifest);
  await compact(target, { ...SMALL, everything: true });
  await makeImages(target, { ...SMALL, everything: true });
  const names = attached.timeline.layers.layers().map(({ name }) => name).sort();
  assert.equal([...local.files.keys()].sort(), names);
  assert.equal(names.filter((name) => !attached.files.isResident(name)), []);
  assert.is(local.temporary.size, 0);
  await twins.check();
  await twins.close();
});

test("compact() reads from the store what is damaged on disk", async () => {
  const local = new MemoryLocalLayers();
  const twins = await Twins.open(new SeededRandom(12), { local });
  for (let flush = 0; flush < 4; flush++) {
    await twins.writeRandom(25);
    await twins.flush();
  }
  // The middle of a block, which only its checksum tells.
  for (const bytes of local.files.values()) bytes[200] ^= 0xff;
  const { attached, store, clock, manifest } = twins.kept;
  const target = UpkeepTarget.ofWriter({ attached, store, clock, local }, manifest);
  const done = await compact(target, { ...SMALL, everything: true });
  assert.is(done!.inputs, 4);
  await twins.check();
  await twins.close();
});

test("compact() reads remote layers by range, within its budget, and downloads none of them whole", async () => {
  const store = new BentStore();
  const twins = await Twins.open(new SeededRandom(14), { store });
  for (let flush = 0; flush < 4; flush++) {
    await twins.writeRandom(60);
    await twins.flush();
  }
  const { clock } = twins.kept;
  // A guest with a cache that is empty.
  const local = new MemoryLocalLayers();
  const attached = await attachReader({ store, clock, local });
  const inputs = attached.timeline.layers.layers();
  const total = inputs.reduce((sum, { size }) => sum + size, 0);
  let longest = 0;
  const getRange = store.getRange.bind(store);
  store.getRange = (key, offset, length, options) => {
    longest = Math.max(longest, length);
    return getRange(key, offset, length, options);
  };
  const target = UpkeepTarget.ofGuest({ attached, store, clock, local });
  await compact(target, { ...SMALL, everything: true, readBytes: 1 });
  const { byCause } = attached.files.counters;
  assert.is(byCause.compaction.downloads + byCause.read.downloads, 0);
  assert.ok(byCause.compaction.rangeBytes >= total / 2);
  assert.is(byCause.read.rangeBytes, 0);
  assert.equal(inputs.filter(({ name }) => local.files.has(name)), []);
  // The least that one read takes: two of them for each input are what a budget that is too small comes to.
  assert.ok(longest <= 64 * 1024, `${longest} bytes at once`);
  await attached.close();
  await twins.check();
  await twins.close();
});

test("makeImages() leaves a space out in which a page cannot be made, and images the rest", async () => {
  const twins = await Twins.open(new SeededRandom(13));
  const [supported, custom, after] = [16384, 16385, 16386];
  for (const rel of [supported, custom, after]) {
    await twins.write(imageRecord({ rel, block: 0, image: filledPage(1) }));
    await twins.write(imageRecord({ rel, block: 1, image: filledPage(2) }));
  }
  // A manager of an extension's.
  await twins.write(recordOf(200, 0, [{ rel: custom, block: 1, put: [1] }], new Uint8Array(0)));
  await twins.write(pageRecord({ rel: after, block: 1, put: [9] }));
  await twins.flush();
  const leftOut: { c: number }[] = [];
  const made = await twins.makeImages({ everything: true, leftOut: leftOut as never });
  assert.ok(made!.images > 1);
  assert.equal(leftOut.map(({ c }) => c), [custom]);
  const { layers } = twins.kept.timeline;
  const lsn = twins.lsns.at(-1)!;
  const visited = (rel: number) =>
    [...layers.search({ family: FAMILY_RELATION, a: SPC, b: DB, c: rel, d: 0 }, 1, lsn)].map(({ layer }) =>
      layer.kind
    );
  assert.equal(visited(supported), ["image"]);
  assert.equal(visited(custom), ["delta"]);
  assert.equal(visited(after), ["image"]);
  const page = (rel: number, block: number) => twins.kept.page(rel, block);
  await assert.rejects(() => page(custom, 1), UnsupportedError);
  assert.equal(await page(custom, 0), await twins.plain.page(custom, 0));
  assert.equal(await page(after, 1), await twins.plain.page(after, 1));
  // Known now: what is left out weighs nothing.
  assert.is(await twins.makeImages({ everything: true, leftOut: leftOut as never }), undefined);
  await twins.close();
});

test("ImageFloors: the newest complete image over each key, as a search by hand finds it", () => {
  const random = seededRandom("upkeep/edges floors");
  for (let round = 0; round < 50; round++) {
    const keys = [KEY_MIN, ...randomKeys(random, 20), KEY_MAX];
    const layers = Array.from({ length: random.int(0, 8) }, (_, n) => {
      const ends = [random.pick(keys), random.pick(keys)].sort(compareKeys);
      return {
        name: `${n}`,
        kind: "image",
        complete: random.chance(0.8),
        keyMin: ends[0],
        keyMax: ends[1],
        lsnStart: random.int(1, 9),
      } as unknown as LayerDescriptor;
    });
    const lsn = random.int(1, 9) as Lsn;
    const floors = new ImageFloors(layers, lsn);
    const floorOf = (key: Key) =>
      Math.max(
        0,
        ...layers.filter(({ complete, keyMin, keyMax, lsnStart }) =>
          complete && lsnStart <= lsn && compareKeys(keyMin, key) <= 0 && compareKeys(key, keyMax) <= 0
        ).map(({ lsnStart }) => lsnStart),
      );
    for (const key of keys) {
      for (const each of [previousKey(key), key, nextKey(key)]) {
        if (each !== undefined) assert.is(floors.lowest(each, each), floorOf(each));
      }
    }
    // Without gaps, from end to end.
    const { segments } = floors;
    assert.equal(segments[0].keyMin, KEY_MIN);
    assert.equal(segments.at(-1)!.keyMax, KEY_MAX);
    for (let index = 1; index < segments.length; index++) {
      assert.equal(segments[index].keyMin, nextKey(segments[index - 1].keyMax));
    }
  }
});

test("planCompaction() rewrites each byte a few times only, and never leaves more runs than it should", () => {
  for (const flushes of [20, 100]) {
    let runs: Run[] = [];
    let written = 0;
    for (let flush = 0; flush < flushes; flush++) {
      const layer = { size: 100 } as LayerDescriptor;
      runs.push({ lsnStart: flush * 10 as Lsn, lsnEnd: flush * 10 + 10 as Lsn, layers: [layer], bytes: 100 });
      written += 100;
      const plan = planCompaction(runs);
      if (plan === undefined) continue;
      assert.is(plan.lsnEnd, runs.at(-1)!.lsnEnd);
      const merged = { ...plan, layers: [{ size: plan.bytes } as LayerDescriptor] };
      runs = [...runs.filter(({ lsnStart }) => lsnStart < plan.lsnStart), merged];
      written += plan.bytes;
      assert.ok(runs.length <= 3);
    }
    const amplification = written / (flushes * 100);
    assert.ok(amplification <= (flushes === 20 ? 3 : 6.5), `${amplification} after ${flushes}`);
  }
});

test("planCompaction() and planEverything() merge no more bytes at once than they may", () => {
  const runOf = (bytes: number, index: number, level = 1): Run => ({
    lsnStart: index * 10 as Lsn,
    lsnEnd: index * 10 + 10 as Lsn,
    layers: [{ size: bytes, level } as LayerDescriptor],
    bytes,
  });
  const policy = { runsMax: 2, mergeBytesMax: 100 };
  const runs = [90, 60, 50, 20].map((bytes, index) => runOf(bytes, index));
  assert.is(planCompaction(runs, policy)!.bytes, 70);
  assert.is(planCompaction([90, 60, 70].map((bytes, index) => runOf(bytes, index)), policy), undefined);
  assert.is(planEverything(runs, policy)!.bytes, 70);
  assert.is(planEverything([90, 60, 70].map((bytes, index) => runOf(bytes, index)), policy), undefined);
  // What a flush made is split by key, be it by itself.
  assert.is(planEverything([runOf(200, 0), runOf(300, 1, 0)], policy)!.bytes, 300);
});

test("cutParts() covers the key space without gaps, in parts of bounded size, and cuts only what is too large", () => {
  const random = seededRandom("upkeep/edges parts");
  for (let round = 0; round < 50; round++) {
    const live = Array.from({ length: random.int(0, 12) }, (_, n) => ({
      space: { family: FAMILY_RELATION, a: SPC, b: DB, c: 16384 + n, d: 0 },
      blocks: random.pick([0, 1, 3, 9, 10, 11, 35]),
    }));
    const parts = cutParts(live, [], 10 * 8192);
    assert.equal(parts[0].keyMin, KEY_MIN);
    assert.equal(parts.at(-1)!.keyMax, KEY_MAX);
    for (let index = 1; index < parts.length; index++) {
      assert.equal(parts[index].keyMin, nextKey(parts[index - 1].keyMax));
    }
    for (const { pageBytes } of parts) assert.ok(pageBytes <= 10 * 8192);
    const sum = parts.reduce((total, { pageBytes }) => total + pageBytes, 0);
    assert.is(sum, live.reduce((total, { blocks }) => total + blocks * 8192, 0));
    for (const { space, blocks } of live) {
      const holding = parts.filter(({ spaces }) => spaces?.some((each) => each.space.c === space.c));
      if (blocks > 0) assert.is(holding.length, blocks <= 10 ? 1 : holding.length);
      const from = keyOf(space);
      const first = parts.find(({ keyMax }) => compareKeys(from, keyMax) <= 0)!;
      if (blocks > 0) assert.ok(first.spaces!.some((each) => each.space.c === space.c));
    }
  }
});

test("dueParts() measures deltas by the image, and what is below the cut-off all together", () => {
  const part = (deltaBytes: number, imageBytes: number, cutOffBytes = 0) => ({
    keyMin: KEY_MIN,
    keyMax: KEY_MAX,
    spaces: undefined,
    pageBytes: 0,
    isCovered: true,
    deltaBytes,
    imageBytes,
    cutOffBytes,
  });
  const policy = { imageRatio: 0.5, imageDeltaBytesMin: 100 };
  const [little, much, tiny] = [part(400, 1000), part(500, 1000), part(99, 10)];
  assert.equal(dueParts([little, much, tiny], policy), [much]);
  const [held, alsoHeld] = [part(300, 1000, 300), part(900, 2000, 900)];
  assert.equal(dueParts([held, alsoHeld, little], policy), []);
  const stillHeld = part(600, 2000, 600);
  assert.equal(
    dueParts([held, alsoHeld, stillHeld, part(0, 9000)], { ...policy, imageRatio: 0.3 }).length,
    3,
  );
  const range = { keyMin: KEY_MIN, keyMax: KEY_MAX };
  const space = { family: 0, a: 1, b: 2, c: 3, d: 0 };
  const rest = rangesWithout(range, [space]);
  assert.equal(rest, [
    { keyMin: KEY_MIN, keyMax: previousKey(keyOf(space))! },
    { keyMin: nextKey(keyOf(space, 0xffff_ffff))!, keyMax: KEY_MAX },
  ]);
});

test.run();
