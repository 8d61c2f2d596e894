/**
 * The metrics that are read off each timeline when somebody asks, as a table: name, what it says, where it comes from.
 *
 * All carry the label `timeline`. A value of null is left out, as for a reader that has no source.
 *
 * @module
 */
import type { Histogram } from "../flow/histogram.ts";
import type { WatchedTimeline } from "./watched_timeline.ts";

/** One metric. `name` goes without the prefix `varve_`. */
export interface MetricRow {
  readonly name: string;
  readonly help: string;
  /** Counters count since this process started. */
  readonly type: "gauge" | "counter";
  read(watched: WatchedTimeline): number | null;
}

/** Positions, lag and sizes. */
const GAUGES: Omit<MetricRow, "type">[] = [
  {
    name: "compaction_write_amplification_ratio",
    help: "Bytes of all layers made since the start over those that flushes made.",
    read: ({ parts }) => parts.upkeep?.writeAmplification ?? null,
  },
  {
    name: "last_record_lsn_bytes",
    help: "End of the last WAL record taken in, as a byte position.",
    read: ({ parts }) => parts.timeline.lastRecordLsn,
  },
  {
    name: "consistent_lsn_bytes",
    help: "The end of the base backup: pages are right from here on.",
    read: ({ parts }) => parts.timeline.consistentLsn,
  },
  {
    name: "cutoff_lsn_bytes",
    help: "The earliest position that can be read, but for what pins and branches hold.",
    read: ({ parts }) => parts.timeline.floorLsn,
  },
  {
    name: "disk_consistent_lsn_bytes",
    help: "All WAL up to here is in layer files.",
    read: ({ parts }) => parts.timeline.remoteConsistentLsn,
  },
  {
    name: "remote_consistent_lsn_bytes",
    help: "All WAL up to here is in layers that the manifest in the store names.",
    read: ({ parts }) => parts.timeline.remoteConsistentLsn,
  },
  {
    name: "recoverable_from_lsn_bytes",
    help: "The earliest position that can be restored.",
    read: ({ parts: { timeline } }) => Math.max(timeline.floorLsn, timeline.consistentLsn),
  },
  {
    name: "recoverable_wal_bytes",
    help:
      "WAL between the earliest and the latest position that can be restored from the store; 0 while there is none.",
    read: ({ parts: { timeline } }) =>
      Math.max(0, timeline.remoteConsistentLsn - Math.max(timeline.floorLsn, timeline.consistentLsn)),
  },
  {
    name: "replication_lag_bytes",
    help: "WAL of the server, as far as it told, that has not been taken in.",
    read: (watched) => watched.lagBytes,
  },
  {
    name: "replication_lag_seconds",
    help:
      "Age of the oldest WAL of the server that has not been taken in; grows while there is no connection.",
    read: (watched) => watched.lagSeconds,
  },
  {
    name: "caught_up",
    help: "1 once all WAL was received that the server had when the connection was made.",
    read: ({ parts: { connection } }) =>
      connection === undefined ? null : Number(connection.current.caughtUp),
  },
  {
    name: "following",
    help: "1 while the timeline is written here, 0 when that has ended or failed.",
    read: ({ parts, state }) => parts.follower === undefined ? null : Number(state === "following"),
  },
  {
    name: "logical_size_bytes",
    help: "Main forks of all relations in all databases, now.",
    read: (watched) => watched.logicalSizeBytes,
  },
  {
    name: "current_physical_size_bytes",
    help: "All layer files, local or not.",
    read: ({ parts }) => parts.timeline.layers.totalBytes,
  },
  {
    name: "resident_physical_size_bytes",
    help: "Layer files with a local copy.",
    read: ({ parts }) => parts.files?.residentBytes ?? 0,
  },
  {
    name: "remote_physical_size_bytes",
    help: "Layer files in the store that the manifest names.",
    read: ({ parts }) => parts.timeline.layers.totalBytes,
  },
  {
    name: "resident_layers",
    help: "Layers with a local copy.",
    read: ({ parts }) => parts.files?.residentCount ?? 0,
  },
  {
    name: "memory_layer_bytes",
    help: "Memory of layers that are not files yet.",
    read: ({ parts }) => parts.timeline.memoryBytes,
  },
  {
    name: "frozen_layers",
    help: "Memory layers that wait for their flush.",
    read: ({ parts }) => parts.timeline.frozen.length,
  },
  {
    name: "read_cache_bytes",
    help: "Memory of layer indexes and blocks that reads keep.",
    read: ({ parts }) => parts.fetcher?.cachedBytes ?? null,
  },
];

