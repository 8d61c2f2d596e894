/**
 * Where the bytes of a layer come from: a local copy if there is one, else the store.
 *
 * Read path, inside fetch. Local copies are a cache, the manifest and the store are the authority. With local copies
 * enabled, a layer that is read is downloaded whole by one flight that all readers share (size checked, temporary
 * name, fsync, rename); without, and where a copy cannot be kept (a full disk), ranges are read from the store. A local
 * copy that is damaged or cut is dropped and read from the store again, while others may still be reading it. Sizes are
 * counted as they change: `residentBytes` is local bytes only.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import { SingleFlight } from "../flow/single_flight.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { LayerSource } from "../layer/layer_reader.ts";
import type { EventSink } from "../ports/events.ts";
import type { LocalLayerFile, LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { layerKey } from "../timeline/object_keys.ts";

export interface LayerFilesOptions {
  /** The timeline whose layers these are. */
  timeline: string;
  store: ObjectStore;
  /** Local copies; none at the edge. */
  local?: LocalLayers;
  events?: EventSink;
}

/** What was done for reads, for metrics. */
export interface LayerFilesCounters {
  downloads: number;
  downloadedBytes: number;
  rangeRequests: number;
  rangeBytes: number;
}

/** A layer that is being read. */
export interface LayerFileSource extends LayerSource {
  /** Drops the local copy that was read from, so that the next read goes to the store; false if none was. */
  discardCopy(): Promise<boolean>;
}

/** See the module's description. */
export class LayerFiles {
  readonly counters: LayerFilesCounters = {
    downloads: 0,
    downloadedBytes: 0,
    rangeRequests: 0,
    rangeBytes: 0,
  };
  readonly #options: LayerFilesOptions;
  /** Open local copies by layer name. */
  readonly #copies = new Map<string, LocalCopy>();
  readonly #resident = new Map<string, number>();
  /** Layers of which no copy could be kept: they are read from the store until this process ends. */
  readonly #notKept = new Set<string>();
  readonly #openings = new SingleFlight<string, LocalCopy>({ detached: true });
  /** Openings, downloads and removals under way, for `close`; removals also by name, for who wants the copy back. */
  readonly #running = new Set<Promise<unknown>>();
  readonly #removals = new Map<string, Promise<void>>();
  readonly #closed = new AbortController();

  constructor(options: LayerFilesOptions) {
    this.#options = options;
  }

  /** Bytes of local copies. */
  get residentBytes(): number {
    let sum = 0;
    for (const size of this.#resident.values()) sum += size;
    return sum;
  }
  get residentCount(): number {
    return this.#resident.size;
  }
  isResident(name: string): boolean {
    return this.#resident.has(name);
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
      if (sizes.get(name) === size) this.#resident.set(name, size);
      else if (parseLayerName(name) !== undefined) {
        events?.({
          level: "info",
          topic: "layers.discarded",
          message: `Removed local copy ${name}: not in the manifest, or of another size`,
        });
        await local.remove(name);
      }
    }
  }

  /** Notes a local copy that the flush made. */
  noteResident(layer: LayerDescriptor): void {
    this.#resident.set(layer.name, layer.size);
  }

  /** The layer as a file that can be read by range. */
  source(layer: LayerDescriptor): LayerFileSource {
    let used: LocalCopy | undefined;
    return {
      size: layer.size,
      readRange: (offset, length, signal) =>
        this.#readRange(layer, offset, length, (copy) => used = copy, signal),
      discardCopy: async () => {
        if (used === undefined) return false;
        // Another reader may have done so already, and the copy of now be a new one.
        if (this.#copies.get(layer.name) === used) await this.#discard(layer.name, used);
        used = undefined;
        return true;
      },
    };
  }

  /** Ends downloads and closes local copies, once nobody reads them any more. */
  async close(): Promise<void> {
    this.#closed.abort(new DOMException("The timeline was closed", "AbortError"));
    const copies = [...this.#copies.values()];
    this.#copies.clear();
    await Promise.allSettled([...copies.map((copy) => copy.drop()), ...this.#running]);
  }

  async #readRange(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    using: (copy: LocalCopy) => void,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const { local, store, timeline } = this.#options;
    for (;;) {
      const copy = local && await this.#copyOf(layer, local, signal);
      if (copy === undefined) break;
      // Dropped since.
      if (!copy.retain()) continue;
      using(copy);
      try {
        return await copy.file.readRange(offset, length);
      } finally {
        await copy.release();
      }
    }
    this.counters.rangeRequests++;
    this.counters.rangeBytes += length;
    return await store.getRange(layerKey(timeline, layer.name), offset, length, { signal });
  }

  /** The open local copy, made first where it is missing; undefined if none can be kept. */
  async #copyOf(
    layer: LayerDescriptor,
    local: LocalLayers,
    signal?: AbortSignal,
  ): Promise<LocalCopy | undefined> {
    const { name } = layer;
    const open = this.#copies.get(name);
    if (open !== undefined) return open;
    if (this.#notKept.has(name)) return undefined;
    try {
      return await this.#openings.run(name, () => this.#track(this.#open(layer, local)), signal);
    } catch (error) {
      if (!(error instanceof NotKept)) throw error;
      if (!this.#notKept.has(name)) {
        this.#notKept.add(name);
        this.#options.events?.({
          level: "warn",
          topic: "layers.not_kept",
          message: `Cannot keep a local copy of layer ${name}; it is read from the store`,
          error: error.cause,
        });
      }
      return undefined;
    }
  }

  async #open(layer: LayerDescriptor, local: LocalLayers): Promise<LocalCopy> {
    const { name } = layer;
    await this.#removals.get(name);
    this.#closed.signal.throwIfAborted();
    const file = await this.#openResident(layer, local) ?? await this.#download(layer, local);
    const copy = new LocalCopy(file);
    if (this.#closed.signal.aborted) {
      await copy.drop();
      throw this.#closed.signal.reason;
    }
    this.#copies.set(name, copy);
    return copy;
  }

