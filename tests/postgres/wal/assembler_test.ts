/** Records out of pages: boundaries, switches, abandoned records, and how the input is cut. */
import { lsn, SIZE_OF_XLOG_LONG_PHD, SIZE_OF_XLOG_SHORT_PHD, XLOG_BLCKSZ } from "../../../src/lsn.ts";
import { CorruptionError, ProtocolError } from "../../../src/errors.ts";
import { ALL_PROFILES } from "../../../src/postgres/versions/all.ts";
import { pg17 } from "../../../src/postgres/versions/pg17.ts";
import { WalAssembler, type WalAssemblerOptions } from "../../../src/postgres/wal/assembler.ts";
import { assert, suite } from "../../support/harness.ts";
import { type SeededRandom, seededRandom } from "../../support/random.ts";
import { WalBuilder } from "../../support/wal_builder.ts";
import { firstDifference, readAll, type Reading } from "../../support/wal_reading.ts";

const test = suite("postgres/wal/assembler");

const MIB = 1024 * 1024;
const BASE = { profile: pg17, walSegmentSize: MIB, startLsn: lsn(3 * MIB) };

function build(write: (wal: WalBuilder) => void, options: Partial<typeof BASE> = {}): WalBuilder {
  const wal = new WalBuilder({ ...BASE, ...options });
  write(wal);
  return wal;
}

function read(
  wal: WalBuilder,
  options: Partial<WalAssemblerOptions> = {},
  lengths?: Iterable<number>,
): Reading {
  return readAll(new WalAssembler({ ...BASE, ...options }), BASE.startLsn, wal.bytes, lengths);
}

/** Reads in one piece, byte by byte and in random pieces; all must give what was written. */
function assertReads(wal: WalBuilder, options: Partial<WalAssemblerOptions> = {}): void {
  const random = seededRandom("postgres/wal/assembler chunks");
  const ways: [string, Iterable<number> | undefined][] = [["in one piece", undefined], ["by page", [
    XLOG_BLCKSZ,
  ]]];
  if (wal.bytes.length < 200_000) ways.push(["byte by byte", [1]]);
  for (let way = 0; way < 5; way++) ways.push([`random ${way}`, randomLengths(random, wal.bytes.length)]);
  for (const [name, lengths] of ways) {
    const reading = read(wal, options, lengths);
    assert.is(reading.error, undefined, name);
    assert.is(firstDifference(reading.records, wal.records), -1, name);
  }
}

function randomLengths(random: SeededRandom, total: number): number[] {
  const lengths: number[] = [];
  for (let left = total; left > 0; left -= lengths.at(-1)!) {
    lengths.push(random.pick([random.int(1, 30), random.int(1, 9000), random.int(1, 300_000)]));
  }
  return lengths;
}

test("WalAssembler finds records of all sizes, of every major", () => {
  const random = seededRandom("postgres/wal/assembler sizes");
  for (const profile of ALL_PROFILES) {
    const wal = build((wal) => {
      for (let size = 27; size < 600; size++) wal.record(size, size);
      for (let times = 0; times < 60; times++) wal.record(random.int(600, 30_000), times);
      wal.record(24);
    }, { profile });
    assertReads(wal, { profile });
  }
});

test("WalAssembler gives a record that fills its page an end on the page boundary", () => {
  const wal = build((wal) => {
    for (let page = 0; page < 5; page++) {
      wal.fillPage(0);
      wal.record(40);
    }
  });
  const { records } = read(wal);
  const ends = records.filter(({ endLsn }) => endLsn % XLOG_BLCKSZ === 0);
  assert.is(ends.length, 5);
  for (const { endLsn } of ends) {
    const next = records.find(({ startLsn }) => startLsn === endLsn + SIZE_OF_XLOG_SHORT_PHD);
    assert.ok(next, "the next record starts behind the page header");
  }
  assertReads(wal);
});

test("WalAssembler puts together a record cut at every position of its header and body", () => {
  for (let room = 8; room <= 64; room += 8) {
    assertReads(build((wal) => {
      wal.record(48);
      wal.fillPage(room);
      wal.record(61, room);
      wal.fillPage(room);
      wal.record(2 * XLOG_BLCKSZ + 99, room);
      wal.record(24);
    }));
  }
});

