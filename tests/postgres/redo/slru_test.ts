/** Redo on SLRU pages, entry by entry. Real servers judge in effects_server_test.ts. */
import { getI64, getU16, getU32 } from "../../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { ClusterState } from "../../../src/postgres/effects/cluster_state.ts";
import { applyEffects } from "../../../src/postgres/effects/effects.ts";
import {
  SLRU_COMMIT_TS,
  SLRU_KINDS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_XACT,
  type SlruKind,
} from "../../../src/postgres/page/slru.ts";
import { redoSlruPage } from "../../../src/postgres/redo/slru.ts";
import { pg15 } from "../../../src/postgres/versions/pg15.ts";
import { pg18 } from "../../../src/postgres/versions/pg18.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_CLOG_ID, RM_HEAP_ID, RM_MULTIXACT_ID, RM_XACT_ID } from "../../../src/postgres/wal/rmgr.ts";
import { Bytes, makeRecord, RecordingSink } from "../effects/record_builder.ts";
import { assert, suite } from "../../support/harness.ts";

const test = suite("redo/slru");

const TIME = 800_000_000_000_123;
const HAS_INFO = 0x80;

/** A page of ones, so that a bit left alone shows. */
function filledPage(): Uint8Array {
  return new Uint8Array(8192).fill(0xff);
}

/** Offsets of bytes that are not `value`. */
function changed(page: Uint8Array, value: number): number[] {
  return [...page.keys()].filter((offset) => page[offset] !== value);
}

test("redoSlruPage() sets two bits for each transaction of the record that is on the page", () => {
  const main = new Bytes().u64(TIME).u32(2).u32(3, 32_767, 32_768, 65_536 + 5);
  const commit = makeRecord(pg18, { rmid: RM_XACT_ID, info: HAS_INFO, xid: 5, main });
  const page = new Uint8Array(8192);
  redoSlruPage(page, SLRU_XACT, 0, commit);
  assert.equal(changed(page, 0), [1, 8191]);
  assert.equal([page[1], page[8191]], [0b0000_0100, 0b0100_0000]);

  const ones = filledPage();
  redoSlruPage(ones, SLRU_XACT, 1, commit);
  assert.equal(changed(ones, 0xff), [0]);
  assert.is(ones[0], 0b1111_1101);

  const abort = makeRecord(pg18, { rmid: RM_XACT_ID, info: 0x20, xid: 5, main: new Bytes().u64(TIME) });
  const aborted = filledPage();
  redoSlruPage(aborted, SLRU_XACT, 0, abort);
  assert.equal([changed(aborted, 0xff), aborted[1]], [[1], 0b1111_1011]);
});

test("redoSlruPage() marks the prepared transaction, not that of the record", () => {
  const main = new Bytes().u64(TIME).u32(0x12).u32(1, 9).u32(8);
  for (const [info, expected] of [[0x30, 0b0000_0101], [0x40, 0b0000_1010]]) {
    const page = new Uint8Array(8192);
    redoSlruPage(
      page,
      SLRU_XACT,
      0,
      makeRecord(pg15, { rmid: RM_XACT_ID, info: info | HAS_INFO, xid: 4, main }),
    );
    assert.equal([changed(page, 0), page[2]], [[2], expected]);
  }
});

test("redoSlruPage() stores commit timestamps with their origin, of the origin's time if it has one", () => {
  const plain = makeRecord(pg18, {
    rmid: RM_XACT_ID,
    info: 0x00,
    xid: 819 + 818,
    main: new Bytes().u64(TIME),
  });
  const page = filledPage();
  redoSlruPage(page, SLRU_COMMIT_TS, 1, plain);
  assert.equal([getI64(page, 8180), getU16(page, 8188)], [BigInt(TIME), 0]);
  assert.equal(changed(page, 0xff).every((offset) => offset >= 8180 && offset < 8190), true);

  const main = new Bytes().u64(TIME).u32(2 | 0x20).u32(1, 821).u64(1).u64(-5);
  const foreign = makeRecord(pg18, { rmid: RM_XACT_ID, info: HAS_INFO, xid: 820, originId: 0x1234, main });
  const other = filledPage();
  redoSlruPage(other, SLRU_COMMIT_TS, 1, foreign);
  for (const offset of [10, 20]) {
    assert.equal([getI64(other, offset), getU16(other, offset + 8)], [-5n, 0x1234]);
  }

  const abort = makeRecord(pg18, { rmid: RM_XACT_ID, info: 0x20, xid: 820, main: new Bytes().u64(TIME) });
  redoSlruPage(other, SLRU_COMMIT_TS, 0, abort);
  assert.is(getU16(other, 18), 0x1234);
});

