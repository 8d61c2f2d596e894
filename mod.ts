/**
 * varve follows a stock PostgreSQL server's write-ahead log into immutable layers on object storage, and reads any page
 * back as of any LSN.
 *
 * This is the portable part: pure web-standard TypeScript for Deno, Bun, Node and edge workers. What needs a runtime or a
 * third-party package is in entry points of its own, so that only who uses it loads it:
 *
 * | entry point            | from URL or checkout           | what it holds                                   |
 * | ---------------------- | ------------------------------ | ----------------------------------------------- |
 * | `@varve/varve`         | `mod.ts`                       | this: reading, following, the stages, the ports |
 * | `@varve/varve/postgres`| `src/deps/postgres_source.ts`  | the PostgreSQL client: needed to follow         |
 * | `@varve/varve/files`   | `src/store/files.ts`           | a store in a directory                          |
 * | `@varve/varve/s3`      | `src/store/minio.ts`           | a store in an S3 bucket                         |
 * | `@varve/varve/encoder` | `src/deps/layer_encoder.ts`    | encodes layers on another thread (Deno, Bun)    |
 * | `@varve/varve/status`  | `src/status/app.ts`            | the status app, to mount in a Hono app          |
 *
 * ```ts
 * import { attachReader, parseLsn, systemClock } from "@varve/varve";
 *
 * const attached = await attachReader({ store, clock: systemClock });
 * const page = await attached.reader.getPage({ spc: 1663, db: 5, rel: 16384 }, 0, 7, parseLsn("0/3A5C2F8"));
 * await attached.close();
 * ```
 *
 * @module
 */

// Reading and following ----------------------------------------------------------------------------------------------

export {
  type AttachedTimeline,
  attachReader,
  type EngineOptions,
  loadWriterState,
  openTimeline,
} from "./src/read/attach.ts";
export {
  follow,
  type Following,
  type FollowOptions,
  type ImportOptions,
  importTimeline,
  startWriting,
  type WriterOptions,
} from "./src/varve.ts";
export { type ReadOptions, type SpaceSize, TimelineReader } from "./src/read/get_page.ts";
export type { LayerFetcher } from "./src/read/fetch.ts";
export type { Eviction, LayerFiles } from "./src/read/layer_files.ts";
export type { ResidencyOptions } from "./src/read/residency.ts";
export { DownloadTask } from "./src/read/download_all.ts";
export { type ScannedPages, scanRelation, type ScanRelationOptions } from "./src/read/relation_scan.ts";
export type { NewestValue } from "./src/read/newest_values.ts";
export { databaseContent, type DatabasePage } from "./src/read/database_content.ts";
export { Timeline, type TimelineView } from "./src/timeline/timeline.ts";
export type { ClusterFacts } from "./src/timeline/facts.ts";
export type { Manifest, ManifestLayer } from "./src/timeline/manifest.ts";
export {
  type ManifestChange,
  ManifestWriter,
  readManifest,
  type StoredManifest,
} from "./src/timeline/manifest_store.ts";
export type { RelationId } from "./src/postgres/effects/effect_sink.ts";
export { FAMILY_RELATION, FAMILY_SLRU, type KeySpace } from "./src/layer/key.ts";
export type { LayerDescriptor } from "./src/layer/layer_descriptor.ts";
export type { LayerMap } from "./src/layer/layer_map.ts";
export type { MemoryLayer } from "./src/layer/memory_layer.ts";

// Upkeep: compaction and images, beside a follower or as a guest -----------------------------------------------------

export { compact, type CompactionResult, type CompactOptions } from "./src/upkeep/compact.ts";
export type { CompactionPolicy } from "./src/upkeep/compact_plan.ts";
export { type ImageOptions, type ImagesResult, makeImages } from "./src/upkeep/images.ts";
export type { ImagePolicy } from "./src/upkeep/images_plan.ts";
export { Pacer, type PacerOptions } from "./src/upkeep/pacer.ts";
export {
  type UpkeepCounters,
  UpkeepLoop,
  type UpkeepOptions,
  type UpkeepTask,
} from "./src/upkeep/upkeep_loop.ts";
export { type UpkeepParts, UpkeepTarget } from "./src/upkeep/upkeep_target.ts";

// Verification: redo judged by the images that PostgreSQL writes, beside a follower or in a store; histories of pages ---

