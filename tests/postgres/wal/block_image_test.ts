/** Page images: every way PostgreSQL compresses them, holes, and images gone bad. */
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { setU16, setU32 } from "../../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { type Lsn, lsn } from "../../../src/lsn.ts";
import { managerOfPage, maskPage } from "../../../src/postgres/page/masks.ts";
import { BLCKSZ, Page } from "../../../src/postgres/page/page.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { pg14 } from "../../../src/postgres/versions/pg14.ts";
import { pg17 } from "../../../src/postgres/versions/pg17.ts";
import {
  IMAGE_LZ4,
  IMAGE_NOT_COMPRESSED,
  IMAGE_PGLZ,
  IMAGE_ZSTD,
  imageMethod,
  restoreImage,
  restoreImageBytes,
} from "../../../src/postgres/wal/block_image.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_XLOG_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { debianPostgres } from "../../support/postgres_debian.ts";
import { freePort } from "../../support/ports.ts";
import { startCluster } from "../../support/postgres.ts";
import { type CommandOptions, runCommand, unprivilegedUser } from "../../support/processes.ts";
import { temporaryDirectory } from "../../support/temp.ts";
import { openWalDirectory, readControlPoints, readRecords } from "../../support/wal_files.ts";

const test = suite("postgres/wal/block_image", { sanitize: false, timeoutMs: 120_000 });

const LSN = lsn(0x123456780);
const HOLE_OFFSET = 100;
const HOLE_LENGTH = 5000;

/** A page with a hole of zeros, and the page without it. */
function samplePage(): { page: Page; withoutHole: Uint8Array } {
  const page = new Page();
  for (let at = 0; at < BLCKSZ; at++) page.u8[at] = at * 7 % 31;
  page.u8.fill(0, HOLE_OFFSET, HOLE_OFFSET + HOLE_LENGTH);
  const withoutHole = new Uint8Array(BLCKSZ - HOLE_LENGTH);
  withoutHole.set(page.u8.subarray(0, HOLE_OFFSET));
  withoutHole.set(page.u8.subarray(HOLE_OFFSET + HOLE_LENGTH), HOLE_OFFSET);
  return { page, withoutHole };
}

/** A record with one block reference that has this image. */
function recordWith(
  image: Uint8Array,
  imageInfo: number,
  holeOffset: number,
  holeLength?: number,
  profile = pg17,
): DecodedRecord {
  const headers = 4 + 5 + (holeLength === undefined ? 0 : 2) + 16;
  const bytes = new Uint8Array(24 + headers + image.length);
  setU32(bytes, 0, bytes.length);
  let at = 24;
  bytes[at + 1] = 0x10; // BKPBLOCK_HAS_IMAGE
  setU16(bytes, at + 4, image.length);
  setU16(bytes, at + 6, holeOffset);
  bytes[at + 8] = imageInfo;
  at += 9;
  if (holeLength !== undefined) {
    setU16(bytes, at, holeLength);
    at += 2;
  }
  bytes.set(image, at + 16);
  const record = new DecodedRecord(profile);
  record.decode(bytes, 0, LSN);
  return record;
}

test("restoreImage() puts an uncompressed image around its hole and sets the LSN", () => {
  const { page, withoutHole } = samplePage();
  const restored = Page.from(new Uint8Array(BLCKSZ).fill(0xee));
  restoreImage(recordWith(withoutHole, 0x01 | 0x02, HOLE_OFFSET), 0, restored);
  assert.is(restored.lsn, LSN);
  assert.equal(restored.u8.subarray(8), page.u8.subarray(8));
});

test("restoreImage() restores a whole page, and leaves a new page without LSN", () => {
  const { page } = samplePage();
  const restored = new Page();
  restoreImage(recordWith(page.u8, 0x02, 0), 0, restored);
  assert.equal(restored.u8.subarray(8), page.u8.subarray(8));
  restoreImage(recordWith(new Uint8Array(BLCKSZ), 0x02, 0), 0, restored);
  assert.ok(restored.isAllZero());
});

