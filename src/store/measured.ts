/**
 * A store that is counted: wraps any other and reports each call with its outcome, bytes and duration, for metrics.
 *
 * Wrapped around a retrying store it counts what callers see; inside of one, what the server sees.
 *
 * @module
 */
import { NotFoundError, PreconditionFailedError, UnavailableError, VarveError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
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
import { bodySize } from "./body.ts";

/** What was called. */
export type StoreOperation = "put" | "get" | "getRange" | "getStream" | "head" | "list" | "delete";

/** How it ended. `abandoned`: its signal fired, or a stream or listing was left early. */
export type StoreOutcome =
  | "ok"
  | "not_found"
  | "precondition_failed"
  | "unavailable"
  | "denied"
  | "abandoned"
  | "error";

/** One call that is over: for a stream or listing, when its last piece was taken. */
export interface StoreCall {
  operation: StoreOperation;
  outcome: StoreOutcome;
  /** Bytes of content read or written; those that arrived, where the call failed. */
  bytes: number;
  seconds: number;
}

/** Wraps `store`; `onCall` is called once per call and must be quick. Closing the wrapper closes the store. */
export function measured(store: ObjectStore, clock: Clock, onCall: (call: StoreCall) => void): ObjectStore {
  return new MeasuredStore(store, clock, onCall);
}

/** A call under way. */
class Measurement {
  bytes = 0;
  readonly #startedMs: number;
  readonly #report: (outcome: StoreOutcome, bytes: number, seconds: number) => void;
  readonly #clock: Clock;
  #over = false;

  constructor(clock: Clock, report: (outcome: StoreOutcome, bytes: number, seconds: number) => void) {
    this.#clock = clock;
    this.#report = report;
    this.#startedMs = clock.monotonicMs();
  }

  end(outcome: StoreOutcome): void {
    if (this.#over) return;
    this.#over = true;
    this.#report(outcome, this.bytes, (this.#clock.monotonicMs() - this.#startedMs) / 1000);
  }
}

class MeasuredStore implements ObjectStore {
  readonly description: string;
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #onCall: (call: StoreCall) => void;

  constructor(store: ObjectStore, clock: Clock, onCall: (call: StoreCall) => void) {
    this.description = store.description;
    this.#store = store;
    this.#clock = clock;
    this.#onCall = onCall;
  }

  #begin(operation: StoreOperation): Measurement {
    return new Measurement(
      this.#clock,
      (outcome, bytes, seconds) => this.#onCall({ operation, outcome, bytes, seconds }),
    );
  }

  async #measure<T>(
    operation: StoreOperation,
    options: CallOptions,
    call: (measurement: Measurement) => Promise<T>,
  ): Promise<T> {
    const measurement = this.#begin(operation);
    try {
      const result = await call(measurement);
      measurement.end("ok");
      return result;
    } catch (error) {
      measurement.end(outcomeOf(error, options.signal));
      throw error;
    }
  }

  put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: Etag }> {
    return this.#measure("put", options, async (measurement) => {
      const size = bodySize(body);
      const counted = size === undefined ? countedBody(body, measurement) : body;
      const result = await this.#store.put(key, counted, options);
      if (size !== undefined) measurement.bytes = size;
      return result;
    });
  }

  get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    return this.#measure("get", options, async (measurement) => {
      const content = await this.#store.get(key, options);
      measurement.bytes = content.bytes.length;
      return content;
    });
  }

  getRange(key: string, offset: number, length: number, options: CallOptions = {}): Promise<Uint8Array> {
    return this.#measure("getRange", options, async (measurement) => {
      const bytes = await this.#store.getRange(key, offset, length, options);
      measurement.bytes = bytes.length;
      return bytes;
    });
  }

  async getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const measurement = this.#begin("getStream");
    try {
      const { size, body } = await this.#store.getStream(key, options);
      return { size, body: countedStream(body, measurement, options.signal) };
    } catch (error) {
      measurement.end(outcomeOf(error, options.signal));
      throw error;
    }
  }

  head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    return this.#measure("head", options, () => this.#store.head(key, options));
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    const measurement = this.#begin("list");
    try {
      yield* this.#store.list(prefix, options);
      measurement.end("ok");
    } catch (error) {
      measurement.end(outcomeOf(error, options.signal));
      throw error;
    } finally {
      measurement.end("abandoned"); // without effect where it has ended
    }
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#measure("delete", options, () => this.#store.delete(key, options));
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}

function outcomeOf(error: unknown, signal: AbortSignal | undefined): StoreOutcome {
  if (signal?.aborted) return "abandoned";
  if (error instanceof NotFoundError) return "not_found";
  if (error instanceof PreconditionFailedError) return "precondition_failed";
  if (error instanceof UnavailableError) return "unavailable";
  return error instanceof VarveError && error.code === "STORE_DENIED" ? "denied" : "error";
}

function countedBody(
  body: Exclude<ObjectBody, Uint8Array> | Uint8Array,
  measurement: Measurement,
): ObjectBody {
  if (body instanceof Uint8Array) return body;
  return {
    async *open() {
      measurement.bytes = 0; // a retry starts over
      for await (const piece of body.open()) {
        measurement.bytes += piece.length;
        yield piece;
      }
    },
  };
}

function countedStream(
  stream: ReadableStream<Uint8Array>,
  measurement: Measurement,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  const reader = stream.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) {
          measurement.end("ok");
          return controller.close();
        }
        measurement.bytes += value.length;
        controller.enqueue(value);
      } catch (error) {
        measurement.end(outcomeOf(error, signal));
        throw error;
      }
    },
    async cancel(reason) {
      measurement.end("abandoned");
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}
