import { crc32c, crc32cPlain, rightRecordsEnd, walRecordCrc } from "../../src/bytes/crc32c.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("bytes/crc32c");

/** The definition, bit by bit. */
function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test("crc32c() gives the published values", () => {
  assert.is(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  // RFC 3720, B.4
  assert.is(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.is(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e);
  assert.is(crc32c(Uint8Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113fdb5c);
  assert.is(crc32c(new Uint8Array(0)), 0);
});

test("crc32c() is the same at every alignment and length", () => {
  const memory = seededRandom("bytes/crc32c").bytes(2048);
  for (let offset = 0; offset < 9; offset++) {
    for (const length of [0, 1, 3, 4, 15, 16, 17, 255, 256, 257, 271, 1023]) {
      const view = memory.subarray(offset, offset + 1500);
      assert.is(
        crc32c(view, 5, 5 + length),
        slowCrc(view.slice(5, 5 + length)),
        `${length} bytes at ${offset}`,
      );
    }
  }
});

test("crc32c() goes on from a seed", () => {
  const random = seededRandom("bytes/crc32c seed");
  const bytes = random.bytes(3000);
  const whole = crc32c(bytes);
  for (let round = 0; round < 50; round++) {
    const cut = random.int(0, bytes.length);
    assert.is(crc32c(bytes, cut, bytes.length, crc32c(bytes, 0, cut)), whole);
  }
});

test("walRecordCrc() covers what follows the header, then the header up to xl_crc", () => {
  const memory = seededRandom("bytes/crc32c record").bytes(4096);
  const words = new Int32Array(memory.buffer);
  for (const start of [0, 8, 4096 - 1096]) {
    for (const length of [24, 25, 26, 27, 28, 39, 40, 41, 55, 56, 57, 1000, 1096]) {
      const header = memory.slice(start, start + 20);
      const body = memory.slice(start + 24, start + length);
      const expected = slowCrc(Uint8Array.from([...body, ...header]));
      assert.is(walRecordCrc(memory, words, start, length) >>> 0, expected, `${length} bytes at ${start}`);
    }
  }
});

test("crc32c() is the same folded and not, at every length around what is folded at once", () => {
  const memory = seededRandom("bytes/crc32c folded").bytes(120_000);
  const lengths = [
    6687,
    6688,
    6689,
    6703,
    6704,
    6705,
    10_000,
    49_151,
    49_152,
    49_153,
    55_839,
    55_840,
    55_841,
  ];
  for (const length of [...lengths, 98_304, 110_001]) {
    for (const start of [0, 1, 15]) {
      const seed = length * 99 >>> 0;
      const expected = crc32cPlain(memory, start, start + length, seed);
      assert.is(crc32c(memory, start, start + length, seed), expected, `${length} bytes at ${start}`);
    }
  }
});

test("crc32c() is the same with WebAssembly and without, at every length around what is copied at once", () => {
  const memory = seededRandom("bytes/crc32c long").bytes(40_000);
  for (const length of [511, 512, 513, 515, 16_383, 16_384, 16_385, 32_768, 32_775, 39_990]) {
    for (const start of [0, 1, 7]) {
      const seed = length * 77;
      const expected = crc32cPlain(memory, start, start + length, seed);
      assert.is(crc32c(memory, start, start + length, seed), expected, `${length} bytes at ${start}`);
    }
    assert.is(crc32cPlain(memory, 3, 3 + length), slowCrc(memory.slice(3, 3 + length)));
  }
});

/** Memory with records of these lengths laid end to end, and where each begins. */
function recordsOf(lengths: readonly number[], at: number): { bytes: Uint8Array; starts: number[] } {
  const starts: number[] = [];
  let end = at;
  for (const length of lengths) {
    starts.push(end);
    end += length + 7 & ~7;
  }
  const bytes = seededRandom(`bytes/crc32c records ${lengths}`).bytes(end);
  const words = new Int32Array(bytes.buffer, 0, end >> 2);
  lengths.forEach((length, index) => {
    const start = starts[index];
    words[start >> 2] = length;
    words[(start >> 2) + 5] = slowCrc(
      Uint8Array.from([...bytes.slice(start + 24, start + length), ...bytes.slice(start, start + 20)]),
    );
  });
  return { bytes, starts };
}

test("rightRecordsEnd() goes over records of every length whose CRC is right", () => {
  const lengths = Array.from({ length: 120 }, (_, index) => 24 + index);
  const { bytes } = recordsOf([...lengths, 8000, 24, 9001], 8);
  const words = new Int32Array(bytes.buffer);
  assert.is(rightRecordsEnd(bytes, words, 8, bytes.length), bytes.length);
});

test("rightRecordsEnd() stops at a record with any bit wrong, and at one that is not whole", () => {
  const { bytes, starts } = recordsOf([100, 61, 24, 77], 16);
  const words = new Int32Array(bytes.buffer);
  const random = seededRandom("bytes/crc32c bits");
  for (let round = 0; round < 500; round++) {
    const index = random.int(0, starts.length - 1);
    const length = words[starts[index] >> 2];
    const at = starts[index] + random.int(4, length - 1);
    const bit = 1 << random.int(0, 7);
    bytes[at] ^= bit;
    assert.is(rightRecordsEnd(bytes, words, 16, bytes.length), starts[index], `bit ${bit} at ${at}`);
    bytes[at] ^= bit;
  }
  for (let end = 16; end < bytes.length; end++) {
    const right = rightRecordsEnd(bytes, words, 16, end);
    const whole = starts.filter((start) => start + (words[start >> 2] + 7 & ~7) <= end).length;
    assert.is(right, starts[whole], `${end} bytes`);
  }
  for (const total of [0, 1, 23, -1, -8, 0x7fffffff]) {
    words[starts[1] >> 2] = total;
    assert.is(rightRecordsEnd(bytes, words, 16, bytes.length), starts[1], `xl_tot_len ${total}`);
  }
});

test.run();
