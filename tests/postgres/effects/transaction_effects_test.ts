/** Effects of made-up records about transactions, multixacts and origins. Real servers judge in effects_server_test.ts. */
import { CorruptionError } from "../../../src/errors.ts";
import { ClusterState } from "../../../src/postgres/effects/cluster_state.ts";
import { pg14 } from "../../../src/postgres/versions/pg14.ts";
import { pg15 } from "../../../src/postgres/versions/pg15.ts";
import { pg17 } from "../../../src/postgres/versions/pg17.ts";
import { pg18 } from "../../../src/postgres/versions/pg18.ts";
import { ALL_PROFILES } from "../../../src/postgres/versions/all.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import {
  RM_CLOG_ID,
  RM_COMMIT_TS_ID,
  RM_MULTIXACT_ID,
  RM_REPLORIGIN_ID,
  RM_XACT_ID,
} from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { Bytes, effectsOf } from "./record_builder.ts";

const test = suite("effects/transactions");

const TIME = 800_000_000_000_000;
const HAS_INFO = 0x80;

test("a plain commit touches its pg_xact page and says its time", () => {
  const state = new ClusterState();
  const calls = effectsOf(
    { rmid: RM_XACT_ID, info: 0x00, xid: 40_000, main: new Bytes().u64(TIME) },
    pg18,
    state,
  );
  assert.equal(calls, ["touchSlruPage 0 1", `transactionEnd true ${TIME} 40000`]);
  assert.is(state.nextXid, 40_001);
});

test("a commit with every part is read to its origin, in every major", () => {
  for (const profile of ALL_PROFILES) {
    const xinfo = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | (profile.xactStatsItemSize > 0 ? 0x100 : 0);
    const main = new Bytes().u64(TIME).u32(xinfo).u32(5, 1663);
    main.u32(3, 32_767, 32_768, 33_000).u32(2, 1663, 5, 16_384, 1664, 0, 16_385);
    if (profile.xactStatsItemSize > 0) main.u32(2).zeros(2 * profile.xactStatsItemSize);
    main.u32(1).zeros(16).u64(0xffff_ffff_0000_0001n).u64(TIME - 1);
    const state = new ClusterState();
    state.trackCommitTimestamp = true;
    const parts = { rmid: RM_XACT_ID, info: HAS_INFO, xid: 32_766, originId: 7, main };
    assert.equal(effectsOf(parts, profile, state), [
      "touchSlruPage 0 0",
      "touchSlruPage 0 1",
      "touchSlruPage 3 40",
      "dropRelation 1663 5 16384",
      "dropRelation 1664 0 16385",
      `setOrigin 7 ${0xffff_ffff_0000_0001n}`,
      `transactionEnd true ${TIME} 32766`,
    ], `PostgreSQL ${profile.major}`);
    assert.is(state.nextXid, 33_001);
    assert.is(state.newestCommitTsXid, 33_000);
  }
});

test("a prepared transaction's commit is found behind its gid, and drops its state", () => {
  const main = new Bytes().u64(TIME).u32(0x10 | 0x20 | 0x80).u32(70_000).text("a name").u8(0).u64(9).u64(
    TIME,
  );
  const state = new ClusterState();
  state.advanceNextXid(80_000);
  const calls = effectsOf(
    { rmid: RM_XACT_ID, info: 0x30 | HAS_INFO, xid: 0, originId: 3, main },
    pg17,
    state,
  );
  assert.equal(calls, [
    "touchSlruPage 0 2",
    "setOrigin 3 9",
    "dropTwoPhase 70000",
    `transactionEnd true ${TIME} 70000`,
  ]);
});

test("aborts touch pg_xact alone", () => {
  const state = new ClusterState();
  state.trackCommitTimestamp = true;
  const main = new Bytes().u64(TIME).u32(2).u32(1, 101);
  assert.equal(effectsOf({ rmid: RM_XACT_ID, info: 0x20 | HAS_INFO, xid: 100, main }, pg15, state), [
    "touchSlruPage 0 0",
    `transactionEnd false ${TIME} 100`,
  ]);
});

test("a long commit record is cut to what each page needs", () => {
  const subxids = Array.from({ length: 100 }, (_, index) => 32_700 + index);
  const main = new Bytes().u64(TIME).u32(2).u32(subxids.length, ...subxids);
  const calls = effectsOf({ rmid: RM_XACT_ID, info: HAS_INFO, xid: 32_000, main });
  // 24 header, 5 or 2 main data header, 12 time and xinfo, 4 count, 4 each: 68 and 32 subtransactions.
  assert.equal(calls.slice(0, 2), ["touchSlruPage 0 0 <317 bytes>", "touchSlruPage 0 1 <170 bytes>"]);
});

