/** WAL made by restore, read back by the assembler that reads servers' WAL. */
import { type Lsn, lsn } from "../../src/lsn.ts";
import { parseCheckPoint } from "../../src/postgres/files/check_point.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { WalAssembler } from "../../src/postgres/wal/assembler.ts";
import { DecodedRecord } from "../../src/postgres/wal/record.ts";
import { parseSegmentFileName } from "../../src/postgres/wal/segment.ts";
import { type MadeWal, makeShutdownWal } from "../../src/restore/made_wal.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";
import { readAll } from "../support/wal_reading.ts";

const test = suite("restore/made_wal");

const SEGMENT = 1024 * 1024;
const SYSTEM_ID = 7_300_000_000_000_000_123n;
const profile = profileOfMajor(17);
const CHECK_POINT = {
  tli: 9,
  prevTli: 9,
  fullPageWrites: true,
  walLevel: 1,
  nextXid: 0x1_0000_0400,
  nextOid: 24576,
  nextMulti: 1,
  nextMultiOffset: 0,
  oldestXid: 722,
  oldestXidDB: 1,
  oldestMulti: 1,
  oldestMultiDB: 1,
  time: 1_700_000_000,
  oldestCommitTsXid: 0,
  newestCommitTsXid: 0,
  oldestActiveXid: 0,
};

function make(at: Lsn, fromLsn: boolean): MadeWal {
  return makeShutdownWal({
    profile,
    systemId: SYSTEM_ID,
    walSegmentSize: SEGMENT,
    tli: 9,
    lsn: at,
    previousRecord: lsn(at - 8),
    checkPoint: CHECK_POINT,
    fromLsn,
  });
}

/** Whole segments, in order, as one stretch. */
function segmentsOf({ segments }: MadeWal): { start: Lsn; bytes: Uint8Array } {
  const starts = segments.map(({ name }) => parseSegmentFileName(name, SEGMENT)!);
  for (const [index, { tli, segno }] of starts.entries()) {
    assert.is(tli, 9);
    assert.is(segno, starts[0].segno + index, "segments follow each other");
  }
  const bytes = new Uint8Array(segments.length * SEGMENT);
  segments.forEach((segment, index) => bytes.set(segment.bytes, index * SEGMENT));
  return { start: starts[0].startLsn, bytes };
}

/** Reads what follows `from`, and checks that its last record is the checkpoint that was asked for. */
function readFrom(made: MadeWal, from: Lsn): number {
  const { start, bytes } = segmentsOf(made);
  const assembler = new WalAssembler({
    profile,
    walSegmentSize: SEGMENT,
    systemId: SYSTEM_ID,
    startLsn: from,
    tli: 9,
    endOfWal: "zeros",
  });
  const { records, error } = readAll(assembler, from, bytes.subarray(from - start));
  assert.is(error, undefined);
  const last = records.at(-1)!;
  assert.is(last.startLsn, made.checkPointLsn);
  const record = new DecodedRecord(profile);
  record.decode(last.bytes, 0, last.endLsn as Lsn);
  assert.equal(parseCheckPoint(last.bytes, record.mainOffset, profile, "record"), made.checkPoint);
  assert.is(made.checkPoint.redo, made.checkPointLsn, "a shutdown checkpoint's redo is its own start");
  return records.length;
}

test("makeShutdownWal() puts a checkpoint alone at the start of the next segment", () => {
  const made = make(lsn(5 * SEGMENT + 0x2128), false);
  assert.is(made.segments.length, 1);
  assert.is(made.checkPointLsn, 6 * SEGMENT + 40);
  assert.is(readFrom(made, lsn(6 * SEGMENT)), 1);
});

test("makeShutdownWal() at a segment's start needs no other segment", () => {
  for (const fromLsn of [true, false]) {
    const made = make(lsn(6 * SEGMENT), fromLsn);
    assert.is(made.checkPointLsn, 6 * SEGMENT + 40);
    assert.is(readFrom(made, lsn(6 * SEGMENT)), 1);
  }
});

test("makeShutdownWal() leads from any LSN to its checkpoint without a hole", () => {
  const random = seededRandom("made wal");
  // No record ends within a page's header, but anybody may ask for an LSN there.
  const inHeaders = make(lsn(5 * SEGMENT + 8192 + 8), true);
  assert.is(readFrom(inHeaders, lsn(5 * SEGMENT + 8192 + 24)), 2);
  const edges = [40, 48, 8184, 8192, 8192 + 24, 8176, SEGMENT - 8, SEGMENT - 16, SEGMENT - 24, SEGMENT - 32];
  const others = Array.from({ length: 200 }, () => 40 + random.int(0, (SEGMENT - 48) / 8) * 8);
  for (const offset of [...edges, ...others]) {
    if (offset % 8192 > 0 && offset % 8192 < 24) continue;
    const at = lsn(5 * SEGMENT + offset);
    assert.is(readFrom(make(at, true), at), 2, `at offset ${offset}`);
  }
});

test.run();
