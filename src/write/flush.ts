/**
 * Write path, 5 of 5: a frozen memory layer becomes a delta layer file, an object in the store, a line in the manifest.
 *
 * One flush at a time, oldest first, in its own loop beside ingest. Order (DESIGN 8): the layer object is durable before
 * the manifest that names it is written, and only then the timeline's `remoteConsistentLsn` moves, which is what
 * feedback reports to PostgreSQL. A store that does not answer is asked again for ever; a fenced writer stops.
 *
 * @module
 */
import { UnavailableError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { raceAbort } from "../flow/abort.ts";
import { Backoff } from "../flow/backoff.ts";
import { collectSoon } from "../bytes/arena.ts";
import type { BlockCodec } from "../bytes/block_codec.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerSummary } from "../layer/layer_writer.ts";
import { formatLayerName, type LayerName } from "../layer/layer_name.ts";
import type { MemoryLayer } from "../layer/memory_layer.ts";
import type { MemorySnapshot } from "../layer/memory_snapshot.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { LayerEncoder } from "../ports/layer_encoder.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { ManifestWriter } from "../timeline/manifest_store.ts";
import { type Manifest, manifestLayer } from "../timeline/manifest.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { NAMED_WITHIN_MS } from "../timeline/object_keys.ts";
import { memoryLayerFile, memoryLayerIdentity } from "./memory_layer_file.ts";
import { type LayerFile, storeLayer } from "./store_layer.ts";

export interface FlusherOptions {
  timeline: Timeline;
  manifest: ManifestWriter;
  store: ObjectStore;
  clock: Clock;
  /** Keeps a local copy of every layer; without it layers go straight to the store. */
  local?: LocalLayers;
  /** Compresses blocks of layer files. */
  codec?: BlockCodec;
  /** Encodes layers on another thread; without it, or with a `codec` it has not, they are encoded on this one. */
  encoder?: LayerEncoder<MemorySnapshot, LayerSummary>;
  /** A memory layer with anything in it is flushed at this age, milliseconds. Default 10 minutes. */
  flushIntervalMs?: number;
  events?: EventSink;
  faults?: FaultPoints;
  /** Told when a layer has become resident (its local copy stays). */
  onResident?(descriptor: LayerDescriptor): void;
  /** Told of a name that a layer was stored under and does not have: a local copy of it may go. */
  onForgotten?(name: string): void;
  signal?: AbortSignal;
}

/** Default age at which a memory layer is flushed even if little WAL came. */
export const DEFAULT_FLUSH_INTERVAL_MS = 10 * 60 * 1000;

/** Layers that hold less are encoded in place: posting them would take longer. */
const ENCODER_BYTES_MIN = 1024 * 1024;
/** Bytes that may be copied to post a layer to the encoder: what does not lie in its arena. */
const ENCODER_COPY_MAX = 32 * 1024 * 1024;

/** Garbage is collected in the background; this often is looked whether it is done. */
const COLLECT_TRIES = 64;
const COLLECT_MS = 4;
/** Less than this can wait: of small layers many share the memory that comes back as a whole. */
const COLLECT_BYTES_MIN = 16 * 1024 * 1024;

/** See the module's description. */
export class Flusher {
  /** Told what ended the loop, unless it was stopped: nothing that comes in can become durable any more. */
  onFailure?: (error: unknown) => void;
  readonly #options: FlusherOptions;
  readonly #stopped = new AbortController();
  #failure: { error: unknown } | undefined;
  #wake: (() => void) | undefined;
  /** Resolved after every flush. */
  #flushed: Promise<void>;
  #resolveFlushed!: () => void;
  #loop: Promise<void> | undefined;

  constructor(options: FlusherOptions) {
    this.#options = options;
    this.#flushed = new Promise((resolve) => this.#resolveFlushed = resolve);
    const { signal } = options;
    const stop = () => this.#stopped.abort(signal!.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  }

  /** Starts the loop; it ends with `stop`, the signal, or a failure that is not the store's absence. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Tells the loop that a layer was frozen. */
  kick(): void {
    this.#wake?.();
  }

  /** Throws what ended the loop, if anything did. */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves after the next flush; rejects if there will be none, and with the signal's reason when that fires. */
  async waitForRoom(signal?: AbortSignal): Promise<void> {
    this.throwIfFailed();
    await raceAbort(this.#flushed, signal);
    this.throwIfFailed();
  }

  /** Makes records up to `lsn` durable as soon as they are there: the server waits for it. Does not wait itself. */
  flushSoon(lsn: Lsn): void {
    const { timeline } = this.#options;
    const freeze = () => {
      if (timeline.freeze()) this.kick();
    };
    freeze();
    if (lsn > timeline.lastRecordLsn) {
      timeline.waitForRecord(lsn, this.#stopped.signal).then(freeze, () => {});
    }
  }

  /** Freezes the open layer and resolves when everything taken in is durable. */
  async flushAll(): Promise<void> {
    const { timeline } = this.#options;
    timeline.freeze();
    this.kick();
    while (timeline.frozen.length > 0) await this.waitForRoom();
    this.throwIfFailed();
  }

  /** Ends the loop without flushing; resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopped.abort(new DOMException("The flush was stopped", "AbortError"));
    this.kick();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { timeline, events } = this.#options;
    try {
      for (;;) {
        this.#stopped.signal.throwIfAborted();
        while (timeline.frozen.length === 0) await this.#idle();
        const bytes = timeline.frozen[0].memoryBytes;
        await this.#flushNext();
        await this.#releaseMemory(bytes);
        this.#announce();
      }
    } catch (error) {
      this.#failure = { error };
      timeline.fail(error);
      this.#announce();
      if (!this.#stopped.signal.aborted) {
        this.onFailure?.(error);
        events?.({ level: "error", topic: "flush.failed", message: "Flushing has ended", error });
      }
    }
  }

  #announce(): void {
    const resolve = this.#resolveFlushed;
    this.#flushed = new Promise((next) => this.#resolveFlushed = next);
    resolve();
  }

  /** Waits for a frozen layer; freezes the open one when it gets old. */
  async #idle(): Promise<void> {
    const { clock, timeline, flushIntervalMs = DEFAULT_FLUSH_INTERVAL_MS } = this.#options;
    this.#stopped.signal.throwIfAborted();
    const timer = new AbortController();
    const woken = new Promise<void>((resolve) => this.#wake = resolve);
    const slept = clock.sleep(flushIntervalMs, timer.signal).then(() => void timeline.freeze(), () => {});
    await Promise.race([woken, slept]);
    timer.abort();
    this.#wake = undefined;
    this.#stopped.signal.throwIfAborted();
  }

  /** Resolves when the memory that a layer held can be used for the next one, or somebody still reads it. */
  async #releaseMemory(bytes: number): Promise<void> {
    const { encoder, clock } = this.#options;
    if (bytes < COLLECT_BYTES_MIN) return;
    if (encoder === undefined) return collectSoon();
    const { arena } = encoder;
    const returned = arena.returned;
    for (let tries = 0; tries < COLLECT_TRIES && arena.returned === returned; tries++) {
      arena.collect();
      await clock.sleep(COLLECT_MS, this.#stopped.signal).catch(() => {});
    }
    arena.shrink();
  }

  /** A frame of its own, so that none that goes on living refers to the layer. */
  #flushNext(): Promise<void> {
    return this.#flushOldest(this.#options.timeline.frozen[0]);
  }

  async #flushOldest(memory: MemoryLayer): Promise<void> {
    const { timeline, clock, events, faults } = this.#options;
    const startedMs = clock.monotonicMs();
    const backoff = new Backoff(clock, { initialMs: 100, factor: 1.5, maxMs: 15_000 });
    const tries: StoreTry[] = [];
    for (;;) {
      try {
        if (faults !== undefined) await faults("flush-before-layer");
        // Once it is stored, only its commit is tried again.
        if (memory.entryCount > 0) await this.#storeOnce(memory, tries);
        const descriptor = await this.#commit(memory, tries);
        timeline.completeFlush(memory, descriptor === undefined ? [] : [descriptor]);
        events?.({
          level: "info",
          topic: "flush.done",
          message: `Flushed WAL up to ${formatLsn(memory.endLsn)}`,
          fields: {
            lsn: formatLsn(memory.endLsn),
            entries: memory.entryCount,
            walBytes: memory.walBytes,
            layerBytes: descriptor?.size ?? 0,
            seconds: (clock.monotonicMs() - startedMs) / 1000,
          },
        });
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        events?.({
          level: "warn",
          topic: "flush.retry",
          message: `Cannot flush yet: ${error.message}`,
          error,
        });
        await backoff.wait(this.#stopped.signal);
      }
    }
  }

  /**
   * Stores the layer, unless it is. Tries overwrite each other; after a while a collection may take for an orphan what they
   * left, so that the next one has another name.
   */
  async #storeOnce(memory: MemoryLayer, tries: StoreTry[]): Promise<void> {
    const { timeline, manifest, clock } = this.#options;
    let last = tries.at(-1);
    if (last === undefined || !this.#mayBeNamed(last)) {
      const unique = Math.floor(clock.random() * 0x1_0000_0000);
      const identity = memoryLayerIdentity(memory, timeline.spaces, manifest.manifest.epoch, unique);
      tries.push(last = { identity, name: formatLayerName(identity), atMs: clock.monotonicMs() });
    }
    last.descriptor ??= await this.#writeLayer(memory, last.identity);
  }

  /** Later, a collection may take the object for an orphan at any moment. */
  #mayBeNamed({ atMs }: StoreTry): boolean {
    return this.#options.clock.monotonicMs() - atMs <= NAMED_WITHIN_MS;
  }

  /** The layer's file, local first where there is a disk, then in the store. Durable there when it resolves. */
  async #writeLayer(memory: MemoryLayer, identity: LayerName): Promise<LayerDescriptor> {
    const { timeline, store, local, faults } = this.#options;
    const descriptor = await storeLayer({
      timeline: timeline.name,
      identity,
      generate: () => this.#layerFile(memory),
      store,
      local,
      // A layer that ends inside a record is not history up to its end: only the store's manifest says how far it goes.
      onLocal: () => memory.endLsn === memory.lastLsn && timeline.noteOnDisk(memory.endLsn),
      faults,
      signal: this.#stopped.signal,
    });
    if (local !== undefined) this.#options.onResident?.(descriptor);
    return descriptor;
  }

  #layerFile(memory: MemoryLayer): LayerFile {
    const { timeline, codec, encoder } = this.#options;
    const { major } = timeline.facts;
    const canEncode = encoder?.available && (codec === undefined || encoder.compresses(codec.id));
    if (canEncode && memory.memoryBytes >= ENCODER_BYTES_MIN) {
      const snapshot = memory.snapshot(timeline.spaces, ENCODER_COPY_MAX);
      const signal = this.#stopped.signal;
      if (snapshot !== undefined) return encoder.encode(snapshot, { major, codec: codec?.id, signal });
    }
    return memoryLayerFile(memory, timeline.spaces, profileOfMajor(major), { codec });
  }

  /** Returns the layer that the manifest names, if any. */
  async #commit(memory: MemoryLayer, tries: readonly StoreTry[]): Promise<LayerDescriptor | undefined> {
    const { manifest, faults, onForgotten } = this.#options;
    if (faults !== undefined) await faults("flush-before-commit");
    const last = tries.at(-1);
    const { layers } = await manifest.commit((current) => {
      // A commit whose answer was lost has named it; others may even have replaced it since, and its line may be gone.
      const isThere = memory.endLsn > memory.startLsn && current.diskConsistentLsn >= memory.endLsn;
      if (isThere || tries.some(({ name }) => isKnown(current, name))) return {};
      if (last !== undefined && !this.#mayBeNamed(last)) {
        throw new UnavailableError(`Cannot name layer ${last.name}: it was stored too long ago`);
      }
      const added = last === undefined ? [] : [manifestLayer(last.descriptor!)];
      return { layers: [...current.layers, ...added], diskConsistentLsn: memory.endLsn, tli: memory.tli };
    }, this.#stopped.signal);
    if (faults !== undefined) await faults("flush-after-commit");
    const named = new Set(layers.map(({ name }) => name));
    for (const { name } of tries) if (!named.has(name)) onForgotten?.(name);
    return tries.find(({ name }) => named.has(name))?.descriptor;
  }
}

/** One name under which a memory layer was stored, or may have been. */
interface StoreTry {
  readonly identity: LayerName;
  readonly name: string;
  /** When it was first tried, by the monotonic clock. */
  readonly atMs: number;
  /** Once it is stored. */
  descriptor?: LayerDescriptor;
}

function isKnown({ layers, removed }: Manifest, name: string): boolean {
  return layers.some((layer) => layer.name === name) || removed.some((layer) => layer.name === name);
}
