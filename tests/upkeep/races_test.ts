/** What the simulation found: writers, guests and collections that meet at the wrong moment. */
import { setU32 } from "../../src/bytes/little_endian.ts";
import { FencedError, NotFoundError, UnavailableError, VarveError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { XLOG_END_OF_RECOVERY } from "../../src/postgres/effects/control.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { RM_XLOG_ID } from "../../src/postgres/wal/rmgr.ts";
import { attachReader } from "../../src/read/attach.ts";
import { type ManifestEdit, readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { layerPrefix, manifestKey, NAMED_WITHIN_MS } from "../../src/timeline/object_keys.ts";
import { createBranch, deleteTimeline } from "../../src/upkeep/branch.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { takeOver } from "../../src/varve.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord, recordOf, TEST_MAJOR } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("upkeep/races", { timeoutMs: 20_000 });
const REL = 16384;
const LAYERS = layerPrefix("main");
const MANIFEST = manifestKey("main");

const image = (byte: number) => imageRecord({ block: 0, image: filledPage(byte) });
const manifestOf = async (store: BentStore, timeline = "main") =>
  (await readManifest(store.below, timeline))!.manifest;

/** A timeline with one page, all durable. */
async function written(): Promise<{ store: BentStore; written: WrittenTimeline; clock: ManualClock }> {
  const store = new BentStore();
  const clock = new ManualClock();
  const written = await WrittenTimeline.open({ store, clock, flusher: { flushIntervalMs: 1e12 } });
  await written.writeOne(image(0x11));
  await written.flush();
  return { store, written, clock };
}

/** Lets time pass until the work is done. */
async function inTime(clock: ManualClock, work: Promise<unknown>, stepMs = 15_000): Promise<void> {
  let isDone = false;
  work.then(() => isDone = true, () => isDone = true);
  for (let turns = 0; !isDone && turns < 5000; turns++) {
    await new Promise((resolve) => setTimeout(resolve));
    if (!isDone) await clock.advance(stepMs);
  }
  await work;
}

test("Flusher does not name a layer that it stored long ago: it is stored again under another name", async () => {
  const { store, written: all, clock } = await written();
  const { flusher, timeline } = all;
  await all.writeOne(image(0x22));
  const before = store.keysOf("put", LAYERS).length;
  const awayUntilMs = clock.now() + 2 * NAMED_WITHIN_MS;
  store.before = (method, key) => {
    if (method === "put" && key === MANIFEST && clock.now() < awayUntilMs) throw new UnavailableError("Away");
  };
  await inTime(clock, flusher.flushAll());
  const names = new Set(store.keysOf("put", LAYERS).slice(before));
  assert.ok(names.size >= 2, "it has been stored under more than one name");
  const { layers, diskConsistentLsn } = await manifestOf(store);
  assert.is(diskConsistentLsn, timeline.lastRecordLsn);
  assert.is(layers.length, 2);
  assert.is(LAYERS + layers[1].name, [...names].at(-1));
  await all.close();
});

test("Flusher does not name a layer again that its lost commit named and a guest has replaced", async () => {
  const { store, written: all, clock } = await written();
  await all.writeOne(image(0x22));
  let answered = true;
  store.after = (method, key) => {
    if (method !== "put" || key !== MANIFEST || !answered) return;
    // The commit happens; nothing of it is heard for a while.
    answered = false;
    store.before = () => {
      throw new UnavailableError("Away");
    };
    throw new UnavailableError("No answer");
  };
  const flushing = all.flusher.flushAll();
  flushing.catch(() => {});
  while (answered) await new Promise((resolve) => setTimeout(resolve));
  const name = (await manifestOf(store)).layers[1].name;
  const replace: ManifestEdit = ({ layers, removed }) => ({
    layers: layers.filter((layer) => layer.name !== name),
    removed: [...removed, { name, size: 1, atMs: clock.now() }],
  });
  await updateManifest(store.below, clock, "main", replace);
  store.comeBack();
  await inTime(clock, flushing);
  const { layers, removed } = await manifestOf(store);
  assert.is(removed.length, 1);
  assert.not.ok(layers.some((layer) => layer.name === name), "its object will be deleted");
  await all.close();
});

/** The writer dies when a layer is on disk and in the store, and no manifest names it. */
async function dieBeforeNaming(store: BentStore, all: WrittenTimeline): Promise<void> {
  store.before = (method, key) => {
    if (method === "put" && key === MANIFEST) throw new UnavailableError("Away");
  };
  all.flusher.start();
  all.flusher.flushAll().catch(() => {});
  while (store.keysOf("put", LAYERS).length === 0) await new Promise((resolve) => setTimeout(resolve));
  await all.close();
  store.comeBack();
}

test("takeOver() gives layers from disk a name of their own: collection may be deleting the old one", async () => {
  const store = new BentStore();
  const local = new MemoryLocalLayers();
  const clock = new ManualClock();
  const all = await WrittenTimeline.open({ store, local, clock, flusher: { flushIntervalMs: 1e12 } });
  await all.writeOne(image(0x11));
  await dieBeforeNaming(store, all);
  const [uploaded] = store.keysOf("put", LAYERS);
  clock.random = Math.random;
  const { manifest } = await takeOver({ store, local, clock }, (await readManifest(store.below, "main"))!);
  assert.is(manifest.layers.length, 1);
  assert.is.not(LAYERS + manifest.layers[0].name, uploaded);
  const again = await WrittenTimeline.open({ store });
  assert.is((await again.page(REL, 0))[200], 0x11);
  await again.close();
});

test("takeOver() goes on on PostgreSQL's timeline that layers from disk end on", async () => {
  const store = new BentStore();
  const local = new MemoryLocalLayers();
  const clock = new ManualClock();
  const all = await WrittenTimeline.open({ store, local, clock, flusher: { flushIntervalMs: 1e12 } });
  await all.writeOne(image(0x11));
  const body = new Uint8Array(profileOfMajor(TEST_MAJOR).checkPointHasWalLevel ? 20 : 16);
  setU32(body, 8, 2);
  setU32(body, 12, 1);
  if (body.length > 16) setU32(body, 16, 1);
  await all.writeOne(recordOf(RM_XLOG_ID, XLOG_END_OF_RECOVERY, [], body));
  assert.is(all.timeline.tli, 2);
  await dieBeforeNaming(store, all);
  clock.random = Math.random;
  const { manifest } = await takeOver({ store, local, clock }, (await readManifest(store.below, "main"))!);
  assert.is(manifest.layers.length, 1);
  assert.is(manifest.tli, 2);
});

test("UpkeepTarget.replace() refuses layers that were begun too long ago, and names none twice", async () => {
  const { store, written: all, clock } = await written();
  const attached = await attachReader({ store, clock });
  const target = UpkeepTarget.ofGuest({ attached, store, clock });
  const [layer] = attached.timeline.layers.layers();
  clock.random = () => 0.5;
  const unique = target.drawUnique().toString(16).padStart(8, "0");
  const made = { ...layer, name: layer.name.slice(0, -8) + unique };
  await clock.advance(NAMED_WITHIN_MS + 1);
  await assert.rejects(target.replace([made], [layer]), (error) => error instanceof UnavailableError);
  assert.is((await manifestOf(store)).layers[0].name, layer.name);
  target.drawUnique();
  await target.replace([made], []);
  // Named by a commit that was not answered, say, and removed since.
  await updateManifest(store, clock, "main", ({ layers }) => ({
    layers: layers.filter(({ name }) => name !== made.name),
    removed: [{ name: made.name, size: 1, atMs: 0 }],
  }));
  await target.replace([made], []);
  assert.not.ok((await manifestOf(store)).layers.some(({ name }) => name === made.name));
  await attached.close();
  await all.close();
});

test("collect() keeps the line of a branch that was made while it looked for its timeline", async () => {
  const { store, written: all, clock } = await written();
  const lsn = all.timeline.lastRecordLsn;
  const attached = await attachReader({ store, clock });
  const options = { store, clock, reader: attached.reader };
  let plan: Awaited<ReturnType<typeof planCollection>> | undefined;
  const faults = async (point: string) => {
    if (point !== "branch-before-child") return;
    plan = await planCollection(await manifestOf(store), options);
  };
  await createBranch({ store, clock, parent: attached.reader, lsn, name: "b", faults });
  assert.equal(plan!.danglingBranches, [{ timeline: "b", lsn }]);
  await collect(plan!, (edit) => updateManifest(store, clock, "main", edit), options);
  assert.equal((await manifestOf(store)).branches, [{ timeline: "b", lsn }]);
  // One that nobody finishes goes with the next.
  await store.delete(manifestKey("b"));
  plan = await planCollection(await manifestOf(store), options);
  await collect(plan, (edit) => updateManifest(store, clock, "main", edit), options);
  assert.equal((await manifestOf(store)).branches, []);
  await attached.close();
  await all.close();
});

test("attachReader() refuses a branch whose parent does not hold its history", async () => {
  const { store, written: all, clock } = await written();
  const lsn = all.timeline.lastRecordLsn;
  const attached = await attachReader({ store, clock });
  await createBranch({ store, clock, parent: attached.reader, lsn, name: "b" });
  await (await attachReader({ store, clock, timeline: "b" })).close();
  await updateManifest(store, clock, "main", () => ({ branches: [] }));
  await assert.rejects(
    attachReader({ store, clock, timeline: "b" }),
    (error) => error instanceof NotFoundError && /does not hold/.test(error.message),
  );
  await attached.close();
  await all.close();
});

test("deleteTimeline() leaves no branch behind that is made of it meanwhile", async () => {
  const { store, written: all, clock } = await written();
  await all.close();
  const lsn = (await manifestOf(store)).diskConsistentLsn as Lsn;
  const attached = await attachReader({ store, clock });
  const makeBranch = () =>
    createBranch({ store: store.below, clock, parent: attached.reader, lsn, name: "b" });
  // Just before the deletion begins to change anything.
  store.before = async (method, key) => {
    if (method !== "put" || key !== MANIFEST) return;
    store.comeBack();
    await makeBranch();
  };
  const isInUse = (error: unknown) => error instanceof VarveError && error.code === "IN_USE";
  await assert.rejects(deleteTimeline({ store, clock, name: "main" }), isInUse);
  assert.equal((await manifestOf(store)).branches, [{ timeline: "b", lsn }]);
  await deleteTimeline({ store, clock, name: "b" });
  // Just before the manifest goes.
  let refusal: unknown;
  store.before = async (method, key) => {
    if (method !== "delete" || key !== MANIFEST) return;
    store.comeBack();
    await makeBranch().catch((error) => refusal = error);
  };
  await deleteTimeline({ store, clock, name: "main" });
  assert.instance(refusal, VarveError);
  assert.is(await readManifest(store.below, "b"), undefined);
  await attached.close();
});

test("deleteTimeline() leaves a branch alone that is made under the same name before it has ended", async () => {
  const { store, written: all, clock } = await written();
  const lsn = all.timeline.lastRecordLsn;
  await all.close();
  const attached = await attachReader({ store: store.below, clock });
  const options = { store: store.below, clock, parent: attached.reader, lsn, name: "b" };
  await createBranch(options);
  store.after = async (method, key) => {
    if (method !== "delete" || key !== manifestKey("b")) return;
    store.comeBack();
    await createBranch(options);
    const again = await WrittenTimeline.open({ store: store.below, clock, name: "b" });
    await again.writeOne(image(0x22));
    await again.flush();
    await again.close();
  };
  await deleteTimeline({ store, clock, name: "b" });
  assert.equal((await manifestOf(store)).branches, [{ timeline: "b", lsn }]);
  const branch = await WrittenTimeline.open({ store: store.below, clock, name: "b" });
  assert.is((await branch.page(REL, 0))[200], 0x22);
  assert.is((await branch.page(REL, 0, lsn))[200], 0x11);
  await branch.close();
  await attached.close();
});

test("deleteTimeline() of what a deletion left behind leaves a branch alone that is made meanwhile", async () => {
  const { store, written: all, clock } = await written();
  const lsn = all.timeline.lastRecordLsn;
  await all.close();
  const attached = await attachReader({ store: store.below, clock });
  await store.below.put(layerPrefix("b") + "left", new Uint8Array(1));
  // After it has seen that there is no manifest.
  let looks = 0;
  store.before = async (method, key) => {
    if (method !== "get" || key !== manifestKey("b") || ++looks !== 2) return;
    await createBranch({ store: store.below, clock, parent: attached.reader, lsn, name: "b" });
  };
  await deleteTimeline({ store, clock, name: "b" }).catch((error) => {
    if (!(error instanceof NotFoundError)) throw error;
  });
  assert.is((await manifestOf(store, "b")).ancestor?.lsn, lsn);
  await (await attachReader({ store: store.below, clock, timeline: "b" })).close();
  await attached.close();
});

test("deleteTimeline() that broke off anywhere is ended by another", async () => {
  for (const method of ["put", "delete"] as const) {
    for (let nth = 0;; nth++) {
      const { store, written: all, clock } = await written();
      const lsn = all.timeline.lastRecordLsn;
      await all.close();
      const attached = await attachReader({ store: store.below, clock });
      await createBranch({ store: store.below, clock, parent: attached.reader, lsn, name: "b" });
      await store.below.put(layerPrefix("b") + "layer", new Uint8Array(1));
      let seen = 0;
      store.before = (called) => {
        if (called === method && seen++ === nth) throw new UnavailableError("Away");
      };
      const broke = await deleteTimeline({ store, clock, name: "b" }).then(() => false, (error) => {
        assert.instance(error, UnavailableError);
        return true;
      });
      store.comeBack();
      if (broke) await deleteTimeline({ store, clock, name: "b" });
      assert.equal((await manifestOf(store)).branches, []);
      const left: string[] = [];
      for await (const { key } of store.list("timelines/b/")) left.push(key);
      assert.equal(left, []);
      await attached.close();
      if (!broke) break;
    }
  }
});

test("UpkeepTarget.replace() refuses a timeline that was made anew under its name", async () => {
  const { store, written: all, clock } = await written();
  clock.random = Math.random;
  const lsn = all.timeline.lastRecordLsn;
  await all.close();
  const main = await attachReader({ store, clock });
  const options = { store, clock, parent: main.reader, lsn, name: "b" };
  await createBranch(options);
  const attached = await attachReader({ store, clock, timeline: "b" });
  const target = UpkeepTarget.ofGuest({ attached, store, clock });
  await deleteTimeline({ store, clock, name: "b" });
  await createBranch(options);
  const made = main.timeline.layers.layers()[0];
  await assert.rejects(target.replace([made], []), (error) => error instanceof FencedError);
  assert.equal((await manifestOf(store, "b")).layers, []);
  await attached.close();
  await main.close();
});

test.run();
