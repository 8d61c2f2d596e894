/**
 * How long to wait before trying again: exponential, capped, with jitter.
 *
 * Jitter only ever shortens a delay, so that the cap stays a cap; it spreads clients that failed at the same moment.
 *
 * @module
 */
import type { Clock } from "../ports/clock.ts";

/** The shape of a schedule. */
export interface BackoffOptions {
  /** First delay in milliseconds. Default 100. */
  initialMs?: number;
  /** Each delay is this many times the one before. Default 2. */
  factor?: number;
  /** No delay is longer, in milliseconds. Default 30 000. */
  maxMs?: number;
  /** Share of a delay, 0 to 1, that chance may take off. Default 0.5. */
  jitter?: number;
}

/** A schedule of delays for one thing that keeps failing. */
export class Backoff {
  readonly #clock: Clock;
  readonly #initialMs: number;
  readonly #factor: number;
  readonly #maxMs: number;
  readonly #jitter: number;
  #attempts = 0;
  #base: number;

  /** Throws RangeError when the schedule would not be one: `initialMs <= 0`, `factor < 1`, `maxMs < initialMs`, `jitter` outside 0..1. */
  constructor(clock: Clock, options: BackoffOptions = {}) {
    const { initialMs = 100, factor = 2, maxMs = Math.max(30_000, initialMs), jitter = 0.5 } = options;
    if (!(initialMs > 0) || !(factor >= 1) || !(maxMs >= initialMs) || !(jitter >= 0 && jitter <= 1)) {
      throw new RangeError(
        `Cannot make a back-off: expected initialMs > 0, factor >= 1, maxMs >= initialMs and jitter in 0..1, ` +
          `got ${initialMs}, ${factor}, ${maxMs}, ${jitter}`,
      );
    }
    this.#clock = clock;
    this.#initialMs = initialMs;
    this.#factor = factor;
    this.#maxMs = maxMs;
    this.#jitter = jitter;
    this.#base = initialMs;
  }

  /** Delays handed out since the start or the last {@linkcode Backoff.reset}. */
  get attempts(): number {
    return this.#attempts;
  }

  /** The next delay in milliseconds. */
  next(): number {
    const delay = this.#base * (1 - this.#jitter * this.#clock.random());
    this.#base = Math.min(this.#base * this.#factor, this.#maxMs);
    this.#attempts++;
    return delay;
  }

  /** Sleeps for the next delay and tells how long it was. Rejects with the signal's reason when it fires first. */
  async wait(signal?: AbortSignal): Promise<number> {
    const delay = this.next();
    await this.#clock.sleep(delay, signal);
    return delay;
  }

  /** Starts over: the thing has worked again. */
  reset(): void {
    this.#attempts = 0;
    this.#base = this.#initialMs;
  }
}
