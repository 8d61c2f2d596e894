/**
 * Where the bytes of a layer come from: a local copy if there is one, else ranges of the object in the store.
 *
 * Read path, inside fetch. Local copies are a cache, the manifest and the store are the authority. With a place for local
 * copies, a layer of which much is read (residency.ts says how much) is downloaded whole in the background
 * (layer_download.ts), by one flight however many want it. A local copy that is damaged, cut or gone is dropped and the
 * store read again, while others may still be reading it. Sizes are counted as they change: `residentBytes` is local
 * bytes only.
 *
 * @module
 */
import { VarveError } from "../errors.ts";
import { SingleFlight } from "../flow/single_flight.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { LayerRun, LayerSource } from "../layer/layer_reader.ts";
import type { EventSink } from "../ports/events.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import { layerKey } from "../timeline/object_keys.ts";
import {
  countDownload,
  countRange,
  type FetchCause,
  type LayerFilesCounters,
  newLayerFilesCounters,
} from "./fetch_counters.ts";
import { downloadLayer } from "./layer_download.ts";
import { type LayerAccess, LayerRanges, type LayerRangesOptions } from "./layer_ranges.ts";
import { LocalCopies } from "./local_copies.ts";
import { type LocalCopy, NotKept } from "./local_copy.ts";
import { Residency, type ResidencyOptions } from "./residency.ts";

export interface LayerFilesOptions extends LayerRangesOptions, ResidencyOptions {
  /** Local copies; none at the edge. */
  local?: LocalLayers;
  events?: EventSink;
  /** Whether a layer is named by the manifest, so that its local copy may go. Default: all are. */
  isDurable?(name: string): boolean;
}

/** A layer that is being read. */
export interface LayerFileSource extends LayerSource {
  /** Drops the local copy that was read from, so that the next read goes to the store; false if none was. */
  discardCopy(): Promise<boolean>;
}

/** How an eviction ended. */
export type Eviction = "evicted" | "not resident" | "not durable";

/** Who wants a layer whole: someone who asked for it by name, a reader who waits, or nobody yet. */
interface Wanted {
  cause: FetchCause;
  insist?: boolean;
  /** Insists on room, but not on that of others. */
  onlyFree?: boolean;
  demanded?: boolean;
}

/** After a failed download: this long, and half as long again each time. */
const FIRST_PAUSE_MS = 1_000;
const PAUSE_FACTOR = 1.5;
const PAUSE_MAX_MS = 60_000;

/** See the module's description. */
export class LayerFiles {
  readonly counters: LayerFilesCounters = newLayerFilesCounters();
  readonly #options: LayerFilesOptions;
  readonly #residency: Residency;
  readonly #ranges: LayerRanges;
  /** Undefined without a place for them. */
  readonly #copies: LocalCopies | undefined;
  readonly #downloads = new SingleFlight<string, void>({ detached: true });
  /** Layers that could not be downloaded, and when to try again. */
  readonly #failures = new Map<string, { count: number; againAtMs: number }>();
  /** Requests and downloads under way, for `close`. */
  readonly #running = new Set<Promise<unknown>>();
  readonly #closed = new AbortController();

  constructor(options: LayerFilesOptions) {
    const { local } = options;
    const { signal } = this.#closed;
    this.#options = options;
    this.#residency = new Residency(options);
    this.#ranges = new LayerRanges(options, this.counters, signal);
    this.#copies = local && new LocalCopies(local, this.#residency, this.counters, signal);
  }

