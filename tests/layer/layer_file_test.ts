/**
 * Layer files: what was written is read back, by scan and by key, and misuse is refused.
 */
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";
import {
  DEFLATE,
  type Entry,
  joined,
  MemorySource,
  memorySource,
  randomEntries,
  readKey,
  scanEntries,
  writeEntries,
} from "../support/layers.ts";
import { BlockCodecs, CODEC_NONE } from "../../src/bytes/block_codec.ts";
import { crc32c } from "../../src/bytes/crc32c.ts";
import { setU16, setU32 } from "../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../src/errors.ts";
import { compareKeys, type KeySpace } from "../../src/layer/key.ts";
import { describeLayer } from "../../src/layer/layer_descriptor.ts";
import { openLayer } from "../../src/layer/layer_reader.ts";
import { scanLayer } from "../../src/layer/layer_scan.ts";
import { LayerWriter } from "../../src/layer/layer_writer.ts";
import { type Lsn, lsn } from "../../src/lsn.ts";

const test = suite("layer/layer_file");
const codecs = new BlockCodecs([DEFLATE]);
const SPACE: KeySpace = { family: 0, a: 1663, b: 5, c: 16384, d: 0 };
const EMPTY = new Uint8Array(0);

test("LayerWriter writes what scans and reads by key give back", async () => {
  const random = seededRandom("layer_file round trip");
  for (let round = 0; round < 60; round++) {
    const kind = random.pick(["delta", "image"] as const);
    const lsnStart = lsn(random.pick([0, 8, 0x16B3748, 0x1_0000_0000, Number.MAX_SAFE_INTEGER - 2 ** 42]));
    const entries = randomEntries(random, kind, lsnStart, random.int(1, 300), random.pick([3, 50, 400]));
    const blockBytes = random.pick([64, 100, 1000, 32 * 1024]);
    const codec = random.pick([undefined, DEFLATE]);
    const { file, summary } = writeEntries(entries, { kind, lsnStart, codec, blockBytes });
    assert.is(summary.size, file.length);
    assert.is(summary.entryCount, entries.length);
    assert.equal(summary.keyMin, entries[0].key);
    assert.equal(summary.keyMax, entries[entries.length - 1].key);
    assert.is(summary.lsnEnd, Math.max(...entries.map((entry) => entry.lsn)) + 1);

    const source = memorySource(file);
    const index = await openLayer(source, "layer", {
      codecs,
      expectedChecksum: summary.checksum,
      tailBytes: random.pick([0, 500, 64 * 1024]),
    });
    assert.ok(source.ranges.length <= 2, "at most two ranges");
    const { kind: readKind, keyMin, keyMax, lsnStart: start, lsnEnd, entryCount, blockCount } = index.footer;
    assert.equal({ readKind, keyMin, keyMax, start, lsnEnd, entryCount, blockCount }, {
      readKind: kind,
      keyMin: summary.keyMin,
      keyMax: summary.keyMax,
      start: lsnStart,
      lsnEnd: summary.lsnEnd,
      entryCount: summary.entryCount,
      blockCount: summary.blockCount,
    });
    assert.equal(await scanEntries(source, index, { readBytes: random.pick([1, 3000, 1 << 20]) }), entries);
    for (let i = 0; i < 30; i++) {
      const { key, lsn: at } = random.pick(entries);
      const wanted = lsn(Math.max(0, at + random.int(-1, 1)));
      const expected = entries.filter((entry) => compareKeys(entry.key, key) === 0 && entry.lsn <= wanted);
      assert.equal(await readKey(source, index, key, wanted), expected);
      const next = { ...key, block: (key.block + 1) >>> 0 };
      const neighbour = entries.filter((entry) => compareKeys(entry.key, next) === 0);
      assert.equal(await readKey(source, index, next, summary.lsnEnd), neighbour);
    }
    for (let i = 0; i < 10; i++) {
      const [low, high] = [random.pick(entries).key, random.pick(entries).key].sort(compareKeys);
      const range = { keyMin: { ...low, block: low.block ^ random.int(0, 1) }, keyMax: high };
      const expected = entries.filter(({ key }) =>
        compareKeys(range.keyMin, key) <= 0 && compareKeys(key, high) <= 0
      );
      assert.equal(await scanEntries(source, index, range), expected);
    }
  }
});

