/**
 * What a simulation consists of, and what must hold in it after every step.
 *
 * - What the server was told is durable is in the manifest of that moment (or on the writer's disk, where that was asked for),
 *   and a writer never needs WAL that the server was told it may forget.
 * - No object that a manifest names is missing, of another size, or written over with other bytes.
 * - Epochs, durable positions and cut-offs never go back.
 * - After every change of the store somebody without faults reads pages from it, at the edges of layers more than elsewhere;
 *   each is what the model has.
 *
 * @module
 */
import { LsnCollectedError, LsnNotReachedError, NotFoundError, UnavailableError } from "../../src/errors.ts";
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import type { FaultPoints } from "../../src/ports/fault_points.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import type { TimelineReader } from "../../src/read/get_page.ts";
import { heldLsns } from "../../src/timeline/ancestry.ts";
import { type Manifest, startManifest } from "../../src/timeline/manifest.ts";
import { decodeManifest, encodeManifest } from "../../src/timeline/manifest_json.ts";
import { layerKey, manifestKey, timelineOfManifestKey } from "../../src/timeline/object_keys.ts";
import { formatLayerName } from "../../src/layer/layer_name.ts";
import { DB, SPC } from "../support/made_wal.ts";
import { TEST_FACTS } from "../support/written_timeline.ts";
import { type History, historyOf, RELATIONS } from "./history.ts";
import type { Mutation } from "./mutations.ts";
import { drawProfile, type Profile } from "./profile.ts";
import { Scheduler, SimulatedProcess } from "./scheduler.ts";
import { Bucket, DirectStore, NO_FAULTS, SimulatedStore, type StoreFaults } from "./simulated_store.ts";

export const MAIN = "main";

/** How often, of 1, a change of the store is followed by reads. */
const SAMPLED = 0.35;

/** A promise of varve's that was broken. */
export class Violation extends Error {
  override name = "Violation";
}

/** Who a process is: mutations look at it. */
export type Role = "writer" | "reader" | "compaction" | "retention" | "pin" | "branch";

/** Something that may be begun at any step. */
export interface Action {
  /** How often, of 1, per step. */
  readonly rate: number;
  run(): void;
}

export interface WorldOptions {
  seed: number;
  mutation?: Mutation;
  log?: (line: string) => void;
}

/** See the module's description. */
export class World {
  readonly seed: number;
  readonly scheduler: Scheduler;
  readonly profile: Profile;
  readonly history: History;
  readonly bucket: Bucket;
  readonly mutation: Mutation;
  readonly timelines = new Map<string, { manifest: Manifest }>();
  readonly actions: Action[] = [];
  /** Branches that were made to their end, and that nobody has begun to delete. */
  readonly finishedBranches = new Set<string>();

  /** A branch is made to its end, and can be read. */
  finishBranch(name: string): void {
    this.counts.branches++;
    this.finishedBranches.add(name);
    if (this.timelines.has(name)) this.#changed.add(name);
  }
  /** What has happened how often, to see that the simulation is worth something. */
  readonly counts = {
    commits: 0,
    takeOvers: 0,
    crashes: 0,
    reads: 0,
    failedRequests: 0,
    compactions: 0,
    images: 0,
    deletedObjects: 0,
    collections: 0,
    pins: 0,
    branches: 0,
  };
  /** Told to leave nothing undone: no faults any more. */
  isSettling = false;
  /** The server may have forgotten WAL below. */
  acknowledged: Lsn;
  /** The server has written so much. */
  serverEnd: Lsn;
  failure: Violation | undefined;
  readonly #direct: DirectStore;
  readonly #changed = new Set<string>();
  readonly #durable: (() => Lsn | undefined)[] = [];

