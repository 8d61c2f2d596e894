/** A budget of bytes. */
import { ByteBudget } from "../../src/flow/byte_budget.ts";
import { assert, suite } from "../support/harness.ts";
import { settle } from "../support/manual_clock.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("flow/byte_budget");

test("reserve() waits while the budget is used up, in order", async () => {
  const budget = new ByteBudget(100);
  await budget.reserve(60);
  await budget.reserve(40);
  const order: string[] = [];
  budget.reserve(50).then(() => order.push("large"));
  budget.reserve(10).then(() => order.push("small"));
  await settle();
  assert.equal([budget.used, budget.waiting, order], [100, 2, []]);
  budget.release(40); // 10 would fit, but it came later
  await settle();
  assert.equal(order, []);
  budget.release(10);
  await settle();
  assert.equal(order, ["large"]);
  budget.release(60);
  await settle();
  assert.equal([order, budget.used], [["large", "small"], 50]);
});

test("reserve() admits what is larger than the budget, alone", async () => {
  const budget = new ByteBudget(100);
  await budget.reserve(1);
  let admitted = false;
  const large = budget.reserve(1000).then(() => admitted = true);
  await settle();
  assert.not(admitted);
  budget.release(1);
  await large;
  assert.is(budget.used, 1000);
  assert.not(budget.tryReserve(1));
  budget.release(1000);
  assert.ok(budget.tryReserve(100));
});

test("reserve() that is aborted holds nothing and makes way", async () => {
  const budget = new ByteBudget(100);
  await budget.reserve(90);
  const controller = new AbortController();
  const large = budget.reserve(50, controller.signal);
  let admitted = false;
  budget.reserve(10).then(() => admitted = true);
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(await assert.rejects(large), reason);
  await settle();
  assert.ok(admitted);
  assert.equal([budget.used, budget.waiting], [100, 0]);
  assert.is(await assert.rejects(budget.reserve(1, AbortSignal.abort(reason))), reason);
});

test("tryReserve() does not jump the queue", async () => {
  const budget = new ByteBudget(100);
  await budget.reserve(80);
  budget.reserve(50);
  assert.not(budget.tryReserve(10));
  assert.is(budget.waiting, 1);
});

test("release() refuses more than is reserved, reserve() what is no number of bytes", async () => {
  const budget = new ByteBudget(100);
  await budget.reserve(10);
  assert.raises(() => budget.release(11), RangeError);
  for (const bytes of [-1, 0.5, NaN]) assert.raises(() => budget.tryReserve(bytes), RangeError);
  assert.raises(() => new ByteBudget(0), RangeError);
  await budget.reserve(0);
  assert.is(budget.used, 10);
});

test("the sum stays within the budget, whoever aborts when", async () => {
  const random = seededRandom("byte budget");
  const budget = new ByteBudget(1000);
  let most = 0;
  await Promise.all(Array.from({ length: 300 }, async () => {
    const bytes = random.int(0, 1000);
    const controller = new AbortController();
    const reserved = budget.reserve(bytes, controller.signal).then(() => true, () => false);
    if (random.chance(0.2)) {
      for (let i = random.int(0, 30); i > 0; i--) await Promise.resolve();
      controller.abort();
    }
    if (!(await reserved)) return;
    most = Math.max(most, budget.used);
    for (let i = random.int(0, 5); i > 0; i--) await Promise.resolve();
    budget.release(bytes);
  }));
  assert.ok(most <= 1000 && most > 500, `${most}`);
  assert.equal([budget.used, budget.waiting], [0, 0]);
});

test.run();
