/** Layers encoded by a worker: the same bytes as in place, and every way in which a run can end. */
import { SharedArena } from "../../src/bytes/arena.ts";
import { LZ4_CODEC } from "../../src/bytes/portable_codecs.ts";
import { openLayerEncoder } from "../../src/deps/layer_encoder.ts";
import { nodeZstdCodec } from "../../src/deps/node_zstd.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, UnavailableError } from "../../src/errors.ts";
import { VALUE_CARRIES_IMAGES, VALUE_FULL_PAGE_IMAGE, VALUE_RAW, VALUE_RECORD } from "../../src/layer/key.ts";
import type { LayerSummary } from "../../src/layer/layer_writer.ts";
import { MemoryLayer } from "../../src/layer/memory_layer.ts";
import { ModificationBuilder } from "../../src/layer/modification.ts";
import { SpaceTable } from "../../src/layer/space_table.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { ObjectBody, PutOptions } from "../../src/ports/object_store.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { importTimeline } from "../../src/varve.ts";
import { memoryLayerFile } from "../../src/write/memory_layer_file.ts";
import { walCorpus } from "../bench/wal_corpus.ts";
import { followCluster, judgeStoppedCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { startCluster } from "../support/postgres.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import { mixedWorkload } from "../support/workload.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/encoder", { timeoutMs: 120_000, sanitize: false });

const MAJOR = 17;

/** Threads that come to grief: how, what they run, and what is said. */
const CRASHES: [string, string, RegExp][] = [
  ["cannot be loaded", "import 'data:text/javascript,)'", /Cannot encode a layer on another thread: /],
  ["throws where nobody catches", "onmessage = () => { throw new Error('out of luck') }", /out of luck/],
  [
    "rejects where nobody catches",
    "onmessage = async () => { throw new Error('out of luck') }",
    /out of luck/,
  ],
  ["ends without a word", "onmessage = () => close()", /no answer within 0\.3 s/],
];
const COPY_MAX = 1e9;

interface Frozen {
  memory: MemoryLayer;
  spaces: SpaceTable;
}

/** A layer of about `megabytes`: records and images of random lengths, some shared memory and some not. */
function randomLayer(random: SeededRandom, megabytes: number, arena?: SharedArena): Frozen {
  const spaces = new SpaceTable();
  for (let count = random.int(1, 20); count > 0; count--) {
    spaces.intern(random.int(0, 3), 1663, 5, random.int(1, 1e6), random.int(0, 3));
  }
  const memory = new MemoryLayer(random.int(0, 1e6) * 8 as Lsn, 1, arena);
  const noise = new Uint8Array(Uint32Array.from({ length: 60_000 }, () => random.uint32()).buffer);
  let lsn: number = memory.startLsn;
  while (memory.memoryBytes < megabytes * 1024 * 1024) {
    const length = random.int(100, 200_000);
    const bytes = arena !== undefined && random.chance(0.8) ? arena.allocate(length) : new Uint8Array(length);
    bytes.set(noise.subarray(random.int(0, noise.length - length)).subarray(0, length));
    const builder = new ModificationBuilder(bytes, 4);
    const start = lsn;
    for (let record = random.int(0, 500); record > 0; record--) {
      lsn += 8 * random.int(1, 1000);
      const space = random.int(0, spaces.count - 1);
      const block = random.chance(0.9) ? random.int(0, 50) : random.int(0, 100_000);
      const offset = random.int(0, length - 1);
      const size = random.int(0, Math.min(length - offset, random.chance(0.1) ? 8192 : 300));
      const hole = random.uint32();
      const kind = random.int(0, 9);
      if (kind === 0) {
        builder.addMade(space, block, lsn, VALUE_RAW, bytes.subarray(offset, offset + size));
      } else if (kind === 1) {
        builder.addRange(space, block, lsn, VALUE_FULL_PAGE_IMAGE, offset, size, hole);
      } else builder.addRange(space, block, lsn, VALUE_RECORD, offset, size, 0);
      // The same key and LSN again: the later one counts.
      if (random.chance(0.05)) builder.addRange(space, block, lsn, VALUE_RECORD, offset, size >> 1, 0);
    }
    memory.append(builder.build(lsn as Lsn, 1, true, 1, lsn - start));
  }
  return { memory, spaces };
}

/** A file, whole. */
interface Encoded {
  bytes: Uint8Array;
  summary: LayerSummary;
}

async function drain(
  file: Iterator<Uint8Array, LayerSummary> | AsyncIterator<Uint8Array, LayerSummary>,
): Promise<Encoded> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const step = await file.next();
    if (step.done === true) {
      return {
        bytes: new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()),
        summary: step.value,
      };
    }
    chunks.push(step.value);
  }
}

