/** A layer read on and on by one request: what breaks off, stands still, is forgotten, has no room. */
import { CorruptionError, NotFoundError, UnavailableError } from "../../src/errors.ts";
import { Semaphore } from "../../src/flow/semaphore.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import type { LayerRun } from "../../src/layer/layer_reader.ts";
import type { ByteRange, StreamOptions } from "../../src/ports/object_store.ts";
import { LayerFiles, type LayerFilesOptions } from "../../src/read/layer_files.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { BentStore } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock, settle } from "../support/manual_clock.ts";
import { MemoryLocalLayers } from "../support/memory_local_layers.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("read/layer_stream", { timeoutMs: 20_000 });

const SIZE = 100_000;
const LAYER = { name: "a-layer", size: SIZE } as LayerDescriptor;
const KEY = layerKey("main", LAYER.name);

/** A store whose streams come in small pieces and may go wrong. */
class PieceStore extends BentStore {
  /** Ranges streamed so far. */
  readonly streamed: ByteRange[] = [];
  /** Streams that are neither read to their end nor cancelled. */
  open = 0;
  pieceBytes = () => 700;
  /** What happens instead of the byte at a position: an error, or nothing more. Asked once for each piece. */
  breaks: (at: number) => Error | "stall" | "end" | undefined = () => undefined;
  /** The size that is told, of the one that is right. */
  tell = (size: number) => size;

  override async getStream(key: string, options: StreamOptions = {}) {
    const range = options.range ?? { offset: 0, length: SIZE };
    const { body } = await super.getStream(key, options);
    this.streamed.push(range);
    this.open++;
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    let at = 0;
    const over = () => {
      this.open--;
    };
    const piecewise = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const fault = this.breaks(range.offset + at);
        if (fault === "stall") await new Promise(() => {});
        if (fault instanceof Error) {
          over();
          return controller.error(fault);
        }
        if (at === bytes.length || fault === "end") {
          over();
          return controller.close();
        }
        controller.enqueue(bytes.slice(at, at += this.pieceBytes()));
        at = Math.min(at, bytes.length);
      },
      cancel: over,
    }, { highWaterMark: 0 });
    return { size: this.tell(range.length), body: piecewise };
  }
}

interface Setting {
  store: PieceStore;
  bytes: Uint8Array;
  clock: ManualClock;
  requests: Semaphore;
  files: LayerFiles;
}

async function setting(options: Partial<LayerFilesOptions> = {}): Promise<Setting> {
  const store = new PieceStore();
  const bytes = seededRandom("layer_stream").bytes(SIZE);
  await store.put(KEY, bytes);
  store.calls.length = 0;
  const clock = new ManualClock();
  const requests = new Semaphore(2);
  const files = new LayerFiles({ timeline: "main", store, clock, requests, ...options });
  return { store, bytes, clock, requests, files };
}

/** The next portion, put together. */
async function next(run: LayerRun, length: number): Promise<Uint8Array> {
  const pieces = await run.next(length);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  assert.is(at, length);
  return bytes;
}

const readOn = ({ files }: Setting, offset: number, end: number, signal?: AbortSignal) =>
  files.source(LAYER).readOn!(offset, end, signal);

test("readOn() takes a stretch by one request, whatever its pieces, and holds no permit in between", async () => {
  const random = seededRandom("layer_stream portions");
  const all = await setting();
  const { store, bytes, requests, files } = all;
  for (let round = 0; round < 30; round++) {
    store.pieceBytes = () => random.int(1, 3000);
    const start = random.int(0, 1000);
    const end = random.int(SIZE - 1000, SIZE);
    const run = readOn(all, start, end);
    for (let at = start; at < end;) {
      const length = Math.min(random.int(1, 20_000), end - at);
      assert.equal(await next(run, length), bytes.slice(at, at + length));
      assert.is(requests.held, 0);
      at += length;
    }
    assert.equal(store.streamed.at(-1), { offset: start, length: end - start });
    assert.is(store.open, 0, "read to its very end");
    await run.close();
  }
  assert.is(files.counters.rangeRequests, store.streamed.length);
  assert.is(files.counters.byCause.read.rangeRequests, 30);
  await files.close();
});

test("readOn() counts bytes as they come, and a stretch of one portion is a plain range", async () => {
  const all = await setting();
  const { store, bytes, files } = all;
  const run = readOn(all, 0, SIZE);
  await next(run, 10_000);
  const { rangeBytes } = files.counters;
  assert.ok(rangeBytes >= 10_000 && rangeBytes < 12_000, `${rangeBytes}`);
  await run.close();
  const single = readOn(all, 500, 900);
  assert.equal(await next(single, 400), bytes.slice(500, 900));
  assert.equal([store.keysOf("getRange").length, store.streamed.length], [1, 1]);
  await files.close();
});

