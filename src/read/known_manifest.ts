/**
 * The manifest that an open timeline goes by, and how a newer one is taken over.
 *
 * Where a timeline is open for long, others change it: its writer flushes, guests compact and collect. A reader takes over
 * a newer manifest when it is told to, every so often, or when a layer's object is gone; a writer learns of guests' changes
 * by its own commits, or by a look as well. Views that are under way stay as they are.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { raceAbort } from "../flow/abort.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { ancestorLayers, heldLsns, readAncestors } from "../timeline/ancestry.ts";
import { describeManifestLayer, type Manifest } from "../timeline/manifest.ts";
import { type ManifestWriter, readManifest } from "../timeline/manifest_store.ts";
import { manifestKey } from "../timeline/object_keys.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { LayerFiles } from "./layer_files.ts";

export interface KnownManifestOptions {
  store: ObjectStore;
  clock: Clock;
  writer?: ManifestWriter;
  refreshMs?: number;
  events?: EventSink;
}

/** The layers that a manifest names, described. */
export function ownLayers(manifest: Manifest): LayerDescriptor[] {
  const object = manifestKey(manifest.timeline);
  return manifest.layers.map((layer) => describeManifestLayer(layer, object));
}

/** See the module's description. */
export class KnownManifest {
  readonly #timeline: Timeline;
  readonly #files: LayerFiles;
  readonly #options: KnownManifestOptions;
  #manifest: Manifest;
  #refreshing: { readonly done: Promise<Manifest>; readonly signal?: AbortSignal } | undefined;

  constructor(timeline: Timeline, manifest: Manifest, files: LayerFiles, options: KnownManifestOptions) {
    this.#timeline = timeline;
    this.#manifest = manifest;
    this.#files = files;
    this.#options = options;
    const { writer } = options;
    if (writer !== undefined) writer.onCommit = (committed, isGuest) => this.#follow(committed, isGuest);
  }

  get manifest(): Manifest {
    return this.#options.writer?.manifest ?? this.#manifest;
  }

  /** Takes over the manifest as it is now; several calls at a time are one, and each gives up for itself. */
  async refresh(signal?: AbortSignal): Promise<Manifest> {
    for (;;) {
      const shared = this.#refreshing ??= {
        done: this.#refresh(signal).finally(() => this.#refreshing = undefined),
        signal,
      };
      try {
        return await raceAbort(shared.done, signal);
      } catch (error) {
        // It was the one who began it that gave up.
        if (signal?.aborted || shared.signal === signal || !shared.signal?.aborted) throw error;
      }
    }
  }

  /** Does so again and again, where a reader wants that, until it is stopped. */
  refreshOften(): { stop(): Promise<void> } {
    const { clock, writer, refreshMs, events } = this.#options;
    const stopped = new AbortController();
    const run = async () => {
      while (!stopped.signal.aborted) {
        await clock.sleep(refreshMs!, stopped.signal);
        await this.refresh(stopped.signal).catch((error) => {
          if (stopped.signal.aborted) return;
          events?.({
            level: "warn",
            topic: "read.refresh",
            message: "Cannot take over the newest manifest",
            error,
          });
        });
      }
    };
    const loop = refreshMs === undefined || writer !== undefined ? Promise.resolve() : run().catch(() => {});
    return {
      async stop() {
        stopped.abort(new DOMException("The timeline was closed", "AbortError"));
        await loop;
      },
    };
  }

  async #refresh(signal?: AbortSignal): Promise<Manifest> {
    const { store, writer } = this.#options;
    if (writer !== undefined) {
      const manifest = await writer.refresh(signal);
      await this.#takeOverAncestors(manifest, signal);
      return manifest;
    }
    const name = this.#timeline.name;
    const stored = await readManifest(store, name, signal);
    if (stored === undefined) {
      throw new NotFoundError(`Cannot read timeline "${name}": ${store.description} has it no more`);
    }
    const { manifest } = stored;
    const ancestors = await readAncestors(store, manifest, signal);
    this.#manifest = manifest;
    this.#takeOverLayers(manifest);
    this.#timeline.consistentLsn = manifest.consistentLsn;
    this.#timeline.keep({
      cutoffLsn: manifest.cutoffLsn,
      heldLsns: heldLsns(manifest),
      ancestors: ancestorLayers(manifest, ancestors),
    });
    this.#timeline.extendTo(manifest.diskConsistentLsn, manifest.tli);
    return manifest;
  }

  /** After a commit of this process's writer. */
  #follow(manifest: Manifest, isGuest: boolean): void {
    const { cutoffLsn } = manifest;
    const { ancestors } = this.#timeline;
    this.#timeline.keep({ cutoffLsn, heldLsns: heldLsns(manifest), ancestors });
    if (isGuest) this.#takeOverLayers(manifest);
  }

  async #takeOverAncestors(manifest: Manifest, signal?: AbortSignal): Promise<void> {
    if (manifest.ancestor === undefined) return;
    const ancestors = ancestorLayers(manifest, await readAncestors(this.#options.store, manifest, signal));
    // Commits may have come in between.
    const { cutoffLsn } = this.manifest;
    this.#timeline.keep({ cutoffLsn, heldLsns: heldLsns(this.manifest), ancestors });
  }

  #takeOverLayers(manifest: Manifest): void {
    const { layers } = this.#timeline;
    const named = new Set(manifest.layers.map(({ name }) => name));
    const remove = layers.layers().filter(({ name }) => !named.has(name));
    const add = ownLayers(manifest).filter(({ name }) => layers.get(name) === undefined);
    if (add.length === 0 && remove.length === 0) return;
    this.#timeline.replaceLayers(add, remove);
    for (const { name } of remove) this.#files.forget(name).catch(() => {});
  }
}
