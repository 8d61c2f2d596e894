/**
 * Metrics in Prometheus' text: what is read off the timelines of a board, and what hooks have counted.
 *
 * Made before following begins, for its hooks go into the options:
 * ```ts
 * const metrics = new VarveMetrics(board);
 * const store = measured(inner, clock, metrics.onStoreCall);
 * const following = await follow({ store, onConnections: metrics.onConnections, events: metrics.onEvent, ... });
 * board.add(following);
 * ```
 * Names begin with `varve_`, units are base units, counters end in `_total`.
 *
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "../deps/prom_client.ts";
import type { Histogram as KeptHistogram } from "../flow/histogram.ts";
import type { VarveEvent } from "../ports/events.ts";
import { FETCH_CAUSES, type TransferCounters } from "../read/fetch_counters.ts";
import type { VerifyCounts } from "../upkeep/verify_report.ts";
import type { StatusBoard } from "./board.ts";
import { HISTOGRAM_ROWS, METRIC_ROWS, type MetricRow } from "./metric_rows.ts";
import { VERSION } from "./version.ts";
import type { WatchedTimeline } from "./watched_timeline.ts";

/** A finished call of a store, as `store/measured.ts` reports it. */
export interface MeasuredCall {
  readonly operation: string;
  readonly outcome: string;
  readonly bytes: number;
  readonly seconds: number;
}

const PREFIX = "varve_";
const FLUSH_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const STORE_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Writers put bytes, all others get them. */
const WRITING = new Set(["put"]);

