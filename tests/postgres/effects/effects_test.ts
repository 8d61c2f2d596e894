/** Effects of made-up records, one manager after the other. Real servers judge in effects_server_test.ts. */
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { ClusterState } from "../../../src/postgres/effects/cluster_state.ts";
import { applyEffects, isKnownOpcode } from "../../../src/postgres/effects/effects.ts";
import { pg14 } from "../../../src/postgres/versions/pg14.ts";
import { pg15 } from "../../../src/postgres/versions/pg15.ts";
import { pg17 } from "../../../src/postgres/versions/pg17.ts";
import { pg18 } from "../../../src/postgres/versions/pg18.ts";
import { ALL_PROFILES } from "../../../src/postgres/versions/all.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import {
  RM_BTREE_ID,
  RM_CLOG_ID,
  RM_COMMIT_TS_ID,
  RM_DBASE_ID,
  RM_LOGICALMSG_ID,
  RM_MULTIXACT_ID,
  RM_RELMAP_ID,
  RM_REPLORIGIN_ID,
  RM_SMGR_ID,
  RM_STANDBY_ID,
  RM_TBLSPC_ID,
  RM_XACT_ID,
  RM_XLOG_ID,
} from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { Bytes, makeRecord, RecordingSink, type RecordParts } from "./record_builder.ts";

const test = suite("effects/effects");

/** Applies one record and returns what the sink was told. */
function effectsOf(parts: RecordParts, profile: VersionProfile = pg18, state = new ClusterState()): string[] {
  const recorder = new RecordingSink();
  applyEffects(makeRecord(profile, parts), state, recorder.sink);
  return recorder.calls;
}

const TIME = 800_000_000_000_000;
const HAS_INFO = 0x80;

test("a plain commit touches its pg_xact page and says its time", () => {
  const state = new ClusterState();
  const calls = effectsOf(
    { rmid: RM_XACT_ID, info: 0x00, xid: 40_000, main: new Bytes().u64(TIME) },
    pg18,
    state,
  );
  assert.equal(calls, ["touchSlruPage 0 1", `transactionEnd true ${TIME}`]);
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
      `transactionEnd true ${TIME}`,
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
    `transactionEnd true ${TIME}`,
  ]);
});

