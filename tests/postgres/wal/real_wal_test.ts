/** WAL of real servers, 14 to 18: the same records, lengths and names as PostgreSQL's own readers see. */
import { formatLsn, type Lsn, parseLsn, SIZE_OF_XLOG_SHORT_PHD, XLOG_BLCKSZ } from "../../../src/lsn.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { WalAssembler } from "../../../src/postgres/wal/assembler.ts";
import { recordTypeName } from "../../../src/postgres/wal/describe.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_LOGICALMSG_ID, RM_XLOG_ID, rmgrName } from "../../../src/postgres/wal/rmgr.ts";
import { WalStatistics } from "../../../src/postgres/wal/statistics.ts";
import { assert, suite } from "../../support/harness.ts";
import { debianPostgres } from "../../support/postgres_debian.ts";
import { type Cluster, POSTGRES_MAJORS, type PostgresMajor, startCluster } from "../../support/postgres.ts";
import { SeededRandom } from "../../support/random.ts";
import { openWalDirectory, readControlPoints, readWal } from "../../support/wal_files.ts";

const test = suite("postgres/wal/real", { sanitize: false, timeoutMs: 120_000 });

const MIB = 1024 * 1024;
/** A logical message's record, less prefix and message: header, main data header of a long record, fixed part, NUL. */
const MESSAGE_OVERHEAD = 24 + 5 + 24 + 1;

/** Segment sizes that differ from major to major, so that all are met. */
const SEGMENT_MIB: Record<PostgresMajor, number> = { 14: 1, 15: 16, 16: 64, 17: 16, 18: 1 };

/** One record as we see it. */
interface Seen {
  start: string;
  end: string;
  prev: string;
  xid: number;
  manager: string;
  type: string;
  length: number;
  main: number;
  images: number;
}

interface Decoded {
  seen: Seen[];
  statistics: WalStatistics;
  assembler: WalAssembler;
}

/** Decodes a stopped cluster's WAL from `startLsn` to its end, in chunks of random lengths. */
function decode(cluster: Cluster, startLsn: Lsn): Decoded {
  const profile = profileOfMajor(cluster.major);
  const directory = openWalDirectory(`${cluster.dataDir}/pg_wal`);
  const assembler = new WalAssembler({
    startLsn,
    profile,
    walSegmentSize: directory.walSegmentSize,
    endOfWal: "invalid",
  });
  const random = new SeededRandom(1);
  const statistics = new WalStatistics(profile);
  const record = new DecodedRecord(profile);
  const seen: Seen[] = [];
  for (const piece of readWal(directory, startLsn, MIB)) {
    for (let at = 0; at < piece.data.length;) {
      const length = random.int(1, 200_000);
      const batch = assembler.push(piece.startLsn + at as Lsn, piece.data.subarray(at, at + length));
      at += length;
      for (let index = 0; index < (batch?.count ?? 0); index++) {
        record.decode(batch!.bytes, batch!.offsets[index], batch!.endLsns[index] as Lsn);
        statistics.add(record);
        seen.push(see(record, batch!.startLsns[index] as Lsn));
      }
    }
    if (assembler.atEnd !== null) break;
  }
  return { seen, statistics, assembler };
}

function see(record: DecodedRecord, startLsn: Lsn): Seen {
  let images = 0;
  for (let index = 0; index < record.blockCount; index++) images += record.imageLength[index];
  return {
    start: formatLsn(startLsn),
    end: formatLsn(record.endLsn),
    prev: formatLsn(record.prevLsn),
    xid: record.xid,
    manager: rmgrName(record.rmid),
    type: recordTypeName(record.profile, record.rmid, record.info),
    length: record.totalLength,
    main: record.mainLength,
    images,
  };
}

