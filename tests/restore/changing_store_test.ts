/** Restore and scans while the store changes under them: layers replaced and deleted, local copies damaged. */
import { setU16 } from "../../src/bytes/little_endian.ts";
import { CorruptionError, LsnCollectedError, NotFoundError } from "../../src/errors.ts";
import { FAMILY_RELATION } from "../../src/layer/key.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { LocalLayers } from "../../src/ports/local_layers.ts";
import type { StreamOptions } from "../../src/ports/object_store.ts";
import type { RestoreTarget } from "../../src/ports/restore_target.ts";
import { BLCKSZ, Page } from "../../src/postgres/page/page.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { type AttachedTimeline, attachReader } from "../../src/read/attach.ts";
import { WalkedLayers } from "../../src/read/mended_walk.ts";
import { scanRelation } from "../../src/read/relation_scan.ts";
import { type PreparedRestore, prepareRestore, writeRestore } from "../../src/restore/restore.ts";
import { updateManifest } from "../../src/timeline/manifest_store.ts";
import { layerPrefix, manifestKey } from "../../src/timeline/object_keys.ts";
import { compact } from "../../src/upkeep/compact.ts";
import { collect, planCollection } from "../../src/upkeep/gc.ts";
import { UpkeepTarget } from "../../src/upkeep/upkeep_target.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, imageRecord, pageRecord, SPC, TEST_MAJOR } from "../support/made_wal.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("restore/changing store", { timeoutMs: 60_000 });
const RELS = [16384, 16385, 16386];
const PAGES = 300;
/** So little that a layer is read in many portions. */
const FEW_BYTES = 100_000;

/** A store whose answers that are under way end with their object: none of it is read on from what is gone. */
class StrictStore extends BentStore {
  override async getStream(key: string, options: StreamOptions = {}) {
    const { size, body } = await super.getStream(key, options);
    const reader = body.getReader();
    const checked = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        await this.below.head(key);
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    }, { highWaterMark: 0 });
    return { size, body: checked };
  }
}

interface History {
  readonly store: BentStore;
  readonly written: WrittenTimeline;
  readonly end: Lsn;
}

/** Relations with their images in one layer each, and changes to all of them in two more. */
async function history(random: SeededRandom): Promise<History> {
  const store = new StrictStore();
  const written = await WrittenTimeline.open({ store });
  for (const rel of RELS) {
    for (let block = 0; block < PAGES; block++) {
      const image = filledPage(1);
      for (let at = 24; at < BLCKSZ; at++) image[at] = random.uint32();
      setU16(image, 16, BLCKSZ); // no special space: a header that restore takes for right
      await written.writeOne(imageRecord({ rel, block, image }));
    }
    written.timeline.freeze();
  }
  for (let round = 2; round < 4; round++) {
    for (const rel of RELS) {
      for (let block = round; block < PAGES; block += 3) {
        await written.writeOne(pageRecord({ rel, block, put: [round] }));
      }
    }
    written.timeline.freeze();
  }
  await written.flush();
  return { store, written, end: written.timeline.lastRecordLsn };
}

const attach = ({ store, written: { clock } }: History, local?: LocalLayers) =>
  attachReader({ store, clock, local });

/** Another process compacts everything and deletes what it has replaced, and history behind that, if asked to. */
async function replaceLayers(history: History, keepWalBytes?: number): Promise<void> {
  const { written: { clock } } = history;
  const store = history.store.below;
  const attached = await attachReader({ store, clock });
  const before = attached.manifest.layers.length;
  await compact(UpkeepTarget.ofGuest({ attached, store, clock }), {
    everything: true,
    layerBytes: 1_000_000,
  });
  await clock.advance(1);
  const policy = keepWalBytes === undefined ? undefined : { keepWalBytes };
  const options = { store, clock, reader: attached.reader, graceMs: 0, policy };
  for (let times = 0; times < 2; times++) {
    const plan = await planCollection(await attached.refresh(), options);
    await collect(plan, (edit) => updateManifest(store, clock, "main", edit), options);
    await clock.advance(1);
  }
  let objects = 0;
  for await (const _ of store.list(layerPrefix("main"))) objects++;
  const { layers } = await attached.refresh();
  assert.is(objects, layers.length);
  assert.ok(before >= 5 && layers.length > 0);
  await attached.close();
}