const inPlace = ({ memory, spaces }: Frozen) => drain(memoryLayerFile(memory, spaces, profileOfMajor(MAJOR)));
const snapshotOf = ({ memory, spaces }: Frozen) => memory.snapshot(spaces, COPY_MAX)!;

function opened() {
  const encoder = openLayerEncoder();
  if (encoder === undefined) throw new Error("Cannot test: this runtime has no workers");
  return encoder;
}

function assertSame(got: Encoded, expected: Encoded): void {
  assert.equal(got.summary, expected.summary);
  assert.is(got.bytes.length, expected.bytes.length);
  assert.ok(got.bytes.every((byte, at) => byte === expected.bytes[at]), "every byte");
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(() => undefined, (error) => error);
}

test("openLayerEncoder() makes the bytes that encoding in place makes, layer after layer", async () => {
  const random = seededRandom("encoder");
  const encoder = opened();
  for (let round = 0; round < 12; round++) {
    const layer = randomLayer(
      random,
      [0.1, 1, 10][round % 3],
      round % 4 === 3 ? undefined : encoder.arena as SharedArena,
    );
    const expected = await inPlace(layer);
    assertSame(await drain(encoder.encode(snapshotOf(layer), { major: MAJOR })), expected);
  }
  encoder.close();
});

test("openLayerEncoder() encodes two layers at once", async () => {
  const random = seededRandom("encoder twice");
  const encoder = opened();
  const layers = [randomLayer(random, 4, encoder.arena as SharedArena), randomLayer(random, 4)];
  const got = await Promise.all(
    layers.map((layer) => drain(encoder.encode(snapshotOf(layer), { major: MAJOR }))),
  );
  for (const [index, layer] of layers.entries()) assertSame(got[index], await inPlace(layer));
  encoder.close();
});

test("MemoryLayer.snapshot() does not copy more than allowed, nor what is shared", () => {
  const random = seededRandom("encoder copies");
  const plain = randomLayer(random, 1);
  assert.is(plain.memory.snapshot(plain.spaces, 1000), undefined);
  const arena = new SharedArena();
  const layer = randomLayer(random, 1, arena);
  const { memory, entries } = snapshotOf(layer);
  assert.ok(entries.buffer instanceof SharedArrayBuffer);
  assert.ok(memory.slice(0, -1).every((each) => each instanceof SharedArrayBuffer));
});

test("SharedArena.trim() gives back the last piece only, and pieces never overlap", () => {
  const arena = new SharedArena();
  const first = arena.allocate(1000);
  const second = arena.allocate(99);
  arena.trim(first, 0);
  const third = arena.allocate(8);
  assert.is(second.byteOffset, first.byteOffset + 1000);
  assert.is(third.byteOffset, second.byteOffset + 104);
  arena.trim(third, 0);
  arena.trim(second, 50);
  assert.is(arena.allocate(5_000_000).byteOffset, 0, "memory of its own");
  assert.is(arena.allocate(8).byteOffset, second.byteOffset + 56, "behind what is used of the second");
});

test("encode() ends with the signal's reason, in the midst of it too", async () => {
  const encoder = opened();
  const snapshot = snapshotOf(randomLayer(seededRandom("encoder abort"), 20));
  const aborted = AbortSignal.abort(new Error("no need"));
  assert.match(
    (await rejection(drain(encoder.encode(snapshot, { major: MAJOR, signal: aborted }))) as Error).message,
    "no need",
  );
  const abort = new AbortController();
  const file = encoder.encode(
    snapshotOf(randomLayer(seededRandom("encoder abort"), 20)),
    { major: MAJOR, signal: abort.signal },
  );
  assert.is((await file.next()).done, false);
  abort.abort(new Error("enough"));
  assert.match((await rejection(drain(file)) as Error).message, "enough");
  assert.ok(encoder.available);
  const layer = randomLayer(seededRandom("encoder after abort"), 1);
  assertSame(await drain(encoder.encode(snapshotOf(layer), { major: MAJOR })), await inPlace(layer));
  encoder.close();
});

