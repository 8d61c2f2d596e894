/** Local copies of layers: one download for all, damage and loss behind our back, full disks, closing. */
import { CorruptionError, UnavailableError } from "../../src/errors.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import { LayerFiles } from "../../src/read/layer_files.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { settle } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/layer_files", { timeoutMs: 10_000 });

interface Setting {
  store: BentStore;
  local: MemoryLocalLayers;
  files: LayerFiles;
  layer: LayerDescriptor;
  bytes: Uint8Array;
}

/** One layer in a store, nothing local. */
async function oneLayer(): Promise<Setting> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  await written.write(...[0, 1, 2].map((block) => imageRecord({ block, image: filledPage(block + 1) })));
  await written.flush();
  const [layer] = written.timeline.layers.layers();
  await written.close();
  const { bytes } = await store.get(layerKey("main", layer.name));
  store.calls.length = 0;
  const local = new MemoryLocalLayers();
  return {
    store,
    local,
    layer,
    bytes,
    files: new LayerFiles({ timeline: "main", store, local, hotShare: 0 }),
  };
}

/** Whether a source gives the layer's bytes. */
async function reads(setting: Setting, signal?: AbortSignal): Promise<boolean> {
  const { files, layer, bytes } = setting;
  const got = await files.source(layer).readRange(10, 100, signal);
  return got.length === 100 && got.every((byte, index) => byte === bytes[10 + index]);
}

test("LayerFiles without local copies reads ranges from the store", async () => {
  const { store, layer } = await oneLayer();
  const files = new LayerFiles({ timeline: "main", store });
  assert.is((await files.source(layer).readRange(10, 100)).length, 100);
  const { downloads, rangeRequests, rangeBytes } = files.counters;
  assert.equal([downloads, rangeRequests, rangeBytes], [0, 1, 100]);
  assert.not.ok(await files.source(layer).discardCopy());
  await files.close();
});

test("LayerFiles downloads a layer once for all who read it", async () => {
  const setting = await oneLayer();
  const { store, files, layer, local } = setting;
  const all = await Promise.all(Array.from({ length: 50 }, () => reads(setting)));
  assert.ok(all.every((right) => right));
  assert.is(store.keysOf("getStream").length, 1);
  assert.is(local.opens, 1);
  assert.equal([files.residentBytes, files.residentCount, files.isResident(layer.name)], [
    layer.size,
    1,
    true,
  ]);
  await files.close();
  assert.is(local.openHandles, 0);
});

test("LayerFiles shares a download's failure with all, and the next read tries again", async () => {
  const setting = await oneLayer();
  const { store, files, local } = setting;
  store.goAway();
  const all = await Promise.allSettled(Array.from({ length: 10 }, () => reads(setting)));
  assert.ok(all.every((one) => one.status === "rejected" && one.reason instanceof UnavailableError));
  assert.is(store.calls.length, 1);
  assert.is(files.residentBytes, 0);
  store.comeBack();
  assert.ok(await reads(setting));
  assert.is(local.temporary.size, 0);
  await files.close();
});

test("LayerFiles leaves no temporary copy when a download breaks off, and refuses another size", async () => {
  const setting = await oneLayer();
  const { store, files, layer, local } = setting;
  const getStream = store.getStream.bind(store);
  store.getStream = async (...args) => {
    const { size, body } = await getStream(...args);
    const reader = body.getReader();
    let isFirst = true;
    return {
      size,
      body: new ReadableStream({
        async pull(controller) {
          if (!isFirst) return controller.error(new UnavailableError("cut off"));
          isFirst = false;
          controller.enqueue((await reader.read()).value!.subarray(0, 100));
        },
      }),
    };
  };
  await assert.rejects(reads(setting), /cut off/);
  assert.equal([local.temporary.size, local.files.size, files.residentBytes], [0, 0, 0]);
  store.getStream = getStream;
  await assert.rejects(files.source({ ...layer, size: layer.size + 1 }).readRange(0, 10), CorruptionError);
  assert.ok(await reads(setting));
  await files.close();
  assert.is(local.openHandles, 0);
});

test("LayerFiles: a reader that gives up leaves the download to the others", async () => {
  const setting = await oneLayer();
  const { store, files } = setting;
  const answer = deferred();
  store.before = () => answer.promise;
  const controller = new AbortController();
  const impatient = reads(setting, controller.signal);
  const patient = reads(setting);
  await settle();
  controller.abort(new Error("enough"));
  await assert.rejects(impatient, /enough/);
  answer.resolve();
  assert.ok(await patient);
  assert.is(store.keysOf("getStream").length, 1);
  await files.close();
});

