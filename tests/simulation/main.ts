/**
 * `deno task simulate [--seeds N] [--seed S] [--steps N] [--mutation NAME] [--log]`: runs seeds until one breaks a promise.
 *
 * Without `--seed` it begins at a random one; a seed that fails is printed, and `--seed S --log` replays it step by step.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { MUTATIONS } from "./mutations.ts";
import { DEFAULT_STEPS, simulate } from "./simulation.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string" },
    seed: { type: "string" },
    steps: { type: "string" },
    mutation: { type: "string" },
    log: { type: "boolean" },
    help: { type: "boolean" },
  },
});
if (values.help) {
  console.log("simulate [--seeds N] [--seed S] [--steps N] [--mutation NAME] [--log]");
  console.log(`mutations: ${MUTATIONS.map(({ name }) => name).join(", ")}`);
  Deno.exit(0);
}
const mutation = MUTATIONS.find(({ name }) => name === values.mutation);
if (values.mutation !== undefined && mutation === undefined) {
  console.error(`There is no mutation "${values.mutation}"`);
  Deno.exit(2);
}
const first = values.seed === undefined ? Math.floor(Math.random() * 1e9) : Number(values.seed);
const count = Number(values.seeds ?? (values.seed === undefined ? 1000 : 1));
const steps = Number(values.steps ?? DEFAULT_STEPS);
const started = performance.now();
let taken = 0;
const totals: Record<string, number> = {};
for (let seed = first; seed < first + count; seed++) {
  const log = values.log ? (line: string) => console.log(line) : undefined;
  const result = await simulate({ seed, steps, mutation, log });
  taken += result.steps;
  for (const [what, count] of Object.entries(result.counts)) totals[what] = (totals[what] ?? 0) + count;
  if (result.violation === undefined) continue;
  console.log(`seed ${seed} failed after ${result.steps} steps, the ${seed - first + 1}. of this run:`);
  console.log(result.violation);
  console.log(
    `replay: deno task simulate --seed ${seed} --steps ${steps}${
      mutation ? ` --mutation ${mutation.name}` : ""
    } --log`,
  );
  Deno.exit(1);
}
const seconds = (performance.now() - started) / 1000;
console.log(
  `${count} seeds from ${first} on, ${taken} steps in ${seconds.toFixed(1)} s: ${
    Math.round(taken / seconds)
  } steps/s`,
);
console.log(Object.entries(totals).map(([what, count]) => `${what} ${count}`).join(", "));
