/**
 * Kills processes at random points of flush, upload, compaction, collection and branching, and judges what is left.
 *
 * After each kill every page of the timeline and its branches must be right, and after a collection no object may be left that
 * nobody names. The next process goes on where the last one died.
 *
 * @module
 */
import { formatLsn } from "../../src/lsn.ts";
import type { FaultPoint } from "../../src/ports/fault_points.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { readManifest } from "../../src/timeline/manifest_store.ts";
import { layerKey, timelinesPrefix } from "../../src/timeline/object_keys.ts";
import { listBranches } from "../../src/upkeep/branch.ts";
import { type History, historyOf, SEGMENT_START } from "../simulation/history.ts";
import { assert } from "./harness.ts";
import { judgeTimeline, startTimeline } from "./kill_timeline.ts";
import { collectGarbage, type KillWork, openKillStore } from "./kill_work.ts";
import type { SeededRandom } from "./random.ts";

/** What one process passes, about: how often each point, so that kills are spread over all of them. */
const POINTS: readonly (readonly [FaultPoint, number])[] = [
  ["walreceiver-after-ingest", 10],
  ["claim-before-commit", 1],
  ["claim-after-commit", 1],
  ["flush-before-layer", 5],
  ["layer-after-local", 5],
  ["layer-before-upload", 10],
  ["layer-after-upload", 10],
  ["flush-before-commit", 5],
  ["flush-after-commit", 5],
  ["compact-before-commit", 4],
  ["compact-after-commit", 4],
  ["gc-before-cutoff", 1],
  ["gc-after-cutoff", 1],
  ["gc-before-delete", 8],
  ["gc-after-delete", 8],
  ["gc-after-forget", 1],
  ["branch-before-parent", 1],
  ["branch-before-child", 1],
  ["branch-after-child", 1],
];

/** Share of kills that come at some moment and not at a point, and the latest such moment. */
const AT_A_MOMENT = 0.25;
const MOMENT_MS_MAX = 250;
/** Bytes of WAL that a process takes in, at most. */
const WAL_BYTES_MAX = 14_000;
/** Collections that may be needed until nothing is left over. */
const LATE_UPLOADS = 3;

export interface KillRigOptions {
  /** A directory or the URL of a bucket. */
  store: string;
  /** For local copies and WAL. */
  directory: string;
  /** Of the processes: credentials. */
  env?: Record<string, string>;
  random: SeededRandom;
}

/** See the module's description. */
export class KillRig implements AsyncDisposable {
  readonly #options: KillRigOptions;
  readonly #store: ObjectStore;
  /** Started ahead, and waiting for its work. */
  #next: Deno.ChildProcess | undefined;
  #history!: History;
  #timeline = "";
  #branches: string[] = [];
  #made = 0;
  /** How often processes were killed, by point; `moment` for those that were killed at some moment. */
  readonly kills = new Map<string, number>();

  private constructor(options: KillRigOptions, store: ObjectStore) {
    this.#options = options;
    this.#store = store;
  }

  static async open(options: KillRigOptions): Promise<KillRig> {
    return new KillRig(options, await openKillStore(options.store, options.env));
  }

  /** Kills so many processes. */
  async kill(count: number): Promise<void> {
    for (let killed = 0; killed < count;) {
      await this.#ensureTimeline();
      const what = await this.#runOne();
      if (what !== undefined) {
        killed++;
        this.kills.set(what, (this.kills.get(what) ?? 0) + 1);
      }
      await this.#judge(what ?? "the end");
    }
  }