test("restoreImage() decompresses zstd, with our decoder and with the runtime's", () => {
  const { page, withoutHole } = samplePage();
  const record = recordWith(
    new Uint8Array(zstdCompressSync(withoutHole)),
    0x01 | 0x02 | 0x10,
    HOLE_OFFSET,
    HOLE_LENGTH,
  );
  assert.is(imageMethod(record, 0), IMAGE_ZSTD);
  let calls = 0;
  const native = {
    zstd: { decompress: (frame: Uint8Array) => (calls++, new Uint8Array(zstdDecompressSync(frame))) },
  };
  for (const codecs of [{}, native]) {
    const restored = new Page();
    restoreImage(record, 0, restored, codecs);
    assert.equal(restored.u8.subarray(8), page.u8.subarray(8));
  }
  assert.is(calls, 1);
});

test("restoreImage() refuses compressed images that are invalid, and leaves the page alone", () => {
  const rubbish = new Uint8Array(300).fill(0xff);
  for (const [profile, bits] of [[pg17, 0x04], [pg17, 0x08], [pg17, 0x10], [pg14, 0x02]] as const) {
    const record = recordWith(rubbish, 0x01 | bits, HOLE_OFFSET, HOLE_LENGTH, profile);
    const page = Page.from(new Uint8Array(BLCKSZ).fill(0x5a));
    const error = assert.raises(() => restoreImage(record, 0, page), CorruptionError);
    assert.match(error.message, /invalid (pglz|lz4|zstd) data: at LSN 1\/23456780/);
    assert.ok(page.u8.every((byte) => byte === 0x5a));
  }
  const codecs = {
    zstd: {
      decompress: () => {
        throw new Error("no");
      },
    },
  };
  const zstd = recordWith(rubbish, 0x11, HOLE_OFFSET, HOLE_LENGTH);
  assert.is(
    (assert.raises(() => restoreImage(zstd, 0, new Page(), codecs), CorruptionError).cause as Error).message,
    "no",
  );
  assert.raises(
    () => restoreImage(zstd, 0, new Page(), { zstd: { decompress: () => new Uint8Array(5) } }),
    CorruptionError,
  );
});

test("restoreImage() refuses a block without image, and two methods at once", () => {
  const record = recordWith(new Uint8Array(300), 0x0d, HOLE_OFFSET, HOLE_LENGTH);
  assert.raises(() => restoreImage(record, 0, new Page()), UnsupportedError);
  assert.raises(() => restoreImage(record, 1, new Page()), RangeError);
  assert.raises(() => restoreImage(record, -1, new Page()), RangeError);
});

test("restoreImageBytes() refuses parts that do not make a page", () => {
  const bytes = new Uint8Array(BLCKSZ);
  const restore = (offset: number, length: number, method: number, holeOffset: number, holeLength: number) =>
    restoreImageBytes(bytes, offset, length, method, holeOffset, holeLength, new Page(), {}, LSN);
  restore(0, BLCKSZ, IMAGE_NOT_COMPRESSED, 0, 0);
  restore(92, 8000, IMAGE_NOT_COMPRESSED, 8000, 192);
  assert.raises(() => restore(193, 8000, IMAGE_NOT_COMPRESSED, 24, 192), CorruptionError);
  assert.raises(() => restore(0, 8000, IMAGE_NOT_COMPRESSED, 24, 191), CorruptionError);
  assert.raises(() => restore(0, 8000, IMAGE_NOT_COMPRESSED, 8001, 192), CorruptionError);
  assert.raises(() => restore(-1, 8000, IMAGE_NOT_COMPRESSED, 24, 192), CorruptionError);
  assert.raises(() => restore(0, 0, IMAGE_PGLZ, 0, 9000), CorruptionError);
  assert.raises(() => restore(0, 8000, 4, 24, 192), UnsupportedError);
});

/**
 * Restores every image in the WAL and counts them by method. A page that nothing changed after its last image must be
 * in its file as the image says.
 */
