/** The rules by which the cluster's counters move, and what of them is stored. */
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import {
  ClusterState,
  decodeClusterState,
  encodeClusterState,
} from "../../../src/postgres/effects/cluster_state.ts";
import type { CheckPoint } from "../../../src/postgres/files/check_point.ts";
import { lsn } from "../../../src/lsn.ts";
import {
  fullTransactionIdBefore,
  nextMultiXactId,
  previousMultiXactId,
  transactionIdAdvance,
  transactionIdFollowsOrEquals,
  transactionIdPrecedes,
  transactionIdRetreat,
} from "../../../src/postgres/transaction_id.ts";
import { assert, suite } from "../../support/harness.ts";
import { seededRandom } from "../../support/random.ts";

const test = suite("effects/cluster_state");

const EPOCH = 2 ** 32;

function checkPoint(fields: Partial<CheckPoint> = {}): CheckPoint {
  return {
    ...new ClusterState().toCheckPoint(),
    nextXid: 5000,
    nextMulti: 10,
    nextMultiOffset: 20,
    ...fields,
  };
}

/** A state as a shutdown checkpoint leaves it, stored. */
function shutDown(fields: Partial<CheckPoint> = {}): ClusterState {
  const state = new ClusterState();
  state.shutdownCheckPoint(checkPoint(fields), lsn(1000));
  state.markSaved();
  return state;
}

test("transaction ids are compared modulo 2^32, special ones are the oldest", () => {
  assert.ok(transactionIdPrecedes(3, 4));
  assert.ok(transactionIdPrecedes(0xffff_ffff, 3));
  assert.not(transactionIdPrecedes(3, 0xffff_ffff));
  assert.ok(transactionIdPrecedes(2, 3));
  assert.ok(transactionIdPrecedes(0, 0xffff_ffff));
  assert.not(transactionIdPrecedes(0xffff_ffff, 2));
  assert.ok(transactionIdFollowsOrEquals(5, 5));
  assert.equal([transactionIdAdvance(0xffff_ffff), transactionIdAdvance(7)], [3, 8]);
  assert.equal([transactionIdRetreat(3), transactionIdRetreat(8)], [0xffff_ffff, 7]);
  assert.equal([nextMultiXactId(0xffff_ffff), nextMultiXactId(1)], [1, 2]);
  assert.equal([previousMultiXactId(1), previousMultiXactId(2)], [0xffff_ffff, 1]);
  assert.equal(fullTransactionIdBefore(3 * EPOCH + 10, 9), 3 * EPOCH + 9);
  assert.equal(fullTransactionIdBefore(3 * EPOCH + 10, 11), 2 * EPOCH + 11);
  assert.equal(fullTransactionIdBefore(10, 11), 11);
  assert.equal(fullTransactionIdBefore(3 * EPOCH + 10, 2), 2);
});

test("advanceNextXid() goes forward only, and counts an epoch where ids wrap around", () => {
  const state = new ClusterState();
  const moves: [number, number][] = [
    [100, 101],
    [50, 101],
    [0, 101],
    [2, 101],
    [2_000_000_000, 2_000_000_001],
    [4_000_000_000, 4_000_000_001],
    [0xffff_fffe, 0xffff_ffff],
    // The next one after 0xFFFFFFFF is 3.
    [0xffff_ffff, EPOCH + 3],
    [0xffff_fffe, EPOCH + 3],
    [2, EPOCH + 3],
    [500, EPOCH + 501],
    [0xffff_fff0, EPOCH + 501],
  ];
  for (const [xid, expected] of moves) {
    state.advanceNextXid(xid);
    assert.is(state.nextXid, expected, `after ${xid}`);
  }
});

