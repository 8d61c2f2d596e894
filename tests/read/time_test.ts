/** Times to LSNs and back, against a list of all ends of transactions that is searched from its beginning. */
import { setU32, setU64 } from "../../src/bytes/little_endian.ts";
import { LsnCollectedError, LsnNotReachedError, NotFoundError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { RM_XACT_ID, RM_XLOG_ID } from "../../src/postgres/wal/rmgr.ts";
import { XLOG_XACT_ABORT, XLOG_XACT_COMMIT } from "../../src/postgres/effects/xact_record.ts";
import { attachReader } from "../../src/read/attach.ts";
import {
  lsnOfRestorePoint,
  lsnOfTimestamp,
  lsnOfXid,
  type MomentFound,
  restorePoints,
  timestampOfLsn,
  unixMicrosOf,
} from "../../src/read/time.ts";
import { createBranch } from "../../src/upkeep/branch.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { assert, suite } from "../support/harness.ts";
import { recordOf } from "../support/made_wal.ts";
import { seededRandom } from "../support/random.ts";
import { TEST_START, WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("read/time", { timeoutMs: 240_000 });

const XLOG_NOOP = 0x20;
const XLOG_RESTORE_POINT = 0x70;
/** Some day of 2025, microseconds since 2000. */
const DAY = 800_000_000_000_000;
const SECOND = 1_000_000;

function endRecord(xid: number, micros: number, committed = true): Uint8Array {
  const main = new Uint8Array(8);
  setU64(main, 0, micros);
  const record = recordOf(RM_XACT_ID, committed ? XLOG_XACT_COMMIT : XLOG_XACT_ABORT, [], main);
  setU32(record, 4, xid);
  return record;
}

/** A record with nothing but `length` bytes of main data. */
function noopRecord(length: number): Uint8Array {
  const header = recordOf(RM_XLOG_ID, XLOG_NOOP, [], new Uint8Array(1)).subarray(0, -1);
  const record = new Uint8Array(header.length + length);
  record.set(header);
  setU32(record, 0, record.length);
  setU32(record, header.length - 4, length);
  return record;
}

function restorePointRecord(name: string, micros: number): Uint8Array {
  const main = new Uint8Array(72);
  setU64(main, 0, micros);
  main.set(new TextEncoder().encode(name), 8);
  return recordOf(RM_XLOG_ID, XLOG_RESTORE_POINT, [], main);
}

/** What is known of a transaction in the model. */
interface ModelEnd {
  lsn: Lsn;
  previousLsn: Lsn;
  micros: number;
  xid: number;
}

/** A timeline and the ends of all its transactions. */
class Modelled {
  written!: WrittenTimeline;
  readonly ends: ModelEnd[] = [];
  readonly store = new MemoryStore();

  static async open(): Promise<Modelled> {
    const modelled = new Modelled();
    modelled.written = await WrittenTimeline.open({ store: modelled.store });
    return modelled;
  }

  async write(records: { record: Uint8Array; xid?: number; micros?: number }[]): Promise<void> {
    let previousLsn = this.written.timeline.lastRecordLsn;
    const lsns = await this.written.write(...records.map(({ record }) => record));
    for (const [index, { xid, micros }] of records.entries()) {
      if (xid !== undefined) this.ends.push({ lsn: lsns[index], previousLsn, micros: micros!, xid });
      previousLsn = lsns[index];
    }
  }

  async reopen(): Promise<void> {
    await this.written.flush();
    await this.written.close();
    this.written = await WrittenTimeline.open({ store: this.store });
  }

  /** What PostgreSQL's recovery would do: the first end that is later stops it. */
  lsnOf(micros: number, exclusive: boolean): Pick<MomentFound, "kind" | "lsn"> {
    const { lastRecordLsn } = this.written.timeline;
    if (this.ends.length === 0) return { kind: "no_data", lsn: lastRecordLsn };
    const index = this.ends.findIndex((end) => exclusive ? end.micros >= micros : end.micros > micros);
    if (index < 0) return { kind: "future", lsn: lastRecordLsn };
    if (index === 0) return { kind: "past", lsn: TEST_START };
    return { kind: "found", lsn: this.ends[index].previousLsn };
  }
}

test(
  "lsnOfTimestamp(), timestampOfLsn() and lsnOfXid() agree with a search of all transactions",
  async () => {
    const random = seededRandom("read/time");
    for (let round = 0; round < 12; round++) {
      const modelled = await Modelled.open();
      let clock = DAY;
      let xid = 700;
      const running: number[] = [];
      for (let step = 0; step < 40; step++) {
        const records: { record: Uint8Array; xid?: number; micros?: number }[] = [];
        for (let count = random.int(1, 60); count > 0; count--) {
          const kind = random.int(0, 99);
          if (kind === 0) records.push({ record: noopRecord(random.int(1, 3_000_000)) });
          else if (kind < 40) records.push({ record: noopRecord(random.int(1, 4000)) });
          else {
            running.push(++xid);
            if (random.int(0, 3) === 0) continue;
            const [ending] = running.splice(random.int(0, running.length - 1), 1);
            clock += random.int(0, SECOND);
            // The time is noted before the record gets its place.
            const micros = clock - (random.int(0, 4) === 0 ? random.int(0, 3 * SECOND) : 0);
            records.push({ record: endRecord(ending, micros, random.int(0, 5) > 0), xid: ending, micros });
          }
        }
        if (records.length > 0) await modelled.write(records);
        if (random.int(0, 9) === 0) await modelled.written.flush();
        if (random.int(0, 19) === 0) await modelled.reopen();
      }
      await checkAll(modelled, random.int.bind(random), running);
      await modelled.written.close();
    }
  },
);

async function checkAll(
  model: Modelled,
  draw: (from: number, to: number) => number,
  running: readonly number[],
): Promise<void> {
  const { written, ends } = model;
  const { reader } = written;
  for (let probe = 0; probe < 150; probe++) {
    const near = ends[draw(0, ends.length - 1)].micros + draw(-1, 1);
    const micros = probe % 3 === 0 ? near + draw(-5 * SECOND, 5 * SECOND) : near;
    const exclusive = draw(0, 1) === 0;
    const { kind, lsn } = await lsnOfTimestamp(reader, unixMicrosOf(micros), { exclusive });
    assert.equal({ kind, lsn }, model.lsnOf(micros, exclusive), `time ${micros}, exclusive ${exclusive}`);
    const at = draw(TEST_START, written.timeline.lastRecordLsn) as Lsn;
    const last = ends.findLast((end) => end.lsn <= at);
    assert.equal(
      await timestampOfLsn(reader, at),
      last && { lsn: last.lsn, unixMicros: unixMicrosOf(last.micros) },
      `LSN ${at}`,
    );
    const end = ends[draw(0, ends.length - 1)];
    const found = await lsnOfXid(reader, end.xid);
    assert.equal([found.lsn, found.previousLsn], [end.lsn, end.previousLsn], `transaction ${end.xid}`);
  }
  if (running.length > 0) await assert.rejects(lsnOfXid(reader, running[0]), NotFoundError);
}

test("lsnOfTimestamp() tells that there is no data", async () => {
  const modelled = await Modelled.open();
  assert.is((await lsnOfTimestamp(modelled.written.reader, 0)).kind, "no_data");
  await modelled.write([{ record: noopRecord(100) }]);
  const { lastRecordLsn } = modelled.written.timeline;
  assert.equal(await lsnOfTimestamp(modelled.written.reader, 0), { kind: "no_data", lsn: lastRecordLsn });
  assert.is(await timestampOfLsn(modelled.written.reader, lastRecordLsn), undefined);
  await modelled.written.close();
});

test("timestampOfLsn() refuses what cannot be read", async () => {
  const { written } = await Modelled.open();
  await assert.rejects(timestampOfLsn(written.reader, TEST_START - 8 as Lsn), LsnCollectedError);
  await assert.rejects(timestampOfLsn(written.reader, TEST_START + 8 as Lsn), LsnNotReachedError);
  await written.close();
});

test("an index whose beginning is the last checkpoint answers for moments before the first transaction", async () => {
  const { written } = await Modelled.open();
  const stored = { stretch: undefined, slot: undefined, restorePointLsn: 0 as Lsn, checkPointMicros: DAY };
  written.timeline.times.load(TEST_START, stored);
  await written.writeOne(noopRecord(100));
  const before = written.timeline.lastRecordLsn;
  await written.writeOne(endRecord(800, DAY + 10 * SECOND));
  const found = await lsnOfTimestamp(written.reader, unixMicrosOf(DAY + SECOND));
  assert.equal([found.kind, found.lsn], ["found", before]);
  assert.is((await lsnOfTimestamp(written.reader, unixMicrosOf(DAY - 1))).kind, "past");
  await written.close();
});

test("lsnOfRestorePoint() finds the first of a name, also after a restart", async () => {
  const modelled = await Modelled.open();
  const { store } = modelled;
  const first = await modelled.written.writeOne(restorePointRecord("before upgrade", DAY));
  await modelled.written.writeOne(noopRecord(2_000_000));
  await modelled.reopen();
  const second = await modelled.written.writeOne(restorePointRecord("nightly", DAY + SECOND));
  const third = await modelled.written.writeOne(restorePointRecord("nightly", DAY + 2 * SECOND));
  const { reader } = modelled.written;
  assert.is(await lsnOfRestorePoint(reader, "before upgrade"), first);
  assert.is(await lsnOfRestorePoint(reader, "nightly"), second);
  assert.equal((await restorePoints(reader)).map(({ lsn }) => lsn), [first, second, third]);
  await assert.rejects(lsnOfRestorePoint(reader, "weekly"), NotFoundError);
  await modelled.written.close();
  await store.close();
});

test("a branch that leaves its parent inside a batch knows what ended before it", async () => {
  const parent = await Modelled.open();
  const { store } = parent;
  const { clock } = parent.written;
  await parent.write(Array.from({ length: 10 }, (_, n) => {
    const micros = DAY + n * SECOND;
    return { record: endRecord(800 + n, micros), xid: 800 + n, micros };
  }));
  await parent.written.flush();
  const { lsn } = parent.ends[5];
  await createBranch({ store, clock, parent: parent.written.reader, lsn, name: "branch" });
  const parentOfTwig = await attachReader({ store, clock, timeline: "branch" });
  await createBranch({ store, clock, parent: parentOfTwig.reader, lsn, name: "twig" });
  await parentOfTwig.close();
  for (const timeline of ["branch", "twig"]) {
    const { reader, close } = await attachReader({ store, clock, timeline });
    assert.is((await lsnOfTimestamp(reader, unixMicrosOf(DAY + 4 * SECOND))).kind, "past");
    assert.is((await lsnOfTimestamp(reader, unixMicrosOf(DAY + 9 * SECOND))).kind, "future");
    assert.equal(await timestampOfLsn(reader, lsn), { lsn, unixMicros: unixMicrosOf(DAY + 5 * SECOND) });
    await close();
  }
  for (const gap of [100, 100_000]) {
    const branch = await WrittenTimeline.open({ store, clock, name: "branch" });
    const from = branch.timeline.lastRecordLsn;
    await branch.write(noopRecord(gap), endRecord(900, DAY + 100 * SECOND));
    const { reader } = branch;
    assert.is((await lsnOfTimestamp(reader, unixMicrosOf(DAY + 4 * SECOND))).kind, "past");
    const found = await lsnOfTimestamp(reader, unixMicrosOf(DAY + 50 * SECOND));
    assert.is(found.kind, "found");
    assert.equal(found.last, { lsn, unixMicros: unixMicrosOf(DAY + 5 * SECOND) });
    assert.ok(found.lsn > from);
    // Not flushed: the next one begins where the branch does, too.
    await branch.close();
  }
  await parent.written.close();
});

test("lsnOfTimestamp() reads few values of a long history", async () => {
  const modelled = await Modelled.open();
  const { written } = modelled;
  for (let mebibyte = 0; mebibyte < 1000; mebibyte++) {
    await modelled.write([
      { record: noopRecord(1024 * 1024) },
      { record: endRecord(1000 + mebibyte, DAY + mebibyte * SECOND), xid: 1000 + mebibyte, micros: DAY },
    ]);
    if (mebibyte % 100 === 99) await written.flush();
  }
  const { counters } = written.attached.fetcher;
  const before = counters.reads;
  const { kind, lsn } = await lsnOfTimestamp(written.reader, unixMicrosOf(DAY + 500 * SECOND));
  assert.equal([kind, lsn], ["found", modelled.ends[501].previousLsn]);
  assert.ok(counters.reads - before <= 16, `${counters.reads - before} reads`);
  await written.close();
});

test.run();
