/**
 * Deliberate bugs, made from outside by bending ports and hooks: the simulation must find each of them.
 *
 * @module
 */
import { PreconditionFailedError, UnavailableError } from "../../src/errors.ts";
import { FAMILY_RELATION } from "../../src/layer/key.ts";
import { formatLayerName, parseLayerName } from "../../src/layer/layer_name.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { LocalLayers } from "../../src/ports/local_layers.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import type { Entry } from "../support/layers.ts";
import type { SeededRandom } from "../support/random.ts";
import type { Role, World } from "./world.ts";
import { BlindStore, PuttingStore, RenamingStore, withLayersRewritten } from "./wrapped_store.ts";
import type { Writing } from "./writer.ts";

/** What a mutation may bend. */
export interface Mutation {
  readonly name: string;
  /** Wraps a process's way to the store. */
  store?(store: ObjectStore, role: Role, world: World): ObjectStore | undefined;
  /** Wraps a writer's disk. */
  disk?(layers: LocalLayers): LocalLayers;
  /** Told in place of the truth how far WAL is durable. */
  durable?(writing: Writing): Lsn;
  /** The disk says that a copy is durable, and it is not. */
  readonly diskLies?: boolean;
  /** Milliseconds after which collection takes what nobody names for an orphan. */
  readonly orphanGraceMs?: number;
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "acknowledge-before-commit",
    durable: ({ timeline }) => timeline.lastRecordLsn,
  },
  {
    // Told as soon as a layer waits for its flush.
    name: "acknowledge-frozen-layers",
    durable: ({ timeline }) => timeline.openLayer.startLsn,
  },
  {
    name: "skip-the-fence",
    store: onlyFor(
      "writer",
      (store) => new PuttingStore(store, { manifest: (put, manifest) => put(manifest, {}) }),
    ),
  },
  {
    // A commit of the writer's replaces what a guest has committed meanwhile.
    name: "commit-over-a-guest",
    store: onlyFor("writer", (store, world) =>
      new PuttingStore(store, {
        manifest: async (put, manifest, options) => {
          try {
            return await put(manifest, options);
          } catch (error) {
            const epoch = world.timelines.get(manifest.timeline)?.manifest.epoch;
            if (!(error instanceof PreconditionFailedError) || epoch !== manifest.epoch) throw error;
            return await put(manifest, {});
          }
        },
      })),
  },
  {
    name: "off-by-one-at-the-layers-end",
    store: onlyFor("writer", (store) =>
      new RenamingStore(store, (name) => {
        const parsed = parseLayerName(name)!;
        const { kind, lsnStart, lsnEnd } = parsed;
        if (kind === "image" || lsnEnd - lsnStart < 2) return name;
        return formatLayerName({ ...parsed, lsnEnd: lsnEnd - 1 as Lsn });
      })),
  },
  {
    // Names without their random part, and without the epoch that keeps writers apart.
    name: "use-a-layers-name-again",
    store: (store, role) =>
      role === "writer" || role === "compaction"
        ? new RenamingStore(
          store,
          (name) => formatLayerName({ ...parseLayerName(name)!, epoch: 2, unique: 0 }),
        )
        : undefined,
  },
  {
    // A layer whose upload was not answered is taken for stored.
    name: "ignore-lost-answers",
    store: onlyFor("writer", (store) =>
      new PuttingStore(store, {
        layer: async (put, bytes) => {
          try {
            return await put(bytes);
          } catch (error) {
            if (error instanceof UnavailableError) return { etag: "" };
            throw error;
          }
        },
      })),
  },
  {
    name: "name-before-upload",
    store: onlyFor("compaction", (store) =>
      new PuttingStore(store, {
        layer: (put, bytes) => {
          put(bytes).catch(() => {});
          return Promise.resolve({ etag: "" });
        },
      })),
  },
  {
    name: "manifest-without-the-layer",
    store: onlyFor("writer", (store) =>
      new PuttingStore(store, {
        manifest: (put, manifest, options) =>
          put({ ...manifest, layers: manifest.layers.slice(0, -1) }, options),
      })),
  },
  {
    name: "compaction-drops-a-version",
    store: onlyFor(
      "compaction",
      (store, world) =>
        withLayersRewritten(
          store,
          (entries, kind) => kind === "image" ? entries : withoutOne(entries, world.scheduler.random),
        ),
    ),
  },
  {
    name: "image-complete-that-is-not",
    store: onlyFor("compaction", (store, world) =>
      withLayersRewritten(
        store,
        (entries, kind) => kind === "delta" ? entries : withoutOne(entries, world.scheduler.random),
      )),
  },
  {
    // Compaction deletes what it replaces, then commits that it does.
    name: "delete-before-commit",
    store: onlyFor("compaction", (store, world) =>
      new PuttingStore(store, {
        manifest: async (put, manifest, options) => {
          const names = new Set(manifest.layers.map(({ name }) => name));
          for (const { name } of world.timelines.get(manifest.timeline)!.manifest.layers) {
            if (!names.has(name)) await store.delete(layerKey(manifest.timeline, name));
          }
          return await put(manifest, options);
        },
      })),
  },
  {
    name: "collection-ignores-pins",
    store: onlyFor("retention", (store) => new BlindStore(store, "pins")),
  },
  {
    name: "collection-ignores-branches",
    store: onlyFor("retention", (store) => new BlindStore(store, "branches")),
  },
  {
    name: "orphans-without-grace",
    orphanGraceMs: -1,
  },
  {
    // Whenever it removes layers, it removes one more: the oldest that is left.
    name: "collection-takes-one-layer-too-many",
    store: onlyFor("retention", (store, world) =>
      new PuttingStore(store, {
        manifest: async (put, manifest, options) => {
          const { layers } = world.timelines.get(manifest.timeline)!.manifest;
          if (manifest.layers.length >= layers.length) return await put(manifest, options);
          const starts = manifest.layers.map(({ name }) => parseLayerName(name)!.lsnStart);
          const oldest = starts.indexOf(Math.min(...starts) as Lsn);
          return await put({
            ...manifest,
            layers: manifest.layers.filter((_, index) => index !== oldest),
          }, options);
        },
      })),
  },
  {
    // The parent does not hear of its branch.
    name: "branch-without-the-parents-line",
    store: onlyFor("branch", (store) =>
      new PuttingStore(store, {
        manifest: (put, manifest, options) => {
          const isNew = options.condition !== undefined && "ifAbsent" in options.condition;
          return isNew ? put(manifest, options) : Promise.resolve({ etag: "" });
        },
      })),
  },
  {
    name: "disk-lies",
    diskLies: true,
  },
  {
    // A writer that starts does not bring to the store what is on its disk only.
    name: "forget-layers-on-disk",
    disk: (layers) => ({ ...layers, list: () => Promise.resolve([]) }),
  },
];

function onlyFor(
  wanted: Role,
  wrap: (store: ObjectStore, world: World) => ObjectStore,
): (store: ObjectStore, role: Role, world: World) => ObjectStore | undefined {
  return (store, role, world) => role === wanted ? wrap(store, world) : undefined;
}

/** Without one version of a page. */
function withoutOne(entries: Entry[], random: SeededRandom): Entry[] {
  const pages = entries.filter(({ key }) => key.family === FAMILY_RELATION);
  if (pages.length === 0) return entries;
  const dropped = random.pick(pages);
  return entries.filter((entry) => entry !== dropped);
}
