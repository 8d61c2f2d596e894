/**
 * Damaged and hostile layer files: a typed error or the right answer, never a wrong value, a hang, or memory without bound.
 */
import { assert, suite } from "../support/harness.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import {
  DEFLATE,
  type Entry,
  MemorySource,
  memorySource,
  randomEntries,
  readKey,
  scanEntries,
  writeEntries,
} from "../support/layers.ts";
import { BlockCodecs } from "../../src/bytes/block_codec.ts";
import { crc32c } from "../../src/bytes/crc32c.ts";
import { getU32, getU64, setU32 } from "../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError, VarveError } from "../../src/errors.ts";
import { compareKeys } from "../../src/layer/key.ts";
import { dumpLayer } from "../../src/layer/layer_dump.ts";
import { FOOTER_LENGTH, HEADER_LENGTH } from "../../src/layer/layer_format.ts";
import { openLayer } from "../../src/layer/layer_reader.ts";
import type { LayerSource } from "../../src/layer/layer_reader.ts";
import { lsn } from "../../src/lsn.ts";

const test = suite("layer/layer_damage");
const codecs = new BlockCodecs([DEFLATE]);

function makeFile(random: SeededRandom, keyCount: number): { entries: Entry[]; file: Uint8Array } {
  const kind = random.pick(["delta", "image"] as const);
  const lsnStart = lsn(0x16B3748);
  const entries = randomEntries(random, kind, lsnStart, keyCount, 30);
  const codec = random.pick([undefined, DEFLATE]);
  return { entries, file: writeEntries(entries, { kind, lsnStart, codec, blockBytes: 200 }).file };
}

/** Reads everything; returns the entries, or the typed error. Any other error goes through. */
async function readAll(source: LayerSource): Promise<Entry[] | VarveError> {
  try {
    const index = await openLayer(source, "layer", { codecs });
    return await scanEntries(source, index);
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof UnsupportedError) return error;
    throw error;
  }
}

/** A dump must not fail either, and must notice. */
async function countDamages(source: LayerSource): Promise<number> {
  const lines = dumpLayer(source, "layer", { codecs });
  for (;;) {
    const step = await lines.next();
    if (step.done) return step.value;
  }
}

test("every truncation of a file is refused", async () => {
  const { file } = makeFile(seededRandom("layer_damage truncation"), 12);
  assert.ok(file.length > 200);
  for (let length = 0; length < file.length; length++) {
    const cut = file.slice(0, length);
    const result = await readAll(memorySource(cut));
    assert.instance(result, CorruptionError, `cut to ${length}`);
    assert.is((result as CorruptionError).position.object, "layer");
    assert.ok(await countDamages(memorySource(cut)) > 0);
    // The size is known, the bytes are not there: the source answers short.
    assert.instance(await readAll(new MemorySource(cut, file.length)), CorruptionError);
  }
});

test("10,000 random mutations give an error or the right entries", async () => {
  const random = seededRandom("layer_damage mutation");
  let refused = 0;
  for (let round = 0; round < 100; round++) {
    const { entries, file } = makeFile(random, 10);
    for (let i = 0; i < 100; i++) {
      const mutated = mutate(random, file);
      const result = await readAll(memorySource(mutated));
      if (result instanceof VarveError) refused++;
      else assert.equal(result, entries, `mutation ${i} of round ${round}`);
    }
  }
  assert.ok(refused > 9900, `${refused} refused: no byte of the file is without a checksum`);
});

test("single reads never give a wrong value either", async () => {
  const random = seededRandom("layer_damage single reads");
  let right = 0;
  let refused = 0;
  for (let round = 0; round < 300; round++) {
    const { entries, file } = makeFile(random, 40);
    const intact = await openLayer(memorySource(file), "layer", { codecs });
    // Damage after the index was read and cached: blocks alone must tell.
    const mutated = file.slice();
    mutated[random.int(HEADER_LENGTH, intact.footer.indexOffset - 1)] ^= 1 << random.int(0, 7);
    for (let i = 0; i < 10; i++) {
      const { key, lsn: at } = random.pick(entries);
      try {
        const got = await readKey(memorySource(mutated), intact, key, at);
        assert.equal(got, await readKey(memorySource(file), intact, key, at));
        right++;
      } catch (error) {
        assert.instance(error, CorruptionError);
        assert.ok((error as CorruptionError).position.offset! >= HEADER_LENGTH);
        refused++;
      }
    }
  }
  assert.ok(right > 100 && refused > 100, `${right} right, ${refused} refused`);
});

test("files with right checksums and hostile content end in bounded time and memory", async () => {
  const random = seededRandom("layer_damage hostile");
  let refused = 0;
  for (let round = 0; round < 4000; round++) {
    const { file } = makeFile(random, 8);
    const footerStart = file.length - FOOTER_LENGTH;
    const hostile = file.slice();
    const target = random.pick(["block", "index", "footer"] as const);
    const [low, high] = target === "footer"
      ? [footerStart, footerStart + 104]
      : target === "index"
      ? [getU64(file, footerStart), footerStart]
      : [HEADER_LENGTH, getU64(file, footerStart)];
    for (let n = random.int(1, 4); n > 0; n--) {
      const at = random.int(low, high - 1);
      hostile[at] = random.pick([
        0,
        1,
        0x7f,
        0x80,
        0xff,
        hostile[at] + 1,
        hostile[at] - 1,
        random.int(0, 255),
      ]);
    }
    fixChecksums(hostile, file);
    const result = await readAll(memorySource(hostile));
    if (result instanceof VarveError) refused++;
    else await checkOrder(memorySource(hostile), result);
    await countDamages(memorySource(hostile));
  }
  assert.ok(refused > 2000, `${refused} of 4000 refused`);
});