  /** Bytes of local copies. */
  get residentBytes(): number {
    return this.#residency.residentBytes;
  }
  get residentCount(): number {
    return this.#residency.residentCount;
  }
  isResident(name: string): boolean {
    return this.#residency.has(name);
  }
  /** When a layer was read last, milliseconds since the epoch; undefined if that is not known. */
  lastUsedMs(name: string): number | undefined {
    return this.#residency.lastUsedMs(name);
  }
  /** Whether there is a place for local copies. */
  get keepsCopies(): boolean {
    return this.#copies !== undefined;
  }
  /** Whether a layer is downloaded whole as soon as it is read. */
  get downloadsAtOnce(): boolean {
    return this.keepsCopies && this.#residency.hotShare === 0;
  }
  /** Downloads of whole layers under way. */
  get downloading(): number {
    return this.#downloads.size;
  }

  /**
   * Takes stock of local copies at attach: those that the manifest does not name, or whose size differs, are removed.
   * Files that are no layers are left alone.
   */
  async adopt(layers: Iterable<LayerDescriptor>): Promise<void> {
    const { local, events } = this.#options;
    if (local === undefined) return;
    const sizes = new Map<string, number>();
    for (const layer of layers) sizes.set(layer.name, layer.size);
    for (const { name, size } of await local.list()) {
      if (sizes.get(name) === size) this.#residency.add(name, size);
      else if (parseLayerName(name) !== undefined) {
        events?.({
          level: "info",
          topic: "layers.discarded",
          message: `Removed local copy ${name}: not in the manifest, or of another size`,
        });
        await local.remove(name);
      }
    }
    await this.trim();
  }

  /** Notes a local copy that the flush made. */
  noteResident(layer: LayerDescriptor): void {
    this.#residency.add(layer.name, layer.size);
    this.#track(this.trim()).catch(() => {});
  }

