/**
 * The local copies of a timeline's layers: which are there, which are open, how they go.
 *
 * Read path, inside fetch. A copy is opened by one flight for all who want it, stays open for the next, and is removed
 * only when nobody reads it: by eviction, or because it was found damaged.
 *
 * @module
 */
import { SingleFlight } from "../flow/single_flight.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LocalLayerFile, LocalLayers } from "../ports/local_layers.ts";
import type { LayerFilesCounters } from "./fetch_counters.ts";
import { keeping, LocalCopy } from "./local_copy.ts";
import type { Residency } from "./residency.ts";

/** Local copies held open. */
const OPEN_COPIES_MAX = 256;

/** See the module's description. */
export class LocalCopies {
  readonly local: LocalLayers;
  readonly residency: Residency;
  readonly #counters: LayerFilesCounters;
  readonly #closed: AbortSignal;
  /** Open ones by layer name, the one opened or read last at the end. */
  readonly #open = new Map<string, LocalCopy>();
  readonly #openings = new SingleFlight<string, LocalCopy | undefined>({ detached: true });
  /** Openings and removals under way, for `close`; removals also by name, for who wants the copy back. */
  readonly #running = new Set<Promise<unknown>>();
  readonly #removals = new Map<string, Promise<void>>();

  constructor(
    local: LocalLayers,
    residency: Residency,
    counters: LayerFilesCounters,
    closed: AbortSignal,
  ) {
    this.local = local;
    this.residency = residency;
    this.#counters = counters;
    this.#closed = closed;
  }

  inUse(name: string): boolean {
    return this.#open.get(name)?.inUse ?? false;
  }

  /**
   * The open copy, opened first where it is not; undefined if there is none.
   *
   * @param onLost Told when a copy that should be there is gone, or was cut.
   */
  async open(
    layer: LayerDescriptor,
    onLost: () => void,
    signal?: AbortSignal,
  ): Promise<LocalCopy | undefined> {
    const { name } = layer;
    const open = this.#open.get(name);
    if (open !== undefined) {
      this.#open.delete(name);
      this.#open.set(name, open);
      return open;
    }
    if (!this.residency.has(name)) return undefined;
    return await this.#openings.run(name, () => this.#track(this.#openFile(layer, onLost)), signal);
  }

  async #openFile({ name, size }: LayerDescriptor, onLost: () => void): Promise<LocalCopy | undefined> {
    await this.#removals.get(name);
    this.#closed.throwIfAborted();
    if (!this.residency.has(name)) return undefined;
    const file = await keeping(this.local.open(name));
    if (file?.size === size) return await this.#opened(name, file);
    // Vanished or cut behind our back.
    await file?.close();
    this.#counters.damagedCopies++;
    this.residency.remove(name);
    await keeping(this.local.remove(name));
    onLost();
    return undefined;
  }

  async #opened(name: string, file: LocalLayerFile): Promise<LocalCopy | undefined> {
    const copy = new LocalCopy(file);
    if (this.#closed.aborted || !this.residency.has(name)) {
      await copy.drop();
      this.#closed.throwIfAborted();
      return undefined;
    }
    this.#open.set(name, copy);
    for (const [other, { inUse }] of this.#open) {
      if (this.#open.size <= OPEN_COPIES_MAX) break;
      if (inUse || other === name) continue;
      this.#track(this.#open.get(other)!.drop()).catch(() => {});
      this.#open.delete(other);
    }
    return copy;
  }

  /** Removes a copy, once nobody reads it any more. */
  async evict(name: string): Promise<void> {
    const before = this.residency.residentBytes;
    const copy = this.#open.get(name);
    this.#open.delete(name);
    this.residency.remove(name);
    this.#counters.evictions++;
    this.#counters.evictedBytes += before - this.residency.residentBytes;
    await this.#remove(name, async () => {
      await copy?.dropped();
      await this.local.remove(name);
    });
  }

  /** Removes a copy that was found damaged, unless another one has taken its place; its readers keep their handle. */
  async discard(name: string, copy: LocalCopy): Promise<boolean> {
    if (this.#open.get(name) !== copy) return false;
    this.#counters.damagedCopies++;
    this.#open.delete(name);
    this.residency.remove(name);
    await this.#remove(name, async () => {
      await copy.drop();
      await this.local.remove(name);
    });
    return true;
  }

  /** Resolves when a removal of this layer that is under way has ended. */
  async removed(name: string): Promise<void> {
    await this.#removals.get(name);
  }

  /** Closes all, each when its last reader has let go of it. */
  async close(): Promise<void> {
    const copies = [...this.#open.values()];
    this.#open.clear();
    await Promise.allSettled([...copies.map((copy) => copy.drop()), ...this.#running]);
  }

  #remove(name: string, work: () => Promise<void>): Promise<void> {
    const before = this.#removals.get(name);
    const removal = this.#track((async () => {
      await before;
      await work();
    })()).catch(() => {}).finally(() => {
      if (this.#removals.get(name) === removal) this.#removals.delete(name);
    });
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