test("advanceNextMulti() moves id and offset each on its circle", () => {
  const state = new ClusterState();
  state.advanceNextMulti(0x7fff_0000, 0x7fff_ff00);
  state.advanceNextMulti(0xf000_0000, 0xf000_0000);
  state.advanceNextMulti(0xffff_ffff, 0xffff_fff0);
  assert.equal([state.nextMulti, state.nextMultiOffset], [0xffff_ffff, 0xffff_fff0]);
  state.advanceNextMulti(0xffff_fff0, 5);
  assert.equal([state.nextMulti, state.nextMultiOffset], [0xffff_ffff, 5]);
  state.advanceNextMulti(0, 4);
  assert.equal([state.nextMulti, state.nextMultiOffset], [0, 5]);
});

test("after a shutdown checkpoint the counters are stored as they are", () => {
  const state = new ClusterState();
  state.shutdownCheckPoint(checkPoint({ newestCommitTsXid: 4999, oldestCommitTsXid: 700 }), lsn(1000));
  assert.ok(state.needsSave());
  const stored = decodeClusterState(encodeClusterState(state));
  assert.equal([stored.nextXid, stored.nextMulti, stored.nextMultiOffset, stored.newestCommitTsXid], [
    5000,
    10,
    20,
    4999,
  ]);
});

test("needsSave() is quiet while ids stay below the stored ones, and bounds() never are too low", () => {
  const state = shutDown();
  assert.not(state.needsSave());
  state.advanceNextXid(5000);
  assert.ok(state.needsSave());
  assert.equal(state.bounds(), {
    nextXid: 5120,
    nextMulti: 2048,
    nextMultiOffset: 1636,
    newestCommitTsXid: 0,
  });
  state.markSaved();
  for (let xid = 5001; xid < 5120; xid++) {
    state.advanceNextXid(xid);
    assert.not(state.needsSave(), `${xid}`);
  }
  state.advanceNextXid(5120);
  assert.ok(state.needsSave());
  state.markSaved();
  state.advanceNextMulti(2048, 1636);
  assert.not(state.needsSave());
  state.advanceNextMulti(2049, 1636);
  assert.ok(state.needsSave());
  // Not 2048 again: its page exists by then, with the end of multixact 2047 on it.
  assert.is(state.bounds().nextMulti, 4096);
  state.markSaved();
  state.advanceNextMulti(2049, 1637);
  assert.ok(state.needsSave());
  assert.is(state.bounds().nextMultiOffset, 3272);
});

test("bounds() are ids that PostgreSQL can start from, also where they wrap around", () => {
  const state = shutDown({
    nextXid: EPOCH - 100,
    nextMulti: 0xffff_fff0,
    nextMultiOffset: 0xffff_ff00,
    newestCommitTsXid: 50,
  });
  state.advanceNextXid(EPOCH - 90);
  assert.equal(state.bounds(), {
    nextXid: EPOCH + 3,
    nextMulti: 0,
    nextMultiOffset: 0,
    newestCommitTsXid: 0xffff_ffff,
  });
  state.markSaved();
  assert.not(state.needsSave());
  state.advanceNextXid(0xffff_ffff);
  assert.not(state.needsSave());
  state.advanceNextXid(3);
  assert.ok(state.needsSave());
  assert.is(state.bounds().nextXid, EPOCH + 1024);
});

test("bounds() cover every id that random records bring, until needsSave() says otherwise", () => {
  const random = seededRandom("effects/cluster_state bounds");
  const state = shutDown({
    nextXid: EPOCH - 20_000,
    nextMulti: 0xffff_0000,
    nextMultiOffset: 0xfffe_0000,
    newestCommitTsXid: EPOCH - 20_001,
  });
  let stored = decodeClusterState(encodeClusterState(state));
  let saves = 0;
  for (let round = 0; round < 20_000; round++) {
    state.advanceNextXid((state.nextXid + random.int(-50, 3)) % EPOCH);
    state.advanceNewestCommitTsXid(transactionIdRetreat(state.nextXid % EPOCH));
    if (random.chance(0.3)) {
      state.advanceNextMulti(
        (state.nextMulti + random.int(-5, 9)) >>> 0,
        (state.nextMultiOffset + random.int(-9, 30)) >>> 0,
      );
    }
    if (state.needsSave()) {
      stored = decodeClusterState(encodeClusterState(state));
      state.markSaved();
      saves++;
    }
    const behind = stored.nextXid < state.nextXid || ((stored.nextMulti - state.nextMulti) | 0) < 0 ||
      ((stored.nextMultiOffset - state.nextMultiOffset) | 0) < 0 ||
      transactionIdPrecedes(stored.newestCommitTsXid, state.newestCommitTsXid);
    if (behind) {
      assert.unreachable(
        `stored ${JSON.stringify(stored.bounds())} at ${JSON.stringify(state.toCheckPoint())}`,
      );
    }
    const low = stored.nextXid % EPOCH;
    if (low < 3) assert.unreachable(`${low} is no transaction`);
  }
  assert.ok(saves > 10 && saves < 300, `${saves} saves`);
});

