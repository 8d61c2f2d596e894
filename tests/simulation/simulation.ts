/**
 * Runs one seed: first everything happens at once, then faults end and what is begun must come to its end.
 *
 * @module
 */
import { formatLsn } from "../../src/lsn.ts";
import type { Mutation } from "./mutations.ts";
import { addBranches } from "./branches.ts";
import { addCompaction } from "./compaction.ts";
import { addReaders } from "./readers.ts";
import { addRetention, collectAll } from "./retention.ts";
import { MAIN, World } from "./world.ts";
import { SimulatedProcess } from "./scheduler.ts";
import { addWriters } from "./writer.ts";

export interface SimulationOptions {
  seed: number;
  /** Steps with faults. Default: {@linkcode DEFAULT_STEPS}. */
  steps?: number;
  mutation?: Mutation;
  /** Told what happens. */
  log?: (line: string) => void;
}

export interface SimulationResult {
  seed: number;
  /** All of them. */
  steps: number;
  /** Two runs of one seed have the same. */
  fingerprint: number;
  /** What promise was broken; undefined if none was. */
  violation: string | undefined;
  /** What has happened how often. */
  counts: World["counts"];
}

export const DEFAULT_STEPS = 200;
/** Steps within which everything must have come to its end once there are no faults. */
const SETTLING_STEPS = 4000;
/** Pages read at the end. */
const LAST_READS = 12;

/** Runs a seed. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { log } = options;
  // Errors are ordinary here, and their stacks take longer than all else; who replays a seed has them.
  const { stackTraceLimit } = Error;
  if (log === undefined) Error.stackTraceLimit = 0;
  try {
    return await run(options);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Time passes, more than what anybody waits for. */
function addTime({ scheduler, actions }: World): void {
  const somebody = new SimulatedProcess("time", scheduler);
  actions.push({
    rate: 0.02,
    run: () => void somebody.clock.sleep(scheduler.random.int(10_000, 1_500_000)),
  });
}

async function run(
  { seed, steps = DEFAULT_STEPS, mutation, log }: SimulationOptions,
): Promise<SimulationResult> {
  const world = new World({ seed, mutation, log });
  const writers = addWriters(world);
  addReaders(world, writers);
  addCompaction(world, writers);
  addRetention(world);
  addBranches(world);
  addTime(world);
  for (let step = 0; step < steps && world.failure === undefined; step++) await world.step();

  if (world.failure === undefined) {
    world.settle();
    for (const writer of writers) if (writer.process !== undefined) writer.process.cutOffUntilMs = 0;
    let left = SETTLING_STEPS;
    while (world.acknowledged < world.serverEnd && world.failure === undefined) {
      if (!writers.some((writer) => writer.isRunning)) writers[0].start();
      const went = await world.step();
      if (--left <= 0 || !went) {
        const { acknowledged, serverEnd } = world;
        world.fail(
          `WAL is acknowledged up to ${formatLsn(acknowledged)} only, the server's ends at ${
            formatLsn(serverEnd)
          }`,
        );
      }
    }
  }
  if (world.failure === undefined) await world.readSample(MAIN, LAST_READS);
  await world.endProcesses();
  if (world.failure === undefined && world.profile.lastCollection) await collectAll(world);
  const { scheduler, failure, counts } = world;
  const { steps: taken, fingerprint } = scheduler;
  return { seed, steps: taken, fingerprint, violation: failure?.message, counts };
}
