/** The status endpoint over a server that is followed: values move, readiness follows, the password stays inside. */
import { serveHttp } from "../../src/deps/http_server.ts";
import { postgresSource } from "../../src/deps/postgres_source.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { parseLsn } from "../../src/lsn.ts";
import { createStatusApp } from "../../src/status/app.ts";
import { StatusBoard, type StatusSnapshot } from "../../src/status/board.ts";
import { VarveMetrics } from "../../src/status/metrics.ts";
import type { TimelineSnapshot } from "../../src/status/snapshot.ts";
import { openLocalLayers } from "../../src/store/local_layers.ts";
import { measured } from "../../src/store/measured.ts";
import { attachReader } from "../../src/read/attach.ts";
import { resolveConnection } from "../../src/write/source/connection_options.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { parsePrometheus, sampleOf } from "./status_support.ts";

const test = suite("status/follow", { timeoutMs: 120_000, sanitize: false });

const PATHS = [
  "/",
  "/livez",
  "/readyz",
  "/healthz",
  "/v1/status",
  "/v1/timelines",
  "/v1/timelines/main",
  "/v1/timelines/main/layers",
  "/v1/timelines/none",
  "/metrics",
];

async function ask<T>(url: string, path: string): Promise<{ status: number; body: T }> {
  const answer = await fetch(url + path);
  return { status: answer.status, body: await answer.json() };
}

/** Main forks of everything in the cluster, as the server's own files have it. */
async function logicalSize(cluster: Cluster): Promise<number> {
  let sum = 0;
  for (const root of ["base", "global"]) sum += await mainForkBytes(`${cluster.dataDir}/${root}`);
  return sum;
}

async function mainForkBytes(path: string): Promise<number> {
  let sum = 0;
  for await (const entry of Deno.readDir(path)) {
    if (entry.isDirectory) sum += await mainForkBytes(`${path}/${entry.name}`);
    else if (/^\d+(\.\d+)?$/.test(entry.name)) sum += (await Deno.stat(`${path}/${entry.name}`)).size;
  }
  return sum;
}