/** See the module's description. All hooks are bound, and may be handed on as they are. */
export class VarveMetrics {
  /** Holds nothing but varve's; `Registry.merge` joins it with one's own. */
  readonly registry: Registry = new Registry();
  readonly #board: StatusBoard;
  readonly #liveConnections = this.#gauge("live_connections", "Connections to sources that are open now.");
  readonly #connections = this.#counter("connections_total", "Connections to sources that were made.");
  readonly #reconnects = this.#counter(
    "reconnects_total",
    "Attempts to connect again after a connection or an attempt had failed.",
  );
  readonly #flushes = this.#counter("flushes_total", "Memory layers that became durable.");
  readonly #flushRetries = this.#counter("flush_retries_total", "Flushes that the store held up.");
  readonly #flushedBytes = this.#counter(
    "flushed_layer_bytes_total",
    "Bytes of layer files that flushes made.",
  );
  readonly #storeRetries = this.#counter(
    "store_retries_total",
    "Requests to the store that were sent again.",
  );
  readonly #flushSeconds = this.#histogram("flush_seconds", "Duration of flushes.", FLUSH_SECONDS, []);
  readonly #storeCalls = this.#counter("store_requests_total", "Requests to the store.", ["op", "outcome"]);
  readonly #storeBytes = this.#counter("store_bytes_total", "Content to and from the store.", ["direction"]);
  readonly #storeSeconds = this.#histogram(
    "store_request_seconds",
    "Duration of requests to the store.",
    STORE_SECONDS,
    ["op"],
  );

  constructor(board: StatusBoard) {
    this.#board = board;
    this.#gauge("build_info", "Always 1; the label says which varve this is.", ["version"])
      .set({ version: VERSION }, 1);
    for (const row of METRIC_ROWS) this.#add(row);
    this.#addLayers();
    this.#addVerification();
    this.#addTransfers();
    for (const { name, help, read } of HISTOGRAM_ROWS) this.#addHistogram(name, help, read);
  }

  /** For the header of an answer. */
  get contentType(): string {
    return this.registry.contentType;
  }

  /** Everything in Prometheus' text format. */
  metrics(): Promise<string> {
    return this.registry.metrics();
  }

  /** A hook for `FollowOptions.onConnections`. */
  readonly onConnections = (change: 1 | -1): void => {
    this.#liveConnections.inc(change);
    if (change === 1) this.#connections.inc();
  };

  /** A hook for `EngineOptions.events`; call it from a sink of your own if that has more to do. */
  readonly onEvent = (event: VarveEvent): void => {
    switch (event.topic) {
      case "flush.done":
        this.#flushes.inc();
        this.#flushSeconds.observe(numberOf(event, "seconds"));
        this.#flushedBytes.inc(numberOf(event, "layerBytes"));
        break;
      case "flush.retry":
        this.#flushRetries.inc();
        break;
      case "source.retry":
        this.#reconnects.inc();
        break;
      case "store.retry":
        this.#storeRetries.inc();
        break;
    }
  };

  /** A hook for `measured()` of store/measured.ts. */
  readonly onStoreCall = ({ operation, outcome, bytes, seconds }: MeasuredCall): void => {
    this.#storeCalls.inc({ op: operation, outcome });
    this.#storeBytes.inc({ direction: WRITING.has(operation) ? "written" : "read" }, bytes);
    this.#storeSeconds.observe({ op: operation }, seconds);
  };

  /** A metric that is worked out when it is asked for. */
  #add({ name, help, type, read }: MetricRow): void {
    const values = () =>
      this.#board.timelines().flatMap((watched) => {
        const value = read(watched);
        return value === null ? [] : [{ labels: { timeline: watched.name }, value }];
      });
    if (type === "gauge") {
      const gauge = this.#gauge(name, help, ["timeline"], () => {
        gauge.reset();
        for (const { labels, value } of values()) gauge.set(labels, value);
      });
    } else {
      const counter = this.#counter(name, help, ["timeline"], () => {
        counter.reset();
        for (const { labels, value } of values()) counter.inc(labels, value);
      });
    }
  }

  #addLayers(): void {
    const layers = this.#gauge("layers", "Layer files by kind.", ["timeline", "kind"], () => {
      layers.reset();
      for (const { name, parts: { timeline } } of this.#board.timelines()) {
        layers.set({ timeline: name, kind: "delta" }, timeline.layers.deltaCount);
        layers.set({ timeline: name, kind: "image" }, timeline.layers.imageCount);
      }
    });
  }

  /** Layer bytes from the store, by why they were fetched. */
  #addTransfers(): void {
    const add = (name: string, help: string, field: keyof TransferCounters) => {
      const counter = this.#counter(name, help, ["timeline", "cause"], () => {
        counter.reset();
        for (const { name, parts } of this.#board.timelines()) {
          for (const cause of FETCH_CAUSES) {
            const counters = parts.files?.counters.byCause?.[cause];
            if (counters !== undefined) counter.inc({ timeline: name, cause }, counters[field]);
          }
        }
      });
    };
    add("ondemand_downloads_total", "Layers downloaded whole, by cause.", "downloads");
    add("ondemand_download_bytes_total", "Bytes of layers downloaded whole, by cause.", "downloadedBytes");
    add("ondemand_ranges_total", "Ranges of layers read from the store, by cause.", "rangeRequests");
    add(
      "ondemand_range_bytes_total",
      "Bytes of ranges of layers read from the store, by cause.",
      "rangeBytes",
    );
  }

  /** A histogram that somebody else keeps: the registry asks for its values only. */
  #addHistogram(
    name: string,
    help: string,
    read: (watched: WatchedTimeline) => KeptHistogram | undefined,
  ): void {
    const metricName = PREFIX + name;
    const get = () => {
      const values = this.#board.timelines().flatMap((watched) => {
        const histogram = read(watched);
        return histogram === undefined ? [] : histogramValues(metricName, watched.name, histogram);
      });
      return Promise.resolve({ name: metricName, help, type: "histogram", values, aggregator: "sum" });
    };
    this.registry.registerMetric({ name: metricName, help, get, reset() {} } as unknown as Histogram);
  }

  /** What judging redo beside a follower has counted, by record type. */
  #addVerification(): void {
    const help = "WAL that passed unjudged, because judging a sample could not keep up.";
    const passed = this.#counter("verify_passed_bytes_total", help, ["timeline"], () => {
      passed.reset();
      for (const { name, parts: { verifier } } of this.#board.timelines()) {
        if (verifier !== undefined) passed.inc({ timeline: name }, verifier.passedBytes);
      }
    });
    for (const [column, help] of Object.entries(VERIFY_HELP)) {
      const counter = this.#counter(`verify_${column}_total`, help, ["timeline", "type"], () => {
        counter.reset();
        for (const { name, parts: { verifier } } of this.#board.timelines()) {
          for (const [type, counts] of verifier?.report.types ?? []) {
            counter.inc({ timeline: name, type }, counts[column as keyof VerifyCounts]);
          }
        }
      });
    }
  }

  #gauge(name: string, help: string, labelNames: string[] = [], collect?: () => void): Gauge {
    return new Gauge({ name: PREFIX + name, help, labelNames, collect, registers: [this.registry] });
  }

  #counter(name: string, help: string, labelNames: string[] = [], collect?: () => void): Counter {
    return new Counter({ name: PREFIX + name, help, labelNames, collect, registers: [this.registry] });
  }

  #histogram(name: string, help: string, buckets: number[], labelNames: string[]): Histogram {
    return new Histogram({ name: PREFIX + name, help, buckets, labelNames, registers: [this.registry] });
  }
}

/** One histogram as the registry's rows: cumulative buckets, sum, count. */
function histogramValues(metricName: string, timeline: string, histogram: KeptHistogram) {
  const buckets = histogram.cumulative().map((value, i) => ({
    labels: { timeline, le: histogram.bounds[i] },
    value,
    metricName: `${metricName}_bucket`,
  }));
  return [
    ...buckets,
    { labels: { timeline, le: "+Inf" }, value: histogram.count, metricName: `${metricName}_bucket` },
    { labels: { timeline }, value: histogram.sum, metricName: `${metricName}_sum` },
    { labels: { timeline }, value: histogram.count, metricName: `${metricName}_count` },
  ];
}

const VERIFY_HELP: Record<keyof VerifyCounts, string> = {
  records: "Records of which a page was judged by an image in WAL.",
  pages: "Pages compared with an image byte by byte.",
  positions: "Pages of which only pd_lsn was compared with an image's.",
  differences: "Pages that differ from PostgreSQL's, or that redo failed on.",
  unsupported: "Pages that could not be judged: a record of theirs cannot be replayed.",
  unread: "Pages that could not be judged: the store did not answer.",
};

function numberOf(event: VarveEvent, field: string): number {
  const value = event.fields?.[field];
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : 0;
}
