/**
 * The layer map against brute-force models: the rules of a search LSN by LSN, and reads of a numeric history that is
 * flushed, compacted, imaged and collected.
 */
import { assert, suite } from "../support/harness.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import type { Key } from "../../src/layer/key.ts";
import { type LayerDescriptor, overlapsKeys } from "../../src/layer/layer_descriptor.ts";
import { keyAfter } from "../../src/layer/layer_coverage.ts";
import { LayerMap } from "../../src/layer/layer_map.ts";
import type { LayerVisit } from "../../src/layer/layer_search.ts";
import { type Lsn, lsn } from "../../src/lsn.ts";

const test = suite("layer/layer_map");

/** The keys of the small world: in order, over several spaces, with both ends of the key space. */
const WORLD: readonly Key[] = [
  { family: 0, a: 0, b: 0, c: 0, d: 0, block: 0 },
  ...Array.from(
    { length: 12 },
    (_, block) => ({ family: 0, a: 1663, b: 5, c: 16384, d: 0, block: block * 3 }),
  ),
  { family: 0, a: 1663, b: 5, c: 16384, d: 0, block: 0xffffffff },
  { family: 0, a: 1663, b: 5, c: 16384, d: 1, block: 0 },
  { family: 1, a: 1663, b: 5, c: 16384, d: 0, block: 0 },
  { family: 0xff, a: 0xffffffff, b: 0xffffffff, c: 0xffffffff, d: 0xff, block: 0xffffffff },
];

let made = 0;

function descriptor(
  kind: "delta" | "image" | "complete",
  first: number,
  last: number,
  start: number,
  end: number = start + 1,
): LayerDescriptor {
  return {
    name: `${++made}-${kind}`,
    kind: kind === "delta" ? "delta" : "image",
    keyMin: WORLD[first],
    keyMax: WORLD[last],
    lsnStart: lsn(start),
    lsnEnd: lsn(end),
    size: 1000 + made,
    checksum: made,
    complete: kind === "complete",
    level: 0,
    epoch: 1,
  };
}

function randomLayer(random: SeededRandom, lsnLimit: number): LayerDescriptor {
  const first = random.int(0, WORLD.length - 1);
  const last = random.chance(0.2) ? first : random.int(first, WORLD.length - 1);
  const start = random.int(0, lsnLimit - 1);
  const kind = random.weighted([[6, "delta"], [2, "image"], [1, "complete"]] as const);
  const end = kind === "delta" ? random.int(start + 1, Math.min(lsnLimit, start + 12)) : start + 1;
  return descriptor(kind, first, last, start, end);
}

function search(map: LayerMap, key: Key, at: number): LayerVisit[] {
  return [...map.search(key, key.block, lsn(at))];
}

/** What a search must meet, LSN by LSN from the newest: images first, then the deltas of that LSN. */
function expectedSteps(layers: readonly LayerDescriptor[], key: Key, at: number): string[] {
  const steps: string[] = [];
  for (let l = at; l >= 0; l--) {
    const here = layers.filter((layer) =>
      overlapsKeys(layer, key, key) && layer.lsnStart <= l && l < layer.lsnEnd
    );
    const images = here.filter((layer) => layer.kind === "image");
    const complete = images.filter((layer) => layer.complete).map((layer) => layer.name).sort();
    if (complete.length > 0) return [...steps, `${l} complete image of ${complete}`];
    const partial = images.map((layer) => layer.name).sort();
    if (partial.length > 0) steps.push(`${l} images ${partial}`);
    const deltas = here.filter((layer) => layer.kind === "delta").map((layer) => layer.name).sort();
    if (deltas.length > 0) steps.push(`${l} deltas ${deltas}`);
  }
  return steps;
}

/** The same of what a search gave. */
function actualSteps(visits: readonly LayerVisit[]): string[] {
  const steps: { lsn: number; image: boolean; complete: boolean; names: Set<string> }[] = [];
  for (let i = 0; i < visits.length;) {
    assert.ok(visits[i].from < visits[i].to, "a visit of something");
    let end = i + 1;
    while (end < visits.length && visits[end].merge) {
      assert.equal(
        [visits[end].from, visits[end].to],
        [visits[i].from, visits[i].to],
        "a merge of equal ranges",
      );
      end++;
    }
    const group = visits.slice(i, end).map((visit) => visit.layer);
    const image = group[0].kind === "image";
    for (let l = visits[i].to - 1; l >= visits[i].from; l--) {
      const last = steps.at(-1);
      // Where one layer ends and the next begins, one LSN may be met twice in a row.
      if (last?.lsn === l && last.image === image) group.forEach((layer) => last.names.add(layer.name));
      else {
        steps.push({
          lsn: l,
          image,
          complete: group[0].complete,
          names: new Set(group.map((layer) => layer.name)),
        });
      }
    }
    i = end;
  }
  return steps.map((step) => {
    const what = step.complete ? "complete image of" : step.image ? "images" : "deltas";
    return `${step.lsn} ${what} ${[...step.names].sort()}`;
  });
}

