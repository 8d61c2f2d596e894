/** The flush: order of layer and manifest, stores that go away at every step, fencing, age, stopping. */
import { FencedError, UnavailableError, VarveError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { ManifestWriter, readManifest } from "../../src/timeline/manifest_store.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { createRecord, filledPage, imageRecord, pageRecord } from "../support/made_wal.ts";
import { settle } from "../support/manual_clock.ts";
import { waitFor } from "../support/wait.ts";
import { TEST_START, WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/flush", { timeoutMs: 10_000 });
const REL = 16384;
const LAYERS = "/layers/";
const MANIFEST = "manifest.json";
const AGE_OF_NEVER = 1e12;

const image = (block: number) => imageRecord({ block, image: filledPage(0x10 + block) });
const stored = async (written: WrittenTimeline) => (await readManifest(written.store, "main"))!.manifest;
const layerKeys = async (store: BentStore) => {
  const keys: string[] = [];
  for await (const { key } of store.below.list("timelines/main/layers/")) keys.push(key);
  return keys;
};

/** A timeline over a bent store, with one record in it. */
async function withOneRecord(): Promise<{ written: WrittenTimeline; store: BentStore; end: Lsn }> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store, flusher: { flushIntervalMs: AGE_OF_NEVER } });
  const end = await written.writeOne(image(0));
  return { written, store, end };
}

/** Flushes while time passes. */
async function flushInTime(written: WrittenTimeline): Promise<void> {
  let isDone = false;
  const flushing = written.flush().finally(() => isDone = true);
  flushing.catch(() => {});
  for (let turns = 0; !isDone && turns < 1000; turns++) {
    await new Promise((resolve) => setTimeout(resolve));
    if (!isDone) await written.clock.advance(15_000);
  }
  await flushing;
}

test("Flusher puts the layer before the manifest that names it, and only then is WAL durable", async () => {
  const { written, store, end } = await withOneRecord();
  const from = store.calls.length;
  const durable: Lsn[] = [];
  store.before = () => void durable.push(written.timeline.remoteConsistentLsn);
  await written.flush();
  assert.equal(
    store.calls.slice(from).map(({ method, key }) => `${method} ${key.includes(LAYERS) ? "layer" : key}`),
    ["put layer", `put timelines/main/${MANIFEST}`],
  );
  assert.equal(durable, [TEST_START, TEST_START]);
  assert.is(written.timeline.remoteConsistentLsn, end);
  assert.is((await stored(written)).diskConsistentLsn, end);
  assert.is(written.timeline.frozen.length, 0);
  await written.close();
});

for (const step of [LAYERS, MANIFEST]) {
  for (const when of ["before", "after"] as const) {
    const what = `${step === LAYERS ? "the layer" : "the manifest"} ${
      when === "before" ? "is not" : "is"
    } written`;
    test(`Flusher tries again until the store answers: ${what}, no answer comes`, async () => {
      const { written, store, end } = await withOneRecord();
      let failures = 0;
      store[when] = (method, key) => {
        if (method === "put" && key.includes(step) && failures++ < 4) throw new UnavailableError("No answer");
      };
      await flushInTime(written);
      const { layers, diskConsistentLsn } = await stored(written);
      assert.is(diskConsistentLsn, end);
      assert.is(layers.length, 1, "one line");
      assert.is(new Set(store.keysOf("put", LAYERS)).size, 1, "one name");
      assert.is((await layerKeys(store)).length, 1);
      assert.is(written.timeline.layers.count, 1);
      await written.writeOne(image(1));
      await flushInTime(written);
      assert.is((await stored(written)).layers.length, 2);
      await written.close();
    });
  }
}

test("Flusher is not fenced by its own commit when the whole store goes away after it", async () => {
  const { written, store, end } = await withOneRecord();
  let callsAway = 0;
  store.after = (method, key) => {
    if (method !== "put" || !key.includes(MANIFEST)) return;
    // The commit happens; its answer and the next five calls are lost.
    store.after = () => {};
    store.before = () => {
      if (++callsAway <= 5) throw new UnavailableError("Away");
    };
    throw new UnavailableError("No answer");
  };
  await flushInTime(written);
  assert.ok(callsAway > 5);
  const manifest = await stored(written);
  assert.equal([manifest.diskConsistentLsn, manifest.layers.length], [end, 1]);
  await written.close();
});

test("Flusher writes a layer once, however often its commit is tried", async () => {
  const { written, store } = await withOneRecord();
  let failures = 0;
  store.before = (method, key) => {
    if (method === "put" && key.includes(MANIFEST) && failures++ < 5) throw new UnavailableError("No answer");
  };
  await flushInTime(written);
  assert.is(failures, 6);
  assert.is(store.keysOf("put", LAYERS).length, 1);
  await written.close();
});

test("Flusher waits longer and longer, and no longer than 15 s", async () => {
  const { written, store } = await withOneRecord();
  let failures = 0;
  store.before = (method) => {
    if (method === "put" && failures++ < 30) throw new UnavailableError("No answer");
  };
  await flushInTime(written);
  const sleeps = written.clock.sleeps.filter((ms) => ms < AGE_OF_NEVER);
  assert.is(sleeps.length, 30);
  assert.ok(sleeps[0] <= 100 && sleeps[0] >= 50);
  assert.ok(sleeps.every((ms) => ms <= 15_000));
  assert.ok(sleeps[29] >= 7_500);
  await written.close();
});