  /** The layer as a file that can be read by range. */
  source(layer: LayerDescriptor, access: LayerAccess = {}): LayerFileSource {
    let used: LocalCopy | undefined;
    return {
      size: layer.size,
      readRange: (offset, length, signal) =>
        this.#readRange(layer, offset, length, access, (copy) => used = copy, signal),
      readOn: (offset, end, signal) =>
        this.#readOn(layer, offset, end, access, (copy) => used = copy, signal),
      discardCopy: async () => {
        if (used === undefined) return false;
        // Another reader may have done so already, and the copy of now be a new one.
        if (await this.#copies!.discard(layer.name, used)) this.#downloadLater(layer);
        return true;
      },
    };
  }

  /**
   * Makes a layer resident, whole and verified. Resolves when it is; the flight is shared, and goes on when the caller
   * gives up.
   *
   * @param options.onlyFree Does not push out others to make room.
   * @throws {VarveError} Code `NO_LOCAL_COPIES` without a place for them, `NO_ROOM` if the budget does not allow it.
   */
  async download(
    layer: LayerDescriptor,
    options: { cause?: FetchCause; onlyFree?: boolean; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { cause = "prefetch", onlyFree, signal } = options;
    if (this.#copies === undefined) {
      throw new VarveError(
        "NO_LOCAL_COPIES",
        `Cannot download layer ${layer.name}: there is no place for local copies`,
        { hint: "Name a directory for them: --cache, or the option local." },
      );
    }
    try {
      await this.#download(layer, { cause, insist: true, onlyFree }, signal);
    } catch (error) {
      throw error instanceof NotKept ? error.cause : error;
    }
  }

  /** Removes a local copy, once nobody reads it any more. The layer can be read as before, from the store. */
  async evict(name: string): Promise<Eviction> {
    if (!this.#residency.has(name)) return "not resident";
    if (!this.#isDurable(name)) return "not durable";
    await this.#copies?.evict(name);
    return "evicted";
  }

  /** Forgets a layer that the timeline does not have any more, its local copy too. */
  async forget(name: string): Promise<void> {
    if (this.#residency.has(name)) await this.#copies?.evict(name);
    this.#residency.forget(name);
    this.#failures.delete(name);
  }

  /** Removes what is over the budget, least recently used first, except what is read now or not in the store yet. */
  async trim(): Promise<void> {
    for (const name of this.#residency.overBudget(this.#mayGo)) await this.#copies?.evict(name);
  }

  /** Ends requests and downloads and closes local copies, once nobody reads them any more. */
  async close(): Promise<void> {
    this.#closed.abort(new DOMException("The timeline was closed", "AbortError"));
    await Promise.allSettled([this.#copies?.close(), ...this.#running]);
    await this.#copies?.close();
  }

  async #readRange(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    access: LayerAccess,
    using: (copy: LocalCopy) => void,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const local = await this.#readCopy(layer, offset, length, access, using, signal);
    if (local !== undefined) return local;
    const bytes = await this.#track(this.#ranges.read(layer, offset, length, access, signal));
    this.#noteRange(layer, length, access);
    return bytes;
  }

  /** A layer may become resident, or cease to be, while somebody walks it: each portion comes from where it is best had. */
  #readOn(
    layer: LayerDescriptor,
    offset: number,
    end: number,
    access: LayerAccess,
    using: (copy: LocalCopy) => void,
    signal?: AbortSignal,
  ): LayerRun {
    const stream = this.#ranges.stream(layer, end, access);
    let at = offset;
    return {
      next: async (length) => {
        const from = at;
        at += length;
        const local = await this.#readCopy(layer, from, length, access, using, signal);
        if (local !== undefined) {
          stream.close();
          return [local];
        }
        const pieces = await this.#track(stream.read(from, length, signal));
        this.#noteRange(layer, length, access);
        return pieces;
      },
      // deno-lint-ignore require-await -- the interface is asynchronous
      close: async () => stream.close(),
    };
  }

  /** A range of the local copy, if there is one. */
  async #readCopy(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    access: LayerAccess,
    using: (copy: LocalCopy) => void,
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    if (mayStay(access)) this.#residency.use(layer.name, this.#options.clock?.now());
    for (;;) {
      const copy = await this.#copyOf(layer, access, signal);
      if (copy === undefined) return undefined;
      // Dropped since.
      if (!copy.retain()) continue;
      using(copy);
      try {
        return await copy.file.readRange(offset, length);
      } finally {
        await copy.release();
      }
    }
  }

  /** Notes what was read from the store: of much, the layer is fetched whole. */
  #noteRange(layer: LayerDescriptor, length: number, access: LayerAccess): void {
    if (this.#copies === undefined || !mayStay(access)) return;
    if (this.#residency.countRange(layer, length)) this.#downloadLater(layer, access.cause);
  }

  /** The open local copy, if there is one, or if the policy wants one at once. */
  async #copyOf(
    layer: LayerDescriptor,
    access: LayerAccess,
    signal?: AbortSignal,
  ): Promise<LocalCopy | undefined> {
    if (this.#copies === undefined) return undefined;
    const onLost = () => this.#downloadLater(layer);
    try {
      const copy = await this.#copies.open(layer, onLost, signal);
      if (copy !== undefined || this.#residency.hotShare > 0 || !this.#mayDownload(layer.name)) return copy;
      await this.#download(layer, { cause: access.cause ?? "read", demanded: true }, signal);
      return await this.#copies.open(layer, onLost, signal);
    } catch (error) {
      if (!(error instanceof NotKept)) throw error;
      this.#noteFailure(layer.name, error.cause);
      return undefined;
    }
  }

  /** A download that nobody waits for. */
  #downloadLater(layer: LayerDescriptor, cause: FetchCause = "read"): void {
    const { hotShare } = this.#residency;
    // At 0 the next reader downloads, and waits.
    if (hotShare === 0 || hotShare === Infinity) return;
    if (this.#closed.signal.aborted || !this.#mayDownload(layer.name)) return;
    this.#download(layer, { cause }).catch((error) => {
      if (this.#closed.signal.aborted) return;
      this.#noteFailure(layer.name, error instanceof NotKept ? error.cause : error);
    });
  }

  async #download(layer: LayerDescriptor, wanted: Wanted, signal?: AbortSignal): Promise<void> {
    const { name } = layer;
    if (this.#residency.has(name)) return;
    const download = async () => {
      await this.#copies!.removed(name);
      this.#closed.signal.throwIfAborted();
      if (this.#residency.has(name) || !(await this.#makeRoom(layer, wanted))) return;
      this.#residency.reserve(name, layer.size);
      try {
        const background = wanted.demanded !== true;
        await this.#ranges.requests.run(
          () => this.#downloadNow(layer, wanted.cause),
          { background, signal: this.#closed.signal },
        );
      } catch (error) {
        this.counters.failedDownloads++;
        throw error;
      } finally {
        this.#residency.release(name);
      }
    };
    await this.#downloads.run(name, () => this.#track(download()), signal);
  }

  async #downloadNow(layer: LayerDescriptor, cause: FetchCause): Promise<void> {
    const { timeline, store, clock, events, requestMs } = this.#options;
    const { name, size } = layer;
    const key = layerKey(timeline, name);
    const ranges: LayerSource = {
      size,
      readRange: (offset, length, signal) => {
        countRange(this.counters, cause, length);
        return store.getRange(key, offset, length, { signal });
      },
    };
    const { local } = this.#copies!;
    const { signal } = this.#closed;
    await downloadLayer({ layer, key, store, local, ranges, clock, stallMs: requestMs, signal });
    this.#residency.add(name, size);
    this.#failures.delete(name);
    // Compacted or collected meanwhile: nobody will ask for it any more.
    if (!this.#isDurable(name)) await this.#copies!.evict(name);
    countDownload(this.counters, cause, size);
    events?.({
      level: "debug",
      topic: "layers.downloaded",
      message: `Downloaded layer ${name}`,
      fields: { bytes: size, cause },
    });
  }

  /** Whether a layer fits, after others have gone. */
  async #makeRoom(layer: LayerDescriptor, { insist = false, onlyFree }: Wanted): Promise<boolean> {
    const victims = this.#residency.roomFor(layer, onlyFree ? () => false : this.#mayGo, insist);
    if (victims !== undefined) {
      for (const name of victims) await this.#copies!.evict(name);
      return true;
    }
    this.counters.notAdmitted++;
    if (!insist) return false;
    throw new VarveError("NO_ROOM", `Cannot download layer ${layer.name}: it does not fit the local budget`, {
      hint: `The budget is ${this.#residency.localBytes} bytes, the layer has ${layer.size}.`,
    });
  }

  readonly #mayGo = (name: string): boolean => !this.#copies?.inUse(name) && this.#isDurable(name);

  #isDurable(name: string): boolean {
    return this.#options.isDurable?.(name) ?? true;
  }

  /** Not while it is kept back after a failure. */
  #mayDownload(name: string): boolean {
    const failure = this.#failures.get(name);
    if (failure === undefined) return true;
    const { clock } = this.#options;
    return clock !== undefined && clock.monotonicMs() >= failure.againAtMs;
  }

  #noteFailure(name: string, error: unknown): void {
    const count = (this.#failures.get(name)?.count ?? 0) + 1;
    const pauseMs = Math.min(FIRST_PAUSE_MS * PAUSE_FACTOR ** (count - 1), PAUSE_MAX_MS);
    this.#failures.set(name, { count, againAtMs: (this.#options.clock?.monotonicMs() ?? 0) + pauseMs });
    this.#options.events?.({
      level: "warn",
      topic: "layers.not_kept",
      message: `Cannot keep a local copy of layer ${name}; it is read from the store`,
      fields: { failures: count, pauseMs },
      error,
    });
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const done = () => this.#running.delete(work);
    work.then(done, done);
    return work;
  }
}

/** Compaction reads a layer once, and then it is gone: nothing to keep, nor to stay for. */
function mayStay({ cause }: LayerAccess): boolean {
  return cause !== "compaction";
}
