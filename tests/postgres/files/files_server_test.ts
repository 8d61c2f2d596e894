/** Files of real data directories of every major, read by varve and told by the server itself. */
import { crc32c } from "../../../src/bytes/crc32c.ts";
import { formatLsn } from "../../../src/lsn.ts";
import {
  BACKUP_MANIFEST_FILE,
  formatCrc32c,
  parseBackupManifest,
  splitManifestChecksum,
} from "../../../src/postgres/files/backup_manifest.ts";
import { BACKUP_LABEL_FILE, parseBackupLabel } from "../../../src/postgres/files/backup_label.ts";
import {
  CONTROL_FILE_PATH,
  type ControlFile,
  DB_IN_PRODUCTION,
  DB_SHUTDOWNED,
  parseControlFile,
  patchControlFile,
} from "../../../src/postgres/files/control_file.ts";
import {
  DEFAULTTABLESPACE_OID,
  GLOBALTABLESPACE_OID,
  parseRelationPath,
  relationPath,
  tablespaceVersionDirectory,
} from "../../../src/postgres/files/relation_path.ts";
import { parseRelationMap, RELMAPPER_FILENAME } from "../../../src/postgres/files/relmap.ts";
import {
  encodeReplicationOrigins,
  parseReplicationOrigins,
  REPLORIGIN_CHECKPOINT_PATH,
} from "../../../src/postgres/files/replication_origins.ts";
import {
  decodeTwoPhaseFile,
  encodeTwoPhaseFile,
  parseTwoPhaseFileName,
  parseTwoPhaseState,
  TWOPHASE_DIR,
  twoPhaseFileName,
} from "../../../src/postgres/files/two_phase.ts";
import { epochOfFullTransactionId, xidOfFullTransactionId } from "../../../src/postgres/transaction_id.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, POSTGRES_MAJORS, type PostgresMajor, startCluster } from "../../support/postgres.ts";
import { debianPostgresOrSkip } from "../../support/postgres_debian.ts";
import { temporaryDirectory } from "../../support/temp.ts";
import { execute, origins } from "../effects/cluster_workload.ts";

const test = suite("files/server", { sanitize: false });

/** Microseconds from 1970 to 2000. */
const POSTGRES_EPOCH = 946_684_800_000_000n;

async function prepare(cluster: Cluster): Promise<void> {
  const location = await cluster.directory("elsewhere");
  await execute(cluster, [
    `CREATE TABLESPACE elsewhere LOCATION '${location}'`,
    "CREATE TABLE journal (id serial, note text)",
    "CREATE TABLE away TABLESPACE elsewhere AS SELECT generate_series(1, 1000) i",
    `CREATE PROCEDURE subtransactions(n int, fails int) LANGUAGE plpgsql AS 'BEGIN END'`,
    "VACUUM FULL pg_class",
    "VACUUM FULL pg_authid",
    "VACUUM away",
    `BEGIN; INSERT INTO journal (note) VALUES ('a'); SAVEPOINT s; INSERT INTO journal (note) VALUES ('b');
      PREPARE TRANSACTION 'näme of 42'`,
    "BEGIN; CREATE TABLE prepared (i int); PREPARE TRANSACTION 'x'",
  ]);
  await origins(cluster, "files");
  await cluster.exec("CHECKPOINT");
}

function readFile(cluster: Cluster, path: string): Uint8Array {
  return Deno.readFileSync(`${cluster.dataDir}/${path}`);
}

