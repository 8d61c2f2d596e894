/** The real clock, as far as it can be tested without waiting for it. */
import { systemClock } from "../../src/deps/system_clock.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("deps/system_clock");

test("sleep() takes its time", async () => {
  const startedMs = systemClock.monotonicMs();
  await systemClock.sleep(5);
  assert.ok(systemClock.monotonicMs() - startedMs >= 4); // timers round
});

test("sleep() ends with the reason of a signal, also in a month", async () => {
  const controller = new AbortController();
  const month = systemClock.sleep(30 * 24 * 3_600_000, controller.signal);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(await assert.rejects(month), reason);
  assert.is(await assert.rejects(systemClock.sleep(1, AbortSignal.abort(reason))), reason);
});

test("random() is in [0, 1) and now() is this century", () => {
  for (let i = 0; i < 100; i++) assert.ok(systemClock.random() >= 0 && systemClock.random() < 1);
  assert.ok(systemClock.now() > 1_700_000_000_000);
});

test.run();
