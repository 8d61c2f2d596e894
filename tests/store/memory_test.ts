/** The store in memory. */
import { MemoryStore } from "../../src/store/memory.ts";
import { assert, suite } from "../support/harness.ts";
import { objectStoreTests } from "../suites/object_store.ts";
import { text } from "../suites/object_store_helpers.ts";

const test = suite("store/memory");

objectStoreTests(test, () => {
  const store = new MemoryStore();
  return Promise.resolve({ store, [Symbol.asyncDispose]: () => store.close() });
});

test("modifiedMs comes from the clock that was given", async () => {
  const clock = { now: () => 1234, monotonicMs: () => 0, random: () => 0, sleep: () => Promise.resolve() };
  const store = new MemoryStore({ clock });
  await store.put("a", text("x"));
  assert.is((await store.head("a")).modifiedMs, 1234);
});

test.run();
