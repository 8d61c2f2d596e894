/**
 * Keeps upkeep out of the way: work in small steps, with pauses in between.
 *
 * Everything runs on one thread, so a step that lasts keeps WAL waiting, and what upkeep takes of the processor ingest
 * lacks. After each step of some milliseconds others run; while WAL comes in upkeep takes a share of the time only,
 * and while a flush waits for the store or memory is full it takes none.
 *
 * @module
 */
import type { Clock } from "../ports/clock.ts";

export interface PacerOptions {
  clock: Clock;
  /** Share of the time to work while others are busy, above 0 to 1. */
  busyShare: number;
  /** Milliseconds of work between two pauses. Default 8. */
  stepMs?: number;
  /** Whether others are busy now. Default: never. */
  isBusy?(): boolean;
  /** Whether to stand still until it says no, at most a second. Default: never. */
  isBehind?(): boolean;
}

/** How long to stand still at most, and between two looks. */
const STAND_STILL_MS = 1000;
const LOOK_MS = 20;
/** A pause lasts no longer, however long the step before it was. */
const PAUSE_MAX_MS = 250;
/** Of a wait for a store, so much counts as work: what came has to be taken in. */
const WAIT_COUNTED_MS = 4;

/** See the module's description. */
export class Pacer {
  readonly #options: PacerOptions;
  #stepStartedMs: number;

  constructor(options: PacerOptions) {
    this.#options = options;
    this.#stepStartedMs = options.clock.monotonicMs();
  }

  /** Begins to measure anew, after something else was waited for. */
  restart(): void {
    this.#stepStartedMs = this.#options.clock.monotonicMs();
  }

  /** A moment to tell {@linkcode waited} of. */
  mark(): number {
    return this.#options.clock.monotonicMs();
  }

  /** Says that since `mark` a store was waited for, which is no work. */
  waited(mark: number): void {
    const ms = this.#options.clock.monotonicMs() - mark - WAIT_COUNTED_MS;
    if (ms > 0) this.#stepStartedMs += ms;
  }

  /** To be called often: pauses when it is time to. Undefined when it is not. */
  pause(signal?: AbortSignal): Promise<void> | undefined {
    const { clock, stepMs = 8 } = this.#options;
    const workedMs = clock.monotonicMs() - this.#stepStartedMs;
    return workedMs < stepMs ? undefined : this.#pause(workedMs, signal);
  }

  async #pause(workedMs: number, signal?: AbortSignal): Promise<void> {
    const { clock, busyShare, isBusy, isBehind } = this.#options;
    signal?.throwIfAborted();
    const share = isBusy?.() === true ? busyShare : 1;
    await clock.sleep(Math.min(PAUSE_MAX_MS, workedMs * (1 / share - 1)), signal);
    for (let waitedMs = 0; waitedMs < STAND_STILL_MS && isBehind?.() === true; waitedMs += LOOK_MS) {
      await clock.sleep(LOOK_MS, signal);
    }
    this.#stepStartedMs = clock.monotonicMs();
  }
}