/** What is accepted is in order, inside the layer's ranges, and the same by key as by scan. */
async function checkOrder(source: LayerSource, entries: readonly Entry[]): Promise<void> {
  const index = await openLayer(source, "layer", { codecs });
  const { lsnStart, lsnEnd } = index.footer;
  for (const [i, { key, lsn }] of entries.entries()) {
    assert.ok(lsn >= lsnStart && lsn < lsnEnd);
    const previous = entries[i - 1];
    const order = previous === undefined ? 1 : compareKeys(key, previous.key) || lsn - previous.lsn;
    assert.ok(order > 0, "strictly ascending");
    if (i % 7 === 0) {
      const expected = entries.filter((entry) => compareKeys(entry.key, key) === 0 && entry.lsn <= lsn);
      assert.equal(await readKey(source, index, key, lsn), expected);
    }
  }
}

/** One to three bytes changed, a run zeroed, a piece moved, or one cut out (the length kept by zeros at the end). */
function mutate(random: SeededRandom, file: Uint8Array): Uint8Array {
  const mutated = file.slice();
  const at = random.int(0, file.length - 1);
  switch (random.int(0, 5)) {
    case 0:
      mutated[at] ^= 1 << random.int(0, 7);
      break;
    case 1:
      mutated[at] = mutated[at] + random.int(1, 255);
      break;
    case 2:
      for (let n = 3; n > 0; n--) mutated[random.int(0, file.length - 1)] = random.int(0, 255);
      break;
    case 3:
      mutated.fill(0, at, at + random.int(1, 64));
      break;
    case 4:
      mutated.copyWithin(at, random.int(0, file.length - 1), file.length);
      break;
    default:
      mutated.copyWithin(at, at + random.int(1, 16));
      mutated.fill(0, file.length - 16);
  }
  return mutated;
}

/** Makes the checksums of blocks, index and footer right again, where the blocks still are what `original` says. */
function fixChecksums(file: Uint8Array, original: Uint8Array): void {
  const footer = file.length - FOOTER_LENGTH;
  const indexOffset = getU64(original, footer);
  // The rows' checksums are found by walking the original's: each is the last four bytes of its row.
  let offset = HEADER_LENGTH;
  let at = indexOffset;
  while (at < footer) {
    const shared = original[at];
    at += 1 + 18 - shared;
    const lengths: number[] = [];
    for (let field = 0; field < 3; field++) {
      let value = 0;
      for (let scale = 1;; scale *= 128) {
        const byte = original[at++];
        value += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
      }
      lengths.push(value);
    }
    setU32(file, at + 1, crc32c(file, offset, offset + lengths[1]));
    offset += lengths[1];
    at += 5;
  }
  if (getU64(file, footer) === indexOffset && getU32(file, footer + 8) === footer - indexOffset) {
    setU32(file, footer + 12, crc32c(file, indexOffset, footer));
  }
  setU32(file, footer + 108, crc32c(file, footer, footer + 108));
}

/** Three entries in one block, uncompressed. */
function plainFile(): Uint8Array {
  const key = { family: 0, a: 1663, b: 5, c: 16384, d: 0 };
  const entries = [0, 1, 2].map((block): Entry => ({
    key: { ...key, block },
    lsn: lsn(8),
    flags: 1,
    value: new Uint8Array(9),
  }));
  return writeEntries(entries, { kind: "delta", lsnStart: lsn(8) }).file;
}

test("a block with fewer entries than bytes is refused", async () => {
  const file = plainFile();
  const hostile = file.slice();
  setU32(hostile, HEADER_LENGTH, 2);
  fixChecksums(hostile, file);
  assert.match((await readAll(memorySource(hostile)) as Error).message, "bytes behind the last entry");
});

test("an index whose blocks do not end where it begins is refused", async () => {
  const file = plainFile();
  const footer = file.length - FOOTER_LENGTH;
  const indexOffset = getU64(file, footer);
  const hostile = file.slice();
  // Row 0: shared, 18 bytes of key, LSN, then the two lengths of one byte each.
  hostile[indexOffset + 20]++;
  hostile[indexOffset + 21]++;
  setU32(hostile, footer + 88, getU32(hostile, footer + 88) + 1);
  setU32(hostile, indexOffset + 23, crc32c(hostile, HEADER_LENGTH, indexOffset + 1));
  setU32(hostile, footer + 12, crc32c(hostile, indexOffset, footer));
  setU32(hostile, footer + 108, crc32c(hostile, footer, footer + 108));
  assert.match((await readAll(memorySource(hostile)) as Error).message, "does not add up");
});

test("a footer that promises more than there is allocates nothing for it", async () => {
  const { file } = makeFile(seededRandom("layer_damage counts"), 10);
  const footer = file.length - FOOTER_LENGTH;
  for (const [at, what] of [[24, "block count"], [16, "entry count"], [88, "bytes"]] as const) {
    const hostile = file.slice();
    setU32(hostile, footer + at, 0xffff_fff0);
    setU32(hostile, footer + 108, crc32c(hostile, footer, footer + 108));
    assert.instance(await readAll(memorySource(hostile)), CorruptionError, what);
  }
});

test.run();
