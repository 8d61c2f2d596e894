/**
 * The simulation: seeds pass, one seed is one run, and every deliberate bug is found.
 *
 * `VARVE_SIMULATION_SEEDS` sets how many seeds; a seed that fails is printed, and `deno task simulate --seed S --log`
 * replays it.
 *
 * @module
 */
import { assert, suite } from "../support/harness.ts";
import { MUTATIONS } from "./mutations.ts";
import { simulate, type SimulationResult } from "./simulation.ts";

const test = suite("simulation", { timeoutMs: 900_000 });

const SEEDS = Number(Deno.env.get("VARVE_SIMULATION_SEEDS") ?? 10_000);
/** Fewer steps than by default, so that there is time for many seeds; more in some, which get further. */
const stepsOf = (seed: number) => seed % 5 === 0 ? 150 : 45;
/** Steps of the runs that look for a mutation. */
const MUTATION_STEPS = 200;
/** Within so many a mutation must be found. */
const MUTATION_SEEDS = 5000;

test(`simulate() keeps every promise with ${SEEDS} seeds`, async () => {
  const started = performance.now();
  const totals: Record<string, number> = {};
  let steps = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = await simulate({ seed, steps: stepsOf(seed) });
    steps += result.steps;
    for (const [what, count] of Object.entries(result.counts)) totals[what] = (totals[what] ?? 0) + count;
    if (result.violation !== undefined) assert.unreachable(describe(result));
  }
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${SEEDS} seeds, ${steps} steps in ${seconds.toFixed(0)} s: ${Math.round(steps / seconds)} steps/s`,
  );
  console.log(Object.entries(totals).map(([what, count]) => `${what} ${count}`).join(", "));
  for (const [what, count] of Object.entries(totals)) assert.ok(count > 0, `no ${what} in any run`);
});

test("simulate() runs a seed the same way every time", async () => {
  for (const seed of [3, 14, 15, 92]) {
    const lines: string[][] = [[], []];
    const results: SimulationResult[] = [];
    for (const log of lines) results.push(await simulate({ seed, log: (line) => void log.push(line) }));
    const quiet = await simulate({ seed });
    assert.equal(lines[0], lines[1]);
    assert.equal(results[0], results[1]);
    assert.equal(quiet, results[0], "also when nobody listens");
  }
});

for (const mutation of MUTATIONS) {
  test(`simulate() finds the mutation ${mutation.name}`, async () => {
    for (let seed = 1; seed <= MUTATION_SEEDS; seed++) {
      const result = await simulate({ seed, steps: MUTATION_STEPS, mutation });
      if (result.violation === undefined) continue;
      console.log(`${mutation.name}: seed ${seed}, step ${result.steps}: ${result.violation.split("\n")[0]}`);
      return assert.ok(true);
    }
    assert.unreachable(`not found with ${MUTATION_SEEDS} seeds`);
  });
}

function describe({ seed, steps, violation }: SimulationResult): string {
  return `seed ${seed} failed at step ${steps}: ${violation}\n` +
    `replay: deno task simulate --seed ${seed} --steps ${stepsOf(seed)} --log`;
}

test.run();
