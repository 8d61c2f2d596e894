/**
 * SIGINT and SIGTERM: the first asks for an end in order, a second one ends the process at once.
 *
 * @module
 */
import process from "node:process";
import { EXIT_SIGNAL } from "./exit_codes.ts";
import type { Terminal } from "./terminal.ts";

const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

export type ShutdownSignal = keyof typeof SIGNALS;

/** Listens from its making to its disposal. */
export class Shutdown implements Disposable {
  readonly #asked = new AbortController();
  readonly #terminal: Terminal;
  readonly #listeners: (() => void)[] = [];
  #received: ShutdownSignal | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    for (const signal of Object.keys(SIGNALS) as ShutdownSignal[]) {
      const listener = () => this.#receive(signal);
      process.on(signal, listener);
      this.#listeners.push(() => process.off(signal, listener));
    }
  }

  /** Fires at the first signal. */
  get signal(): AbortSignal {
    return this.#asked.signal;
  }

  /** The exit code of a process that the signal has broken off; undefined while there was none. */
  get exitCode(): number | undefined {
    return this.#received === undefined ? undefined : EXIT_SIGNAL + SIGNALS[this.#received];
  }

  /** Calls `stop` at the first signal, at once if that has come already. */
  onAsked(stop: () => void): void {
    if (this.#asked.signal.aborted) stop();
    else this.#asked.signal.addEventListener("abort", stop, { once: true });
  }

  #receive(signal: ShutdownSignal): void {
    if (this.#received !== undefined) {
      this.#terminal.status("");
      process.exit(EXIT_SIGNAL + SIGNALS[signal]);
    }
    this.#received = signal;
    this.#asked.abort(new DOMException(`Stopped by ${signal}`, "AbortError"));
  }

  [Symbol.dispose](): void {
    for (const remove of this.#listeners) remove();
  }
}
