/**
 * Waiting for conditions, never for time.
 *
 * @module
 */

export interface WaitOptions {
  /** Milliseconds until it gives up. Default: 30 s. */
  timeoutMs?: number;
  /** Milliseconds between two looks. Default: 10. */
  intervalMs?: number;
  /** What is being waited for, for the error: "the follower has caught up". */
  what: string;
  signal?: AbortSignal;
}

/**
 * Resolves with the first value of `condition` that is neither `false`, `undefined` nor `null`. An error that
 * `condition` throws ends the wait.
 *
 * @throws {Error} After `timeoutMs`, naming `what`.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions,
): Promise<Exclude<T, false | undefined | null>> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    const value = await condition();
    if (value !== false && value !== undefined && value !== null) {
      return value as Exclude<T, false | undefined | null>;
    }
    if (performance.now() >= deadline) throw new Error(`Waited ${timeoutMs} ms in vain: ${options.what}`);
    await new Promise((resolve) => setTimeout(resolve, options.intervalMs ?? 10));
  }
}
