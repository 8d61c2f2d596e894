/**
 * A budget of bytes that many share: who wants to hold bytes waits until they fit.
 *
 * Bounds the queues of the write path and the downloads of the read path. It promises:
 * - the sum of what is reserved stays within the budget, except that one reservation larger than the whole budget is
 *   admitted while nothing else is held (otherwise it would wait for ever);
 * - first come, first served: a large request is not starved by small ones behind it.
 *
 * @module
 */
import { abortReason } from "./abort.ts";

interface Waiter {
  readonly bytes: number;
  admit(): void;
}

/** Admits reservations of bytes up to a limit. */
export class ByteBudget {
  readonly limit: number;
  readonly #waiters = new Set<Waiter>();
  #used = 0;

  /** @param limit Bytes that may be held at a time. */
  constructor(limit: number) {
    if (!(limit > 0)) throw new RangeError(`Cannot make a byte budget: limit must be positive, got ${limit}`);
    this.limit = limit;
  }

  /** Bytes reserved. */
  get used(): number {
    return this.#used;
  }

  /** Reservations in the queue. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Reserves `bytes` if that is possible without waiting. */
  tryReserve(bytes: number): boolean {
    checkBytes(bytes);
    if (this.#waiters.size > 0 || !this.#fits(bytes)) return false;
    this.#used += bytes;
    return true;
  }

  /** Waits until `bytes` fit, then holds them. Rejects with the signal's reason when it fires first, holding nothing. */
  reserve(bytes: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    if (this.tryReserve(bytes)) return Promise.resolve();
    return new Promise<void>((resolve, reject) => {
      const onAbort = () => {
        this.#waiters.delete(waiter);
        reject(abortReason(signal!));
        this.#admit(); // it may have been a large one at the head, in the way of others
      };
      const waiter: Waiter = {
        bytes,
        admit: () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Gives back `bytes`, all or part of what was reserved. Throws RangeError for more than is held. */
  release(bytes: number): void {
    checkBytes(bytes);
    if (bytes > this.#used) {
      throw new RangeError(`Cannot release ${bytes} bytes: only ${this.#used} are reserved`);
    }
    this.#used -= bytes;
    this.#admit();
  }

  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.limit;
  }

  #admit(): void {
    for (const waiter of this.#waiters) {
      if (!this.#fits(waiter.bytes)) return;
      this.#waiters.delete(waiter);
      this.#used += waiter.bytes;
      waiter.admit();
    }
  }
}

function checkBytes(bytes: number): void {
  if (Number.isInteger(bytes) && bytes >= 0) return;
  throw new RangeError(`Cannot count bytes: expected a non-negative integer, got ${bytes}`);
}
