/**
 * What `varve info` tells of restoring: the recoverable window, by what the store has, not only by what the manifest says.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { findMissingLayers, type RecoverableWindow, recoverableWindow } from "../restore/window.ts";
import type { Manifest } from "../timeline/manifest.ts";
import { plural } from "./values.ts";

/** Missing layers that are shown; all are counted. */
const MISSING_SHOWN = 20;

/** For the JSON document; LSNs as text, null where nothing can be restored. */
export interface ShownWindow {
  readonly from: string | null;
  readonly to: string | null;
  /** Why it ends there, or why there is none. */
  readonly reason: string;
  /** Layers that the manifest names and the store lacks: gaps in history. */
  readonly missingLayers: number;
  readonly missing: readonly { readonly object: string; readonly from: string; readonly to: string }[];
}

/** Looks for every layer: one listing. */
export async function shownWindow(store: ObjectStore, manifest: Manifest): Promise<ShownWindow> {
  const window = recoverableWindow(manifest, await findMissingLayers(store, manifest));
  return {
    from: window.from === undefined ? null : formatLsn(window.from),
    to: window.to === undefined ? null : formatLsn(window.to),
    reason: window.reason,
    missingLayers: window.missing.length,
    missing: shownMissing(window),
  };
}

function shownMissing({ missing }: RecoverableWindow): ShownWindow["missing"] {
  return missing.slice(0, MISSING_SHOWN)
    .map(({ object, from, to }) => ({ object, from: formatLsn(from), to: formatLsn(to) }));
}

/** As rows for people: only where it is less than what can be read by the manifest. */
export function windowRows(window: ShownWindow): [string, string][] {
  if (window.missingLayers === 0) return [];
  const range = window.from === null ? "nothing" : `${window.from} to ${window.to}`;
  return [
    ["restorable", `${range}: ${window.reason}`],
    ["missing", `${plural(window.missingLayers, "layer")}, first ${window.missing[0].object}`],
  ];
}
