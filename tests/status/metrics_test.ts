/** Metrics: valid text, values of the moment, hooks. */
import { lsn } from "../../src/lsn.ts";
import { createStatusApp } from "../../src/status/app.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { METRIC_ROWS } from "../../src/status/metric_rows.ts";
import { VarveMetrics } from "../../src/status/metrics.ts";
import { VERSION } from "../../src/status/version.ts";
import { measured } from "../../src/store/measured.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { Histogram } from "../../src/flow/histogram.ts";
import { countDownload, countRange, newLayerFilesCounters } from "../../src/read/fetch_counters.ts";
import { CollectionTask } from "../../src/upkeep/collection_task.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { END_LSN, parsePrometheus, sampleOf, someFollowing, someTimeline } from "./status_support.ts";

const test = suite("status/metrics");

function someMetrics() {
  const clock = new ManualClock();
  const board = new StatusBoard({ clock });
  return { clock, board, metrics: new VarveMetrics(board) };
}

async function read(metrics: VarveMetrics) {
  return parsePrometheus(await metrics.metrics());
}

test("metrics() is Prometheus text with every name prefixed, also before there is a timeline", async () => {
  const { metrics } = someMetrics();
  const samples = await read(metrics);
  assert.is(sampleOf(samples, "varve_build_info", { version: VERSION }), 1);
  assert.is(sampleOf(samples, "varve_live_connections"), 0);
  assert.equal(samples.filter(({ name }) => !name.startsWith("varve_")), []);
  assert.is(metrics.contentType, "text/plain; version=0.0.4; charset=utf-8");
});

test("each timeline has its positions and sizes, and loses them when it is removed", async () => {
  const { clock, board, metrics } = someMetrics();
  const { parts, connection } = someFollowing(someTimeline("followed"));
  connection.connected(clock.now(), END_LSN);
  connection.identified(clock.now(), lsn(END_LSN + 800));
  board.add(parts);
  board.add({ timeline: someTimeline("attached") });
  const samples = await read(metrics);
  for (const timeline of ["followed", "attached"]) {
    assert.is(sampleOf(samples, "varve_last_record_lsn_bytes", { timeline }), END_LSN);
    assert.is(sampleOf(samples, "varve_remote_consistent_lsn_bytes", { timeline }), END_LSN);
    assert.is(sampleOf(samples, "varve_current_physical_size_bytes", { timeline }), 1500);
    assert.is(sampleOf(samples, "varve_resident_physical_size_bytes", { timeline }), 0);
    assert.is(sampleOf(samples, "varve_layers", { timeline, kind: "delta" }), 1);
    assert.is(sampleOf(samples, "varve_layers", { timeline, kind: "image" }), 1);
    assert.is(sampleOf(samples, "varve_wal_records_total", { timeline }), 0);
  }
  assert.is(sampleOf(samples, "varve_replication_lag_bytes", { timeline: "followed" }), 800);
  assert.is(sampleOf(samples, "varve_replication_lag_bytes", { timeline: "attached" }), undefined);
  assert.is(sampleOf(samples, "varve_unsupported_records_total", { timeline: "followed" }), 3);
  // Asked again, counters have not doubled.
  assert.is(
    sampleOf(await read(metrics), "varve_unsupported_records_total", { timeline: "followed" }),
    3,
  );
  board.remove("followed");
  assert.is(
    sampleOf(await read(metrics), "varve_last_record_lsn_bytes", { timeline: "followed" }),
    undefined,
  );
});