async function checkControlFile(cluster: Cluster, profile: VersionProfile): Promise<ControlFile> {
  const bytes = readFile(cluster, CONTROL_FILE_PATH);
  const file = parseControlFile(bytes, profile);
  const [system] = await cluster.exec("SELECT * FROM pg_control_system()");
  const [checkPoint] = await cluster.exec(
    "SELECT *, extract(epoch FROM checkpoint_time)::int8 AS seconds FROM pg_control_checkpoint()",
  );
  const [init] = await cluster.exec("SELECT * FROM pg_control_init()");
  const copy = file.checkPointCopy;
  // The server counts the identifier as a signed number.
  assert.is(BigInt.asIntN(64, file.systemIdentifier).toString(), system.system_identifier);
  assert.is(file.state, DB_IN_PRODUCTION);
  const nextXid = `${epochOfFullTransactionId(copy.nextXid)}:${xidOfFullTransactionId(copy.nextXid)}`;
  const pairs: [unknown, unknown][] = [
    [file.pgControlVersion, system.pg_control_version],
    [file.catalogVersion, system.catalog_version_no],
    [formatLsn(file.checkPoint), checkPoint.checkpoint_lsn],
    [formatLsn(copy.redo), checkPoint.redo_lsn],
    [copy.tli, checkPoint.timeline_id],
    [copy.prevTli, checkPoint.prev_timeline_id],
    [copy.fullPageWrites, checkPoint.full_page_writes],
    [nextXid, checkPoint.next_xid],
    [copy.nextOid, checkPoint.next_oid],
    [copy.nextMulti, checkPoint.next_multixact_id],
    [copy.nextMultiOffset, checkPoint.next_multi_offset],
    [copy.oldestXid, checkPoint.oldest_xid],
    [copy.oldestXidDB, checkPoint.oldest_xid_dbid],
    [copy.oldestActiveXid, checkPoint.oldest_active_xid],
    [copy.oldestMulti, checkPoint.oldest_multi_xid],
    [copy.oldestMultiDB, checkPoint.oldest_multi_dbid],
    [copy.oldestCommitTsXid, checkPoint.oldest_commit_ts_xid],
    [copy.newestCommitTsXid, checkPoint.newest_commit_ts_xid],
    [copy.time, checkPoint.seconds],
    [file.blockSize, init.database_block_size],
    [file.relationSegmentBlocks, init.blocks_per_segment],
    [file.walBlockSize, init.wal_block_size],
    [file.walSegmentSize, init.bytes_per_wal_segment],
    [file.dataChecksumVersion, init.data_page_checksum_version],
  ];
  assert.equal(pairs.map(([ours]) => String(ours)), pairs.map(([, theirs]) => String(theirs)));
  assert.equal([file.maxConnections, file.maxPreparedXacts, file.trackCommitTimestamp, file.walLevel], [
    60,
    10,
    true,
    2,
  ]);
  assert.equal(patchControlFile(bytes, {}, profile), bytes, "a patch of nothing changes nothing");
  return file;
}

async function checkRelationMaps(cluster: Cluster, profile: VersionProfile, db: number): Promise<void> {
  const mapped = await cluster.exec(`SELECT oid, relisshared, pg_relation_filenode(oid) AS file FROM pg_class
    WHERE relfilenode = 0 AND relkind IN ('r', 'i', 't')`);
  for (const [shared, path] of [[true, "global"], [false, `base/${db}`]] as const) {
    const map = parseRelationMap(readFile(cluster, `${path}/${RELMAPPER_FILENAME}`), profile);
    const expected = mapped.filter((row) => row.relisshared === shared).map((
      row,
    ) => [Number(row.oid), Number(row.file)]);
    assert.equal([...map].sort(), expected.sort());
    assert.ok(expected.length > 3);
  }
}

async function checkRelationPaths(cluster: Cluster, db: number, versionDirectory: string): Promise<void> {
  const rows = await cluster.exec(
    `SELECT pg_relation_filepath(oid) AS path, pg_relation_filenode(oid) AS file, reltablespace
    FROM pg_class WHERE pg_relation_filepath(oid) IS NOT NULL`,
  );
  for (const { path, file, reltablespace } of rows) {
    const spc = Number(reltablespace) || DEFAULTTABLESPACE_OID;
    const expected = {
      spc,
      db: spc === GLOBALTABLESPACE_OID ? 0 : db,
      rel: Number(file),
      fork: 0,
      segment: 0,
    };
    assert.equal(parseRelationPath(path), expected, path);
    assert.is(relationPath(expected, versionDirectory), path);
  }
  assert.ok(rows.some(({ path }) => path.startsWith("pg_tblspc/")));
}

async function checkPrepared(cluster: Cluster, profile: VersionProfile, nextXid: number): Promise<void> {
  const rows = await cluster.exec(
    `SELECT transaction, gid, (extract(epoch FROM prepared) * 1000000)::int8 AS micros,
      (SELECT oid FROM pg_roles WHERE rolname = owner) AS owner, (SELECT oid FROM pg_database WHERE datname = database) AS db
    FROM pg_prepared_xacts`,
  );
  assert.is(rows.length, 2);
  for (const { transaction, gid, micros, owner, db } of rows) {
    const name = twoPhaseFileName(Number(transaction), profile);
    assert.is(parseTwoPhaseFileName(name, nextXid, profile), Number(transaction));
    const file = readFile(cluster, `${TWOPHASE_DIR}/${name}`);
    const content = decodeTwoPhaseFile(file, profile);
    assert.equal(encodeTwoPhaseFile(content), file);
    const state = parseTwoPhaseState(content, profile);
    assert.equal([state.xid, state.gid, state.owner, state.database], [Number(transaction), gid, owner, db]);
    assert.is(state.preparedAt + POSTGRES_EPOCH, BigInt(micros));
    assert.equal(state.subxids, gid === "x" ? [] : [Number(transaction) + 1]);
  }
}

