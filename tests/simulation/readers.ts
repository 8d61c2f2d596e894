/**
 * Those who read: processes that attach now and then and stay, and the writer's own process, which reads what is not durable
 * yet, too.
 *
 * @module
 */
import { UnavailableError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { type AttachedTimeline, attachReader } from "../../src/read/attach.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import { SimulatedDisk } from "./simulated_disk.ts";
import { MAIN, type World } from "./world.ts";
import type { WriterMachine } from "./writer.ts";

/** A process that attaches a timeline and reads pages of it. */
class ReaderMachine {
  readonly #name: string;
  readonly #world: World;
  readonly #disk = new SimulatedDisk();
  #process: SimulatedProcess | undefined;
  #attached: AttachedTimeline | undefined;
  #starts = 0;

  constructor(name: string, world: World) {
    this.#name = name;
    this.#world = world;
  }

  /** Attaches, or reads, or dies. */
  act(): void {
    const { random } = this.#world.scheduler;
    if (this.#process === undefined) this.#attach();
    else if (this.#attached !== undefined) {
      if (random.chance(0.05)) this.#crash();
      else this.#read(this.#process, this.#attached);
    }
  }

  #attach(): void {
    const world = this.#world;
    const { process, store } = world.process(`${this.#name}.${++this.#starts}`, "reader");
    this.#process = process;
    const { refreshMs } = world.profile;
    const acknowledged = world.profile.acknowledge === "store" ? world.acknowledged : 0;
    const local = world.profile.readerDisk ? this.#disk.layersOf(process) : undefined;
    attachReader({ store, clock: process.clock, local, cacheBytes: 200_000, refreshMs }).then((attached) => {
      if (!process.isAlive) return;
      this.#attached = attached;
      if (attached.timeline.lastRecordLsn < acknowledged) {
        world.fail(
          `${process.name} sees WAL up to ${attached.timeline.lastRecordLsn}, acknowledged is ${acknowledged}`,
        );
      }
    }).catch((error) => {
      if (!(error instanceof UnavailableError)) world.failUnexpected(process.name, error);
      this.#crash();
    });
  }

  #crash(): void {
    this.#process?.die();
    if (this.#process !== undefined) this.#disk.crash(this.#process);
    this.#process = this.#attached = undefined;
  }

  #read(process: SimulatedProcess, { timeline, reader }: AttachedTimeline): void {
    readSomewhere(this.#world, process, reader, timeline.floorLsn, timeline.lastRecordLsn);
  }
}

function readSomewhere(
  world: World,
  process: SimulatedProcess,
  reader: AttachedTimeline["reader"],
  lowest: Lsn,
  highest: Lsn,
): void {
  if (highest < lowest) return;
  const { random } = world.scheduler;
  const at = random.chance(0.3) ? highest : random.int(lowest, highest) as Lsn;
  world.judgeRead(reader, at, world.mayFail(MAIN, at)).then((wrong) => {
    if (wrong !== undefined && process.isAlive) world.fail(`${process.name} read ${wrong}`);
  });
}

/** Readers of the seed's profile. */
export function addReaders(world: World, writers: readonly WriterMachine[]): void {
  const { profile, actions, scheduler } = world;
  for (let n = 0; n < profile.readers; n++) {
    const machine = new ReaderMachine(`reader-${n + 1}`, world);
    actions.push({ rate: 0.05, run: () => machine.act() });
  }
  actions.push({
    rate: 0.05,
    run: () => {
      const { writing, process } = scheduler.random.pick(writers);
      if (writing === undefined || process === undefined) return;
      const { timeline, reader } = writing;
      readSomewhere(world, process, reader, timeline.floorLsn, timeline.lastRecordLsn);
    },
  });
}
