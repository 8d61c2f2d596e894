/** Effects of made-up records, one manager after the other. Real servers judge in effects_server_test.ts. */
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { ClusterState } from "../../../src/postgres/effects/cluster_state.ts";
import { isKnownOpcode } from "../../../src/postgres/effects/effects.ts";
import { pg14 } from "../../../src/postgres/versions/pg14.ts";
import { pg15 } from "../../../src/postgres/versions/pg15.ts";
import { pg17 } from "../../../src/postgres/versions/pg17.ts";
import { pg18 } from "../../../src/postgres/versions/pg18.ts";
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
import { Bytes, effectsOf, makeRecord } from "./record_builder.ts";

const test = suite("effects/effects");

const TIME = 800_000_000_000_000;
const HAS_INFO = 0x80;

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
