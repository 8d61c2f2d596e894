/** Delays between tries. */
import { Backoff } from "../../src/flow/backoff.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock } from "../support/manual_clock.ts";

const test = suite("flow/backoff");

test("next() grows by the factor up to the cap", () => {
  const backoff = new Backoff(new ManualClock(), { initialMs: 100, factor: 3, maxMs: 1000 });
  assert.equal([1, 2, 3, 4, 5].map(() => backoff.next()), [100, 300, 900, 1000, 1000]);
  assert.is(backoff.attempts, 5);
});

test("reset() starts over", () => {
  const backoff = new Backoff(new ManualClock(), { initialMs: 10 });
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal([backoff.attempts, backoff.next()], [0, 10]);
});

test("jitter takes off up to its share and never adds", () => {
  const clock = new ManualClock();
  clock.chances = [0, 0.5, 0.999];
  const backoff = new Backoff(clock, { initialMs: 100, factor: 1, jitter: 0.5 });
  assert.equal([1, 2, 3].map(() => Math.round(backoff.next())), [100, 75, 50]);
});

test("wait() sleeps for the delay and can be aborted", async () => {
  const clock = new ManualClock();
  const backoff = new Backoff(clock, { initialMs: 100 });
  const first = backoff.wait();
  await clock.advance(100);
  assert.is(await first, 100);
  const controller = new AbortController();
  const second = backoff.wait(controller.signal);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(await assert.rejects(second), reason);
  assert.equal(clock.sleeps, [100, 200]);
});

test("the constructor refuses what is no schedule", () => {
  const clock = new ManualClock();
  for (
    const bad of [{ initialMs: 0 }, { factor: 0.5 }, { maxMs: 1 }, { jitter: 2 }, { jitter: -1 }, {
      initialMs: NaN,
    }]
  ) {
    assert.raises(() => new Backoff(clock, bad), RangeError);
  }
});

test.run();