test("LayerIndex.findBlock() never names a block in vain where the index can tell", async () => {
  const entries: Entry[] = [];
  for (const block of [3, 4, 9]) {
    for (let version = 0; version < 40; version++) {
      entries.push({
        key: { ...SPACE, block },
        lsn: lsn(1000 + version * 8),
        flags: 1,
        value: new Uint8Array(20),
      });
    }
  }
  const { file } = writeEntries(entries, { kind: "delta", lsnStart: lsn(1000), blockBytes: 100 });
  const index = await openLayer(memorySource(file), "layer");
  assert.is(index.findBlock(SPACE, 2, lsn(9999)), -1, "before the first key");
  assert.is(index.findBlock(SPACE, 3, lsn(999)), -1, "before the first LSN");
  assert.is(index.findBlock(SPACE, 3, lsn(1000)), 0);
  assert.is(index.findBlock(SPACE, 9, lsn(9999)), index.blockCount - 1);
  for (let at = 1; at < index.blockCount; at++) {
    const key = index.firstKey(at);
    const before = index.decodeBlock(file.subarray(index.blockOffset(at - 1), index.blockOffset(at)), at - 1);
    assert.is(index.continues(at), compareKeys(before.keyAt(before.count - 1), key) === 0);
    const found = index.findBlock(SPACE, key.block, index.firstLsn(at) - 1 as Lsn);
    assert.is(found, index.continues(at) ? at - 1 : -1);
  }
});

test("LayerIndex.blocksInRange() of one key is the blocks that hold it, no more", async () => {
  for (const length of [20, 80]) {
    const entries = [3, 4, 9].flatMap((block) =>
      Array.from({ length: 7 }, (_, version): Entry => (
        { key: { ...SPACE, block }, lsn: lsn(1000 + version), flags: 1, value: new Uint8Array(length) }
      ))
    );
    const { file } = writeEntries(entries, { kind: "delta", lsnStart: lsn(1000), blockBytes: 150 });
    const index = await openLayer(memorySource(file), "layer");
    for (const block of [3, 4, 9]) {
      const holding: number[] = [];
      for (let at = 0; at < index.blockCount; at++) {
        const decoded = index.decodeBlock(
          file.subarray(index.blockOffset(at), index.blockOffset(at + 1)),
          at,
        );
        const [first, end] = decoded.find(SPACE, block);
        if (first < end) holding.push(at);
      }
      const key = { ...SPACE, block };
      assert.equal(index.blocksInRange(key, key), {
        first: holding[0],
        end: holding[holding.length - 1] + 1,
      });
    }
  }
});

test("LayerWriter puts a value of megabytes in a block of its own", async () => {
  const random = seededRandom("layer_file long values");
  const lengths = [10, 3 << 20, 20, 700_000, 700_000, 5];
  const entries = lengths.map((length, i): Entry => {
    const value = new Uint8Array(length).fill(random.int(0, 255));
    return { key: { ...SPACE, block: i >> 1 }, lsn: lsn(100 + i), flags: 1, value };
  });
  for (const codec of [undefined, DEFLATE]) {
    const { file } = writeEntries(entries, { kind: "delta", lsnStart: lsn(100), codec });
    const source = memorySource(file);
    const index = await openLayer(source, "layer", { codecs });
    assert.equal(await scanEntries(source, index), entries);
  }
});

test("LSNs up to 2^53 - 2 fit in a layer that starts at 0", async () => {
  const lsns = [0, 127, 128, 2 ** 31, 2 ** 32, 2 ** 42, 2 ** 48, 2 ** 49, 2 ** 50, 2 ** 52, 2 ** 53 - 2];
  const entries = lsns.flatMap((at, block): Entry[] => [
    { key: { ...SPACE, block }, lsn: lsn(0), flags: 1, value: EMPTY },
    ...(at > 0 ? [{ key: { ...SPACE, block }, lsn: lsn(at), flags: 1, value: EMPTY }] : []),
  ]);
  entries.push(...lsns.map((at, block): Entry => ({
    key: { ...SPACE, d: 1, block },
    lsn: lsn(at),
    flags: 1,
    value: EMPTY,
  })));
  for (const blockBytes of [64, 32 * 1024]) {
    const source = memorySource(writeEntries(entries, { kind: "delta", lsnStart: lsn(0), blockBytes }).file);
    assert.equal(await scanEntries(source, await openLayer(source, "layer")), entries);
  }
});

test("LayerWriter puts a hole's four bytes in front of the value", async () => {
  const writer = new LayerWriter({ kind: "delta", lsnStart: lsn(8) });
  writer.beginSpace(SPACE);
  writer.addBlock(1, lsn(8), 2, Uint8Array.of(9, 8, 7), 1, 2, 0xfffe_0102);
  writer.finish();
  const source = memorySource(joined(writer.take()));
  const [entry] = await scanEntries(source, await openLayer(source, "layer"));
  assert.equal(entry.value, Uint8Array.of(0x02, 0x01, 0xfe, 0xff, 8, 7));
});