  async #openResident(
    { name, size }: LayerDescriptor,
    local: LocalLayers,
  ): Promise<LocalLayerFile | undefined> {
    if (!this.#resident.has(name)) return undefined;
    const file = await keeping(local.open(name));
    if (file?.size === size) return file;
    // Vanished or cut behind our back.
    await file?.close();
    this.#resident.delete(name);
    await keeping(local.remove(name));
    return undefined;
  }

  async #download(layer: LayerDescriptor, local: LocalLayers): Promise<LocalLayerFile> {
    const { store, timeline, events } = this.#options;
    const { signal } = this.#closed;
    const key = layerKey(timeline, layer.name);
    const { size, body } = await store.getStream(key, { signal });
    if (size !== layer.size) {
      await body.cancel();
      throw new CorruptionError("Cannot download a layer: its size differs from the manifest's", {
        object: key,
        expected: layer.size,
        got: size,
      });
    }
    const writer = await keeping(local.create(layer.name)).catch(async (error) => {
      await body.cancel();
      throw error;
    });
    try {
      for await (const chunk of body) {
        signal.throwIfAborted();
        await keeping(writer.write(chunk));
      }
      await keeping(writer.commit());
    } catch (error) {
      // What went wrong first is what counts.
      await writer.abort().catch(() => {});
      throw error;
    }
    const file = await keeping(local.open(layer.name));
    if (file === undefined) throw new NotKept(new TypeError("The copy has gone"));
    this.#resident.set(layer.name, layer.size);
    this.counters.downloads++;
    this.counters.downloadedBytes += layer.size;
    events?.({
      level: "debug",
      topic: "layers.downloaded",
      message: `Downloaded layer ${layer.name}`,
      fields: { bytes: layer.size },
    });
    return file;
  }

  #discard(name: string, copy: LocalCopy): Promise<void> {
    this.#copies.delete(name);
    this.#resident.delete(name);
    const removal = this.#track((async () => {
      await copy.drop();
      await this.#options.local?.remove(name);
    })()).catch(() => {}).finally(() => this.#removals.delete(name));
    this.#removals.set(name, removal);
    return removal;
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const done = () => this.#running.delete(work);
    work.then(done, done);
    return work;
  }
}

/** An open local copy, closed when it has been dropped and its last reader has let go of it. */
class LocalCopy {
  readonly file: LocalLayerFile;
  #readers = 0;
  #isDropped = false;

  constructor(file: LocalLayerFile) {
    this.file = file;
  }

  /** Keeps it open until `release`; false if it has been dropped. */
  retain(): boolean {
    if (this.#isDropped) return false;
    this.#readers++;
    return true;
  }

  async release(): Promise<void> {
    if (--this.#readers === 0 && this.#isDropped) await this.file.close();
  }

  async drop(): Promise<void> {
    if (this.#isDropped) return;
    this.#isDropped = true;
    if (this.#readers === 0) await this.file.close();
  }
}

/** A local copy could not be made or opened; the store may still serve. */
class NotKept extends Error {
  constructor(cause: unknown) {
    super("Cannot keep a local copy", { cause });
  }
}

/** Marks a failure of the local disk as such. */
async function keeping<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new NotKept(error);
  }
}
