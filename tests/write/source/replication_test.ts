import { PostgresError, UnavailableError } from "../../../src/errors.ts";
import { type Lsn, lsn } from "../../../src/lsn.ts";
import type { RecordedServer } from "../../../src/write/source/identify.ts";
import {
  followReplication,
  openReplication,
  type ReplicationOptions,
} from "../../../src/write/source/replication.ts";
import { readServerFacts } from "../../../src/write/source/identify.ts";
import { openSession } from "../../../src/write/source/session.ts";
import { ConnectionStatusWatch } from "../../../src/write/source/status.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, POSTGRES_MAJORS, startCluster } from "../../support/postgres.ts";
import { waitFor } from "../../support/wait.ts";
import {
  accessTo,
  compareWithSegments,
  flushedLsn,
  identify,
  ReceivedWal,
  receiveUntil,
  type RecordedAccess,
  walSenders,
  writeWal,
} from "./source_support.ts";

const test = suite("write/source/replication", { sanitize: false });

const SETTINGS = { max_wal_size: "2GB", wal_keep_size: "1GB", checkpoint_timeout: "1h", autovacuum: "off" };

/** Options with positions that follow what a test has received. */
async function optionsFor(
  cluster: Cluster,
  more: Partial<ReplicationOptions> = {},
): Promise<
  ReplicationOptions & {
    received: ReceivedWal;
    status: ConnectionStatusWatch;
    recorded: RecordedAccess["recorded"];
  }
> {
  const access = await accessTo(cluster);
  const received = new ReceivedWal();
  const lastRecordLsn = (await identify(access)).xlogPos;
  const position = () => received.end === 0 ? lastRecordLsn : received.end;
  return {
    ...access,
    lastRecordLsn,
    positions: { processed: position, durable: position },
    status: new ConnectionStatusWatch(),
    ...more,
    received,
    recorded: access.recorded,
  } as never;
}

async function recordedServer(cluster: Cluster): Promise<RecordedServer> {
  await using session = await openSession(await accessTo(cluster));
  const { profile, walSegmentSize, blockSize } = await readServerFacts(session);
  return { systemId: session.identity.systemId, major: profile.major, walSegmentSize, blockSize };
}

for (const major of POSTGRES_MAJORS) {
  const walSegmentSizeMb = major === 16 ? 1 : major === 18 ? 64 : 16;
  test(`openReplication() streams PostgreSQL ${major}'s WAL as its segments have it`, async () => {
    await using cluster = await startCluster({ major, walSegmentSizeMb, settings: SETTINGS });
    const connections: number[] = [];
    const options = await optionsFor(cluster, {
      expected: await recordedServer(cluster),
      slot: "varve",
      onConnections: (change) => void connections.push(change),
    });
    assert.is(options.expected!.walSegmentSize, walSegmentSizeMb * 1024 * 1024);
    await writeWal(cluster, 100);
    const end = await flushedLsn(cluster);
    await receiveUntil(openReplication(options), end, options.received);
    assert.ok(options.received.bytes > 100 * 1024 * 1024, `${options.received.bytes} bytes`);
    assert.ok(options.received.chunks.length < options.received.bytes / 60_000, "chunks are large");
    await compareWithSegments(cluster, options.received, walSegmentSizeMb * 1024 * 1024);
    assert.equal(connections, [1, -1]);
    const status = options.status.current;
    assert.not(status.isConnected);
    assert.ok(status.caughtUp && status.hasProcessedWal);
    assert.ok(status.streamingLsn! >= end && status.commitLsn! >= end);
    await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender is left" });
    // The last status reached the server with our goodbye: the slot has moved.
    const [{ kept }] = await cluster.exec(
      "SELECT restart_lsn >= '0/2000000' AS kept FROM pg_replication_slots",
    );
    assert.ok(kept);
    assert.not.match(cluster.logTail(200), "invalid standby message");
  });
}

