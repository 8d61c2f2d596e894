/** Upkeep among others: broken off at every step, as a guest, over a store that goes away, paced. */
import { FencedError, PreconditionFailedError, UnavailableError } from "../../src/errors.ts";
import { systemClock } from "../../src/flow/system_clock.ts";
import type { FaultPoint } from "../../src/ports/fault_points.ts";
import { attachReader } from "../../src/read/attach.ts";
import { ManifestWriter, readManifest } from "../../src/timeline/manifest_store.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { makeImages } from "../../src/upkeep/images.ts";
import { Pacer } from "../../src/upkeep/pacer.ts";
import { UpkeepLoop } from "../../src/upkeep/upkeep_loop.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { SeededRandom } from "../support/random.ts";
import { waitFor } from "../support/wait.ts";
import { SMALL, Twins } from "./twins.ts";

const test = suite("upkeep/loop", { timeoutMs: 240_000 });

/** Twins with some flushes. */
async function flushed(store: BentStore, flushes = 5, seed = 7): Promise<Twins> {
  const twins = await Twins.open(new SeededRandom(seed), { store });
  for (let flush = 0; flush < flushes; flush++) {
    await twins.writeRandom(25);
    await twins.flush();
  }
  return twins;
}

async function layerObjects(store: BentStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.below.list("timelines/main/layers/")) keys.push(key.split("/").at(-1)!);
  return keys;
}

test("upkeep that is broken off at any step leaves what the manifest names, and can be done again", async () => {
  class Killed extends Error {}
  const points: FaultPoint[] = [
    "layer-before-upload",
    "layer-after-upload",
    "compact-before-commit",
    "compact-after-commit",
  ];
  for (const work of [compact, makeImages]) {
    for (const point of points) {
      for (const nth of [1, 2]) {
        const store = new BentStore();
        const twins = await flushed(store);
        const { attached, clock, manifest } = twins.kept;
        let passed = 0;
        const faults = (each: FaultPoint) => {
          if (each === point && ++passed === nth) throw new Killed();
        };
        const options = { ...SMALL, everything: true };
        const killed = await work(
          UpkeepTarget.ofWriter({ attached, store, clock, faults }, manifest),
          options,
        )
          .then(() => false, (error) => {
            if (!(error instanceof Killed)) throw error;
            return true;
          });
        // Compaction commits once.
        if (!killed) {
          assert.ok(work === compact && nth === 2 && point.startsWith("compact-"), `${point} ${nth}`);
        }
        const named = (await readManifest(store, "main"))!.manifest.layers.map(({ name }) => name);
        const objects = await layerObjects(store);
        assert.equal(named.filter((name) => !objects.includes(name)), []);
        await twins.check(2);
        await work(UpkeepTarget.ofWriter({ attached, store, clock }, manifest), options);
        await twins.check(2);
        await twins.close();
      }
    }
  }
});

test("a guest compacts and makes images while a writer goes on; both go by one manifest then", async () => {
  const store = new BentStore();
  const twins = await flushed(store);
  const { clock } = twins.kept;
  const attached = await attachReader({ store, clock });
  const guest = UpkeepTarget.ofGuest({ attached, store, clock });
  // The writer flushes while the guest is at work.
  await twins.writeRandom(25);
  let flushes = 0;
  store.before = async (method, key) => {
    if (method !== "put" || !key.includes("/layers/") || flushes++ > 0) return;
    await twins.flush();
  };
  const done = await compact(guest, { ...SMALL, everything: true });
  store.before = () => {};
  assert.is(done!.runs, 5);
  const made = await makeImages(guest, { ...SMALL, everything: true });
  assert.ok(made!.images > 0);
  await twins.check();
  // The writer's next commit tells it of the guest's.
  await twins.writeRandom(25);
  await twins.flush();
  const { manifest } = (await readManifest(store, "main"))!;
  assert.equal(
    manifest.layers.map(({ name }) => name).sort(),
    twins.kept.timeline.layers.layers().map(({ name }) => name).sort(),
  );
  assert.ok(manifest.layers.some(({ level }) => level === 1));
  await twins.check();
  await attached.close();
  await twins.close();
});