function checkSearches(
  map: LayerMap,
  layers: readonly LayerDescriptor[],
  random: SeededRandom,
  limit: number,
): void {
  for (let i = 0; i < 40; i++) {
    const key = random.pick(WORLD);
    const at = random.int(0, limit + 2);
    const expected = expectedSteps(layers, key, at);
    const actual = actualSteps(search(map, key, at));
    // Of several complete images at one LSN any one will do.
    const last = expected.at(-1) ?? "";
    if (last.includes("complete") && last.includes(",")) {
      assert.ok(last.includes(actual.at(-1)!.split(" ").at(-1)!));
      expected.pop();
      actual.pop();
    }
    assert.equal(actual, expected, `block ${key.block} of family ${key.family} at ${at}`);
  }
}

test("search() visits what the rules say for random layers, overlapping ones too", () => {
  const random = seededRandom("layer_map search");
  for (let round = 0; round < 150; round++) {
    const limit = random.int(4, 80);
    const layers = Array.from({ length: random.int(0, 60) }, () => randomLayer(random, limit));
    checkSearches(LayerMap.of(layers), layers, random, limit);
  }
});

test("withChanges() keeps totals and answers right over many changes, and leaves old maps alone", () => {
  const random = seededRandom("layer_map changes");
  const limit = 400;
  let map = LayerMap.EMPTY;
  let layers: LayerDescriptor[] = [];
  const snapshots: { map: LayerMap; layers: LayerDescriptor[] }[] = [];
  for (let round = 0; round < 120; round++) {
    const remove = random.shuffle([...layers]).slice(0, random.int(0, Math.min(layers.length, 8)));
    const add = Array.from(
      { length: random.int(0, random.chance(0.1) ? 200 : 10) },
      () => randomLayer(random, limit),
    );
    map = map.withChanges({ add, remove: remove.map((layer) => layer.name) });
    layers = [...layers.filter((layer) => !remove.includes(layer)), ...add];
    assert.is(map.count, layers.length);
    assert.is(map.imageCount, layers.filter((layer) => layer.kind === "image").length);
    assert.is(map.totalBytes, layers.reduce((sum, layer) => sum + layer.size, 0));
    assert.equal(map.layers().map((layer) => layer.name).sort(), layers.map((layer) => layer.name).sort());
    if (remove.length > 0) assert.is(map.get(remove[0].name), undefined);
    for (const layer of add) assert.is(map.get(layer.name), layer);
    checkSearches(map, layers, random, limit);
    checkOverlapping(map, layers, random, limit);
    if (random.chance(0.1)) snapshots.push({ map, layers });
  }
  for (const old of snapshots) {
    assert.is(old.map.count, old.layers.length);
    checkSearches(old.map, old.layers, random, limit);
  }
});

function checkOverlapping(
  map: LayerMap,
  layers: readonly LayerDescriptor[],
  random: SeededRandom,
  limit: number,
): void {
  const first = random.int(0, WORLD.length - 1);
  const [keyMin, keyMax] = [WORLD[first], WORLD[random.int(first, WORLD.length - 1)]];
  const from = random.int(0, limit);
  const to = random.int(from, limit);
  const expected = layers.filter((layer) =>
    overlapsKeys(layer, keyMin, keyMax) && layer.lsnStart < to && from < layer.lsnEnd
  );
  const actual = map.overlapping(keyMin, keyMax, lsn(from), lsn(to));
  assert.equal(actual.map((layer) => layer.name).sort(), expected.map((layer) => layer.name).sort());
  for (let i = 1; i < actual.length; i++) assert.ok(actual[i - 1].lsnEnd >= actual[i].lsnEnd, "newest first");
}

test("search() starts below the exclusive end LSN + 1", () => {
  const map = LayerMap.of([descriptor("delta", 1, 5, 100, 200), descriptor("delta", 1, 5, 200, 300)]);
  const at = (position: number) => search(map, WORLD[2], position).map(({ from, to }) => [from, to]);
  assert.equal(at(99), []);
  assert.equal(at(100), [[100, 101]]);
  assert.equal(at(199), [[100, 200]]);
  assert.equal(at(200), [[200, 201], [100, 200]]);
  assert.equal(at(1000), [[200, 300], [100, 200]]);
});