  constructor({ seed, mutation = { name: "none" }, log }: WorldOptions) {
    this.seed = seed;
    this.scheduler = new Scheduler(seed, log);
    this.profile = drawProfile(this.scheduler.random);
    this.scheduler.wakes = this.profile.wakes;
    this.mutation = mutation;
    this.history = historyOf(seed);
    this.serverEnd = this.history.endLsn;
    this.acknowledged = this.#sentEnd = this.history.startLsn;
    this.bucket = new Bucket(this.scheduler, (key, now, before) => this.#watch(key, now, before));
    this.#direct = new DirectStore(this.bucket);
    this.#bootstrap();
  }

  /** A base backup has been taken. */
  #bootstrap(): void {
    const { startLsn, consistentLsn, base } = this.history;
    const { kind, keyMin, keyMax, lsnStart, lsnEnd, size, checksum, complete } = base.summary;
    const name = formatLayerName({ kind, keyMin, keyMax, lsnStart, lsnEnd, epoch: 1, unique: 0 });
    this.bucket.put(layerKey(MAIN, name), base.file);
    const manifest: Manifest = {
      ...startManifest({
        timeline: MAIN,
        facts: TEST_FACTS,
        tli: 1,
        startLsn,
        consistentLsn,
        diskConsistentLsn: startLsn,
        layers: [{ name, size, checksum, complete, level: 0 }],
      }),
      epoch: 1,
      commitId: "0",
      committedAtMs: this.scheduler.nowMs,
    };
    this.bucket.put(manifestKey(MAIN), encodeManifest(manifest));
  }

  /** A process, and its way to the store. */
  process(name: string, role: Role): { process: SimulatedProcess; store: ObjectStore } {
    const process = new SimulatedProcess(name, this.scheduler);
    this.#processes.add(process);
    const faults = () => this.#faultsNow();
    const store = new SimulatedStore(this.bucket, process, faults, () => this.counts.failedRequests++);
    return { process, store: this.mutation.store?.(store, role, this) ?? store };
  }

  readonly #processes = new Set<SimulatedProcess>();

  /** Ends all processes; resolves when nothing of them is under way any more. */
  async endProcesses(): Promise<void> {
    for (const process of this.#processes) process.die();
    while (this.scheduler.underWay > 0 && this.failure === undefined) await this.step();
  }

  /** At some of the named points a process is held up, and at some of those it dies. */
  faults(process: SimulatedProcess, crash: () => void = () => process.die()): FaultPoints {
    const { faultPoints, crashes } = this.profile;
    return (point) => {
      if (this.isSettling || !process.random.chance(faultPoints)) return;
      return process.later("passes", point).then(() => {
        if (!process.random.chance(crashes * 3) || this.isSettling) return;
        crash();
        return new Promise(() => {});
      });
    };
  }

  #faultsNow(): StoreFaults {
    return this.isSettling ? NO_FAULTS : this.profile.faults;
  }

  /** The server has sent WAL up to here. */
  sent(end: Lsn): void {
    if (end > this.#sentEnd) this.#sentEnd = end;
  }
  #sentEnd: Lsn;

  /** No faults any more, and no more WAL than that of the last record that was sent in part. */
  settle(): void {
    this.isSettling = true;
    const { ends } = this.history;
    this.serverEnd = ends.find((end) => end >= this.#sentEnd) ?? ends[ends.length - 1];
  }

  /** Notes what was broken; the run ends with it. */
  fail(what: string): void {
    this.failure ??= new Violation(what);
  }

  /** An actor has ended by an error that it should not meet. */
  failUnexpected(who: string, error: unknown): void {
    this.fail(`${who}: ${error instanceof Error ? error.stack ?? error.message : String(error)}`);
  }

  /** Asks after every step how far a writer has told the server that WAL is durable. */
  watchDurable(durable: () => Lsn | undefined): void {
    this.#durable.push(durable);
  }

  /** One step: perhaps something is begun, something happens, everything is checked. */
  async step(): Promise<boolean> {
    if (!this.isSettling) this.#begin();
    const went = await this.scheduler.step();
    this.#checkAcknowledged();
    if (this.#changed.size > 0 && this.failure === undefined) {
      const changed = [...this.#changed];
      this.#changed.clear();
      for (const timeline of changed) {
        if (this.scheduler.random.chance(SAMPLED)) await this.readSample(timeline, 2);
      }
    }
    return went;
  }

  #begin(): void {
    let drawn = this.scheduler.random.float();
    for (const action of this.actions) if ((drawn -= action.rate) < 0) return action.run();
  }

  #checkAcknowledged(): void {
    for (const durable of this.#durable) {
      const lsn = durable();
      if (lsn === undefined || lsn <= this.acknowledged) continue;
      this.acknowledged = lsn;
      const { diskConsistentLsn } = this.timelines.get(MAIN)!.manifest;
      if (this.profile.acknowledge === "store" && lsn > diskConsistentLsn) {
        this.fail(
          `WAL up to ${formatLsn(lsn)} was acknowledged, the manifest has it up to ${
            formatLsn(diskConsistentLsn)
          }`,
        );
      }
    }
  }

  #watch(key: string, now: Uint8Array | undefined, before: Uint8Array | undefined): void {
    const timeline = timelineOfManifestKey(key);
    if (timeline === undefined) this.#watchLayer(key, now, before);
    else if (now !== undefined) this.#watchManifest(timeline, key, now);
    else this.#watchDeletedManifest(timeline);
  }

