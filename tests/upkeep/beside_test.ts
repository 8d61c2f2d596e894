/** Upkeep beside a writer, other guests and readers: what one does must not take from the others. */
import { NotFoundError, UnavailableError } from "../../src/errors.ts";
import { formatLayerName, parseLayerName } from "../../src/layer/layer_name.ts";
import { attachReader } from "../../src/read/attach.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { layerKey, layerPrefix, manifestKey } from "../../src/timeline/object_keys.ts";
import { createBranch } from "../../src/upkeep/branch.ts";
import { CollectionTask } from "../../src/upkeep/collection_task.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { UpkeepLoop } from "../../src/upkeep/upkeep_loop.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { WrittenTimeline, type WrittenTimelineOptions } from "../support/written_timeline.ts";

const test = suite("upkeep/beside", { timeoutMs: 20_000 });
const REL = 16384;
const LAYERS = layerPrefix("main");
const HOUR_MS = 3_600_000;
const { signal } = new AbortController();

const image = (byte: number) => imageRecord({ block: 0, image: filledPage(byte) });

async function written(
  options: WrittenTimelineOptions = {},
): Promise<{ store: BentStore; all: WrittenTimeline; clock: ManualClock }> {
  const store = new BentStore();
  const clock = new ManualClock();
  const flusher = { flushIntervalMs: 1e15 };
  const all = await WrittenTimeline.open({ store, clock, flusher, ...options });
  await all.writeOne(image(0x11));
  await all.flush();
  return { store, all, clock };
}

test("CollectionTask leaves alone what is flushed while it deletes orphans", async () => {
  const { store, all, clock } = await written();
  const { attached, manifest, timeline } = all;
  const task = new CollectionTask({ intervalMs: 0 });
  const target = UpkeepTarget.ofWriter({ attached, store, clock }, manifest);
  await task.run(target, signal);
  const named = parseLayerName(timeline.layers.layers()[0].name)!;
  const orphan = layerKey("main", formatLayerName({ ...named, epoch: 0 }));
  await store.put(orphan, new Uint8Array(10));
  await clock.advance(2 * HOUR_MS);
  store.before = async (method, key) => {
    if (method !== "delete" || key !== orphan) return;
    store.comeBack();
    await all.writeOne(image(0x22));
    await all.flush();
  };
  await task.run(target, signal);
  assert.is(task.counters.orphans, 1);
  assert.equal(
    timeline.layers.layers().map(({ name }) => name).sort(),
    manifest.manifest.layers.map(({ name }) => name).sort(),
  );
  assert.is((await all.page(REL, 0))[200], 0x22);
  await all.close();
});

test("CollectionTask goes by the policy that a guest has set since the writer's last commit", async () => {
  const { store, all, clock } = await written();
  const { attached, manifest, timeline } = all;
  const target = UpkeepTarget.ofWriter({ attached, store, clock }, manifest);
  await manifest.commit({ retention: { keepWalBytes: 8 } });
  await updateManifest(store, clock, "main", () => ({ retention: {} }));
  const before = timeline.cutoffLsn;
  await new CollectionTask().run(target, signal);
  assert.is((await readManifest(store, "main"))!.manifest.cutoffLsn, before);
  await all.close();
});

test("createBranch() of a name that is taken meanwhile leaves the other's line", async () => {
  const { store, all, clock } = await written();
  const first = all.timeline.lastRecordLsn;
  await all.writeOne(image(0x22));
  await all.flush();
  const second = all.timeline.lastRecordLsn;
  const attached = await attachReader({ store, clock });
  const make = (lsn: typeof first, faults?: (point: string) => Promise<void>) =>
    createBranch({ store, clock, parent: attached.reader, lsn, name: "b", faults });
  let made = false;
  const faults = async (point: string) => {
    if (point !== "branch-before-parent" || made) return;
    made = true;
    await make(first);
  };
  await assert.rejects(make(second, faults), /has one of that name/);
  const branch = await attachReader({ store, clock, timeline: "b" });
  assert.is((await branch.reader.getPage({ spc: 1663, db: 5, rel: REL }, 0, 0, first))[200], 0x11);
  await branch.close();
  await attached.close();
  await all.close();
});

test("refresh(): who gives up does not fail those who share it", async () => {
  const { store, all, clock } = await written();
  const attached = await attachReader({ store, clock });
  const gate = deferred();
  store.before = async (method, _key, signal) => {
    if (method !== "get") return;
    await gate.promise;
    signal?.throwIfAborted();
  };
  const first = new AbortController();
  const givenUp = attached.refresh(first.signal);
  const other = attached.refresh();
  first.abort(new Error("enough"));
  gate.resolve();
  await assert.rejects(givenUp, /enough/);
  assert.is((await other).timeline, "main");
  await attached.close();
  await all.close();
});

test("what upkeep makes in vain leaves no local copy", async () => {
  const local = new MemoryLocalLayers();
  const { store, all, clock } = await written({ local });
  await all.writeOne(image(0x22));
  await all.flush();
  const { attached, manifest } = all;
  const target = UpkeepTarget.ofWriter({ attached, store, clock, local }, manifest);
  const before = [...local.files.keys()].sort();
  for (const away of [LAYERS, manifestKey("main")]) {
    store.before = (method, key) => {
      if (method === "put" && key.startsWith(away)) throw new UnavailableError("Away");
    };
    await assert.rejects(compact(target, { everything: true }), UnavailableError);
    assert.equal([...local.files.keys()].sort(), before, `compaction, ${away}`);
    await assert.rejects(makeImages(target, { everything: true }), UnavailableError);
    assert.equal([...local.files.keys()].sort(), before, `images, ${away}`);
  }
  store.comeBack();
  assert.ok(await compact(target, { everything: true }));
  await all.close();
});

test("UpkeepLoop takes over the manifest when a layer's object is gone", async () => {
  const { store, all, clock } = await written();
  await all.writeOne(image(0x22));
  await all.flush();
  // A guest has compacted long ago, while the writer had nothing to commit.
  const guest = await attachReader({ store, clock });
  await compact(UpkeepTarget.ofGuest({ attached: guest, store, clock }), { everything: true });
  const { removed } = (await readManifest(store, "main"))!.manifest;
  assert.is(removed.length, 2);
  for (const { name } of removed) await store.delete(layerKey("main", name));
  await updateManifest(store, clock, "main", () => ({ removed: [] }));
  const { attached, manifest, timeline } = all;
  const target = UpkeepTarget.ofWriter({ attached, store, clock }, manifest);
  const failures: unknown[] = [];
  const loop = new UpkeepLoop(
    UpkeepTarget.ofWriter({
      attached,
      store,
      clock,
      events: ({ topic, error }) => void (topic === "upkeep.failed" && failures.push(error)),
    }, manifest),
    { runsMax: 1, imageDeltaBytesMin: 1 },
  );
  loop.start();
  for (let turn = 0; turn < 500 && timeline.layers.deltaCount > 1; turn++) {
    await new Promise((resolve) => setTimeout(resolve));
    await clock.advance(1000);
  }
  assert.is(timeline.layers.deltaCount, 1);
  assert.instance(failures[0], NotFoundError);
  await loop.stop();
  assert.is(target.manifest.layers.filter(({ level }) => level === 1).length > 0, true);
  await all.close();
});

test.run();
