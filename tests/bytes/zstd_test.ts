/** Our Zstandard decoder against the library's compressor, which comes with the runtime. */
import { constants, zstdCompressSync } from "node:zlib";
import { zstdDecompress } from "../../src/bytes/zstd.ts";
import { assert, suite } from "../support/harness.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";

const test = suite("bytes/zstd");

function compress(bytes: Uint8Array, params: Record<number, number>): Uint8Array {
  // High levels reserve memory for their window, not for the input.
  return new Uint8Array(zstdCompressSync(bytes, { params: { [constants.ZSTD_c_windowLog]: 17, ...params } }));
}

/** Content of many kinds: incompressible, few symbols, words, one byte, periodic, skewed. */
function someBytes(random: SeededRandom, size: number): Uint8Array {
  const bytes = random.bytes(size);
  const words = Array.from({ length: 100 }, () => random.text(random.int(1, 9)));
  switch (random.int(0, 5)) {
    case 0:
      return bytes;
    case 1:
      return bytes.map((byte) => byte & 3);
    case 2: {
      let text = "";
      while (text.length < size) text += random.pick(words) + " ";
      return new TextEncoder().encode(text).slice(0, size);
    }
    case 3:
      return bytes.fill(random.uint32());
    case 4:
      return bytes.map((byte, index) => byte < 25 ? byte : index & 63);
    default:
      return bytes.map((byte) => Math.floor((byte / 256) ** 6 * 256));
  }
}

test("zstdDecompress() restores what the library compressed, at all levels and with all options", () => {
  const random = seededRandom("bytes/zstd");
  for (let round = 0; round < 400; round++) {
    const bytes = someBytes(random, round % 60 === 0 ? random.int(130_000, 600_000) : random.int(0, 9000));
    const compressed = compress(bytes, {
      [constants.ZSTD_c_compressionLevel]: random.pick([-5, 1, 2, 3, 5, 9, 13, 19]),
      [constants.ZSTD_c_checksumFlag]: random.int(0, 1),
      [constants.ZSTD_c_contentSizeFlag]: random.int(0, 1),
    });
    const source = new Uint8Array(compressed.length + 9);
    source.set(compressed, 4);
    const target = new Uint8Array(bytes.length + 1).fill(0xaa);
    assert.ok(zstdDecompress(source, 4, compressed.length, target, bytes.length), `round ${round}`);
    assert.ok(bytes.every((byte, index) => target[index] === byte), `round ${round}`);
    assert.is(target[bytes.length], 0xaa);
  }
});

test("zstdDecompress() refuses frames that are cut off or yield another size", () => {
  const bytes = someBytes(seededRandom("bytes/zstd cut"), 3000);
  const compressed = compress(bytes, {});
  const target = new Uint8Array(4000);
  // The last bytes may be an empty frame, which can be left out as a whole.
  const complete = Array.from({ length: compressed.length + 1 }, (_, length) => length)
    .filter((length) => zstdDecompress(compressed.subarray(0, length), 0, length, target, bytes.length));
  assert.ok(complete.length <= 2, `also complete with ${complete}`);
  assert.is(complete.at(-1), compressed.length);
  assert.not(zstdDecompress(compressed, 0, compressed.length, target, bytes.length - 1));
  assert.not(zstdDecompress(compressed, 0, compressed.length, target, bytes.length + 1));
  assert.not(zstdDecompress(compressed, 0, compressed.length + 1, target, bytes.length));
  assert.not(zstdDecompress(compressed, 0, compressed.length, new Uint8Array(10), bytes.length));
  assert.not(zstdDecompress(new Uint8Array(0), 0, 0, target, 0));
});

test("zstdDecompress() bounds its work by the size expected, whatever the frame claims", () => {
  // One block of one byte repeated 131,072 times; the frame names no size.
  const bomb = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0x00, 0x10, 0x41);
  assert.ok(zstdDecompress(bomb, 0, bomb.length, new Uint8Array(131072), 131072));
  assert.not(zstdDecompress(bomb, 0, bomb.length, new Uint8Array(131072), 8192));
});

test("zstdDecompress() survives 40,000 mutations, quickly and inside its target", () => {
  const random = seededRandom("bytes/zstd mutations");
  const target = new Uint8Array(2600);
  let refused = 0;
  for (let sample = 0; sample < 8; sample++) {
    const bytes = someBytes(random, 2500);
    const compressed = compress(bytes, { [constants.ZSTD_c_compressionLevel]: random.pick([1, 9, 19]) });
    for (let round = 0; round < 5000; round++) {
      const mutated = compressed.slice();
      for (let times = random.int(1, 3); times > 0; times--) {
        mutated[random.int(0, mutated.length - 1)] = random.uint32();
      }
      target.fill(0x55, bytes.length);
      if (!zstdDecompress(mutated, 0, mutated.length, target, bytes.length)) refused++;
      for (let at = bytes.length; at < target.length; at++) {
        if (target[at] !== 0x55) assert.unreachable(`wrote at ${at}`);
      }
    }
  }
  assert.ok(refused > 1000);
});

test.run();