test("every row is written for a timeline with all parts", async () => {
  const { clock, board, metrics } = someMetrics();
  const { parts, connection } = someFollowing();
  connection.connected(clock.now(), END_LSN);
  connection.identified(clock.now(), END_LSN);
  const counters = newLayerFilesCounters();
  countDownload(counters, "read", 10);
  countDownload(counters, "prefetch", 20);
  countRange(counters, "compaction", 50);
  const layersPerRead = new Histogram([1, 5]);
  for (const layers of [1, 2, 9]) layersPerRead.observe(layers);
  const upkeep = {
    compactions: 0,
    compactedLayers: 0,
    bytesRead: 0,
    deltaLayers: 0,
    deltaBytes: 0,
    imageLayers: 0,
    imageBytes: 0,
    flushedLayers: 0,
    flushedBytes: 0,
    failures: 0,
  };
  board.add({
    ...parts,
    upkeep: { counters: upkeep, writeAmplification: 1 },
    collection: new CollectionTask(),
    files: { residentBytes: 7, residentCount: 1, isResident: () => true, counters },
    fetcher: { counters: { reads: 10, layersVisited: 25, blocksFetched: 3 }, cachedBytes: 99, layersPerRead },
  });
  const samples = await read(metrics);
  for (const { name } of METRIC_ROWS) {
    assert.type(sampleOf(samples, `varve_${name}`, { timeline: "main" }), "number", name);
  }
  assert.is(sampleOf(samples, "varve_layer_downloads_total"), 2);
  assert.is(sampleOf(samples, "varve_layer_download_bytes_total"), 30);
  assert.is(sampleOf(samples, "varve_reads_total"), 10);
  assert.is(sampleOf(samples, "varve_read_layers_total"), 25);
  assert.is(sampleOf(samples, "varve_ondemand_download_bytes_total", { cause: "prefetch" }), 20);
  assert.is(sampleOf(samples, "varve_ondemand_range_bytes_total", { cause: "compaction" }), 50);
  assert.is(sampleOf(samples, "varve_ondemand_downloads_total", { cause: "ingest" }), 0);
  assert.is(sampleOf(samples, "varve_read_layers_bucket", { le: "5" }), 2);
  assert.is(sampleOf(samples, "varve_read_layers_bucket", { le: "+Inf" }), 3);
  assert.is(sampleOf(samples, "varve_read_layers_sum"), 12);
});

test("hooks count connections, flushes and retries", async () => {
  const { metrics } = someMetrics();
  metrics.onConnections(1);
  metrics.onConnections(-1);
  metrics.onConnections(1);
  const event = { level: "info" as const, message: "" };
  metrics.onEvent({ ...event, topic: "flush.done", fields: { seconds: 0.2, layerBytes: 1000 } });
  metrics.onEvent({ ...event, topic: "flush.done", fields: { seconds: 3 } });
  metrics.onEvent({ ...event, topic: "flush.retry" });
  metrics.onEvent({ ...event, topic: "source.retry" });
  metrics.onEvent({ ...event, topic: "store.retry" });
  metrics.onEvent({ ...event, topic: "something.else" });
  const samples = await read(metrics);
  assert.is(sampleOf(samples, "varve_live_connections"), 1);
  assert.is(sampleOf(samples, "varve_connections_total"), 2);
  assert.is(sampleOf(samples, "varve_reconnects_total"), 1);
  assert.is(sampleOf(samples, "varve_flushes_total"), 2);
  assert.is(sampleOf(samples, "varve_flush_retries_total"), 1);
  assert.is(sampleOf(samples, "varve_store_retries_total"), 1);
  assert.is(sampleOf(samples, "varve_flushed_layer_bytes_total"), 1000);
  assert.is(sampleOf(samples, "varve_flush_seconds_sum"), 3.2);
  assert.is(sampleOf(samples, "varve_flush_seconds_bucket", { le: "0.25" }), 1);
  assert.is(sampleOf(samples, "varve_flush_seconds_bucket", { le: "+Inf" }), 2);
});

test("onStoreCall is what measured() reports to", async () => {
  const { clock, metrics } = someMetrics();
  const store = measured(new MemoryStore(), clock, metrics.onStoreCall);
  await store.put("a", new Uint8Array(100));
  await store.get("a");
  await store.getRange("a", 0, 10);
  await store.head("b").catch(() => {});
  const samples = await read(metrics);
  assert.is(sampleOf(samples, "varve_store_requests_total", { op: "put", outcome: "ok" }), 1);
  assert.is(sampleOf(samples, "varve_store_requests_total", { op: "head", outcome: "not_found" }), 1);
  assert.is(sampleOf(samples, "varve_store_bytes_total", { direction: "written" }), 100);
  assert.is(sampleOf(samples, "varve_store_bytes_total", { direction: "read" }), 110);
  assert.is(sampleOf(samples, "varve_store_request_seconds_count", { op: "get" }), 1);
});

test("/metrics gives the text, and two of them do not share a registry", async () => {
  const first = someMetrics();
  const second = someMetrics();
  first.metrics.onConnections(1);
  const app = createStatusApp({ board: first.board, metrics: first.metrics });
  const answer = await app.request("/metrics");
  assert.is(answer.headers.get("content-type"), first.metrics.contentType);
  assert.is(sampleOf(parsePrometheus(await answer.text()), "varve_live_connections"), 1);
  assert.is(sampleOf(await read(second.metrics), "varve_live_connections"), 0);
});

test.run();
