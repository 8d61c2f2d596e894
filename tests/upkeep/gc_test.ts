/** Retention and collection: what goes, what stays, and that no read that is still possible ever changes. */
import { setU32, setU64 } from "../../src/bytes/little_endian.ts";
import { LsnCollectedError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import { LayerMap } from "../../src/layer/layer_map.ts";
import { XLOG_XACT_COMMIT } from "../../src/postgres/effects/xact_record.ts";
import { RM_XACT_ID } from "../../src/postgres/wal/rmgr.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { layerKey, layerPrefix } from "../../src/timeline/object_keys.ts";
import { POSTGRES_EPOCH_MS } from "../../src/timeline/time_values.ts";
import { createBranch, deleteTimeline, listBranches } from "../../src/upkeep/branch.ts";
import { CollectionTask } from "../../src/upkeep/collection_task.ts";
import { collect, type CollectionOptions, isEmptyPlan, planCollection } from "../../src/upkeep/gc.ts";
import { findOrphans } from "../../src/upkeep/orphans.ts";
import { removePin, setPin } from "../../src/upkeep/pins.ts";
import { allowedCutoff, unneededLayers } from "../../src/upkeep/retain.ts";
import { assert, suite } from "../support/harness.ts";
import { recordOf } from "../support/made_wal.ts";
import { SeededRandom, seededRandom } from "../support/random.ts";
import { TEST_START } from "../support/written_timeline.ts";
import { Twins } from "./twins.ts";

const test = suite("upkeep/gc", { timeoutMs: 240_000 });

const GRACE_MS = 3_600_000;

/** A collection as a guest, which keeps so much WAL. */
async function gc(twins: Twins, keepWalBytes: number | undefined, options: Partial<CollectionOptions> = {}) {
  const { store, clock, reader } = twins.kept;
  const all = {
    store,
    clock,
    reader,
    policy: keepWalBytes === undefined ? undefined : { keepWalBytes },
    ...options,
  };
  const { manifest } = (await readManifest(store, "main"))!;
  const plan = await planCollection(manifest, all);
  const after = await collect(
    plan,
    (edit, signal) => updateManifest(store, clock, "main", edit, signal),
    all,
  );
  await twins.kept.attached.refresh();
  return { plan, manifest: after };
}

async function objectCount(twins: Twins, timeline = "main"): Promise<number> {
  let count = 0;
  for await (const _ of twins.kept.store.list(layerPrefix(timeline))) count++;
  return count;
}

/** Checks reads of a timeline at some of the LSNs that must be readable, and that others are refused. */
async function checkReadable(twins: Twins, random: SeededRandom, held: readonly Lsn[]): Promise<void> {
  const { store, clock } = twins.kept;
  const { manifest } = (await readManifest(store, "main"))!;
  await using attached = disposable(await attachReader({ store, clock }));
  const { lsns } = twins;
  const from = lsns.filter((lsn) => lsn >= manifest.cutoffLsn && lsn <= manifest.diskConsistentLsn);
  const chosen = [...held, ...from.slice(0, 1), ...Array.from({ length: 4 }, () => random.pick(lsns))];
  for (const lsn of chosen) {
    if (lsn > manifest.diskConsistentLsn) continue;
    if (lsn >= manifest.cutoffLsn || held.includes(lsn)) {
      await twins.checkAt(attached.value.reader, lsn);
      await twins.checkAt(twins.kept.reader, lsn);
    } else {
      await assert.rejects(
        attached.value.reader.relationSize({ spc: 1663, db: 5, rel: 16384 }, 0, lsn),
        LsnCollectedError,
      );
    }
  }
}

function disposable<T extends { close(): Promise<void> }>(value: T): { value: T } & AsyncDisposable {
  return { value, [Symbol.asyncDispose]: () => value.close() };
}

test("collect(): no read at or above the cut-off, at a pin, or in a branch ever changes", async () => {
  const random = seededRandom("upkeep/gc");
  let collected = 0;
  for (let round = 0; round < 4; round++) {
    // Time jumps here: nothing is flushed by it in the midst of a jump.
    const twins = await Twins.open(random.fork(), { flusher: { flushIntervalMs: 1e15 } });
    const { store, clock } = twins.kept;
    const pins = new Map<string, Lsn>();
    const branches = new Map<string, Lsn>();
    const readable = async () => {
      const { manifest } = (await readManifest(store, "main"))!;
      return twins.lsns.filter((lsn) => lsn >= manifest.cutoffLsn && lsn <= manifest.diskConsistentLsn);
    };
    for (let step = 0; step < 14; step++) {
      await twins.writeRandom(random.int(1, 25));
      if (random.chance(0.8)) await twins.flush();
      if (random.chance(0.4)) await twins.makeImages({ everything: random.chance(0.7) });
      if (random.chance(0.3)) {
        await twins.compact({ runsMax: random.int(1, 3), everything: random.chance(0.3) });
      }
      const candidates = await readable();
      if (candidates.length > 0 && random.chance(0.3)) {
        const name = `pin${random.int(0, 2)}`;
        const lsn = random.pick(candidates);
        pins.set(name, lsn);
        await setPin({ name, lsn }, { store, clock, timeline: "main" });
      }
      if (pins.size > 0 && random.chance(0.15)) {
        const name = random.pick([...pins.keys()]);
        pins.delete(name);
        await removePin(name, { store, clock, timeline: "main" });
      }
      if (candidates.length > 0 && random.chance(0.15)) {
        const name = `branch${step}`;
        const lsn = random.pick(candidates);
        branches.set(name, lsn);
        await using parent = disposable(await attachReader({ store, clock }));
        await createBranch({ store, clock, parent: parent.value.reader, lsn, name });
      }
      if (branches.size > 0 && random.chance(0.1)) {
        const name = random.pick([...branches.keys()]);
        branches.delete(name);
        await deleteTimeline({ store, clock, name });
      }
      if (random.chance(0.5)) {
        const { plan } = await gc(twins, random.int(0, 6000), { graceMs: random.pick([0, GRACE_MS]) });
        collected += plan.layers.length;
        await clock.advance(random.pick([0, 2 * GRACE_MS]));
      }
      await checkReadable(twins, random, [...pins.values(), ...branches.values()]);
      for (const [name, lsn] of branches) {
        await using branch = disposable(await attachReader({ store, clock, timeline: name }));
        await twins.checkAt(branch.value.reader, lsn);
      }
    }
    await twins.close();
  }
  assert.ok(collected > 10, `${collected} layers were collected`);
});

test("unneededLayers() keeps exactly what a read of a possible LSN would visit, or more", () => {
  const random = seededRandom("upkeep/gc: layers");
  let removed = 0;
  for (let round = 0; round < 300; round++) {
    const layers = Array.from({ length: random.int(1, 12) }, (_, index) => randomLayer(random, index));
    const cutoff = random.int(20, 100) as Lsn;
    const held = Array.from({ length: random.int(0, 2) }, () => random.int(1, 100) as Lsn);
    const gone = new Set(unneededLayers(layers, cutoff, held).map(({ name }) => name));
    removed += gone.size;
    const map = LayerMap.of(layers);
    for (let block = 0; block < 8; block++) {
      for (let lsn = 1; lsn <= 110; lsn++) {
        if (lsn < cutoff && !held.includes(lsn as Lsn)) continue;
        for (const { layer } of map.search({ family: 0, a: 0, b: 0, c: 0, d: 0 }, block, lsn as Lsn)) {
          // Below a complete image at the same LSN as the layer's end a visit finds nothing new, but is no harm.
          assert.not(gone.has(layer.name), `layer ${layer.name} is visited at ${lsn}`);
        }
      }
    }
  }
  assert.ok(removed > 100, `${removed} layers were unneeded`);
});

function randomLayer(random: SeededRandom, index: number) {
  const from = random.int(0, 7);
  const to = random.int(from, 7);
  const key = (block: number) => ({ family: 0, a: 0, b: 0, c: 0, d: 0, block });
  const isImage = random.chance(0.5);
  const lsnStart = random.int(1, 100) as Lsn;
  return {
    name: `layer${index}`,
    kind: isImage ? "image" as const : "delta" as const,
    keyMin: key(from),
    keyMax: key(to),
    lsnStart,
    lsnEnd: (isImage ? lsnStart + 1 : lsnStart + random.int(1, 30)) as Lsn,
    size: 1,
    checksum: 0,
    complete: isImage && random.chance(0.8),
    level: 0,
    epoch: 1,
  };
}

/** Flushed three times, with images of the newest. */
async function filled(store = new MemoryStore()): Promise<Twins> {
  const twins = await Twins.open(new SeededRandom(5), { store });
  for (let flush = 0; flush < 3; flush++) {
    await twins.writeRandom(30);
    await twins.flush();
  }
  await twins.makeImages({ everything: true });
  return twins;
}

test("collect() moves the cut-off before anything is deleted, and deletes after the grace time only", async () => {
  const twins = await filled();
  const before = await objectCount(twins);
  const { plan, manifest } = await gc(twins, 0);
  assert.ok(plan.layers.length >= 3);
  assert.is(manifest.cutoffLsn, twins.lsns.at(-1));
  assert.is(manifest.removed.length, plan.layers.length);
  assert.is(await objectCount(twins), before);
  await twins.kept.clock.advance(GRACE_MS - 1);
  assert.is((await gc(twins, 0)).plan.expired.length, 0);
  await twins.kept.clock.advance(1);
  const { manifest: after } = await gc(twins, 0);
  assert.equal(after.removed, []);
  assert.is(await objectCount(twins), before - plan.layers.length);
  assert.ok(isEmptyPlan((await gc(twins, 0)).plan));
  await twins.close();
});

test("readers of an older manifest go on for the grace time, then with the newest, or learn that it is too late", async () => {
  const twins = await filled();
  const { store, clock } = twins.kept;
  const early = twins.lsns[5];
  const latest = twins.lsns.at(-1)!;
  const reader = await attachReader({ store, clock });
  await gc(twins, 0);
  await twins.checkAt(reader.reader, early);
  const cold = await attachReader({ store, clock });
  await twins.writeRandom(20);
  await twins.flush();
  await twins.compact({ everything: true });
  await clock.advance(2 * GRACE_MS);
  await gc(twins, undefined);
  await twins.checkAt(cold.reader, latest);
  const tooLate = await attachReader({ store, clock });
  await assert.rejects(
    tooLate.reader.relationSize({ spc: 1663, db: 5, rel: 16384 }, 0, early),
    LsnCollectedError,
  );
  await Promise.all([reader.close(), cold.close(), tooLate.close(), twins.close()]);
});

test("a pin holds its LSN until it expires", async () => {
  const twins = await filled();
  const { store, clock } = twins.kept;
  const lsn = twins.lsns[40];
  await setPin({ name: "audit", lsn, expiresAtMs: clock.now() + 10 * GRACE_MS }, {
    store,
    clock,
    timeline: "main",
  });
  await gc(twins, 0, { graceMs: 0 });
  const pinned = await attachReader({ store, clock });
  await twins.checkAt(pinned.reader, lsn);
  const missing = twins.lsns[41];
  await assert.rejects(
    pinned.reader.relationSize({ spc: 1663, db: 5, rel: 16384 }, 0, missing),
    LsnCollectedError,
  );
  await assert.rejects(
    setPin({ name: "late", lsn: missing }, { store, clock, timeline: "main" }),
    LsnCollectedError,
  );
  await clock.advance(10 * GRACE_MS);
  const { plan } = await gc(twins, 0, { graceMs: 0 });
  assert.equal(plan.expiredPins, ["audit"]);
  assert.ok(plan.layers.length > 0);
  const after = await attachReader({ store, clock });
  await assert.rejects(
    after.reader.relationSize({ spc: 1663, db: 5, rel: 16384 }, 0, lsn),
    LsnCollectedError,
  );
  await Promise.all([pinned.close(), after.close(), twins.close()]);
});

test("findOrphans() tells what crashes left behind from what is about to be named", async () => {
  const store = new MemoryStore();
  const twins = await filled(store);
  const { clock } = twins.kept;
  const [{ name }] = twins.kept.timeline.layers.layers();
  const made = (epoch: number, unique: number) =>
    name.replace(
      /-[0-9a-f]{8}-[0-9a-f]{8}$/,
      `-${epoch.toString(16).padStart(8, "0")}-${unique.toString(16).padStart(8, "0")}`,
    );
  await store.put(layerKey("main", made(0, 1)), new Uint8Array(10));
  await store.put(layerKey("main", made(1, 2)), new Uint8Array(20));
  await store.put(layerKey("main", "notes.txt"), new Uint8Array(30));
  await store.put(layerKey("unmade", made(1, 3)), new Uint8Array(40));
  const find = (timeline: string, nowMs: number) =>
    findOrphans({ store, timeline, nowMs, graceMs: GRACE_MS });
  const { modifiedMs } = await store.head(layerKey("main", made(1, 2)));
  assert.equal((await find("main", modifiedMs)).map(({ size }) => size), [10]);
  assert.equal((await find("main", modifiedMs + 2 * GRACE_MS)).map(({ size }) => size), [10, 20]);
  assert.equal(await find("unmade", modifiedMs + 2 * GRACE_MS), []);
  assert.equal((await find("unmade", modifiedMs + 200 * GRACE_MS)).map(({ size }) => size), [40]);
  await gc(twins, undefined, { graceMs: GRACE_MS });
  await assert.rejects(store.head(layerKey("main", made(0, 1))));
  await store.head(layerKey("main", "notes.txt"));
  await clock.advance(0);
  await twins.close();
});

test("createBranch() refuses what is taken or out of reach; deleteTimeline() what is needed", async () => {
  const twins = await filled();
  const { store, clock, reader } = twins.kept;
  const lsn = twins.lsns[10];
  const branch = (name: string, at: Lsn, parent = reader) =>
    createBranch({ store, clock, parent, lsn: at, name });
  await branch("test", lsn);
  await assert.rejects(branch("test", lsn), /has one of that name/);
  await assert.rejects(branch("early", TEST_START - 8 as Lsn), LsnCollectedError);
  await assert.rejects(branch("late", twins.lsns.at(-1)! + 8 as Lsn), /has reached/);
  const child = await attachReader({ store, clock, timeline: "test" });
  await branch("grandchild", lsn, child.reader);
  const grandchild = await attachReader({ store, clock, timeline: "grandchild" });
  await twins.checkAt(grandchild.reader, lsn);
  await assert.rejects(deleteTimeline({ store, clock, name: "main" }), /"test" is a branch of it/);
  await assert.rejects(deleteTimeline({ store, clock, name: "test" }), /"grandchild" is a branch of it/);
  assert.equal((await listBranches(store)).map(({ name, ancestor }) => [name, ancestor?.timeline]), [
    ["grandchild", "test"],
    ["main", undefined],
    ["test", "main"],
  ]);
  await deleteTimeline({ store, clock, name: "grandchild" });
  await deleteTimeline({ store, clock, name: "test" });
  assert.equal((await readManifest(store, "main"))!.manifest.branches, []);
  await Promise.all([child.close(), grandchild.close(), twins.close()]);
});

test("a branch of which only the parent knows is forgotten by collection", async () => {
  const twins = await filled();
  const { store, clock } = twins.kept;
  const lsn = twins.lsns[10];
  await updateManifest(store, clock, "main", () => ({ branches: [{ timeline: "never", lsn }] }));
  const { plan, manifest } = await gc(twins, undefined);
  assert.equal(plan.danglingBranches, [{ timeline: "never", lsn }]);
  assert.equal(manifest.branches, []);
  await twins.close();
});

test("planCollection() keeps everything without a policy, and nothing goes without images", async () => {
  const twins = await Twins.open(new SeededRandom(6));
  await twins.writeRandom(40);
  await twins.flush();
  assert.ok(isEmptyPlan((await gc(twins, undefined)).plan));
  const { plan } = await gc(twins, 0);
  assert.equal(plan.layers, []);
  assert.is(plan.cutoffLsn, twins.lsns.at(-1));
  await twins.check(0);
  await twins.close();
});

test("space stays bounded as WAL goes on: images, compaction and collection keep pace", async () => {
  const twins = await Twins.open(new SeededRandom(11));
  const task = new CollectionTask({ retention: { keepWalBytes: 30_000 }, graceMs: 0, intervalMs: 0 });
  const { signal } = new AbortController();
  const bytes: number[] = [];
  for (let flush = 0; flush < 40; flush++) {
    await twins.writeRandom(25);
    await twins.flush();
    await twins.compact({ runsMax: 3 });
    await twins.makeImages();
    await task.run(twins.target, signal);
    const { timeline } = twins.kept;
    assert.ok(twins.lsns.at(-1)! - timeline.cutoffLsn <= 30_000 + 8);
    assert.is(await objectCount(twins), timeline.layers.count);
    bytes.push(timeline.layers.totalBytes);
  }
  const early = Math.max(...bytes.slice(0, 20));
  const late = Math.max(...bytes.slice(20));
  assert.ok(late < 1.5 * early, `${early} bytes at most at first, ${late} later`);
  await twins.close();
});

test("allowedCutoff() keeps what either time or WAL keeps, by the server's commit times", async () => {
  const twins = await filled();
  const { clock, reader, store } = twins.kept;
  const nowMs = clock.now();
  const commit = async (xid: number, agoMs: number) => {
    const main = new Uint8Array(8);
    setU64(main, 0, (nowMs - agoMs - POSTGRES_EPOCH_MS) * 1000);
    const record = recordOf(RM_XACT_ID, XLOG_XACT_COMMIT, [], main);
    setU32(record, 4, xid);
    await twins.write(record);
    return twins.lsns.at(-1)!;
  };
  const allowed = async (keepMs?: number, keepWalBytes?: number) => {
    const { manifest } = (await readManifest(store, "main"))!;
    return await allowedCutoff(reader, manifest, { keepMs, keepWalBytes }, nowMs);
  };
  const [day, hour] = [86_400_000, 3_600_000];
  const old = await commit(900, 10 * day);
  await twins.writeRandom(5);
  const before = twins.lsns.at(-1)!;
  const recent = await commit(901, hour);
  await twins.writeRandom(5);
  await twins.flush();
  const end = twins.lsns.at(-1)!;
  assert.is(await allowed(), TEST_START);
  assert.is(await allowed(undefined, 800), end - 800);
  assert.is(await allowed(day), before);
  assert.is(await allowed(20 * day), TEST_START);
  assert.is(await allowed(hour / 2), recent);
  assert.is(await allowed(day, end - old), old);
  assert.is(await allowed(day, 8), before);
  await twins.close();
});

test("CollectionTask sets the policy, and takes layers out of this process with the commit that removes them", async () => {
  const twins = await filled();
  await twins.writeRandom(10);
  await twins.flush();
  const { clock, timeline, manifest } = twins.kept;
  const before = timeline.layers.count;
  const task = new CollectionTask({ retention: { keepWalBytes: 8 }, graceMs: GRACE_MS });
  const { signal } = new AbortController();
  await task.run(twins.target, signal);
  assert.equal(manifest.manifest.retention, { keepWalBytes: 8 });
  assert.ok(task.counters.collectedLayers > 0);
  assert.is(timeline.layers.count, before - task.counters.collectedLayers);
  assert.is(timeline.layers.count, manifest.manifest.layers.length);
  assert.is(timeline.cutoffLsn, manifest.manifest.cutoffLsn);
  await twins.checkAt(twins.kept.reader, twins.lsns.at(-1)!);
  await task.run(twins.target, signal);
  assert.is(task.counters.runs, 1);
  await clock.advance(GRACE_MS);
  await task.run(twins.target, signal);
  assert.is(task.counters.deletedObjects, task.counters.collectedLayers);
  assert.is(await objectCount(twins), timeline.layers.count);
  await twins.close();
});

test.run();
