/** Whole layers: downloaded in the background when hot, or on request; verified, one flight, given up when stuck; evicted. */
import { CorruptionError, NotFoundError, UnavailableError, VarveError } from "../../src/errors.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import { LayerFiles, type LayerFilesOptions } from "../../src/read/layer_files.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { waitFor } from "../support/wait.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/downloads", { timeoutMs: 20_000 });

interface Setting {
  store: BentStore;
  local: MemoryLocalLayers;
  clock: ManualClock;
  layers: LayerDescriptor[];
  files: LayerFiles;
  /** Reads some bytes of a layer, and whether they are right. */
  reads(layer: LayerDescriptor, length?: number): Promise<boolean>;
}

/** A store with layers of much the same size, nothing local. */
async function setting(count: number, options: Partial<LayerFilesOptions> = {}): Promise<Setting> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let n = 0; n < count; n++) {
    await written.write(...[0, 1, 2, 3].map((block) => imageRecord({ block, image: filledPage(n + 1) })));
    written.timeline.freeze();
  }
  await written.flush();
  const layers = written.timeline.layers.layers();
  await written.close();
  const bytes = new Map<string, Uint8Array>();
  for (const { name } of layers) bytes.set(name, (await store.get(layerKey("main", name))).bytes);
  store.calls.length = 0;
  const local = new MemoryLocalLayers();
  const clock = new ManualClock();
  const files = new LayerFiles({ timeline: "main", store, local, clock, ...options });
  const reads = async (layer: LayerDescriptor, length = 1000) => {
    const got = await files.source(layer).readRange(10, length);
    const expected = bytes.get(layer.name)!;
    return got.length === length && got.every((byte, i) => byte === expected[10 + i]);
  };
  return { store, local, clock, layers, files, reads };
}

const downloaded = (files: LayerFiles) =>
  waitFor(() => files.downloading === 0, { what: "downloads are over" });

test("a layer is read by range until a share of it was read, then downloaded in the background, once", async () => {
  const { store, files, layers: [layer], reads, local } = await setting(1, { hotShare: 0.5 });
  for (let share = 0; share < 0.4; share += 0.1) assert.ok(await reads(layer, Math.floor(layer.size / 10)));
  assert.equal([files.residentBytes, store.keysOf("getStream").length], [0, 0]);
  const all = await Promise.all(Array.from({ length: 20 }, () => reads(layer, Math.floor(layer.size / 4))));
  assert.ok(all.every((right) => right));
  await downloaded(files);
  assert.equal([files.residentBytes, store.keysOf("getStream").length], [layer.size, 1]);
  const requests = store.calls.length;
  assert.ok(await reads(layer));
  assert.is(store.calls.length, requests, "the copy serves");
  assert.equal([files.counters.byCause.read.downloads, files.counters.downloadedBytes], [1, layer.size]);
  await files.close();
  assert.is(local.openHandles, 0);
});

test("download() makes a layer resident for all who ask, and a caller that gives up leaves it to them", async () => {
  const { store, files, layers: [layer], clock } = await setting(1);
  const answer = deferred();
  store.before = (method) => method === "getStream" ? answer.promise : undefined;
  const controller = new AbortController();
  const impatient = files.download(layer, { signal: controller.signal });
  const patient = Promise.all([files.download(layer), files.download(layer, { cause: "compaction" })]);
  controller.abort(new Error("enough"));
  await assert.rejects(impatient, /enough/);
  answer.resolve();
  await patient;
  assert.ok(files.isResident(layer.name));
  assert.is(store.keysOf("getStream").length, 1);
  await files.download(layer);
  assert.is(store.keysOf("getStream").length, 1, "it is there");
  assert.is(files.lastUsedMs(layer.name), undefined);
  await files.source(layer).readRange(0, 1);
  assert.is(files.lastUsedMs(layer.name), clock.now());
  await files.close();
});

test("download() keeps nothing of a layer whose bytes are not those that the manifest means", async () => {
  const { store, files, layers: [layer], local } = await setting(1);
  const key = layerKey("main", layer.name);
  const { bytes } = await store.get(key);
  // One byte in the header, in the first block, in the last one, in the index, in the footer.
  for (const at of [2, 20, bytes.length - 400, bytes.length - 125, bytes.length - 60]) {
    const damaged = bytes.slice();
    damaged[at] ^= 1;
    await store.put(key, damaged);
    await assert.rejects(
      files.download(layer),
      (error: Error) => error instanceof CorruptionError && error.message.includes(layer.name),
    );
    assert.equal([local.files.size, local.temporary.size, files.residentBytes], [0, 0, 0], `byte ${at}`);
  }
  for (const other of [bytes.slice(0, -1), bytes.slice(0, 50), new Uint8Array(0)]) {
    await store.put(key, other);
    await assert.rejects(files.download(layer), CorruptionError);
  }
  await store.delete(key);
  await assert.rejects(files.download(layer), NotFoundError);
  assert.is(files.counters.failedDownloads, 9);
  await store.put(key, bytes);
  await files.download(layer);
  assert.equal(local.files.get(layer.name), bytes);
  await files.close();
});

