/** Which layers have a local copy: when one is worth a download, who makes room, and that too small a budget is no disaster. */
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import { Residency } from "../../src/read/residency.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("read/residency");

const layer = (name: string, size = 100) => ({ name, size }) as LayerDescriptor;
const always = () => true;

/** What a layer's reader does: a use and a range, then a download if it is worth one and there is room. */
function read(
  residency: Residency,
  name: string,
  bytes = 50,
  mayGo: (name: string) => boolean = always,
): boolean {
  residency.use(name, undefined);
  if (residency.has(name)) return true;
  if (!residency.countRange(layer(name), bytes)) return false;
  const victims = residency.roomFor(layer(name), mayGo, false);
  for (const victim of victims ?? []) residency.remove(victim);
  if (victims !== undefined) residency.add(name, 100);
  return false;
}

test("countRange() says that a layer is worth a download once its share was read, and counts anew then", () => {
  const residency = new Residency({ hotShare: 0.25 });
  assert.not.ok(residency.countRange(layer("a"), 24));
  assert.ok(residency.countRange(layer("a"), 1));
  assert.not.ok(residency.countRange(layer("a"), 24));
  assert.not.ok(new Residency({ hotShare: Infinity }).countRange(layer("a"), 1e9));
  assert.ok(new Residency({ hotShare: 0 }).countRange(layer("a"), 0));
});

test("residentBytes moves with add(), remove() and forget() only", () => {
  const residency = new Residency();
  residency.add("a", 10);
  residency.add("b", 20);
  residency.add("a", 10);
  assert.equal([residency.residentBytes, residency.residentCount], [30, 2]);
  residency.use("a", 5);
  residency.countRange(layer("c"), 1000);
  residency.reserve("c", 1000);
  assert.is(residency.residentBytes, 30);
  residency.release("c");
  residency.remove("b");
  residency.remove("b");
  residency.forget("a");
  assert.equal([residency.residentBytes, residency.residentCount, residency.lastUsedMs("a")], [
    0,
    0,
    undefined,
  ]);
});

test("overBudget() names the least recently used, but none that may not go", () => {
  const residency = new Residency({ localBytes: 300 });
  for (const name of ["a", "b", "c", "d", "e"]) residency.add(name, 100);
  residency.use("a", undefined);
  assert.equal(residency.overBudget(always), ["b", "c"]);
  assert.equal(residency.overBudget((name) => name !== "b" && name !== "c"), ["d", "e"]);
  assert.equal(residency.overBudget(() => false), []);
});

test("roomFor() displaces only what is read half as often at most, and never what is protected", () => {
  const residency = new Residency({ localBytes: 300, protectedBytes: 100 });
  for (const name of ["a", "b", "c"]) residency.add(name, 100);
  for (let i = 0; i < 4; i++) for (const name of ["a", "b", "c"]) residency.use(name, undefined);
  for (let i = 0; i < 7; i++) residency.use("new", undefined);
  assert.is(residency.roomFor(layer("new"), always, false), undefined, "seven reads against four");
  residency.use("new", undefined);
  assert.equal(residency.roomFor(layer("new"), always, false), ["a"]);
  assert.equal(residency.roomFor(layer("new", 200), always, false), ["a", "b"]);
  assert.is(residency.roomFor(layer("new", 300), always, false), undefined, "the last one used is protected");
  assert.equal(residency.roomFor(layer("new", 300), always, true), ["a", "b", "c"], "unless one insists");
  assert.is(residency.roomFor(layer("new", 301), always, true), undefined);
  assert.equal(
    residency.roomFor(layer("new"), (name) => name !== "a", false),
    ["b"],
    "one that is read stays",
  );
});

test("roomFor() counts what downloads under way will add", () => {
  const residency = new Residency({ localBytes: 300 });
  residency.reserve("x", 250);
  assert.is(residency.roomFor(layer("a"), always, false), undefined);
  residency.release("x");
  assert.equal(residency.roomFor(layer("a"), always, false), []);
});

test("a working set twice the budget, read round and round, is served by copies to nearly half", () => {
  const residency = new Residency({ localBytes: 1000 });
  let local = 0;
  let displaced = 0;
  const rounds = 200;
  for (let round = 0; round < rounds; round++) {
    for (let each = 0; each < 20; each++) {
      const before = residency.residentCount;
      if (read(residency, `layer-${each}`)) local++;
      else if (residency.residentCount === before && residency.has(`layer-${each}`)) displaced++;
    }
  }
  // Least recently used alone would serve nothing at all from copies.
  assert.ok(local / (rounds * 20) > 0.45, `${local} of ${rounds * 20} reads were local`);
  assert.ok(displaced < 20, `${displaced} copies were displaced`);
});

test("what is read often displaces what was, after a while", () => {
  const random = seededRandom("change of mind");
  const residency = new Residency({ localBytes: 1000 });
  for (let i = 0; i < 5_000; i++) read(residency, `old-${random.int(0, 9)}`);
  for (let i = 0; i < 30_000; i++) read(residency, `new-${random.int(0, 9)}`);
  const fresh = residency.names().filter((name) => name.startsWith("new-")).length;
  assert.ok(fresh >= 7, `${fresh} of ${residency.residentCount}`);
});

test("new Residency() refuses a budget that is none", () => {
  assert.throws(() => new Residency({ localBytes: -1 }), RangeError);
  assert.throws(() => new Residency({ hotShare: NaN }), RangeError);
});

test.run();
