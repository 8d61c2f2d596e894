/** Real WAL cut off everywhere and mutated at random: right records or a typed error, quickly and in bounded memory. */
import { getU32, setU32 } from "../../../src/bytes/little_endian.ts";
import { CorruptionError, MismatchError, UnsupportedError } from "../../../src/errors.ts";
import { type Lsn, lsn, XLOG_BLCKSZ } from "../../../src/lsn.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { pg16 } from "../../../src/postgres/versions/pg16.ts";
import { type EndOfWal, WalAssembler } from "../../../src/postgres/wal/assembler.ts";
import { restoreImage } from "../../../src/postgres/wal/block_image.ts";
import { describeRecord } from "../../../src/postgres/wal/describe.ts";
import { pageHeaderSize } from "../../../src/postgres/wal/page_header.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { WalStatistics } from "../../../src/postgres/wal/statistics.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, startCluster } from "../../support/postgres.ts";
import { type SeededRandom, seededRandom } from "../../support/random.ts";
import { openWalDirectory, readControlPoints, readWal } from "../../support/wal_files.ts";
import { sealRecord } from "../../support/wal_builder.ts";
import { isSameRecord, readAll, type Reading, type ReadRecord } from "../../support/wal_reading.ts";

const test = suite("postgres/wal/fuzz", { sanitize: false, timeoutMs: 120_000 });

const MIB = 1024 * 1024;
const IDENTITY = { profile: pg16, walSegmentSize: MIB };

/** About a megabyte of WAL with all kinds of records, compressed images among them. */
let sample: { startLsn: Lsn; bytes: Uint8Array };

