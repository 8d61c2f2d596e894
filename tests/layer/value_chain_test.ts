/** The chain of a key's values, and how the chains of several layers become one. */
import { VALUE_FROM_ZERO, VALUE_RAW, VALUE_RECORD } from "../../src/layer/key.ts";
import { ValueChain } from "../../src/layer/value_chain.ts";
import type { Lsn } from "../../src/lsn.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("layer/value_chain");
const BYTES = new Uint8Array(8);

function chainOf(...values: [lsn: number, flags: number][]): ValueChain {
  const chain = new ValueChain();
  for (const [lsn, flags] of values) chain.push(lsn as Lsn, flags, BYTES, lsn, 1, 0);
  return chain;
}

test("ValueChain.push() keeps columns together, and clear() empties all", () => {
  const chain = new ValueChain();
  assert.is(chain.oldestLsn(), undefined);
  chain.push(24 as Lsn, VALUE_RECORD, BYTES, 1, 2, 3);
  chain.push(16 as Lsn, VALUE_RAW, BYTES, 4, 5, 6);
  assert.equal([chain.length, chain.oldestLsn()], [2, 16]);
  assert.equal([chain.offsets, chain.lengths, chain.holes], [[1, 4], [2, 5], [3, 6]]);
  chain.clear();
  assert.equal([chain.length, chain.oldestLsn()], [0, undefined]);
  assert.ok(chain.buffers.every((buffer) => buffer !== BYTES), "it keeps nothing alive");
});

test("ValueChain.pushMerged() takes each LSN once, newest first, up to one that ends the chain", () => {
  const chain = chainOf([80, VALUE_RECORD]);
  const ended = chain.pushMerged([
    chainOf([80, VALUE_RECORD], [64, VALUE_RECORD], [32, VALUE_RAW]),
    chainOf([72, VALUE_RECORD], [64, VALUE_RECORD], [48, VALUE_RECORD | VALUE_FROM_ZERO], [40, VALUE_RECORD]),
    chainOf(),
  ]);
  assert.ok(ended);
  assert.equal(chain.lsns, [80, 72, 64, 48]);
});

test("ValueChain.pushMerged() says when nothing ends the chain", () => {
  const chain = new ValueChain();
  assert.not.ok(chain.pushMerged([]));
  assert.not.ok(chain.pushMerged([chainOf([16, VALUE_RECORD]), chainOf([8, VALUE_RECORD])]));
  assert.equal(chain.lsns, [16, 8]);
});

test("ValueChain.pushMerged() gives what one sorted chain gives, of any split", () => {
  const random = seededRandom("merged chains");
  for (let round = 0; round < 500; round++) {
    const values: [number, number][] = [];
    for (let lsn = 400; lsn > 0; lsn -= 8 * random.int(1, 5)) {
      values.push([lsn, random.chance(0.1) ? VALUE_RAW : VALUE_RECORD]);
    }
    const parts: [number, number][][] = Array.from({ length: random.int(1, 4) }, () => []);
    for (const value of values) {
      const owner = random.int(0, parts.length - 1);
      parts[owner].push(value);
      // Some values lie in two layers.
      if (parts.length > 1 && random.chance(0.2)) parts[(owner + 1) % parts.length].push(value);
    }
    const merged = new ValueChain();
    const ended = merged.pushMerged(parts.map((part) => chainOf(...part)));
    const end = values.findIndex(([, flags]) => flags === VALUE_RAW);
    assert.equal(merged.lsns, values.slice(0, end < 0 ? undefined : end + 1).map(([lsn]) => lsn));
    assert.is(ended, end >= 0);
  }
});

test.run();