export { type StoreVerifyOptions, type StoreVerifyProgress, verifyStore } from "./src/upkeep/verify_store.ts";
export { type VerifyOptions, WalVerifier, type WalVerifySummary } from "./src/upkeep/verify_wal.ts";
export {
  type VerifyCounts,
  type VerifyDifference,
  type VerifyDifferenceSummary,
  VerifyReport,
  type VerifySummary,
} from "./src/upkeep/verify_report.ts";
export { type PageEvent, pageHistory, type PageHistoryOptions } from "./src/read/page_history.ts";
export { describeRecord } from "./src/postgres/wal/describe.ts";
export type { RedoContext, RedoFunction, RedoTarget } from "./src/postgres/redo/registry.ts";

// History: retention, collection, pins, branches ---------------------------------------------------------------------

export {
  type BranchOptions,
  createBranch,
  deleteTimeline,
  listBranches,
  type TimelineListing,
} from "./src/upkeep/branch.ts";
export { type PinOptions, removePin, setPin } from "./src/upkeep/pins.ts";
export { collect, type CollectionOptions, type CollectionPlan, planCollection } from "./src/upkeep/gc.ts";
export { CollectionTask, type CollectionTaskOptions } from "./src/upkeep/collection_task.ts";
export { findOrphans, type Orphan } from "./src/upkeep/orphans.ts";
export type { RetentionChange } from "./src/upkeep/retain.ts";
export type { BranchPoint, ManifestPin, RemovedLayer, RetentionPolicy } from "./src/timeline/manifest.ts";
export { updateManifest } from "./src/timeline/manifest_store.ts";

// Times and LSNs -----------------------------------------------------------------------------------------------------

export {
  lsnOfRestorePoint,
  lsnOfTimestamp,
  lsnOfXid,
  type MomentFound,
  restorePoints,
  type TimeSearch,
  timestampOfLsn,
} from "./src/read/time.ts";
export type { TransactionEnd } from "./src/timeline/time_values.ts";

// Restore: a data directory at any LSN, and what changed between two ---------------------------------------------------

export { type PreparedRestore, prepareRestore, restore, writeRestore } from "./src/restore/restore.ts";
export type { RestoreOptions, RestoreProgress, RestoreRole, RestoreSummary } from "./src/restore/options.ts";
export {
  type VerifiedDirectory,
  verifyDirectory,
  type VerifyDirectoryOptions,
} from "./src/restore/verify.ts";
export {
  findMissingLayers,
  type MissingLayer,
  type RecoverableWindow,
  recoverableWindow,
} from "./src/restore/window.ts";
export { type BlockSet, type DiffOptions, diffRelations, type ForkChange } from "./src/restore/diff.ts";
export { restoreTar, type RestoreTarOptions } from "./src/store/restore_tar.ts";
export type { RestoreFile, RestoreTarget } from "./src/ports/restore_target.ts";

// Positions in WAL ---------------------------------------------------------------------------------------------------

export {
  alignLsn,
  formatLsn,
  INVALID_LSN,
  type Lsn,
  lsn,
  lsnFromHalves,
  lsnHigh,
  lsnLow,
  parseLsn,
} from "./src/lsn.ts";

// Errors, grouped by what the caller should do -----------------------------------------------------------------------

export {
  CorruptionError,
  type CorruptionPosition,
  FencedError,
  LsnCollectedError,
  LsnNotReachedError,
  MismatchError,
  NotFoundError,
  PostgresError,
  PreconditionFailedError,
  ProtocolError,
  UnavailableError,
  UnsupportedError,
  VarveError,
  type VarveErrorOptions,
  WalLostError,
} from "./src/errors.ts";

// The write path's stages: standard web streams, to tee, insert or replace -------------------------------------------

