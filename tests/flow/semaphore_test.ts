/** Bounded parallelism. */
import { type Release, Semaphore } from "../../src/flow/semaphore.ts";
import { assert, suite } from "../support/harness.ts";
import { settle } from "../support/manual_clock.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("flow/semaphore");

/** Asks, and notes its name when admitted. */
function asker(semaphore: Semaphore, admitted: string[]) {
  const releases = new Map<string, Release>();
  const ask = (name: string, background = false, signal?: AbortSignal) => {
    const asked = semaphore.acquire({ background, signal });
    asked.then((release) => {
      admitted.push(name);
      releases.set(name, release);
    }, () => {});
    return asked;
  };
  const release = async (name: string) => {
    releases.get(name)!();
    await settle();
  };
  return { ask, release };
}

test("acquire() admits as many as there are permits, the rest in order", async () => {
  const semaphore = new Semaphore(2);
  const admitted: string[] = [];
  const { ask, release } = asker(semaphore, admitted);
  for (const name of ["a", "b", "c", "d"]) ask(name);
  await settle();
  assert.equal(admitted, ["a", "b"]);
  assert.equal([semaphore.held, semaphore.waiting], [2, 2]);
  await release("b");
  assert.equal(admitted, ["a", "b", "c"]);
  await release("b"); // once is enough
  assert.equal(admitted, ["a", "b", "c"]);
  await release("a");
  await release("c");
  await release("d");
  assert.equal([semaphore.held, semaphore.waiting], [0, 0]);
});

test("acquire() admits what is on demand before what is in the background", async () => {
  const semaphore = new Semaphore(1);
  const admitted: string[] = [];
  const { ask, release } = asker(semaphore, admitted);
  ask("first");
  ask("background 1", true);
  ask("background 2", true);
  ask("demand 1");
  ask("demand 2");
  await settle();
  const order = ["first", "demand 1", "demand 2", "background 1", "background 2"];
  for (const name of order) await release(name);
  assert.equal(admitted, order);
});

test("backgroundLimit keeps permits free for demand", async () => {
  const semaphore = new Semaphore(3, { backgroundLimit: 1 });
  const admitted: string[] = [];
  const { ask, release } = asker(semaphore, admitted);
  for (const name of ["b1", "b2", "b3"]) ask(name, true);
  await settle();
  assert.equal(admitted, ["b1"]);
  ask("d1");
  ask("d2");
  await settle();
  assert.equal(admitted, ["b1", "d1", "d2"]);
  await release("d1");
  assert.equal(admitted, ["b1", "d1", "d2"]);
  await release("b1");
  assert.equal(admitted, ["b1", "d1", "d2", "b2"]);
});

test("acquire() that is aborted leaves the queue with the reason", async () => {
  const semaphore = new Semaphore(1);
  const admitted: string[] = [];
  const { ask, release } = asker(semaphore, admitted);
  ask("a");
  const controller = new AbortController();
  const waiting = ask("b", false, controller.signal);
  ask("c");
  const reason = new Error("no time");
  controller.abort(reason);
  assert.is(await assert.rejects(waiting), reason);
  await release("a");
  assert.equal(admitted, ["a", "c"]);
  assert.is(await assert.rejects(semaphore.acquire({ signal: AbortSignal.abort(reason) })), reason);
  assert.is(semaphore.waiting, 0);
});

test("run() gives the permit back, whatever happens", async () => {
  const semaphore = new Semaphore(1);
  assert.is(await semaphore.run(() => Promise.resolve(3)), 3);
  const error = new Error("broken");
  assert.is(await assert.rejects(semaphore.run(() => Promise.reject(error))), error);
  assert.is(semaphore.held, 0);
});

test("never more hold a permit than there are, whoever aborts when", async () => {
  const random = seededRandom("semaphore");
  const semaphore = new Semaphore(3, { backgroundLimit: 2 });
  let [running, most, done] = [0, 0, 0];
  await Promise.all(Array.from({ length: 200 }, async () => {
    const controller = new AbortController();
    const work = semaphore.run(async () => {
      most = Math.max(most, ++running);
      for (let i = random.int(0, 5); i > 0; i--) await Promise.resolve();
      running--;
    }, { background: random.chance(0.5), signal: controller.signal });
    if (random.chance(0.3)) {
      for (let i = random.int(0, 50); i > 0; i--) await Promise.resolve();
      controller.abort();
    }
    await work.then(() => done++, () => {});
  }));
  assert.is(most, 3);
  assert.ok(done > 100);
  assert.equal([semaphore.held, semaphore.waiting, running], [0, 0, 0]);
});

test("the constructor refuses what is no number of permits", () => {
  for (const permits of [0, -1, 1.5, NaN, Infinity]) assert.raises(() => new Semaphore(permits), RangeError);
  assert.raises(() => new Semaphore(1, { backgroundLimit: 0 }), RangeError);
});

test.run();