test("WalAssembler puts together records across segments, and longer than a segment", () => {
  const wal = build((wal) => {
    wal.record(MIB - 1000);
    wal.record(5000);
    wal.record(3 * MIB + 77);
    wal.record(40);
    wal.record(50);
  });
  assert.is(read(wal).error, undefined);
  assert.is(firstDifference(read(wal, {}, [100_000]).records, wal.records), -1);
  assert.is(firstDifference(read(wal, {}, [7]).records, wal.records), -1);
});

test("WalAssembler starts at a record in the middle of a page", () => {
  const wal = build((wal) => {
    for (let size = 30; size < 700; size++) wal.record(size);
  });
  for (const first of [1, 100, 333, 668]) {
    const { startLsn } = wal.records[first];
    const reading = readAll(
      new WalAssembler({ ...BASE, startLsn }),
      startLsn,
      wal.bytes.subarray(startLsn - BASE.startLsn),
      [777],
    );
    assert.is(reading.error, undefined);
    assert.is(firstDifference(reading.records, wal.records.slice(first)), -1);
  }
});

test("XLOG_SWITCH skips the rest of its segment unread, wherever it stands", () => {
  const places: [string, (wal: WalBuilder) => void][] = [
    ["at the segment's beginning", () => {}],
    ["in the middle of a page", (wal) => void wal.record(100)],
    ["at the beginning of a page", (wal) => wal.fillPage(0)],
    ["ending on a page boundary", (wal) => wal.fillPage(24)],
    ["cut by a page boundary after 8 bytes", (wal) => wal.fillPage(8)],
    ["cut by a page boundary after 16 bytes", (wal) => wal.fillPage(16)],
    ["ending on the segment boundary", (wal) => {
      wal.record(MIB - SIZE_OF_XLOG_LONG_PHD - 127 * SIZE_OF_XLOG_SHORT_PHD - 24);
    }],
    ["cut by the segment boundary", (wal) => {
      wal.record(MIB - SIZE_OF_XLOG_LONG_PHD - 127 * SIZE_OF_XLOG_SHORT_PHD - 8);
    }],
  ];
  for (const [place, approach] of places) {
    for (const filler of [0, 0xff]) {
      const wal = build((wal) => {
        approach(wal);
        wal.switchSegment(filler);
        wal.record(100, 1);
        wal.switchSegment(filler);
        wal.record(200, 2);
      });
      for (const lengths of [[wal.bytes.length], [XLOG_BLCKSZ], [100_003]]) {
        const reading = read(wal, {}, lengths);
        assert.is(reading.error, undefined, place);
        assert.is(firstDifference(reading.records, wal.records), -1, place);
      }
      const switches = wal.records.filter(({ bytes }) => bytes[16] === 0x40);
      assert.equal(switches.map(({ endLsn }) => endLsn % MIB), [0, 0], place);
    }
  }
});

test("XLOG_SWITCH allows the source to leave the rest of the segment out", () => {
  const wal = build((wal) => {
    wal.record(100);
    wal.switchSegment();
    wal.record(200);
  });
  const assembler = new WalAssembler(BASE);
  const first = assembler.push(BASE.startLsn, wal.bytes.subarray(0, 500))!;
  assert.is(first.count, 2);
  assert.is(first.endLsn, BASE.startLsn + MIB);
  assert.is(assembler.position, BASE.startLsn + 500);
  const second = assembler.push(lsn(BASE.startLsn + MIB), wal.bytes.subarray(MIB))!;
  assert.is(second.count, 1);
  assert.is(second.startLsn, BASE.startLsn + MIB);
});

test("XLOG_SWITCH does not allow the source to go on elsewhere", () => {
  const wal = build((wal) => void wal.switchSegment());
  for (const offset of [400, 600, MIB - XLOG_BLCKSZ, MIB + 8, 2 * MIB]) {
    const assembler = new WalAssembler(BASE);
    assembler.push(BASE.startLsn, wal.bytes.subarray(0, 500));
    assert.raises(() => assembler.push(lsn(BASE.startLsn + offset), new Uint8Array(8)), ProtocolError);
  }
});

test("WalAssembler drops a record that the server abandoned in a crash", () => {
  for (const pages of [1, 2, 5]) {
    for (const room of [8, 16, 24, 4000]) {
      assertReads(build((wal) => {
        wal.record(300);
        wal.fillPage(room);
        wal.abandonRecord(60_000, pages);
        wal.record(300);
      }));
    }
  }
});

