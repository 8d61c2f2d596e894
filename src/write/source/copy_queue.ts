/**
 * Turns a command that copies from push to pull: its messages wait in a queue bounded in bytes, and the server is held back
 * while it is full.
 *
 * @module
 */
import type { CopyControl, CopyReceiver, DriverRow } from "../../ports/postgres_driver.ts";

/** What comes out, in order. */
export type CopyEvent =
  | { readonly kind: "begin" }
  | { readonly kind: "data"; readonly message: Uint8Array }
  | { readonly kind: "end" }
  /** The command has completed. The last one. */
  | { readonly kind: "done" };

/** Above this the server is held back, below half of it it may go on. */
const LIMIT_BYTES = 1024 * 1024;

/** A receiver whose reader takes one event at a time. */
export class CopyQueue implements CopyReceiver {
  /** Rows of results, as they come: those before the first `begin`, and from then on those behind the data. */
  readonly rows: DriverRow[] = [];
  readonly #events: CopyEvent[] = [];
  #head = 0;
  #bytes = 0;
  #isPaused = false;
  #failure: { error: unknown } | undefined;
  #waiting: { resolve: (event: CopyEvent) => void; reject: (error: unknown) => void } | undefined;
  #control: CopyControl | undefined;

  /** The command has been started. */
  attach(control: CopyControl): void {
    this.#control = control;
  }

  /** The next event; rejects when the command has failed. One call at a time. */
  next(): Promise<CopyEvent> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.#head < this.#events.length) return Promise.resolve(this.#take());
    return new Promise((resolve, reject) => this.#waiting = { resolve, reject });
  }

  row(row: DriverRow): void {
    this.rows.push(row.map((value) => value && value.slice()));
  }

  begin(): void {
    this.#put({ kind: "begin" });
  }

  data(message: Uint8Array): void {
    this.#bytes += message.length;
    this.#put({ kind: "data", message });
    if (this.#bytes > LIMIT_BYTES && !this.#isPaused) {
      this.#isPaused = true;
      this.#control?.pause();
    }
  }

  end(): void {
    this.#put({ kind: "end" });
  }

  done(error: unknown): void {
    if (error === null) this.#put({ kind: "done" });
    else this.fail(error);
  }

  /** Ends with an error at once; what is queued is dropped. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#events.length = this.#head = 0;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  #put(event: CopyEvent): void {
    if (this.#failure !== undefined) return;
    this.#events.push(event);
    if (this.#waiting === undefined) return;
    this.#waiting.resolve(this.#take());
    this.#waiting = undefined;
  }

  #take(): CopyEvent {
    const event = this.#events[this.#head++];
    if (this.#head === this.#events.length) this.#events.length = this.#head = 0;
    if (event.kind === "data") this.#bytes -= event.message.length;
    if (this.#isPaused && this.#bytes < LIMIT_BYTES / 2) {
      this.#isPaused = false;
      this.#control?.resume();
    }
    return event;
  }
}
