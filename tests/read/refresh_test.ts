/** Readers that are open for long: they take over what others have committed, when told, every so often, or when they must. */
import { LsnNotReachedError, NotFoundError } from "../../src/errors.ts";
import { attachReader } from "../../src/read/attach.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { setPin } from "../../src/upkeep/pins.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, pageRecord, SPC } from "../support/made_wal.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/refresh");

const RELATION = { spc: SPC, db: DB, rel: 16384 };

async function written(): Promise<WrittenTimeline> {
  const timeline = await WrittenTimeline.open();
  await timeline.write(pageRecord({ block: 0, put: [1], init: true }));
  await timeline.flush();
  return timeline;
}

test("refresh() lets a reader see what was flushed since, and leaves the past as it was", async () => {
  const writer = await written();
  const { store, clock } = writer;
  const attached = await attachReader({ store, clock });
  const first = attached.timeline.lastRecordLsn;
  const before = await attached.reader.getPage(RELATION, 0, 0, first);
  const second = await writer.writeOne(pageRecord({ block: 0, put: [2] }));
  await writer.flush();
  await assert.rejects(attached.reader.getPage(RELATION, 0, 0, second), LsnNotReachedError);
  const waiting = attached.timeline.waitForRecord(second);
  assert.is((await attached.refresh()).diskConsistentLsn, second);
  await waiting;
  assert.is((await attached.reader.getPage(RELATION, 0, 0, second))[100], 2);
  assert.equal(await attached.reader.getPage(RELATION, 0, 0, first), before);
  assert.is(attached.manifest.diskConsistentLsn, second);
  await attached.close();
  await writer.close();
});

test("refreshMs: a reader refreshes by itself, and stops with close()", async () => {
  const writer = await written();
  const { store, clock } = writer;
  const attached = await attachReader({ store, clock, refreshMs: 5000 });
  const second = await writer.writeOne(pageRecord({ block: 0, put: [2] }));
  await writer.flush();
  const reached = attached.timeline.waitForRecord(second);
  await clock.advance(5000);
  await reached;
  assert.is((await attached.reader.getPage(RELATION, 0, 0, second))[100], 2);
  const { sleeping } = clock;
  await attached.close();
  assert.is(clock.sleeping, sleeping - 1);
  await writer.close();
});

test("a reader whose layer is gone refreshes once, and tells what is missing if that does not help", async () => {
  const writer = await written();
  const { store, clock } = writer;
  const attached = await attachReader({ store, clock });
  const lsn = attached.timeline.lastRecordLsn;
  const [{ name }] = attached.timeline.layers.layers();
  await store.delete(layerKey("main", name));
  await assert.rejects(attached.reader.getPage(RELATION, 0, 0, lsn), (error: Error) => {
    return error instanceof NotFoundError && error.message.includes(name);
  });
  await attached.close();
  await writer.close();
});

test("a writer learns of pins and layers of guests with its own next commit, or by refresh()", async () => {
  const writer = await written();
  const { store, clock, timeline, attached } = writer;
  const lsn = timeline.lastRecordLsn;
  await setPin({ name: "guest", lsn }, { store, clock, timeline: "main" });
  assert.is(timeline.view().heldLsns.size, 0);
  await writer.writeOne(pageRecord({ block: 0, put: [2] }));
  await writer.flush();
  assert.equal([...timeline.view().heldLsns], [lsn]);
  assert.is((await readManifest(store, "main"))!.manifest.pins.length, 1);
  const gone = timeline.layers.layers()[0];
  await updateManifest(store, clock, "main", ({ layers }) => ({
    layers: layers.filter(({ name }) => name !== gone.name),
  }));
  await attached.refresh();
  assert.is(timeline.layers.get(gone.name), undefined);
  assert.is(timeline.layers.count, 1);
  await writer.close();
});

test.run();