test("WalAssembler drops an abandoned record whose end would lie in the next segment", () => {
  const wal = build((wal) => {
    wal.record(MIB - 10_000);
    wal.abandonRecord(50_000, 2);
    wal.record(300);
  });
  assert.ok(wal.position > BASE.startLsn + MIB);
  assertReads(wal);
});

test("WalAssembler insists that what follows an abandoned record names it", () => {
  const wal = build((wal) => {
    wal.record(300);
    wal.abandonRecord(20_000);
  });
  const named = wal.records[1];
  const other = build((wal) => {
    wal.record(308);
    wal.abandonRecord(20_000);
  });
  assert.is(other.records[1].startLsn, named.startLsn);
  const mixed = wal.bytes.slice();
  mixed.set(other.bytes.subarray(named.startLsn - BASE.startLsn), named.startLsn - BASE.startLsn);
  const reading = readAll(new WalAssembler(BASE), BASE.startLsn, mixed);
  assert.instance(reading.error, CorruptionError);
  assert.match((reading.error as Error).message, /abandoned.*XLOG_OVERWRITE_CONTRECORD/);
});

test("skipPartial: reading may begin at any page", () => {
  const random = seededRandom("postgres/wal/assembler skipPartial");
  const wal = build((wal) => {
    for (let times = 0; times < 20; times++) {
      wal.record(random.int(27, 20_000), times);
      if (times % 5 === 0) wal.fillPage(0);
      if (times === 12) wal.abandonRecord(40_000, 3);
    }
    wal.record(30);
  });
  let refused = 0;
  for (let at = 0; at < wal.bytes.length; at += XLOG_BLCKSZ) {
    const startLsn = lsn(BASE.startLsn + at);
    const expected = wal.records.filter((record) => record.startLsn >= startLsn);
    for (const length of [wal.bytes.length, 1000]) {
      const assembler = new WalAssembler({ ...BASE, startLsn, skipPartial: true });
      const reading = readAll(assembler, startLsn, wal.bytes.subarray(at), [length]);
      assert.is(reading.error, undefined, `from page ${at / XLOG_BLCKSZ}`);
      assert.is(firstDifference(reading.records, expected), -1, `from page ${at / XLOG_BLCKSZ}`);
    }
    const strict = readAll(new WalAssembler({ ...BASE, startLsn }), startLsn, wal.bytes.subarray(at));
    if (strict.error !== undefined) refused++;
    else assert.is(firstDifference(strict.records, expected), -1);
  }
  assert.ok(refused > 5, "without the option a page that begins inside a record is refused");
});

test("push() hands out what is complete, and holds it back when asked to", () => {
  const wal = build((wal) => {
    for (let times = 0; times < 40; times++) wal.record(1000);
  });
  const assembler = new WalAssembler(BASE);
  const first = wal.records[20].endLsn - BASE.startLsn;
  assert.is(assembler.push(BASE.startLsn, wal.bytes.subarray(0, first), 65536), null);
  assert.is(assembler.endLsn, wal.records[20].endLsn);
  const batch = assembler.push(lsn(BASE.startLsn + first), wal.bytes.subarray(first, first + 1040), 0)!;
  assert.is(batch.count, 22);
  assert.is(batch.startLsn, BASE.startLsn);
  assert.is(
    assembler.push(lsn(BASE.startLsn + first + 1040), wal.bytes.subarray(first + 1040), 1 << 20),
    null,
  );
  assert.is(assembler.finish()?.count, 18);
  assert.is(assembler.finish(), null);
});

test("push() hands out batches that own their memory, and not much more than that", () => {
  const wal = build((wal) => {
    wal.record(700_000);
    for (let times = 0; times < 2000; times++) wal.record(500);
  });
  const { batches } = read(wal, {}, [131072]);
  assert.ok(batches.length > 5);
  assert.is(new Set(batches.map(({ bytes }) => bytes.buffer)).size, batches.length);
  for (const { bytes } of batches) {
    assert.ok(
      bytes.buffer.byteLength <= bytes.length * 1.25 + 65536,
      `${bytes.length} of ${bytes.buffer.byteLength}`,
    );
  }
});

test("push() of nothing changes nothing", () => {
  const assembler = new WalAssembler(BASE);
  assert.is(assembler.push(BASE.startLsn, new Uint8Array(0)), null);
  assert.is(assembler.position, BASE.startLsn);
  assert.is(assembler.endLsn, BASE.startLsn);
  assert.is(assembler.finish(), null);
});

test.run();
