/**
 * A store that tries again: wraps any other and repeats calls that reject with UnavailableError, with back-off, until
 * attempts or time run out. Every other error passes at once.
 *
 * **What it promises for conditional writes.** A write that was not answered may have happened, so its repetition may
 * find its own success and be told that the condition is not met. Therefore, once an attempt has gone unanswered:
 * - before another attempt, and when one is told PreconditionFailedError, the object is read; if it has exactly the
 *   bytes of our body, the write is ours and `put` resolves with that version's etag;
 * - otherwise PreconditionFailedError passes. It then means "someone else's write is there now"; ours may have
 *   happened before and been replaced.
 *
 * So two writers must never write the same bytes under a condition: put something of the writer into the body, as
 * the manifest does with its commit id. A PreconditionFailedError at the first attempt is always the plain truth.
 *
 * Unconditional writes are repeated as they are: write the same content under the same key, or expect the last one
 * to win. A stream is repeated only until it has begun; a listing goes on behind the last key that was given.
 *
 * @module
 */
import { CorruptionError, NotFoundError, PreconditionFailedError, UnavailableError } from "../errors.ts";
import { Backoff, type BackoffOptions } from "../flow/backoff.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type {
  CallOptions,
  Etag,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../ports/object_store.ts";
import { bodyPieces, bodySize } from "./body.ts";

/** How persistent to be. */
export interface RetryingStoreOptions {
  clock: Clock;
  /** Tries in all. Default 8. */
  attempts?: number;
  /** Milliseconds after the call's start when no further try is begun. Default 60 000. */
  totalMs?: number;
  /** Delays between tries. Default from 100 ms, doubling, to 10 s, with jitter. */
  backoff?: BackoffOptions;
  /** Told of every try that failed and will be repeated: `store.retry`. */
  onEvent?: EventSink;
}

/** Wraps `store`. Closing the wrapper closes it. */
export function retrying(store: ObjectStore, options: RetryingStoreOptions): ObjectStore {
  return new RetryingStore(store, options);
}

class RetryingStore implements ObjectStore {
  readonly description: string;
  readonly #store: ObjectStore;
  readonly #options: RetryingStoreOptions;
  readonly #attempts: number;
  readonly #totalMs: number;

  constructor(store: ObjectStore, options: RetryingStoreOptions) {
    this.description = store.description;
    this.#store = store;
    this.#options = options;
    this.#attempts = options.attempts ?? 8;
    this.#totalMs = options.totalMs ?? 60_000;
    if (!(this.#attempts >= 1)) {
      throw new RangeError(`Cannot try ${options.attempts} times: expected at least once`);
    }
  }

  put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: Etag }> {
    if (options.condition === undefined) {
      return this.#persist("put", key, options, () => this.#store.put(key, body, options));
    }
    let unanswered = false;
    return this.#persist("put", key, options, async () => {
      const happened = unanswered ? await this.#findOwn(key, body, options) : undefined;
      if (happened !== undefined) return { etag: happened };
      try {
        return await this.#store.put(key, body, options);
      } catch (error) {
        if (error instanceof PreconditionFailedError && unanswered) {
          const etag = await this.#findOwn(key, body, options);
          if (etag !== undefined) return { etag };
        }
        if (error instanceof UnavailableError) unanswered = true;
        throw error;
      }
    });
  }

  /** The etag of the object if it has exactly the bytes of `body`. */
  async #findOwn(key: string, body: ObjectBody, options: CallOptions): Promise<Etag | undefined> {
    try {
      const before = await this.#store.head(key, options);
      if (before.size !== (bodySize(body) ?? before.size)) return undefined;
      const { body: found } = await this.#store.getStream(key, options);
      if (!(await sameContent(found, body, options.signal))) return undefined;
      const after = await this.#store.head(key, options);
      return after.etag === before.etag ? after.etag : undefined;
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      if (!(error instanceof CorruptionError)) throw error;
      // Cut on its way here: that says nothing of the object, and the next look may.
      throw new UnavailableError(`Cannot tell whether ${key} was written: ${error.message}`, {
        cause: error,
      });
    }
  }

  get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    return this.#persist("get", key, options, () => this.#store.get(key, options));
  }

  getRange(key: string, offset: number, length: number, options: CallOptions = {}): Promise<Uint8Array> {
    return this.#persist("getRange", key, options, () => this.#store.getRange(key, offset, length, options));
  }

  getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    return this.#persist("getStream", key, options, () => this.#store.getStream(key, options));
  }

  head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    return this.#persist("head", key, options, () => this.#store.head(key, options));
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    let last: string | undefined;
    let listing: AsyncIterator<ObjectInfo> | undefined;
    const next = async () => {
      try {
        listing ??= this.#store.list(prefix, options)[Symbol.asyncIterator]();
        for (;;) {
          const { done, value } = await listing.next();
          if (done) return undefined;
          if (last === undefined || value.key > last) return value;
        }
      } catch (error) {
        listing = undefined; // an iterator that threw is at its end
        throw error;
      }
    };
    try {
      for (;;) {
        const info: ObjectInfo | undefined = await this.#persist("list", prefix, options, next);
        if (info === undefined) return;
        last = info.key;
        yield info;
      }
    } finally {
      await listing?.return?.();
    }
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#persist("delete", key, options, () => this.#store.delete(key, options));
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #persist<T>(
    operation: string,
    key: string,
    options: CallOptions,
    attempt: () => Promise<T>,
  ): Promise<T> {
    const { clock } = this.#options;
    let backoff: Backoff | undefined; // most calls work at once
    const deadlineMs = clock.monotonicMs() + this.#totalMs;
    for (let tries = 1;; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof UnavailableError) || tries >= this.#attempts) throw error;
        options.signal?.throwIfAborted();
        backoff ??= new Backoff(clock, { maxMs: 10_000, ...this.#options.backoff });
        const delayMs = backoff.next();
        if (clock.monotonicMs() + delayMs > deadlineMs) throw error;
        this.#tell(operation, key, tries, delayMs, error);
        await clock.sleep(delayMs, options.signal);
      }
    }
  }

  #tell(operation: string, key: string, tries: number, delayMs: number, error: UnavailableError): void {
    this.#options.onEvent?.({
      level: "warn",
      topic: "store.retry",
      message: `${error.message}; trying again in ${Math.round(delayMs)} ms`,
      fields: { operation, key, tries, delayMs: Math.round(delayMs) },
      error,
    });
  }
}

/** Compares a stream with a body, piece by piece: neither is held whole. */
async function sameContent(
  stream: ReadableStream<Uint8Array>,
  body: ObjectBody,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const reader = stream.getReader();
  let found: Uint8Array = new Uint8Array(0);
  try {
    for await (let piece of bodyPieces(body, signal)) {
      while (piece.length > 0) {
        if (found.length === 0) {
          const { done, value } = await reader.read();
          if (done) return false;
          found = value;
        }
        const count = Math.min(piece.length, found.length);
        for (let i = 0; i < count; i++) if (piece[i] !== found[i]) return false;
        piece = piece.subarray(count);
        found = found.subarray(count);
      }
    }
    if (found.length > 0) return false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      if (value.length > 0) return false;
    }
  } finally {
    await reader.cancel();
  }
}