test("LayerWriter hands out chunks as it goes and keeps no more than one", () => {
  const writer = new LayerWriter({ kind: "delta", lsnStart: lsn(8) });
  const value = new Uint8Array(8192);
  let taken = 0;
  let largest = 0;
  for (let block = 0; block < 1000; block++) {
    writer.add(SPACE, block, lsn(8), 1, value, 0, value.length);
    for (const chunk of writer.take()) {
      taken += chunk.length;
      largest = Math.max(largest, chunk.length);
    }
    assert.ok(writer.writtenBytes - taken <= 512 * 1024);
  }
  assert.ok(
    taken > 7_000_000 && largest > 400_000 && largest <= 512 * 1024,
    `${taken} in chunks up to ${largest}`,
  );
});

test("LayerWriter skips spaces without entries", async () => {
  const writer = new LayerWriter({ kind: "delta", lsnStart: lsn(8) });
  for (const c of [0, 1, 255, 256, 257, 300]) {
    writer.beginSpace({ ...SPACE, c });
    if (c === 1 || c === 257) writer.addBlock(7, lsn(8), 0, EMPTY, 0, 0);
  }
  const summary = writer.finish();
  assert.equal([summary.keyMin.c, summary.keyMax.c, summary.keyMax.block], [1, 257, 7]);
  const source = memorySource(joined(writer.take()));
  const entries = await scanEntries(source, await openLayer(source, "layer"));
  assert.equal(entries.map(({ key }) => [key.c, key.block]), [[1, 7], [257, 7]]);
});

test("LayerWriter refuses what does not ascend or is out of range", () => {
  const open = () => {
    const writer = new LayerWriter({ kind: "delta", lsnStart: lsn(100), lsnEnd: lsn(200) });
    writer.add(SPACE, 5, lsn(150), 1, EMPTY, 0, 0);
    return writer;
  };
  const refuse = (act: (writer: LayerWriter) => void) => assert.raises(() => act(open()), RangeError);
  refuse((writer) => writer.add(SPACE, 4, lsn(160), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 5, lsn(150), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 5, lsn(149), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 6, lsn(99), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 6, lsn(200), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 6, NaN as Lsn, 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, -1, lsn(160), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 2 ** 32, lsn(160), 1, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 6, lsn(160), 256, EMPTY, 0, 0));
  refuse((writer) => writer.add(SPACE, 6, lsn(160), 1, EMPTY, 0, 1));
  refuse((writer) => writer.add(SPACE, 6, lsn(160), 1, EMPTY, -1, 1));
  refuse((writer) => writer.add({ ...SPACE, c: 16383 }, 6, lsn(160), 1, EMPTY, 0, 0));
  refuse((writer) => writer.beginSpace({ ...SPACE, a: -1 }));
  refuse((writer) => writer.beginSpace({ ...SPACE, family: 256 }));
  refuse((writer) => writer.finish({ lsnEnd: lsn(150) }));
  refuse((writer) => writer.finish({ keyMin: { ...SPACE, block: 6 } }));
  refuse((writer) => writer.finish({ keyMax: { ...SPACE, block: 4 } }));
  assert.raises(() => new LayerWriter({ kind: "delta", lsnStart: lsn(5), lsnEnd: lsn(5) }), RangeError);
  assert.raises(() => new LayerWriter({ kind: "image", lsnStart: lsn(5), lsnEnd: lsn(9) }), RangeError);
  assert.raises(() => new LayerWriter({ kind: "delta", lsnStart: lsn(5), complete: true }), RangeError);
  assert.raises(() => new LayerWriter({ kind: "delta", lsnStart: lsn(5), blockBytes: 0 }), RangeError);
  assert.raises(() => new LayerWriter({ kind: "delta", lsnStart: lsn(5) }).finish(), RangeError);
  const noSpace = new LayerWriter({ kind: "delta", lsnStart: lsn(5) });
  assert.raises(() => noSpace.addBlock(0, lsn(5), 0, EMPTY, 0, 0), TypeError);
  const finished = open();
  finished.finish();
  assert.raises(() => finished.add(SPACE, 9, lsn(160), 1, EMPTY, 0, 0), TypeError);
  assert.raises(() => finished.finish(), TypeError);
  const image = new LayerWriter({ kind: "image", lsnStart: lsn(5) });
  assert.raises(() => image.add(SPACE, 9, lsn(6), 1, EMPTY, 0, 0), RangeError);
});