test("a long commit record whose ids wrap around is kept whole", () => {
  const subxids = Array.from({ length: 100 }, (_, index) => (0xffff_ffc0 + index) >>> 0).filter((xid) =>
    xid > 2
  );
  const main = new Bytes().u64(TIME).u32(2).u32(subxids.length, ...subxids);
  const state = new ClusterState();
  state.nextXid = 0xffff_ff00;
  const calls = effectsOf({ rmid: RM_XACT_ID, info: HAS_INFO, xid: 0xffff_ff80, main }, pg18, state);
  assert.equal(calls.slice(0, 2), ["touchSlruPage 0 131071", "touchSlruPage 0 0"]);
  assert.is(state.nextXid, 2 ** 32 + 36);
});

function twoPhaseState(profile: VersionProfile, xid: number, subxids: number[]): Bytes {
  const header = profile.twoPhase.hasStats ? 72 : 64;
  const main = new Bytes().u32(0x57f94534, header + 8 + subxids.length * 4 + 4, xid, 5).u64(TIME).u32(10);
  main.u32(subxids.length).zeros(profile.twoPhase.hasStats ? 20 : 12).u8(0, 0).u16(4).u64(77).u64(TIME);
  return main.text("gid").u8(0).zeros(4).u32(...subxids);
}

test("PREPARE keeps the main data under the full id, and says its origin's progress", () => {
  for (const profile of ALL_PROFILES) {
    const state = new ClusterState();
    state.nextXid = 5 * 2 ** 32 + 3;
    const main = twoPhaseState(profile, 0xffff_fff0, [0xffff_fff1, 0xffff_fff2]);
    const calls = effectsOf(
      { rmid: RM_XACT_ID, info: 0x10, xid: 0xffff_fff0, originId: 4, main },
      profile,
      state,
    );
    const length = main.done().length;
    assert.equal(calls, [`putTwoPhase ${4 * 2 ** 32 + 0xffff_fff0} <${length} bytes>`, "setOrigin 4 77"]);
  }
});

test("origins move forward only, unless forced, and 0xFFFF is none", () => {
  const state = new ClusterState();
  const set = (remote: number, force: boolean, id = 1) =>
    effectsOf(
      {
        rmid: RM_REPLORIGIN_ID,
        info: 0x00,
        main: new Bytes().u64(remote).u16(id).u8(force ? 1 : 0).zeros(5),
      },
      pg18,
      state,
    );
  assert.equal(set(10, false), ["setOrigin 1 10"]);
  assert.equal(set(9, false), []);
  assert.equal(set(9, true), ["setOrigin 1 9"]);
  assert.equal(effectsOf({ rmid: RM_REPLORIGIN_ID, info: 0x10, main: new Bytes().u16(1) }, pg18, state), [
    "dropOrigin 1",
  ]);
  assert.equal(set(1, false), ["setOrigin 1 1"]);
  const main = new Bytes().u64(TIME).u32(0x20).u64(5).u64(TIME);
  const calls = effectsOf(
    { rmid: RM_XACT_ID, info: HAS_INFO, xid: 100, originId: 0xffff, main },
    pg18,
    state,
  );
  assert.equal(calls, ["touchSlruPage 0 0", `transactionEnd true ${TIME} 100`]);
});

test("multixacts touch the offsets of themselves and the next, and their members' pages", () => {
  const state = new ClusterState();
  const members = Array.from({ length: 10 }, (_, index) => [1000 + index, 0]).flat();
  const create = (multi: number, offset: number) =>
    effectsOf(
      { rmid: RM_MULTIXACT_ID, info: 0x20, main: new Bytes().u32(multi, offset, 10, ...members) },
      pg18,
      state,
    );
  assert.equal(create(5, 1), ["touchSlruPage 1 0", "touchSlruPage 2 0"]);
  assert.equal([state.nextMulti, state.nextMultiOffset, state.nextXid], [6, 11, 1010]);
  assert.equal(create(2047, 1630), [
    "touchSlruPage 1 0",
    "touchSlruPage 1 1",
    "touchSlruPage 2 0",
    "touchSlruPage 2 1",
  ]);
  assert.equal([state.nextMulti, state.nextMultiOffset], [2048, 1640]);
});