test("values move with a workload, readiness with the connection, and no password is shown", async () => {
  await using directory = await temporaryDirectory("status");
  await using cluster = await startCluster({ major: 17, auth: "scram" });
  const password = cluster.password!;
  assert.ok(password.length > 3);
  const board = new StatusBoard({ clock: systemClock });
  const metrics = new VarveMetrics(board);
  const app = createStatusApp({ board, metrics });
  await using server = await serveHttp(app.fetch);
  const { url } = server;
  assert.is((await ask<{ error: { code: string } }>(url, "/readyz")).body.error.code, "STARTING");

  const inner = await testStore(directory.join("store"));
  const store = measured(inner, systemClock, metrics.onStoreCall);
  const connection = await resolveConnection({ url: cluster.replicationUrl });
  let progress = 0;
  const following = await followCluster(cluster, store, {
    source: { ...postgresSource, connection },
    local: await openLocalLayers(directory.join("local")),
    onBackupProgress(report) {
      progress++;
      board.onBackupProgress(report);
    },
    onConnections: metrics.onConnections,
    events: metrics.onEvent,
  });
  assert.ok(progress > 0);
  board.add(following, cluster.replicationUrl);

  await waitFor(async () => (await ask(url, "/readyz")).status === 200, { what: "ready" });
  const { body: before } = await ask<StatusSnapshot>(url, "/v1/status");
  assert.is(before.isReady, true);
  assert.is(before.source!.isConnected, true);
  assert.is(before.source!.caughtUp, true);
  assert.is(before.timelines[0].state, "following");
  assert.is(before.timelines[0].major, 17);

  await cluster.exec(`CREATE TABLE t AS SELECT g, repeat('x', 400) FROM generate_series(1, 40000) g`);
  const [{ lsn }] = await cluster.exec("SELECT pg_current_wal_flush_lsn()::text AS lsn");
  await following.timeline.waitForRecord(parseLsn(lsn));
  await following.flusher.flushAll();
  await waitFor(async () => (await ask<StatusSnapshot>(url, "/v1/status")).body.source!.lagBytes === 0, {
    what: "no lag",
  });
  const { body: after } = await ask<StatusSnapshot>(url, "/v1/status");
  const [was, is] = [before.timelines[0], after.timelines[0]];
  assert.ok(parseLsn(is.lastRecordLsn) >= parseLsn(lsn));
  assert.ok(parseLsn(is.remoteConsistentLsn) > parseLsn(was.remoteConsistentLsn));
  assert.is(after.source!.lagSeconds, 0);
  assert.is(after.source!.hasProcessedWal, true);
  assert.ok(parseLsn(after.source!.lastReceivedMessageLsn!) >= parseLsn(lsn));
  assert.ok(is.logicalSizeBytes! > was.logicalSizeBytes! + 40_000 * 400);
  assert.ok(is.layers.count > was.layers.count);
  assert.ok(is.currentPhysicalSizeBytes > was.currentPhysicalSizeBytes);
  assert.is(is.residentPhysicalSizeBytes, is.currentPhysicalSizeBytes, "every layer has a local copy");
  assert.ok(is.walRecords > was.walRecords);

  const text = await (await fetch(`${url}/metrics`)).text();
  const samples = parsePrometheus(text);
  assert.ok(sampleOf(samples, "varve_last_record_lsn_bytes", { timeline: "main" })! >= parseLsn(lsn));
  assert.is(sampleOf(samples, "varve_live_connections"), 1);
  assert.ok(sampleOf(samples, "varve_flushes_total")! >= 1);
  assert.ok(sampleOf(samples, "varve_wal_ingested_bytes_total")! > 40_000 * 400);
  assert.ok(sampleOf(samples, "varve_store_requests_total", { op: "put", outcome: "ok" })! >= 2);

  for (const path of PATHS) {
    const shown = await (await fetch(url + path)).text();
    assert.not(shown.includes(password), `${path} shows the password`);
  }

  await cluster.kill9();
  await waitFor(async () => (await ask(url, "/readyz")).status === 503, { what: "not ready" });
  const { body: cut } = await ask<{ error: { code: string } }>(url, "/readyz");
  assert.is(cut.error.code, "NOT_CONNECTED");
  await cluster.start();
  await waitFor(async () => (await ask(url, "/readyz")).status === 200, { what: "ready again" });
  const later = parsePrometheus(await (await fetch(`${url}/metrics`)).text());
  assert.ok(sampleOf(later, "varve_reconnects_total")! >= 1);
  assert.is(sampleOf(later, "varve_live_connections"), 1);

  await cluster.exec("CHECKPOINT");
  await cluster.stop("fast");
  await following.follower.stop();
  const { body: ended } = await ask<TimelineSnapshot>(url, "/v1/timelines/main");
  assert.is(ended.state, "ended");
  // A server lengthens files ahead of use, by up to 64 pages, and no WAL says so.
  const ahead = await logicalSize(cluster) - ended.logicalSizeBytes!;
  assert.ok(ahead >= 0 && ahead <= 64 * 8192, `the server's files are ${ahead} bytes longer`);
  assert.is(sampleOf(parsePrometheus(await metrics.metrics()), "varve_live_connections"), 0);
  await following.close();
  await checkReader(directory.join("store"), ended);
});

/** A reader of the same store shows the same history, all of it remote. */
async function checkReader(path: string, writer: TimelineSnapshot): Promise<void> {
  const store = await testStore(path);
  const attached = await attachReader({ store, clock: systemClock });
  const board = new StatusBoard({ clock: systemClock, store });
  board.add(attached);
  const app = createStatusApp({ board });
  assert.is((await app.request("/readyz")).status, 200);
  const reader: TimelineSnapshot = await (await app.request("/v1/timelines/main")).json();
  assert.is(reader.state, "attached");
  assert.is(reader.lastRecordLsn, writer.lastRecordLsn);
  assert.is(reader.currentPhysicalSizeBytes, writer.currentPhysicalSizeBytes);
  assert.is(reader.residentPhysicalSizeBytes, 0);
  assert.equal(reader.layers, { ...writer.layers, resident: 0, remote: writer.layers.count });
  const { layers } = await (await app.request("/v1/timelines/main/layers")).json();
  assert.is(layers.length, reader.layers.count);
  await attached.close();
  await store.close();
}

test.run();
