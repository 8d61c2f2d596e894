/** Codecs of layer blocks: what they compress comes back, and bad input is an error. */
import type { BlockCodec } from "../../src/bytes/block_codec.ts";
import { LZ4_CODEC, PORTABLE_CODECS, ZSTD_READER } from "../../src/bytes/portable_codecs.ts";
import { nodeZstdCodec } from "../../src/deps/node_zstd.ts";
import { CorruptionError } from "../../src/errors.ts";
import { assert, suite } from "../support/harness.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";

const test = suite("bytes/portable_codecs");

const zstd = nodeZstdCodec();
if (zstd === undefined) throw new Error("Cannot test: this runtime does not compress Zstandard");
const CODECS: [string, BlockCodec][] = [["LZ4", LZ4_CODEC], ["Zstandard", zstd]];

/** Bytes that repeat now and then, near and far. */
function repetitive(random: SeededRandom, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const run = Math.min(random.int(1, random.chance(0.05) ? 5000 : 60), length - at);
    if (at > 0 && random.chance(0.6)) {
      const from = Math.max(0, at - random.int(1, random.chance(0.5) ? 20 : 100_000));
      for (let index = 0; index < run; index++) bytes[at + index] = bytes[from + index];
    } else bytes.set(random.bytes(run), at);
    at += run;
  }
  return bytes;
}

for (const [name, codec] of CODECS) {
  test(`${name}: blocks of every kind come back, read with what every reader has`, () => {
    const random = seededRandom(`portable codecs ${name}`);
    const blocks = [1, 4, 5, 11, 12, 13, 16, 64, 300].flatMap((length) => [
      new Uint8Array(length),
      random.bytes(length),
    ]);
    blocks.push(new Uint8Array(200_000), random.bytes(40_000));
    for (let round = 0; round < 300; round++) blocks.push(repetitive(random, random.int(1, 70_000)));
    let [raw, stored] = [0, 0];
    for (const block of blocks) {
      const compressed = codec.compress(block);
      if (compressed.length >= block.length) continue; // stored as it is
      raw += block.length;
      stored += compressed.length;
      const back = PORTABLE_CODECS.get(codec.id).decompress(compressed, block.length);
      assert.is(back.length, block.length);
      assert.ok(back.every((byte, at) => byte === block[at]), `${block.length} bytes`);
    }
    assert.ok(raw > 5_000_000 && stored < raw * 0.7, `${raw} bytes became ${stored}`);
  });

  test(`${name}: damaged blocks are rubbish of the right length or an error`, () => {
    const random = seededRandom(`portable codecs damage ${name}`);
    const block = repetitive(random, 8000);
    const compressed = codec.compress(block);
    let refused = 0;
    for (let round = 0; round < 2000; round++) {
      const damaged = compressed.slice(0, random.int(0, compressed.length));
      for (let count = random.int(0, 3); count > 0 && damaged.length > 0; count--) {
        damaged[random.int(0, damaged.length - 1)] ^= 1 << random.int(0, 7);
      }
      try {
        assert.is(PORTABLE_CODECS.get(codec.id).decompress(damaged, block.length).length, block.length);
      } catch (error) {
        assert.instance(error, CorruptionError);
        refused++;
      }
    }
    assert.ok(refused > 1000, `${refused} of 2000 refused`);
  });
}

test("ZSTD_READER leaves blocks as they are", () => {
  const block = new Uint8Array(1000);
  assert.is(ZSTD_READER.compress(block), block);
});

test.run();