/** What upkeep has done; left out where there is none. */
const UPKEEP_COUNTERS: Omit<MetricRow, "type">[] = [
  {
    name: "compactions_total",
    help: "Times that layers were merged.",
    read: ({ parts }) => parts.upkeep?.counters.compactions ?? null,
  },
  {
    name: "compaction_replaced_layers_total",
    help: "Layers that compaction has replaced by others.",
    read: ({ parts }) => parts.upkeep?.counters.compactedLayers ?? null,
  },
  {
    name: "compaction_read_bytes_total",
    help: "Bytes of layers that compaction has replaced by others.",
    read: ({ parts }) => parts.upkeep?.counters.bytesRead ?? null,
  },
  {
    name: "compaction_layers_total",
    help: "Delta layers that compaction has made.",
    read: ({ parts }) => parts.upkeep?.counters.deltaLayers ?? null,
  },
  {
    name: "compaction_written_bytes_total",
    help: "Bytes of delta layers that compaction has made.",
    read: ({ parts }) => parts.upkeep?.counters.deltaBytes ?? null,
  },
  {
    name: "compaction_image_layers_total",
    help: "Image layers that were made where deltas had stacked up.",
    read: ({ parts }) => parts.upkeep?.counters.imageLayers ?? null,
  },
  {
    name: "compaction_image_bytes_total",
    help: "Bytes of these image layers.",
    read: ({ parts }) => parts.upkeep?.counters.imageBytes ?? null,
  },
  {
    name: "compaction_flushed_bytes_total",
    help: "Bytes of layers that flushes have made: what compaction's bytes are measured by.",
    read: ({ parts }) => parts.upkeep?.counters.flushedBytes ?? null,
  },
  {
    name: "compaction_failures_total",
    help: "Rounds of upkeep that did not get done.",
    read: ({ parts }) => parts.upkeep?.counters.failures ?? null,
  },
];

/** What retention has done. */
const GC_COUNTERS: Omit<MetricRow, "type">[] = [
  {
    name: "gc_runs_total",
    help: "Collections, whether there was anything to collect or not.",
    read: ({ parts }) => parts.collection?.counters.runs ?? null,
  },
  {
    name: "gc_collected_layers_total",
    help: "Layers that retention no longer needed.",
    read: ({ parts }) => parts.collection?.counters.collectedLayers ?? null,
  },
  {
    name: "gc_collected_bytes_total",
    help: "Bytes of these layers.",
    read: ({ parts }) => parts.collection?.counters.collectedBytes ?? null,
  },
  {
    name: "gc_deleted_objects_total",
    help: "Objects deleted: of removed layers once their grace time was over, and orphans.",
    read: ({ parts }) => parts.collection?.counters.deletedObjects ?? null,
  },
  {
    name: "gc_deleted_bytes_total",
    help: "Bytes of these objects.",
    read: ({ parts }) => parts.collection?.counters.deletedBytes ?? null,
  },
  {
    name: "gc_orphans_total",
    help: "Objects deleted that no manifest named.",
    read: ({ parts }) => parts.collection?.counters.orphans ?? null,
  },
];