  #watchManifest(timeline: string, key: string, bytes: Uint8Array): void {
    const manifest = decodeManifest(bytes, key);
    const names = new Set<string>();
    for (const { name, size } of manifest.layers) {
      const object = this.bucket.objects.get(layerKey(timeline, name));
      if (object === undefined) {
        this.fail(`The manifest of "${timeline}" names layer ${name}, which is not there`);
      } else if (object.bytes.length !== size) {
        this.fail(`Layer ${name} has another size than its manifest says`);
      }
      if (names.has(name)) this.fail(`The manifest of "${timeline}" names layer ${name} twice`);
      names.add(name);
    }
    const known = this.timelines.get(timeline);
    if (known === undefined) {
      this.timelines.set(timeline, { manifest });
    } else {
      for (const field of ["epoch", "diskConsistentLsn", "cutoffLsn"] as const) {
        if (manifest[field] < known.manifest[field]) {
          this.fail(
            `${field} of "${timeline}" went back from ${known.manifest[field]} to ${manifest[field]}`,
          );
        }
      }
      this.counts.commits++;
      if (manifest.epoch > known.manifest.epoch) this.counts.takeOvers++;
      known.manifest = manifest;
    }
    this.#changed.add(timeline);
  }

  #watchDeletedManifest(timeline: string): void {
    for (const [name, { manifest }] of this.timelines) {
      if (manifest.ancestor?.timeline === timeline && this.finishedBranches.has(name)) {
        this.fail(`"${timeline}" was deleted, which "${name}" needs`);
      }
    }
    this.timelines.delete(timeline);
    this.#changed.delete(timeline);
  }

  #watchLayer(key: string, now: Uint8Array | undefined, before: Uint8Array | undefined): void {
    const [, timeline, , name] = key.split("/");
    if (now === undefined) {
      const named = this.timelines.get(timeline)?.manifest.layers.some((layer) => layer.name === name);
      if (named === true) this.fail(`Layer ${name} was deleted, which the manifest of "${timeline}" names`);
      this.counts.deletedObjects++;
      this.#changed.add(timeline);
      for (const { timeline: child } of this.timelines.get(timeline)?.manifest.branches ?? []) {
        if (this.timelines.has(child)) this.#changed.add(child);
      }
    } else if (before !== undefined && !sameBytes(now, before)) {
      this.fail(`Layer ${name} of "${timeline}" was written over with other bytes`);
    }
  }

  /** Reads pages of a timeline, as somebody does who attaches now and meets no faults. */
  async readSample(timeline: string, reads: number): Promise<void> {
    const watched = this.timelines.get(timeline);
    if (watched === undefined) return;
    const { manifest } = watched;
    const { random } = this.scheduler;
    const lowest = Math.max(manifest.cutoffLsn, manifest.consistentLsn) as Lsn;
    if (manifest.diskConsistentLsn < lowest) return;
    let attached;
    try {
      attached = await attachReader({
        store: this.#direct,
        clock: new SimulatedProcess("watcher", this.scheduler).clock,
        timeline,
      });
    } catch (error) {
      // One that was not made to its end is refused.
      const isHalf = manifest.ancestor !== undefined && !this.finishedBranches.has(timeline) &&
        error instanceof NotFoundError;
      return isHalf ? undefined : this.failUnexpected(`Attaching "${timeline}"`, error);
    }
    for (let read = 0; read < reads && this.failure === undefined; read++) {
      const at = drawLsn(random, manifest, lowest, this.history);
      const wrong = await this.judgeRead(attached.reader, at);
      if (wrong !== undefined) this.fail(`Read from "${timeline}": ${wrong}`);
    }
    await attached.close();
  }

  /**
   * Reads a page and tells what is wrong with the answer.
   *
   * @param mayFail Says of an error that it is allowed.
   */
  async judgeRead(
    reader: TimelineReader,
    at: Lsn,
    mayFail: (error: unknown) => boolean = () => false,
  ): Promise<string | undefined> {
    const { random } = this.scheduler;
    this.counts.reads++;
    const rel = random.pick(RELATIONS);
    const blocks = this.history.sizeAt(rel, at);
    const block = random.int(0, Math.max(0, blocks - (random.chance(0.95) ? 1 : 0)));
    const what = `block ${block} of ${rel} at ${formatLsn(at)}`;
    try {
      const page = await reader.getPage({ spc: SPC, db: DB, rel }, 0, block, at);
      if (block >= blocks) return `${what}: it exists, the relation should have ${blocks} blocks`;
      const wrong = this.history.judgePage(rel, block, at, page);
      return wrong === undefined ? undefined : `${what}: ${wrong}`;
    } catch (error) {
      if (
        block >= blocks && error instanceof NotFoundError &&
        /^Cannot read (block|relation)/.test(error.message)
      ) {
        return undefined;
      }
      return mayFail(error) ? undefined : `${what}: ${error instanceof Error ? error.stack : error}`;
    }
  }

  /** Errors that a reader with faults may meet. */
  mayFail(timeline: string, at: Lsn): (error: unknown) => boolean {
    return (error) => {
      if (error instanceof UnavailableError) return true;
      if (error instanceof LsnNotReachedError) return at > error.reached;
      if (!(error instanceof LsnCollectedError)) return false;
      const manifest = this.timelines.get(timeline)?.manifest;
      return manifest === undefined || at < Math.max(manifest.cutoffLsn, manifest.consistentLsn);
    };
  }
}

/** An LSN that can be read: the newest, the ends of layers, any record. */
function drawLsn(
  random: {
    chance(p: number): boolean;
    pick<T>(from: ArrayLike<T>): T;
    int(low: number, high: number): number;
  },
  manifest: Manifest,
  lowest: Lsn,
  history: History,
): Lsn {
  const highest = manifest.diskConsistentLsn;
  const held = heldLsns(manifest);
  if (held.length > 0 && random.chance(0.6)) return random.pick(held);
  if (random.chance(0.3)) return highest;
  if (random.chance(0.2)) return lowest;
  if (random.chance(0.5)) {
    const layer = manifest.layers.length === 0 ? undefined : random.pick(manifest.layers);
    const end = /__[0-9A-F]{16}-([0-9A-F]{16})/.exec(layer?.name ?? "")?.[1];
    const at = end === undefined ? 0 : parseInt(end, 16) - 1 + random.pick([0, 0, 8, -8]);
    if (at >= lowest && at <= highest) return at as Lsn;
  }
  const ends = history.ends;
  const at = ends[random.int(0, ends.length - 1)];
  return at >= lowest && at <= highest ? at : random.int(lowest, highest) as Lsn;
}

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}
