/** Fetching values from layers: shared flights, caches, damage, readers that give up, many layers. */
import { CorruptionError, NotFoundError, UnavailableError } from "../../src/errors.ts";
import { FAMILY_RELATION } from "../../src/layer/key.ts";
import type { Lsn } from "../../src/lsn.ts";
import { LayerFetcher } from "../../src/read/fetch.ts";
import { TimelineReader } from "../../src/read/get_page.ts";
import { LayerFiles } from "../../src/read/layer_files.ts";
import { BlockCodecs } from "../../src/bytes/block_codec.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { attachReader, type EngineOptions } from "../../src/read/attach.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, imageRecord, pageRecord, SPC, truncateRecord } from "../support/made_wal.ts";
import { settle } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { seededRandom } from "../support/random.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/fetch", { timeoutMs: 20_000 });
const REL = 16384;
const RELATION = { spc: SPC, db: DB, rel: REL };
const PAGES = 40;

/** A store with one layer of many blocks, and where it ends. */
async function manyPages(): Promise<{ store: BentStore; end: Lsn; name: string }> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let block = 0; block < PAGES; block++) {
    await written.writeOne(imageRecord({ block, image: filledPage(block + 1) }));
  }
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  const [{ name }] = written.timeline.layers.layers();
  await written.close();
  store.calls.length = 0;
  return { store, end, name };
}

const attach = (
  store: BentStore,
  options: { local?: MemoryLocalLayers; cacheBytes?: number; fetching?: EngineOptions["fetching"] } = {},
) => attachReader({ store, clock: undefined as never, ...options });

test("LayerFetcher fetches each index and block once, however many ask at once", async () => {
  const { store, end } = await manyPages();
  const attached = await attach(store);
  const calls = store.calls.length;
  const pages = await Promise.all(
    Array.from({ length: 100 }, () => attached.reader.getPage(RELATION, 0, 7, end)),
  );
  assert.ok(pages.every((page) => page[200] === 8));
  const fetched = store.calls.slice(calls).length;
  assert.ok(fetched <= 4, `${fetched} requests`);
  await attached.reader.getPage(RELATION, 0, 7, end);
  assert.is(store.calls.length, calls + fetched, "warm");
  await attached.close();
});

test("LayerFetcher: many readers of a damaged local copy all read the store's", async () => {
  const { store, end, name } = await manyPages();
  const { bytes } = await store.get(layerKey("main", name));
  for (let round = 0; round < 10; round++) {
    const local = new MemoryLocalLayers();
    const damaged = bytes.slice();
    // Not the footer and the index, or all stops at those.
    for (let at = 200; at < damaged.length * 0.9; at += 1000) damaged[at] ^= 0xff;
    local.files.set(name, damaged);
    // Answers come in another order every time.
    local.before = async () => {
      for (let turns = (round * 7 + local.opens * 3) % 5; turns > 0; turns--) await Promise.resolve();
    };
    const attached = await attach(store, { local, fetching: { hotShare: 0 } });
    const reads = Array.from(
      { length: PAGES },
      (_, block) => attached.reader.getPage(RELATION, 0, block, end),
    );
    for (const [block, page] of (await Promise.all(reads)).entries()) assert.is(page[200], block + 1);
    assert.is(local.files.get(name)!.length, bytes.length);
    await attached.close();
    assert.is(local.openHandles, 0);
  }
});

test("LayerFetcher says what is wrong when the store's layer is damaged too, and ends", async () => {
  const { store, end, name } = await manyPages();
  const key = layerKey("main", name);
  const { bytes } = await store.get(key);
  for (let at = 200; at < bytes.length * 0.9; at += 1000) bytes[at] ^= 0xff;
  await store.put(key, bytes);
  const local = new MemoryLocalLayers();
  const attached = await attach(store, { local, fetching: { hotShare: 0 } });
  const all = await Promise.allSettled(
    Array.from({ length: 10 }, (_, block) => attached.reader.getPage(RELATION, 0, block, end)),
  );
  assert.ok(all.every((one) => one.status === "rejected" && one.reason instanceof CorruptionError));
  assert.ok(store.keysOf("getStream").length <= 30);
  await attached.close();
  assert.is(local.openHandles, 0);
});

test("LayerFetcher keeps to its budget, and reads right with a tiny one", async () => {
  const { store, end } = await manyPages();
  for (const cacheBytes of [1, 100_000, 10_000_000]) {
    const attached = await attach(store, { cacheBytes });
    for (let round = 0; round < 2; round++) {
      for (let block = 0; block < PAGES; block++) {
        assert.is((await attached.reader.getPage(RELATION, 0, block, end))[200], block + 1);
      }
    }
    // One index and one block are held, however small the budget.
    assert.ok(
      attached.fetcher.cachedBytes <= Math.max(cacheBytes, 100_000),
      `${attached.fetcher.cachedBytes}`,
    );
    await attached.close();
  }
});

test("LayerFetcher: a reader that gives up rejects with its own reason and disturbs nobody", async () => {
  const { store, end } = await manyPages();
  const attached = await attach(store);
  const answer = deferred();
  const signals: (AbortSignal | undefined)[] = [];
  store.before = (_method, _key, signal) => {
    signals.push(signal);
    return answer.promise;
  };
  const controller = new AbortController();
  const impatient = attached.reader.getPage(RELATION, 0, 1, end, { signal: controller.signal });
  const patient = attached.reader.getPage(RELATION, 0, 1, end);
  await settle();
  controller.abort(new Error("enough"));
  await assert.rejects(impatient, /enough/);
  assert.ok(signals.every((signal) => !signal?.aborted));
  answer.resolve();
  assert.is((await patient)[200], 2);
  await attached.close();
});

