/**
 * Ranges of layer objects in the store, under one limit and with a time limit each.
 *
 * Read path, inside fetch. What somebody waits for goes before what nobody waits for.
 *
 * @module
 */
import { CorruptionError, NotFoundError } from "../errors.ts";
import { anySignal, withTimeout } from "../flow/abort.ts";
import { Semaphore } from "../flow/semaphore.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { layerKey } from "../timeline/object_keys.ts";
import {
  countRange,
  countRangeBytes,
  countRequest,
  type FetchCause,
  type LayerFilesCounters,
} from "./fetch_counters.ts";
import { LayerStream, type LayerStreamSource, StreamSlots } from "./layer_stream.ts";

export interface LayerRangesOptions {
  /** The timeline whose layers these are. */
  timeline: string;
  store: ObjectStore;
  /** Without it nothing has a time limit of ours. */
  clock?: Clock;
  /** Limits requests. Default: 32 of all timelines that share a store object, 8 of them in the background. */
  requests?: Semaphore;
  /** Milliseconds without an answer after which a request counts as stuck. Default 60 000. */
  requestMs?: number;
}

/** On whose behalf bytes are read. */
export interface LayerAccess {
  readonly cause?: FetchCause;
  /** Told of each request to the store. */
  onRequest?(bytes: number): void;
}

const DEFAULT_REQUESTS = 32;
const DEFAULT_BACKGROUND_REQUESTS = 8;
const DEFAULT_REQUEST_MS = 60_000;

/** What all readers of a store share. */
interface SharedLimits {
  readonly requests: Semaphore;
  readonly streams: StreamSlots;
}

const limits = new WeakMap<ObjectStore, SharedLimits>();

function limitsOf(store: ObjectStore): SharedLimits {
  let found = limits.get(store);
  if (found === undefined) {
    found = {
      requests: new Semaphore(DEFAULT_REQUESTS, { backgroundLimit: DEFAULT_BACKGROUND_REQUESTS }),
      streams: new StreamSlots(),
    };
    limits.set(store, found);
  }
  return found;
}

/** See the module's description. */
export class LayerRanges {
  readonly requests: Semaphore;
  readonly #options: LayerRangesOptions;
  readonly #counters: LayerFilesCounters;
  readonly #closed: AbortSignal;

  /** @param closed Fires when nobody is to wait any more. */
  constructor(options: LayerRangesOptions, counters: LayerFilesCounters, closed: AbortSignal) {
    this.requests = options.requests ?? limitsOf(options.store).requests;
    this.#options = options;
    this.#counters = counters;
    this.#closed = closed;
  }

  /**
   * A range of a layer's object.
   *
   * @throws {NotFoundError} If the object is gone. @throws {CorruptionError} If it is too short.
   * @throws {UnavailableError} If the store does not answer in time.
   */
  read(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    access: LayerAccess,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    return this.#request(
      layer,
      access,
      (signal) => this.#read(layer, offset, length, access, signal),
      signal,
    );
  }

  /** A long stretch of a layer's object, up to `end`, for who reads on and on. Its reads reject as `read` does. */
  stream(layer: LayerDescriptor, end: number, access: LayerAccess): LayerStream {
    const { store, timeline, clock } = this.#options;
    const { cause = "read" } = access;
    const source: LayerStreamSource = {
      name: layer.name,
      clock,
      slots: limitsOf(store).streams,
      closed: this.#closed,
      request: (work, signal) => this.#request(layer, access, work, signal),
      open: async (offset, length, signal) => {
        countRequest(this.#counters, cause);
        access.onRequest?.(length);
        const range = { offset, length };
        const { size, body } = await store.getStream(layerKey(timeline, layer.name), { range, signal });
        if (size === length) return body;
        await body.cancel();
        throw new CorruptionError("Cannot read layer: the store gave another range", {
          object: layer.name,
          offset,
          expected: length,
          got: size,
        });
      },
      read: (offset, length, signal) => this.#read(layer, offset, length, access, signal),
      onBytes: (bytes) => countRangeBytes(this.#counters, cause, bytes),
    };
    return new LayerStream(source, end);
  }

  #read(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    access: LayerAccess,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { store, timeline } = this.#options;
    countRange(this.#counters, access.cause ?? "read", length);
    access.onRequest?.(length);
    return store.getRange(layerKey(timeline, layer.name), offset, length, { signal });
  }

  /** Does something with the store under the limits of one request. */
  async #request<T>(
    layer: LayerDescriptor,
    { cause = "read" }: LayerAccess,
    work: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const { clock, requestMs = DEFAULT_REQUEST_MS } = this.#options;
    using either = anySignal(signal, this.#closed);
    const background = cause === "compaction" || cause === "prefetch";
    const release = await this.requests.acquire({ background, signal: either.signal });
    try {
      if (clock === undefined) return await work(either.signal);
      using limit = withTimeout(clock, requestMs, `read layer ${layer.name}`, either.signal);
      return await work(limit.signal);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      throw new NotFoundError(`Cannot read layer ${layer.name}: its object is gone`, { cause: error });
    } finally {
      release();
    }
  }
}
