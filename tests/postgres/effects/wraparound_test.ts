/**
 * Where ids wrap around: a server whose next transaction, multixact and member offset are a little below 2^32 goes on
 * past it, and what varve replays of its WAL must equal what it leaves.
 */
import {
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_XACT,
  type SlruKind,
  slruPageOf,
  slruSegmentOf,
  slruSegmentPath,
} from "../../../src/postgres/page/slru.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, startCluster } from "../../support/postgres.ts";
import { type DebianPostgres, debianPostgresOrSkip } from "../../support/postgres_debian.ts";
import { temporaryDirectory } from "../../support/temp.ts";
import { checkReplica, copyDirectory, SETTINGS } from "./check_replica.ts";
import {
  execute,
  freezeEverything,
  manyMultiXacts,
  prepareTables,
  transactions,
  twoPhase,
} from "./cluster_workload.ts";
import { Replica, slruBytes } from "./replica.ts";

const test = suite("effects/wraparound", { sanitize: false, timeoutMs: 120_000 });

/** `pg_resetwal` exists here for this major only. */
const MAJOR = 15;

/** Steps of less than half the circle: after each everything must be frozen. */
const STEPS = [2_000_000_000, 4_000_000_000, 2 ** 32 - 3000];

/** An empty segment for an id that no server has come to. */
async function addSegment(cluster: Cluster, kind: SlruKind, id: number): Promise<void> {
  const path = `${cluster.dataDir}/${slruSegmentPath(kind, slruSegmentOf(slruPageOf(kind, id)))}`;
  await Deno.writeFile(path, new Uint8Array(32 * 8192), { mode: 0o600 });
  const { uid, gid } = cluster.binaries.user;
  if (uid !== undefined) await Deno.chown(path, uid, gid ?? null);
}

/** Makes a stopped server go on at these ids. */
async function moveTo(
  cluster: Cluster,
  debian: DebianPostgres,
  id: number,
  memberOffset: number,
): Promise<void> {
  await addSegment(cluster, SLRU_XACT, id);
  await addSegment(cluster, SLRU_MULTIXACT_OFFSETS, id);
  await addSegment(cluster, SLRU_MULTIXACT_MEMBERS, memberOffset);
  const args = ["-D", cluster.dataDir, "-x", `${id}`, "-m", `${id},${id}`, "-O", `${memberOffset}`];
  await debian.run("pg_resetwal", args, { user: cluster.binaries.user });
}

async function judge(debian: DebianPostgres): Promise<void> {
  const profile = profileOfMajor(MAJOR);
  await using scratch = await temporaryDirectory("wraparound");
  await using cluster = await startCluster({
    major: MAJOR,
    settings: { ...SETTINGS, track_commit_timestamp: "off" },
  });
  await prepareTables(cluster);
  for (const id of STEPS) {
    await freezeEverything(cluster);
    await cluster.stop();
    await moveTo(cluster, debian, id, id === STEPS.at(-1) ? 2 ** 32 - 2000 : id);
    if (id !== STEPS.at(-1)) await cluster.start();
  }
  const base = scratch.join("base");
  await copyDirectory(cluster.dataDir, base);
  await cluster.configure({ track_commit_timestamp: "on" });
  await cluster.start();
  await twoPhase(cluster, "before");
  await manyMultiXacts(cluster, 3500);
  await transactions(cluster);
  await twoPhase(cluster, "after");
  await execute(cluster, ["COMMIT PREPARED 'before 3'", "ROLLBACK PREPARED 'before 6'"]);
  await manyMultiXacts(cluster, 1000);
  await cluster.stop();

  const replica = new Replica(base, profile);
  const [first, firstMulti] = [replica.state.nextXid, replica.state.nextMulti];
  replica.replay(`${cluster.dataDir}/pg_wal`, replica.state.redoLsn);
  const { nextXid, nextMulti, nextMultiOffset } = replica.state;
  console.log(
    `transactions ${first} to ${nextXid}, multixacts ${firstMulti} to ${nextMulti}, members to ${nextMultiOffset}; ` +
      `equal: ${slruBytes(replica.contents()).join(", ")} bytes`,
  );
  assert.ok(
    nextXid > first && Math.floor(first / 2 ** 32) + 1 === Math.floor(nextXid / 2 ** 32),
    "an epoch began",
  );
  assert.ok(nextMulti < firstMulti && nextMulti > 1000, "multixact ids began anew");
  assert.ok(nextMultiOffset > 1000 && nextMultiOffset < 2 ** 31, "member offsets began anew");
  checkReplica(replica, cluster.dataDir, profile);
}

/** Every locked row with the members of its multixact, as one text. */
async function membersOfRows(cluster: Cluster): Promise<string> {
  const [{ members }] = await cluster.exec(
    `SELECT string_agg(id || ' ' || m.xid || ' ' || m.mode, ',' ORDER BY id, m.xid::text) AS members
    FROM locked, pg_get_multixact_members(xmax) m WHERE id <= 3000`,
  );
  return members;
}

/** A server goes on from counters as varve stores them, with ids left out, and finds everything as it was. */
async function startFromStoredCounters(debian: DebianPostgres): Promise<void> {
  const profile = profileOfMajor(MAJOR);
  await using scratch = await temporaryDirectory("rounded");
  await using cluster = await startCluster({ major: MAJOR, start: false, settings: SETTINGS });
  const base = scratch.join("base");
  await copyDirectory(cluster.dataDir, base);
  await cluster.start();
  await prepareTables(cluster);
  await execute(cluster, [
    "BEGIN; SELECT FROM locked FOR KEY SHARE; PREPARE TRANSACTION 'holder'",
    ...Array.from({ length: 3000 }, (_, index) => `SELECT FROM locked WHERE id = ${index + 1} FOR KEY SHARE`),
  ]);
  const before = await membersOfRows(cluster);
  await cluster.stop();
  const replica = new Replica(base, profile);
  replica.replay(`${cluster.dataDir}/pg_wal`, replica.state.redoLsn);
  const { nextXid, nextMulti, nextMultiOffset } = replica.stateBeforeShutdown.bounds();
  assert.ok(
    nextXid > replica.state.nextXid && nextMulti > replica.state.nextMulti &&
      nextMultiOffset > replica.state.nextMultiOffset,
  );
  const args = [
    "-D",
    cluster.dataDir,
    "-x",
    `${nextXid}`,
    "-m",
    `${nextMulti},${replica.state.oldestMulti}`,
    "-O",
    `${nextMultiOffset}`,
  ];
  await debian.run("pg_resetwal", args, { user: cluster.binaries.user });
  await cluster.start();
  assert.is(await membersOfRows(cluster), before);
  assert.is(before.split(",").length, 6000);
  await transactions(cluster);
  await manyMultiXacts(cluster, 2500);
  await execute(cluster, ["ROLLBACK PREPARED 'holder'", "SELECT FROM locked FOR UPDATE"]);
  assert.equal(
    await cluster.exec(
      "SELECT count(*)::int AS n FROM locked WHERE pg_xact_commit_timestamp(xmin) IS NOT NULL",
    ),
    [{ n: 5000 }],
  );
}

const debian = await debianPostgresOrSkip((reason) => test.skip(`ids wrap around: ${reason}`), MAJOR);
if (debian !== undefined) {
  test("applyEffects() and redoSlruPage() go with a server past 2^32", () => judge(debian));
  test("bounds() of ClusterState are counters that a server can start from", () =>
    startFromStoredCounters(debian));
}

test.run();