async function work(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE t (id int PRIMARY KEY, v text, a int[], p point);
    CREATE INDEX ON t USING gin (a);
    CREATE INDEX ON t USING hash (v);
    CREATE INDEX ON t USING gist (p);
    CREATE INDEX ON t USING spgist (v);
    CREATE INDEX ON t USING brin (id);
    INSERT INTO t SELECT i, md5(i::text), ARRAY[i % 7, i % 11], point(i % 9, i) FROM generate_series(1, 300) i`);
  for (const method of ["pglz", "off"]) {
    await cluster.exec("CHECKPOINT");
    // The setting of a session; each statement may come from another one.
    await cluster.exec(`
      SET wal_compression = ${method};
      UPDATE t SET v = v || 'x', a = a || 5 WHERE id % 3 = 0;
      DELETE FROM t WHERE id % 50 = ${method.length + 5};
      SELECT pg_logical_emit_message(true, 'fuzz', repeat('m', 9000))`);
    await cluster.exec("VACUUM t");
  }
}

test.before(async () => {
  await using cluster = await startCluster({
    major: 16,
    walSegmentSizeMb: 1,
    settings: { wal_level: "logical", wal_keep_size: "1GB", autovacuum: "off" },
    start: false,
  });
  const startLsn = readControlPoints(cluster.dataDir).redoLsn;
  await cluster.start();
  await work(cluster);
  await cluster.stop();
  const pieces = [...readWal(openWalDirectory(`${cluster.dataDir}/pg_wal`), startLsn)];
  const bytes = new Uint8Array(pieces.reduce((sum, { data }) => sum + data.length, 0));
  for (const { startLsn: at, data } of pieces) bytes.set(data, at - startLsn);
  const assembler = new WalAssembler({ ...IDENTITY, startLsn, endOfWal: "invalid" });
  readAll(assembler, startLsn, bytes);
  // From the first page boundary to the last before the end.
  const skipped = (XLOG_BLCKSZ - startLsn % XLOG_BLCKSZ) % XLOG_BLCKSZ;
  const length = Math.floor((assembler.endLsn - startLsn - skipped) / XLOG_BLCKSZ) * XLOG_BLCKSZ;
  sample = { startLsn: lsn(startLsn + skipped), bytes: bytes.slice(skipped, skipped + length) };
  console.log(`${sample.bytes.length} bytes of WAL`);
});

/** Some pages of the sample, and the records that lie wholly on them. */
interface Window {
  startLsn: Lsn;
  bytes: Uint8Array;
  records: ReadRecord[];
}

function windowAt(page: number, pages: number): Window {
  const startLsn = lsn(sample.startLsn + page * XLOG_BLCKSZ);
  const bytes = sample.bytes.slice(page * XLOG_BLCKSZ, (page + pages) * XLOG_BLCKSZ);
  const { records, error } = readWindow({ startLsn, bytes, records: [] });
  if (error !== undefined) throw error;
  return { startLsn, bytes, records };
}

function readWindow(window: Window, endOfWal: EndOfWal = "never", chunk = window.bytes.length): Reading {
  const assembler = new WalAssembler({ ...IDENTITY, startLsn: window.startLsn, skipPartial: true, endOfWal });
  return readAll(assembler, window.startLsn, window.bytes, [chunk]);
}

/** Asserts that the error is one of ours and that every record is one that the server wrote, but for `except`. */
function checkReading(
  reading: Reading,
  original: readonly ReadRecord[],
  except: number,
  what: () => string,
): void {
  const { error } = reading;
  if (error !== undefined && !(error instanceof CorruptionError || error instanceof MismatchError)) {
    throw new Error(`${what()}: unexpected ${String(error)}`, { cause: error });
  }
  let next = 0;
  for (const record of reading.records) {
    if (record.startLsn === except) continue;
    while (next < original.length && original[next].startLsn < record.startLsn) next++;
    if (next === original.length || !isSameRecord(record, original[next])) {
      throw new Error(`${what()}: a record that nobody wrote at ${record.startLsn}`);
    }
  }
}

test("every truncation point: all records before it, none after it, no error", () => {
  const { bytes, records, startLsn } = windowAt(0, 40);
  const assembler = new WalAssembler({ ...IDENTITY, startLsn, skipPartial: true });
  let seen = 0;
  for (let at = 0; at < bytes.length; at++) {
    seen += assembler.push(lsn(startLsn + at), bytes.subarray(at, at + 1))?.count ?? 0;
    const expected = seen < records.length && records[seen].endLsn <= startLsn + at + 1;
    if (expected) assert.unreachable(`the record that ends at ${records[seen].endLsn} is missing`);
    if (seen > 0 && records[seen - 1].endLsn > startLsn + at + 1) {
      assert.unreachable("a record came too early");
    }
  }
  assert.is(seen, records.length);
  assert.ok(seen > 500, `${seen} records`);
});

test("every truncation point, zeros behind it: WAL ends after the last whole record", () => {
  const pages = Array.from({ length: sample.bytes.length / XLOG_BLCKSZ - 2 }, (_, page) => windowAt(page, 3));
  const window = pages.reduce((best, other) => other.records.length > best.records.length ? other : best);
  const { records, startLsn } = window;
  const full = window.bytes.slice();
  for (let at = full.length - 1; at > 0; at--) {
    window.bytes[at] = 0;
    const assembler = new WalAssembler({ ...IDENTITY, startLsn, skipPartial: true, endOfWal: "invalid" });
    const count = assembler.push(startLsn, window.bytes)?.count ?? 0;
    if (records.some(({ endLsn }, index) => index >= count && endLsn <= startLsn + at)) {
      assert.unreachable(`${at}: too few`);
    }
    // A record that ends in zeros is whole before its last byte.
    const cut = records[count - 1]?.endLsn - startLsn;
    if (cut > at && full.subarray(at, cut).some((byte) => byte !== 0)) assert.unreachable(`${at}: too many`);
  }
  assert.ok(records.length > 100);
});

const INTERESTING = [
  0,
  1,
  23,
  24,
  25,
  8191,
  8192,
  0x7fffffff,
  0x80000000,
  0xffffffff,
  1069547520,
  1069547521,
];

/** Spoils bytes in place, one way out of many. */
function mutate(bytes: Uint8Array, random: SeededRandom): void {
  const at = random.int(0, bytes.length - 1);
  const length = random.int(1, Math.min(64, bytes.length - at));
  switch (random.int(0, 7)) {
    case 0:
      bytes[at] = random.uint32();
      break;
    case 1:
      bytes[at] ^= 1 << random.int(0, 7);
      break;
    case 2:
      setU32(bytes, at & ~3, random.pick(INTERESTING));
      break;
    case 3:
      bytes.fill(random.pick([0, 0xff, random.uint32()]), at, at + length);
      break;
    case 4:
      bytes.copyWithin(at, random.int(0, bytes.length - length), bytes.length);
      break;
    case 5: { // a field of a page header
      const page = Math.floor(at / XLOG_BLCKSZ) * XLOG_BLCKSZ;
      bytes[page + random.int(0, 23)] = random.uint32();
      break;
    }
    case 6: { // two pages change places
      const [a, b] = [0, 1].map(() => random.int(0, bytes.length / XLOG_BLCKSZ - 1) * XLOG_BLCKSZ);
      const copy = bytes.slice(a, a + XLOG_BLCKSZ);
      bytes.copyWithin(a, b, b + XLOG_BLCKSZ);
      bytes.set(copy, b);
      break;
    }
    default:
      for (let times = random.int(2, 8); times > 0; times--) {
        bytes[random.int(0, bytes.length - 1)] = random.uint32();
      }
  }
}

test("50,000 mutations of raw WAL: records that the server wrote, or a typed error", () => {
  const random = seededRandom("postgres/wal/fuzz raw");
  const before = Deno.memoryUsage().rss;
  let failed = 0;
  for (let round = 0; round < 50; round++) {
    const pages = random.int(2, 4);
    const window = windowAt(random.int(0, sample.bytes.length / XLOG_BLCKSZ - pages), pages);
    const intact = window.bytes.slice();
    for (let times = 0; times < 1000; times++) {
      window.bytes.set(intact);
      mutate(window.bytes, random);
      const endOfWal = random.pick(["never", "zeros", "invalid"] as const);
      const reading = readWindow(window, endOfWal, random.pick([window.bytes.length, 3000]));
      checkReading(reading, window.records, -1, () => `round ${round}/${times}`);
      if (reading.error !== undefined) failed++;
    }
  }
  assert.ok(failed > 10_000, `${failed} were refused`);
  const growth = Deno.memoryUsage().rss - before;
  assert.ok(growth < 300 * MIB, `memory grew by ${growth}`);
});

/** Writes a record's bytes back to where they lie in WAL, around the page headers. */
function replaceRecord(window: Window, record: ReadRecord, bytes: Uint8Array): void {
  let at = record.startLsn - window.startLsn;
  for (let written = 0; written < bytes.length;) {
    if (at % XLOG_BLCKSZ === 0) at += pageHeaderSize(lsn(window.startLsn + at), MIB);
    const part = Math.min(bytes.length - written, XLOG_BLCKSZ - at % XLOG_BLCKSZ);
    window.bytes.set(bytes.subarray(written, written + part), at);
    at += part;
    written += part;
  }
}

/** Asserts that everything which the cursor names lies inside the record. */
function checkBounds(record: DecodedRecord): void {
  const end = record.start + record.totalLength;
  const inside = (offset: number, length: number) =>
    length >= 0 && offset >= record.start + 24 && offset + length <= end;
  if (!inside(record.mainOffset, record.mainLength)) throw new Error("main data lie outside the record");
  for (let index = 0; index < record.blockCount; index++) {
    if (!inside(record.dataOffset[index], record.dataLength[index])) {
      throw new Error("block data lie outside");
    }
    if (!inside(record.imageOffset[index], record.imageLength[index])) {
      throw new Error("an image lies outside");
    }
  }
}

const page = new Page();
const cursor = new DecodedRecord(pg16);
const statistics = new WalStatistics(pg16);

/** Does with a record what a reader does. Returns whether something objected, in the right way. */
function digest(bytes: Uint8Array, endLsn: Lsn): boolean {
  try {
    cursor.decode(bytes, 0, endLsn);
    checkBounds(cursor);
    statistics.add(cursor);
    describeRecord(cursor);
    for (let index = 0; index < cursor.blockCount; index++) {
      if (cursor.imageLength[index] > 0) restoreImage(cursor, index, page);
    }
    return false;
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof UnsupportedError) return true;
    throw error;
  }
}

test("50,000 mutations of records, each with the right CRC: decoded inside its bounds, or a typed error", () => {
  const random = seededRandom("postgres/wal/fuzz sealed");
  const before = Deno.memoryUsage().rss;
  let refused = 0;
  let decoded = 0;
  for (let round = 0; round < 50; round++) {
    const window = windowAt(random.int(0, sample.bytes.length / XLOG_BLCKSZ - 3), 3);
    const intact = window.bytes.slice();
    if (window.records.length === 0) continue;
    for (let times = 0; times < 1000; times++) {
      window.bytes.set(intact);
      const record = random.pick(window.records);
      const bytes = record.bytes.slice();
      // Headers more often than the data behind them. Length and xl_prev stay: the assembler's own tests spoil those.
      const limit = random.chance(0.7) ? Math.min(bytes.length, 90) : bytes.length;
      for (let count = random.int(1, 3); count > 0; count--) {
        const at = random.int(16, limit - 1);
        bytes[at] = random.chance(0.5) ? random.uint32() : bytes[at] ^ 1 << random.int(0, 7);
      }
      sealRecord(bytes);
      replaceRecord(window, record, bytes);
      const reading = readWindow(window);
      checkReading(reading, window.records, record.startLsn, () => `round ${round}/${times}`);
      const read = reading.records.find(({ startLsn }) => startLsn === record.startLsn);
      if (read === undefined) refused++;
      else {
        if (getU32(read.bytes, 0) !== bytes.length) assert.unreachable("the record has another length");
        if (digest(read.bytes, lsn(read.endLsn))) refused++;
        else decoded++;
      }
    }
  }
  assert.ok(refused > 3000, `${refused} were refused`);
  assert.ok(decoded > 3000, `${decoded} could be decoded`);
  const growth = Deno.memoryUsage().rss - before;
  assert.ok(growth < 300 * MIB, `memory grew by ${growth}`);
});

test("the sample itself decodes without complaint", () => {
  const { records } = windowAt(0, sample.bytes.length / XLOG_BLCKSZ);
  assert.ok(records.length > 1000, `${records.length} records`);
  assert.not(records.some(({ bytes, endLsn }) => digest(bytes, lsn(endLsn))));
});

test.run();