test("an answer that breaks off is asked for again from where it was, after a while", async () => {
  const all = await setting();
  const { store, bytes, clock } = all;
  clock.autoAdvance = false;
  const run = readOn(all, 100, SIZE);
  const cuts = [3_000, 30_000, 31_000];
  store.breaks = (at) => at >= cuts[0] && cuts.shift() ? new UnavailableError("cut") : undefined;
  const reading = next(run, 50_000);
  while (cuts.length > 0) {
    await new Promise((resolve) => setTimeout(resolve));
    await clock.advance(5_000);
  }
  await clock.advance(5_000);
  assert.equal(await reading, bytes.slice(100, 50_100));
  assert.is(store.streamed.length, 4);
  for (const { offset, length } of store.streamed) assert.is(offset + length, SIZE);
  assert.equal(await next(run, SIZE - 50_100), bytes.slice(50_100));
  assert.is(store.streamed.length, 4);
  await all.files.close();
});

test("an answer that breaks off again and again is given up, at once without a clock", async () => {
  const all = await setting();
  const { store, clock, requests } = all;
  store.breaks = (at) => at > 20_000 ? new UnavailableError("cut") : undefined;
  const run = readOn(all, 0, SIZE);
  const reading = assert.rejects(next(run, 50_000), /cut/);
  for (let tries = 0; tries < 10; tries++) {
    await new Promise((resolve) => setTimeout(resolve));
    await clock.advance(5_000);
  }
  await reading;
  assert.equal([store.streamed.length, store.open, requests.held], [6, 0, 0]);
  await run.close();
  const bare = await setting({ clock: undefined });
  bare.store.breaks = store.breaks;
  await assert.rejects(next(readOn(bare, 0, SIZE), 50_000), /cut/);
  assert.is(bare.store.streamed.length, 1);
  await Promise.all([all.files.close(), bare.files.close()]);
});

test("what is no outage is not tried again: damage, a store that gives another range, a layer that is gone", async () => {
  const all = await setting();
  const { store, clock } = all;
  const refused = async (message: RegExp) => {
    const run = readOn(all, 0, SIZE);
    const error = await assert.rejects<CorruptionError>(next(run, 50_000), CorruptionError);
    assert.match(error.message, message);
    await run.close();
    assert.is(store.open, 0);
  };
  store.breaks = (at) => at > 20_000 ? new CorruptionError("short") : undefined;
  await refused(/short/);
  store.breaks = (at) => at > 20_000 ? "end" : undefined;
  await refused(/another length/);
  store.breaks = () => undefined;
  store.tell = (size) => size + 1;
  await refused(/another range/);
  store.tell = (size) => size;
  const before = store.streamed.length;
  // Collected while it is being read.
  store.breaks = (at) => at > 20_000 ? new UnavailableError("cut") : undefined;
  const run = readOn(all, 0, SIZE);
  const reading = assert.rejects<NotFoundError>(next(run, 50_000), NotFoundError);
  await new Promise((resolve) => setTimeout(resolve));
  await store.delete(KEY);
  await clock.advance(5_000);
  assert.match((await reading).message, /its object is gone/);
  assert.is(store.streamed.length, before + 1);
  await all.files.close();
});

test("a portion has a time limit and a signal; either ends the request", async () => {
  const all = await setting({ requestMs: 3_000 });
  const { store, clock, requests } = all;
  store.breaks = (at) => at > 20_000 ? "stall" : undefined;
  const run = readOn(all, 0, SIZE);
  const reading = assert.rejects<UnavailableError>(next(run, 50_000), UnavailableError);
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal([store.open, requests.held], [1, 1]);
  await clock.advance(3_000);
  assert.is((await reading).code, "TIMEOUT");
  assert.equal([store.open, requests.held, store.streamed.length], [0, 0, 1]);
  await run.close();
  const controller = new AbortController();
  const aborted = readOn(all, 0, SIZE, controller.signal);
  await next(aborted, 5_000);
  const ending = assert.rejects(next(aborted, 50_000), /enough/);
  await new Promise((resolve) => setTimeout(resolve));
  controller.abort(new Error("enough"));
  await ending;
  await aborted.close();
  assert.equal([store.open, requests.held, clock.sleeping], [0, 0, 0]);
  await all.files.close();
});