test("download() gives up a body that stands still and asks again; closing leaves no temporary copy", async () => {
  const { store, files, layers: [layer], local, clock } = await setting(1, { requestMs: 1000 });
  const getStream = store.getStream.bind(store);
  let stuck = 1;
  const cancelled: unknown[] = [];
  store.getStream = async (key, options) => {
    const { size, body } = await getStream(key, options);
    if (stuck-- <= 0) return { size, body };
    const reader = body.getReader();
    const { value } = await reader.read();
    let isFirst = true;
    return {
      size,
      body: new ReadableStream({
        pull: async (controller) => {
          if (!isFirst) await new Promise(() => {});
          isFirst = false;
          controller.enqueue(value!.subarray(0, 300));
        },
        cancel: (reason) => void cancelled.push(reason),
      }, { highWaterMark: 0 }),
    };
  };
  const download = files.download(layer);
  await waitFor(async () => {
    await clock.advance(500);
    return files.isResident(layer.name);
  }, { what: "the second attempt succeeds" });
  await download;
  assert.is(local.temporary.size, 0);
  assert.is(cancelled.length, 1, "the first was let go");

  assert.is(await files.evict(layer.name), "evicted");
  stuck = 1;
  const broken = files.download(layer);
  broken.catch(() => {});
  await waitFor(() => local.temporary.size === 1, { what: "the download has begun" });
  await files.close();
  assert.equal([local.temporary.size, local.files.size], [0, 0]);
  await assert.rejects(broken, (error: Error) => error.name === "AbortError");
});

test("a layer that could not be downloaded is not tried again at once, and later less and less often", async () => {
  const { store, files, layers: [layer], reads, clock, local } = await setting(1, { hotShare: 0.01 });
  local.before = (method) => {
    if (method === "create") throw new TypeError("No space left on device");
  };
  const tries: number[] = [];
  const startedMs = clock.monotonicMs();
  for (let ms = 0; ms < 20_000; ms += 100) {
    const before = store.keysOf("getStream").length;
    assert.ok(await reads(layer), "ranges serve meanwhile");
    await downloaded(files);
    if (store.keysOf("getStream").length > before) tries.push(clock.monotonicMs() - startedMs);
    await clock.advance(100);
  }
  assert.ok(tries.length >= 5 && tries.length <= 8, `${tries}`);
  for (let i = 2; i < tries.length; i++) {
    assert.ok(tries[i] - tries[i - 1] > tries[i - 1] - tries[i - 2], `${tries}`);
  }
  local.before = () => {};
  await files.download(layer);
  assert.ok(files.isResident(layer.name), "who asks by name does not wait");
  await files.close();
});

test("requests of readers go before downloads that nobody waits for", async () => {
  const { Semaphore } = await import("../../src/flow/semaphore.ts");
  const { store, files, layers, reads } = await setting(6, {
    requests: new Semaphore(2, { backgroundLimit: 1 }),
  });
  const answers: ReturnType<typeof deferred<void>>[] = [];
  store.before = () => {
    const answer = deferred();
    answers.push(answer);
    return answer.promise;
  };
  const downloads = layers.slice(0, 4).map((layer) => files.download(layer));
  await waitFor(() => answers.length === 1, { what: "one download is under way" });
  const read = reads(layers[5]);
  await waitFor(() => answers.length === 2, { what: "the read has not waited for it" });
  store.before = () => {};
  for (const answer of answers) answer.resolve();
  assert.ok(await read);
  await Promise.all(downloads);
  assert.is(files.residentCount, 4);
  await files.close();
});

test("evict() removes a copy when its last reader is done; reads go on from the store", async () => {
  const { store, files, layers: [layer], reads, local } = await setting(1, { hotShare: Infinity });
  await files.download(layer);
  assert.ok(await reads(layer));
  const reading = deferred();
  local.before = (method) => method === "read" ? reading.promise : undefined;
  const slow = reads(layer);
  await waitFor(() => local.openHandles === 1, { what: "it is being read" });
  const eviction = files.evict(layer.name);
  assert.is(files.residentBytes, 0, "no new reader finds it");
  assert.is(local.files.size, 1, "but it is there for the one that reads it");
  assert.is(await files.evict(layer.name), "not resident");
  const ranges = store.keysOf("getRange").length;
  assert.ok(await reads(layer));
  assert.is(store.keysOf("getRange").length, ranges + 1);
  reading.resolve();
  assert.ok(await slow);
  assert.is(await eviction, "evicted");
  assert.equal([local.files.size, local.openHandles], [0, 0]);
  assert.equal([files.counters.evictions, files.counters.evictedBytes], [1, layer.size]);
  await files.download(layer);
  assert.ok(files.isResident(layer.name));
  await files.close();
});

