/**
 * Retention and collection by guests that come and go: the cut-off moves, pins come and expire, objects are deleted.
 *
 * @module
 */
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { removePin, setPin } from "../../src/upkeep/pins.ts";
import { LsnCollectedError, NotFoundError } from "../../src/errors.ts";
import { layerKey, layerPrefix } from "../../src/timeline/object_keys.ts";
import { mayEndUpkeep } from "./compaction.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import { MAIN, type World } from "./world.ts";

/** A process that collects once, or sets or removes a pin. */
class RetainingGuest {
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
    const pins = world.scheduler.random.chance(world.profile.pins);
    const { process, store } = world.process(`gc.${++this.#starts}`, pins ? "pin" : "retention");
    this.#process = process;
    const timeline = world.scheduler.random.pick([...world.timelines.keys()]);
    const run = pins ? this.#pin(process, store, timeline) : collectOnce(world, process, store, timeline);
    run.catch((error) => {
      if (!mayEndUpkeep(error) && process.isAlive) world.failUnexpected(process.name, error);
    }).finally(() => this.#end(process));
  }

  async #pin(process: SimulatedProcess, store: ObjectStore, timeline: string): Promise<void> {
    const { random, clock } = process;
    const options = { store, clock, timeline };
    const name = random.pick(["a", "b"]);
    try {
      if (random.chance(0.3)) await removePin(name, options);
      else {
        const stored = await readManifest(store, timeline);
        if (stored === undefined) return;
        const { cutoffLsn, diskConsistentLsn } = stored.manifest;
        const lsn = random.pick(this.#world.history.endsBetween(cutoffLsn, diskConsistentLsn));
        const expiresAtMs = random.chance(0.85) ? undefined : clock.now() + random.int(1000, 10_000_000);
        await setPin({ name, lsn, expiresAtMs }, options);
        this.#world.counts.pins++;
      }
    } catch (error) {
      // Nothing to pin yet, none to remove, or what was to be pinned has just been collected.
      const isUsual = error instanceof RangeError || error instanceof NotFoundError ||
        error instanceof LsnCollectedError;
      if (!isUsual) throw error;
    }
  }

  #end(process: SimulatedProcess): void {
    process.die();
    if (this.#process === process) this.#process = undefined;
  }
}

/** Plans a collection, and does it. */
export async function collectOnce(
  world: World,
  process: SimulatedProcess,
  store: ObjectStore,
  timeline: string,
): Promise<void> {
  const { clock } = process;
  const { graceMs, keepWalBytes } = world.profile.retention;
  const attached = await attachReader({ store, clock, timeline });
  const policy = keepWalBytes === undefined ? undefined : { keepWalBytes };
  const options = {
    store,
    clock,
    reader: attached.reader,
    graceMs,
    orphanGraceMs: world.mutation.orphanGraceMs,
    policy,
    faults: world.faults(process),
  };
  const plan = await planCollection(attached.manifest, options);
  await collect(plan, (edit, signal) => updateManifest(store, clock, timeline, edit, signal), options);
  world.counts.collections++;
}

export function addRetention(world: World): void {
  const { profile, actions } = world;
  if (!profile.retention.isOn) return;
  const guest = new RetainingGuest(world);
  actions.push({ rate: 0.08, run: () => guest.act() });
}

/** When all have ended and enough time has passed, a collection leaves no object that nobody names. */
export async function collectAll(world: World): Promise<void> {
  const { scheduler, bucket, timelines } = world;
  const { process, store } = world.process("gc.last", "retention");
  const names = [...timelines.keys()].sort();
  // What the first removes the second deletes.
  for (const timeline of [...names, ...names]) {
    scheduler.nowMs += 2 * world.profile.retention.graceMs;
    let ended = false;
    collectOnce(world, process, store, timeline).catch((error) => {
      // A branch that was not made to its end.
      if (!(error instanceof NotFoundError)) world.failUnexpected(process.name, error);
    }).finally(() => ended = true);
    while (!ended && world.failure === undefined) await world.step();
  }
  if (world.failure !== undefined || world.mutation.name !== "none") return;
  for (const [timeline, { manifest }] of timelines) {
    // What the last collection removed is still there.
    const fresh = manifest.removed.filter(({ atMs }) =>
      scheduler.nowMs - atMs < world.profile.retention.graceMs
    );
    const named = new Set([...manifest.layers, ...fresh].map(({ name }) => layerKey(timeline, name)));
    const prefix = layerPrefix(timeline);
    const left = [...bucket.objects.keys()].find((key) => key.startsWith(prefix) && !named.has(key));
    if (left !== undefined && (timeline === MAIN || world.finishedBranches.has(timeline))) {
      world.fail(`Collection has left ${left}, which nobody names`);
    }
  }
  await world.readSample(MAIN, 4);
}
