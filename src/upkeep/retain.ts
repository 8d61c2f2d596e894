/**
 * Retention: how far back history is kept, and which layers nobody needs any more. Pure but for one search in time.
 *
 * Upkeep. What is kept is every LSN at or above the *cut-off*, and below it the LSNs that pins and branches *hold*: exactly
 * those, not what lies between. The cut-off never goes back. It is as far as the policy allows by time and by bytes of WAL,
 * both, and never beyond what is durable.
 *
 * A layer may go when no read that is still possible would visit it: it ends at or below the cut-off, and for the cut-off
 * and each held LSN at or above its beginning there are complete images over all of its keys between its end and that
 * LSN. Without images nothing goes, for the oldest values may be the only ones that a page has.
 *
 * @module
 */
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import { ImageFloors } from "../layer/image_floors.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { lsnOfTimestamp } from "../read/time.ts";
import { heldLsns } from "../timeline/ancestry.ts";
import { describeManifestLayer, type Manifest, type RetentionPolicy } from "../timeline/manifest.ts";
import type { ManifestChange } from "../timeline/manifest_store.ts";
import { manifestKey } from "../timeline/object_keys.ts";

/**
 * The cut-off that a policy allows: at or above the present one.
 *
 * @param nowMs Milliseconds since 1970, as the server's clock has it: commit times are the server's.
 */
export async function allowedCutoff(
  reader: TimelineReader,
  manifest: Manifest,
  policy: RetentionPolicy,
  nowMs: number,
  signal?: AbortSignal,
): Promise<Lsn> {
  const { cutoffLsn, diskConsistentLsn } = manifest;
  const { keepMs, keepWalBytes } = policy;
  if (keepMs === undefined && keepWalBytes === undefined) return cutoffLsn;
  let allowed: number = diskConsistentLsn;
  if (keepWalBytes !== undefined) allowed = Math.min(allowed, diskConsistentLsn - keepWalBytes);
  if (keepMs !== undefined && allowed > cutoffLsn) {
    const moment = await lsnOfTimestamp(reader, (nowMs - keepMs) * 1000, { signal });
    if (moment.kind === "found") allowed = Math.min(allowed, moment.lsn);
    // All that is known has been there for longer: its last moment is what must stay.
    else if (moment.kind === "future") allowed = Math.min(allowed, moment.last?.lsn ?? INVALID_LSN);
    else allowed = INVALID_LSN;
  }
  return Math.max(cutoffLsn, allowed - allowed % 8) as Lsn;
}

/**
 * The layers that no possible read would visit.
 *
 * @param held LSNs that stay readable though below the cut-off.
 */
export function unneededLayers(
  layers: readonly LayerDescriptor[],
  cutoffLsn: Lsn,
  held: readonly Lsn[],
): LayerDescriptor[] {
  const points = [...new Set([cutoffLsn, ...held.filter((lsn) => lsn < cutoffLsn)])];
  const floors = points.map((lsn) => ({ lsn, floors: new ImageFloors(layers, lsn) }));
  return layers.filter((layer) => {
    const lastLsn = layer.lsnEnd - 1;
    if (lastLsn > cutoffLsn) return false;
    return floors.every(({ lsn, floors }) => {
      if (lsn < layer.lsnStart) return true;
      const floor = floors.lowest(layer.keyMin, layer.keyMax);
      // An image is not replaced by itself.
      return layer.complete ? floor > lastLsn : floor >= Math.min(lastLsn, lsn);
    });
  });
}

/** A change of policy: null for ever, absent as it is. */
export interface RetentionChange {
  readonly keepMs?: number | null;
  readonly keepWalBytes?: number | null;
}

/** The policy that results. */
export function changedRetention(present: RetentionPolicy, change: RetentionChange): RetentionPolicy {
  const keepMs = change.keepMs === undefined ? present.keepMs : change.keepMs;
  const keepWalBytes = change.keepWalBytes === undefined ? present.keepWalBytes : change.keepWalBytes;
  return { ...(keepMs != null && { keepMs }), ...(keepWalBytes != null && { keepWalBytes }) };
}

/** What retention changes of a manifest. */
export interface RetentionEdit {
  /** At least the present one; a lower one counts as that. */
  readonly cutoffLsn: Lsn;
  /** Takes the policy's place; absent: it stays. */
  readonly policy?: RetentionPolicy;
  readonly nowMs: number;
}

/**
 * The change that retention makes: the new cut-off, expired pins gone, layers that nobody needs named as removed. Idempotent.
 * Nothing is deleted before it is committed.
 */
export function retentionChange(current: Manifest, edit: RetentionEdit): ManifestChange {
  const { nowMs } = edit;
  const cutoffLsn = Math.min(
    Math.max(current.cutoffLsn, edit.cutoffLsn),
    Math.max(current.cutoffLsn, current.diskConsistentLsn),
  ) as Lsn;
  const pins = current.pins.filter(({ expiresAtMs }) => expiresAtMs === undefined || expiresAtMs > nowMs);
  const object = manifestKey(current.timeline);
  const layers = current.layers.map((layer) => describeManifestLayer(layer, object));
  const unneeded = unneededLayers(layers, cutoffLsn, heldLsns({ ...current, pins }));
  const names = new Set(unneeded.map(({ name }) => name));
  return {
    cutoffLsn,
    pins,
    ...(edit.policy !== undefined && { retention: edit.policy }),
    layers: current.layers.filter(({ name }) => !names.has(name)),
    removed: [...current.removed, ...unneeded.map(({ name, size }) => ({ name, size, atMs: nowMs }))],
  };
}
