/**
 * Whether the store answers, for readiness: one small request, at most every few seconds however often one asks.
 *
 * @module
 */
import { withTimeout } from "../flow/abort.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore } from "../ports/object_store.ts";

const ANSWER_AGE_MS = 5000;
const ANSWER_LIMIT_MS = 3000;

/** See the module's description. */
export class StoreProbe {
  readonly #store: Pick<ObjectStore, "head">;
  readonly #clock: Clock;
  readonly #answers = new Map<string, { atMs: number; failure: Promise<unknown> }>();

  constructor(store: Pick<ObjectStore, "head">, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Resolves with what asking for `key` failed with, undefined if it did not. Those who ask together share an answer. */
  async failure(key: string): Promise<unknown> {
    const now = this.#clock.monotonicMs();
    const known = this.#answers.get(key);
    if (known !== undefined && now - known.atMs < ANSWER_AGE_MS) return await known.failure;
    const failure = this.#ask(key);
    this.#answers.set(key, { atMs: now, failure });
    return await failure;
  }

  async #ask(key: string): Promise<unknown> {
    using limit = withTimeout(this.#clock, ANSWER_LIMIT_MS, "reach the store");
    try {
      await this.#store.head(key, { signal: limit.signal });
      return undefined;
    } catch (error) {
      return error ?? new Error("Cannot reach the store");
    }
  }
}