function createMultiXact(multi: number, offset: number, members: [number, number][]): DecodedRecord {
  const main = new Bytes().u32(multi, offset, members.length, ...members.flat());
  return makeRecord(pg18, { rmid: RM_MULTIXACT_ID, info: 0x20, main });
}

test("redoSlruPage() stores where a multixact's members begin, and where the next one's will", () => {
  const page = filledPage();
  redoSlruPage(page, SLRU_MULTIXACT_OFFSETS, 0, createMultiXact(5, 100, [[1000, 0], [1001, 1], [1002, 5]]));
  assert.equal([getU32(page, 20), getU32(page, 24)], [100, 103]);
  assert.is(changed(page, 0xff).length, 8);

  const last = createMultiXact(2047, 200, [[1000, 0], [1001, 1]]);
  const [before, after] = [filledPage(), filledPage()];
  redoSlruPage(before, SLRU_MULTIXACT_OFFSETS, 0, last);
  redoSlruPage(after, SLRU_MULTIXACT_OFFSETS, 1, last);
  assert.equal([getU32(before, 8188), getU32(after, 0)], [200, 202]);
  assert.equal([changed(before, 0xff).length, changed(after, 0xff).length], [4, 4]);

  // The id after the greatest is 1, and 0 is no member offset.
  const wrapping = createMultiXact(0xffff_ffff, 0xffff_fffe, [[1000, 0], [1001, 1]]);
  const first = filledPage();
  redoSlruPage(first, SLRU_MULTIXACT_OFFSETS, 0, wrapping);
  assert.equal([getU32(first, 0), getU32(first, 4)], [0xffff_ffff, 1]);
});

test("redoSlruPage() stores members in groups of four flags and four ids, across pages and the wrap-around", () => {
  const members: [number, number][] = [[1000, 0], [1001, 1], [1002, 2], [1003, 3], [1004, 4], [1005, 5]];
  const record = createMultiXact(5, 1633, members);
  const [before, after] = [new Uint8Array(8192), new Uint8Array(8192)];
  redoSlruPage(before, SLRU_MULTIXACT_MEMBERS, 0, record);
  redoSlruPage(after, SLRU_MULTIXACT_MEMBERS, 1, record);
  // Member 1633 is the second of the last group, number 408.
  assert.equal([...before.subarray(8160, 8164)], [0, 0, 1, 2]);
  assert.equal([8164, 8168, 8172, 8176].map((offset) => getU32(before, offset)), [0, 1000, 1001, 1002]);
  assert.equal([...after.subarray(0, 4)], [3, 4, 5, 0]);
  assert.equal([4, 8, 12, 16].map((offset) => getU32(after, offset)), [1003, 1004, 1005, 0]);

  const wrapping = createMultiXact(6, 0xffff_ffff, [[2000, 4], [2001, 5]]);
  const [end, begin] = [new Uint8Array(8192), new Uint8Array(8192)];
  redoSlruPage(end, SLRU_MULTIXACT_MEMBERS, 2_625_285, wrapping);
  redoSlruPage(begin, SLRU_MULTIXACT_MEMBERS, 0, wrapping);
  // 0xFFFFFFFF is member 1035 of its page: the last of group 258.
  assert.equal([end[258 * 20 + 3], getU32(end, 258 * 20 + 16)], [4, 2000]);
  assert.equal([begin[0], getU32(begin, 4)], [5, 2001]);
});