test("LayerFiles opens a copy again after opening has failed once", async () => {
  const setting = await oneLayer();
  const { files, local, layer, store, bytes } = setting;
  local.files.set(layer.name, bytes.slice());
  await files.adopt([layer]);
  let failures = 1;
  local.before = (method) => {
    if (method === "open" && failures-- > 0) throw new TypeError("Too many open files");
  };
  assert.ok(await reads(setting), "the store serves meanwhile");
  assert.ok(await reads(setting));
  assert.is(store.keysOf("getStream").length, 0);
  await files.close();
  assert.is(local.openHandles, 0);
});

test("LayerFiles downloads anew what vanished or was cut behind its back", async () => {
  for (const damage of [() => undefined, (bytes: Uint8Array) => bytes.slice(0, -1)]) {
    const setting = await oneLayer();
    const { files, local, layer, bytes } = setting;
    local.files.set(layer.name, bytes.slice());
    await files.adopt([layer]);
    const left = damage(bytes);
    if (left === undefined) local.files.delete(layer.name);
    else local.files.set(layer.name, left);
    const all = await Promise.all(Array.from({ length: 5 }, () => reads(setting)));
    assert.ok(all.every((right) => right));
    assert.is(files.counters.downloads, 1);
    assert.is(local.files.get(layer.name)?.length, layer.size);
    await files.close();
    assert.is(local.openHandles, 0);
  }
});

test("LayerFileSource.discardCopy() drops the copy that was read, once, while others still read it", async () => {
  const setting = await oneLayer();
  const { files, local, layer, store } = setting;
  const [first, second, slow] = [files.source(layer), files.source(layer), files.source(layer)];
  await first.readRange(0, 10);
  await second.readRange(0, 10);
  const reading = deferred();
  local.before = (method) => method === "read" ? reading.promise : undefined;
  const slowRead = slow.readRange(10, 100);
  await settle();
  assert.ok(await first.discardCopy());
  assert.not.ok(files.isResident(layer.name));
  local.before = () => {};
  reading.resolve();
  assert.is((await slowRead).length, 100, "a reader keeps what it reads");
  // The second found the same damage: it has not read the new copy, which stays.
  assert.ok(await reads(setting));
  assert.ok(await second.discardCopy());
  assert.ok(files.isResident(layer.name));
  assert.is(store.keysOf("getStream").length, 2);
  await files.close();
  assert.is(local.openHandles, 0);
});

test("LayerFiles reads from the store what it cannot keep", async () => {
  for (const failing of ["create", "write", "commit"]) {
    const setting = await oneLayer();
    const { files, local, store } = setting;
    local.before = (method) => {
      if (method === failing) throw new TypeError("No space left on device");
    };
    assert.ok(await reads(setting), failing);
    assert.ok(await reads(setting), failing);
    assert.is(store.keysOf("getStream").length, 1, "not tried for every read");
    assert.equal([local.temporary.size, files.residentBytes], [0, 0]);
    await files.close();
    assert.is(local.openHandles, 0);
  }
});

test("LayerFiles.adopt() keeps what the manifest names, removes other layers, and touches nothing else", async () => {
  const { files, local, layer, bytes } = await oneLayer();
  const other = layer.name.replace(/.$/, (digit) => digit === "0" ? "1" : "0");
  local.files.set(layer.name, bytes);
  local.files.set(other, bytes);
  local.files.set("README.md", bytes);
  local.files.set("lost+found", bytes);
  await files.adopt([layer]);
  assert.equal([...local.files.keys()].sort(), [layer.name, "README.md", "lost+found"].sort());
  assert.is(files.residentBytes, layer.size);
  await files.close();
});

test("LayerFiles.close() ends a download and leaves neither handle nor temporary copy", async () => {
  const setting = await oneLayer();
  const { files, local, store } = setting;
  const writing = deferred();
  const isWriting = deferred();
  local.before = (method) => {
    if (method !== "write") return;
    isWriting.resolve();
    return writing.promise;
  };
  const reading = reads(setting);
  reading.catch(() => {});
  await isWriting.promise;
  const closing = files.close();
  writing.resolve();
  await closing;
  assert.equal([local.openHandles, local.temporary.size], [0, 0]);
  await assert.rejects(reading);
  await assert.rejects(reads(setting), (error) => error.name === "AbortError");
  assert.is(store.keysOf("getStream").length, 1);
  await files.close();
});

test.run();