test("LayerFetcher: when all give up, the request is broken off, and the next reader asks anew", async () => {
  const { store, end } = await manyPages();
  const attached = await attach(store);
  let broken = 0;
  store.before = (_method, _key, signal) =>
    new Promise((_, reject) => signal!.addEventListener("abort", () => (broken++, reject(signal!.reason))));
  const controller = new AbortController();
  const reads = [1, 2].map((block) =>
    attached.reader.getPage(RELATION, 0, block, end, { signal: controller.signal })
  );
  const outcomes = Promise.allSettled(reads);
  await settle();
  controller.abort(new Error("enough"));
  assert.ok((await outcomes).every((one) => one.status === "rejected" && /enough/.test(String(one.reason))));
  assert.is(broken, 1);
  store.comeBack();
  assert.is((await attached.reader.getPage(RELATION, 0, 1, end))[200], 2);
  await attached.close();
});

test("LayerFetcher: a store that fails once fails those who wait, not those who come after", async () => {
  const { store, end } = await manyPages();
  const attached = await attach(store);
  store.goAway();
  await assert.rejects(attached.reader.getPage(RELATION, 0, 1, end), UnavailableError);
  store.comeBack();
  assert.is((await attached.reader.getPage(RELATION, 0, 1, end))[200], 2);
  await attached.close();
});

test("LayerFetcher with many layers finds what a model finds, at every LSN", async () => {
  const random = seededRandom("many layers");
  const written = await WrittenTimeline.open();
  /** Sizes of each relation and first bytes of each block, after every record. */
  const moments: { lsn: Lsn; sizes: Map<number, number>; pages: Map<string, number> }[] = [];
  let sizes = new Map<number, number>();
  let pages = new Map<string, number>();
  for (let n = 0; n < 300; n++) {
    const rel = REL + random.int(0, 4);
    [sizes, pages] = [new Map(sizes), new Map(pages)];
    const size = sizes.get(rel) ?? 0;
    let lsn: Lsn;
    if (size > 0 && random.chance(0.15)) {
      const cut = random.int(0, size - 1);
      lsn = await written.writeOne(truncateRecord(rel, cut));
      for (let block = cut; block < size; block++) pages.delete(`${rel}/${block}`);
      sizes.set(rel, cut);
    } else {
      const block = random.int(0, Math.min(size + 3, 12));
      const byte = random.int(1, 255);
      const isChange = block < size && random.chance(0.6);
      lsn = await written.writeOne(
        isChange
          ? pageRecord({ block, rel, put: [byte] })
          : imageRecord({ block, rel, image: filledPage(byte) }),
      );
      pages.set(`${rel}/${block}`, byte);
      sizes.set(rel, Math.max(size, block + 1));
    }
    moments.push({ lsn, sizes, pages });
    if (random.chance(0.7)) written.timeline.freeze();
    if (random.chance(0.1)) await written.flush();
  }
  await written.flush();
  assert.ok(written.timeline.layers.count > 150);
  await written.close();
  const again = await WrittenTimeline.open({ store: written.store });
  for (const { lsn, sizes, pages } of moments.filter(() => random.chance(0.15))) {
    const listed = await again.reader.listSizes(FAMILY_RELATION, lsn);
    assert.equal(
      listed.map(({ space, blocks }) => [space.c, blocks]),
      [...sizes].sort((left, right) => left[0] - right[0]),
    );
    for (const [rel, size] of sizes) {
      assert.is(await again.size(rel, lsn), size);
      for (let block = 0; block < size; block++) {
        assert.is((await again.page(rel, block, lsn))[100], pages.get(`${rel}/${block}`) ?? 0);
      }
      await assert.rejects(again.page(rel, size, lsn), NotFoundError);
    }
  }
  await again.close();
});

test("TimelineReader reads at LSNs between records what the record before left", async () => {
  const written = await WrittenTimeline.open();
  const first = await written.writeOne(imageRecord({ block: 0, image: filledPage(1) }));
  const second = await written.writeOne(imageRecord({ block: 0, image: filledPage(2) }));
  for (let flushed = 0; flushed < 2; flushed++) {
    for (let at: number = first; at < second; at += at === first ? 1 : 1000) {
      assert.is((await written.page(REL, 0, at as Lsn))[200], 1);
    }
    assert.is((await written.page(REL, 0, second - 1 as Lsn))[200], 1);
    assert.is((await written.page(REL, 0, second))[200], 2);
    await written.flush();
  }
  await written.close();
});

test("LayerFetcher reads one history for two readers of different budgets", async () => {
  const { store, end } = await manyPages();
  const attached = await attach(store);
  const files = new LayerFiles({ timeline: "main", store });
  const other = new TimelineReader(
    attached.timeline,
    new LayerFetcher({ files, codecs: BlockCodecs.NONE, cacheBytes: 0 }),
    {},
  );
  for (const block of [0, 13, 39]) {
    assert.equal(
      await other.getPage(RELATION, 0, block, end),
      await attached.reader.getPage(RELATION, 0, block, end),
    );
  }
  await attached.close();
});

test.run();
