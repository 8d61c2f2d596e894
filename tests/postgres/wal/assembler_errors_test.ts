/** WAL gone bad: every check of the assembler, by an input that nothing else objects to. */
import { CorruptionError, MismatchError, ProtocolError } from "../../../src/errors.ts";
import { setU16, setU32, setU64 } from "../../../src/bytes/little_endian.ts";
import { formatLsn, lsn, XLOG_BLCKSZ } from "../../../src/lsn.ts";
import { pg14 } from "../../../src/postgres/versions/pg14.ts";
import { pg16 } from "../../../src/postgres/versions/pg16.ts";
import { WalAssembler, type WalAssemblerOptions } from "../../../src/postgres/wal/assembler.ts";
import { assert, suite } from "../../support/harness.ts";
import { sealRecord, WalBuilder } from "../../support/wal_builder.ts";
import { readAll, type Reading } from "../../support/wal_reading.ts";

const test = suite("postgres/wal/assembler errors");

const MIB = 1024 * 1024;
const SYSTEM_ID = 0xfedcba9876543210n;
const BASE = { profile: pg16, walSegmentSize: MIB, startLsn: lsn(7 * MIB), systemId: SYSTEM_ID };

/** Three records: one on the first page, one over three pages, one behind it. */
function sample(): WalBuilder {
  const wal = new WalBuilder(BASE);
  wal.record(800);
  wal.record(20_000);
  wal.record(100);
  return wal;
}

function read(bytes: Uint8Array, options: Partial<WalAssemblerOptions> = {}): Reading {
  return readAll(new WalAssembler({ ...BASE, ...options }), BASE.startLsn, bytes, [5000]);
}

/** Spoils the sample, and asserts that `good` records come out before the error. */
function assertFails(
  spoil: (bytes: Uint8Array, wal: WalBuilder) => void,
  good: number,
  // deno-lint-ignore no-explicit-any -- any error class
  kind: new (...args: any[]) => Error,
  message: RegExp,
  options: Partial<WalAssemblerOptions> = {},
): void {
  const wal = sample();
  const bytes = wal.bytes.slice();
  spoil(bytes, wal);
  const reading = read(bytes, options);
  assert.instance(reading.error, kind, String(reading.error));
  assert.match((reading.error as Error).message, message);
  assert.is(reading.records.length, good);
  assert.match((reading.error as Error).message, /LSN 0\/7[0-9A-F]{5}\b/, "the message says where");
}

test("WalAssembler reads the sample", () => {
  const reading = read(sample().bytes);
  assert.is(reading.error, undefined);
  assert.is(reading.records.length, 3);
});