  /** A new timeline when there is none, or the last one has all there is. */
  async #ensureTimeline(): Promise<void> {
    const { directory } = this.#options;
    if (this.#made > 0) {
      const { diskConsistentLsn } = (await readManifest(this.#store, this.#timeline))!.manifest;
      if (diskConsistentLsn < this.#history.endLsn - 2 * WAL_BYTES_MAX) return;
    }
    this.#history = historyOf(this.#made++);
    this.#timeline = `t${this.#made}`;
    this.#branches = [];
    await Deno.writeFile(`${directory}/wal`, this.#history.wal);
    await startTimeline(this.#store, this.#timeline, this.#history);
  }

  /** Runs one process; returns where it was killed, undefined if it came to its end. */
  async #runOne(): Promise<string | undefined> {
    const { store, directory, random } = this.#options;
    const kill = random.chance(AT_A_MOMENT) ? undefined : drawPoint(random);
    const branch = `${this.#timeline}-b${random.int(1, 4)}`;
    const work: KillWork = {
      store,
      wal: `${directory}/wal`,
      walStart: SEGMENT_START,
      local: random.chance(0.5) ? `${directory}/local-${this.#timeline}` : undefined,
      timeline: this.#timeline,
      walBytes: random.int(1000, WAL_BYTES_MAX),
      keepWalBytes: random.pick([0, 3000, 20_000]),
      branch: this.#branches.includes(branch) ? undefined : branch,
      unbranch: this.#branches.length > 2 ? random.pick(this.#branches) : undefined,
      kill,
    };
    const child = this.#next ?? this.#spawn();
    this.#next = this.#spawn();
    const input = child.stdin.getWriter();
    await input.write(new TextEncoder().encode(JSON.stringify(work) + "\n"));
    const output = child.output();
    if (kill === undefined) await moment(random.float() * MOMENT_MS_MAX).then(() => killQuietly(child));
    const { signal, success, stderr } = await output;
    await input.close().catch(() => {});
    if (signal === "SIGKILL") return kill === undefined ? "moment" : kill.point;
    assert.ok(success, `a process failed: ${new TextDecoder().decode(stderr)}`);
    return undefined;
  }

  #spawn(): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", new URL("./kill_work.ts", import.meta.url).pathname],
      env: this.#options.env,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  /** Every page is right, before and after a collection, which leaves nothing that nobody names. */
  async #judge(what: string): Promise<void> {
    const { random } = this.#options;
    const after = `killed at ${what}`;
    await this.#judgePages(after, 1);
    const timelines = await this.#collect();
    this.#branches = timelines.filter(({ ancestor }) => ancestor?.timeline === this.#timeline).map((
      { name },
    ) => name);
    await this.#judgePages(`${after}, then collected`, 1 + Number(random.chance(0.3)));
    await this.#judgeObjects(after);
  }

  /** Collects this timeline and its branches; returns all there are. */
  async #collect(): ReturnType<typeof listBranches> {
    const timelines = await listBranches(this.#store);
    for (const { name } of timelines) {
      if (name.startsWith(this.#timeline)) await collectGarbage(this.#store, name);
    }
    return timelines;
  }

  async #judgePages(after: string, moments: number): Promise<void> {
    for (const { name, diskConsistentLsn } of await listBranches(this.#store)) {
      if (!name.startsWith(`${this.#timeline}-`) && name !== this.#timeline) continue;
      const wrong = await judgeTimeline(this.#store, name, this.#history, this.#options.random, moments);
      assert.is(wrong, undefined, `${after}: ${wrong}, durable up to ${formatLsn(diskConsistentLsn)}`);
    }
  }

  /**
   * Objects of this timeline and its branches are those that manifests name. A server may finish an upload when the process
   * that began it is dead, and we have collected already: then another collection finds it.
   */
  async #judgeObjects(after: string): Promise<void> {
    const late = this.#options.store.startsWith("s3:") ? LATE_UPLOADS : 0;
    let wrong = await this.#leftOver();
    for (let tries = 0; wrong.length > 0 && tries < late; tries++) {
      await this.#collect();
      wrong = await this.#leftOver();
    }
    assert.equal(wrong, [], after);
  }

  /** What is there and should not be after a collection. */
  async #leftOver(): Promise<string[]> {
    const store = this.#store;
    const prefix = timelinesPrefix() + this.#timeline;
    const named = new Set<string>();
    const wrong: string[] = [];
    for (const { name } of await listBranches(store)) {
      const { manifest } = (await readManifest(store, name))!;
      for (const layer of manifest.layers) named.add(layerKey(name, layer.name));
      for (const removed of manifest.removed) wrong.push(`"${name}" names ${removed.name} as removed`);
      for (const { timeline } of manifest.branches) {
        if (await readManifest(store, timeline) === undefined) {
          wrong.push(`"${name}" holds history for "${timeline}"`);
        }
      }
    }
    for await (const { key } of store.list(prefix)) {
      if (key.includes("/layers/") && !named.has(key)) wrong.push(`${key} is an orphan`);
    }
    return wrong;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#next !== undefined) {
      killQuietly(this.#next);
      await this.#next.output();
    }
    await this.#store.close();
  }
}

/** A kill must come at any moment, so this is not a wait for a condition. */
function moment(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function killQuietly(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}

function drawPoint(random: SeededRandom): { point: FaultPoint; hit: number } {
  const [point, hits] = random.pick(POINTS);
  return { point, hit: random.int(1, hits) };
}