test("search() reads deltas only above an image, and the image before deltas at its LSN", () => {
  const delta = descriptor("delta", 0, 9, 100, 200);
  const image = descriptor("complete", 2, 6, 150);
  const map = LayerMap.of([image, delta]);
  const at = (key: number, position: number) =>
    search(map, WORLD[key], position).map(({ layer, from, to }) => [layer.name, from, to]);
  assert.equal(at(3, 180), [[delta.name, 151, 181], [image.name, 150, 151]]);
  assert.equal(at(3, 150), [[image.name, 150, 151]]);
  assert.equal(at(3, 149), [[delta.name, 100, 150]]);
  assert.equal(at(7, 180), [[delta.name, 100, 181]], "a key beyond the image");
});

test("search() goes on below a partial image, deltas at its LSN included", () => {
  const delta = descriptor("delta", 0, 9, 100, 200);
  const image = descriptor("image", 2, 6, 150);
  const visits = search(LayerMap.of([image, delta]), WORLD[3], 180);
  assert.equal(
    visits.map(({ layer, from, to }) => [layer.name, from, to]),
    [[delta.name, 151, 181], [image.name, 150, 151], [delta.name, 100, 151]],
  );
});

test("search() is lazy: the first step does not depend on how many layers lie below", () => {
  const layers = Array.from(
    { length: 2000 },
    (_, i) => descriptor("delta", 0, WORLD.length - 1, i * 10, i * 10 + 10),
  );
  const visits = LayerMap.of(layers).search(WORLD[3], WORLD[3].block, lsn(1_000_000));
  assert.is(visits.next().value?.layer, layers.at(-1));
  assert.is(visits.next().value?.layer, layers.at(-2));
});

test("withChanges() refuses a name twice and the removal of a stranger", () => {
  const layer = descriptor("delta", 0, 1, 1, 2);
  const map = LayerMap.of([layer]);
  assert.raises(() => map.withChanges({ add: [layer] }), RangeError);
  assert.raises(() => LayerMap.of([layer, layer]), RangeError);
  assert.raises(() => map.withChanges({ remove: ["nobody"] }), RangeError);
  assert.is(map.withChanges({ add: [layer], remove: [layer.name] }).count, 1, "replaced in one change");
  assert.is(map.count, 1);
});

test("keyAfter() carries into the next field, and ends with the greatest key", () => {
  const key = { family: 0, a: 1, b: 2, c: 3, d: 4, block: 5 };
  assert.equal(keyAfter(key), { ...key, block: 6 });
  assert.equal(keyAfter({ ...key, block: 0xffffffff }), { ...key, d: 5, block: 0 });
  assert.equal(keyAfter({ ...key, c: 0xffffffff, d: 0xff, block: 0xffffffff }), {
    ...key,
    b: 3,
    c: 0,
    d: 0,
    block: 0,
  });
  assert.is(keyAfter(WORLD[WORLD.length - 1]), undefined);
});

/** An entry of the numeric history: sets the key's value (and so ends a chain), or adds to it. */
interface Change {
  lsn: number;
  sets: boolean;
  value: number;
}

/** A timeline of numbers: what the map is for, without bytes. */
class NumericTimeline {
  readonly random: SeededRandom;
  /** Truth: all changes of each key of the world, ascending. */
  readonly history: Change[][] = WORLD.map(() => []);
  /** What each layer holds: changes by key. */
  readonly contents = new Map<string, Map<number, Change[]>>();
  map = LayerMap.EMPTY;
  lsn = 100;
  /** Reads below are collected. */
  cutoff = 100;

  constructor(random: SeededRandom) {
    this.random = random;
    // A base backup: partial images at the start LSN, with overlapping ranges; half of the keys do not exist.
    for (let part = 0; part < 2; part++) {
      const content = new Map<number, Change[]>();
      for (let key = part; key < WORLD.length; key += 4) {
        const change = { lsn: this.lsn, sets: true, value: random.int(1, 1000) };
        this.history[key].push(change);
        content.set(key, [change]);
      }
      this.add("image", content, this.lsn, this.lsn + 1);
    }
  }

  add(
    kind: "delta" | "image" | "complete",
    content: Map<number, Change[]>,
    start: number,
    end: number,
    range: [number, number] = [Math.min(...content.keys()), Math.max(...content.keys())],
  ): void {
    const layer = descriptor(kind, range[0], range[1], start, end);
    this.contents.set(layer.name, content);
    this.map = this.map.withChanges({ add: [layer] });
  }

