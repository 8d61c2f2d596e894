/** How many requests a read makes, which of them at the same time, and what it fetches for nothing. */
import { FAMILY_RELATION } from "../../src/layer/key.ts";
import { ValueChain } from "../../src/layer/value_chain.ts";
import type { Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, imageRecord, pageRecord, SPC } from "../support/made_wal.ts";
import { settle } from "../support/manual_clock.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/look ahead", { timeoutMs: 20_000 });
const REL = 16384;
const RELATION = { spc: SPC, db: DB, rel: REL };

const attach = (store: BentStore, cacheBytes?: number) =>
  attachReader({ store, clock: undefined as never, cacheBytes });

/** A page whose image is in the oldest of many layers, and a change in each of the others. */
async function deepHistory(layers: number): Promise<{ store: BentStore; end: Lsn }> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  await written.writeOne(imageRecord({ block: 0, image: filledPage(1) }));
  for (let n = 1; n < layers; n++) {
    written.timeline.freeze();
    await written.writeOne(pageRecord({ block: 0, put: [n] }));
  }
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  assert.is(written.timeline.layers.count, layers);
  await written.close();
  store.calls.length = 0;
  return { store, end };
}

/** Answers requests only when all that can be under way are; returns how many rounds of that a read took. */
function inRounds(store: BentStore): { rounds: number[]; stop(): void } {
  const rounds: number[] = [];
  let waiting: ReturnType<typeof deferred<void>>[] = [];
  let isOver = false;
  store.before = (method) => {
    if (method !== "getRange") return;
    const answer = deferred();
    waiting.push(answer);
    return answer.promise;
  };
  (async () => {
    while (!isOver) {
      for (let i = 0; i < 20; i++) await settle();
      const now = waiting;
      waiting = [];
      if (now.length > 0) rounds.push(now.length);
      for (const answer of now) answer.resolve();
      await new Promise((resolve) => setTimeout(resolve));
    }
  })();
  return { rounds, stop: () => isOver = true };
}

test("a page of one layer takes one request for the index, and then its block and its size's together", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let block = 0; block < 40; block++) {
    await written.writeOne(imageRecord({ block, image: filledPage(block) }));
  }
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  await written.close();
  store.calls.length = 0;
  const attached = await attach(store);
  assert.equal(
    store.calls.map(({ method }) => method),
    ["get"],
    "attaching reads the manifest, and nothing else",
  );
  const { rounds, stop } = inRounds(store);
  assert.is((await attached.reader.getPage(RELATION, 0, 7, end))[200], 7);
  assert.equal(rounds.slice(0, 2), [1, 2]);
  assert.is(store.keysOf("getRange").length, 3);
  assert.is((await attached.reader.getPage(RELATION, 0, 30, end))[200], 30);
  assert.is(store.keysOf("getRange").length, 4, "the index is kept, and so is the size");
  stop();
  await attached.close();
});

test("layers of one read are fetched side by side: 24 of them in a few rounds", async () => {
  const { store, end } = await deepHistory(24);
  const attached = await attach(store);
  const { rounds, stop } = inRounds(store);
  const page = await attached.reader.getPage(RELATION, 0, 0, end);
  assert.equal([page[100], page[200]], [23, 1]);
  stop();
  assert.ok(rounds.length <= 12, `${rounds.length} rounds: ${rounds}`);
  assert.ok(Math.max(...rounds) >= 8, `${rounds}`);
  assert.ok(attached.fetcher.counters.layersVisited >= 24);
  assert.ok(store.keysOf("getRange").length <= 3 * 24, `${store.keysOf("getRange").length} requests`);
  const requests = store.calls.length;
  assert.is((await attached.reader.getPage(RELATION, 0, 0, end))[100], 23);
  assert.is(store.calls.length, requests, "warm");
  assert.is(attached.fetcher.layersPerRead.count, attached.fetcher.counters.reads);
  await attached.close();
});

test("a read that ends early has asked for little more", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let n = 0; n < 20; n++) {
    const others = Array.from({ length: 12 }, (_, i) => imageRecord({ block: i + 1, image: filledPage(n) }));
    await written.write(imageRecord({ block: 0, image: filledPage(n) }), ...others);
    written.timeline.freeze();
  }
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  await written.close();
  store.calls.length = 0;
  const attached = await attach(store);
  const chain = new ValueChain();
  const space = { family: FAMILY_RELATION, a: SPC, b: DB, c: REL, d: 0 };
  await attached.fetcher.collect(attached.timeline.layers, space, 0, end, chain);
  assert.is(chain.length, 1, "the newest value is an image");
  const touched = new Set(store.keysOf("getRange")).size;
  assert.ok(touched <= 4, `${touched} layers were touched`);
  assert.ok(attached.files.counters.rangeBytes < 256 * 1024, `${attached.files.counters.rangeBytes} bytes`);
  await attached.close();
});

test("values of one key that fill many blocks come in a few requests", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  const put = Array.from({ length: 2000 }, (_, i) => i & 0xff);
  await written.writeOne(imageRecord({ block: 0, image: filledPage(1) }));
  for (let n = 0; n < 600; n++) await written.writeOne(pageRecord({ block: 0, put }));
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  await written.close();
  store.calls.length = 0;
  for (const cacheBytes of [1, undefined]) {
    store.calls.length = 0;
    const attached = await attach(store, cacheBytes);
    assert.is((await attached.reader.getPage(RELATION, 0, 0, end))[101], 1);
    const requests = store.keysOf("getRange").length;
    assert.ok(
      attached.fetcher.counters.blocksFetched > 30,
      `${attached.fetcher.counters.blocksFetched} blocks`,
    );
    assert.ok(requests < 15, `${requests} requests`);
    await attached.close();
  }
});

test("reading in order reads ahead, listing reads many blocks a request, prefetch() brings what reads need", async () => {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let block = 0; block < 400; block++) {
    await written.writeOne(imageRecord({ block, image: filledPage(block & 0x7f) }));
  }
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  await written.close();
  const scan = async (attached: Awaited<ReturnType<typeof attach>>) => {
    for (let block = 0; block < 400; block++) {
      assert.is((await attached.reader.getPage(RELATION, 0, block, end))[200], block & 0x7f);
    }
  };
  store.calls.length = 0;
  const attached = await attach(store);
  await scan(attached);
  const requests = store.keysOf("getRange").length;
  assert.ok(attached.fetcher.counters.blocksFetched >= 100);
  assert.ok(requests < 20, `${requests} requests`);
  await attached.close();

  const again = await attach(store);
  store.calls.length = 0;
  const space = { family: 0, a: SPC, b: DB, c: REL, d: 0 };
  await again.fetcher.prefetch(again.timeline.layers, space, 0, 400, end);
  await again.reader.relationSize(RELATION, 0, end);
  const fetched = store.calls.length;
  assert.ok(fetched <= 8, `${fetched} requests`);
  await scan(again);
  assert.is(store.calls.length, fetched, "all was here");
  const { rangeBytes, byCause } = again.files.counters;
  assert.ok(byCause.prefetch.rangeBytes > 0.9 * rangeBytes);
  assert.is(byCause.prefetch.rangeBytes + byCause.read.rangeBytes, rangeBytes);
  await again.close();
});

test.run();
