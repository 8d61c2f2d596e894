/** The store that tries again. */
import {
  CorruptionError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  VarveError,
} from "../../src/errors.ts";
import type { VarveEvent } from "../../src/ports/events.ts";
import type { ObjectStore, PutOptions } from "../../src/ports/object_store.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { retrying, type RetryingStoreOptions } from "../../src/store/retrying.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { seededRandom } from "../support/random.ts";
import { objectStoreTests } from "../suites/object_store.ts";
import { collect, keysOf, pattern, pieces, sameBytes, text, textOf } from "../suites/object_store_helpers.ts";

const test = suite("store/retrying");

type Fault = "before" | "after" | (() => Promise<unknown>);

/**
 * A store in memory whose calls fail as planned: `before` it did anything, `after` it did everything, or where a
 * function is given, before it did anything and after that function ran.
 */
function faulty(options: Partial<RetryingStoreOptions> = {}) {
  const memory = new MemoryStore();
  const plan: Fault[] = [];
  const calls: string[] = [];
  const clock = new ManualClock();
  clock.autoAdvance = true;
  const failing = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
    calls.push(name);
    const fault = plan.shift();
    if (fault === undefined) return await call();
    if (fault === "after") await call();
    else if (fault !== "before") await fault();
    throw new UnavailableError(`the network failed at call ${calls.length}`);
  };
  const flaky: ObjectStore = {
    description: "flaky:",
    put: (key, body, options) => failing("put", () => memory.put(key, body, options)),
    get: (key, options) => failing("get", () => memory.get(key, options)),
    getRange: (key, offset, length, options) =>
      failing("getRange", () => memory.getRange(key, offset, length, options)),
    getStream: (key, options) => failing("getStream", () => memory.getStream(key, options)),
    head: (key, options) => failing("head", () => memory.head(key, options)),
    delete: (key, options) => failing("delete", () => memory.delete(key, options)),
    async *list(prefix, options) {
      let count = 0;
      for await (const info of memory.list(prefix, options)) {
        if (count++ % 3 === 2) await failing("list", () => Promise.resolve());
        yield info;
      }
    },
    close: () => memory.close(),
  };
  return { memory, plan, calls, clock, store: retrying(flaky, { clock, ...options }) };
}

const ifAbsent: PutOptions = { condition: { ifAbsent: true } };

objectStoreTests(test, () => {
  const store = retrying(new MemoryStore(), { clock: new ManualClock() });
  return Promise.resolve({ store, [Symbol.asyncDispose]: () => store.close() });
});

test("every call is repeated until it works", async () => {
  const { store, plan, clock, memory } = faulty();
  await memory.put("a", text("abc"));
  const failTwice = () => plan.push("before", "before");
  failTwice();
  assert.is(textOf((await store.get("a")).bytes), "abc");
  failTwice();
  assert.is(textOf(await store.getRange("a", 1, 2)), "bc");
  failTwice();
  assert.is(textOf(await collect((await store.getStream("a")).body)), "abc");
  failTwice();
  assert.is((await store.head("a")).size, 3);
  failTwice();
  await store.put("b", pieces(pattern(1000)));
  failTwice();
  await store.delete("a");
  assert.equal(await keysOf(store, ""), ["b"]);
  assert.is(plan.length, 0);
  assert.is(clock.sleeps.length, 12);
});

test("delays grow, and events tell of every try", async () => {
  const events: VarveEvent[] = [];
  const { store, plan, clock } = faulty({ onEvent: (event) => events.push(event), backoff: { jitter: 0 } });
  plan.push("before", "before", "before");
  await store.put("a", text("x"));
  assert.equal(clock.sleeps, [100, 200, 400]);
  assert.equal(events.map(({ topic, level, fields }) => [topic, level, fields?.tries]), [
    ["store.retry", "warn", 1],
    ["store.retry", "warn", 2],
    ["store.retry", "warn", 3],
  ]);
  assert.match(events[0].message, /the network failed at call 1; trying again in 100 ms/);
});

test("the last error passes when the tries are used up", async () => {
  const { store, plan, calls } = faulty({ attempts: 3 });
  plan.push("before", "before", "before");
  await assert.rejects(store.get("a"), "the network failed at call 3");
  assert.is(calls.length, 3);
  assert.raises(() => faulty({ attempts: 0 }), RangeError);
});

test("no try is begun after the time is up", async () => {
  const { store, plan, clock } = faulty({
    attempts: 100,
    totalMs: 5_000,
    backoff: { initialMs: 1_000, jitter: 0 },
  });
  plan.push(...Array(100).fill("before"));
  await assert.rejects(store.get("a"), UnavailableError);
  assert.equal(clock.sleeps, [1_000, 2_000]); // 4 000 more would be too late
});

test("other errors pass at once", async () => {
  const { store, calls } = faulty();
  await store.put("a", text("abc"));
  await assert.rejects(store.get("b"), NotFoundError);
  await assert.rejects(store.getRange("a", 0, 9), CorruptionError);
  await assert.rejects(store.put("a", text("x"), ifAbsent), PreconditionFailedError);
  await assert.rejects(store.get("../a"), TypeError);
  assert.is(calls.length, 5);
});

test("a signal ends the waiting", async () => {
  const controller = new AbortController();
  const { store, plan, clock } = faulty();
  clock.autoAdvance = false;
  plan.push("before");
  const waiting = store.get("a", { signal: controller.signal });
  for (let i = 0; clock.sleeping === 0 && i < 100; i++) await Promise.resolve();
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(await assert.rejects(waiting), reason);
});