test("LayerWriter.finish() widens the range of a complete image, even of one without entries", async () => {
  const range = { keyMin: { ...SPACE, block: 0 }, keyMax: { ...SPACE, block: 99 } };
  for (const count of [0, 3]) {
    const entries = Array.from({ length: count }, (_, i): Entry => ({
      key: { ...SPACE, block: 50 + i },
      lsn: lsn(800),
      flags: 0,
      value: Uint8Array.of(i),
    }));
    const { file, summary } = writeEntries(
      entries,
      { kind: "image", lsnStart: lsn(800), complete: true },
      range,
    );
    assert.equal([summary.keyMin, summary.keyMax, summary.complete], [range.keyMin, range.keyMax, true]);
    const source = memorySource(file);
    const index = await openLayer(source, "layer");
    assert.is(index.footer.complete, true);
    assert.equal(await scanEntries(source, index), entries);
    assert.is(index.findBlock(SPACE, 10, lsn(800)), -1);
  }
});

test("describeLayer() says of a layer what its writer said", () => {
  const { summary } = writeEntries(
    [{ key: { ...SPACE, block: 1 }, lsn: lsn(800), flags: 0, value: EMPTY }],
    { kind: "delta", lsnStart: lsn(700) },
    { lsnEnd: lsn(900) },
  );
  const { name, ...rest } = describeLayer(summary, 3, 0xabc);
  assert.ok(name.endsWith("-00000003-00000abc"), name);
  assert.equal(rest, {
    kind: "delta",
    keyMin: { ...SPACE, block: 1 },
    keyMax: { ...SPACE, block: 1 },
    lsnStart: lsn(700),
    lsnEnd: lsn(900),
    size: summary.size,
    checksum: summary.checksum,
    complete: false,
    level: 0,
    epoch: 3,
  });
});

test("a block that does not shrink is stored as it is, others by the codec", async () => {
  const random = seededRandom("layer_file codec");
  const entries = [random.bytes(2000), new Uint8Array(2000)].map((value, block): Entry => ({
    key: { ...SPACE, block },
    lsn: lsn(8),
    flags: 0,
    value,
  }));
  const { file } = writeEntries(entries, {
    kind: "delta",
    lsnStart: lsn(8),
    codec: DEFLATE,
    blockBytes: 2050,
  });
  const index = await openLayer(memorySource(file), "layer", { codecs });
  assert.equal([index.codec(0), index.codec(1)], [CODEC_NONE, DEFLATE.id]);
  const without = await openLayer(memorySource(file), "layer");
  const raw = file.subarray(index.blockOffset(1), index.blockOffset(2));
  assert.is(without.decodeBlock(file.subarray(16, index.blockOffset(1)), 0).count, 1);
  const error = assert.raises(() => without.decodeBlock(raw, 1), UnsupportedError);
  assert.match(error.message, "codec 42");
});

test("a codec that fails or gives another length is damage, with its error as the cause", async () => {
  const entry: Entry = { key: { ...SPACE, block: 0 }, lsn: lsn(8), flags: 0, value: new Uint8Array(2000) };
  const { file } = writeEntries([entry], { kind: "delta", lsnStart: lsn(8), codec: DEFLATE });
  const failure = new Error("bad stream");
  const lies = [
    (length: number) => new Uint8Array(length - 1),
    (length: number) => new Uint8Array(length + 1),
    () => {
      throw failure;
    },
  ];
  for (const lie of lies) {
    const lying = new BlockCodecs([{ ...DEFLATE, decompress: (_, length) => lie(length) }]);
    const index = await openLayer(memorySource(file), "layer", { codecs: lying });
    const raw = file.subarray(index.blockOffset(0), index.blockOffset(1));
    const error = assert.raises(() => index.decodeBlock(raw, 0), CorruptionError);
    assert.ok(error.cause === undefined || error.cause === failure);
  }
});

test("openLayer() takes one range if footer and index fit in the tail, else two", async () => {
  const entries = Array.from({ length: 3000 }, (_, block): Entry => ({
    key: { ...SPACE, block },
    lsn: lsn(8),
    flags: 0,
    value: new Uint8Array(100),
  }));
  const { file, summary } = writeEntries(entries, { kind: "delta", lsnStart: lsn(8), blockBytes: 128 });
  assert.is(summary.blockCount, 3000);
  const whole = memorySource(file);
  await openLayer(whole, "layer");
  assert.equal(whole.ranges, [{ offset: file.length - 65536, length: 65536 }]);
  const short = memorySource(file);
  const index = await openLayer(short, "layer", { tailBytes: 1000 });
  const { indexOffset, indexLength } = index.footer;
  assert.equal(short.ranges, [{ offset: file.length - 1000, length: 1000 }, {
    offset: indexOffset,
    length: indexLength,
  }]);
  assert.ok(indexLength / 3000 < 16, `${indexLength / 3000} bytes a row`);
});

