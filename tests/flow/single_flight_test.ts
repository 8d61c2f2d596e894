/** One flight for many askers. */
import { SingleFlight } from "../../src/flow/single_flight.ts";
import { assert, suite } from "../support/harness.ts";
import { settle } from "../support/manual_clock.ts";

const test = suite("flow/single_flight");

/** A flight whose landing the test decides. */
function flight() {
  let resolve!: (value: string) => void;
  let reject!: (reason: unknown) => void;
  const landing = new Promise<string>((...how) => [resolve, reject] = how);
  const signals: AbortSignal[] = [];
  const start = (signal: AbortSignal) => {
    signals.push(signal);
    signal.addEventListener("abort", () => reject(signal.reason));
    return landing;
  };
  return {
    resolve: (value: string) => resolve(value),
    reject: (reason: unknown) => reject(reason),
    start,
    signals,
  };
}

test("run() starts one flight for many askers and shares its result", async () => {
  const flights = new SingleFlight<string, string>();
  const { start, signals, resolve } = flight();
  const askers = Array.from({ length: 50 }, () => flights.run("key", start, new AbortController().signal));
  askers.push(flights.run("key", start));
  assert.ok(flights.has("key"));
  await settle();
  resolve("bytes");
  assert.equal(await Promise.all(askers), Array(51).fill("bytes"));
  assert.is(signals.length, 1);
  assert.is(flights.size, 0);
});

test("run() shares the error and starts anew after it", async () => {
  const flights = new SingleFlight<string, string>();
  const { start, reject, signals } = flight();
  const askers = [flights.run("key", start), flights.run("key", start)];
  const error = new Error("no such layer");
  await settle();
  reject(error);
  for (const asker of askers) assert.is(await assert.rejects(asker), error);
  assert.is(await flights.run("key", () => Promise.resolve("second")), "second");
  assert.is(signals.length, 1);
});

test("run() turns an error thrown by start into a rejection", async () => {
  const flights = new SingleFlight<string, string>();
  const error = new Error("thrown");
  const thrown = flights.run("key", () => {
    throw error;
  });
  assert.is(await assert.rejects(thrown), error);
  assert.is(flights.size, 0);
});

test("run() keeps keys apart", async () => {
  const flights = new SingleFlight<number, number>();
  const results = await Promise.all(
    [1, 2, 1].map((key) => flights.run(key, () => Promise.resolve(key * 10))),
  );
  assert.equal(results, [10, 20, 10]);
});

test("an asker that gives up gets its own reason and leaves the others' flight alone", async () => {
  const flights = new SingleFlight<string, string>();
  const { start, signals, resolve } = flight();
  const [one, two] = [new AbortController(), new AbortController()];
  const first = flights.run("key", start, one.signal);
  const second = flights.run("key", start, two.signal);
  await settle();
  const reason = new Error("no time");
  one.abort(reason);
  assert.is(await assert.rejects(first), reason);
  assert.not(signals[0].aborted);
  resolve("bytes");
  assert.is(await second, "bytes");
});

test("a flight whose every asker gave up is aborted, and the next asker gets a new one", async () => {
  const flights = new SingleFlight<string, string>();
  const { start, signals } = flight();
  const controllers = [new AbortController(), new AbortController()];
  const askers = controllers.map(({ signal }) => flights.run("key", start, signal));
  await settle();
  for (const controller of controllers) controller.abort(new Error("gone"));
  assert.ok(signals[0].aborted);
  const next = flights.run("key", () => Promise.resolve("fresh"));
  for (const asker of askers) await assert.rejects(asker, "gone");
  assert.is(await next, "fresh");
});

test("an asker without a signal keeps the flight in the air", async () => {
  const flights = new SingleFlight<string, string>();
  const { start, signals, resolve } = flight();
  const controller = new AbortController();
  const patient = flights.run("key", start);
  const other = flights.run("key", start, controller.signal);
  await settle();
  controller.abort(new Error("gone"));
  await assert.rejects(other, "gone");
  assert.not(signals[0].aborted);
  resolve("bytes");
  assert.is(await patient, "bytes");
});

test("a detached flight runs on without askers, for the next one to join", async () => {
  const flights = new SingleFlight<string, string>({ detached: true });
  const { start, signals, resolve } = flight();
  const controller = new AbortController();
  const first = flights.run("key", start, controller.signal);
  await settle();
  controller.abort(new Error("gone"));
  await assert.rejects(first, "gone");
  assert.not(signals[0].aborted);
  const second = flights.run("key", start);
  resolve("bytes");
  assert.is(await second, "bytes");
  assert.is(signals.length, 1);
});

test("run() with a signal that has fired starts nothing", async () => {
  const flights = new SingleFlight<string, string>();
  const { start, signals } = flight();
  const reason = new Error("before");
  assert.is(await assert.rejects(flights.run("key", start, AbortSignal.abort(reason))), reason);
  await settle();
  assert.is(signals.length, 0);
});

test.run();