test("anything else that changes is to be stored, and nothing that stays as it is", () => {
  const changes: [string, (state: ClusterState) => void][] = [
    ["setNextOid", (state) => state.setNextOid(20_000)],
    ["advanceOldestXid", (state) => state.advanceOldestXid(800, 5)],
    ["setOldestMulti", (state) => state.setOldestMulti(7, 5)],
    ["setOldestActiveXid", (state) => state.setOldestActiveXid(4000)],
    ["setFullPageWrites", (state) => state.setFullPageWrites(false)],
    ["switchTimeline", (state) => state.switchTimeline(3, 2, 1)],
    ["setOffsetsPages", (state) => state.setOffsetsPages(4, -1)],
    ["activateCommitTs", (state) => state.activateCommitTs()],
  ];
  for (const [name, change] of changes) {
    const state = shutDown();
    change(state);
    assert.ok(state.needsSave(), name);
    state.markSaved();
    change(state);
    assert.not(state.needsSave(), `${name} again`);
  }
  const state = shutDown();
  state.onlineCheckPoint(checkPoint(), lsn(2000));
  assert.ok(state.needsSave(), "a checkpoint is always news");
});

test("encodeClusterState() and decodeClusterState() keep every field", () => {
  const state = shutDown({
    nextXid: 7 * EPOCH + 9,
    oldestXid: 0xffff_fff0,
    nextOid: 0xffff_ffff,
    time: 1_800_000_000,
  });
  state.setParameters({
    walLevel: 2,
    walLogHints: true,
    maxConnections: 1,
    maxWorkerProcesses: 2,
    maxWalSenders: 3,
    maxPreparedXacts: 4,
    maxLocksPerXact: 5,
    trackCommitTimestamp: true,
  });
  state.setOffsetsPages(6, 7);
  state.setFullPageWrites(false);
  state.origins.set(1, 2n);
  const decoded = decodeClusterState(encodeClusterState(state));
  assert.not(decoded.needsSave());
  assert.equal(decoded.toCheckPoint(), state.toCheckPoint());
  const plain = (value: ClusterState) =>
    JSON.parse(JSON.stringify({ ...value, origins: undefined, changed: undefined }));
  assert.equal(plain(decoded), plain(state));
  assert.is(decoded.origins.size, 0);
  assert.is(decoded.hintBitsLogged, true);
});

test("decodeClusterState() refuses what it cannot know", () => {
  const bytes = encodeClusterState(new ClusterState());
  assert.is(bytes.length, 126);
  for (let length = 0; length < bytes.length; length++) {
    assert.raises(() => decodeClusterState(bytes.subarray(0, length)), CorruptionError);
  }
  assert.raises(() => decodeClusterState(new Uint8Array(bytes.length)), CorruptionError);
  const newer = bytes.slice();
  newer[0] = 2;
  assert.raises(() => decodeClusterState(newer), UnsupportedError);
});

test("clone() is independent", () => {
  const state = shutDown();
  state.origins.set(1, 5n);
  const copy = state.clone();
  state.advanceNextXid(9000);
  state.origins.set(1, 6n);
  assert.is(copy.nextXid, 5000);
  assert.not(copy.needsSave());
  assert.equal([...copy.origins], [[1, 5n]]);
  copy.advanceNextXid(5000);
  assert.ok(copy.needsSave());
});

test.run();
