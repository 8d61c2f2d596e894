/**
 * Opens a timeline: from a manifest to a reader over its layers.
 *
 * Read path, before its first step. Attaching reads one object, the manifest, and downloads no layer; every layer is in
 * the layer map as remote, or as resident where a local copy is.
 *
 * @module
 */
import type { ByteArena } from "../bytes/arena.ts";
import type { BlockCodecs } from "../bytes/block_codec.ts";
import { PORTABLE_CODECS } from "../bytes/portable_codecs.ts";
import { NotFoundError } from "../errors.ts";
import { FAMILY_CLUSTER_STATE, FAMILY_ORIGIN, FAMILY_RELATION, FAMILY_SLRU } from "../layer/key.ts";
import { LayerMap } from "../layer/layer_map.ts";
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { type ClusterState, decodeClusterState } from "../postgres/effects/cluster_state.ts";
import type { ImageCodecs } from "../postgres/wal/block_image.ts";
import { ancestorLayers, heldLsns, readAncestors } from "../timeline/ancestry.ts";
import type { Manifest } from "../timeline/manifest.ts";
import { type ManifestWriter, readManifest } from "../timeline/manifest_store.ts";
import { checkTimelineName } from "../timeline/object_keys.ts";
import { ABSENT } from "../timeline/sizes.ts";
import { Timeline } from "../timeline/timeline.ts";
import { AncestorFetchers } from "./ancestor_fetchers.ts";
import type { BulkSource } from "./bulk_read.ts";
import { LayerFetcher } from "./fetch.ts";
import type { FetchCause } from "./fetch_counters.ts";
import { TimelineReader } from "./get_page.ts";
import { KnownManifest, ownLayers } from "./known_manifest.ts";
import { LayerFiles } from "./layer_files.ts";
import { LayerOpener } from "./layer_opener.ts";
import type { LayerRangesOptions } from "./layer_ranges.ts";
import type { ResidencyOptions } from "./residency.ts";
import { loadTimes } from "./time.ts";

/** What every use of a timeline needs. */
export interface EngineOptions {
  store: ObjectStore;
  clock: Clock;
  /** Name of the timeline in the store. Default `main`. */
  timeline?: string;
  /** Keeps local copies of layers; without it layers are read from the store by range. */
  local?: LocalLayers;
  /** How many of them, when a layer is downloaded whole, how many requests at a time. */
  fetching?: ResidencyOptions & Pick<LayerRangesOptions, "requests" | "requestMs">;
  /** Bytes of layer indexes and blocks to keep in memory. Default 64 MiB. */
  cacheBytes?: number;
  /** Decompressors of page images: zstd, where the server uses it. */
  imageCodecs?: ImageCodecs;
  /** What blocks of layers may be compressed with. */
  blockCodecs?: BlockCodecs;
  events?: EventSink;
  /** Readers take over the manifest so often by themselves, milliseconds. Default: only when a layer's object is gone. */
  refreshMs?: number;
}

/** A timeline that is open for reading. */
export interface AttachedTimeline {
  readonly timeline: Timeline;
  readonly reader: TimelineReader;
  readonly files: LayerFiles;
  readonly fetcher: LayerFetcher;
  /** The manifest that it was attached from, or refreshed by since. */
  readonly manifest: Manifest;
  /** What it decompresses with: page images in WAL, blocks of layers. */
  readonly codecs: { readonly image: ImageCodecs; readonly block: BlockCodecs };
  /**
   * What to read in bulk at an LSN that is durable: this timeline's layers, and those of the timelines that it is a branch of.
   *
   * @param cause For metrics and priorities. Default `read`.
   */
  sources(lsn: Lsn, cause?: FetchCause): BulkSource[];
  /**
   * Takes over the manifest as it is now: what its writer has added, what was collected. Reads do so by themselves when a
   * layer's object is gone.
   *
   * @throws {LsnCollectedError} Never; reads do, of what is kept no more. @throws {UnavailableError} If the store does not answer.
   */
  refresh(signal?: AbortSignal): Promise<Manifest>;
  /** Releases local files; the store stays open. */
  close(): Promise<void>;
}

/**
 * Attaches a timeline for reading: one manifest read, no layer downloaded.
 *
 * Pages can be read from the end of its base backup to what its writer had made durable when the manifest was read.
 *
 * @throws {NotFoundError} If the store has no timeline of that name.
 * @throws {UnavailableError} If the store does not answer.
 */
export async function attachReader(
  options: EngineOptions & { signal?: AbortSignal },
): Promise<AttachedTimeline> {
  const name = options.timeline ?? "main";
  checkTimelineName(name);
  const stored = await readManifest(options.store, name, options.signal);
  if (stored === undefined) {
    throw new NotFoundError(
      `Cannot attach timeline "${name}": ${options.store.description} has none of that name`,
      {
        hint: "`varve follow` or `varve import` creates one.",
      },
    );
  }
  return await openTimeline(stored.manifest, options);
}

