/**
 * The recoverable window: from which LSN to which a timeline can be restored, and where history is missing.
 *
 * From a manifest, so that it says what a reader anywhere would find, and from what the store has of the layers that the
 * manifest names. It tells less rather than more: a window ends at what is durable, not where a running follower is, and
 * before the first layer that is missing.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import type { Manifest } from "../timeline/manifest.ts";
import { layerKey, layerPrefix } from "../timeline/object_keys.ts";

/** A layer that the manifest names and the store lacks, or has with another size. */
export interface MissingLayer {
  /** Key of its object. */
  readonly object: string;
  /** LSNs of which it has values, both included. */
  readonly from: Lsn;
  readonly to: Lsn;
}

/** See the module's description. */
export interface RecoverableWindow {
  /** Earliest and latest LSN, both included; undefined: nothing can be restored. */
  readonly from: Lsn | undefined;
  readonly to: Lsn | undefined;
  /** Why it ends where it ends, or why there is none. */
  readonly reason: string;
  readonly missing: readonly MissingLayer[];
}

/** The window of a manifest; `missing` as {@linkcode findMissingLayers} has it. */
export function recoverableWindow(
  manifest: Pick<Manifest, "consistentLsn" | "diskConsistentLsn" | "cutoffLsn">,
  missing: readonly MissingLayer[] = [],
): RecoverableWindow {
  const { consistentLsn, diskConsistentLsn, cutoffLsn } = manifest;
  const from = Math.max(consistentLsn, cutoffLsn) as Lsn;
  const none = (reason: string) => ({ from: undefined, to: undefined, reason, missing });
  if (from > diskConsistentLsn) return none("WAL up to the end of the base backup is not durable yet");
  const firstMissing = Math.min(...missing.map((layer) => layer.from));
  if (firstMissing > diskConsistentLsn) {
    return { from, to: diskConsistentLsn, reason: "WAL up to here is durable", missing };
  }
  // Values are in layers from below: what comes after a missing one rests on it.
  if (firstMissing <= from) return none("layers that all LSNs rest on are missing from the store");
  return { from, to: firstMissing - 1 as Lsn, reason: "layers are missing from the store", missing };
}

/** Looks for every layer that the manifest names; one listing, nothing is read. */
export async function findMissingLayers(
  store: ObjectStore,
  manifest: Pick<Manifest, "timeline" | "layers">,
  signal?: AbortSignal,
): Promise<MissingLayer[]> {
  const sizes = new Map<string, number>();
  for await (const { key, size } of store.list(layerPrefix(manifest.timeline), { signal })) {
    sizes.set(key, size);
  }
  const missing: MissingLayer[] = [];
  for (const { name, size } of manifest.layers) {
    const object = layerKey(manifest.timeline, name);
    const parsed = parseLayerName(name);
    if (parsed === undefined || sizes.get(object) === size) continue;
    missing.push({ object, from: parsed.lsnStart, to: parsed.lsnEnd - 1 as Lsn });
  }
  return missing.sort((left, right) => left.from - right.from);
}