test("what is not durable in the store is neither evicted nor pushed out", async () => {
  const durable = new Set<string>();
  const { files, layers, local } = await setting(3, {
    localBytes: 1,
    isDurable: (name) => durable.has(name),
  });
  for (const layer of layers) {
    local.files.set(layer.name, new Uint8Array(layer.size));
    files.noteResident(layer);
  }
  assert.is(await files.evict(layers[0].name), "not durable");
  await files.trim();
  assert.is(files.residentCount, 3);
  durable.add(layers[1].name);
  await files.trim();
  assert.equal([files.residentCount, files.isResident(layers[1].name), local.files.size], [2, false, 2]);
  await files.close();
});

test("a layer that the timeline loses while it is downloaded does not stay", async () => {
  const durable = new Set<string>();
  const { store, files, layers: [layer], local } = await setting(1, {
    isDurable: (name) => durable.has(name),
  });
  durable.add(layer.name);
  const answer = deferred();
  store.before = (method) => method === "getStream" ? answer.promise : undefined;
  const download = files.download(layer);
  await waitFor(() => store.keysOf("getStream").length === 1, { what: "it is under way" });
  durable.delete(layer.name);
  await files.forget(layer.name);
  answer.resolve();
  await download;
  assert.equal([files.residentBytes, local.files.size], [0, 0]);
  await files.close();
});

test("a budget is kept to, whatever is read; what does not fit is read by range", async () => {
  const { files, layers, reads, local } = await setting(12, { hotShare: 0.2 });
  await files.close();
  const localBytes = layers[0].size * 4;
  const small = await setting(12, { hotShare: 0.2, localBytes });
  for (let round = 0; round < 30; round++) {
    for (const layer of small.layers) {
      assert.ok(await small.reads(layer, Math.floor(layer.size / 4)));
      await downloaded(small.files);
      assert.ok(small.files.residentBytes <= localBytes);
      assert.is(small.local.files.size, small.files.residentCount);
    }
  }
  const { counters } = small.files;
  assert.ok(small.files.residentCount >= 3);
  assert.ok(counters.downloads <= 24, `${counters.downloads} downloads: copies are not pushed out in turn`);
  assert.ok(counters.notAdmitted > 0);
  // By name it comes in at the cost of others; one that cannot fit is refused.
  const outside = small.layers.find(({ name }) => !small.files.isResident(name))!;
  await small.files.download(outside);
  assert.ok(small.files.isResident(outside.name) && small.files.residentBytes <= localBytes);
  const tiny = new LayerFiles({ timeline: "main", store: small.store, local: small.local, localBytes: 10 });
  await assert.rejects(tiny.download(outside), (error: unknown) => (error as VarveError).code === "NO_ROOM");
  const diskless = new LayerFiles({ timeline: "main", store: small.store });
  await assert.rejects(
    diskless.download(outside),
    (error: unknown) => error instanceof VarveError && error.code === "NO_LOCAL_COPIES",
  );
  await small.files.close();
  assert.ok(reads !== undefined && local.openHandles === 0);
});

test("a copy that is found cut or damaged is fetched again in the background", async () => {
  const { files, layers: [layer], reads, local } = await setting(1);
  await files.download(layer);
  const whole = local.files.get(layer.name)!;
  local.files.set(layer.name, whole.slice(0, -100));
  assert.ok(await reads(layer));
  await waitFor(() => local.files.get(layer.name)?.length === layer.size, { what: "it is whole again" });
  assert.equal([files.counters.downloads, files.counters.damagedCopies], [2, 1]);
  await files.close();
});

test("a store that is away fails downloads with its own error, after having tried", async () => {
  const { store, files, layers: [layer], clock } = await setting(1);
  store.goAway();
  const outcome = files.download(layer).then(() => undefined, (error) => error);
  let error: unknown;
  await waitFor(async () => {
    await clock.advance(1000);
    error = await Promise.race([outcome, Promise.resolve()]);
    return error !== undefined;
  }, { what: "it gives up" });
  assert.ok(error instanceof UnavailableError);
  assert.is(store.keysOf("getRange").length, 3);
  store.comeBack();
  await files.download(layer);
  await files.close();
});

test.run();