/** What a restore has written. */
class MemoryTarget implements RestoreTarget {
  readonly description = "memory:";
  readonly parallel = true;
  readonly files = new Map<string, Uint8Array[]>();
  /** Runs before each write of a part of a file. */
  beforeWrite: () => Promise<void> | void = () => {};

  directory = () => Promise.resolve();
  tablespace = () => Promise.resolve();
  commit = () => Promise.resolve();
  abort = () => Promise.resolve(this.files.clear());

  put(path: string, bytes: Uint8Array): Promise<void> {
    return Promise.resolve(void this.files.set(path, [bytes.slice()]));
  }

  file(path: string) {
    const parts: Uint8Array[] = [];
    this.files.set(path, parts);
    return Promise.resolve({
      write: async (bytes: Uint8Array) => {
        const copy = bytes.slice();
        await this.beforeWrite();
        parts.push(copy);
      },
      close: () => Promise.resolve(),
    });
  }

  /** Every file's bytes. */
  async contents(): Promise<Map<string, Uint8Array>> {
    const whole = new Map<string, Uint8Array>();
    for (const [path, parts] of this.files) {
      whole.set(path, await new Blob(parts as BlobPart[]).bytes());
    }
    return whole;
  }
}

/** A restore of nothing but the relations: there is no server that the rest could come from. */
async function restoreRelations(attached: AttachedTimeline, lsn: Lsn, target: MemoryTarget): Promise<number> {
  const sizes = await attached.reader.listSizes(FAMILY_RELATION, lsn);
  const forks = sizes.map(({ space, blocks = 0 }) => ({ space, blocks, paths: [() => `base/5/${space.c}`] }));
  const plan = {
    lsn,
    profile: profileOfMajor(TEST_MAJOR),
    forks,
    tablespaces: new Map(),
    directories: [],
    pages: RELS.length * PAGES,
  };
  const files = { files: [], segments: [], control: { path: "control", bytes: new Uint8Array(1) } };
  let done = 0;
  await writeRestore(attached, { plan, files } as unknown as PreparedRestore, target, {
    clock: undefined as never,
    memoryBytes: FEW_BYTES,
    onProgress: ({ bytesDone }) => void (done = bytesDone),
  });
  return done;
}

async function expectedOf(history: History): Promise<Map<string, Uint8Array>> {
  const attached = await attach(history);
  const target = new MemoryTarget();
  await restoreRelations(attached, history.end, target);
  await attached.close();
  const contents = await target.contents();
  assert.equal([...contents.keys()].sort(), [...RELS.map((rel) => `base/5/${rel}`), "control"]);
  return contents;
}

/** Runs something once, at one of the next calls. */
function onceAt(call: number, work: () => Promise<void>): () => Promise<void> {
  let calls = 0;
  return async () => {
    if (calls++ === call) await work();
  };
}

test("writeRestore() goes on where it is when layers have been replaced and deleted meanwhile", async () => {
  const random = seededRandom("restore: replaced layers");
  // Before anything is written, and in the middle of relations.
  for (const call of [-1, 0, 1, 4]) {
    const all = await history(random);
    const expected = await expectedOf(all);
    const attached = await attach(all);
    // What the plan reads is not what this is about.
    await attached.reader.listSizes(FAMILY_RELATION, all.end);
    const target = new MemoryTarget();
    if (call < 0) await replaceLayers(all);
    else target.beforeWrite = onceAt(call, () => replaceLayers(all));
    all.store.calls.length = 0;
    assert.is(await restoreRelations(attached, all.end, target), RELS.length * PAGES * BLCKSZ);
    assert.ok(all.store.keysOf("get", manifestKey("main")).length > 0, `call ${call}: it has had to refresh`);
    assert.equal(await target.contents(), expected);
    await attached.close();
    await all.written.close();
  }
});

test("writeRestore() goes on from the store when local copies are damaged meanwhile", async () => {
  const random = seededRandom("restore: damaged copies");
  const all = await history(random);
  const expected = await expectedOf(all);
  const local = new MemoryLocalLayers();
  const attached = await attach(all, local);
  for (const layer of attached.timeline.layers.layers()) await attached.files.download(layer);
  const target = new MemoryTarget();
  target.beforeWrite = onceAt(1, () => {
    for (const bytes of local.files.values()) bytes.fill(0xff, 8192, bytes.length - 8192);
    return Promise.resolve();
  });
  assert.is(await restoreRelations(attached, all.end, target), RELS.length * PAGES * BLCKSZ);
  assert.ok(attached.files.counters.damagedCopies > 0);
  assert.equal(await target.contents(), expected);
  await attached.close();
  await all.written.close();
});

