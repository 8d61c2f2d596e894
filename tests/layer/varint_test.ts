import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";
import { setVarint, VARINT_LENGTH_MAX, VarintReader } from "../../src/layer/varint.ts";

const test = suite("layer/varint");

test("VarintReader reads what setVarint() wrote", () => {
  const random = seededRandom("varint");
  const values = [
    0,
    1,
    127,
    128,
    16383,
    16384,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 49,
    Number.MAX_SAFE_INTEGER,
  ];
  for (let i = 0; i < 1000; i++) values.push(Math.floor(2 ** (random.float() * 53)));
  const bytes = new Uint8Array(values.length * VARINT_LENGTH_MAX);
  let end = 0;
  for (const value of values) {
    const start = end;
    end = setVarint(bytes, end, value);
    assert.ok(end - start <= VARINT_LENGTH_MAX);
    assert.is(end - start, Math.max(1, Math.ceil(value.toString(2).length / 7)), "the shortest form");
  }
  const reader = new VarintReader(bytes, 0);
  for (const value of values) assert.is(reader.next(), value);
  assert.is(reader.at, end);
});

test("VarintReader refuses numbers too long or too great, and reads zeros beyond the end", () => {
  const next = (...bytes: number[]) => new VarintReader(Uint8Array.from(bytes), 0).next();
  assert.is(next(...new Array(20).fill(0xff)), -1);
  assert.is(next(...new Array(20).fill(0x80)), -1);
  assert.is(next(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f), Number.MAX_SAFE_INTEGER);
  assert.is(next(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10), -1);
  assert.is(next(0x81), 1);
  const empty = new VarintReader(new Uint8Array(0), 0);
  assert.is(empty.next(), 0);
  assert.is(empty.at, 1, "the caller sees that it is beyond");
});

test.run();
