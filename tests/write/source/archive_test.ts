import { CorruptionError, MismatchError, NotFoundError, UnsupportedError } from "../../../src/errors.ts";
import { type Lsn, lsn } from "../../../src/lsn.ts";
import { openArchive, type SegmentDirectory, segmentFileName } from "../../../src/write/source/archive.ts";
import { assert, suite } from "../../support/harness.ts";
import { POSTGRES_MAJORS, startCluster } from "../../support/postgres.ts";
import {
  compareWithSegments,
  directoryOf,
  flushedLsn,
  ReceivedWal,
  receiveUntil,
  writeWal,
} from "./source_support.ts";

const test = suite("write/source/archive", { sanitize: false });

const MIB = 1024 * 1024;
const SYSTEM = 0xf123_4567_89ab_cdefn;

for (const major of POSTGRES_MAJORS) {
  test(`openArchive() reads PostgreSQL ${major}'s pg_wal to its end, across switches and beyond recycled segments`, async () => {
    const walSegmentSizeMb = major === 15 ? 16 : 1;
    await using cluster = await startCluster({
      major,
      walSegmentSizeMb,
      settings: { wal_keep_size: "1GB", min_wal_size: "80MB", max_wal_size: "1GB", autovacuum: "off" },
    });
    const start = await flushedLsn(cluster);
    await writeWal(cluster, 3);
    await cluster.exec("SELECT pg_switch_wal()");
    await writeWal(cluster, 2);
    await cluster.exec("SELECT pg_switch_wal()");
    await cluster.exec("CREATE TABLE last AS SELECT 1");
    const flushed = await flushedLsn(cluster);
    await cluster.kill9(); // so that nothing more is written
    const archive = await openArchive({ directory: directoryOf(`${cluster.dataDir}/pg_wal`), start, tli: 1 });
    assert.is(archive.walSegmentSize, walSegmentSizeMb * MIB);
    assert.is(archive.major, major);
    const read = await receiveUntil(archive.stream, Infinity as Lsn);
    assert.is(read.start, start);
    assert.ok(read.end >= flushed, "everything flushed is there");
    assert.ok(read.end - flushed <= 8192, "and at most the rest of its page");
    await compareWithSegments(cluster, read, walSegmentSizeMb * MIB);
    assert.is(
      (await openArchive({
        directory: directoryOf(`${cluster.dataDir}/pg_wal`),
        start,
        tli: 1,
        systemId: archive.systemId,
      })).targetTli,
      1,
    );
    await assert.rejects(
      openArchive({ directory: directoryOf(`${cluster.dataDir}/pg_wal`), start, tli: 1, systemId: 5n }),
      MismatchError,
    );
  });
}

/** Segments of nothing but page headers, made up. */
class MadeUpArchive implements SegmentDirectory {
  readonly description = "made up";
  readonly files = new Map<string, Uint8Array>();

  add(number: number, tli = 1, pages = 128, name = segmentFileName(tli, number, MIB)): this {
    const bytes = new Uint8Array(MIB);
    const view = new DataView(bytes.buffer);
    for (let page = 0; page < pages; page++) {
      const at = page * 8192;
      view.setUint16(at, 0xd116, true); // XLOG_PAGE_MAGIC of 17
      view.setUint16(at + 2, page === 0 ? 2 : 0, true); // XLP_LONG_HEADER
      view.setUint32(at + 4, tli, true);
      view.setBigUint64(at + 8, BigInt(number * MIB + at), true);
      if (page === 0) {
        view.setBigUint64(at + 24, SYSTEM, true);
        view.setUint32(at + 32, MIB, true);
        view.setUint32(at + 36, 8192, true);
      }
      bytes.fill(tli, at + 40, at + 8192);
    }
    this.files.set(name, bytes);
    return this;
  }

  history(tli: number, text: string): this {
    this.files.set(
      `${tli.toString(16).toUpperCase().padStart(8, "0")}.history`,
      new TextEncoder().encode(text),
    );
    return this;
  }

  list() {
    return Promise.resolve([...this.files].map(([name, bytes]) => ({ name, size: bytes.length })));
  }

  read(name: string, offset: number, length: number) {
    return Promise.resolve(this.files.get(name)!.slice(offset, offset + length));
  }

  async open(start: number, options: { tli?: number; targetTli?: number; chunkBytes?: number } = {}) {
    const archive = await openArchive({ directory: this, start: lsn(start), tli: 1, ...options });
    return { archive, read: () => receiveUntil(archive.stream, Infinity as Lsn, new ReceivedWal()) };
  }
}

test("openArchive() ends where WAL does: no segment, a zero page, a page of before, a short file", async () => {
  const whole = await (await new MadeUpArchive().add(5).add(6).open(5 * MIB + 100)).read();
  assert.equal([whole.start, whole.end], [5 * MIB + 100, 7 * MIB]);
  const zeros = await (await new MadeUpArchive().add(5).add(6, 1, 3).open(5 * MIB)).read();
  assert.is(zeros.end, 6 * MIB + 3 * 8192);
  // A recycled segment: its pages are those of an earlier position.
  const recycled = new MadeUpArchive().add(5).add(6);
  recycled.files.set(segmentFileName(1, 7, MIB), recycled.files.get(segmentFileName(1, 5, MIB))!);
  assert.is((await (await recycled.open(5 * MIB)).read()).end, 7 * MIB);
  const half = new MadeUpArchive().add(5).add(6, 1, 128, `${segmentFileName(1, 6, MIB)}.partial`);
  const partial = [...half.files.keys()].at(-1)!;
  half.files.set(partial, half.files.get(partial)!.slice(0, 8192 * 2 + 4000));
  assert.is((await (await half.open(5 * MIB)).read()).end, 6 * MIB + 8192 * 2 + 4000);
  for (const chunkBytes of [8192, 3 * 8192, 4 * MIB]) {
    const read = await (await new MadeUpArchive().add(5).add(6, 1, 3).open(5 * MIB + 9000, { chunkBytes }))
      .read();
    assert.equal([read.start, read.end], [5 * MIB + 9000, 6 * MIB + 3 * 8192], `chunks of ${chunkBytes}`);
  }
});

