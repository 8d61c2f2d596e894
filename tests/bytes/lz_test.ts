/** PGLZ and LZ4: both decoders against small compressors of our own, hand-made input, and input gone bad. */
import { lz4DecompressBlock } from "../../src/bytes/lz4.ts";
import { pglzDecompress } from "../../src/bytes/pglz.ts";
import { assert, suite } from "../support/harness.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";

const test = suite("bytes/lz");

type Decompress = typeof pglzDecompress;

/** A stretch of the input that repeats what lies `offset` before it. */
interface Match {
  offset: number;
  length: number;
}

/** The longest match among a few places where the next bytes were seen before. */
function findMatch(bytes: Uint8Array, at: number, maxOffset: number, maxLength: number): Match | undefined {
  let best: Match | undefined;
  for (let offset = 1; offset <= Math.min(at, maxOffset, 600); offset++) {
    let length = 0;
    while (
      at + length < bytes.length && length < maxLength && bytes[at + length] === bytes[at + length - offset]
    ) length++;
    if (length >= 4 && length > (best?.length ?? 0)) best = { offset, length };
  }
  return best;
}

function pglzCompress(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  let controlAt = 0;
  let items = 8;
  for (let at = 0; at < bytes.length; items++) {
    if (items === 8) {
      controlAt = out.push(0) - 1;
      items = 0;
    }
    const match = findMatch(bytes, at, 4095, 273);
    if (match === undefined) {
      out.push(bytes[at++]);
      continue;
    }
    out[controlAt] |= 1 << items;
    const short = Math.min(match.length - 3, 15);
    out.push((match.offset >> 4) & 0xf0 | short, match.offset & 0xff);
    if (short === 15) out.push(match.length - 18);
    at += match.length;
  }
  return Uint8Array.from(out);
}

function lz4Compress(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  const pushLength = (length: number) => {
    for (; length >= 255; length -= 255) out.push(255);
    out.push(length);
  };
  let literals = 0;
  for (let at = 0; at <= bytes.length;) {
    const match = at < bytes.length - 12 ? findMatch(bytes, at, 65535, bytes.length) : undefined;
    if (match === undefined && at < bytes.length) {
      at++;
      continue;
    }
    const count = at - literals;
    out.push(Math.min(count, 15) << 4 | (match === undefined ? 0 : Math.min(match.length - 4, 15)));
    if (count >= 15) pushLength(count - 15);
    out.push(...bytes.subarray(literals, at));
    if (match === undefined) break;
    out.push(match.offset & 0xff, match.offset >> 8);
    if (match.length >= 19) pushLength(match.length - 19);
    at += match.length;
    literals = at;
  }
  return Uint8Array.from(out);
}

/** Bytes that repeat themselves now and then. */
function someBytes(random: SeededRandom): Uint8Array {
  const bytes = random.bytes(random.int(1, 2500));
  for (let round = random.int(0, 20); round > 0; round--) {
    const from = random.int(0, bytes.length - 1);
    const to = random.int(0, bytes.length - 1);
    const length = random.int(0, Math.min(700, bytes.length - Math.max(from, to)));
    if (random.chance(0.3)) bytes.fill(bytes[from], to, to + length);
    else bytes.copyWithin(to, from, from + length);
  }
  return bytes;
}

const CODECS: [string, Decompress, (bytes: Uint8Array) => Uint8Array][] = [
  ["pglzDecompress()", pglzDecompress, pglzCompress],
  ["lz4DecompressBlock()", lz4DecompressBlock, lz4Compress],
];

