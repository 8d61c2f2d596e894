/** Replay: where a page starts, which records are skipped, what is refused. */
import { CorruptionError, UnsupportedError } from "../../src/errors.ts";
import {
  FAMILY_RELATION,
  FAMILY_SLRU,
  type KeySpace,
  VALUE_DROPPED,
  VALUE_FROM_ZERO,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_RAW,
  VALUE_RECORD,
  VALUE_ZERO_PAGE,
} from "../../src/layer/key.ts";
import { ValueChain } from "../../src/layer/value_chain.ts";
import type { Lsn } from "../../src/lsn.ts";
import { Page } from "../../src/postgres/page/page.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { Replayer } from "../../src/read/replay.ts";
import { assert, suite } from "../support/harness.ts";
import { DB, filledPage, pageRecord, recordOf, SPC, TEST_MAJOR } from "../support/made_wal.ts";

const test = suite("read/replay");
const SPACE: KeySpace = { family: FAMILY_RELATION, a: SPC, b: DB, c: 16384, d: 0 };
const NOTHING = new Uint8Array(0);

type Value = [lsn: number, flags: number, bytes: Uint8Array, hole?: number];

/** Replays values given newest first. */
function replay(values: Value[], space = SPACE, block = 0): Page {
  const chain = new ValueChain();
  for (const [lsn, flags, bytes, hole = 0] of values) {
    // Not at the start of their buffer.
    const buffer = new Uint8Array(bytes.length + 13);
    buffer.set(bytes, 13);
    chain.push(lsn as Lsn, flags, buffer, 13, bytes.length, hole);
  }
  const page = new Page();
  page.u8.fill(0xaa);
  new Replayer(profileOfMajor(TEST_MAJOR), { hintBitsLogged: false }, {}).replay(chain, space, block, page);
  return page;
}

/** A page as backed up at an LSN. */
function backedUp(byte: number, lsn: number): Uint8Array {
  const page = Page.from(filledPage(byte));
  page.setLsn(lsn as Lsn);
  return page.u8;
}

test("Replayer.replay(): no value is a page of zeros, and so is one that says so", () => {
  assert.ok(replay([]).u8.every((byte) => byte === 0));
  assert.ok(replay([[800, VALUE_RAW | VALUE_ZERO_PAGE, NOTHING]]).u8.every((byte) => byte === 0));
});

test("Replayer.replay() applies records oldest to newest, on a stored page", () => {
  const page = replay([
    [816, VALUE_RECORD, pageRecord({ block: 0, put: [3] })],
    [808, VALUE_RECORD, pageRecord({ block: 0, put: [2, 2] })],
    [800, VALUE_RAW, backedUp(0x77, 700)],
  ]);
  assert.equal([page.u8[100], page.u8[101], page.u8[102]], [3, 2, 0x77]);
  assert.is(page.lsn, 816);
});

test("Replayer.replay() skips records that a fuzzy backup's page has already", () => {
  const page = replay([
    [824, VALUE_RECORD, pageRecord({ block: 0, put: [4] })],
    [816, VALUE_RECORD, pageRecord({ block: 0, put: [3, 3] })],
    [808, VALUE_RECORD, pageRecord({ block: 0, put: [2, 2, 2] })],
    [800, VALUE_RAW, backedUp(0x77, 816)],
  ]);
  assert.equal([page.u8[100], page.u8[101], page.u8[102]], [4, 0x77, 0x77]);
  assert.is(page.lsn, 824);
});

test("Replayer.replay() starts from an image, with its hole, and gives it its LSN", () => {
  const image = filledPage(0x66);
  const page = replay([
    [808, VALUE_RECORD, pageRecord({ block: 0, put: [9] })],
    [800, VALUE_FULL_PAGE_IMAGE, image],
  ]);
  assert.equal([page.u8[100], page.u8[200], page.lsn], [9, 0x66, 808]);
  const holed = new Uint8Array(8192 - 1000);
  holed.set(image.subarray(0, 4000));
  holed.set(image.subarray(5000), 4000);
  const whole = replay([[800, VALUE_FULL_PAGE_IMAGE, holed, 4000 | (1000 << 16)]]);
  assert.equal([whole.u8[3999], whole.u8[4000], whole.u8[4999], whole.u8[5000]], [0x66, 0, 0, 0x66]);
  assert.is(whole.lsn, 800);
});

test("Replayer.replay() starts from zeros with a record that makes its page", () => {
  const page = replay([[800, VALUE_RECORD | VALUE_FROM_ZERO, pageRecord({ block: 0, put: [5] })]]);
  assert.equal([page.u8[100], page.u8[200], page.lsn], [5, 0, 800]);
});

test("Replayer.replay() finds the block that is meant among those of the record", () => {
  const record = pageRecord(
    { block: 7, put: [1] },
    { block: 7, fork: 1, put: [2] },
    { block: 8, put: [3] },
    { block: 7, rel: 16385, put: [4] },
  );
  const value: Value = [800, VALUE_RECORD | VALUE_FROM_ZERO, record];
  assert.is(replay([value], SPACE, 7).u8[100], 1);
  assert.is(replay([value], { ...SPACE, d: 1 }, 7).u8[100], 2);
  assert.is(replay([value], SPACE, 8).u8[100], 3);
  assert.is(replay([value], { ...SPACE, c: 16385 }, 7).u8[100], 4);
});

test("Replayer.replay() refuses a chain without a start, and values that are no pages", () => {
  const record: Value = [808, VALUE_RECORD, pageRecord({ block: 0, put: [1] })];
  assert.match(assert.raises(() => replay([record]), CorruptionError).message, "needs a page before it");
  assert.raises(() => replay([record, [800, VALUE_DROPPED, NOTHING]]), CorruptionError);
  assert.raises(() => replay([record, [800, VALUE_RAW, filledPage(1).subarray(1)]]), CorruptionError);
  assert.raises(() => replay([[800, VALUE_FULL_PAGE_IMAGE, filledPage(1).subarray(1)]]), CorruptionError);
  assert.raises(
    () => replay([[808, VALUE_RECORD | VALUE_FROM_ZERO, record[2].subarray(0, 30)]]),
    CorruptionError,
  );
});

test("Replayer.replay() names the manager whose records it cannot replay", () => {
  const record = recordOf(128, 0, [{ block: 0, put: [1] }], NOTHING);
  const error = assert.raises(
    () => replay([[800, VALUE_RECORD | VALUE_FROM_ZERO, record]]),
    UnsupportedError,
  );
  assert.match(error.message, /128/);
});

test("Replayer.replay() builds a page of an SLRU from zeros", () => {
  const slru: KeySpace = { family: FAMILY_SLRU, a: 0, b: 0, c: 0, d: 0 };
  assert.ok(replay([[800, VALUE_RAW | VALUE_ZERO_PAGE, NOTHING]], slru).u8.every((byte) => byte === 0));
});

test.run();