test("Flusher commits what holds no value as progress, without a layer", async () => {
  const { written, store } = await withOneRecord();
  await written.flush();
  // No effect that is new: it exists already.
  const end = await written.writeOne(createRecord(REL));
  await written.flush();
  assert.is(store.keysOf("put", LAYERS).length, 1);
  assert.is((await stored(written)).diskConsistentLsn, end);
  assert.is(written.timeline.remoteConsistentLsn, end);
  await written.close();
});

test("Flusher stops for good when it is fenced, and acknowledges nothing more", async () => {
  const { written, store } = await withOneRecord();
  const failures: unknown[] = [];
  written.flusher.onFailure = (error) => failures.push(error);
  await ManifestWriter.claim(store.below, written.clock, (await readManifest(store.below, "main"))!);
  const durable = written.timeline.waitForDurable(written.timeline.lastRecordLsn);
  durable.catch(() => {});
  await assert.rejects(written.flush(), FencedError);
  assert.is(failures.length, 1);
  assert.raises(() => written.flusher.throwIfFailed(), FencedError);
  await assert.rejects(written.flusher.waitForRoom(), FencedError);
  await assert.rejects(written.flusher.flushAll(), FencedError);
  await assert.rejects(durable, FencedError);
  assert.is(written.timeline.remoteConsistentLsn, TEST_START);
  assert.is((await stored(written)).diskConsistentLsn, TEST_START);
  const calls = store.calls.length;
  written.timeline.freeze();
  written.flusher.kick();
  await settle();
  assert.is(store.calls.length, calls);
  // What is in memory can still be read.
  assert.is((await written.page(REL, 0))[200], 0x10);
  await written.close();
});

test("Flusher.waitForRoom() rejects when the store refuses", async () => {
  const { written, store } = await withOneRecord();
  store.before = (method) => {
    if (method === "put") throw new VarveError("STORE_DENIED", "Read-only");
  };
  written.flusher.start();
  written.timeline.freeze();
  const waiting = written.flusher.waitForRoom();
  written.flusher.kick();
  await assert.rejects(waiting, /Read-only/);
  await written.close();
});

test("Flusher flushes what is old, and nothing when nothing came", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store, flusher: { flushIntervalMs: 60_000 } });
  written.flusher.start();
  await written.clock.advance(200_000);
  assert.is(store.keysOf("put").length, 1, "the timeline's first manifest");
  const end = await written.writeOne(image(0));
  await written.clock.advance(59_000 - 200_000 % 60_000);
  assert.is(written.timeline.remoteConsistentLsn, TEST_START);
  await written.clock.advance(1_000);
  await written.timeline.waitForDurable(end);
  await waitFor(() => written.clock.sleeping === 1, { what: "the next age is waited for" });
  await written.close();
  assert.is(written.clock.sleeping, 0);
});

test("Flusher.flushSoon() makes durable what is there, and what comes up to the LSN", async () => {
  const { written } = await withOneRecord();
  written.flusher.start();
  const first = written.timeline.lastRecordLsn;
  const beyond = first + 40 as Lsn;
  for (let again = 0; again < 100; again++) written.flusher.flushSoon(beyond);
  await written.timeline.waitForDurable(first);
  const end = await written.writeOne(pageRecord({ block: 0, put: [1] }));
  assert.ok(end >= beyond);
  await written.timeline.waitForDurable(end);
  await written.close();
});

test("Flusher.stop() ends at once while the store is away, and leaves no timer", async () => {
  const { written, store } = await withOneRecord();
  store.goAway();
  written.flusher.start();
  const all = written.flusher.flushAll();
  all.catch(() => {});
  await waitFor(() => written.clock.sleeping === 1, { what: "a pause before the next try" });
  await written.flusher.stop();
  await assert.rejects(all, (error) => error.name === "AbortError");
  assert.is(written.clock.sleeping, 0);
  await written.close();
});

test("Flusher.stop() breaks off a put that hangs, and the next writer starts from the manifest", async () => {
  const { written, store } = await withOneRecord();
  store.before = (_method, _key, signal) =>
    new Promise((_, reject) => signal!.addEventListener("abort", () => reject(signal!.reason)));
  written.flusher.start();
  const all = written.flusher.flushAll();
  all.catch(() => {});
  await settle();
  await written.close();
  await assert.rejects(all);
  store.comeBack();
  const again = await WrittenTimeline.open({ store });
  assert.is(again.timeline.lastRecordLsn, TEST_START);
  await again.writeOne(image(0));
  await again.flush();
  assert.is((await again.page(REL, 0))[200], 0x10);
  await again.close();
});

test("Flusher started with a signal that has fired already does nothing", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({
    store,
    flusher: { signal: AbortSignal.abort(new Error("too late")) },
  });
  await written.writeOne(image(0));
  await assert.rejects(written.flush(), /too late/);
  assert.is(store.keysOf("put", LAYERS).length, 0);
  await written.close();
});

test("TimelineReader sees one state all through a read while a flush swaps layers", async () => {
  const { written } = await withOneRecord();
  const lsns: Lsn[] = [written.timeline.lastRecordLsn];
  for (let value = 1; value <= 30; value++) {
    lsns.push(await written.writeOne(pageRecord({ block: 0, put: [value] })));
    if (value % 3 === 0) written.timeline.freeze();
  }
  written.flusher.start();
  const flushing = written.flusher.flushAll();
  for (let round = 0; round < 5; round++) {
    const pages = await Promise.all(lsns.map((at) => written.page(REL, 0, at)));
    assert.equal(pages.map((page) => page[100]), [0x10, ...Array.from({ length: 30 }, (_, i) => i + 1)]);
  }
  await flushing;
  assert.is(written.timeline.layers.count, 10);
  assert.is((await written.page(REL, 0))[100], 30);
  await written.close();
});

test.run();
