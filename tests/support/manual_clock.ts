/**
 * A clock that stands still until it is told: for tests of everything that waits.
 *
 * @module
 */
import type { Clock } from "../../src/ports/clock.ts";

interface Sleeper {
  readonly atMs: number;
  wake(): void;
}

/** Time moves by {@linkcode ManualClock.advance} only, chance comes from a list. */
export class ManualClock implements Clock {
  /** Every sleep that was asked for, in milliseconds. */
  readonly sleeps: number[] = [];
  /** What `random()` gives, over and over. */
  chances: number[] = [0];
  /** Wake every sleeper at once and move the time along: for tests that only want to see the delays. */
  autoAdvance = false;
  readonly #sleepers = new Set<Sleeper>();
  #nowMs = 1_700_000_000_000;
  #draws = 0;

  /** Sleeps under way. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  now(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs - 1_700_000_000_000;
  }

  random(): number {
    return this.chances[this.#draws++ % this.chances.length];
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeps.push(ms);
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.autoAdvance) {
      this.#nowMs += ms;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#sleepers.delete(sleeper);
        reject(signal!.reason);
      };
      const sleeper = {
        atMs: this.#nowMs + ms,
        wake: () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#sleepers.add(sleeper);
    });
  }

  /** Lets `ms` pass: wakes whoever's time has come, in order, and lets them run. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      let next: Sleeper | undefined;
      for (const sleeper of this.#sleepers) {
        if (next === undefined || sleeper.atMs < next.atMs) next = sleeper;
      }
      if (next === undefined || next.atMs > untilMs) break;
      this.#nowMs = next.atMs;
      this.#sleepers.delete(next);
      next.wake();
      await settle();
    }
    this.#nowMs = untilMs;
    await settle();
  }
}

/** Lets every callback run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
