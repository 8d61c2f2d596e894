/**
 * Bounded parallelism with two priorities.
 *
 * On the read path it limits requests to the store: what a reader waits for (on demand) goes before what upkeep or
 * prefetching would like (background). It promises:
 * - never more than `permits` holders at a time, and never more than `backgroundLimit` of them in the background;
 * - first come, first served within a priority; a waiting on-demand request always goes before a waiting background one;
 * - a waiter that aborts leaves the queue at once.
 *
 * @module
 */
import { abortReason } from "./abort.ts";

/** Gives the permit back. Calling it again does nothing. */
export type Release = () => void;

/** How one permit is asked for. */
export interface AcquireOptions {
  /** Yield to on-demand requests. Default false. */
  background?: boolean;
  signal?: AbortSignal;
}

/** Options of a {@linkcode Semaphore}. */
export interface SemaphoreOptions {
  /** How many permits background holders may have at a time, so that some stay free for demand. Default: all. */
  backgroundLimit?: number;
}

interface Waiter {
  admit(release: Release): void;
}

/** Admits a bounded number of holders. */
export class Semaphore {
  readonly permits: number;
  readonly #backgroundLimit: number;
  // A Set keeps order of insertion and drops an aborted waiter in O(1).
  readonly #demand = new Set<Waiter>();
  readonly #background = new Set<Waiter>();
  #held = 0;
  #heldInBackground = 0;

  constructor(permits: number, options: SemaphoreOptions = {}) {
    const backgroundLimit = options.backgroundLimit ?? permits;
    checkPositive("permits", permits);
    checkPositive("backgroundLimit", backgroundLimit);
    this.permits = permits;
    this.#backgroundLimit = Math.min(backgroundLimit, permits);
  }

  /** Permits handed out. */
  get held(): number {
    return this.#held;
  }

  /** Requests in both queues. */
  get waiting(): number {
    return this.#demand.size + this.#background.size;
  }

  /** Waits for a permit. Rejects with the signal's reason when it fires first. */
  acquire(options: AcquireOptions = {}): Promise<Release> {
    const { background = false, signal } = options;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    const queue = background ? this.#background : this.#demand;
    return new Promise<Release>((resolve, reject) => {
      const onAbort = () => {
        queue.delete(waiter);
        reject(abortReason(signal!));
      };
      const waiter: Waiter = {
        admit: (release) => {
          signal?.removeEventListener("abort", onAbort);
          resolve(release);
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      queue.add(waiter);
      this.#admit();
    });
  }

  /** Runs `work` while holding a permit. */
  async run<T>(work: () => Promise<T>, options: AcquireOptions = {}): Promise<T> {
    const release = await this.acquire(options);
    try {
      return await work();
    } finally {
      release();
    }
  }

  #admit(): void {
    while (this.#held < this.permits) {
      const demand = first(this.#demand);
      if (demand !== undefined) {
        this.#demand.delete(demand);
        demand.admit(this.#grant(false));
        continue;
      }
      const background = first(this.#background);
      if (background === undefined || this.#heldInBackground >= this.#backgroundLimit) return;
      this.#background.delete(background);
      background.admit(this.#grant(true));
    }
  }

  #grant(background: boolean): Release {
    this.#held++;
    if (background) this.#heldInBackground++;
    let given = true;
    return () => {
      if (!given) return;
      given = false;
      this.#held--;
      if (background) this.#heldInBackground--;
      this.#admit();
    };
  }
}

function first(waiters: Set<Waiter>): Waiter | undefined {
  for (const waiter of waiters) return waiter;
  return undefined;
}

function checkPositive(name: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new RangeError(`Cannot make a semaphore: ${name} must be a positive integer, got ${value}`);
}
