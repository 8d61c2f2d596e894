/**
 * Collection: what retention no longer needs, and what crashes have left behind, goes from the store.
 *
 * Upkeep, as the timeline's writer or as a guest beside one. In this order, each step of use by itself and safe to break
 * off anywhere:
 * 1. branches whose timeline does not exist (a crash while one was made or deleted) are forgotten;
 * 2. one commit moves the cut-off, drops expired pins, and names layers that nobody needs as removed;
 * 3. objects removed longer ago than the grace time are deleted, for until then readers may go by an older manifest;
 * 4. only then their lines go;
 * 5. orphans are deleted.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import type { TimelineReader } from "../read/get_page.ts";
import type {
  BranchPoint,
  Manifest,
  ManifestLayer,
  RemovedLayer,
  RetentionPolicy,
} from "../timeline/manifest.ts";
import { type ManifestEdit, readManifest } from "../timeline/manifest_store.ts";
import { layerKey } from "../timeline/object_keys.ts";
import { findOrphans, type Orphan } from "./orphans.ts";
import { allowedCutoff, retentionChange } from "./retain.ts";

/** For how long objects of removed layers stay. */
export const DEFAULT_GRACE_MS = 3_600_000;

export interface CollectionOptions {
  store: ObjectStore;
  clock: Clock;
  reader: TimelineReader;
  /** Takes the place of the manifest's policy, for good. */
  policy?: RetentionPolicy;
  /** Milliseconds that removed layers' objects stay. Default: {@linkcode DEFAULT_GRACE_MS}. */
  graceMs?: number;
  /**
   * Milliseconds that objects of the present epoch which nobody names stay; a flush or a compaction may be about to name
   * them, within `NAMED_WITHIN_MS`. Default: `graceMs`, and at least {@linkcode DEFAULT_GRACE_MS}.
   */
  orphanGraceMs?: number;
  /** Whether to look for orphans, which lists all objects. Default true. */
  orphans?: boolean;
  /** Told of the places where a test may break in. */
  faults?: FaultPoints;
  signal?: AbortSignal;
}

/** What collection would do now. */
export interface CollectionPlan {
  readonly timeline: string;
  /** The commit that the plan was made by. */
  readonly commitId: string;
  readonly cutoffLsn: Lsn;
  /** The cut-off before. */
  readonly previousCutoffLsn: Lsn;
  /** To be removed from the manifest; their objects go when the grace time is over. */
  readonly layers: readonly ManifestLayer[];
  readonly expiredPins: readonly string[];
  /** Branches that are no timelines. */
  readonly danglingBranches: readonly BranchPoint[];
  /** Removed before, their grace time over: to be deleted. */
  readonly expired: readonly RemovedLayer[];
  /** Removed before, or now, and kept until their grace time is over. */
  readonly waiting: readonly RemovedLayer[];
  readonly orphans: readonly Orphan[];
}

/** How a change gets into the manifest: a writer's own commit, or a guest's. */
export type CommitEdit = (edit: ManifestEdit, signal?: AbortSignal) => Promise<Manifest>;

/**
 * Tells what there is to do.
 *
 * @throws {UnavailableError} If the store does not answer. @throws {CorruptionError} If what it holds is damaged.
 */