test("openReplication() keeps the connection of a slow reader alive, in flat memory", async () => {
  await using cluster = await startCluster({
    major: 17,
    settings: { ...SETTINGS, wal_sender_timeout: "2s" },
  });
  const options = await optionsFor(cluster, { receiveTimeoutMs: 1500 });
  await writeWal(cluster, 60);
  const end = await flushedLsn(cluster);
  const reader = openReplication(options).getReader();
  const first = (await reader.read()).value!;
  options.received.take(first);
  // Nothing is read for longer than both sides' patience.
  const [{ pid }] = await cluster.exec("SELECT pid FROM pg_stat_replication");
  const sent = async () => {
    const [row] = await cluster.exec(
      `SELECT (sent_lsn - '0/0'::pg_lsn)::bigint::float8 AS sent, (flush_lsn - '0/0'::pg_lsn)::float8 AS flushed,
        reply_time FROM pg_stat_replication WHERE pid = ${pid}`,
    );
    return row as { sent: number; flushed: number; reply_time: Date };
  };
  let before = await sent();
  await waitFor(async () => {
    const now = await sent();
    const isStill = now.sent === before.sent;
    before = now;
    return isStill;
  }, { what: "the server is held back", intervalMs: 200 });
  const resident = Deno.memoryUsage().external;
  await waitFor(async () => {
    const row = await sent();
    return row.reply_time.getTime() - before.reply_time.getTime() > 3000 ? row : undefined;
  }, { what: "three seconds of status messages", intervalMs: 100 });
  const after = await sent();
  assert.is(after.flushed, options.received.end, "what is reported is what was read");
  assert.ok(after.sent - before.sent < 4 * 1024 * 1024, "the server stays held back");
  assert.ok(
    after.sent - options.received.end < 24 * 1024 * 1024,
    `${after.sent - options.received.end} bytes ahead`,
  );
  assert.ok(Deno.memoryUsage().external - resident < 8 * 1024 * 1024);
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    options.received.take(next.value);
    if (options.received.end >= end) break;
  }
  await reader.cancel();
  await compareWithSegments(cluster, options.received, 16 * 1024 * 1024);
});

test("followReplication() goes on without a gap after kill -9, restarts and cut connections", async () => {
  await using cluster = await startCluster({ major: 16, settings: { ...SETTINGS, fsync: "on" } });
  const connections: number[] = [];
  const options = await optionsFor(cluster, {
    expected: await recordedServer(cluster),
    slot: "varve",
    onConnections: (change) => void connections.push(change),
  });
  let target = Infinity as Lsn;
  const following = receiveUntil(followReplication(options), () => target, options.received);
  const disturb: Record<string, () => Promise<unknown>> = {
    terminate: () =>
      cluster.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'"),
    kill9: async () => {
      await cluster.kill9();
      await cluster.start();
    },
    immediate: () => cluster.restart("immediate"),
    fast: () => cluster.restart("fast"),
    "wal switch": () => cluster.exec("SELECT pg_switch_wal()"),
    "kill one process": async () => {
      const [{ pid }] = await cluster.exec(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'",
      );
      Deno.kill(pid, "SIGKILL"); // the server restarts all its processes
    },
  };
  const isBack = () => cluster.exec("SELECT 1").then(() => true, () => false);
  for (const [name, act] of Object.entries(disturb)) {
    await writeWal(cluster, 8);
    await act();
    await cluster.disconnect("postgres"); // the test's own clients have lost their connections too
    await waitFor(isBack, { what: "the server is back" });
    await writeWal(cluster, 4);
    const end = await flushedLsn(cluster);
    await waitFor(() => options.received.end >= end, { what: `received all after ${name}` });
  }
  target = await flushedLsn(cluster);
  await writeWal(cluster, 1);
  await following;
  await compareWithSegments(cluster, options.received, 16 * 1024 * 1024);
  assert.ok(connections.length >= 10, `${connections.length / 2} connections`);
  assert.is(connections.reduce((sum, change) => sum + change, 0), 0);
  const failures = options.recorded.filter(({ topic, error }) =>
    topic === "source.retry" && error !== undefined
  );
  assert.ok(
    failures.some(({ error }) => /57P01/.test((error as Error).message)),
    "the server's own reason is told",
  );
  await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender is left" });
});