test("openArchive() takes zeros behind a switch as WAL, and other pages as corruption", async () => {
  const switched = new MadeUpArchive().add(5, 1, 10).add(6, 1, 2);
  assert.is((await (await switched.open(5 * MIB)).read()).end, 6 * MIB + 2 * 8192);
  const damaged = new MadeUpArchive().add(5, 1, 10).add(6);
  damaged.files.get(segmentFileName(1, 5, MIB))![20 * 8192 + 5000] = 1;
  const error = await assert.rejects((await damaged.open(5 * MIB)).read(), CorruptionError);
  assert.is(error.position.offset, 20 * 8192);
});

test("openArchive() tells a hole from the end", async () => {
  const missing = await assert.rejects(new MadeUpArchive().add(6).open(5 * MIB), NotFoundError);
  assert.match(missing.message, "0000000000000005 is missing");
  const hole = await assert.rejects(
    (await new MadeUpArchive().add(5).add(7).open(5 * MIB)).read(),
    NotFoundError,
  );
  assert.match(hole.message, "0000000000000006 is missing");
  const cut = await assert.rejects(
    (await new MadeUpArchive().add(5, 1, 9).add(7).open(5 * MIB)).read(),
    NotFoundError,
  );
  assert.match(cut.message, "0000000000000006 is missing");
  await assert.rejects(new MadeUpArchive().open(0), NotFoundError);
  const foreign = new MadeUpArchive().add(5);
  foreign.files.get(segmentFileName(1, 5, MIB))!.set([0x0d, 0xd1]);
  await assert.rejects((await foreign.open(5 * MIB)).read(), (error) => !(error instanceof TypeError));
  foreign.files.get(segmentFileName(1, 5, MIB))!.set([0xff, 0xff]);
  await assert.rejects(foreign.open(5 * MIB), UnsupportedError);
  const stale = new MadeUpArchive().add(4);
  stale.files.set(segmentFileName(1, 5, MIB), stale.files.get(segmentFileName(1, 4, MIB))!);
  await assert.rejects(stale.open(5 * MIB), CorruptionError);
});

test("openArchive() follows the latest history, each timeline up to its switch", async () => {
  const at = (segment: number, offset: number) => `0/${(segment * MIB + offset).toString(16).toUpperCase()}`;
  const archive = new MadeUpArchive().add(5, 1).add(6, 1).add(7, 1) // 7 is beyond the switch
    .add(6, 2).add(7, 2).add(8, 3)
    .history(2, `1\t${at(6, 40000)}\tno recovery target specified\n`)
    .history(3, `1\t${at(6, 40000)}\tno recovery target specified\n\n2\t${at(8, 8192)}\tpromoted\n`)
    .history(4, `3\t${at(3, 0)}\tanother branch\n`);
  const opened = await archive.open(5 * MIB);
  assert.is(opened.archive.targetTli, 3);
  const read = await opened.read();
  assert.equal([read.start, read.end], [5 * MIB, 9 * MIB]);
  const timelines = read.chunks.map(({ tli, startLsn }) => [tli, startLsn / MIB]);
  assert.equal(timelines, [[1, 5], [2, 6], [2, 7], [3, 8]]);
  const second = await (await archive.open(5 * MIB, { targetTli: 2 })).read();
  assert.is(second.end, 8 * MIB);
  const first = await (await archive.open(5 * MIB, { targetTli: 1 })).read();
  assert.is(first.end, 8 * MIB);
  await assert.rejects(archive.open(5 * MIB, { targetTli: 4 }), NotFoundError);

  // Without a copy of the old WAL in the new timeline's first segment, the old segment counts up to the switch.
  archive.files.delete(segmentFileName(2, 6, MIB));
  const short = await assert.rejects((await archive.open(5 * MIB)).read(), NotFoundError);
  assert.match(short.message, "is missing");
});

test("openArchive() ends with its signal and with its reader", async () => {
  const archive = new MadeUpArchive();
  for (let number = 5; number < 40; number++) archive.add(number);
  const abort = new AbortController();
  const { stream } = await openArchive({
    directory: archive,
    start: lsn(5 * MIB),
    tli: 1,
    signal: abort.signal,
  });
  const reader = stream.getReader();
  await reader.read();
  abort.abort(new Error("enough"));
  await assert.rejects(async () => {
    while (!(await reader.read()).done);
  }, "enough");
  const other = await openArchive({ directory: archive, start: lsn(5 * MIB), tli: 1 });
  await other.stream.cancel();
  assert.ok((await other.stream.getReader().read()).done);
});

test.run();
