/**
 * A machine that follows the server: its process dies and is started again, and it tells the server what is durable.
 *
 * @module
 */
import { FencedError, UnavailableError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { LocalLayers } from "../../src/ports/local_layers.ts";
import type { VarveEvent } from "../../src/ports/events.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { type ManifestWriter, readManifest } from "../../src/timeline/manifest_store.ts";
import type { WalChunk } from "../../src/write/source/wal_source.ts";
import { startPointAfter } from "../../src/write/source/wal_source.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { mayEndUpkeep, startUpkeepLoop } from "./compaction.ts";
import { type Following, startWriting, takeOver } from "../../src/varve.ts";
import { TEST_FACTS } from "../support/written_timeline.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import { SimulatedDisk } from "./simulated_disk.ts";
import { MAIN, type World } from "./world.ts";

export type Writing = Omit<Following, "connection">;

/** See the module's description. */
export class WriterMachine {
  readonly name: string;
  readonly disk = new SimulatedDisk();
  readonly #world: World;
  #process: SimulatedProcess | undefined;
  #writing: Writing | undefined;
  /** Its claim, its way to the store, and its place for local copies, while it writes. */
  manifest: ManifestWriter | undefined;
  store: ObjectStore | undefined;
  local: LocalLayers | undefined;
  #starts = 0;

  constructor(name: string, world: World) {
    this.name = name;
    this.#world = world;
    if (world.mutation.diskLies) this.disk.syncs = false;
    world.watchDurable(() => this.#durable());
  }

  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  /** The timeline that this machine writes, once it does. */
  get writing(): Writing | undefined {
    return this.#writing;
  }
  get process(): SimulatedProcess | undefined {
    return this.#process;
  }

  start(): void {
    if (this.#process !== undefined) return;
    const { process, store } = this.#world.process(`${this.name}.${++this.#starts}`, "writer");
    this.#process = process;
    this.#world.scheduler.log(process, "starts");
    this.#run(process, store).catch((error) => this.#ended(process, error));
  }

  crash(): void {
    const process = this.#process;
    if (process === undefined) return;
    this.#world.scheduler.log(process, "crashes");
    this.#world.counts.crashes++;
    process.die();
    this.disk.crash(process);
    this.#process = this.#writing = undefined;
  }

  cutOff(): void {
    const process = this.#process;
    if (process === undefined) return;
    process.cutOffUntilMs = process.scheduler.nowMs + process.random.int(1_000, 300_000);
    process.scheduler.log(process, "is cut off");
  }

  async #run(process: SimulatedProcess, store: ObjectStore): Promise<void> {
    const { profile, mutation } = this.#world;
    const disk = profile.writerDisk ? this.disk.layersOf(process) : undefined;
    const local = disk && (mutation.disk?.(disk) ?? disk);
    const options = {
      store,
      clock: process.clock,
      local,
      checkpointDistance: profile.checkpointDistance,
      flushIntervalMs: profile.flushIntervalMs,
      faults: this.#world.faults(process, () => this.crash()),
      events: (event: VarveEvent) => this.#hears(process, event),
    };
    const stored = await readManifest(store, MAIN);
    const manifest = await takeOver(options, stored!);
    if (!process.isAlive) return;
    this.manifest = manifest;
    const writing = await startWriting(options, manifest, ({ timeline }) => ({
      openSource: () => ({
        stream: this.#wal(process, timeline.lastRecordLsn),
        startLsn: startPointAfter(timeline.lastRecordLsn, TEST_FACTS.walSegmentSize).normalized,
      }),
    }));
    if (!process.isAlive) return;
    this.#writing = writing;
    this.store = store;
    this.local = local;
    if (profile.writerCompaction === "loop") {
      const parts = { ...options, attached: writing };
      startUpkeepLoop(this.#world, UpkeepTarget.ofWriter(parts, manifest));
    }
    await writing.follower.done;
  }

  #hears(process: SimulatedProcess, { level, topic, message, error }: VarveEvent): void {
    if (process.scheduler.isLogging) process.scheduler.log(process, `event: ${message}`);
    if (topic !== "upkeep.failed" || level !== "error" || !process.isAlive) return;
    if (!mayEndUpkeep(error)) this.#world.failUnexpected(`${process.name}, upkeep`, error);
  }

  /** The server's WAL from behind the last record. */
  #wal(process: SimulatedProcess, after: Lsn): ReadableStream<WalChunk> {
    const world = this.#world;
    const { history, profile } = world;
    if (after < world.acknowledged) {
      // One that has been fenced since it started, and does not know yet, is refused.
      if (world.timelines.get(MAIN)!.manifest.epoch === this.manifest!.manifest.epoch) {
        world.fail(`WAL from ${after} is asked for, it was acknowledged up to ${world.acknowledged}`);
      }
      throw new UnavailableError("The server has that WAL no more");
    }
    let at = startPointAfter(after, TEST_FACTS.walSegmentSize).normalized;
    return new ReadableStream<WalChunk>({
      async pull(controller) {
        // Beyond its end the server sends nothing.
        if (at >= world.serverEnd) return await new Promise(() => {});
        await process.later("wal", "");
        const length = Math.min(process.random.int(1, profile.chunkBytes), world.serverEnd - at);
        const end = at + length as Lsn;
        const data = history.walBetween(at, end);
        // A server that has more makes decoding gather records.
        const more = process.random.chance(0.8) ? 0 : process.random.int(1, profile.chunkBytes);
        const serverWalEnd = Math.min(end + more, world.serverEnd) as Lsn;
        controller.enqueue({ startLsn: at, data, tli: 1, serverWalEnd, sentAtMs: 0 });
        at = end;
        world.sent(serverWalEnd);
      },
    }, { highWaterMark: 0 });
  }

  #durable(): Lsn | undefined {
    const writing = this.#writing;
    if (writing === undefined) return undefined;
    const { profile, mutation } = this.#world;
    if (mutation.durable !== undefined) return mutation.durable(writing);
    const { timeline } = writing;
    return profile.acknowledge === "disk" ? timeline.diskConsistentLsn : timeline.remoteConsistentLsn;
  }

  #ended(process: SimulatedProcess, error: unknown): void {
    if (this.#process !== process) return;
    this.#process.scheduler.log(process, `ends: ${error}`);
    const isExpected = error instanceof FencedError || error instanceof UnavailableError;
    if (!isExpected) this.#world.failUnexpected(process.name, error);
    process.die();
    this.#process = this.#writing = undefined;
  }
}

/** The machines that write, and what befalls them. */
export function addWriters(world: World): WriterMachine[] {
  const { profile, actions, scheduler } = world;
  const machines = [new WriterMachine("writer-a", world)];
  if (profile.secondWriter) machines.push(new WriterMachine("writer-b", world));
  const any = () => scheduler.random.pick(machines);
  actions.push({ rate: profile.crashes, run: () => any().crash() });
  actions.push({ rate: profile.cutOffs, run: () => any().cutOff() });
  actions.push({ rate: 0.04, run: () => machines[0].start() });
  if (profile.secondWriter) actions.push({ rate: 0.01, run: () => machines[1].start() });
  machines[0].start();
  return machines;
}
