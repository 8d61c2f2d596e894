import { crc32c, walRecordCrc } from "../../src/bytes/crc32c.ts";
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

test.run();