/** A bit of everything, a message longer than a segment, and segment switches. */
async function work(cluster: Cluster): Promise<void> {
  await cluster.exec(`
    CREATE TABLE t (id int PRIMARY KEY, v text, a int[]);
    CREATE INDEX ON t USING gin (a);
    CREATE INDEX ON t USING hash (v);
    INSERT INTO t SELECT i, md5(i::text), ARRAY[i % 7, i % 11] FROM generate_series(1, 1500) i`);
  await cluster.exec("VACUUM t");
  await cluster.exec("UPDATE t SET v = v || 'x' WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0");
  await cluster.exec("SELECT pg_switch_wal()");
  await cluster.exec(`SELECT pg_logical_emit_message(false, 'large', repeat('x', ${20 * MIB}))`);
  await cluster.exec("CREATE DATABASE other");
  const connection = await cluster.sql().reserve();
  for (const statement of ["BEGIN", "SELECT * FROM t WHERE id = 1 FOR UPDATE", "PREPARE TRANSACTION 'p'"]) {
    await connection.unsafe(statement);
  }
  connection.release();
  await cluster.exec("COMMIT PREPARED 'p'");
  await switchAtPageEnd(cluster);
  await cluster.exec("VACUUM FREEZE t");
  await cluster.exec("CHECKPOINT");
}

/** Switches segments by a record that ends exactly on a page boundary. */
async function switchAtPageEnd(cluster: Cluster): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const [{ at }] = await cluster.exec("SELECT pg_current_wal_insert_lsn()::text AS at");
    // Lengths that keep the main data header a long one, and the end aligned.
    let length = XLOG_BLCKSZ - parseLsn(at) % XLOG_BLCKSZ - 24 - MESSAGE_OVERHEAD;
    if (length < 300) length += XLOG_BLCKSZ - 24;
    await cluster.exec(`SELECT pg_logical_emit_message(false, '', repeat('y', ${length}))`);
    const [{ end }] = await cluster.exec("SELECT pg_switch_wal()::text AS end");
    // It reports where the next record would start.
    if (parseLsn(end) % XLOG_BLCKSZ === SIZE_OF_XLOG_SHORT_PHD) return;
  }
  throw new Error("No switch record ended on a page boundary");
}

const WALINSPECT_QUERY = (start: string, end: string) => `
  SELECT start_lsn::text AS start, end_lsn::text AS end, prev_lsn::text AS prev, xid::text::bigint::int AS xid,
    resource_manager AS manager, record_type AS type, record_length AS length, main_data_length AS main,
    fpi_length AS images
  FROM pg_get_wal_records_info('${start}', '${end}')`;

for (const major of POSTGRES_MAJORS) {
  test(`WAL of PostgreSQL ${major} decodes to its last record, as PostgreSQL sees it`, async () => {
    await using cluster = await startCluster({
      major,
      walSegmentSizeMb: SEGMENT_MIB[major],
      settings: { wal_level: "logical", wal_keep_size: "10GB", max_wal_size: "5GB", autovacuum: "off" },
      start: false,
    });
    const startLsn = readControlPoints(cluster.dataDir).redoLsn;
    await cluster.start();
    await work(cluster);
    let theirs: Seen[] = [];
    if (major >= 15) {
      await cluster.exec("CREATE EXTENSION pg_walinspect");
      const [{ end }] = await cluster.exec("SELECT pg_current_wal_flush_lsn()::text AS end");
      theirs = await cluster.exec(WALINSPECT_QUERY(formatLsn(startLsn), end)) as Seen[];
    }
    await cluster.stop();

    const { seen, assembler } = decode(cluster, startLsn);
    const last = seen.at(-1)!;
    assert.is(
      parseLsn(last.start),
      readControlPoints(cluster.dataDir).checkpointLsn,
      String(assembler.atEnd?.reason),
    );
    assert.is(last.type, "CHECKPOINT_SHUTDOWN");
    assert.is(
      seen.filter(({ manager }) => manager === rmgrName(RM_LOGICALMSG_ID))[0].length > 20 * MIB,
      true,
    );
    const switches = seen.filter(({ manager, type }) =>
      manager === rmgrName(RM_XLOG_ID) && type === "SWITCH"
    );
    assert.ok(
      switches.some(({ start }) => (parseLsn(start) + 24) % XLOG_BLCKSZ === 0),
      "a switch ends a page",
    );
    if (major >= 15) {
      assert.ok(theirs.length > 3000, `${theirs.length} records`);
      // Without the rows' own prototype.
      assert.equal(seen.slice(0, theirs.length), theirs.map((row) => ({ ...row })));
    }
  });
}