test("encode() can be left early, and then encodes others", async () => {
  const encoder = opened();
  const file = encoder.encode(snapshotOf(randomLayer(seededRandom("encoder left"), 20)), { major: MAJOR });
  assert.is((await file.next()).done, false);
  await file.return?.();
  assert.is((await file.next()).done, true);
  const layer = randomLayer(seededRandom("encoder after return"), 1);
  assertSame(await drain(encoder.encode(snapshotOf(layer), { major: MAJOR })), await inPlace(layer));
  encoder.close();
});

test("encode() throws what encoding in place throws", async () => {
  const encoder = opened();
  const spaces = new SpaceTable();
  const space = spaces.intern(0, 1663, 5, 1, 0);
  const memory = new MemoryLayer(8 as Lsn, 1);
  const builder = new ModificationBuilder(new Uint8Array(100), 4);
  builder.addRange(space, 0, 80, VALUE_RECORD | VALUE_CARRIES_IMAGES, 0, 50, 0);
  memory.append(builder.build(80 as Lsn, 1, true, 1, 72));
  const expected = await rejection(inPlace({ memory, spaces })) as CorruptionError;
  const got = await rejection(
    drain(encoder.encode(snapshotOf({ memory, spaces }), { major: MAJOR })),
  ) as CorruptionError;
  assert.instance(expected, CorruptionError);
  assert.instance(got, CorruptionError);
  assert.is(got.message, expected.message);
  assert.equal(got.position, expected.position);
  const bent = { ...snapshotOf({ memory, spaces }), bufferLength: Int32Array.of(1e6) };
  assert.instance(await rejection(drain(encoder.encode(bent, { major: MAJOR }))), RangeError);
  assert.ok(encoder.available);
  encoder.close();
});

test("close() fails what is being encoded, and nothing more is", async () => {
  const encoder = opened();
  const layer = randomLayer(seededRandom("encoder close"), 20);
  const file = encoder.encode(snapshotOf(layer), { major: MAJOR });
  assert.is((await file.next()).done, false);
  encoder.close();
  assert.instance(await rejection(drain(file)), UnavailableError);
  assert.is(encoder.available, false);
  assert.instance(
    await rejection(drain(encoder.encode(snapshotOf(layer), { major: MAJOR }))),
    UnavailableError,
  );
});

test("encode() compresses with the codecs that it has, as encoding in place does", async () => {
  const random = seededRandom("encoder codecs");
  const encoder = opened();
  const { memory, spaces } = randomLayer(random, 2, encoder.arena as SharedArena);
  const plain = await inPlace({ memory, spaces });
  for (const codec of [LZ4_CODEC, nodeZstdCodec()!]) {
    assert.ok(encoder.compresses(codec.id));
    const expected = await drain(memoryLayerFile(memory, spaces, profileOfMajor(MAJOR), { codec }));
    const snapshot = snapshotOf({ memory, spaces });
    assertSame(await drain(encoder.encode(snapshot, { major: MAJOR, codec: codec.id })), expected);
    assert.ok(expected.bytes.length < plain.bytes.length, "compression pays");
  }
  assert.not(encoder.compresses(9));
  encoder.close();
});

for (const [how, code, pattern] of CRASHES) {
  test(`encode() fails with UnavailableError when its thread ${how}`, async () => {
    const thread = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
    const encoder = openLayerEncoder({ thread, answerMsMax: 300 })!;
    const layer = randomLayer(seededRandom("encoder crash"), 1);
    const error = await rejection(drain(encoder.encode(snapshotOf(layer), { major: MAJOR })));
    assert.instance(error, UnavailableError);
    assert.match((error as Error).message, pattern);
    assert.is(encoder.available, false);
    encoder.close();
  });
}