test("writeRestore() tells of layers that are gone or damaged for good, and of an LSN that has been collected", async () => {
  const random = seededRandom("restore: gone layers");
  const failing = async (change: (all: History) => Promise<void>, lsn?: Lsn) => {
    const all = await history(random);
    const attached = await attach(all);
    const target = new MemoryTarget();
    target.beforeWrite = onceAt(0, () => change(all));
    const outcome = await restoreRelations(attached, lsn ?? all.end, target).catch((error) => error);
    assert.is(target.files.size, 0);
    await attached.close();
    await all.written.close();
    return outcome;
  };
  const eachLayer = async ({ store }: History, change: (key: string) => Promise<unknown>) => {
    for await (const { key } of store.below.list(layerPrefix("main"))) await change(key);
  };
  assert.instance(
    await failing((all) => eachLayer(all, (key) => all.store.below.delete(key))),
    NotFoundError,
  );
  assert.instance(
    await failing((all) =>
      eachLayer(all, async (key) => {
        const { bytes } = await all.store.below.get(key);
        await all.store.below.put(key, bytes.slice().fill(0xff));
      })
    ),
    CorruptionError,
  );
  assert.instance(
    await failing(async (all) => {
      for (let block = 0; block < PAGES; block++) {
        await all.written.writeOne(imageRecord({ block, image: filledPage(7) }));
      }
      await all.written.flush();
      await replaceLayers(all, 0);
    }),
    LsnCollectedError,
  );
});

test("prepareRestore() looks for the layers of now", async () => {
  const all = await history(seededRandom("restore: window"));
  const attached = await attach(all);
  await replaceLayers(all);
  // As far as it gets without a server: the layers that it knew of are gone, and it is none the worse.
  await assert.rejects(
    prepareRestore(attached, all.end, { store: all.store, clock: all.written.clock }),
    /has no control file|has no cluster state/,
  );
  await attached.close();
  await all.written.close();
});

test("scanRelation() and walks that share layers go on when these are replaced", async () => {
  const all = await history(seededRandom("scan: replaced layers"));
  const expected = await expectedOf(all);
  const attached = await attach(all);
  const layers = new WalkedLayers(attached, all.end);
  const walks = RELS.map((rel) => {
    const space = { family: FAMILY_RELATION, a: SPC, b: DB, c: rel, d: 0 };
    return layers.walk({ spaces: [space], blocksMax: PAGES, memoryBytes: FEW_BYTES });
  });
  const got = RELS.map(() => new Uint8Array(PAGES * BLCKSZ));
  const readTo = (end: number, start: number) =>
    Promise.all(walks.map(async (walk, index) => {
      const page = new Page();
      for (let block = start; block < end; block++) {
        await walk.read(0, block, 1, [page]);
        got[index].set(page.u8, block * BLCKSZ);
      }
    }));
  await readTo(10, 0);
  const relation = { spc: SPC, db: DB, rel: RELS[2] };
  let scanned = 0;
  for await (
    const { first, pages } of scanRelation(attached, relation, 0, all.end, { step: 20, readBytes: FEW_BYTES })
  ) {
    assert.is(first, scanned);
    for (const [index, page] of pages.entries()) {
      const at = (first + index) * BLCKSZ;
      assert.equal(page, expected.get(`base/5/${relation.rel}`)!.subarray(at, at + BLCKSZ));
    }
    scanned += pages.length;
    if (first === 0) {
      await replaceLayers(all);
      all.store.calls.length = 0;
    }
  }
  assert.is(scanned, PAGES);
  assert.ok(all.store.keysOf("get", manifestKey("main")).length > 0, "it has had to refresh");
  await readTo(PAGES, 10);
  for (const [index, rel] of RELS.entries()) assert.equal(got[index], expected.get(`base/5/${rel}`));
  await Promise.all(walks.map((walk) => walk.close()));
  await attached.close();
  await all.written.close();
});

test.run();
