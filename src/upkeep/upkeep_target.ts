/**
 * What upkeep works on: a timeline whose layers it may replace, as its writer or as a guest beside one.
 *
 * Compaction and images go through here to the manifest, and to the layer map of this process. Order (DESIGN 8): the new
 * layers' objects are durable before the manifest names them; what they replace is no longer named from that very commit on,
 * and its objects stay until collection takes them, for readers that hold an older manifest.
 *
 * @module
 */
import type { BlockCodec } from "../bytes/block_codec.ts";
import { FencedError, PreconditionFailedError, UnavailableError } from "../errors.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { formatLayerName, parseLayerName } from "../layer/layer_name.ts";
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { NAMED_WITHIN_MS } from "../timeline/object_keys.ts";
import type { AttachedTimeline } from "../read/attach.ts";
import { type Manifest, manifestLayer } from "../timeline/manifest.ts";
import {
  isOfSameClaim,
  type ManifestChange,
  type ManifestEdit,
  type ManifestWriter,
  updateManifest,
} from "../timeline/manifest_store.ts";
import { storeLayer, type StoreLayerOptions } from "../write/store_layer.ts";

/** What a process that keeps a timeline is given. */
export interface UpkeepParts {
  readonly attached: AttachedTimeline;
  readonly store: ObjectStore;
  readonly clock: Clock;
  /** Keeps local copies of what is made. */
  readonly local?: LocalLayers;
  /** Compresses blocks of new layers. */
  readonly codec?: BlockCodec;
  readonly events?: EventSink;
  readonly faults?: FaultPoints;
}

/** See the module's description. */
export class UpkeepTarget {
  readonly parts: UpkeepParts;
  /** Of the layers that are made. */
  readonly epoch: number;
  readonly #writer: ManifestWriter | undefined;
  /** The manifest that the work began with. */
  readonly #begun: Manifest;
  #manifest: Manifest;

  private constructor(parts: UpkeepParts, manifest: Manifest, writer?: ManifestWriter) {
    this.parts = parts;
    this.epoch = manifest.epoch;
    this.#begun = this.#manifest = manifest;
    this.#writer = writer;
  }

  /** For the process that writes the timeline. */
  static ofWriter(parts: UpkeepParts, writer: ManifestWriter): UpkeepTarget {
    return new UpkeepTarget(parts, writer.manifest, writer);
  }

  /** For another process: it disturbs no writer, and gives up when a writer takes over. */
  static ofGuest(parts: UpkeepParts): UpkeepTarget {
    return new UpkeepTarget(parts, parts.attached.manifest);
  }

  /** The manifest as this process knows it. */
  get manifest(): Manifest {
    return this.#writer?.manifest ?? this.#manifest;
  }

  /** All WAL up to here is in layer files that the manifest names. */
  get durableLsn(): Lsn {
    return this.parts.attached.timeline.remoteConsistentLsn;
  }

  /** Whether the write path has no time for anything else. */
  get isIngestBehind(): boolean {
    return this.#writer !== undefined && this.parts.attached.timeline.frozen.length > 0;
  }