/** Takes some of a layer and then does not answer, the first times. */
class FalteringStore extends MemoryStore {
  failures = 0;
  constructor(readonly failuresWanted: number, readonly onFailure: () => void) {
    super();
  }
  override async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: string }> {
    if (!(body instanceof Uint8Array) && this.failures < this.failuresWanted) {
      this.failures++;
      for await (const _chunk of body.open()) break;
      this.onFailure();
      throw new UnavailableError("No answer");
    }
    return await super.put(key, body, options);
  }
}

for (const closes of [false, true]) {
  test(`Flusher encodes again when the store falters${closes ? ", in place once the encoder is closed" : ""}`, async () => {
    const encoder = opened();
    const store = new FalteringStore(2, () => closes && encoder.close());
    let runs = 0;
    const counting = {
      arena: encoder.arena,
      compresses: () => false,
      get available() {
        return encoder.available;
      },
      encode: (...all: Parameters<typeof encoder.encode>) => {
        runs++;
        return encoder.encode(...all);
      },
      close: () => encoder.close(),
    };
    const written = await WrittenTimeline.open({
      store,
      flusher: { encoder: counting, flushIntervalMs: 1e12 },
    });
    for (let block = 0; block < 300; block++) {
      await written.writeOne(imageRecord({ block, image: filledPage(block & 0xff) }));
    }
    let isDone = false;
    const flushing = written.flush().finally(() => isDone = true);
    flushing.catch(() => {});
    while (!isDone) {
      await new Promise((resolve) => setTimeout(resolve));
      if (!isDone) await written.clock.advance(15_000);
    }
    await flushing;
    assert.is(store.failures, 2);
    assert.is(runs, closes ? 1 : 3);
    for (const block of [0, 17, 299]) {
      assert.is((await written.page(16384, block))[4000], filledPage(block & 0xff)[4000]);
    }
    await written.close();
    encoder.close();
  });
}

test("importTimeline() makes the same layers of a real server's WAL with an encoder as without", async () => {
  const corpus = await walCorpus({ scale: 1, transactions: 20_000, sessions: 2 });
  const [alone, threaded] = [new MemoryStore(), new MemoryStore()];
  const encoder = opened();
  // With an arena memory layers are frozen sooner, so both have one.
  const inPlace = { ...encoder, arena: encoder.arena, available: false };
  for (const store of [alone, threaded]) {
    const imported = await importTimeline({
      store,
      clock: { ...systemClock, random: () => 0.5 },
      base: backupDirectory(corpus.baseDir),
      wal: segmentDirectory(corpus.wal.path),
      checkpointDistance: 4 * 1024 * 1024,
      encoder: store === threaded ? encoder : inPlace as typeof encoder,
    });
    await imported.follower.done;
    await imported.close();
  }
  let layers = 0;
  for await (const { key } of alone.list("timelines/main/layers/")) {
    const [left, right] = [await alone.get(key), await threaded.get(key)];
    assert.ok(left.bytes.every((byte, at) => byte === right.bytes[at]), key);
    assert.is(left.bytes.length, right.bytes.length);
    layers++;
  }
  assert.ok(layers > 4, `${layers} layers`);
  assert.ok(encoder.available);
  encoder.close();
});

test("follow() with an encoder keeps every page of PostgreSQL 17", async () => {
  const { seed } = seededRandom("encoder follow");
  await using cluster = await startCluster({ major: 17, settings: { max_prepared_transactions: 20 } });
  await mixedWorkload(cluster, { seed: seed + 1, rounds: 4, keepPrepared: false });
  const store = new MemoryStore();
  const encoder = opened();
  const work = mixedWorkload(cluster, { seed, seconds: 6 });
  const following = await followCluster(cluster, store, { encoder, checkpointDistance: 2 * 1024 * 1024 });
  await work;
  await cluster.stop("fast");
  await following.follower.stop();
  assert.ok(encoder.available);
  await following.close();
  encoder.close();
  const result = await judgeStoppedCluster(cluster, store, "PostgreSQL 17, layer encoder");
  assert.is(result.differenceCount, 0);
  assert.is(result.unsupported, 0);
});

test.run();