export { type PipelineOptions, runPipeline } from "./src/write/pipeline.ts";
export {
  followReplication,
  openReplication,
  type ReplicationOptions,
  type ReplicationPositions,
} from "./src/write/source/replication.ts";
export {
  type Archive,
  type ArchiveOptions,
  openArchive,
  type SegmentDirectory,
} from "./src/write/source/archive.ts";
export { type StartPoint, startPointAfter, type WalChunk } from "./src/write/source/wal_source.ts";
export { decodeWal } from "./src/write/decode.ts";
export type { EndOfWal, WalAssemblerOptions } from "./src/postgres/wal/assembler.ts";
export {
  type CopiedPage,
  type DatabaseContent,
  type IngestCounters,
  type IngestOptions,
  ingestWal,
} from "./src/write/ingest.ts";
export type { ClusterState } from "./src/postgres/effects/cluster_state.ts";
export type { Modification } from "./src/layer/modification.ts";
export { type SinkOptions, timelineSink } from "./src/write/sink.ts";
export { Flusher, type FlusherOptions } from "./src/write/flush.ts";
export { Follower, type FollowerOptions } from "./src/write/follower.ts";
export type { FeedbackKind } from "./src/write/feedback.ts";

// The source: where it is, and how the connection does ---------------------------------------------------------------

export {
  type ConnectionFields,
  type ConnectionInput,
  ConnectionOptions,
  resolveConnection,
  type SslMode,
} from "./src/write/source/connection_options.ts";
export type { RecordedServer } from "./src/write/source/identify.ts";
export type { BackupProgress } from "./src/write/source/base_backup.ts";
export type { SourceAccess } from "./src/write/source/session.ts";
export {
  type ConnectionStatus,
  ConnectionStatusWatch,
  type StatusListener,
} from "./src/write/source/status.ts";
export type { DecodedTarEntry, UntarFunction } from "./src/write/source/tar.ts";

// What WAL and pages mean --------------------------------------------------------------------------------------------

export type { RecordBatch } from "./src/postgres/wal/record_batch.ts";
export type { WalIdentity } from "./src/postgres/wal/page_header.ts";
export { DecodedRecord } from "./src/postgres/wal/record.ts";
export { rmgrName } from "./src/postgres/wal/rmgr.ts";
export { type RecordSums, type StatisticsRow, WalStatistics } from "./src/postgres/wal/statistics.ts";
export type { ImageCodecs } from "./src/postgres/wal/block_image.ts";
export { Page } from "./src/postgres/page/page.ts";
export type { SlruKind } from "./src/postgres/page/slru.ts";
export {
  FSM_FORKNUM,
  INIT_FORKNUM,
  MAIN_FORKNUM,
  managerOfPage,
  maskPage,
  VISIBILITYMAP_FORKNUM,
} from "./src/postgres/page/masks.ts";
export { profileOfMajor } from "./src/postgres/versions/all.ts";
export type { Major, VersionProfile } from "./src/postgres/versions/profile.ts";

// Ports: what the engine is given, and what each method promises -----------------------------------------------------

export type {
  ByteRange,
  CallOptions,
  Etag,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutCondition,
  PutOptions,
  StreamOptions,
} from "./src/ports/object_store.ts";
export type { LocalLayerFile, LocalLayers, LocalLayerWriter } from "./src/ports/local_layers.ts";
export type { BackupDirectory, BackupDirectoryEntry } from "./src/ports/backup_directory.ts";
export type { LayerEncoder } from "./src/ports/layer_encoder.ts";
export type { ByteArena } from "./src/bytes/arena.ts";
export type { MemorySnapshot } from "./src/layer/memory_snapshot.ts";
export type { LayerSummary } from "./src/layer/layer_writer.ts";
export type { Clock } from "./src/ports/clock.ts";
export type { EventLevel, EventSink, VarveEvent } from "./src/ports/events.ts";
export type { FaultPoint, FaultPoints } from "./src/ports/fault_points.ts";
export type {
  CopyControl,
  CopyReceiver,
  DriverConnection,
  DriverRow,
  DriverTarget,
  DriverTls,
  PostgresDriver,
  ServerError,
  TransportError,
} from "./src/ports/postgres_driver.ts";
export { type BlockCodec, BlockCodecs } from "./src/bytes/block_codec.ts";
export { LZ4_CODEC, PORTABLE_CODECS } from "./src/bytes/portable_codecs.ts";

// What comes with it, portable as the rest ---------------------------------------------------------------------------

export { systemClock } from "./src/flow/system_clock.ts";
export { MemoryStore, type MemoryStoreOptions } from "./src/store/memory.ts";
export { measured, type StoreCall, type StoreOperation, type StoreOutcome } from "./src/store/measured.ts";
export type { BackoffOptions } from "./src/flow/backoff.ts";
export { retrying, type RetryingStoreOptions } from "./src/store/retrying.ts";
