/**
 * Branches made, read and deleted by guests that come and go.
 *
 * @module
 */
import { LsnCollectedError, LsnNotReachedError, NotFoundError, VarveError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { createBranch, deleteTimeline } from "../../src/upkeep/branch.ts";
import { mayEndUpkeep } from "./compaction.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import { MAIN, type World } from "./world.ts";

/** Names that branches may have: few, so that they are used again. */
const NAMES = ["b1", "b2", "b3"];

/** A process that makes or deletes one branch. */
class BranchingGuest {
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
    const { process, store } = world.process(`branch.${++this.#starts}`, "branch");
    this.#process = process;
    this.#run(process, store).catch((error) => {
      if (!mayEndUpkeep(error) && !isRefusal(error) && process.isAlive) {
        world.failUnexpected(process.name, error);
      }
    }).finally(() => this.#end(process));
  }

  async #run(process: SimulatedProcess, store: ObjectStore): Promise<void> {
    const { random, clock } = process;
    const name = random.pick(NAMES);
    if (random.chance(0.25)) {
      this.#world.finishedBranches.delete(name);
      await deleteTimeline({ store, clock, name });
      return;
    }
    const from = random.chance(0.8) ? MAIN : random.pick(NAMES);
    const attached = await attachReader({ store, clock, timeline: from });
    const { floorLsn, lastRecordLsn, heldLsns } = attached.timeline.view();
    const lsn = random.chance(0.3) && heldLsns.size > 0
      ? random.pick([...heldLsns])
      : random.int(floorLsn, Math.max(floorLsn, lastRecordLsn)) as Lsn;
    const faults = this.#world.faults(process);
    await createBranch({ store, clock, parent: attached.reader, lsn: lsn - lsn % 8 as Lsn, name, faults });
    if (!process.isAlive) return;
    this.#world.finishBranch(name);
  }

  #end(process: SimulatedProcess): void {
    process.die();
    if (this.#process === process) this.#process = undefined;
  }
}

/** A branch that cannot be made or deleted as things are. */
function isRefusal(error: unknown): boolean {
  return error instanceof LsnCollectedError || error instanceof LsnNotReachedError ||
    error instanceof NotFoundError ||
    (error instanceof VarveError && (error.code === "EXISTS" || error.code === "IN_USE"));
}

export function addBranches(world: World): void {
  const { profile, actions } = world;
  if (!profile.branches) return;
  const guest = new BranchingGuest(world);
  actions.push({ rate: 0.08, run: () => guest.act() });
}