test("multixacts wrap around, ids to 1 and members to 0", () => {
  const state = new ClusterState();
  state.nextMulti = 0xffff_fff0;
  state.nextMultiOffset = 0xffff_fff0;
  const members = Array.from({ length: 20 }, () => [1000, 0]).flat();
  const main = new Bytes().u32(0xffff_ffff, 0xffff_fffa, 20, ...members);
  assert.equal(effectsOf({ rmid: RM_MULTIXACT_ID, info: 0x20, main }, pg18, state), [
    "touchSlruPage 1 2097151",
    "touchSlruPage 1 0",
    "touchSlruPage 2 2625285",
    "touchSlruPage 2 0",
  ]);
  assert.equal([state.nextMulti, state.nextMultiOffset], [0, 14]);
});

test("an offsets page that an older minor zeroes late keeps what was written to it", () => {
  const state = new ClusterState();
  const zero = (page: number) =>
    effectsOf({ rmid: RM_MULTIXACT_ID, info: 0x00, main: new Bytes().u64(page) }, pg18, state);
  const create = (multi: number) =>
    effectsOf(
      { rmid: RM_MULTIXACT_ID, info: 0x20, main: new Bytes().u32(multi, 1, 1, 1000, 0) },
      pg18,
      state,
    );
  assert.equal(zero(1), ["zeroSlruPage 1 1"]);
  // As new minors write it: the page first, then the last multixact of the page before.
  assert.equal(zero(2), ["zeroSlruPage 1 2"]);
  assert.equal(create(4095), ["touchSlruPage 1 1", "touchSlruPage 1 2", "touchSlruPage 2 0"]);
  // As old minors write it: the other way round.
  assert.equal(create(6143), ["touchSlruPage 1 2", "touchSlruPage 1 3", "touchSlruPage 2 0"]);
  assert.equal(zero(3), []);
  assert.equal(create(6144), ["touchSlruPage 1 3", "touchSlruPage 2 0"]);
  assert.equal(zero(4), ["zeroSlruPage 1 4"]);
});

test("multixact truncation removes segments of members and offsets, and moves the limits", () => {
  const state = new ClusterState();
  state.nextMulti = 200_000;
  const main = new Bytes().u32(16_384, 1, 131_072 + 1, 1, 52_352 * 3);
  assert.equal(effectsOf({ rmid: RM_MULTIXACT_ID, info: 0x30, main }, pg14, state), [
    "deleteSlruSegments 2 0 3",
    "truncateSlru 1 64",
  ]);
  assert.equal([state.oldestMulti, state.oldestMultiDB], [131_073, 16_384]);
});

test("page numbers of pg_xact and commit_ts records have 4 bytes until 16, and 8 from 17 on", () => {
  const truncate = (pageno: Bytes) => pageno.u32(2_000_000, 5);
  for (
    const [profile, pageno] of [[pg15, () => new Bytes().u32(61)], [pg17, () => new Bytes().u64(61)]] as const
  ) {
    const state = new ClusterState();
    state.advanceNextXid(3_000_000);
    state.oldestCommitTsXid = 100;
    assert.equal(effectsOf({ rmid: RM_CLOG_ID, info: 0x00, main: pageno() }, profile, state), [
      "zeroSlruPage 0 61",
    ]);
    assert.equal(effectsOf({ rmid: RM_CLOG_ID, info: 0x10, main: truncate(pageno()) }, profile, state), [
      "truncateSlru 0 61",
    ]);
    assert.equal([state.oldestXid, state.oldestXidDB], [2_000_000, 5]);
    assert.equal(effectsOf({ rmid: RM_COMMIT_TS_ID, info: 0x00, main: pageno() }, profile, state), [
      "zeroSlruPage 3 61",
    ]);
    const main = pageno().u32(50_000);
    assert.equal(effectsOf({ rmid: RM_COMMIT_TS_ID, info: 0x10, main }, profile, state), [
      "truncateSlru 3 61",
    ]);
    assert.is(state.oldestCommitTsXid, 50_000);
  }
});

test("a truncation of pg_xact that would remove the newest page is ignored, as PostgreSQL ignores it", () => {
  const state = new ClusterState();
  assert.equal(
    effectsOf({ rmid: RM_CLOG_ID, info: 0x10, main: new Bytes().u64(3).u32(100_000, 5) }, pg17, state),
    [],
  );
  assert.raises(
    () => effectsOf({ rmid: RM_CLOG_ID, info: 0x00, main: new Bytes().u64(131_072) }, pg17),
    CorruptionError,
  );
});

test.run();