test("openLayer() refuses a newer version by name, and a damaged version as damage", async () => {
  const { file } = writeEntries([{ key: { ...SPACE, block: 1 }, lsn: lsn(8), flags: 0, value: EMPTY }], {
    kind: "delta",
    lsnStart: lsn(8),
  });
  const newer = file.slice();
  setU16(newer, newer.length - 16, 7);
  await assert.rejects(openLayer(memorySource(newer), "layer"), CorruptionError);
  setU32(newer, newer.length - 12, crc32c(newer, newer.length - 120, newer.length - 12));
  const error = await assert.rejects(openLayer(memorySource(newer), "some-layer"), UnsupportedError);
  assert.match(
    error.message,
    "Cannot read layer some-layer: it has format version 7, this build reads up to 1",
  );
  // A footer of another length, as a later version may have.
  const longer = joined([file.subarray(0, file.length - 16), new Uint8Array(40), newer.slice(-16)]);
  setU16(longer, longer.length - 14, 160);
  setU32(longer, longer.length - 12, crc32c(longer, longer.length - 160, longer.length - 12));
  await assert.rejects(openLayer(memorySource(longer), "layer"), UnsupportedError);
});

test("openLayer() refuses another layer than the manifest's, and a source that answers short", async () => {
  const { file, summary } = writeEntries([{
    key: { ...SPACE, block: 1 },
    lsn: lsn(8),
    flags: 0,
    value: EMPTY,
  }], {
    kind: "delta",
    lsnStart: lsn(8),
  });
  const expectedChecksum = summary.checksum ^ 1;
  await assert.rejects(openLayer(memorySource(file), "layer", { expectedChecksum }), CorruptionError);
  const short = new MemorySource(file, file.length + 10);
  const error = await assert.rejects(openLayer(short, "the object", { tailBytes: 100 }), CorruptionError);
  assert.match(error.message, "the object");
});

test("scanLayer() stops reading when the loop ends, and when the signal fires", async () => {
  const entries = Array.from({ length: 1000 }, (_, block): Entry => ({
    key: { ...SPACE, block },
    lsn: lsn(8),
    flags: 0,
    value: new Uint8Array(100),
  }));
  const { file } = writeEntries(entries, { kind: "delta", lsnStart: lsn(8), blockBytes: 1000 });
  const source = memorySource(file);
  const index = await openLayer(source, "layer");
  source.ranges.length = 0;
  for await (const step of scanLayer(source, index, { readBytes: 4000 })) {
    if (step.blockIndex === 5) break;
  }
  assert.ok(source.ranges.length <= 3, `${source.ranges.length} ranges`);
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const step of scanLayer(source, index, { readBytes: 4000, signal: controller.signal })) {
      if (step.blockIndex === 5) controller.abort(new Error("enough"));
    }
  }, "enough");
});

test("scanLayer() passes on what the source rejects with, once", async () => {
  const { file } = writeEntries(
    randomEntries(seededRandom("layer_file scan"), "delta", lsn(8), 100, 50),
    { kind: "delta", lsnStart: lsn(8), blockBytes: 100 },
  );
  const index = await openLayer(memorySource(file), "layer");
  let reads = 0;
  const failing = {
    size: file.length,
    readRange: (offset: number, length: number) =>
      ++reads > 2
        ? Promise.reject(new Error("no answer"))
        : Promise.resolve(file.slice(offset, offset + length)),
  };
  await assert.rejects(scanEntries(failing, index, { readBytes: 200 }), "no answer");
});

test("scanLayer() tells of a failed read ahead when it is asked for it, not before", async () => {
  const { file } = writeEntries(
    randomEntries(seededRandom("layer_file ahead"), "delta", lsn(8), 100, 50),
    { kind: "delta", lsnStart: lsn(8), blockBytes: 100 },
  );
  const index = await openLayer(memorySource(file), "layer");
  let reads = 0;
  const failing = {
    size: file.length,
    readRange: (offset: number, length: number) =>
      ++reads > 1
        ? Promise.reject(new Error("no answer"))
        : Promise.resolve(file.slice(offset, offset + length)),
  };
  const steps = scanLayer(failing, index, { readBytes: 200 });
  assert.not.ok((await steps.next()).done);
  // Whoever merges many layers comes back to this one later.
  await new Promise((resolve) => setTimeout(resolve));
  await assert.rejects(async () => {
    while (!(await steps.next()).done);
  }, "no answer");
});

test.run();