test("close() ends an answer that is open, that of the run and that of all", async () => {
  const all = await setting();
  const { store, clock, files } = all;
  const left = readOn(all, 0, SIZE);
  await next(left, 5_000);
  assert.is(store.open, 1);
  await left.close();
  await settle();
  assert.equal([store.open, clock.sleeping], [0, 0]);
  const runs = [readOn(all, 0, SIZE), readOn(all, 10, SIZE)];
  for (const run of runs) await next(run, 5_000);
  assert.is(store.open, 2);
  await files.close();
  await settle();
  assert.equal([store.open, clock.sleeping], [0, 0]);
  await assert.rejects(runs[0].next(5_000), /closed/);
});

test("an answer that nobody reads on from is let go of, and asked for again when somebody does", async () => {
  const all = await setting();
  const { store, bytes, clock, files } = all;
  const run = readOn(all, 0, SIZE);
  assert.equal(await next(run, 5_000), bytes.slice(0, 5_000));
  await clock.advance(9_000);
  assert.is(store.open, 1);
  await next(run, 5_000);
  await clock.advance(9_000);
  assert.is(store.open, 1, "the wait begins anew with each portion");
  await clock.advance(1_000);
  assert.equal([store.open, clock.sleeping], [0, 0]);
  assert.equal(await next(run, 5_000), bytes.slice(10_000, 15_000));
  assert.equal(store.streamed.map(({ offset }) => offset), [0, 10_000]);
  await run.close();
  await files.close();
});

test("few answers are open at a time: who finds no room reads range by range until there is", async () => {
  const all = await setting();
  const { store, bytes, files } = all;
  const runs = Array.from({ length: 6 }, () => readOn(all, 0, SIZE));
  const portions = await Promise.all(runs.map((run) => next(run, 5_000)));
  for (const portion of portions) assert.equal(portion, bytes.slice(0, 5_000));
  assert.equal([store.open, store.keysOf("getRange").length], [4, 2]);
  await runs[0].close();
  assert.equal(await next(runs[5], 5_000), bytes.slice(5_000, 10_000));
  assert.equal([store.open, store.keysOf("getRange").length], [4, 2]);
  assert.equal(await next(runs[4], 5_000), bytes.slice(5_000, 10_000));
  assert.equal([store.open, store.keysOf("getRange").length], [4, 3]);
  for (const run of runs) await run.close();
  assert.is(store.open, 0);
  // Room that was given back is there, all of it and no more.
  const again = Array.from({ length: 6 }, () => readOn(all, 0, SIZE));
  for (const run of again) await next(run, 5_000);
  assert.is(store.open, 4);
  await files.close();
});

test("a reader on demand comes in between portions of walks, upkeep's last", async () => {
  const requests = new Semaphore(1);
  const all = await setting({ requests });
  const { files } = all;
  const order: string[] = [];
  const compaction = files.source(LAYER, { cause: "compaction" }).readOn!(0, SIZE);
  const walk = readOn(all, 0, SIZE);
  const release = await requests.acquire();
  const done = [
    compaction.next(1_000).then(() => order.push("compaction")),
    walk.next(1_000).then(() => order.push("walk")),
    files.source(LAYER).readRange(0, 10).then(() => order.push("read")),
  ];
  await settle();
  release();
  await Promise.all(done);
  assert.equal(order, ["walk", "read", "compaction"]);
  assert.is(requests.held, 0, "answers that stand still are in nobody's way");
  assert.is(all.store.open, 2);
  await compaction.close();
  await walk.close();
  await files.close();
});

test("a local copy that has come meanwhile takes over from the answer", async () => {
  const local = new MemoryLocalLayers();
  const all = await setting({ local, hotShare: Infinity });
  const { store, bytes, files } = all;
  const run = readOn(all, 0, SIZE);
  assert.equal(await next(run, 5_000), bytes.slice(0, 5_000));
  const writer = await local.create(LAYER.name);
  await writer.write(bytes);
  await writer.commit();
  files.noteResident(LAYER);
  assert.equal(await next(run, 5_000), bytes.slice(5_000, 10_000));
  assert.equal([store.open, store.streamed.length, local.opens], [0, 1, 1]);
  await files.evict(LAYER.name);
  assert.equal(await next(run, 5_000), bytes.slice(10_000, 15_000));
  assert.equal(store.streamed.map(({ offset }) => offset), [0, 10_000]);
  await run.close();
  await files.close();
  assert.is(local.openHandles, 0);
});

test.run();