/** How to open what a manifest describes. */
export interface OpenOptions extends EngineOptions {
  arena?: ByteArena;
  /** The claim, where this process writes the timeline: then it knows best, and is told what guests have done. */
  writer?: ManifestWriter;
  signal?: AbortSignal;
}

/** Opens what a manifest describes. */
export async function openTimeline(
  manifest: Manifest,
  options: OpenOptions,
): Promise<AttachedTimeline> {
  const { store, clock, local, events, cacheBytes, imageCodecs = {}, blockCodecs = PORTABLE_CODECS } =
    options;
  const layers = ownLayers(manifest);
  const ancestors = await readAncestors(store, manifest, options.signal);
  const timeline = new Timeline({
    cutoffLsn: manifest.cutoffLsn,
    heldLsns: heldLsns(manifest),
    ancestors: ancestorLayers(manifest, ancestors),
    name: manifest.timeline,
    facts: manifest.facts,
    tli: manifest.tli,
    startLsn: manifest.startLsn,
    consistentLsn: manifest.consistentLsn,
    diskConsistentLsn: manifest.diskConsistentLsn,
    layers: LayerMap.EMPTY.withChanges({ add: layers }),
    arena: options.arena,
  });
  // A copy may go once the manifest names its layer: until then it may be all that there is.
  const isDurable = (name: string) => timeline.layers.get(name) !== undefined;
  const files = new LayerFiles({
    timeline: manifest.timeline,
    store,
    clock,
    local,
    events,
    isDurable,
    ...options.fetching,
  });
  await files.adopt(layers);
  const fetcher = new LayerFetcher({ files, codecs: blockCodecs, cacheBytes, clock });
  const fetchers = new AncestorFetchers(options, ancestors.length);
  const known = new KnownManifest(timeline, manifest, files, options);
  const refresh = (signal?: AbortSignal) => known.refresh(signal);
  const reader = new TimelineReader(timeline, fetcher, imageCodecs, {
    fetcherOf: (name) => fetchers.of(name),
    refresh,
  });
  const refreshing = known.refreshOften();
  const codecs = { image: imageCodecs, block: blockCodecs };
  return {
    timeline,
    reader,
    files,
    fetcher,
    codecs,
    get manifest() {
      return known.manifest;
    },
    sources: (lsn, cause) => sourcesOf(timeline, files, fetchers, blockCodecs, lsn, cause),
    refresh,
    async close() {
      await refreshing.stop();
      await Promise.all([files.close(), fetchers.close()]);
    },
  };
}

/** Layers for bulk reads at an LSN: a timeline's own, then its ancestors'. */
function sourcesOf(
  timeline: Timeline,
  files: LayerFiles,
  fetchers: AncestorFetchers,
  codecs: BlockCodecs,
  lsn: Lsn,
  cause: FetchCause = "read",
): BulkSource[] {
  const { layers, ancestors } = timeline.view();
  const own = { layers, lsn, opener: new LayerOpener((layer) => files.source(layer, { cause }), codecs) };
  return [
    own,
    ...ancestors.map((ancestor) => ({
      layers: ancestor.layers,
      lsn: Math.min(lsn, ancestor.lsn) as Lsn,
      opener: new LayerOpener(
        (layer) => fetchers.of(ancestor.timeline).files.source(layer, { cause }),
        codecs,
      ),
    })),
  ];
}

/** Loads what a writer must know at the timeline's last record: all sizes, and the cluster's state. */
export async function loadWriterState(
  attached: AttachedTimeline,
  signal?: AbortSignal,
): Promise<ClusterState> {
  const { timeline, reader } = attached;
  const lsn = timeline.lastRecordLsn;
  const options = { signal, evenInconsistent: true, cause: "ingest" as const };
  for (const family of [FAMILY_RELATION, FAMILY_SLRU]) {
    for (const { space, blocks, highWater } of await reader.listSizesEver(family, lsn, options)) {
      timeline.sizes.set(timeline.spaces.internSpace(space), blocks ?? ABSENT, highWater);
    }
  }
  const bytes = await reader.getValue(
    { family: FAMILY_CLUSTER_STATE, a: 0, b: 0, c: 0, d: 0 },
    0,
    lsn,
    options,
  );
  if (bytes === undefined) {
    throw new NotFoundError(`Cannot resume timeline "${timeline.name}": it has no cluster state`);
  }
  const state = decodeClusterState(bytes);
  await loadTimes(timeline, reader, state.time, signal);
  for (const { space, bytes } of await reader.listValues(FAMILY_ORIGIN, lsn, options)) {
    state.origins.set(space.a, new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  }
  return state;
}
