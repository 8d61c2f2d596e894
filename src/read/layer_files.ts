/**
 * Where the bytes of a layer come from: a local copy if there is one, else the store.
 *
 * Read path, inside fetch. With a place for local copies, a layer that is missing there is downloaded whole when it is
 * first read (one flight, checked size, temporary name, fsync, rename); without one, ranges are read from the store.
 * A local copy that is damaged or cut is dropped and read from the store again. Sizes are counted as they change:
 * `residentBytes` is local bytes only.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import { SingleFlight } from "../flow/single_flight.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
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

/** See the module's description. */
export class LayerFiles {
  readonly counters: LayerFilesCounters = {
    downloads: 0,
    downloadedBytes: 0,
    rangeRequests: 0,
    rangeBytes: 0,
  };
  readonly #options: LayerFilesOptions;
  /** Open local copies by layer name; the handle lives as long as the copy. */
  readonly #open = new Map<string, Promise<LocalLayerFile | undefined>>();
  readonly #resident = new Map<string, number>();
  readonly #downloads = new SingleFlight<string, LocalLayerFile>({ detached: true });

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
   */
  async adopt(layers: Iterable<LayerDescriptor>): Promise<void> {
    const { local, events } = this.#options;
    if (local === undefined) return;
    const sizes = new Map<string, number>();
    for (const layer of layers) sizes.set(layer.name, layer.size);
    for (const { name, size } of await local.list()) {
      if (sizes.get(name) === size) this.#resident.set(name, size);
      else {
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
  source(layer: LayerDescriptor): LayerSource {
    return {
      size: layer.size,
      readRange: (offset, length, signal) => this.#readRange(layer, offset, length, signal),
    };
  }

  /** Forgets a damaged local copy, so that the next read goes to the store. Returns whether there was one. */
  async discard(layer: LayerDescriptor): Promise<boolean> {
    const { local } = this.#options;
    if (local === undefined || !this.#resident.delete(layer.name)) return false;
    await (await this.#open.get(layer.name)?.catch(() => undefined))?.close();
    this.#open.delete(layer.name);
    await local.remove(layer.name);
    return true;
  }

  async close(): Promise<void> {
    const files = [...this.#open.values()];
    this.#open.clear();
    for (const file of files) await (await file.catch(() => undefined))?.close();
  }

  async #readRange(
    layer: LayerDescriptor,
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const file = await this.#localFile(layer, signal);
    if (file !== undefined) return await file.readRange(offset, length);
    const { store, timeline } = this.#options;
    this.counters.rangeRequests++;
    this.counters.rangeBytes += length;
    return await store.getRange(layerKey(timeline, layer.name), offset, length, { signal });
  }

  async #localFile(layer: LayerDescriptor, signal?: AbortSignal): Promise<LocalLayerFile | undefined> {
    const { local } = this.#options;
    if (local === undefined) return undefined;
    if (!this.#resident.has(layer.name)) {
      return await this.#downloads.run(layer.name, (flight) => this.#download(layer, local, flight), signal);
    }
    let file = this.#open.get(layer.name);
    if (file === undefined) this.#open.set(layer.name, file = local.open(layer.name));
    const opened = await file;
    if (opened !== undefined && opened.size === layer.size) return opened;
    // Vanished or cut behind our back.
    await this.discard(layer);
    return await this.#downloads.run(layer.name, (flight) => this.#download(layer, local, flight), signal);
  }

  async #download(layer: LayerDescriptor, local: LocalLayers, signal: AbortSignal): Promise<LocalLayerFile> {
    const { store, timeline, events } = this.#options;
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
    const writer = await local.create(layer.name);
    try {
      for await (const chunk of body) await writer.write(chunk);
      await writer.commit();
    } catch (error) {
      await writer.abort();
      throw error;
    }
    const file = await local.open(layer.name);
    if (file === undefined) {
      throw new CorruptionError("Cannot read a downloaded layer: its local copy has gone", {
        object: layer.name,
      });
    }
    this.#resident.set(layer.name, layer.size);
    this.#open.set(layer.name, Promise.resolve(file));
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
}