function restoreAll(dataDir: string, major: number, startLsn: Lsn): number[] {
  const record = new DecodedRecord(profileOfMajor(major));
  const counts = [0, 0, 0, 0];
  const last = new Map<string, { page: Page; path: string; block: number; rmid: number }>();
  for (const batch of readRecords(openWalDirectory(`${dataDir}/pg_wal`), startLsn, record.profile)) {
    for (let at = 0; at < batch.count; at++) {
      record.decode(batch.bytes, batch.offsets[at], batch.endLsns[at] as Lsn);
      for (let index = 0; index < record.blockCount; index++) {
        if (!record.imageApplies(index)) continue;
        const page = new Page();
        restoreImage(record, index, page);
        counts[imageMethod(record, index)]++;
        const path = `${dataDir}/base/${record.blockDb[index]}/${record.blockRel[index]}`;
        const block = record.blockNumber[index];
        if (record.blockFork[index] === 0) {
          last.set(`${path}/${block}`, { page, path, block, rmid: record.rmid });
        }
      }
    }
  }
  let compared = 0;
  for (const { page, path, block, rmid } of last.values()) {
    const onDisk = readPage(path, block);
    if (onDisk === undefined || onDisk.lsn !== page.lsn) continue;
    for (const each of [page, onDisk]) {
      maskPage(each, rmid === RM_XLOG_ID ? managerOfPage(each, block) : rmid, 0, block);
    }
    assert.equal(page.u8, onDisk.u8, `${path} block ${block}`);
    compared++;
  }
  assert.ok(compared > 20, `${compared} pages compared with their files`);
  return counts;
}

function readPage(path: string, block: number): Page | undefined {
  try {
    return Page.from(Deno.readFileSync(path).slice(block * BLCKSZ, (block + 1) * BLCKSZ));
  } catch {
    return undefined; // another tablespace, or dropped
  }
}

const SQL = `
  CREATE TABLE t (id int PRIMARY KEY, v text);
  INSERT INTO t SELECT i, repeat(md5((i % 50)::text), 3) FROM generate_series(1, 4000) i;
  CHECKPOINT;
  DELETE FROM t WHERE id % 130 = 0`;

test("images of real servers: not compressed, and compressed with pglz by both layouts", async () => {
  for (const major of [14, 18] as const) {
    for (const compression of ["off", "on"]) {
      await using cluster = await startCluster({
        major,
        settings: { wal_compression: compression },
        start: false,
      });
      const { redoLsn } = readControlPoints(cluster.dataDir);
      await cluster.start();
      for (const statement of SQL.split(";")) await cluster.exec(statement);
      await cluster.stop();
      const counts = restoreAll(cluster.dataDir, major, redoLsn);
      const method = compression === "on" ? IMAGE_PGLZ : IMAGE_NOT_COMPRESSED;
      assert.ok(counts[method] > 25, `${major}: ${counts}`);
    }
  }
});

const debian = await debianPostgres();
const debianTest = debian === undefined
  ? () => test.skip("images compressed with lz4 and zstd: needs Debian's postgresql-15")
  : (handler: () => Promise<void>) => test("images of a real server, compressed with lz4 and zstd", handler);

debianTest(async () => {
  const user = unprivilegedUser();
  const options: CommandOptions = { user, cwd: "/", env: { PATH: "/usr/bin:/bin", LC_ALL: "C" } };
  for (const [compression, method] of [["lz4", IMAGE_LZ4], ["zstd", IMAGE_ZSTD]] as const) {
    await using directory = await temporaryDirectory("images");
    if (user.uid !== undefined) await Deno.chown(directory.path, user.uid, user.gid ?? null);
    const dataDir = directory.join("data");
    const port = freePort();
    await debian!.run("initdb", ["-D", dataDir, "-U", "postgres", "--no-sync", "--locale=C"], options);
    const { redoLsn } = readControlPoints(dataDir);
    const settings =
      `-p ${port} -h 127.0.0.1 -k "" -F -c wal_compression=${compression} -c dynamic_shared_memory_type=mmap`;
    await debian!.run("pg_ctl", [
      "-D",
      dataDir,
      "-l",
      directory.join("data/log"),
      "-w",
      "-o",
      settings,
      "start",
    ], options);
    try {
      for (const statement of SQL.split(";")) {
        await runCommand(debian!.program("psql"), [
          "-h",
          "127.0.0.1",
          "-p",
          String(port),
          "-U",
          "postgres",
          "-c",
          statement,
        ], options);
      }
    } finally {
      await debian!.run("pg_ctl", ["-D", dataDir, "-m", "fast", "stop"], options);
    }
    const counts = restoreAll(dataDir, 15, redoLsn);
    assert.ok(counts[method] > 25, `${compression}: ${counts}`);
  }
});

test.run();
