/** All pages of a relation in order, fetched ahead. */
import { NotFoundError, UnavailableError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import { scanRelation } from "../../src/read/relation_scan.ts";
import type { StreamOptions } from "../../src/ports/object_store.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, imageRecord, pageRecord, SPC } from "../support/made_wal.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { seededRandom } from "../support/random.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/relation_scan", { timeoutMs: 20_000 });
const RELATION = { spc: SPC, db: DB, rel: 16384 };
const PAGES = 300;

/** A relation with its images in one layer and changes in others, and a moment before the last of them. */
async function someRelation(): Promise<{ store: BentStore; end: Lsn; before: Lsn }> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  for (let block = 0; block < PAGES; block++) {
    await written.writeOne(imageRecord({ block, image: filledPage(1) }));
  }
  let before = 0 as Lsn;
  for (let round = 2; round < 5; round++) {
    written.timeline.freeze();
    before = written.timeline.lastRecordLsn;
    for (let block = round; block < PAGES; block += 7) {
      await written.writeOne(pageRecord({ block, put: [round] }));
    }
  }
  await written.flush();
  const end = written.timeline.lastRecordLsn;
  await written.close();
  store.calls.length = 0;
  return { store, end, before };
}

const attach = (store: BentStore) => attachReader({ store, clock: undefined as never });

test("scanRelation() gives every page as getPage() does, in few requests", async () => {
  const { store, end, before } = await someRelation();
  for (const lsn of [before, end]) {
    const alone = await attach(store);
    const attached = await attach(store);
    store.calls.length = 0;
    const pages: Uint8Array[] = [];
    for await (const step of scanRelation(attached, RELATION, 0, lsn, { step: 64 })) {
      assert.is(step.first, pages.length);
      pages.push(...step.pages);
    }
    const requests = store.keysOf("getRange").length;
    assert.ok(requests < 40, `${requests} requests`);
    assert.is(pages.length, PAGES);
    for (const [block, page] of pages.entries()) {
      assert.equal(page, await alone.reader.getPage(RELATION, 0, block, lsn));
    }
    await attached.close();
    await alone.close();
  }
});

/** A store whose streamed bodies may break off; it knows which of them are open. */
class CuttingStore extends BentStore {
  open = 0;
  /** Bytes after which the next body breaks off. */
  cutAfter = () => Infinity;

  override async getStream(key: string, options: StreamOptions = {}) {
    const { size, body } = await super.getStream(key, options);
    const reader = body.getReader();
    let left = this.cutAfter();
    this.open++;
    const cutting = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const { done, value } = left > 0 ? await reader.read() : { done: false, value: undefined };
        if (value !== undefined) {
          controller.enqueue(value.subarray(0, left));
          left -= Math.min(left, value.length);
          return;
        }
        this.open--;
        if (done) return controller.close();
        await reader.cancel();
        controller.error(new UnavailableError("the connection was cut"));
      },
      cancel: async () => {
        this.open--;
        await reader.cancel();
      },
    }, { highWaterMark: 0 });
    return { size, body: cutting };
  }
}

/** So little that each layer is read in many portions. */
const FEW_BYTES = 100_000;

test("scanRelation() by long answers that break off gives the same pages, in few requests", async () => {
  const { store: written, end } = await someRelation();
  const store = new CuttingStore(written);
  const clock = new ManualClock();
  clock.chances = [0.5];
  const attached = await attachReader({ store, clock });
  const pagesOf = async () => {
    const pages: Uint8Array[] = [];
    for await (const step of scanRelation(attached, RELATION, 0, end, { step: 7, readBytes: FEW_BYTES })) {
      pages.push(...step.pages.map((page) => page.slice()));
    }
    return pages;
  };
  const expected = await pagesOf();
  assert.is(expected.length, PAGES);
  const requests = store.keysOf("getRange").length + store.keysOf("getStream").length;
  assert.ok(store.keysOf("getStream").length > 0);
  assert.ok(requests < 30, `${requests} requests for ${attached.timeline.layers.totalBytes} bytes`);
  assert.is(store.open, 0);
  const random = seededRandom("relation_scan cuts");
  let cuts = 0;
  store.cutAfter = () => cuts++ < 20 ? random.int(40_000, 200_000) : Infinity;
  const scan = pagesOf();
  let isOver = false;
  scan.finally(() => isOver = true).catch(() => {});
  while (!isOver) {
    await new Promise((resolve) => setTimeout(resolve));
    if (!isOver) await clock.advance(200);
  }
  assert.equal(await scan, expected);
  assert.ok(cuts > 3, `${cuts} answers`);
  assert.is(store.open, 0);
  await attached.close();
});

test("scanRelation() that is left, aborted or fails leaves no answer open", async () => {
  const { store: written, end } = await someRelation();
  const store = new CuttingStore(written);
  const attached = await attach(store);
  const options = { step: 4, readBytes: FEW_BYTES };
  for await (const { pages } of scanRelation(attached, RELATION, 0, end, options)) {
    assert.is(pages.length, 4);
    assert.ok(store.open > 0);
    break;
  }
  assert.is(store.open, 0);
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (
      const { first } of scanRelation(attached, RELATION, 0, end, { ...options, signal: controller.signal })
    ) {
      if (first > 20) controller.abort(new Error("enough"));
    }
  }, /enough/);
  assert.is(store.open, 0);
  // Without a clock nothing is tried again.
  store.cutAfter = () => 100_000;
  await assert.rejects(async () => {
    for await (const { pages } of scanRelation(attached, RELATION, 0, end, options)) {
      assert.is(pages.length, 4);
    }
  }, /the connection was cut/);
  assert.is(store.open, 0);
  // Left between two steps, and the timeline is closed.
  store.cutAfter = () => Infinity;
  const left = scanRelation(attached, RELATION, 0, end, options);
  await left.next();
  assert.ok(store.open > 0);
  await attached.close();
  assert.is(store.open, 0);
});

test("scanRelation() reads a part, and stops fetching when its reader does", async () => {
  const { store, end } = await someRelation();
  const attached = await attach(store);
  const firsts: number[] = [];
  for await (
    const { first, pages } of scanRelation(attached, RELATION, 0, end, { first: 100, end: 150, step: 20 })
  ) {
    firsts.push(first, pages.length);
  }
  assert.equal(firsts, [100, 20, 120, 20, 140, 10]);
  for await (const { pages } of scanRelation(attached, RELATION, 0, end, { step: 8 })) {
    assert.is(pages.length, 8);
    break;
  }
  const requests = store.calls.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(store.calls.length, requests);
  await attached.close();
});

test("scanRelation() says what is wrong: no such relation, a store that is away, a signal", async () => {
  const { store, end } = await someRelation();
  const attached = await attach(store);
  const drain = async (relation = RELATION, signal?: AbortSignal) => {
    for await (const { pages } of scanRelation(attached, relation, 0, end, { signal })) {
      assert.ok(pages.length > 0);
    }
  };
  await assert.rejects(drain({ ...RELATION, rel: 99 }), NotFoundError);
  await assert.rejects(drain(RELATION, AbortSignal.abort(new Error("enough"))), /enough/);
  store.goAway();
  await assert.rejects(drain(), UnavailableError);
  store.comeBack();
  await drain();
  await attached.close();
});

test.run();
