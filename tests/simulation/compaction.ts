/**
 * Compaction: in the writer's own process, and by guests that come and go.
 *
 * @module
 */
import { FencedError, NotFoundError, PreconditionFailedError, UnavailableError } from "../../src/errors.ts";
import { attachReader } from "../../src/read/attach.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { CollectionTask } from "../../src/upkeep/collection_task.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { UpkeepLoop } from "../../src/upkeep/upkeep_loop.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import { MAIN, type World } from "./world.ts";
import type { WriterMachine } from "./writer.ts";

/** Errors after which a compaction plans anew, or is left to another. */
export function mayEndUpkeep(error: unknown): boolean {
  return error instanceof UnavailableError || error instanceof FencedError ||
    error instanceof PreconditionFailedError || error instanceof NotFoundError;
}

/** A process that compacts once. */
class CompactingGuest {
  readonly #world: World;
  #process: SimulatedProcess | undefined;
  #starts = 0;

  constructor(world: World) {
    this.#world = world;
  }

  act(): void {
    if (this.#process === undefined) this.#start();
    else if (this.#world.scheduler.random.chance(0.1)) this.#end(this.#process);
  }

  #start(): void {
    const world = this.#world;
    const { process, store } = world.process(`compact.${++this.#starts}`, "compaction");
    this.#process = process;
    this.#run(process, store).catch((error) => {
      if (!mayEndUpkeep(error) && process.isAlive) world.failUnexpected(process.name, error);
    }).finally(() => this.#end(process));
  }

  async #run(process: SimulatedProcess, store: Parameters<typeof attachReader>[0]["store"]): Promise<void> {
    const attached = await attachReader({ store, clock: process.clock, timeline: MAIN });
    const parts = { attached, store, clock: process.clock, faults: this.#world.faults(process) };
    await keepUp(this.#world, UpkeepTarget.ofGuest(parts));
  }

  #end(process: SimulatedProcess): void {
    process.die();
    if (this.#process === process) this.#process = undefined;
  }
}

/** Lets a writer compact beside its flush, one compaction at a time. */
class CompactingWriter {
  readonly #world: World;
  readonly #writer: WriterMachine;
  #busy: SimulatedProcess | undefined;

  constructor(world: World, writer: WriterMachine) {
    this.#world = world;
    this.#writer = writer;
  }

  act(): void {
    const { writing, process, manifest, store, local } = this.#writer;
    if (writing === undefined || process === undefined || this.#busy === process) return;
    const world = this.#world;
    this.#busy = process;
    const faults = world.faults(process, () => this.#writer.crash());
    const parts = { attached: writing, store: store!, clock: process.clock, local, faults };
    const target = UpkeepTarget.ofWriter(parts, manifest!);
    keepUp(world, target).catch((error) => {
      if (!mayEndUpkeep(error) && process.isAlive) world.failUnexpected(`${process.name} compacting`, error);
    }).finally(() => {
      if (this.#busy === process) this.#busy = undefined;
    });
  }
}

/** Upkeep as followers have it; ends with its process. */
export function startUpkeepLoop(world: World, target: UpkeepTarget): void {
  const { compaction, images, retention } = world.profile;
  const { isOn, graceMs, keepWalBytes } = retention;
  const tasks = isOn
    ? [new CollectionTask({ graceMs, retention: { keepWalBytes }, intervalMs: 60_000 })]
    : [];
  const { runsMax, sizeRatio, layerBytes, mergeMax } = compaction;
  const { imageDeltaBytesMin } = images;
  const policy = { runsMax, sizeRatio, layerBytes, mergeMax, imageDeltaBytesMin };
  new UpkeepLoop(target, { ...policy, intervalMs: 20_000, tasks }).start();
}

/** One of the things that compaction does. */
async function keepUp(world: World, target: UpkeepTarget): Promise<void> {
  const { profile: { compaction, images }, counts, scheduler } = world;
  if (scheduler.random.chance(images.share)) {
    const result = await makeImages(target, images);
    counts.images += result?.images ?? 0;
  } else if (await compact(target, compaction) !== undefined) counts.compactions++;
}

export function addCompaction(world: World, writers: readonly WriterMachine[]): void {
  const { profile, actions } = world;
  if (profile.guestCompaction) {
    const guest = new CompactingGuest(world);
    actions.push({ rate: 0.06, run: () => guest.act() });
  }
  if (profile.writerCompaction === "now and then") {
    for (const writer of writers) {
      const compacting = new CompactingWriter(world, writer);
      actions.push({ rate: 0.06, run: () => compacting.act() });
    }
  }
}
