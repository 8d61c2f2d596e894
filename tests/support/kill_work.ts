/**
 * A process to be killed: it writes, compacts, branches and collects a small timeline, and dies at the fault point that it
 * was told, by SIGKILL.
 *
 * Waits for a line of JSON on its standard input, see {@linkcode KillWork}, so that it can be started ahead. Prints `working`
 * when it begins, and at its end, if it comes to that, how often it passed each point, as JSON.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { NotFoundError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { FaultPoint, FaultPoints } from "../../src/ports/fault_points.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { FilesStore } from "../../src/store/files.ts";
import { openLocalLayers } from "../../src/store/local_layers.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { createBranch, deleteTimeline } from "../../src/upkeep/branch.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { collect, type CollectionOptions, planCollection } from "../../src/upkeep/gc.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { startWriting, takeOver } from "../../src/varve.ts";
import { startPointAfter, type WalChunk } from "../../src/write/source/wal_source.ts";

/** What to do, and where to die. */
export interface KillWork {
  /** A directory, or the URL of a bucket whose credentials are in the environment. */
  store: string;
  /** A file of WAL, and where it begins. */
  wal: string;
  walStart: number;
  /** Place for local copies; none without. */
  local?: string;
  timeline: string;
  /** Bytes of WAL to take in. */
  walBytes: number;
  /** Dies at this point when it is passed for the n-th time, from 1 on. */
  kill?: { point: FaultPoint; hit: number };
  /** Name of a branch to make, and of one to delete. */
  branch?: string;
  unbranch?: string;
  /** Bytes of WAL that collection keeps; objects go at once, for nobody else reads. */
  keepWalBytes: number;
}

/** Bytes of WAL of a flush, and of those that arrive at once: small, so that there are many. */
const CHECKPOINT_DISTANCE = 2500;
const CHUNK_BYTES = 900;

/** Does all of it. */
export async function work(options: KillWork, store: ObjectStore, faults: FaultPoints): Promise<void> {
  const { timeline, walBytes } = options;
  const local = options.local === undefined ? undefined : await openLocalLayers(options.local);
  const stored = await readManifest(store, timeline);
  if (stored === undefined) throw new NotFoundError(`There is no timeline "${timeline}"`);
  const common = { store, clock: systemClock, timeline, local, faults };
  const writerOptions = { ...common, checkpointDistance: CHECKPOINT_DISTANCE };
  const manifest = await takeOver(writerOptions, stored);
  const { follower, close } = await startWriting(writerOptions, manifest, ({ timeline }) => ({
    openSource: () => openWal(options, timeline.lastRecordLsn, timeline.facts.walSegmentSize, walBytes),
  }));
  await follower.done;
  await close();

  const attached = await attachReader(common);
  const target = UpkeepTarget.ofGuest({ attached, store, clock: systemClock, faults });
  while (await compact(target, { runsMax: 2, layerBytes: 6000 }) !== undefined);
  await makeImages(target, { layerBytes: 60_000, imageDeltaBytesMin: 1000 });
  const { clock, branch, unbranch } = { clock: systemClock, ...options };
  if (unbranch !== undefined) {
    await deleteTimeline({ store, clock, name: unbranch }).catch((error) => {
      if (!(error instanceof NotFoundError)) throw error;
    });
  }
  if (branch !== undefined) {
    const lsn = attached.timeline.lastRecordLsn;
    await createBranch({ store, clock, parent: attached.reader, lsn, name: branch, faults });
  }
  await attached.close();
  await collectGarbage(store, timeline, { faults, policy: { keepWalBytes: options.keepWalBytes } });
}

/** Collects all that nobody needs, at once. */
export async function collectGarbage(
  store: ObjectStore,
  timeline: string,
  more: Partial<CollectionOptions> = {},
): Promise<void> {
  const attached = await attachReader({ store, clock: systemClock, timeline });
  try {
    const { reader, manifest } = attached;
    const options = { store, clock: systemClock, reader, graceMs: -1, orphanGraceMs: -1, ...more };
    const plan = await planCollection(manifest, options);
    await collect(plan, (edit) => updateManifest(store, systemClock, timeline, edit), options);
  } finally {
    await attached.close();
  }
}

/** Some WAL from behind a record on, in small pieces. */
function openWal(
  { wal, walStart }: KillWork,
  after: Lsn,
  segmentSize: number,
  length: number,
): { stream: ReadableStream<WalChunk>; startLsn: Lsn } {
  const startLsn = startPointAfter(after, segmentSize).normalized;
  const bytes = Deno.readFileSync(wal);
  const end = Math.min(startLsn + length, walStart + bytes.length);
  let at = startLsn;
  const stream = new ReadableStream<WalChunk>({
    pull(controller) {
      if (at >= end) return controller.close();
      const to = Math.min(at + CHUNK_BYTES, end) as Lsn;
      const data = bytes.slice(at - walStart, to - walStart);
      controller.enqueue({ startLsn: at, data, tli: 1, serverWalEnd: to, sentAtMs: 0 });
      at = to;
    },
  }, { highWaterMark: 0 });
  return { stream, startLsn };
}

if (import.meta.main) {
  const { value: line } = await Deno.stdin.readable.pipeThrough(new TextDecoderStream()).getReader().read();
  const options = JSON.parse(line!) as KillWork;
  const hits: Partial<Record<FaultPoint, number>> = {};
  const faults: FaultPoints = (point) => {
    const hit = hits[point] = (hits[point] ?? 0) + 1;
    if (point !== options.kill?.point || hit !== options.kill.hit) return;
    Deno.kill(Deno.pid, "SIGKILL");
    return new Promise(() => {});
  };
  const store = await openKillStore(options.store);
  console.log("working");
  await work(options, store, faults);
  await store.close();
  console.log(JSON.stringify(hits));
  Deno.exit(0);
}

/** The store of the options. Only processes die here, so nothing is synced to a disk. */
export async function openKillStore(
  location: string,
  env: Record<string, string> = Deno.env.toObject(),
): Promise<ObjectStore> {
  if (!location.startsWith("s3:")) return await FilesStore.open({ path: location, fsync: false });
  const { openStore } = await import("../../src/store/open.ts");
  const { retrying } = await import("../../src/store/retrying.ts");
  return retrying(await openStore(location, env), { clock: systemClock });
}