test("an overwritten record of a real crash is passed over", async () => {
  await using cluster = await startCluster({
    major: 16,
    walSegmentSizeMb: 1,
    settings: { wal_level: "logical", wal_keep_size: "1GB", autovacuum: "off" },
    start: false,
  });
  const startLsn = readControlPoints(cluster.dataDir).redoLsn;
  await cluster.start();
  // A record that begins in one segment and ends three further; the crash takes the last three away.
  await cluster.exec("CREATE TABLE t (i int); SELECT pg_switch_wal()");
  const [{ file }] = await cluster.exec("SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS file");
  await cluster.exec(`SELECT pg_logical_emit_message(true, '', repeat('z', ${3 * MIB}))`);
  await cluster.kill9();
  const walDir = `${cluster.dataDir}/pg_wal`;
  for (const { name } of Deno.readDirSync(walDir)) {
    if (/^[0-9A-F]{24}$/.test(name) && name > file) Deno.removeSync(`${walDir}/${name}`);
  }
  await cluster.start();
  await cluster.exec("INSERT INTO t SELECT generate_series(1, 1000)");
  await cluster.stop();

  const { seen } = decode(cluster, startLsn);
  assert.is(parseLsn(seen.at(-1)!.start), readControlPoints(cluster.dataDir).checkpointLsn);
  const overwrite = seen.findIndex(({ type }) => type === "OVERWRITE_CONTRECORD");
  assert.ok(overwrite > 0, "there is an OVERWRITE_CONTRECORD");
  assert.ok(parseLsn(seen[overwrite].start) > parseLsn(seen[overwrite - 1].end), "WAL was passed over");
  assert.not(
    seen.some(({ manager }) => manager === "LogicalMessage"),
    "the abandoned record is not among them",
  );
});

test("statistics are those of pg_waldump and pg_get_wal_stats", async () => {
  const debian = await debianPostgres();
  await using cluster = await startCluster({
    major: 15,
    settings: { wal_level: "logical", wal_keep_size: "10GB", max_wal_size: "5GB", wal_compression: "pglz" },
    start: false,
  });
  const startLsn = readControlPoints(cluster.dataDir).redoLsn;
  await cluster.start();
  await work(cluster);
  await cluster.exec("CREATE EXTENSION pg_walinspect");
  await cluster.stop();
  await cluster.start();
  const { seen, statistics } = decode(cluster, startLsn);
  const [start, end] = [seen[0].start, seen.at(-1)!.end];

  const query = (perRecord: boolean) =>
    cluster.exec(`
      SELECT "resource_manager/record_type" AS name, count::int, record_size::int AS "recordLength",
        fpi_size::int AS "imageLength"
      FROM pg_get_wal_stats('${start}', '${end}', ${perRecord}) WHERE "resource_manager/record_type" <> ''`);
  assert.equal(statistics.byManager(), (await query(false)).map((row) => ({ ...row })));
  assert.equal(statistics.byType(), (await query(true)).map((row) => ({ ...row })));
  assert.is(statistics.total().count, seen.length);

  if (debian === undefined) return console.log("pg_waldump is not installed: its table is not compared");
  for (const byType of [false, true]) {
    const { stdout } = await debian.run("pg_waldump", [
      `--stats=${byType ? "record" : "rmgr"}`,
      `--path=${cluster.dataDir}/pg_wal`,
      `--start=${start}`,
      `--end=${end}`,
    ]);
    assert.is(statistics.format(parseLsn(start), parseLsn(end), byType), stdout);
  }
});

test.run();
