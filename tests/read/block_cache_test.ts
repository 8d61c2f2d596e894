/** The byte-bounded cache. */
import { ByteLru } from "../../src/read/block_cache.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("read/block_cache");

test("ByteLru throws out what was used longest ago", () => {
  const cache = new ByteLru<number>(30);
  cache.set("a", 1, 10);
  cache.set("b", 2, 10);
  cache.set("c", 3, 10);
  assert.is(cache.get("a"), 1);
  cache.set("d", 4, 10);
  assert.equal(["a", "b", "c", "d"].map((key) => cache.get(key)), [1, undefined, 3, 4]);
  assert.is(cache.bytes, 30);
  assert.equal([cache.hits, cache.misses], [4, 1]);
});

test("ByteLru holds one value that is larger than all, alone", () => {
  const cache = new ByteLru<number>(30);
  cache.set("a", 1, 10);
  cache.set("large", 2, 100);
  assert.equal([cache.get("a"), cache.get("large"), cache.bytes], [undefined, 2, 100]);
  cache.set("b", 3, 10);
  assert.equal([cache.get("large"), cache.get("b"), cache.bytes], [undefined, 3, 10]);
});

test("ByteLru counts a value that is set again once", () => {
  const cache = new ByteLru<number>(30);
  cache.set("a", 1, 10);
  cache.set("a", 2, 20);
  assert.equal([cache.get("a"), cache.bytes], [2, 20]);
  cache.delete("a");
  cache.delete("a");
  assert.equal([cache.get("a"), cache.bytes], [undefined, 0]);
});

test("ByteLru never holds more than its budget but for one value, whatever is done", () => {
  const random = seededRandom("byte lru");
  const cache = new ByteLru<number>(1000);
  const sizes = new Map<string, number>();
  for (let round = 0; round < 20_000; round++) {
    const key = String(random.int(0, 50));
    const what = random.float();
    if (what < 0.5) {
      const bytes = random.int(0, 400);
      cache.set(key, bytes, bytes);
      sizes.set(key, bytes);
    } else if (what < 0.6) {
      cache.delete(key);
      sizes.delete(key);
    } else {
      const value = cache.get(key);
      if (value !== undefined && value !== sizes.get(key)) assert.unreachable(`${key} is ${value}`);
    }
    if (cache.bytes > 1000) assert.unreachable(`${cache.bytes} bytes`);
  }
  let held = 0;
  for (const key of sizes.keys()) held += cache.get(key) ?? 0;
  assert.is(cache.bytes, held);
});

test.run();