test("WalAssembler refuses page headers that are wrong in any field", () => {
  const second = XLOG_BLCKSZ;
  assertFails((b) => setU16(b, 0, 0x1234), 0, CorruptionError, /xlp_magic.*expected 0xd113, got 0x1234/);
  assertFails(
    (b) => setU16(b, second, pg14.xlogPageMagic),
    1,
    MismatchError,
    /expected PostgreSQL 16, got .* PostgreSQL 14/,
  );
  assertFails((b) => setU16(b, second + 2, 0x11), 1, CorruptionError, /xlp_info/);
  assertFails((b) => setU32(b, second + 4, 0), 1, CorruptionError, /xlp_tli goes backwards/);
  assertFails((b) => setU32(b, second + 4, 9), 1, MismatchError, /expected timeline 4, got 9/, { tli: 4 });
  assertFails(
    (b) => setU64(b, second + 8, BASE.startLsn),
    1,
    CorruptionError,
    /xlp_pageaddr.*expected 0\/702000, got 0\/700000/,
  );
  assertFails((b) => setU32(b, second + 16, 12345), 1, CorruptionError, /xlp_rem_len.*got 12345/);
  assertFails((b) => setU16(b, second + 2, 0), 1, CorruptionError, /xlp_rem_len without/);
  assertFails(
    (b) => b.fill(0, second + 2, second + 4).fill(0, second + 16, second + 20),
    1,
    CorruptionError,
    /xlp_rem_len/,
  );
  assertFails((b) => setU16(b, second + 2, 3), 1, MismatchError, /has a segment's long header/);
});

test("WalAssembler refuses a segment of another cluster", () => {
  assertFails((b) => setU16(b, 2, 0), 0, MismatchError, /lacks a segment's long header/);
  assertFails(
    (b) => b[24]++,
    0,
    MismatchError,
    /xlp_sysid differs, expected 18364758544493064720, got 18364758544493064721/,
  );
  assertFails(
    (b) => setU32(b, 32, 16 * MIB),
    0,
    MismatchError,
    /xlp_seg_size differs, expected 1048576, got 16777216/,
  );
  assertFails(
    (b) => setU32(b, 36, 16384),
    0,
    MismatchError,
    /xlp_xlog_blcksz differs, expected 8192, got 16384/,
  );
});

test("WalAssembler refuses records that are wrong in any field", () => {
  const first = 40;
  assertFails((b) => setU32(b, first, 23), 0, CorruptionError, /xl_tot_len: .*got 23/);
  assertFails((b) => setU32(b, first, 0x3fc00001), 0, CorruptionError, /xl_tot_len: .*got 1069547521/);
  assertFails((b) => setU32(b, first, 0xffffffff), 0, CorruptionError, /xl_tot_len: .*got 4294967295/);
  assertFails((b) => setU32(b, first, 0), 0, CorruptionError, /xl_tot_len: .*got 0/);
  assertFails((b) => b[first + 17] = 22, 0, CorruptionError, /xl_rmid/);
  assertFails((b) => setU64(b, first + 8, BASE.startLsn + 40), 0, CorruptionError, /xl_prev lies ahead/);
  assertFails((b) => b[first + 500] ^= 1, 0, CorruptionError, /CRC-32C does not match: at LSN 0\/700028/);
  assertFails((b) => b[first + 5] ^= 1, 0, CorruptionError, /CRC-32C/);
  assertFails((b) => b[first + 20] ^= 1, 0, CorruptionError, /CRC-32C/);
  const second = first + 800;
  assertFails(
    (b) => setU64(b, second + 8, BASE.startLsn),
    1,
    CorruptionError,
    /xl_prev does not name.*expected 0\/700028, got 0\/700000/,
  );
});

test("WalAssembler refuses a record whose CRC is right but whose xl_prev names another", () => {
  const wal = sample();
  const bytes = wal.bytes.slice();
  const record = wal.records[2].bytes.slice();
  setU64(record, 8, wal.records[0].startLsn);
  sealRecord(record);
  bytes.set(record, wal.records[2].startLsn - BASE.startLsn);
  const reading = read(bytes);
  assert.match(String(reading.error), /xl_prev does not name/);
  assert.is(reading.records.length, 2);
});

test("WalAssembler goes on refusing after an error", () => {
  const bytes = sample().bytes.slice();
  bytes[1000] ^= 1;
  const assembler = new WalAssembler(BASE);
  assert.is(assembler.push(BASE.startLsn, bytes)?.count, 1);
  assert.instance(assembler.failure, CorruptionError);
  const first = assert.raises(() => assembler.push(assembler.position, new Uint8Array(1)), CorruptionError);
  const second = assert.raises(() => assembler.finish(), CorruptionError);
  assert.is(first, second);
});

test("push() refuses gaps and repetitions", () => {
  const { bytes } = sample();
  for (const position of [BASE.startLsn + 101, BASE.startLsn + 99, BASE.startLsn, BASE.startLsn + MIB]) {
    const assembler = new WalAssembler(BASE);
    assembler.push(BASE.startLsn, bytes.subarray(0, 100));
    const error = assert.raises(() => assembler.push(lsn(position), bytes.subarray(100)), ProtocolError);
    assert.match(error.message, `expected bytes at LSN 0/700064, got bytes at ${formatLsn(lsn(position))}`);
  }
});

test("endOfWal decides whether zeros and rubbish are the end or an error", () => {
  const wal = sample();
  const end = wal.position;
  const behind = (fill: (rest: Uint8Array) => void, toPageEnd = false): Uint8Array => {
    const written = toPageEnd ? (() => (wal.fillPage(0), wal.bytes))() : wal.bytes;
    const bytes = new Uint8Array(written.length + 20_000);
    bytes.set(written);
    fill(bytes.subarray(written.length));
    return bytes;
  };
  const zeros = behind(() => {});
  const rubbish = behind((rest) => rest.fill(0x77));
  const cases: [Uint8Array, WalAssemblerOptions["endOfWal"], RegExp | undefined][] = [
    [zeros, "never", undefined],
    [zeros, "zeros", /xl_tot_len is zero/],
    [zeros, "invalid", /xl_tot_len is zero/],
    [rubbish, "never", undefined],
    [rubbish, "zeros", undefined],
    [rubbish, "invalid", /impossible xl_tot_len/],
  ];
  for (const [bytes, endOfWal, reason] of cases) {
    const assembler = new WalAssembler({ ...BASE, endOfWal });
    const reading = readAll(assembler, BASE.startLsn, bytes, [3000]);
    assert.is(reading.records.length, 3);
    if (reason === undefined) assert.instance(reading.error, CorruptionError);
    else {
      assert.is(reading.error, undefined);
      assert.is(assembler.atEnd?.lsn, end);
      assert.match(assembler.atEnd?.reason ?? "", reason);
      assert.is(assembler.push(lsn(1), new Uint8Array(5)), null, "what comes later is ignored");
    }
  }
  const zeroPage = behind(() => {}, true);
  assert.is(wal.position % XLOG_BLCKSZ, 0);
  for (const endOfWal of ["never", "zeros"] as const) {
    const assembler = new WalAssembler({ ...BASE, endOfWal });
    const reading = readAll(assembler, BASE.startLsn, zeroPage);
    assert.is(reading.records.length, 4);
    if (endOfWal === "never") assert.match(String(reading.error), /xlp_magic/);
    else assert.match(assembler.atEnd?.reason ?? "", /page header is all zeros/);
  }
});

test("endOfWal: invalid ends at a page left over from an older segment, inside a record too", () => {
  const wal = sample();
  const bytes = wal.bytes.slice();
  setU64(bytes, 2 * XLOG_BLCKSZ + 8, BASE.startLsn - 10 * MIB);
  const assembler = new WalAssembler({ ...BASE, endOfWal: "invalid" });
  const reading = readAll(assembler, BASE.startLsn, bytes);
  assert.is(reading.error, undefined);
  assert.is(reading.records.length, 1);
  assert.is(assembler.atEnd?.lsn, wal.records[0].endLsn);
});

test("WalAssembler reserves no memory for a length that it was only told", () => {
  const wal = new WalBuilder(BASE);
  const record = wal.record(800).bytes;
  const bytes = wal.bytes.slice(0, 400);
  setU32(bytes, 40, 1000 * MIB);
  assert.is(record.length, 800);
  const before = Deno.memoryUsage();
  const assemblers = Array.from({ length: 50 }, () => new WalAssembler(BASE));
  for (const assembler of assemblers) assert.is(assembler.push(BASE.startLsn, bytes), null);
  const after = Deno.memoryUsage();
  assert.ok(after.external - before.external < 50 * MIB, `grew by ${after.external - before.external}`);
  assert.ok(assemblers.every(({ pendingBytes }) => pendingBytes === 360));
});

test("the constructor refuses positions where nothing can start, and impossible segment sizes", () => {
  const make = (options: Partial<WalAssemblerOptions>) => () => new WalAssembler({ ...BASE, ...options });
  for (
    const startLsn of [
      BASE.startLsn + 8,
      BASE.startLsn + 24,
      BASE.startLsn + 41,
      BASE.startLsn + XLOG_BLCKSZ + 16,
    ]
  ) {
    assert.raises(make({ startLsn: lsn(startLsn) }), RangeError);
  }
  for (const startLsn of [BASE.startLsn, BASE.startLsn + 40, BASE.startLsn + XLOG_BLCKSZ + 24]) {
    assert.is(make({ startLsn: lsn(startLsn) })().position, startLsn);
  }
  for (const walSegmentSize of [0, 1000, 3 * MIB, 2048 * MIB, NaN]) {
    assert.raises(make({ walSegmentSize }), RangeError);
  }
});

test.run();
