/**
 * Restore on one screen: a data directory as of an LSN that stock PostgreSQL starts on.
 *
 * ```
 * restore(attached, lsn, target)
 *   1. is the LSN recoverable, is every layer there           window.ts
 *   2. what the directory consists of                         plan.ts
 *   3. pages, in key order, each layer walked once            write_pages.ts, ../read/mended_walk.ts
 *   4. maps, configuration, prepared transactions, WAL        cluster_files.ts, made_wal.ts
 *   5. pg_control, and the directory into its place           last, so that nothing half done could start
 * ```
 *
 * @module
 */
import { LsnCollectedError, LsnNotReachedError, NotFoundError } from "../errors.ts";
import { FAMILY_SLRU } from "../layer/key.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import type { RestoreTarget } from "../ports/restore_target.ts";
import type { AttachedTimeline } from "../read/attach.ts";
import { WalkedLayers } from "../read/mended_walk.ts";
import { layersOf, neededLayers } from "../read/page_walk.ts";
import { clusterDirectories, type ClusterFiles, clusterFiles } from "./cluster_files.ts";
import type { RestoreOptions, RestoreSummary } from "./options.ts";
import { plannedBytes, planRestore, type RestorePlan } from "./plan.ts";
import { findMissingLayers, recoverableWindow } from "./window.ts";
import { writePages } from "./write_pages.ts";

const DEFAULT_MEMORY_BYTES = 128 * 1024 * 1024;
/** A fresh timeline number is this far from the parent's at least, so that the parent's own next ones stay free. */
const TLI_DISTANCE = 16;
const TLI_CHOICES = 0x10000;
const ZEROS = new Uint8Array(1024 * 1024);

/**
 * What a restore would write, with what it needs to be told apart from others; writes nothing.
 *
 * @throws As {@linkcode restore}.
 */
export async function prepareRestore(
  attached: AttachedTimeline,
  lsn: Lsn,
  options: RestoreOptions & { store?: ObjectStore },
): Promise<PreparedRestore> {
  const { store, signal, database, clock, as: role = "primary" } = options;
  await checkWindow(attached, lsn, store, signal);
  const plan = await planRestore(attached.reader, lsn, { database, signal });
  const parentTli = plan.state.tli;
  const { walSegmentSize } = attached.timeline.facts;
  const tli = role === "standby" || options.tli === "keep"
    ? parentTli
    : options.tli ?? Math.max(parentTli, attached.manifest.tli) + TLI_DISTANCE +
        Math.floor(clock.random() * TLI_CHOICES);
  const files = clusterFiles(plan, { role, tli, walSegmentSize, nowMs: clock.now() });
  return { plan, files, summary: summarize(attached, plan, files, { role, tli, parentTli }) };
}

/** A restore that has been planned. */
export interface PreparedRestore {
  readonly plan: RestorePlan;
  readonly files: ClusterFiles;
  readonly summary: RestoreSummary;
}

/**
 * Restores a cluster as of an LSN.
 *
 * The target is committed when it resolves, and aborted when it fails: then nothing is in place.
 *
 * @param options With `store`, every layer is looked for before anything is written.
 * @throws {LsnNotReachedError | LsnCollectedError} If the LSN lies outside the recoverable window; the message names it.
 * @throws {NotFoundError} If a layer is missing; the message names it.
 * @throws {CorruptionError} If stored bytes are damaged, or a page would not be right.
 * @throws {UnsupportedError} If a record cannot be replayed.
 */
export async function restore(
  attached: AttachedTimeline,
  lsn: Lsn,
  target: RestoreTarget,
  options: RestoreOptions & { store?: ObjectStore },
): Promise<RestoreSummary> {
  try {
    const prepared = await prepareRestore(attached, lsn, options);
    return await writeRestore(attached, prepared, target, options);
  } catch (error) {
    await target.abort();
    throw error;
  }
}

/** Writes what has been planned; see {@linkcode restore}. */
export async function writeRestore(
  attached: AttachedTimeline,
  { plan, files, summary }: PreparedRestore,
  target: RestoreTarget,
  options: RestoreOptions,
): Promise<RestoreSummary> {
  const { signal, onProgress, memoryBytes = DEFAULT_MEMORY_BYTES, checkPages = true } = options;
  const bytesTotal = plannedBytes(plan);
  let bytesDone = 0;
  onProgress?.({ bytesDone, bytesTotal });
  try {
    for (const path of clusterDirectories(plan.profile.major)) await target.directory(path);
    for (const [oid, location] of plan.tablespaces) await target.tablespace(oid, location);
    const made = new Set(clusterDirectories(plan.profile.major));
    for (const path of plan.directories) if (!made.has(path)) await target.directory(path);
    const layers = new WalkedLayers(attached, plan.lsn, { signal });
    await writePages({
      forks: plan.forks,
      target,
      lsn: plan.lsn,
      checkPages,
      open: (spaces, blocksMax) => layers.walk({ spaces, blocksMax, memoryBytes }),
      onBytes(bytes) {
        bytesDone += bytes;
        onProgress?.({ bytesDone, bytesTotal });
      },
      signal,
    });
    for (const { path, bytes } of files.files) await target.put(path, bytes);
    for (const segment of files.segments) {
      await writeSegment(
        target,
        `pg_wal/${segment.name}`,
        segment.bytes,
        attached.timeline.facts.walSegmentSize,
      );
    }
    await target.put(files.control.path, files.control.bytes);
    await target.commit();
  } catch (error) {
    await target.abort();
    throw error;
  }
  return summary;
}

