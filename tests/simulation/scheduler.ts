/**
 * Time, chance and order of a simulation: everything that can happen next waits here until it is picked.
 *
 * A step lets all promises settle, then makes one thing happen: a request reaches the store, an answer comes back, WAL
 * arrives, a sleeper wakes. What happens next is drawn from the seed, and nothing else: promises settle in an order that
 * the language fixes, so that one seed is one run.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Clock } from "../../src/ports/clock.ts";
import { SeededRandom } from "../support/random.ts";

/** Something that may happen. */
interface Waiting {
  readonly process: SimulatedProcess | undefined;
  readonly what: string;
  readonly key: string;
  readonly sinceMs: number;
  run(): void;
}

interface Sleeper {
  readonly process: SimulatedProcess;
  readonly atMs: number;
  wake(): void;
}

/** Requests take at most this long, as those of a client that has a time limit. */
export const REQUEST_MS_MAX = 60_000;

/** LSNs, epoch and unique part are what tells layers apart. */
const LAYER_NAME =
  /[0-9A-F]{36}-[0-9A-F]{36}__0{7}([0-9A-F]{9})(?:-0{7}([0-9A-F]{9}))?-0{4}([0-9a-f]{4})-([0-9a-f]{8})/g;

/** See the module's description. */
export class Scheduler {
  readonly random: SeededRandom;
  nowMs = 1_700_000_000_000;
  /** How often, of 1, a sleeper wakes though other things are under way. */
  wakes = 0.1;
  steps = 0;
  /** Stands for all that has happened: two runs of a seed end with the same. */
  fingerprint = 0;
  /** Told what happens, for a person who replays a seed. */
  readonly #log: ((line: string) => void) | undefined;
  readonly #waiting: Waiting[] = [];
  #sleepers: Sleeper[] = [];

  constructor(seed: number, log?: (line: string) => void) {
    this.random = new SeededRandom(seed);
    this.#log = log;
  }

  /** Requests under way, and answers to them. */
  get underWay(): number {
    return this.#waiting.length;
  }

  /** Lets something happen at some later step; never, if its process has died by then and `run` belongs to it. */
  add(process: SimulatedProcess | undefined, what: string, key: string, run: () => void): void {
    this.#waiting.push({ process, what, key, sinceMs: this.nowMs, run });
  }

  sleep(process: SimulatedProcess, ms: number, wake: () => void): () => void {
    const sleeper = { process, atMs: this.nowMs + Math.max(0, ms), wake };
    this.#sleepers.push(sleeper);
    return () => this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
  }

  /** Drops the sleepers of a process that died. */
  forget(process: SimulatedProcess): void {
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.process !== process);
  }

  log(process: SimulatedProcess | undefined, line: string): void {
    if (this.#log === undefined) return;
    const named = line.replaceAll(LAYER_NAME, (_, ...parts) => `layer(${parts.slice(0, 4).join(" ")})`);
    this.#log(`${String(this.steps).padStart(5)} ${(process?.name ?? "-").padEnd(10)} ${named}`);
  }

  get isLogging(): boolean {
    return this.#log !== undefined;
  }

  /** Makes one thing happen; false if there is nothing. Resolves when all that follows from it has settled. */
  async step(): Promise<boolean> {
    const waiting = this.#waiting;
    const timeFirst = waiting.length === 0 || this.random.chance(this.wakes);
    if (!(timeFirst && this.#wakeNext())) {
      if (waiting.length === 0) return false;
      const index = this.random.int(0, waiting.length - 1);
      const next = waiting[index];
      waiting[index] = waiting[waiting.length - 1];
      waiting.pop();
      this.#happen(next);
    }
    this.steps++;
    await settled();
    return true;
  }

  #happen(next: Waiting): void {
    this.#note(next.what.length * 31 + next.key.length);
    if (this.#log !== undefined) this.log(next.process, `${next.what} ${next.key}`);
    next.run();
  }

  #wakeNext(): boolean {
    let first: Sleeper | undefined;
    for (const sleeper of this.#sleepers) {
      if (first === undefined || sleeper.atMs < first.atMs) first = sleeper;
    }
    if (first === undefined) return false;
    // Time does not pass by a request that should have had its time limit by then.
    const overdue = this.#waiting.findIndex(({ sinceMs }) => sinceMs + REQUEST_MS_MAX < first.atMs);
    if (overdue >= 0) {
      const [next] = this.#waiting.splice(overdue, 1);
      this.#happen(next);
      return true;
    }
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== first);
    this.nowMs = Math.max(this.nowMs, first.atMs);
    this.#note(this.nowMs % 65_521);
    this.log(first.process, "wakes");
    first.wake();
    return true;
  }

  #note(value: number): void {
    this.fingerprint = (Math.imul(this.fingerprint ^ value, 0x9e3779b1) + this.#waiting.length) >>> 0;
  }
}

/** Resolves when every promise that waits for nothing but its turn has settled. */
export function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** A process of the simulation; when it has died, nothing of it goes on, and nothing reaches it. */
export class SimulatedProcess {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly clock: Clock;
  isAlive = true;
  /** It cannot reach the store until then. */
  cutOffUntilMs = 0;

  constructor(name: string, scheduler: Scheduler) {
    this.name = name;
    this.scheduler = scheduler;
    this.random = scheduler.random.fork();
    const skewMs = this.random.int(-2000, 2000);
    this.clock = {
      now: () => scheduler.nowMs + skewMs,
      monotonicMs: () => scheduler.nowMs,
      random: () => this.random.float(),
      sleep: (ms, signal) => this.#sleep(ms, signal),
    };
  }

  get isCutOff(): boolean {
    return this.scheduler.nowMs < this.cutOffUntilMs;
  }

  /** It is gone: no answer reaches it, no timer wakes it. */
  die(): void {
    this.isAlive = false;
    this.scheduler.forget(this);
  }

  /** Something that this process waits for, at some later step. */
  later(what: string, key: string): Promise<void> {
    return new Promise((resolve) => {
      if (!this.isAlive) return;
      this.scheduler.add(this, what, key, () => {
        if (this.isAlive) resolve();
      });
    });
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.isAlive) return;
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        cancel();
        reject(signal!.reason);
      };
      const cancel = this.scheduler.sleep(this, ms, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}
