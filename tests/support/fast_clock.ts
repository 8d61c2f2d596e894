/**
 * A clock that waits for real, but faster: for tests in which things take time, and time limits are long.
 *
 * @module
 */
import { ManualClock } from "./manual_clock.ts";

/** See the module's description. */
export class FastClock extends ManualClock {
  readonly #speed: number;

  /** @param speed Milliseconds of this clock in a real one. */
  constructor(speed: number) {
    super();
    this.#speed = speed;
  }

  override monotonicMs(): number {
    return performance.now() * this.#speed;
  }

  override sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal!.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, ms / this.#speed);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}