test("two that compact the same: the second gives up and leaves nothing named twice", async () => {
  const store = new BentStore();
  const twins = await flushed(store);
  const { clock } = twins.kept;
  const attached = await attachReader({ store, clock });
  const guest = UpkeepTarget.ofGuest({ attached, store, clock });
  await twins.compact({ everything: true });
  await assert.rejects(() => compact(guest, { ...SMALL, everything: true }), PreconditionFailedError);
  await twins.check();
  await attached.close();
  await twins.close();
});

test("a guest gives up when a writer has taken over", async () => {
  const store = new BentStore();
  const twins = await flushed(store);
  const { clock } = twins.kept;
  const attached = await attachReader({ store, clock });
  const guest = UpkeepTarget.ofGuest({ attached, store, clock });
  await ManifestWriter.claim(store, clock, (await readManifest(store, "main"))!);
  await assert.rejects(() => compact(guest, { ...SMALL, everything: true }), FencedError);
  await attached.close();
  await twins.close();
});

test("UpkeepLoop follows flushes, keeps runs few, makes images, and tries again when the store has been away", async () => {
  const store = new BentStore();
  const twins = await flushed(store, 2);
  const { attached, manifest } = twins.kept;
  const messages: string[] = [];
  const loop = new UpkeepLoop(
    UpkeepTarget.ofWriter({
      attached,
      store,
      clock: systemClock,
      events: ({ topic }) => void messages.push(topic),
    }, manifest),
    { ...SMALL, runsMax: 2, intervalMs: 100_000 },
  );
  loop.start();
  await waitFor(() => loop.isIdle, { what: "upkeep has looked", timeoutMs: 60_000 });
  assert.is(loop.counters.compactions, 0);
  for (let flush = 0; flush < 8; flush++) {
    await twins.writeRandom(25);
    await twins.flush();
  }
  await waitFor(() => loop.isIdle, { what: "upkeep is done", timeoutMs: 60_000 });
  assert.ok(loop.counters.compactions > 0);
  assert.ok(loop.counters.imageLayers > 0);
  assert.ok(loop.writeAmplification! > 1);
  assert.is(loop.counters.flushedLayers, 8);
  // Away for a moment, for layers only: the flush itself comes through.
  let refused = 0;
  store.before = (method) => {
    if (method === "getRange" && refused++ < 1) throw new UnavailableError("The store is away");
  };
  for (let flush = 0; flush < 4; flush++) {
    // Nothing that ingest needs older values for.
    for (let block = 0; block < 8; block++) {
      await twins.write(imageRecord({ block, image: filledPage(flush * 8 + block + 1) }));
    }
    await twins.flush();
  }
  await waitFor(() => loop.isIdle && refused > 1, { what: "upkeep is done again", timeoutMs: 60_000 });
  assert.is(loop.counters.failures, 1);
  assert.ok(messages.includes("upkeep.failed"));
  await loop.stop();
  await twins.check();
  await twins.close();
});

test("UpkeepLoop.stop() breaks off what is under way", async () => {
  const store = new BentStore();
  const twins = await flushed(store, 8);
  const { attached, manifest } = twins.kept;
  const reached = deferred();
  store.before = async (method, _key, signal) => {
    if (method !== "getRange") return;
    reached.resolve();
    await new Promise((_, reject) => signal!.addEventListener("abort", () => reject(signal!.reason)));
  };
  const loop = new UpkeepLoop(
    UpkeepTarget.ofWriter({ attached, store, clock: systemClock }, manifest),
    SMALL,
  );
  loop.start();
  await reached.promise;
  await loop.stop();
  store.comeBack();
  assert.is(loop.counters.compactions, 0);
  await twins.check();
  await twins.close();
});

test("Pacer pauses in proportion to what was worked, and stands still while others are behind", async () => {
  const clock = new ManualClock();
  clock.autoAdvance = true;
  let [busy, behind] = [false, 0];
  const pacer = new Pacer({
    clock,
    busyShare: 0.2,
    isBusy: () => busy,
    isBehind: () => behind-- > 0,
  });
  assert.is(pacer.pause(), undefined);
  await clock.sleep(10);
  await pacer.pause();
  busy = true;
  await clock.sleep(10);
  await pacer.pause();
  behind = 3;
  await clock.sleep(10);
  await pacer.pause();
  assert.equal(clock.sleeps, [10, 0, 10, 40, 10, 40, 20, 20, 20]);
});

test.run();