test("redoSlruPage() twice is redoSlruPage() once", () => {
  const main = new Bytes().u64(TIME).u32(2).u32(2, 101, 102);
  const commit = makeRecord(pg18, { rmid: RM_XACT_ID, info: HAS_INFO, xid: 100, main });
  const multi = createMultiXact(5, 100, [[1000, 0], [1001, 1]]);
  for (const kind of SLRU_KINDS) {
    const record = kind === SLRU_XACT || kind === SLRU_COMMIT_TS ? commit : multi;
    const page = new Uint8Array(8192);
    redoSlruPage(page, kind, 0, record);
    const once = page.slice();
    redoSlruPage(page, kind, 0, record);
    assert.equal(page, once);
    assert.ok(changed(page, 0).length > 0);
  }
});

test("a cut record does to its page what the whole one does", () => {
  const subxids = Array.from({ length: 900 }, (_, index) => 32_300 + index * 2);
  const parts = [
    { info: HAS_INFO, xinfo: 2, tail: new Bytes() },
    { info: HAS_INFO, xinfo: 2 | 4 | 0x20, tail: new Bytes().u32(1, 1663, 5, 16_384).u64(7).u64(TIME + 1) },
    { info: 0x20 | HAS_INFO, xinfo: 2, tail: new Bytes() },
    { info: 0x30 | HAS_INFO, xinfo: 2 | 0x10 | 0x80, tail: new Bytes().u32(32_200).text("name").u8(0) },
  ];
  for (const { info, xinfo, tail } of parts) {
    const main = new Bytes().u64(TIME).u32(xinfo).u32(subxids.length, ...subxids).u8(...tail.done());
    const whole = makeRecord(pg18, {
      rmid: RM_XACT_ID,
      info,
      xid: 32_200,
      originId: (xinfo & 0x20) === 0 ? 0 : 9,
      main,
    });
    const recorder = new RecordingSink();
    const state = new ClusterState();
    state.trackCommitTimestamp = true;
    applyEffects(whole, state, recorder.sink);
    const touches = recorder.calls.filter((call) => call.startsWith("touchSlruPage"));
    assert.ok(touches.length >= 2);
    for (const [index, call] of touches.entries()) {
      const [kind, pageno] = call.split(" ").slice(1, 3).map(Number);
      const cut = new DecodedRecord(pg18);
      cut.decode(recorder.bytes[index], 0, whole.endLsn);
      const [expected, got] = [filledPage(), filledPage()];
      redoSlruPage(expected, kind as SlruKind, pageno, whole);
      redoSlruPage(got, kind as SlruKind, pageno, cut);
      assert.equal(got, expected, call);
      assert.ok(cut.totalLength < whole.totalLength && changed(got, 0xff).length > 0);
    }
  }
});

test("redoSlruPage() refuses records and pages that do not fit", () => {
  const page = new Uint8Array(8192);
  const commit = makeRecord(pg18, { rmid: RM_XACT_ID, info: 0, xid: 5, main: new Bytes().u64(TIME) });
  const wrong: [SlruKind, DecodedRecord][] = [
    [SLRU_MULTIXACT_OFFSETS, commit],
    [SLRU_MULTIXACT_MEMBERS, commit],
    [SLRU_XACT, createMultiXact(1, 1, [[5, 0]])],
    [SLRU_XACT, makeRecord(pg18, { rmid: RM_XACT_ID, info: 0x50 })],
    [SLRU_XACT, makeRecord(pg18, { rmid: RM_CLOG_ID, info: 0x00, main: new Bytes().u64(0) })],
    [SLRU_COMMIT_TS, makeRecord(pg18, { rmid: RM_HEAP_ID, info: 0x00 })],
  ];
  for (const [kind, record] of wrong) {
    assert.raises(() => redoSlruPage(page, kind, 0, record), UnsupportedError);
  }
  const corrupt = [
    makeRecord(pg18, { rmid: RM_MULTIXACT_ID, info: 0x20, main: new Bytes().u32(1, 1, 5, 5, 0) }),
    makeRecord(pg18, { rmid: RM_MULTIXACT_ID, info: 0x20, main: new Bytes().u32(1, 1, 1, 5, 6) }),
  ];
  for (const record of corrupt) {
    assert.raises(() => redoSlruPage(page, SLRU_MULTIXACT_MEMBERS, 0, record), CorruptionError);
  }
  assert.raises(() => redoSlruPage(new Uint8Array(8191), SLRU_XACT, 0, commit), RangeError);
  assert.equal(changed(page, 0), []);
});

test.run();