for (const [name, decompress, compress] of CODECS) {
  test(`${name} restores what was compressed`, () => {
    const random = seededRandom(`bytes/lz ${name}`);
    for (let round = 0; round < 300; round++) {
      const bytes = someBytes(random);
      const compressed = compress(bytes);
      const source = new Uint8Array(compressed.length + 20);
      source.set(compressed, 7);
      const target = new Uint8Array(bytes.length + 5).fill(0xaa);
      assert.ok(decompress(source, 7, compressed.length, target, bytes.length), `round ${round}`);
      assert.equal(target.subarray(0, bytes.length), bytes);
      assert.equal([...target.subarray(bytes.length)], [0xaa, 0xaa, 0xaa, 0xaa, 0xaa]);
    }
  });

  test(`${name} refuses input that is cut off, too long or for another size`, () => {
    const bytes = new TextEncoder().encode("abcabcabcabcabcabcabcabc-xyz-abcabcabcabc-0123456789");
    const compressed = compress(bytes);
    const target = new Uint8Array(200);
    const run = (source: Uint8Array, size: number) => decompress(source, 0, source.length, target, size);
    assert.ok(run(compressed, bytes.length));
    for (let length = 0; length < compressed.length; length++) {
      assert.not(run(compressed.subarray(0, length), bytes.length), `first ${length} bytes`);
    }
    assert.not(run(Uint8Array.from([...compressed, 0, 0, 0]), bytes.length), "bytes behind the end");
    assert.not(run(compressed, bytes.length - 1));
    assert.not(run(compressed, bytes.length + 1));
    assert.not(
      decompress(compressed, 0, compressed.length + 1, target, bytes.length),
      "length beyond the source",
    );
    assert.not(
      decompress(compressed, 0, compressed.length, new Uint8Array(3), bytes.length),
      "target too small",
    );
  });

  test(`${name} survives 30,000 mutations and never writes beyond the size it was given`, () => {
    const random = seededRandom(`bytes/lz mutations ${name}`);
    const bytes = someBytes(random);
    const compressed = compress(bytes);
    const target = new Uint8Array(bytes.length + 64);
    let valid = 0;
    for (let round = 0; round < 30_000; round++) {
      const mutated = compressed.slice();
      for (let times = random.int(1, 4); times > 0; times--) {
        mutated[random.int(0, mutated.length - 1)] = random.uint32();
      }
      target.fill(0x55, bytes.length);
      if (decompress(mutated, 0, mutated.length, target, bytes.length)) valid++;
      for (let at = bytes.length; at < target.length; at++) {
        if (target[at] !== 0x55) assert.unreachable(`wrote at ${at}`);
      }
    }
    assert.ok(valid < 30_000, "some mutations are refused");
  });
}

test("pglzDecompress() refuses offset 0 and offsets before the beginning", () => {
  const target = new Uint8Array(16);
  assert.ok(pglzDecompress(Uint8Array.of(0b10, 0x61, 0x00, 0x01), 0, 4, target, 4), "aaaa");
  assert.equal([...target.subarray(0, 4)], [0x61, 0x61, 0x61, 0x61]);
  assert.not(pglzDecompress(Uint8Array.of(0b10, 0x61, 0x00, 0x00), 0, 4, target, 4), "offset 0");
  assert.not(
    pglzDecompress(Uint8Array.of(0b10, 0x61, 0x00, 0x02), 0, 4, target, 4),
    "offset 2 behind one byte",
  );
  assert.not(
    pglzDecompress(Uint8Array.of(0b10, 0x61, 0x0f, 0x01), 0, 4, target, 16),
    "extra length byte missing",
  );
});

test("lz4DecompressBlock() refuses offset 0 and lengths that never end", () => {
  const target = new Uint8Array(64);
  assert.ok(lz4DecompressBlock(Uint8Array.of(0x10, 0x61, 1, 0, 0x00), 0, 5, target, 5), "aaaaa");
  assert.not(lz4DecompressBlock(Uint8Array.of(0x10, 0x61, 0, 0, 0x00), 0, 5, target, 5), "offset 0");
  assert.not(
    lz4DecompressBlock(Uint8Array.of(0x10, 0x61, 2, 0, 0x00), 0, 5, target, 5),
    "offset 2 behind one byte",
  );
  assert.not(lz4DecompressBlock(new Uint8Array(1000).fill(0xff), 0, 1000, target, 64), "length of 255s");
});

test.run();