  flush(): void {
    const start = this.lsn + 1;
    const content = new Map<number, Change[]>();
    for (let n = this.random.int(1, 15); n > 0; n--) {
      this.lsn += this.random.int(1, 4);
      const key = this.random.int(0, WORLD.length - 1);
      const change = { lsn: this.lsn, sets: this.random.chance(0.2), value: this.random.int(1, 1000) };
      this.history[key].push(change);
      content.set(key, [...content.get(key) ?? [], change]);
    }
    this.add("delta", content, start, this.lsn + 1);
  }

  value(key: number, at: number): number | undefined {
    let value: number | undefined;
    for (const change of this.history[key]) {
      if (change.lsn <= at) value = change.sets ? change.value : (value ?? 0) + change.value;
    }
    return value;
  }

  /** All keys of a range at an LSN; the range is wider than the keys that exist. */
  image(): void {
    const at = this.random.int(this.cutoff, this.lsn);
    const first = this.random.int(0, WORLD.length - 1);
    const last = this.random.int(first, WORLD.length - 1);
    const content = new Map<number, Change[]>();
    for (let key = first; key <= last; key++) {
      const value = this.value(key, at);
      if (value !== undefined) content.set(key, [{ lsn: at, sets: true, value }]);
    }
    this.add("complete", content, at, at + 1, [first, last]);
  }

  /** Rewrites some of the deltas that follow one another, split by key. */
  compact(): void {
    const deltas = this.map.layers().filter((layer) => layer.kind === "delta").reverse();
    const wide = deltas.slice(0, this.random.int(0, deltas.length));
    if (wide.length < 2) return;
    const start = Math.min(...wide.map((layer) => layer.lsnStart));
    const end = Math.max(...wide.map((layer) => layer.lsnEnd));
    // Only whole LSN ranges: what a later layer has of this range must not be left out.
    const inputs = deltas.filter((layer) => layer.lsnStart >= start && layer.lsnEnd <= end);
    const parts = new Map<number, Map<number, Change[]>>();
    for (const layer of inputs) {
      for (const [key, changes] of this.contents.get(layer.name)!) {
        const content = parts.get(Math.floor(key / 5)) ?? new Map<number, Change[]>();
        parts.set(Math.floor(key / 5), content.set(key, [...content.get(key) ?? [], ...changes]));
      }
    }
    this.map = this.map.withChanges({ remove: inputs.map((layer) => layer.name) });
    for (const content of parts.values()) {
      for (const changes of content.values()) changes.sort((left, right) => left.lsn - right.lsn);
      this.add("delta", content, start, end);
    }
  }

  /** Drops what lies below the cut-off and under complete images. */
  collect(): void {
    this.cutoff = this.random.int(this.cutoff, this.lsn);
    const complete = this.map.layers().filter((layer) => layer.complete && layer.lsnStart <= this.cutoff);
    const gone = this.map.layers().filter((layer) =>
      complete.some((image) =>
        image !== layer && layer.lsnEnd <= image.lsnStart + 1 && layer.lsnStart < image.lsnStart &&
        overlapsKeys(image, layer.keyMin, layer.keyMin) && overlapsKeys(image, layer.keyMax, layer.keyMax)
      )
    );
    this.map = this.map.withChanges({ remove: gone.map((layer) => layer.name) });
  }

  read(key: number, at: number): number | undefined {
    let added = 0;
    let found = false;
    let newest = Infinity;
    for (const { layer, from, to, merge } of this.map.search(WORLD[key], WORLD[key].block, lsn(at))) {
      assert.is(merge, false);
      for (const change of [...this.contents.get(layer.name)!.get(key) ?? []].reverse()) {
        if (change.lsn < from || change.lsn >= to) continue;
        assert.ok(change.lsn < newest || layer.kind === "image", "newest to oldest");
        newest = change.lsn;
        added += change.value;
        found = true;
        if (change.sets) return added;
      }
    }
    return found ? added : undefined;
  }
}

test("search() finds every value of a history that is flushed, compacted, imaged and collected", () => {
  const random = seededRandom("layer_map timeline");
  for (let round = 0; round < 40; round++) {
    const timeline = new NumericTimeline(random);
    for (let step = 0; step < 40; step++) {
      const act = random.weighted([[6, "flush"], [2, "image"], [2, "compact"], [1, "collect"]] as const);
      timeline[act]();
      for (let i = 0; i < 10; i++) {
        const key = random.int(0, WORLD.length - 1);
        const at = random.int(timeline.cutoff, timeline.lsn) as Lsn;
        assert.is(timeline.read(key, at), timeline.value(key, at), `key ${key} at ${at} after ${act}`);
      }
    }
  }
});

test.run();