test("aborts touch pg_xact alone", () => {
  const state = new ClusterState();
  state.trackCommitTimestamp = true;
  const main = new Bytes().u64(TIME).u32(2).u32(1, 101);
  assert.equal(effectsOf({ rmid: RM_XACT_ID, info: 0x20 | HAS_INFO, xid: 100, main }, pg15, state), [
    "touchSlruPage 0 0",
    `transactionEnd false ${TIME}`,
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
  assert.equal(calls, ["touchSlruPage 0 0", `transactionEnd true ${TIME}`]);
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

test("smgr records make and cut forks, and touch the map pages that are cut", () => {
  assert.equal(effectsOf({ rmid: RM_SMGR_ID, info: 0x10, main: new Bytes().u32(1663, 5, 16_384, 3) }), [
    "createFork 1663 5 16384 3",
  ]);
  const truncate = (blocks: number, flags: number) =>
    effectsOf({ rmid: RM_SMGR_ID, info: 0x20, main: new Bytes().u32(blocks, 1663, 5, 16_384, flags) });
  assert.equal(truncate(100, 7), [
    "createFork 1663 5 16384 0",
    "truncateFork 1663 5 16384 0 100",
    "touchBlock 1663 5 16384 1 2",
    "truncateFork 1663 5 16384 1 3",
    "touchBlock 1663 5 16384 2 0",
    "truncateFork 1663 5 16384 2 1",
  ]);
  assert.equal(truncate(0, 7).slice(1), [
    "truncateFork 1663 5 16384 0 0",
    "truncateFork 1663 5 16384 1 2",
    "truncateFork 1663 5 16384 2 0",
  ]);
  assert.equal(truncate(7, 1), ["createFork 1663 5 16384 0", "truncateFork 1663 5 16384 0 7"]);
});

test("database records have other opcodes since 15", () => {
  const create = new Bytes().u32(16_400, 1663, 1, 1700);
  const drop = new Bytes().u32(16_400, 2, 1663, 1700);
  const copied = ["copyDatabase 1663 16400 1700 1"];
  const dropped = ["dropDatabase 1663 16400", "dropDatabase 1700 16400"];
  assert.equal(effectsOf({ rmid: RM_DBASE_ID, info: 0x00, main: create }, pg14), copied);
  assert.equal(effectsOf({ rmid: RM_DBASE_ID, info: 0x10, main: drop }, pg14), dropped);
  assert.raises(() => effectsOf({ rmid: RM_DBASE_ID, info: 0x20, main: drop }, pg14), UnsupportedError);
  assert.equal(effectsOf({ rmid: RM_DBASE_ID, info: 0x00, main: create }, pg15), copied);
  assert.equal(effectsOf({ rmid: RM_DBASE_ID, info: 0x10, main: new Bytes().u32(16_400, 1663) }, pg15), [
    "createDatabase 1663 16400",
  ]);
  assert.equal(effectsOf({ rmid: RM_DBASE_ID, info: 0x20, main: drop }, pg15), dropped);
});

test("tablespaces and relation maps", () => {
  const create = new Bytes().u32(16_500).text("/srv/ä b").u8(0);
  assert.equal(effectsOf({ rmid: RM_TBLSPC_ID, info: 0x00, main: create }), [
    "createTablespace 16500 /srv/ä b",
  ]);
  assert.equal(effectsOf({ rmid: RM_TBLSPC_ID, info: 0x10, main: new Bytes().u32(16_500) }), [
    "dropTablespace 16500",
  ]);
  assert.raises(
    () => effectsOf({ rmid: RM_TBLSPC_ID, info: 0x00, main: new Bytes().u32(1).text("no end") }),
    CorruptionError,
  );
  const map = (size: number) => new Bytes().u32(5, 1663, size).zeros(size);
  assert.equal(effectsOf({ rmid: RM_RELMAP_ID, info: 0, main: map(512) }, pg15), [
    "putRelmap 1663 5 <512 bytes>",
  ]);
  assert.equal(effectsOf({ rmid: RM_RELMAP_ID, info: 0, main: map(524) }, pg17), [
    "putRelmap 1663 5 <524 bytes>",
  ]);
  assert.raises(() => effectsOf({ rmid: RM_RELMAP_ID, info: 0, main: map(512) }, pg17), CorruptionError);
});

function checkPointBody(nextXid: number, nextOid: number): Bytes {
  const body = new Bytes().u64(0x1000028).u32(2, 1).u8(1).zeros(3).u32(2).u64(nextXid).u32(
    nextOid,
    50,
    60,
    700,
    5,
    2,
    6,
  );
  return body.zeros(4).u64(1_700_000_000).u32(11, 12, 0).zeros(4);
}

test("a shutdown checkpoint is believed, an online one is a lower bound", () => {
  const state = new ClusterState();
  state.nextXid = 90_000;
  state.nextMulti = 100;
  state.oldestMulti = 3;
  const online = { rmid: RM_XLOG_ID, info: 0x10, main: checkPointBody(80_000, 30_000) };
  assert.equal(effectsOf(online, pg17, state), []);
  assert.equal(
    [
      state.nextXid,
      state.nextOid,
      state.nextMulti,
      state.nextMultiOffset,
      state.oldestXid,
      state.oldestMulti,
    ],
    [90_000, 0, 100, 60, 700, 3],
  );
  assert.equal([state.tli, state.prevTli, state.walLevel, state.time, state.checkPointIsShutdown], [
    2,
    1,
    2,
    1_700_000_000,
    false,
  ]);
  assert.equal(effectsOf({ ...online, info: 0x00 }, pg17, state), []);
  assert.equal(
    [
      state.nextXid,
      state.nextOid,
      state.nextMulti,
      state.oldestCommitTsXid,
      state.newestCommitTsXid,
      state.checkPointIsShutdown,
    ],
    [80_000, 30_000, 50, 11, 12, true],
  );
  // 24 header, 2 main data header, 88 body: 120 bytes with padding.
  assert.is(state.checkPointLsn, 0x1000100 - 120);
});

test("wal_level is in checkpoints since 17 only", () => {
  const state = new ClusterState();
  effectsOf({ rmid: RM_XLOG_ID, info: 0x00, main: checkPointBody(80_000, 1) }, pg15, state);
  assert.is(state.walLevel, 1);
  const end = new Bytes().u64(TIME).u32(7, 6, 2, 0);
  effectsOf({ rmid: RM_XLOG_ID, info: 0x90, main: end }, pg15, state);
  assert.equal([state.tli, state.prevTli, state.walLevel], [7, 6, 1]);
  effectsOf({ rmid: RM_XLOG_ID, info: 0x90, main: end }, pg17, state);
  assert.is(state.walLevel, 2);
});

test("other records of the cluster as a whole", () => {
  const state = new ClusterState();
  assert.equal(effectsOf({ rmid: RM_XLOG_ID, info: 0x30, main: new Bytes().u32(24_576) }, pg18, state), []);
  assert.is(state.nextOid, 24_576);
  assert.equal(effectsOf({ rmid: RM_XLOG_ID, info: 0x80, main: new Bytes().u8(0) }, pg18, state), []);
  assert.is(state.fullPageWrites, false);
  assert.equal(effectsOf({ rmid: RM_XLOG_ID, info: 0x50, main: new Bytes().u64(0x2000028) }, pg18, state), [
    `backupEnd ${0x2000028}`,
  ]);
  const running = new Bytes().u32(1, 0, 0, 500, 400, 450, 400);
  assert.equal(effectsOf({ rmid: RM_STANDBY_ID, info: 0x10, main: running }, pg18, state), []);
  assert.equal([state.nextXid, state.oldestActiveXid], [500, 400]);
  for (
    const [rmid, info] of [
      [RM_XLOG_ID, 0x20],
      [RM_XLOG_ID, 0x40],
      [RM_XLOG_ID, 0x70],
      [RM_STANDBY_ID, 0x00],
      [RM_LOGICALMSG_ID, 0x00],
      [RM_XACT_ID, 0x50],
      [RM_XACT_ID, 0x60],
    ]
  ) {
    assert.equal(effectsOf({ rmid, info }, pg18, state), []);
  }
});

function parameters(trackCommitTimestamp: boolean): Bytes {
  return new Bytes().u32(100, 8, 10, 5, 64, 2).u8(1, trackCommitTimestamp ? 1 : 0, 0, 0);
}

test("PARAMETER_CHANGE begins and ends commit timestamps", () => {
  const state = new ClusterState();
  state.advanceNextXid(10_000);
  const change = (track: boolean) =>
    effectsOf({ rmid: RM_XLOG_ID, info: 0x60, main: parameters(track) }, pg18, state);
  assert.equal(change(true), ["zeroSlruPage 3 12"]);
  assert.equal([state.oldestCommitTsXid, state.newestCommitTsXid], [10_001, 10_001]);
  assert.equal([state.maxConnections, state.maxPreparedXacts, state.walLevel, state.walLogHints], [
    100,
    5,
    2,
    true,
  ]);
  assert.equal(change(true), []);
  assert.equal(change(false), ["clearSlru 3"]);
  assert.equal([state.oldestCommitTsXid, state.newestCommitTsXid], [0, 0]);
  assert.equal(change(false), []);
});

test("every record's xid counts, before its manager is looked at", () => {
  const state = new ClusterState();
  assert.equal(effectsOf({ rmid: RM_BTREE_ID, info: 0x00, xid: 5000 }, pg18, state), []);
  assert.is(state.nextXid, 5001);
  assert.raises(() => effectsOf({ rmid: 200, info: 0x00, xid: 6000 }, pg18, state), UnsupportedError);
  assert.is(state.nextXid, 6001);
});

test("isKnownOpcode() is false for what no major has, and applyEffects() says so", () => {
  const unknown: [number, number, VersionProfile][] = [
    [RM_XLOG_ID, 0xc0, pg18],
    [RM_XLOG_ID, 0xe0, pg15],
    [RM_XLOG_ID, 0xf0, pg18],
    [RM_XACT_ID, 0x70, pg18],
    [RM_XACT_ID, 0xf0, pg18],
    [RM_SMGR_ID, 0x00, pg18],
    [RM_CLOG_ID, 0x20, pg18],
    [RM_COMMIT_TS_ID, 0x20, pg14],
    [RM_DBASE_ID, 0x30, pg18],
    [RM_MULTIXACT_ID, 0x40, pg18],
    [RM_REPLORIGIN_ID, 0x20, pg18],
    [RM_LOGICALMSG_ID, 0x10, pg18],
    [22, 0x00, pg18],
    [128, 0x00, pg18],
  ];
  for (const [rmid, info, profile] of unknown) {
    const what = `manager ${rmid}, info ${info}`;
    assert.is(isKnownOpcode(makeRecord(profile, { rmid, info })), false, what);
    const error = assert.raises(() => effectsOf({ rmid, info }, profile), UnsupportedError);
    assert.match(error.message, `0x${info.toString(16)} of PostgreSQL ${profile.major}`);
  }
  assert.is(isKnownOpcode(makeRecord(pg17, { rmid: RM_XLOG_ID, info: 0xe0 })), true);
});

test("records that are too short are corrupt", () => {
  const short: [number, number, Bytes][] = [
    [RM_XACT_ID, 0x00, new Bytes().u32(1)],
    [RM_XACT_ID, HAS_INFO, new Bytes().u64(TIME).u32(2).u32(1000, 5)],
    [RM_XACT_ID, HAS_INFO, new Bytes().u64(TIME).u32(2).u32(0xffff_ffff)],
    [RM_XACT_ID, 0x30 | HAS_INFO, new Bytes().u64(TIME).u32(0)],
    [RM_XACT_ID, 0x30 | HAS_INFO, new Bytes().u64(TIME).u32(0x90).u32(5).text("no end")],
    [RM_XACT_ID, 0x10, new Bytes().zeros(72)],
    [RM_MULTIXACT_ID, 0x20, new Bytes().u32(1, 1, 2, 5, 0)],
    [RM_MULTIXACT_ID, 0x20, new Bytes().u32(1, 1, 0)],
    [RM_SMGR_ID, 0x10, new Bytes().u32(1, 2, 3, 4)],
    [RM_DBASE_ID, 0x20, new Bytes().u32(1, 2, 3)],
    [RM_XLOG_ID, 0x00, new Bytes().zeros(80)],
    [RM_XLOG_ID, 0x00, new Bytes().zeros(88)],
    [RM_XLOG_ID, 0x50, new Bytes().u64(-1)],
  ];
  for (const [rmid, info, main] of short) {
    const error = assert.raises(() => effectsOf({ rmid, info, xid: 100, main }), CorruptionError);
    assert.match(error.message, "0/1000100", `manager ${rmid}, info ${info}: ${error.message}`);
  }
});

test.run();