export async function planCollection(
  manifest: Manifest,
  options: CollectionOptions,
): Promise<CollectionPlan> {
  const { store, clock, reader, policy, graceMs = DEFAULT_GRACE_MS, signal } = options;
  const { orphanGraceMs = Math.max(graceMs, DEFAULT_GRACE_MS) } = options;
  const { timeline, commitId } = manifest;
  const nowMs = clock.now();
  const danglingBranches = await findDangling(store, manifest, signal);
  const cutoffLsn = await allowedCutoff(reader, manifest, policy ?? manifest.retention, nowMs, signal);
  const change = retentionChange(withoutBranches(manifest, danglingBranches), { cutoffLsn, policy, nowMs });
  const staying = new Set(change.layers!.map(({ name }) => name));
  const orphans = options.orphans === false
    ? []
    : await findOrphans({ store, timeline, nowMs, graceMs: orphanGraceMs, signal });
  const isOver = ({ atMs }: RemovedLayer) => nowMs - atMs >= graceMs;
  return {
    timeline,
    commitId,
    cutoffLsn: change.cutoffLsn!,
    previousCutoffLsn: manifest.cutoffLsn,
    layers: manifest.layers.filter(({ name }) => !staying.has(name)),
    expiredPins: manifest.pins.filter((pin) => !change.pins!.includes(pin)).map(({ name }) => name),
    danglingBranches,
    expired: change.removed!.filter(isOver),
    waiting: change.removed!.filter((removed) => !isOver(removed)),
    orphans,
  };
}

/**
 * Does what the plan says, by the manifest as it is by then.
 *
 * @throws {FencedError} If another writer has taken over. @throws {UnavailableError} If the store does not answer; what was
 *   done stays done, and the rest is done by the next collection.
 */
export async function collect(
  plan: CollectionPlan,
  commit: CommitEdit,
  options: CollectionOptions,
): Promise<Manifest> {
  const { clock, policy, graceMs = DEFAULT_GRACE_MS, faults, signal } = options;
  const { timeline, commitId, cutoffLsn, danglingBranches } = plan;
  const nowMs = clock.now();
  if (faults !== undefined) await faults("gc-before-cutoff");
  let manifest = await commit((current) => {
    // Whoever makes a branch ends with a commit here: without one, what was missing when we looked has not been made since.
    const mended = current.commitId === commitId ? withoutBranches(current, danglingBranches) : current;
    return { branches: mended.branches, ...retentionChange(mended, { cutoffLsn, policy, nowMs }) };
  }, signal);
  const expired = manifest.removed.filter(({ atMs }) => nowMs - atMs >= graceMs).map(({ name }) => name);
  if (faults !== undefined) await faults("gc-after-cutoff");
  for (const name of expired) await deleteObject(layerKey(timeline, name), options);
  if (expired.length > 0) {
    const gone = new Set(expired);
    manifest = await commit(
      ({ removed }) => ({ removed: removed.filter(({ name }) => !gone.has(name)) }),
      signal,
    );
  }
  if (faults !== undefined) await faults("gc-after-forget");
  for (const { key } of plan.orphans) await deleteObject(key, options);
  return manifest;
}

async function deleteObject(key: string, { store, faults, signal }: CollectionOptions): Promise<void> {
  if (faults !== undefined) await faults("gc-before-delete");
  await store.delete(key, { signal });
  if (faults !== undefined) await faults("gc-after-delete");
}

/** Whether a plan has anything to do. */
export function isEmptyPlan(plan: CollectionPlan): boolean {
  return plan.cutoffLsn === plan.previousCutoffLsn && plan.layers.length === 0 &&
    plan.expiredPins.length === 0 &&
    plan.danglingBranches.length === 0 && plan.expired.length === 0 && plan.orphans.length === 0;
}

/** Branches whose timeline does not exist, or is no branch of this one. */
async function findDangling(
  store: ObjectStore,
  manifest: Manifest,
  signal?: AbortSignal,
): Promise<BranchPoint[]> {
  const dangling: BranchPoint[] = [];
  for (const branch of manifest.branches) {
    const ancestor = (await readManifest(store, branch.timeline, signal))?.manifest.ancestor;
    if (ancestor?.timeline !== manifest.timeline || ancestor.lsn !== branch.lsn) dangling.push(branch);
  }
  return dangling;
}

function withoutBranches(manifest: Manifest, gone: readonly BranchPoint[]): Manifest {
  if (gone.length === 0) return manifest;
  const isGone = ({ timeline, lsn }: BranchPoint) =>
    gone.some((each) => each.timeline === timeline && each.lsn === lsn);
  return { ...manifest, branches: manifest.branches.filter((branch) => !isGone(branch)) };
}
