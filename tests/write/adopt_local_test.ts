/** Layers that were acknowledged when they were on disk only: no death of a writer loses them. */
import { UnavailableError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { readManifest } from "../../src/timeline/manifest_store.ts";
import { takeOver } from "../../src/varve.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { waitFor } from "../support/wait.ts";
import { TEST_START, WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/adopt_local", { timeoutMs: 10_000 });
const REL = 16384;

/** A writer that died when a layer was on its disk and not in the store. */
async function diedBeforeUpload(): Promise<
  { store: BentStore; local: MemoryLocalLayers; acknowledged: Lsn }
> {
  const store = new BentStore();
  const local = new MemoryLocalLayers();
  const written = await WrittenTimeline.open({ store, local });
  await written.writeOne(imageRecord({ block: 0, image: filledPage(0x11) }));
  await written.flush();
  const acknowledged = await written.writeOne(imageRecord({ block: 0, image: filledPage(0x22) }));
  store.before = (method, key) => {
    if (method === "put" && key.includes("/layers/")) throw new UnavailableError("The store is away");
  };
  written.flusher.flushAll().catch(() => {});
  await waitFor(() => written.timeline.diskConsistentLsn === acknowledged, { what: "the layer is on disk" });
  assert.ok(written.timeline.remoteConsistentLsn < acknowledged);
  await written.close();
  store.comeBack();
  return { store, local, acknowledged };
}

async function claim(store: BentStore, local: MemoryLocalLayers) {
  const clock = new ManualClock();
  clock.random = Math.random;
  return await takeOver({ store, local, clock }, (await readManifest(store.below, "main"))!);
}

test("takeOver() brings to the store what was on disk only", async () => {
  const { store, local, acknowledged } = await diedBeforeUpload();
  const { manifest } = await claim(store, local);
  assert.equal([manifest.epoch, manifest.diskConsistentLsn, manifest.layers.length], [2, acknowledged, 2]);
  const again = await WrittenTimeline.open({ store });
  assert.is((await again.page(REL, 0))[200], 0x22);
  await again.close();
});

test("takeOver() that dies at any call of the store loses nothing that was acknowledged", async () => {
  for (let call = 0;; call++) {
    const { store, local, acknowledged } = await diedBeforeUpload();
    for (const when of ["before", "after"] as const) {
      let calls = 0;
      store[when] = () => {
        if (calls++ === call) throw new UnavailableError("The store is away");
      };
      // It may succeed all the same, when what failed was told to be done.
      await claim(store, local).catch(() => {});
      store.comeBack();
      if (calls <= call && when === "after") return assert.ok(call > 1);
    }
    const { manifest } = await claim(store, local);
    assert.ok(manifest.diskConsistentLsn >= acknowledged, `died at call ${call}`);
    assert.is(manifest.layers.length, 2);
  }
});

test("takeOver() leaves alone what another writer has gone beyond", async () => {
  const { store, local } = await diedBeforeUpload();
  // Another machine takes over, and writes its own continuation.
  const other = await WrittenTimeline.open({ store });
  const end = await other.writeOne(imageRecord({ block: 0, image: filledPage(0x33) }));
  await other.flush();
  await other.close();
  const { manifest } = await claim(store, local);
  assert.equal([manifest.epoch, manifest.diskConsistentLsn], [3, end]);
  const again = await WrittenTimeline.open({ store });
  assert.is((await again.page(REL, 0))[200], 0x33);
  assert.ok(end > TEST_START);
  await again.close();
});

test.run();
