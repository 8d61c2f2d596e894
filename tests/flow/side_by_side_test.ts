/** Work on many things a few at a time, and histograms. */
import { Histogram } from "../../src/flow/histogram.ts";
import { sideBySide } from "../../src/flow/side_by_side.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("flow/side_by_side");

test("sideBySide() runs every item once, in order, never more than the limit", async () => {
  let running = 0;
  let most = 0;
  const begun: number[] = [];
  await sideBySide([...Array(20).keys()], 3, async (item) => {
    begun.push(item);
    most = Math.max(most, ++running);
    for (let turns = item % 4; turns >= 0; turns--) await Promise.resolve();
    running--;
  });
  assert.equal(begun, [...Array(20).keys()]);
  assert.equal([most, running], [3, 0]);
});

test("sideBySide() throws the first error once what had begun is over, and begins nothing after it", async () => {
  const begun: number[] = [];
  let running = 0;
  const work = sideBySide([0, 1, 2, 3, 4, 5], 2, async (item) => {
    begun.push(item);
    running++;
    for (let turns = item === 0 ? 10 : 1; turns > 0; turns--) await Promise.resolve();
    running--;
    if (item === 1) throw new Error("one");
  });
  await assert.rejects(work, /one/);
  assert.equal([begun, running], [[0, 1], 0]);
  await sideBySide([], 2, () => Promise.reject(new Error("never")));
});

test("Histogram counts values up to each bound", () => {
  const histogram = new Histogram([1, 5, 10]);
  for (const value of [0, 1, 2, 5, 7, 100]) histogram.observe(value);
  assert.equal(histogram.cumulative(), [2, 4, 5]);
  assert.equal([histogram.count, histogram.sum], [6, 115]);
});

test.run();