/** Bytes of layers that a restore reads at most: of those that are not resident, and that its LSN needs. */
export function bytesToFetch({ sources, files }: AttachedTimeline, plan: RestorePlan): number {
  const first = plan.forks[0]?.space;
  const last = plan.forks.at(-1)?.space;
  if (first === undefined || last === undefined) return 0;
  const keyMin = { ...first, block: 0 };
  const keyMax = { ...last, block: 0xffff_ffff };
  const layers = layersOf(sources(plan.lsn), keyMin, keyMax);
  return neededLayers(layers.map(({ layer }) => layer), keyMin, keyMax, plan.lsn)
    .reduce((sum, { name, size }) => files.isResident(name) ? sum : sum + size, 0);
}

async function writeSegment(
  target: RestoreTarget,
  path: string,
  bytes: Uint8Array,
  size: number,
): Promise<void> {
  const file = await target.file(path, size);
  await file.write(bytes);
  for (let at = bytes.length; at < size; at += ZEROS.length) {
    await file.write(ZEROS.subarray(0, Math.min(ZEROS.length, size - at)));
  }
  await file.close();
}

/** Refuses an LSN that cannot be restored, naming the window. */
async function checkWindow(
  attached: AttachedTimeline,
  lsn: Lsn,
  store: ObjectStore | undefined,
  signal?: AbortSignal,
): Promise<void> {
  let missing = store === undefined ? [] : await findMissingLayers(store, attached.manifest, signal);
  if (store !== undefined && missing.length > 0) {
    // They may have been replaced or collected since the timeline was attached.
    missing = await findMissingLayers(store, await attached.refresh(signal), signal);
  }
  const { manifest, timeline } = attached;
  const { floorLsn, heldLsns, lastRecordLsn } = timeline.view();
  // A follower in this process may be ahead of what is durable.
  const diskConsistentLsn = Math.max(manifest.diskConsistentLsn, lastRecordLsn) as Lsn;
  const window = recoverableWindow({ ...manifest, diskConsistentLsn }, missing);
  const { to } = window;
  const hint = window.from === undefined
    ? `Nothing can be restored: ${window.reason}.`
    : `Recoverable: ${formatLsn(window.from)} to ${formatLsn(to ?? window.from)}; ${window.reason}.`;
  if (window.from !== undefined && lsn < Math.max(window.from, floorLsn) && !heldLsns.has(lsn)) {
    throw new LsnCollectedError(lsn, window.from, { hint });
  }
  if (missing.length > 0 && (window.to === undefined || lsn > window.to)) {
    throw new NotFoundError(
      `Cannot restore LSN ${formatLsn(lsn)}: layer ${missing[0].object} is missing from the store`,
      { hint },
    );
  }
  if (to === undefined || window.from === undefined || lsn > to) {
    throw new LsnNotReachedError(lsn, to ?? timeline.lastRecordLsn, { hint });
  }
}

function summarize(
  { timeline }: AttachedTimeline,
  plan: RestorePlan,
  files: ClusterFiles,
  { role, tli, parentTli }: Pick<RestoreSummary, "role" | "tli" | "parentTli">,
): RestoreSummary {
  const { facts } = timeline;
  const fileCount = plan.forks.reduce((sum, fork) => sum + fork.paths.length, 0);
  return {
    lsn: plan.lsn,
    role,
    major: facts.major,
    systemId: facts.systemId,
    tli,
    parentTli,
    checkPointLsn: files.checkPointLsn,
    databases: new Set(plan.databases.map(({ db }) => db)).size,
    tablespaces: plan.tablespaces.size,
    relations: plan.relations,
    files: fileCount + files.files.length + files.segments.length + 1,
    pages: plan.pages,
    slruPages: plan.forks.reduce(
      (sum, { space, blocks }) => space.family === FAMILY_SLRU ? sum + blocks : sum,
      0,
    ),
    bytes: plannedBytes(plan) + files.segments.length * facts.walSegmentSize +
      files.files.reduce((sum, { bytes }) => sum + bytes.length, files.control.bytes.length),
    preparedTransactions: plan.preparedTransactions.size,
  };
}
