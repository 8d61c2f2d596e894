/**
 * Port: time and randomness. Types only. Nothing in the engine asks the runtime for either, so that a simulation
 * can own both.
 *
 * @module
 */

export interface Clock {
  /** Milliseconds since the Unix epoch, may jump. For timestamps shown to people. */
  now(): number;
  /** Milliseconds from an arbitrary start, never goes back. For durations. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Uniform in [0, 1). */
  random(): number;
}
