/**
 * Branches: what a timeline reads on from when it began as a branch of another.
 *
 * Where the paths meet. A branch's manifest names its parent and an LSN; what its own layers do not have is read in the
 * parent's, at or below that LSN, and so on up. The parent's manifest says which LSNs its branches need, and retention keeps
 * what reads at them need. Nothing is copied, and a parent that has branches cannot be deleted.
 *
 * @module
 */
import { CorruptionError, NotFoundError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { LayerMap } from "../layer/layer_map.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { describeManifestLayer, type Manifest } from "./manifest.ts";
import { readManifest } from "./manifest_store.ts";
import { manifestKey } from "./object_keys.ts";
import type { AncestorLayers } from "./timeline.ts";

/** Branches of branches: more than anybody makes, so that a circle ends. */
const DEPTH_MAX = 1000;

/** The manifests of a timeline's ancestors, the nearest first. */
export async function readAncestors(
  store: ObjectStore,
  manifest: Manifest,
  signal?: AbortSignal,
): Promise<Manifest[]> {
  const found: Manifest[] = [];
  for (let child = manifest; child.ancestor !== undefined;) {
    const { timeline } = child.ancestor;
    const stored = await readManifest(store, timeline, signal);
    if (stored === undefined) {
      throw new NotFoundError(
        `Cannot open timeline "${child.timeline}": it is a branch of "${timeline}", which ${store.description} does not have`,
      );
    }
    const { branches } = stored.manifest;
    if (
      !branches.some((branch) => branch.timeline === child.timeline && branch.lsn === child.ancestor!.lsn)
    ) {
      throw new NotFoundError(
        `Cannot open timeline "${child.timeline}": "${timeline}" does not hold the history that it began with`,
        { hint: "It was not made to its end. Delete it and make it again." },
      );
    }
    if (found.length === DEPTH_MAX) {
      throw new CorruptionError(`Cannot open timeline "${manifest.timeline}": its ancestors do not end`);
    }
    found.push(stored.manifest);
    child = stored.manifest;
  }
  return found;
}

/** The layers of ancestors, each up to where the branch leaves it. */
export function ancestorLayers(manifest: Manifest, ancestors: readonly Manifest[]): AncestorLayers[] {
  let top = Number.MAX_SAFE_INTEGER;
  let child = manifest;
  return ancestors.map((ancestor) => {
    top = Math.min(top, child.ancestor!.lsn);
    child = ancestor;
    const object = manifestKey(ancestor.timeline);
    const layers = ancestor.layers.map((layer) => describeManifestLayer(layer, object))
      .filter((layer) => layer.lsnStart <= top);
    return { timeline: ancestor.timeline, lsn: top as Lsn, layers: LayerMap.of(layers) };
  });
}

/** LSNs at which a timeline stays readable even when its cut-off has passed them: those of its pins and branches. */
export function heldLsns(manifest: Manifest): Lsn[] {
  return [...manifest.pins.map(({ lsn }) => lsn), ...manifest.branches.map(({ lsn }) => lsn)];
}