/** What was done. */
const COUNTERS: Omit<MetricRow, "type">[] = [
  ...GC_COUNTERS,
  ...UPKEEP_COUNTERS,
  {
    name: "wal_ingested_bytes_total",
    help: "WAL taken in.",
    read: ({ parts }) => parts.timeline.walBytes,
  },
  {
    name: "wal_records_total",
    help: "WAL records taken in.",
    read: ({ parts }) => parts.timeline.recordCount,
  },
  {
    name: "unsupported_records_total",
    help: "WAL records of kinds that are kept but not understood.",
    read: ({ parts }) => parts.follower?.counters.unsupportedRecords ?? null,
  },
  {
    name: "layer_downloads_total",
    help: "Layers downloaded whole.",
    read: ({ parts }) => parts.files?.counters.downloads ?? null,
  },
  {
    name: "layer_download_bytes_total",
    help: "Bytes of layers downloaded whole.",
    read: ({ parts }) => parts.files?.counters.downloadedBytes ?? null,
  },
  {
    name: "layer_range_requests_total",
    help: "Ranges of layers read from the store.",
    read: ({ parts }) => parts.files?.counters.rangeRequests ?? null,
  },
  {
    name: "layer_range_bytes_total",
    help: "Bytes of ranges of layers read from the store.",
    read: ({ parts }) => parts.files?.counters.rangeBytes ?? null,
  },
  {
    name: "layer_download_failures_total",
    help: "Attempts to download a layer whole that failed.",
    read: ({ parts }) => parts.files?.counters.failedDownloads ?? null,
  },
  {
    name: "layer_downloads_refused_total",
    help: "Downloads not made because the local budget is full of layers that are read more often.",
    read: ({ parts }) => parts.files?.counters.notAdmitted ?? null,
  },
  {
    name: "layer_evictions_total",
    help: "Local copies removed to make room or on request.",
    read: ({ parts }) => parts.files?.counters.evictions ?? null,
  },
  {
    name: "layer_evicted_bytes_total",
    help: "Bytes of local copies removed to make room or on request.",
    read: ({ parts }) => parts.files?.counters.evictedBytes ?? null,
  },
  {
    name: "layer_damaged_copies_total",
    help: "Local copies found damaged, cut or gone, and read from the store again.",
    read: ({ parts }) => parts.files?.counters.damagedCopies ?? null,
  },
  {
    name: "reads_total",
    help: "Keys (pages, sizes, other values) looked up in layer files.",
    read: ({ parts }) => parts.fetcher?.counters.reads ?? null,
  },
  {
    name: "read_layers_total",
    help: "Layers visited by reads; over reads_total it is the layers per read.",
    read: ({ parts }) => parts.fetcher?.counters.layersVisited ?? null,
  },
  {
    name: "read_blocks_fetched_total",
    help: "Blocks of layers that reads fetched, those in the cache not counted.",
    read: ({ parts }) => parts.fetcher?.counters.blocksFetched ?? null,
  },
];

/** All of them. */
export const METRIC_ROWS: readonly MetricRow[] = [
  ...GAUGES.map((row): MetricRow => ({ ...row, type: "gauge" })),
  ...COUNTERS.map((row): MetricRow => ({ ...row, type: "counter" })),
];

/** Histograms that reads keep. */
export const HISTOGRAM_ROWS: readonly {
  readonly name: string;
  readonly help: string;
  read(watched: WatchedTimeline): Histogram | undefined;
}[] = [
  {
    name: "read_layers",
    help: "Layer files visited by one lookup of a key.",
    read: ({ parts }) => parts.fetcher?.layersPerRead,
  },
  {
    name: "read_requests",
    help: "Requests to the store made by one lookup of a key; 0 where all was at hand.",
    read: ({ parts }) => parts.fetcher?.requestsPerRead,
  },
  {
    name: "read_wait_seconds",
    help: "Duration of lookups that had to wait for layer files.",
    read: ({ parts }) => parts.fetcher?.waitSeconds,
  },
];