  /**
   * Changes the manifest, as its writer or as a guest of whoever writes it. Durable when it resolves.
   *
   * @throws {FencedError} If another writer has taken over. @throws {UnavailableError} If the store does not answer.
   */
  async commit(edit: ManifestEdit, signal?: AbortSignal): Promise<Manifest> {
    const { attached, store, clock } = this.parts;
    if (this.#writer !== undefined) return await this.#writer.commit(edit, signal);
    return this.#manifest = await updateManifest(store, clock, attached.timeline.name, edit, signal);
  }

  /** A number for the name of a layer that is about to be made. */
  drawUnique(): number {
    const unique = Math.floor(this.parts.clock.random() * 0x1_0000_0000);
    this.#drawnAtMs.set(unique, this.parts.clock.monotonicMs());
    return unique;
  }
  readonly #drawnAtMs = new Map<number, number>();

  /** Stores a layer, with a local copy where there is a place; a failure leaves none. */
  async store(made: Pick<StoreLayerOptions, "identity" | "generate" | "signal">): Promise<LayerDescriptor> {
    const { attached: { timeline, files }, store, local, faults } = this.parts;
    try {
      const stored = await storeLayer({ ...made, timeline: timeline.name, store, local, level: 1, faults });
      if (local !== undefined) files.noteResident(stored);
      return stored;
    } catch (error) {
      await local?.remove(formatLayerName(made.identity)).catch(() => {});
      throw error;
    }
  }

  /** Lets go of local copies of layers that were stored, but not named. */
  async discard(layers: readonly LayerDescriptor[]): Promise<void> {
    await Promise.all(layers.map(({ name }) => this.parts.attached.files.forget(name)));
  }

  /**
   * Names `add` in the manifest instead of `remove`, then in the layer map of this process. Durable when it resolves.
   *
   * @throws {PreconditionFailedError} If somebody else has replaced one of `remove` meanwhile.
   * @throws {FencedError} If another writer has taken over. @throws {UnavailableError} If the store does not answer.
   */
  async replace(
    add: readonly LayerDescriptor[],
    remove: readonly LayerDescriptor[],
    signal?: AbortSignal,
  ): Promise<void> {
    const { attached, store, clock, faults } = this.parts;
    const { timeline } = attached;
    if (faults !== undefined) await faults("compact-before-commit");
    const edit: ManifestEdit = (current) => {
      const change = replaceLayers(current, add, remove, clock.now());
      if (change.layers !== undefined) this.#checkAge(add);
      return change;
    };
    if (this.#writer !== undefined) await this.#writer.commit(edit, signal);
    else {
      this.#manifest = await updateManifest(store, clock, timeline.name, (current) => {
        this.#checkEpoch(current);
        return edit(current);
      }, signal);
    }
    timeline.replaceLayers(add, remove);
    for (const { name } of add) this.#drawnAtMs.delete(parseLayerName(name)?.unique ?? -1);
    if (faults !== undefined) await faults("compact-after-commit");
    await Promise.all(remove.map(({ name }) => attached.files.forget(name)));
  }

  /** What was made long ago and is named nowhere a collection may take for an orphan at any moment. */
  #checkAge(layers: readonly LayerDescriptor[]): void {
    const { clock } = this.parts;
    for (const { name } of layers) {
      const drawnAtMs = this.#drawnAtMs.get(parseLayerName(name)?.unique ?? -1);
      if (drawnAtMs === undefined || clock.monotonicMs() - drawnAtMs <= NAMED_WITHIN_MS) continue;
      throw new UnavailableError(
        `Cannot name layer ${name}: it was begun too long ago, and may have been collected as an orphan`,
        { hint: "Let compaction make less at once, or give it more time." },
      );
    }
  }

  #checkEpoch(current: Manifest): void {
    if (isOfSameClaim(current, this.#begun)) return;
    throw new FencedError(
      `Cannot commit to timeline "${current.timeline}": a writer has taken over with epoch ${current.epoch}`,
      { hint: "What was made is left over, and will be collected. Run it again." },
    );
  }
}

/** The manifest's change; nothing, if it was made already. */
function replaceLayers(
  current: Manifest,
  add: readonly LayerDescriptor[],
  remove: readonly LayerDescriptor[],
  atMs: number,
): ManifestChange {
  const named = new Set(current.layers.map((layer) => layer.name));
  // By a commit whose answer was lost; others may have replaced some of them since.
  const known = new Set([...named, ...current.removed.map(({ name }) => name)]);
  if (add.some((layer) => known.has(layer.name))) return {};
  const gone = remove.find((layer) => !named.has(layer.name));
  if (gone !== undefined) {
    throw new PreconditionFailedError(
      `Cannot replace layer ${gone.name}: the manifest of timeline "${current.timeline}" no longer names it`,
    );
  }
  const removing = new Set(remove.map((layer) => layer.name));
  return {
    layers: [...current.layers.filter((layer) => !removing.has(layer.name)), ...add.map(manifestLayer)],
    removed: [...current.removed, ...remove.map(({ name, size }) => ({ name, size, atMs }))],
  };
}
