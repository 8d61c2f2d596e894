/**
 * One command that copies, on postgres.js: its streams, made into calls of a receiver, and steered.
 *
 * Part of `postgres_source.ts`, which says what must be known about postgres.js.
 *
 * @module
 */
import type { CopyControl, CopyReceiver } from "../ports/postgres_driver.ts";

/** A COPY stream of postgres.js: a Duplex for both directions, a Readable for a base backup. */
export interface InnerStream {
  on(event: "data", listener: (message: Uint8Array) => void): void;
  on(event: "end", listener: () => void): void;
  on(event: "error", listener: (error: unknown) => void): void;
  pause(): void;
  resume(): void;
  write?(message: Uint8Array): boolean;
  end?(): void;
}

/** The socket underneath, as far as it matters here. */
export interface CopySocket {
  resume(): unknown;
  readonly destroyed: boolean;
}

/** One command that copies: one stream, or with PostgreSQL 14's base backups several, one after the other. */
export class PostgresJsCopy implements CopyControl {
  readonly #receiver: CopyReceiver;
  readonly #socket: CopySocket;
  readonly #waiting: InnerStream[] = [];
  #stream: InnerStream | undefined;
  #paused = false;
  /** The server's CopyDone of the current stream has been told. */
  #hasEnded = false;
  /** The command has completed; its last stream may still hold data that nobody has taken. */
  #completed = false;
  #isDone = false;

  constructor(receiver: CopyReceiver, socket: CopySocket) {
    this.#receiver = receiver;
    this.#socket = socket;
  }

  add(stream: InnerStream): void {
    stream.on("error", () => {}); // the query's rejection tells the same
    this.#waiting.push(stream);
    if (this.#stream === undefined || this.#hasEnded) this.#next();
  }

  finished(error: unknown): void {
    if (this.#isDone) return;
    this.#completed = true;
    if (error === null && this.#stream !== undefined && !this.#hasEnded) return; // told after its last data
    this.#isDone = true;
    this.#receiver.done(error);
  }

  pause(): void {
    this.#paused = true;
    if (!this.#isDone) this.#stream?.pause();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#isDone) this.#stream?.resume();
  }

  write(message: Uint8Array): boolean {
    if (this.#isDone || this.#stream?.write === undefined || this.#socket.destroyed) return true;
    return this.#stream.write(message);
  }

  finish(): void {
    if (!this.#isDone && !this.#socket.destroyed) this.#stream?.end?.();
  }

  #next(): void {
    const stream = this.#stream = this.#waiting.shift()!;
    this.#hasEnded = false;
    this.#receiver.begin();
    stream.on("data", (message) => {
      if (!this.#isDone) this.#receiver.data(message);
    });
    stream.on("end", () => this.#ended());
    if (this.#paused) stream.pause();
  }

  #ended(): void {
    if (this.#isDone) return;
    this.#hasEnded = true;
    this.#receiver.end();
    this.#socket.resume();
    if (this.#waiting.length > 0) this.#next();
    else if (this.#completed) this.finished(null);
  }
}

export function isStream(value: unknown): value is InnerStream {
  return typeof (value as { pipe?: unknown } | null)?.pipe === "function";
}