for (const major of [14, 18] as const) {
  test(`followReplication() lets PostgreSQL ${major} shut down fast as soon as its WAL is durable`, async () => {
    await using cluster = await startCluster({ major, settings: SETTINGS });
    const wanted: Lsn[] = [];
    const options = await optionsFor(cluster, { onFlushWanted: (position) => void wanted.push(position) });
    const acknowledged = { durable: options.lastRecordLsn };
    options.positions = { processed: () => options.received.end, durable: () => acknowledged.durable };
    await writeWal(cluster, 5);
    const ended = receiveUntil(openReplication(options), Infinity as Lsn, options.received);
    const isCaughtUp = () => options.status.current.caughtUp;
    await waitFor(isCaughtUp, { what: "caught up" });
    const stopping = cluster.stop("fast", 60_000);
    await waitFor(() => wanted.length > 0, { what: "a flush is wanted" });
    assert.ok(cluster.running, "the server waits for us");
    // While it waits, it asks again after each answer: that must not become a storm.
    const asked = options.status.current.latestConnectionUpdate;
    await waitFor(() => options.status.current.latestConnectionUpdate > asked + 300, { what: "it asks on" });
    assert.equal(wanted, [options.received.end], "once, for all that there is");
    acknowledged.durable = options.received.end;
    const toldMs = performance.now();
    await stopping;
    await ended; // closes, does not fail
    assert.ok(performance.now() - toldMs < 20_000, "the server ended soon after");
    await compareWithSegments(cluster, options.received, 16 * 1024 * 1024);
  });
}

test("openReplication() fails with the server's own reason", async () => {
  await using cluster = await startCluster({ major: 15, settings: SETTINGS });
  const options = await optionsFor(cluster);
  const reader = openReplication(options).getReader();
  await writeWal(cluster, 1);
  options.received.take((await reader.read()).value!);
  await cluster.exec(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'",
  );
  const error = await assert.rejects(async () => {
    for (;;) await reader.read();
  }, UnavailableError);
  assert.match(error.message, "57P01");
});

test("openReplication() begins behind padding and page header, and where nothing follows yet", async () => {
  await using cluster = await startCluster({ major: 17, settings: SETTINGS });
  const options = await optionsFor(cluster);
  // A switch leaves the end of WAL exactly at the start of a segment, whose header is not written yet.
  await cluster.exec("SELECT pg_switch_wal()");
  await cluster.exec("CHECKPOINT");
  const [{ position }] = await cluster.exec("SELECT pg_switch_wal()::text AS position");
  const end = await identify(options);
  assert.is(end.xlogPos % (16 * 1024 * 1024), 0, `after the switch at ${position}`);
  const reader = openReplication({ ...options, lastRecordLsn: end.xlogPos }).getReader();
  const pending = reader.read();
  await waitFor(() => options.status.current.caughtUp, { what: "caught up with nothing to read" });
  await cluster.exec("SELECT txid_current()");
  const { value } = await pending;
  assert.is(value!.startLsn, end.xlogPos + 40, "behind the header that had not been written");
  await reader.cancel();
  const behind = openReplication({ ...options, lastRecordLsn: end.xlogPos }).getReader();
  assert.is((await behind.read()).value!.startLsn, end.xlogPos + 40, "and behind it, now that it is there");
  await behind.cancel();
  const unaligned = openReplication({ ...options, lastRecordLsn: lsn(end.xlogPos + 40 + 3) }).getReader();
  assert.is((await unaligned.read()).value!.startLsn, end.xlogPos + 48);
  await unaligned.cancel();
});

test("followReplication() streams on where a password is refused for a while", async () => {
  await using cluster = await startCluster({ major: 17, auth: "scram", settings: SETTINGS });
  const options = await optionsFor(cluster);
  let target = Infinity as Lsn;
  const following = receiveUntil(followReplication(options), () => target, options.received);
  await waitFor(() => options.status.current.caughtUp, { what: "caught up" });
  const keep = cluster.sql(); // its connections outlive the change of the password
  await keep`ALTER ROLE postgres PASSWORD 'other'`;
  await keep`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'`;
  const isRefusal = ({ error }: { error?: unknown }) =>
    error instanceof PostgresError && error.sqlState === "28P01";
  await waitFor(() => options.recorded.some(isRefusal), { what: "the password is refused" });
  await keep`ALTER ROLE postgres PASSWORD 'sediment'`;
  await keep`CREATE TABLE later AS SELECT generate_series(1, 1000)`;
  target = await flushedLsn(cluster);
  await keep`SELECT txid_current()`; // WAL that the reader wakes up for
  await following;
  assert.ok(options.received.end >= target);
});

test.run();
