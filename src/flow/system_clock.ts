/**
 * The real clock: the runtime's timers, time and randomness behind `ports/clock.ts`. Web-standard APIs only, so it works
 * on Deno, Bun, Node and edge workers. The one place of the core that asks the runtime for time; everything else gets its clock
 * handed in.
 *
 * @module
 */
import type { Clock } from "../ports/clock.ts";

/** The largest delay that `setTimeout` honours; beyond it, runtimes fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Time and chance as the runtime tells them. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  random: () => Math.random(),
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    let left = ms;
    for (; left > LONGEST_TIMER_MS; left -= LONGEST_TIMER_MS) await timer(LONGEST_TIMER_MS, signal);
    await timer(left, signal);
  },
};

function timer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(id);
      reject(signal!.reason);
    };
    const id = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
