/**
 * A long stretch of a layer's object by one request, read a portion at a time.
 *
 * Read path, inside fetch, for those who walk layers: a request costs as much as some megabytes that come with it. What it
 * promises:
 * - a portion holds one permit of the limit that all requests are under, while its bytes come, as a range would. Between
 *   portions the answer stands still and holds none, so that however many walks stand still nobody waits for them, and
 *   readers on demand come in between;
 * - a portion has the time limit of a request;
 * - an answer that breaks off is asked for again from where it was, with back-off, some times for a portion;
 * - one that nobody reads on from is let go of after a while and asked for again when somebody does: a walk that is
 *   forgotten holds no connection;
 * - answers that are open at a time are few. Who finds no room for one reads range by range.
 *
 * @module
 */
import { CorruptionError, UnavailableError } from "../errors.ts";
import { abortReason, raceAbort } from "../flow/abort.ts";
import { Backoff } from "../flow/backoff.ts";
import type { Clock } from "../ports/clock.ts";

/** Answers open at a time, of all timelines that share a store object: workers may have six connections. */
const STREAMS_MAX = 4;
/** Milliseconds that an answer stays open without a reader. */
const IDLE_MS = 10_000;
/** Times that a portion's answer may break off. */
const RESUMES_MAX = 5;

/** A reason at hand: the one that is made otherwise costs more than the rest of a portion's limits. */
const NO_LONGER_IDLE = new Error("The answer is read on, or closed");

/** Room for answers that are open. */
export class StreamSlots {
  #free: number;

  constructor(slots: number = STREAMS_MAX) {
    this.#free = slots;
  }

  take(): boolean {
    if (this.#free === 0) return false;
    this.#free--;
    return true;
  }

  give(): void {
    this.#free++;
  }
}

/** What a stretch is read with. */
export interface LayerStreamSource {
  /** For errors. */
  readonly name: string;
  /** Without it nothing is tried again, nor let go of. */
  readonly clock?: Clock;
  readonly slots: StreamSlots;
  /** Fires when nobody is to wait any more. */
  readonly closed: AbortSignal;
  /** Does something under the limits of a request. */
  request<T>(work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Asks for bytes as a stream. */
  open(offset: number, length: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
  /** Reads a range. */
  read(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Told of bytes of a stream that have come. */
  onBytes(bytes: number): void;
}

/** See the module's description. */
export class LayerStream {
  readonly #source: LayerStreamSource;
  readonly #end: number;
  #answer: Answer | undefined;
  /** Ends the wait for a reader. */
  #idle: AbortController | undefined;

  /** @param end Where the stretch ends. */
  constructor(source: LayerStreamSource, end: number) {
    this.#source = source;
    this.#end = end;
  }

  /**
   * Exactly `length` bytes from `offset`, in pieces: best from where the last portion has ended.
   *
   * @throws What a ranged read does.
   */
  read(offset: number, length: number, signal?: AbortSignal): Promise<readonly Uint8Array[]> {
    this.#idle?.abort(NO_LONGER_IDLE);
    return this.#source.request(async (signal) => {
      if (this.#answer?.at !== offset) this.close();
      const isLast = offset + length === this.#end;
      if (this.#answer === undefined && (isLast || !this.#source.slots.take())) {
        return [await this.#source.read(offset, length, signal)];
      }
      this.#answer ??= new Answer(this.#source, offset, this.#end);
      try {
        const pieces = await this.#answer.read(length, signal);
        if (isLast) this.close();
        else this.#awaitReader();
        return pieces;
      } catch (error) {
        this.close();
        throw error;
      }
    }, signal);
  }

  /** Lets go of the answer, if one is open. */
  close(): void {
    this.#idle?.abort(NO_LONGER_IDLE);
    this.#answer?.close();
    if (this.#answer !== undefined) this.#source.slots.give();
    this.#answer = undefined;
    this.#source.closed.removeEventListener("abort", this.#onClosed);
  }

  readonly #onClosed = () => this.close();

  #awaitReader(): void {
    const { clock, closed } = this.#source;
    closed.addEventListener("abort", this.#onClosed, { once: true });
    const idle = this.#idle = new AbortController();
    clock?.sleep(IDLE_MS, idle.signal).then(() => this.close(), () => undefined);
  }
}

/** An answer, or after it broke off the next one: the stretch from a position to its end. */
class Answer {
  /** Position of the next byte to be handed on. */
  at: number;
  readonly #source: LayerStreamSource;
  readonly #end: number;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  /** What came beyond the portion. */
  #rest: Uint8Array | undefined;
  /** Ends the request. */
  #request = new AbortController();

  constructor(source: LayerStreamSource, offset: number, end: number) {
    this.#source = source;
    this.at = offset;
    this.#end = end;
  }

  async read(length: number, signal: AbortSignal): Promise<Uint8Array[]> {
    const onAbort = () => this.close(abortReason(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await this.#fill(length, signal);
    } catch (error) {
      // The abort may have looked like an end.
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Ends the request. */
  close(reason?: unknown): void {
    this.#rest = undefined;
    this.#reader?.cancel(reason).catch(() => undefined);
    this.#reader = undefined;
    this.#request.abort(reason);
    this.#request = new AbortController();
  }

  async #fill(length: number, signal: AbortSignal): Promise<Uint8Array[]> {
    const { clock } = this.#source;
    const pieces: Uint8Array[] = [];
    let missing = length;
    let backoff: Backoff | undefined;
    while (missing > 0) {
      signal.throwIfAborted();
      const reader = this.#reader ??= await this.#open(signal);
      let piece: Uint8Array;
      try {
        piece = this.#rest ?? await this.#piece(reader);
      } catch (error) {
        signal.throwIfAborted();
        const mayWork = error instanceof UnavailableError && (backoff?.attempts ?? 0) < RESUMES_MAX;
        if (!mayWork || clock === undefined) throw error;
        this.close(error);
        await (backoff ??= new Backoff(clock, { maxMs: 5_000 })).wait(signal);
        continue;
      }
      const taken = Math.min(piece.length, missing);
      this.#rest = taken < piece.length ? piece.subarray(taken) : undefined;
      pieces.push(taken < piece.length ? piece.subarray(0, taken) : piece);
      missing -= taken;
      this.at += taken;
    }
    if (this.at === this.#end) await this.#finish(signal);
    return pieces;
  }

  async #open(signal: AbortSignal): Promise<ReadableStreamDefaultReader<Uint8Array>> {
    const request = this.#request;
    const opening = this.#source.open(this.at, this.#end - this.at, request.signal);
    // Who has given up does not wait for the answer, which is not left open either.
    opening.then((body) => request.signal.aborted ? body.cancel() : undefined).catch(() => undefined);
    return (await raceAbort(opening, signal)).getReader();
  }

  async #piece(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<Uint8Array> {
    const { done, value } = await reader.read();
    if (done) throw this.#wrongLength("fewer");
    this.#source.onBytes(value.length);
    return value;
  }

  /** All bytes are here: an answer that is read to its very end leaves its connection for the next request. */
  async #finish(signal: AbortSignal): Promise<void> {
    const isOver = await this.#reader?.read().then(({ done }) => done, () => true);
    signal.throwIfAborted();
    if (this.#rest !== undefined || !isOver) throw this.#wrongLength("more");
    this.#reader = undefined;
  }

  #wrongLength(got: string): CorruptionError {
    return new CorruptionError("Cannot read layer: a range came back with another length", {
      object: this.#source.name,
      offset: this.at,
      expected: `${this.#end - this.at} bytes more`,
      got,
    });
  }
}
