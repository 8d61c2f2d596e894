/** Waiting with a way out. */
import { UnavailableError } from "../../src/errors.ts";
import { anySignal, raceAbort, withTimeout } from "../../src/flow/abort.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock, settle } from "../support/manual_clock.ts";

const test = suite("flow/abort");

test("anySignal() fires with the reason of the first that does", () => {
  const [one, two] = [new AbortController(), new AbortController()];
  using any = anySignal(one.signal, undefined, two.signal);
  assert.not(any.signal.aborted);
  const reason = new Error("two");
  two.abort(reason);
  one.abort(new Error("one"));
  assert.is(any.signal.reason, reason);
});

test("anySignal() of one that has fired has fired", () => {
  const reason = new Error("before");
  using any = anySignal(new AbortController().signal, AbortSignal.abort(reason));
  assert.is(any.signal.reason, reason);
});

test("anySignal() that was disposed of does not fire any more", () => {
  const controller = new AbortController();
  const any = anySignal(controller.signal);
  any[Symbol.dispose]();
  controller.abort();
  assert.not(any.signal.aborted);
});

test("withTimeout() fires after its time with an UnavailableError that says what was being done", async () => {
  const clock = new ManualClock();
  using limit = withTimeout(clock, 500, "fetch a layer");
  await clock.advance(499);
  assert.not(limit.signal.aborted);
  await clock.advance(1);
  assert.instance(limit.signal.reason, UnavailableError);
  assert.match(limit.signal.reason.message, /Cannot fetch a layer: .*500 ms/);
  assert.is(limit.signal.reason.code, "TIMEOUT");
});

test("withTimeout() passes an earlier abort on, and ends its timer when it is disposed of", async () => {
  const clock = new ManualClock();
  const controller = new AbortController();
  const limit = withTimeout(clock, 500, "wait", controller.signal);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(limit.signal.reason, reason);
  limit[Symbol.dispose]();
  await settle();
  assert.is(clock.sleeping, 0);
});

test("raceAbort() gives the result, the error or the reason, whichever comes first", async () => {
  const controller = new AbortController();
  assert.is(await raceAbort(Promise.resolve(7), controller.signal), 7);
  assert.is(await raceAbort(Promise.resolve(8)), 8);
  const error = new Error("broken");
  assert.is(await assert.rejects(raceAbort(Promise.reject(error), controller.signal)), error);
  const never = raceAbort(new Promise<never>(() => {}), controller.signal);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(await assert.rejects(never), reason);
  assert.is(await assert.rejects(raceAbort(Promise.reject(error), controller.signal)), reason);
});

test.run();
