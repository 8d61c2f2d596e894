/** What can be restored, from a manifest and a listing. */
import { type Lsn, lsn } from "../../src/lsn.ts";
import { formatLayerName } from "../../src/layer/layer_name.ts";
import { findMissingLayers, recoverableWindow } from "../../src/restore/window.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("restore/window");

const KEY = { family: 0, a: 1663, b: 5, c: 16384, d: 0, block: 0 };

function layer(lsnStart: number, lsnEnd: number) {
  const name = formatLayerName({
    kind: "delta",
    keyMin: KEY,
    keyMax: KEY,
    lsnStart: lsn(lsnStart),
    lsnEnd: lsn(lsnEnd),
    epoch: 1,
    unique: lsnStart,
  });
  return { name, size: 100, checksum: 0, complete: false, level: 0 };
}

const MANIFEST = {
  timeline: "main",
  consistentLsn: lsn(1000),
  cutoffLsn: lsn(1000),
  diskConsistentLsn: lsn(4000),
  layers: [layer(500, 2001), layer(2001, 3001), layer(3001, 4001)],
};

test("recoverableWindow() reaches from the backup's end, or the cut-off, to what is durable", () => {
  assert.equal([recoverableWindow(MANIFEST).from, recoverableWindow(MANIFEST).to], [1000, 4000]);
  assert.is(recoverableWindow({ ...MANIFEST, cutoffLsn: lsn(2500) }).from, 2500);
});

test("recoverableWindow() promises nothing before the backup's end is durable", () => {
  const { from, to, reason } = recoverableWindow({ ...MANIFEST, diskConsistentLsn: lsn(900) });
  assert.equal([from, to], [undefined, undefined]);
  assert.match(reason, /not durable/);
});

test("recoverableWindow() ends before the first layer that the store lacks", async () => {
  const store = new MemoryStore();
  const put = (index: number, size = 100) =>
    store.put(layerKey("main", MANIFEST.layers[index].name), new Uint8Array(size));
  await put(0);
  await put(1, 99);
  const missing = await findMissingLayers(store, MANIFEST);
  assert.equal(missing.map((each) => [each.from, each.to]), [[2001, 3000], [3001, 4000]], "a cut one counts");
  assert.equal([recoverableWindow(MANIFEST, missing).from, recoverableWindow(MANIFEST, missing).to], [
    1000,
    2000,
  ]);
  await put(1);
  await put(2);
  assert.equal(await findMissingLayers(store, MANIFEST), []);
});

test("recoverableWindow() is empty where a layer that all LSNs rest on is missing", () => {
  const missing = [{ object: "x", from: lsn(500), to: 2000 as Lsn }];
  assert.is(recoverableWindow(MANIFEST, missing).to, undefined);
});

test.run();
