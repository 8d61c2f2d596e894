import { MismatchError, WalLostError } from "../../../src/errors.ts";
import type { Lsn } from "../../../src/lsn.ts";
import { openArchive } from "../../../src/write/source/archive.ts";
import { followReplication, openReplication } from "../../../src/write/source/replication.ts";
import { ConnectionStatusWatch } from "../../../src/write/source/status.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, type PostgresMajor, startCluster } from "../../support/postgres.ts";
import { runCommand } from "../../support/processes.ts";
import { waitFor } from "../../support/wait.ts";
import {
  accessTo,
  compareWithSegments,
  directoryOf,
  flushedLsn,
  identify,
  ReceivedWal,
  receiveUntil,
  writeWal,
} from "./source_support.ts";

const test = suite("write/source/timeline_switch", { sanitize: false });

const SETTINGS = { wal_keep_size: "1GB", autovacuum: "off", hot_standby: "on" };

/** A standby of a primary, made from a copy of its directory. */
async function startStandby(primary: Cluster): Promise<Cluster> {
  const copy = await primary.directory("standby");
  await Deno.remove(copy);
  await primary.stop();
  await runCommand("cp", ["-R", primary.dataDir, copy], { user: primary.binaries.user, cwd: "/" });
  await Deno.writeTextFile(`${copy}/standby.signal`, "");
  await primary.start();
  return await startCluster({
    major: primary.major,
    dataDir: copy,
    settings: { ...SETTINGS, primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres` },
  });
}

async function replayed(standby: Cluster): Promise<Lsn> {
  return (await identify(await accessTo(standby))).xlogPos;
}

for (const major of [14, 17] as PostgresMajor[]) {
  test(`followReplication() goes over to the promoted standby's timeline of PostgreSQL ${major}`, async () => {
    await using primary = await startCluster({ major, settings: SETTINGS });
    await using standby = await startStandby(primary);
    const access = await accessTo(standby);
    const start = (await identify(access)).xlogPos;
    const received = new ReceivedWal();
    const status = new ConnectionStatusWatch();
    const position = () => received.end || start;
    const options = {
      ...access,
      lastRecordLsn: start,
      tli: 1,
      slot: "varve",
      status,
      positions: { processed: position, durable: position },
    };
    let target = Infinity as Lsn;
    const following = receiveUntil(followReplication(options), () => target, received);
    await writeWal(primary, 5);
    const onPrimary = await flushedLsn(primary);
    await waitFor(() => received.end >= onPrimary, { what: "WAL came through the standby" });

    // While we stream from it, it is promoted: its walsender ends timeline 1 and names the next.
    await waitFor(async () => await replayed(standby) >= onPrimary, { what: "the standby is up to date" });
    await standby.exec("SELECT pg_promote()");
    await writeWal(standby, 5);
    target = await flushedLsn(standby);
    await standby.exec("SELECT txid_current()"); // WAL that the reader wakes up for
    await following;
    assert.equal([...new Set(received.chunks.map(({ tli }) => tli))], [1, 2]);
    await compareWithSegments(standby, received, 16 * 1024 * 1024);
    const switchPoint = received.chunks.find(({ tli }) => tli === 2)!.startLsn;

    // From a position on the old timeline, the old one is streamed up to the switch.
    const again = await receiveUntil(openReplication({ ...options, slot: undefined }), target);
    assert.is(again.chunks.find(({ tli }) => tli === 2)!.startLsn, switchPoint);
    assert.is(again.start, received.start);
    // Exactly at the switch there is nothing to stream of the old one.
    const atSwitch = openReplication({ ...options, slot: undefined, lastRecordLsn: switchPoint }).getReader();
    const first = (await atSwitch.read()).value!;
    assert.equal([first.tli, first.startLsn], [2, switchPoint]);
    await atSwitch.cancel();

    // The former primary goes its own way: from its position beyond the switch there is no way to timeline 2.
    await writeWal(primary, 20);
    const beyond = await flushedLsn(primary);
    const diverged = await assert.rejects(async () => {
      for await (const _ of followReplication({ ...options, lastRecordLsn: beyond }));
    }, MismatchError);
    assert.match(diverged.message, "diverged");
    // Nor from timeline 2 to a server that is still on 1.
    const stale = await assert.rejects(async () => {
      const there = await accessTo(primary);
      for await (
        const _ of followReplication({ ...options, ...there, tli: 2, slot: undefined, lastRecordLsn: target })
      );
    }, MismatchError);
    assert.match(stale.hint!, "former primary");

    await archiveAfterSwitch(standby, received, switchPoint);
  });
}

/** The promoted standby's pg_wal, with segments of both timelines and the history file, reads as the server streamed it. */
async function archiveAfterSwitch(standby: Cluster, received: ReceivedWal, switchPoint: Lsn): Promise<void> {
  await standby.stop();
  const directory = directoryOf(`${standby.dataDir}/pg_wal`);
  const archive = await openArchive({ directory, start: received.start!, tli: 1 });
  assert.is(archive.targetTli, 2);
  const read = await receiveUntil(archive.stream, Infinity as Lsn);
  assert.ok(read.end >= received.end);
  await compareWithSegments(standby, read, 16 * 1024 * 1024);
  // Held to timeline 1, it ends in the segment of the switch: 1's own copy of that segment has no more valid WAL there.
  const older = await openArchive({ directory, start: received.start!, tli: 1, targetTli: 1 });
  const short = await receiveUntil(older.stream, Infinity as Lsn).catch((error) => error);
  assert.ok(short instanceof Error || (short.end >= switchPoint - 8192 && short.end < received.end));
}

test("openReplication() tells WAL that the server has removed", async () => {
  await using cluster = await startCluster({
    major: 15,
    walSegmentSizeMb: 1,
    settings: { min_wal_size: "2MB", max_wal_size: "2MB", autovacuum: "off" },
  });
  const access = await accessTo(cluster);
  const { xlogPos } = await identify(access);
  await writeWal(cluster, 6);
  await cluster.exec("CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT");
  const options = {
    ...access,
    lastRecordLsn: xlogPos,
    positions: { processed: () => xlogPos, durable: () => xlogPos },
  };
  const error = await assert.rejects(async () => {
    for await (const _ of followReplication(options));
  }, WalLostError);
  assert.match(error.message, "58P01");
  assert.match(error.hint!, "slot");
});

test.run();
