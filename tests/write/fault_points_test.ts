/** Fault points: passed in their order, and what is thrown at one ends what was being done, with nothing half done. */
import type { FaultPoint } from "../../src/ports/fault_points.ts";
import { attachReader } from "../../src/read/attach.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { createBranch } from "../../src/upkeep/branch.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { takeOver } from "../../src/varve.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/fault points", { timeoutMs: 10_000 });

const image = imageRecord({ block: 0, image: filledPage(0x11) });

/** Notes points as they are passed. */
function noting(): { passed: FaultPoint[]; faults: (point: FaultPoint) => void } {
  const passed: FaultPoint[] = [];
  return { passed, faults: (point) => void passed.push(point) };
}

for (const local of [undefined, new MemoryLocalLayers()]) {
  test(`a flush passes its points in order, ${local === undefined ? "without" : "with"} local copies`, async () => {
    const { passed, faults } = noting();
    const written = await WrittenTimeline.open({ local, flusher: { faults } });
    await written.writeOne(image);
    await written.flush();
    assert.equal(passed, [
      "flush-before-layer",
      ...(local === undefined ? [] : ["layer-after-local"]),
      "layer-before-upload",
      "layer-after-upload",
      "flush-before-commit",
      "flush-after-commit",
    ]);
    await written.close();
  });
}

test("a claim, a branch and a collection pass theirs", async () => {
  const { passed, faults } = noting();
  const written = await WrittenTimeline.open();
  await written.writeOne(image);
  await written.flush();
  await written.close();
  const { store } = written;
  const clock = new ManualClock();
  const claimed = await takeOver({ store, clock, faults }, (await readManifest(store, "main"))!);
  assert.equal(passed.splice(0), ["claim-before-commit", "claim-after-commit"]);
  const attached = await attachReader({ store, clock });
  const { reader: parent, manifest } = attached;
  const lsn = claimed.manifest.diskConsistentLsn;
  await createBranch({ store, clock, parent, lsn, name: "b", faults });
  assert.equal(passed.splice(0), ["branch-before-parent", "branch-before-child", "branch-after-child"]);
  await updateManifest(store, clock, "main", () => ({ removed: [{ name: "none", size: 1, atMs: 0 }] }));
  const options = { store, clock, reader: parent, faults };
  const plan = await planCollection(await attached.refresh(), options);
  await collect(plan, (edit) => updateManifest(store, clock, "main", edit), options);
  assert.equal(passed, [
    "gc-before-cutoff",
    "gc-after-cutoff",
    "gc-before-delete",
    "gc-after-delete",
    "gc-after-forget",
  ]);
  assert.is(manifest.timeline, "main");
  await attached.close();
});

test("what is thrown at a point before the commit leaves nothing acknowledged", async () => {
  const written = await WrittenTimeline.open({
    flusher: {
      faults: (point) => {
        if (point === "flush-before-commit") throw new TypeError("Broken off");
      },
    },
  });
  const before = written.timeline.remoteConsistentLsn;
  await written.writeOne(image);
  await assert.rejects(written.flush(), /Broken off/);
  assert.is(written.timeline.remoteConsistentLsn, before);
  assert.equal((await readManifest(written.store, "main"))!.manifest.layers, []);
  await written.close();
});

test.run();
