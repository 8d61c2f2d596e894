/**
 * The judge of effects and SLRU redo: a real server of every major does all that the managers without pages do, and
 * what varve replays of its WAL must equal the data directory that the server leaves, byte for byte.
 */
import { parseBackupLabel } from "../../../src/postgres/files/backup_label.ts";
import { parseTablespaceMap } from "../../../src/postgres/files/tablespace_map.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, POSTGRES_MAJORS, type PostgresMajor, startCluster } from "../../support/postgres.ts";
import { temporaryDirectory } from "../../support/temp.ts";
import { checkReplica, copyDirectory, SETTINGS } from "./check_replica.ts";
import {
  databases,
  execute,
  freezeEverything,
  largeMultiXacts,
  manyMultiXacts,
  origins,
  prepareTables,
  relations,
  transactions,
  twoPhase,
} from "./cluster_workload.ts";
import { readContents, Replica, slruBytes } from "./replica.ts";

const test = suite("effects/server", { sanitize: false, timeoutMs: 120_000 });

/** More transactions than a segment of pg_xact holds; for one major, because it takes seconds. */
const TRANSACTIONS_OF_A_SEGMENT = 1_050_000;
const MAJOR_WITH_MANY_TRANSACTIONS = 18;

/** A backup taken while transactions run, as scripts take it that do not use the replication protocol. */
async function backUp(cluster: Cluster, to: string): Promise<{ label: string; tablespaceMap: string }> {
  const [start, stop] = cluster.major >= 15
    ? ["pg_backup_start('hot', true)", "pg_backup_stop(false)"]
    : ["pg_start_backup('hot', true, false)", "pg_stop_backup(false, false)"];
  const session = await cluster.sql().reserve();
  try {
    await session.unsafe(`SELECT ${start}`);
    await Promise.all([
      copyDirectory(cluster.dataDir, to),
      manyMultiXacts(cluster, 3000),
      transactions(cluster),
      twoPhase(cluster, "hot"),
    ]);
    const [{ labelfile, spcmapfile }] = await session.unsafe(`SELECT labelfile, spcmapfile FROM ${stop}`);
    return { label: labelfile, tablespaceMap: spcmapfile };
  } finally {
    session.release();
  }
}

/** Everything there is, with a crash, and a backup on the way. */
async function runWorkload(
  cluster: Cluster,
  hotDir: string,
): Promise<{ label: string; tablespaceMap: string }> {
  await prepareTables(cluster);
  await transactions(cluster);
  await twoPhase(cluster, "first");
  await manyMultiXacts(cluster, 4500);
  await largeMultiXacts(cluster, 330);
  await relations(cluster);
  await databases(cluster);
  await origins(cluster, "first");
  await cluster.kill9();
  await cluster.start();
  await execute(cluster, ["COMMIT PREPARED 'first 3'", "ROLLBACK PREPARED 'first 6'"]);
  if (cluster.major === MAJOR_WITH_MANY_TRANSACTIONS) {
    await execute(cluster, [
      `CALL subtransactions(${TRANSACTIONS_OF_A_SEGMENT}, ${TRANSACTIONS_OF_A_SEGMENT * 2})`,
    ]);
  }
  await freezeEverything(cluster);
  const backup = await backUp(cluster, hotDir);
  await twoPhase(cluster, "last");
  await origins(cluster, "last");
  return backup;
}

async function judge(major: PostgresMajor): Promise<void> {
  const profile = profileOfMajor(major);
  await using scratch = await temporaryDirectory("effects");
  await using cluster = await startCluster({ major, start: false, settings: SETTINGS });
  const [base, hot] = [scratch.join("base"), scratch.join("hot")];
  await copyDirectory(cluster.dataDir, base);
  await cluster.start();
  const { label, tablespaceMap } = await runWorkload(cluster, hot);
  await cluster.stop();

  const walDir = `${cluster.dataDir}/pg_wal`;
  const replica = new Replica(base, profile);
  replica.replay(walDir, replica.state.redoLsn);
  checkReplica(replica, cluster.dataDir, profile);
  const bytes = slruBytes(replica.contents());
  console.log(
    `PostgreSQL ${major}: ${replica.records} records, ${replica.commits} commits, ${replica.aborts} aborts; ` +
      `equal: ${bytes.join(", ")} bytes of SLRUs, ${replica.contents().relations.size} relations; ` +
      `segments removed: ${replica.removedSegments.join(", ")}; ${replica.saves} states stored`,
  );
  assert.ok(bytes.every((size) => size >= 3 * 8192), "every SLRU has pages to compare");
  assert.ok(replica.cuts > 40, "long commit records were cut");
  assert.ok(replica.removedSegments[2] > 0, "segments of multixact members went");
  assert.ok(replica.removedSegments[3] > 0, "segments of commit timestamps went");
  if (major === MAJOR_WITH_MANY_TRANSACTIONS) {
    assert.ok(replica.removedSegments[0] > 0, "segments of pg_xact went");
  }

  // From a fuzzy copy, taken while pages changed, the same must come out.
  const backupLabel = parseBackupLabel(new TextEncoder().encode(label));
  const fromHot = new Replica(hot, profile, { fuzzy: true });
  fromHot.replay(walDir, backupLabel.startLsn);
  checkReplica(fromHot, cluster.dataDir, profile);
  assert.is(backupLabel.label, "hot");
  assert.is(backupLabel.method, "streamed");
  assert.is(backupLabel.fromStandby, false);
  assert.ok(fromHot.backupEnds.includes(backupLabel.startLsn), "the end of the backup was seen");
  assert.equal(
    parseTablespaceMap(new TextEncoder().encode(tablespaceMap)),
    readContents(cluster.dataDir).tablespaces,
  );
}

for (const major of POSTGRES_MAJORS) {
  test(`applyEffects() and redoSlruPage() leave what a server of PostgreSQL ${major} leaves`, () =>
    judge(major));
}

test("applyEffects() follows track_commit_timestamp when it goes off and on again", async () => {
  const profile = profileOfMajor(17);
  await using scratch = await temporaryDirectory("effects");
  await using cluster = await startCluster({ major: 17, start: false, settings: SETTINGS });
  const base = scratch.join("base");
  await copyDirectory(cluster.dataDir, base);
  await cluster.start();
  await prepareTables(cluster);
  await execute(cluster, ["CALL subtransactions(2000, 3000)"]);
  for (const value of ["off", "on"]) {
    await cluster.configure({ track_commit_timestamp: value, max_connections: value === "off" ? 61 : 62 });
    await cluster.restart();
    await execute(cluster, ["CALL subtransactions(1000, 7)"]);
    await cluster.stop();
    const replica = new Replica(base, profile);
    replica.replay(`${cluster.dataDir}/pg_wal`, replica.state.redoLsn);
    checkReplica(replica, cluster.dataDir, profile);
    const size = slruBytes(replica.contents())[3];
    assert.is(size > 0, value === "on", `${size} bytes of commit timestamps`);
    await cluster.start();
  }
});

test.run();
