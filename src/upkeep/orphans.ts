/**
 * Orphans: objects that no manifest names, left behind by crashes.
 *
 * Upkeep. An object under a timeline's layers that its manifest neither names nor lists as removed is an orphan
 * - at once, if the epoch in its name is over: its writer is fenced, and guests give up when the epoch changes;
 * - after a grace time, if it is of the present epoch: a flush or a compaction may be about to name it;
 * - after a long one, if there is no manifest at all: a base backup may still be running.
 *
 * The manifest is read after the objects were listed, so that what it names by then is known.
 *
 * @module
 */
import { parseLayerName } from "../layer/layer_name.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { readManifest } from "../timeline/manifest_store.ts";
import { layerPrefix, timelinesPrefix } from "../timeline/object_keys.ts";

/** An object that nobody names. */
export interface Orphan {
  readonly key: string;
  readonly size: number;
  readonly modifiedMs: number;
}

export interface OrphanOptions {
  readonly store: ObjectStore;
  readonly timeline: string;
  readonly nowMs: number;
  /** For objects of the present epoch. */
  readonly graceMs: number;
  /** For objects of a timeline without manifest. Default 7 days. */
  readonly unmadeGraceMs?: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_UNMADE_GRACE_MS = 7 * 86_400_000;

/** The orphans of a timeline. Objects that are no layers are left alone. */
export async function findOrphans(options: OrphanOptions): Promise<Orphan[]> {
  const { store, timeline, nowMs, graceMs, unmadeGraceMs = DEFAULT_UNMADE_GRACE_MS, signal } = options;
  const prefix = layerPrefix(timeline);
  const found: (Orphan & { name: string; epoch: number })[] = [];
  for await (const { key, size, modifiedMs } of store.list(prefix, { signal })) {
    const name = key.slice(prefix.length);
    const parsed = parseLayerName(name);
    if (parsed !== undefined) found.push({ key, size, modifiedMs, name, epoch: parsed.epoch });
  }
  const manifest = (await readManifest(store, timeline, signal))?.manifest;
  if (manifest === undefined) {
    return found.filter(({ modifiedMs }) => nowMs - modifiedMs > unmadeGraceMs).map(orphanOf);
  }
  const named = new Set([...manifest.layers, ...manifest.removed].map(({ name }) => name));
  return found.filter(({ name, epoch, modifiedMs }) =>
    !named.has(name) && (epoch < manifest.epoch || nowMs - modifiedMs > graceMs)
  ).map(orphanOf);
}

function orphanOf({ key, size, modifiedMs }: Orphan): Orphan {
  return { key, size, modifiedMs };
}

/** Names of all timelines that have objects, also of those without manifest. */
export async function listTimelines(store: ObjectStore, signal?: AbortSignal): Promise<string[]> {
  const names = new Set<string>();
  const prefix = timelinesPrefix();
  for await (const { key } of store.list(prefix, { signal })) {
    const name = key.slice(prefix.length).split("/")[0];
    if (name !== "") names.add(name);
  }
  return [...names].sort();
}
