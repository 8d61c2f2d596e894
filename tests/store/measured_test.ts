/** The store that is counted. */
import { UnavailableError, VarveError } from "../../src/errors.ts";
import { measured, type StoreCall } from "../../src/store/measured.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { objectStoreTests } from "../suites/object_store.ts";
import { collect, keysOf, pattern, pieces, text } from "../suites/object_store_helpers.ts";

const test = suite("store/measured");

objectStoreTests(test, () => {
  const store = measured(new MemoryStore(), new ManualClock(), () => {});
  return Promise.resolve({ store, [Symbol.asyncDispose]: () => store.close() });
});

function counted() {
  const memory = new MemoryStore();
  const calls: StoreCall[] = [];
  const clock = new ManualClock();
  return { memory, calls, clock, store: measured(memory, clock, (call) => calls.push(call)) };
}

test("every call is reported once, with bytes and outcome", async () => {
  const { store, calls } = counted();
  await store.put("a", pattern(1000));
  await store.put("b", pieces(pattern(500), 100));
  await store.put("c", { open: (pieces(pattern(300), 100) as { open: never }).open });
  await store.get("a");
  await store.getRange("a", 10, 20);
  await collect((await store.getStream("a")).body);
  await store.head("a");
  await keysOf(store, "");
  await store.delete("a");
  assert.equal(calls.map(({ operation, outcome, bytes }) => `${operation} ${outcome} ${bytes}`), [
    "put ok 1000",
    "put ok 500",
    "put ok 300",
    "get ok 1000",
    "getRange ok 20",
    "getStream ok 1000",
    "head ok 0",
    "list ok 0",
    "delete ok 0",
  ]);
});

test("failures are reported by their kind", async () => {
  const { store, calls, memory } = counted();
  await memory.put("a", text("x"));
  await assert.rejects(store.get("none"));
  await assert.rejects(store.getStream("none"));
  await assert.rejects(store.put("a", text("y"), { condition: { ifAbsent: true } }));
  await assert.rejects(store.getRange("a", 0, 9));
  await assert.rejects(store.head("a", { signal: AbortSignal.abort() }));
  memory.get = () => Promise.reject(new UnavailableError("down"));
  await assert.rejects(store.get("a"));
  memory.get = () => Promise.reject(new VarveError("STORE_DENIED", "no"));
  await assert.rejects(store.get("a"));
  assert.equal(calls.map(({ operation, outcome }) => `${operation} ${outcome}`), [
    "get not_found",
    "getStream not_found",
    "put precondition_failed",
    "getRange error",
    "head abandoned",
    "get unavailable",
    "get denied",
  ]);
});

test("a stream or listing counts until its end, or until it is left", async () => {
  const { store, calls, clock, memory } = counted();
  await memory.put("a", pattern(600_000));
  await memory.put("b", text("x"));
  const { body } = await store.getStream("a");
  await clock.advance(2_000);
  assert.equal(calls, []);
  await collect(body);
  assert.equal(calls, [{ operation: "getStream", outcome: "ok", bytes: 600_000, seconds: 2 }]);
  const left = (await store.getStream("a")).body.getReader();
  const first = (await left.read()).value!.length;
  await left.cancel();
  assert.equal(calls[1], { operation: "getStream", outcome: "abandoned", bytes: first, seconds: 0 });
  for await (const _ of store.list("")) break;
  assert.is(calls[2].outcome, "abandoned");
  assert.is(calls.length, 3);
});

test.run();
