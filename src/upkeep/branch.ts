/**
 * Branches: made, listed, deleted. Nothing is copied: a branch is a manifest that names its parent and an LSN.
 *
 * Upkeep, as a guest of the parent's writer. The parent's manifest is told of the branch first, from which moment its
 * retention keeps what the branch needs; then the branch's own manifest is created. A crash in between leaves a line in the
 * parent's manifest for a timeline that does not exist, which collection forgets. It may do so just while the branch
 * comes into being, so that the maker looks again afterwards.
 *
 * @module
 */
import { FencedError, LsnCollectedError, LsnNotReachedError, NotFoundError, VarveError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { FAMILY_CLUSTER_STATE } from "../layer/key.ts";
import type { Clock } from "../ports/clock.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { decodeClusterState } from "../postgres/effects/cluster_state.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { heldLsns } from "../timeline/ancestry.ts";
import type { BranchPoint, Manifest } from "../timeline/manifest.ts";
import { ManifestWriter, readManifest, updateManifest } from "../timeline/manifest_store.ts";
import { checkTimelineName, layerPrefix, manifestKey } from "../timeline/object_keys.ts";
import { listTimelines } from "./orphans.ts";

/** What to branch off, and where. */
export interface BranchOptions {
  store: ObjectStore;
  clock: Clock;
  /** Reads the parent. */
  parent: TimelineReader;
  /** An end of a record for who wants to follow a server into the branch; any LSN that can be read for who wants to read. */
  lsn: Lsn;
  /** The new timeline's name. */
  name: string;
  /** Told of the places where a test may break in. */
  faults?: FaultPoints;
  signal?: AbortSignal;
}

/** A timeline among its kin. */
export interface TimelineListing {
  readonly name: string;
  readonly ancestor?: BranchPoint;
  readonly branches: readonly BranchPoint[];
  readonly diskConsistentLsn: Lsn;
}

/**
 * Makes a branch. It can be read at its LSN at once.
 *
 * @throws {LsnNotReachedError} If the parent has not made the LSN durable. @throws {LsnCollectedError} If it is too old.
 * @throws {VarveError} `EXISTS` if there is a timeline of that name. @throws {NotFoundError} If the parent has gone.
 */
export async function createBranch(options: BranchOptions): Promise<Manifest> {
  const { store, clock, parent, lsn, name, faults, signal } = options;
  const from = parent.timeline.name;
  checkTimelineName(name);
  if (await readManifest(store, name, signal) !== undefined) throw alreadyExists(name, store);
  const addLine = (current: Manifest) => {
    checkHolds(current, lsn);
    // Another line of that name may be that of a branch which somebody else is making, or has made since we looked.
    const others = current.branches.filter((each) => each.timeline !== name || each.lsn !== lsn);
    return { branches: [...others, { timeline: name, lsn }] };
  };
  if (faults !== undefined) await faults("branch-before-parent");
  const parentManifest = await updateManifest(store, clock, from, addLine, signal);
  const tli = await tliAt(parent, lsn, signal);
  if (faults !== undefined) await faults("branch-before-child");
  let created: ManifestWriter;
  try {
    created = await ManifestWriter.create(store, clock, {
      timeline: name,
      facts: parentManifest.facts,
      tli: tli ?? parentManifest.tli,
      startLsn: lsn,
      consistentLsn: lsn,
      diskConsistentLsn: lsn,
      layers: [],
      ancestor: { timeline: from, lsn },
    }, signal);
  } catch (error) {
    if (error instanceof FencedError) throw alreadyExists(name, store);
    throw error;
  }
  if (faults !== undefined) await faults("branch-after-child");
  try {
    await updateManifest(store, clock, from, (current) => {
      return current.branches.some((branch) => branch.timeline === name && branch.lsn === lsn)
        ? {}
        : addLine(current);
    }, signal);
  } catch (error) {
    if (error instanceof LsnCollectedError || error instanceof NotFoundError) {
      await store.delete(manifestKey(name), { signal });
    }
    throw error;
  }
  return created.manifest;
}

/**
 * Deletes a timeline with all its layers: a branch, or one that never was. Its parent need not hold its LSN any more. A
 * deletion that broke off is ended by another.
 *
 * @throws {VarveError} `IN_USE` if it has branches. @throws {NotFoundError} If there is nothing of that name.
 * @returns How many objects were deleted.
 */
export async function deleteTimeline(
  { store, clock, name, signal }: Pick<BranchOptions, "store" | "clock" | "name" | "signal">,
): Promise<number> {
  const manifest = (await readManifest(store, name, signal))?.manifest;
  for (const branch of manifest?.branches ?? []) {
    const child = (await readManifest(store, branch.timeline, signal))?.manifest;
    if (child?.ancestor?.timeline === name) throw inUse(name, branch);
  }
  // A branch may be made of it meanwhile. From this commit on nothing of its history is kept, so that none can.
  if (manifest !== undefined) {
    await updateManifest(store, clock, name, ({ branches, diskConsistentLsn, cutoffLsn }) => {
      const known = new Set(manifest.branches.map(({ timeline, lsn }) => `${timeline}@${lsn}`));
      const made = branches.find(({ timeline, lsn }) => !known.has(`${timeline}@${lsn}`));
      if (made !== undefined) throw inUse(name, made);
      return { branches: [], pins: [], cutoffLsn: Math.max(cutoffLsn, diskConsistentLsn + 1) as Lsn };
    }, signal);
    if (manifest.ancestor !== undefined) await forgetBranch(store, clock, name, manifest.ancestor, signal);
    // From here on its writer is fenced and nobody opens it, and the name may be taken again.
    await store.delete(manifestKey(name), { signal });
  }
  const deleted = (manifest === undefined ? 0 : 1) + await deleteLayers(store, name, signal);
  if (deleted === 0) {
    throw new NotFoundError(`Cannot delete timeline "${name}": ${store.description} has none of that name`);
  }
  return deleted;
}

/**
 * Takes a branch's line from its parent's manifest. As long as the branch's own manifest is there: a line tells branches of
 * one name and LSN not apart, but while this one exists no other is made, and whoever was about to make one looks for its
 * line afterwards.
 */
async function forgetBranch(
  store: ObjectStore,
  clock: Clock,
  name: string,
  { timeline: parent, lsn }: BranchPoint,
  signal?: AbortSignal,
): Promise<void> {
  const isOther = (branch: BranchPoint) => branch.timeline !== name || branch.lsn !== lsn;
  try {
    await updateManifest(
      store,
      clock,
      parent,
      ({ branches }) => ({ branches: branches.filter(isOther) }),
      signal,
    );
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}

/**
 * Deletes the layers of a timeline that has no manifest any more. If it has one again after they were listed, some may be
 * the new one's: those that are not are orphans among its layers, and go with its collection.
 */
async function deleteLayers(store: ObjectStore, name: string, signal?: AbortSignal): Promise<number> {
  const keys: string[] = [];
  for await (const { key } of store.list(layerPrefix(name), { signal })) keys.push(key);
  if (keys.length === 0 || await readManifest(store, name, signal) !== undefined) return 0;
  for (const key of keys) await store.delete(key, { signal });
  return keys.length;
}

/** All timelines that have a manifest, by name. */
export async function listBranches(store: ObjectStore, signal?: AbortSignal): Promise<TimelineListing[]> {
  const found: TimelineListing[] = [];
  for (const name of await listTimelines(store, signal)) {
    const manifest = (await readManifest(store, name, signal))?.manifest;
    if (manifest === undefined) continue;
    const { ancestor, branches, diskConsistentLsn } = manifest;
    found.push({ name, ancestor, branches, diskConsistentLsn });
  }
  return found;
}

/**
 * Refuses an LSN that cannot be read by a manifest.
 *
 * @throws {LsnNotReachedError} If it is not durable yet. @throws {LsnCollectedError} If it is not kept.
 */
export function checkHolds(manifest: Manifest, lsn: Lsn): void {
  const floor = Math.max(manifest.consistentLsn, manifest.cutoffLsn) as Lsn;
  if (lsn > manifest.diskConsistentLsn) throw new LsnNotReachedError(lsn, manifest.diskConsistentLsn);
  if (lsn < floor && !heldLsns(manifest).includes(lsn)) throw new LsnCollectedError(lsn, floor);
}

/** PostgreSQL's timeline at an LSN: what a server that goes on from there descends from. */
async function tliAt(reader: TimelineReader, lsn: Lsn, signal?: AbortSignal): Promise<number | undefined> {
  const space = { family: FAMILY_CLUSTER_STATE, a: 0, b: 0, c: 0, d: 0 };
  const bytes = await reader.getValue(space, 0, lsn, { signal });
  return bytes && decodeClusterState(bytes).tli;
}

function inUse(name: string, branch: BranchPoint): VarveError {
  return new VarveError(
    "IN_USE",
    `Cannot delete timeline "${name}": "${branch.timeline}" is a branch of it, at ${formatLsn(branch.lsn)}`,
    { hint: `Delete "${branch.timeline}" first.` },
  );
}

function alreadyExists(name: string, store: ObjectStore): VarveError {
  return new VarveError(
    "EXISTS",
    `Cannot make timeline "${name}": ${store.description} has one of that name`,
    {
      hint: "Choose another name, or delete that one first: `varve branch --delete`.",
    },
  );
}