async function checkOrigins(cluster: Cluster): Promise<void> {
  const rows = await cluster.exec("SELECT local_id, remote_lsn FROM pg_replication_origin_status");
  const file = readFile(cluster, REPLORIGIN_CHECKPOINT_PATH);
  const parsed = parseReplicationOrigins(file);
  const texts = [...parsed].map(([id, lsn]) =>
    `${id} ${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`
  );
  assert.equal(texts.sort(), rows.map((row) => `${row.local_id} ${row.remote_lsn.toLowerCase()}`).sort());
  assert.equal(encodeReplicationOrigins(parsed), file);
  assert.ok(parsed.size > 1);
}

/** A server starts on what was written. */
async function checkPatched(cluster: Cluster, profile: VersionProfile): Promise<void> {
  await cluster.stop();
  const bytes = readFile(cluster, CONTROL_FILE_PATH);
  const before = parseControlFile(bytes, profile);
  assert.is(before.state, DB_SHUTDOWNED);
  const changes = {
    time: before.time + 1,
    unloggedLsn: before.unloggedLsn,
    maxConnections: 59,
    walLogHints: true,
    checkPointCopy: { ...before.checkPointCopy, time: before.checkPointCopy.time + 1 },
  };
  const patched = patchControlFile(bytes, changes, profile);
  assert.equal(parseControlFile(patched, profile), { ...before, ...changes });
  Deno.writeFileSync(`${cluster.dataDir}/${CONTROL_FILE_PATH}`, patched);
  await cluster.start();
  assert.equal(await cluster.exec("SELECT count(*)::int AS n FROM away"), [{ n: 1000 }]);
}

async function checkFiles(major: PostgresMajor): Promise<void> {
  const profile = profileOfMajor(major);
  await using cluster = await startCluster({
    major,
    checksums: major % 2 === 0,
    settings: { wal_level: "logical", track_commit_timestamp: "on", autovacuum: "off" },
  });
  await prepare(cluster);
  const control = await checkControlFile(cluster, profile);
  const [{ db }] = await cluster.exec(
    "SELECT oid::int AS db FROM pg_database WHERE datname = current_database()",
  );
  await checkRelationMaps(cluster, profile, db);
  await checkRelationPaths(cluster, db, tablespaceVersionDirectory(major, control.catalogVersion));
  await checkPrepared(cluster, profile, control.checkPointCopy.nextXid);
  await checkOrigins(cluster);
  await checkPatched(cluster, profile);
}

for (const major of POSTGRES_MAJORS) {
  test(`files of PostgreSQL ${major} say what the server says`, () => checkFiles(major));
}

const debian = await debianPostgresOrSkip((reason) =>
  test.skip(`parseBackupManifest() of pg_basebackup: ${reason}`)
);
if (debian !== undefined) {
  test("parseBackupManifest() and parseBackupLabel() read what pg_basebackup leaves", async () => {
    await using scratch = await temporaryDirectory("manifest");
    await using cluster = await startCluster({ major: 15 });
    const backup = scratch.join("backup");
    await debian.run("pg_basebackup", [
      "-D",
      backup,
      "-d",
      cluster.replicationUrl,
      "-c",
      "fast",
      "-X",
      "none",
      "--no-sync",
    ]);
    const bytes = Deno.readFileSync(`${backup}/${BACKUP_MANIFEST_FILE}`);
    const manifest = parseBackupManifest(bytes);
    const label = parseBackupLabel(Deno.readFileSync(`${backup}/${BACKUP_LABEL_FILE}`));
    const { hashed } = splitManifestChecksum(bytes);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", hashed.slice()));
    assert.is(
      [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
      manifest.manifestChecksum,
    );
    assert.ok(manifest.files.length > 500, `${manifest.files.length} files`);
    for (const { path, size, checksumAlgorithm, checksum } of manifest.files) {
      const file = Deno.readFileSync(`${backup}/${path}`);
      assert.equal([path, file.length, checksumAlgorithm, formatCrc32c(crc32c(file))], [
        path,
        size,
        "CRC32C",
        checksum,
      ]);
    }
    assert.is(manifest.walRanges.length, 1);
    assert.is(manifest.walRanges[0].startLsn, label.startLsn);
    assert.is(manifest.walRanges[0].tli, label.startTli);
  });
}

test.run();
