/**
 * Waiting until an LSN is reached.
 *
 * Shared by both paths. Waiters resolve in the microtask after `advance`, lowest LSN first; a waiter that gives up by its
 * signal leaves nothing behind; once the gate has failed, nobody waits in vain.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";

interface Waiter {
  lsn: Lsn;
  resolve: () => void;
  reject: (reason: unknown) => void;
}

/** A monotonic position that can be waited for. */
export class LsnGate {
  #reached: Lsn;
  #waiters: Waiter[] = [];
  #failure: { reason: unknown } | undefined;

  constructor(reached: Lsn) {
    this.#reached = reached;
  }

  get reached(): Lsn {
    return this.#reached;
  }

  /** Moves the position forward and wakes those who waited for it. Going back is ignored. */
  advance(lsn: Lsn): void {
    if (lsn <= this.#reached) return;
    this.#reached = lsn;
    if (this.#waiters.length === 0) return;
    const woken = this.#waiters.filter((waiter) => waiter.lsn <= lsn);
    this.#waiters = this.#waiters.filter((waiter) => waiter.lsn > lsn);
    for (const waiter of woken.sort((left, right) => left.lsn - right.lsn)) waiter.resolve();
  }

  /** Makes all waiters fail, now and later: the position will never advance again. The first reason stays. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(reason);
  }

  /** Resolves when the position is at or beyond `lsn`. */
  async wait(lsn: Lsn, signal?: AbortSignal): Promise<void> {
    if (lsn <= this.#reached) return;
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure.reason;
    let onAbort: (() => void) | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const waiter = { lsn, resolve, reject };
        this.#waiters.push(waiter);
        onAbort = () => {
          this.#waiters = this.#waiters.filter((other) => other !== waiter);
          reject(signal!.reason);
        };
        signal?.addEventListener("abort", onAbort);
      });
    } finally {
      if (onAbort !== undefined) signal?.removeEventListener("abort", onAbort);
    }
  }
}
