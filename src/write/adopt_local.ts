/**
 * Write path, at start: layers that are durable on this machine's disk but not in the store yet.
 *
 * With acknowledgement at the level `disk`, PostgreSQL may have recycled WAL that so far is only in a local layer. A
 * writer that starts again therefore brings such layers to the store first. They are exactly the local delta layers of
 * the last writer's epoch (nobody has written since, or the epoch would be another) that continue the manifest without a
 * gap; anything else that the manifest does not name is removed as ever. The claim of the next epoch names them: were
 * they named later, a writer that died in between would leave layers that belong to no last writer any more. In the store they
 * get names of their own; the local copies are removed when the timeline is opened.
 *
 * @module
 */
import type { BlockCodecs } from "../bytes/block_codec.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { formatLayerName, parseLayerName } from "../layer/layer_name.ts";
import { keyOf } from "../layer/key_range.ts";
import { FAMILY_CLUSTER_STATE } from "../layer/key.ts";
import { type LayerIndex, type LayerSource, openLayer } from "../layer/layer_reader.ts";
import { scanLayer } from "../layer/layer_scan.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { decodeClusterState } from "../postgres/effects/cluster_state.ts";
import { manifestLayer } from "../timeline/manifest.ts";
import type { Manifest } from "../timeline/manifest.ts";
import type { ManifestChange } from "../timeline/manifest_store.ts";
import { layerKey } from "../timeline/object_keys.ts";
import { localBody } from "./store_layer.ts";

export interface AdoptOptions {
  local: LocalLayers;
  store: ObjectStore;
  clock: Clock;
  /** As the writer before left it. */
  manifest: Manifest;
  codecs: BlockCodecs;
  events?: EventSink;
  faults?: FaultPoints;
  signal?: AbortSignal;
}

/** Uploads what continues the manifest; resolves with what the claim must say when all of it is durable in the store. */
export async function adoptLocalLayers(options: AdoptOptions): Promise<ManifestChange> {
  const { manifest, store, clock, local, events, faults, signal } = options;
  let { layers, diskConsistentLsn, tli } = manifest;
  for (;;) {
    const found = await findNext(options, diskConsistentLsn);
    if (found === undefined) return { layers, diskConsistentLsn, tli };
    tli = found.tli ?? tli;
    // The writer that died may have uploaded it, and a collection may be about to delete that object as an orphan.
    const unique = Math.floor(clock.random() * 0x1_0000_0000);
    const next = { ...found.layer, name: formatLayerName({ ...found.layer, unique }) };
    if (faults !== undefined) await faults("layer-before-upload");
    await store.put(layerKey(manifest.timeline, next.name), localBody(local, found.layer.name, next.size), {
      signal,
    });
    if (faults !== undefined) await faults("layer-after-upload");
    layers = [...layers, manifestLayer(next)];
    diskConsistentLsn = next.lsnEnd - 1 as Lsn;
    events?.({
      level: "info",
      topic: "follow.adopted",
      message: `Brought a layer to the store that was only on disk: WAL up to ${
        formatLsn(diskConsistentLsn)
      }`,
      fields: { layer: next.name, bytes: next.size },
    });
  }
}

interface Found {
  readonly layer: LayerDescriptor;
  /** PostgreSQL's timeline that it ends on, if it says. */
  readonly tli: number | undefined;
}

/** The local layer that begins right behind this LSN, if it is whole. */
async function findNext(options: AdoptOptions, diskConsistentLsn: Lsn): Promise<Found | undefined> {
  const { local, manifest, codecs, signal } = options;
  const named = new Set(manifest.layers.map((layer) => layer.name));
  for (const { name, size } of await local.list()) {
    const parsed = parseLayerName(name);
    if (
      parsed === undefined || named.has(name) || parsed.kind !== "delta" || parsed.epoch !== manifest.epoch
    ) continue;
    // One that ends inside a record does not say how far history goes.
    if (parsed.lsnStart !== diskConsistentLsn + 1 || (parsed.lsnEnd - 1) % 8 !== 0) continue;
    const file = await local.open(name);
    if (file === undefined) continue;
    try {
      const source = { size, readRange: (offset: number, length: number) => file.readRange(offset, length) };
      const index = await openLayer(source, name, { codecs, signal });
      const { kind, keyMin, keyMax, lsnStart, lsnEnd, epoch } = parsed;
      const layer: LayerDescriptor = {
        name,
        kind,
        keyMin,
        keyMax,
        lsnStart,
        lsnEnd,
        size,
        checksum: index.footer.checksum,
        complete: false,
        level: 0,
        epoch,
      };
      return { layer, tli: await lastTli(source, index, signal) };
    } finally {
      await file.close();
    }
  }
  return undefined;
}

/** PostgreSQL's timeline as a layer's last cluster state has it; undefined if that did not change. */
async function lastTli(
  source: LayerSource,
  index: LayerIndex,
  signal?: AbortSignal,
): Promise<number | undefined> {
  const key = keyOf({ family: FAMILY_CLUSTER_STATE, a: 0, b: 0, c: 0, d: 0 });
  let tli: number | undefined;
  for await (const { block, end } of scanLayer(source, index, { keyMin: key, keyMax: key, signal })) {
    const offset = block.valueOffsets[end - 1];
    tli = decodeClusterState(block.bytes.subarray(offset, offset + block.valueLengths[end - 1])).tli;
  }
  return tli;
}