test("list() goes on behind the last key after a failure, neither twice nor never", async () => {
  const { store, plan, memory } = faulty();
  const keys = Array.from({ length: 20 }, (_, i) => `k/${100 + i}`);
  for (const key of keys) await memory.put(key, text(key));
  for (let i = 0; i < 6; i++) plan.push("before");
  assert.equal(await keysOf(store, "k/"), keys);
  assert.is(plan.length, 0);
});

test("a conditional write that happened unseen is recognised as one's own", async () => {
  for (
    const body of [text("mine"), pieces(text("mine"), 2), {
      open: (pieces(text("mine"), 3) as { open: never }).open,
    }]
  ) {
    const { store, plan, memory } = faulty();
    plan.push("after");
    const created = await store.put("m", body, ifAbsent);
    assert.is((await memory.head("m")).etag, created.etag);
    plan.push("after", "before", "before"); // not answered, and looking fails as well
    const replaced = await store.put("m", text("mine again"), { condition: { ifMatch: created.etag } });
    assert.equal(await memory.get("m"), { bytes: text("mine again"), etag: replaced.etag });
  }
});

test("a look at a write that went unanswered may be cut, and is repeated", async () => {
  const { memory, plan, calls, store } = faulty();
  const getStream = memory.getStream.bind(memory);
  let cuts = 2;
  memory.getStream = async (key, options) => {
    if (cuts-- <= 0) return await getStream(key, options);
    return {
      size: 3,
      body: new ReadableStream({
        pull: (controller) => controller.error(new CorruptionError("the body ended early")),
      }),
    };
  };
  plan.push("after");
  const { etag } = await store.put("a", text("one"), { condition: { ifAbsent: true } });
  assert.is(etag, (await memory.head("a")).etag);
  assert.equal(calls.filter((name) => name === "put"), ["put"]);
  assert.is(cuts, -1);
});

test("a conditional write that did not happen is repeated", async () => {
  const { store, plan, memory } = faulty();
  plan.push("before", "before");
  const { etag } = await store.put("m", text("first"), ifAbsent);
  plan.push("before");
  await store.put("m", text("second"), { condition: { ifMatch: etag } });
  assert.is(textOf((await memory.get("m")).bytes), "second");
});

test("a conditional write that lost while it was not answered is told so", async () => {
  const { store, plan, memory } = faulty();
  plan.push(() => memory.put("m", text("theirs")));
  await assert.rejects(store.put("m", text("mine"), ifAbsent), PreconditionFailedError);
  assert.is(textOf((await memory.get("m")).bytes), "theirs");

  const { etag } = await memory.head("m");
  plan.push(() => memory.delete("m"));
  await assert.rejects(
    store.put("m", text("mine"), { condition: { ifMatch: etag } }),
    PreconditionFailedError,
  );
  assert.equal(await keysOf(memory, ""), []);
});

test("a conditional write that was replaced before it was seen is told so", async () => {
  const { store, plan, memory } = faulty();
  plan.push(async () => {
    const { etag } = await memory.put("m", text("mine"), ifAbsent);
    await memory.put("m", text("theirs, on top"), { condition: { ifMatch: etag } });
  });
  await assert.rejects(store.put("m", text("mine"), ifAbsent), PreconditionFailedError);
  assert.is(textOf((await memory.get("m")).bytes), "theirs, on top");
});

test("a conditional write that arrives late is recognised by its repetition", async () => {
  const { store, plan, memory } = faulty();
  // The first try is lost; then looking finds nothing; then the first arrives before the second.
  plan.push("before", () => memory.put("m", text("mine"), ifAbsent));
  const { etag } = await store.put("m", text("mine"), ifAbsent);
  assert.equal(await memory.get("m"), { bytes: text("mine"), etag });
});

test("nobody believes to have won who has not, whatever fails", async () => {
  const random = seededRandom("retrying");
  const memory = new MemoryStore();
  let { etag: start } = await memory.put("m", text("start"));
  const flaky = new Proxy(memory, {
    get(target, name) {
      const member = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return async (...args: unknown[]) => {
        if (random.chance(0.2)) throw new UnavailableError("before");
        const result = await member.apply(target, args);
        if (random.chance(0.2)) throw new UnavailableError("after");
        return result;
      };
    },
  });
  for (let round = 0; round < 60; round++) {
    const condition = { ifMatch: start };
    const outcomes = await Promise.allSettled(Array.from({ length: 4 }, (_, writer) => {
      const clock = new ManualClock();
      clock.autoAdvance = true;
      return retrying(flaky, { clock, attempts: 1_000, totalMs: 1e9 }).put(
        "m",
        text(`${round} by ${writer}`),
        { condition },
      );
    }));
    const won = outcomes.flatMap((outcome, writer) =>
      outcome.status === "fulfilled" ? [{ writer, ...outcome.value }] : []
    );
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") assert.instance(outcome.reason, VarveError);
    }
    const { bytes, etag } = await memory.get("m");
    assert.is(won.length, 1);
    assert.equal([textOf(bytes), etag], [`${round} by ${won[0].writer}`, won[0].etag]);
    start = etag;
  }
});

test("a large body is compared in pieces", async () => {
  const { store, plan, memory } = faulty();
  const body = pattern(3_000_000);
  plan.push("after");
  await store.put("large", pieces(body), ifAbsent);
  sameBytes((await memory.get("large")).bytes, body, "large");
  const other = body.slice();
  other[2_999_999] ^= 1;
  plan.push("before");
  await assert.rejects(store.put("large", pieces(other), ifAbsent), PreconditionFailedError);
});

test.run();
