/**
 * Helpers around AbortSignal, shared by everything that waits.
 *
 * They promise to leave nothing behind: a listener that was added to a long-lived signal is taken off again when
 * the wait is over, and a timer that lost its race is cancelled.
 *
 * @module
 */
import { UnavailableError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";

/** A reason at hand: making one for each time limit would cost more than the limit. */
const FINISHED = new Error("What had a time limit has ended");

/** A signal with an end of life: dispose it when the work that it bounds is over. */
export interface BoundedSignal extends Disposable {
  readonly signal: AbortSignal;
}

/** What an aborted signal was aborted with; never undefined, so that it can be thrown. */
export function abortReason(signal: AbortSignal): unknown {
  return signal.reason ?? new DOMException("The operation was aborted", "AbortError");
}

/**
 * A signal that fires when the first of `signals` does, with that one's reason. `undefined` entries are ignored.
 * Dispose the result to take the listeners off the inputs.
 */
export function anySignal(...signals: (AbortSignal | undefined)[]): BoundedSignal {
  const controller = new AbortController();
  const inputs: AbortSignal[] = [];
  const onAbort = (event: Event) => stop(event.target as AbortSignal);
  const dispose = () => {
    for (const input of inputs) input.removeEventListener("abort", onAbort);
    inputs.length = 0;
  };
  const stop = (source: AbortSignal) => {
    dispose();
    controller.abort(abortReason(source));
  };
  for (const signal of signals) {
    if (signal === undefined) continue;
    if (signal.aborted) {
      stop(signal);
      break;
    }
    signal.addEventListener("abort", onAbort);
    inputs.push(signal);
  }
  return { signal: controller.signal, [Symbol.dispose]: dispose };
}

/**
 * A signal that fires after `ms` milliseconds with an UnavailableError (code `TIMEOUT`) that says "Cannot `doing`",
 * or earlier with the reason of `signal`. Dispose it when the work is done, which also ends the timer.
 */
export function withTimeout(clock: Clock, ms: number, doing: string, signal?: AbortSignal): BoundedSignal {
  const timer = new AbortController();
  const finished = new AbortController();
  const either = anySignal(signal, timer.signal);
  clock.sleep(ms, finished.signal).then(
    () => timer.abort(new UnavailableError(`Cannot ${doing}: no end within ${ms} ms`, {}, "TIMEOUT")),
    () => {}, // disposed first: the only way in which this sleep rejects
  );
  return {
    signal: either.signal,
    [Symbol.dispose]() {
      either[Symbol.dispose]();
      finished.abort(FINISHED);
    },
  };
}

/**
 * Waits for `promise`, or rejects with the signal's reason when that fires first. The work behind `promise` goes on;
 * if it fails after that, nobody is told.
 */
export function raceAbort<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => {}); // its outcome has no taker any more
    return Promise.reject(abortReason(signal));
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(abortReason(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
