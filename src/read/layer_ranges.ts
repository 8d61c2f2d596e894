/**
 * Ranges of layer objects in the store, under one limit and with a time limit each.
 *
 * Read path, inside fetch. What somebody waits for goes before what nobody waits for.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { anySignal, withTimeout } from "../flow/abort.ts";
import { Semaphore } from "../flow/semaphore.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { layerKey } from "../timeline/object_keys.ts";
import { countRange, type FetchCause, type LayerFilesCounters } from "./fetch_counters.ts";

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

const limits = new WeakMap<ObjectStore, Semaphore>();

/** The limit that all readers of a store share. */
function limitOf(store: ObjectStore): Semaphore {
  let limit = limits.get(store);
  if (limit === undefined) {
    limit = new Semaphore(DEFAULT_REQUESTS, { backgroundLimit: DEFAULT_BACKGROUND_REQUESTS });
    limits.set(store, limit);
  }
  return limit;
}

/** See the module's description. */
export class LayerRanges {
  readonly requests: Semaphore;
  readonly #options: LayerRangesOptions;
  readonly #counters: LayerFilesCounters;
  readonly #closed: AbortSignal;

  /** @param closed Fires when nobody is to wait any more. */
  constructor(options: LayerRangesOptions, counters: LayerFilesCounters, closed: AbortSignal) {
    this.requests = options.requests ?? limitOf(options.store);
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
  async read(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    access: LayerAccess,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const { store, timeline, clock, requestMs = DEFAULT_REQUEST_MS } = this.#options;
    const { cause = "read" } = access;
    using either = anySignal(signal, this.#closed);
    const background = cause === "compaction" || cause === "prefetch";
    const release = await this.requests.acquire({ background, signal: either.signal });
    try {
      countRange(this.#counters, cause, length);
      access.onRequest?.(length);
      const key = layerKey(timeline, layer.name);
      if (clock === undefined) return await store.getRange(key, offset, length, { signal: either.signal });
      using limit = withTimeout(clock, requestMs, `read layer ${layer.name}`, either.signal);
      return await store.getRange(key, offset, length, { signal: limit.signal });
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      throw new NotFoundError(`Cannot read layer ${layer.name}: its object is gone`, { cause: error });
    } finally {
      release();
    }
  }
}
