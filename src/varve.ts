/**
 * Composition root: from options to an attached reader or a running follower.
 *
 * Here the two paths, the store, the clock and the source are put together; algorithms live in `write/`, `read/` and
 * below. Everything that touches a runtime comes in through the options, so that the same engine runs on Deno, Bun, Node
 * and edge workers.
 *
 * @module
 */
import type { BlockCodec } from "./bytes/block_codec.ts";
import { PORTABLE_CODECS } from "./bytes/portable_codecs.ts";
import { UnavailableError } from "./errors.ts";
import type { LayerSummary } from "./layer/layer_writer.ts";
import type { MemorySnapshot } from "./layer/memory_snapshot.ts";
import type { FaultPoints } from "./ports/fault_points.ts";
import type { LayerEncoder } from "./ports/layer_encoder.ts";
import type { Manifest } from "./timeline/manifest.ts";
import { ManifestWriter, readManifest, type StoredManifest } from "./timeline/manifest_store.ts";
import { checkTimelineName } from "./timeline/object_keys.ts";
import type { Timeline } from "./timeline/timeline.ts";
import { type AttachedTimeline, type EngineOptions, loadWriterState, openTimeline } from "./read/attach.ts";
import { databaseContent } from "./read/database_content.ts";
import type { BackupDirectory } from "./ports/backup_directory.ts";
import { CollectionTask, type CollectionTaskOptions } from "./upkeep/collection_task.ts";
import type { RetentionChange } from "./upkeep/retain.ts";
import { UpkeepLoop, type UpkeepOptions } from "./upkeep/upkeep_loop.ts";
import { UpkeepTarget } from "./upkeep/upkeep_target.ts";
import { bootstrapFromFiles } from "./write/bootstrap_from_files.ts";
import { openArchive, type SegmentDirectory } from "./write/source/archive.ts";
import { bootstrapFromServer } from "./write/bootstrap_from_server.ts";
import { adoptLocalLayers } from "./write/adopt_local.ts";
import type { FeedbackKind } from "./write/feedback.ts";
import { Flusher } from "./write/flush.ts";
import { Follower, type FollowerOptions } from "./write/follower.ts";
import type { BackupProgress } from "./write/source/base_backup.ts";
import { followReplication } from "./write/source/replication.ts";
import { checkServerMatches, readServerFacts } from "./write/source/identify.ts";
import { openSession, type SourceAccess } from "./write/source/session.ts";
import { ConnectionStatusWatch } from "./write/source/status.ts";
import type { UntarFunction } from "./write/source/tar.ts";
import { startPointAfter } from "./write/source/wal_source.ts";
import { type VerifyOptions, WalVerifier } from "./upkeep/verify_wal.ts";
import type { Lsn } from "./lsn.ts";

/** How to write layers. */
export interface WriterOptions extends EngineOptions {
  /** Bytes of WAL after which the memory layer is flushed. Default 256 MiB. */
  checkpointDistance?: number;
  /** A memory layer with anything in it is flushed at this age, milliseconds. Default 10 minutes. */
  flushIntervalMs?: number;
  /** Compresses blocks of new layers: LZ4_CODEC, or one that readers must be given too. Default: none. */
  codec?: BlockCodec;
  /**
   * Encodes layers on another thread, where there is a processor for it: see `openLayerEncoder`. The caller closes it.
   * Default: none, layers are encoded on this thread.
   */
  encoder?: LayerEncoder<MemorySnapshot, LayerSummary>;
  /** Told of the places where a test may break in. */
  faults?: FaultPoints;
  /** Judges redo by the page images in WAL, all or a sample. Default: not. */
  verify?: VerifyOptions;
}

/** Whom to follow, and how. */
export interface FollowOptions extends WriterOptions {
  /** A PostgreSQL client, and where to connect. */
  source: Pick<SourceAccess, "driver" | "connection"> & { untar: UntarFunction };
  /** Physical replication slot, made where it is missing; null: none, WAL may be recycled under us. Default `varve`. */
  slot?: string | null;
  /**
   * What counts as durable when the server is told how far it may forget WAL: `store`, what the manifest in the store
   * names; `disk`, also what is in layers on this machine's disk (needs `local`). Default `store`.
   */
  acknowledge?: "store" | "disk";
  /** `neon` when the source is a Neon safekeeper. Default `postgres`. */
  feedback?: FeedbackKind;
  /** Ends in order once records up to here have been taken in. */
  until?: Lsn;
  /** How layers are compacted, and images made, beside following; false: they are not. Default: as UpkeepOptions say. */
  upkeep?: UpkeepOptions | false;
  /** Changes how much history the timeline keeps, which stays set; upkeep collects the rest. */
  retention?: RetentionChange;
  /** How often to collect, and how long objects of removed layers stay. */
  collection?: Omit<CollectionTaskOptions, "retention">;
  /** Told of the base backup's progress, when the timeline does not exist yet. */
  onBackupProgress?(progress: BackupProgress): void;
  /** Told of +1 for every connection made and -1 for every one gone. */
  onConnections?(change: 1 | -1): void;
  /** Breaks off the start; afterwards use `stop` or `abort`. */
  signal?: AbortSignal;
}

/** A follower that runs: its timeline can be read all the while. */
export interface Following extends AttachedTimeline {
  readonly follower: Follower;
  readonly connection: ConnectionStatusWatch;
  readonly flusher: Flusher;
  /** What judging redo has found, if that was asked for. */
  readonly verifier?: WalVerifier;
  /** Compaction and images, if they are made here. */
  readonly upkeep?: UpkeepLoop;
  /** What retention has done, where upkeep runs. */
  readonly collection?: CollectionTask;
}

/**
 * Follows a PostgreSQL server into a timeline.
 *
 * Takes a base backup when the timeline does not exist yet, else takes the timeline over from whoever wrote it before
 * (who is fenced) and goes on where the manifest says. Resolves when streaming has been started; it reconnects for ever.
 * The server is told as durable only what the manifest in the store names.
 *
 * @throws {MismatchError} If the server is not the one that the timeline was made from.
 * @throws {FencedError} If another writer takes the timeline over at the same moment.
 * @throws {PostgresError} If the server refuses us. @throws {UnavailableError} If server or store do not answer.
 */
export async function follow(options: FollowOptions): Promise<Following> {
  const { store, clock, events, source, slot = "varve", signal } = options;
  const name = options.timeline ?? "main";
  checkTimelineName(name);
  if (options.acknowledge === "disk" && options.local === undefined) {
    throw new TypeError("Cannot acknowledge what is on disk: no place for local layers was given");
  }
  const access: SourceAccess = { driver: source.driver, connection: source.connection, clock, events };
  const stored = await readManifest(store, name, signal);
  const manifest = stored === undefined
    ? await bootstrapFromServer({
      ...access,
      untar: source.untar,
      store,
      timeline: name,
      slot: slot ?? undefined,
      local: options.local,
      codec: options.codec,
      onProgress: options.onBackupProgress,
      signal,
    })
    : await checkedTakeOver(options, access, stored);
  const connection = new ConnectionStatusWatch();
  const writing = await startWriting(options, manifest, ({ timeline, flusher }) => ({
    until: options.until,
    openSource(signal) {
      const { facts } = timeline;
      const lastRecordLsn = timeline.lastRecordLsn;
      const stream = followReplication({
        ...access,
        lastRecordLsn,
        tli: timeline.tli,
        positions: {
          processed: () => timeline.lastRecordLsn,
          durable: () =>
            options.acknowledge === "disk" ? timeline.diskConsistentLsn : timeline.remoteConsistentLsn,
          diskConsistent: () => timeline.diskConsistentLsn,
        },
        expected: { ...facts, systemId: BigInt(facts.systemId) },
        slot: slot ?? undefined,
        feedback: options.feedback,
        status: connection,
        onConnections: options.onConnections,
        onFlushWanted: (lsn) => flusher.flushSoon(lsn),
        signal,
      });
      return { stream, startLsn: startPointAfter(lastRecordLsn, facts.walSegmentSize).normalized };
    },
  }));
  if (options.upkeep === false) return { ...writing, connection };
  return { ...writing, connection, ...startUpkeep(options, manifest, writing) };
}

/** Keeps up what is being written, for as long as it is. */
function startUpkeep(
  { store, clock, local, codec, events, faults, upkeep: policy, retention, collection: collecting }:
    FollowOptions,
  manifest: ManifestWriter,
  writing: Omit<Following, "connection">,
): Pick<Following, "upkeep" | "collection" | "close"> {
  const target = UpkeepTarget.ofWriter(
    { attached: writing, store, clock, local, codec, events, faults },
    manifest,
  );
  const collection = new CollectionTask({ ...collecting, retention });
  const given = policy === false ? {} : policy;
  const upkeep = new UpkeepLoop(target, { ...given, tasks: [collection, ...given?.tasks ?? []] });
  upkeep.start();
  const stop = () => upkeep.stop();
  writing.follower.done.then(stop, stop);
  const close = async () => {
    await upkeep.stop();
    await writing.close();
  };
  return { upkeep, collection, close };
}

/**
 * Takes over a timeline after a look at the source: a wrong one is refused before it costs the right writer its claim. A
 * server that does not answer is no reason to wait; it is checked again at every connection.
 */
async function checkedTakeOver(
  options: FollowOptions,
  access: SourceAccess,
  stored: StoredManifest,
): Promise<ManifestWriter> {
  const { signal, feedback = "postgres" } = options;
  const { facts } = stored.manifest;
  try {
    const session = feedback === "postgres" ? await openSession(access, signal) : undefined;
    try {
      if (session !== undefined) {
        const server = await readServerFacts(session, signal);
        checkServerMatches(
          session.identity,
          server,
          { ...facts, systemId: BigInt(facts.systemId) },
          session.description,
        );
      }
    } finally {
      await session?.close();
    }
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
  }
  return await takeOver(options, stored);
}

/** Claims a timeline that exists, with what so far was only on this machine's disk. */
export async function takeOver(
  options: WriterOptions & { signal?: AbortSignal },
  stored: StoredManifest,
): Promise<ManifestWriter> {
  const { store, clock, local, events, faults, signal, blockCodecs = PORTABLE_CODECS } = options;
  const change = async (manifest: Manifest) => {
    const adopted = local &&
      await adoptLocalLayers({ local, store, clock, manifest, codecs: blockCodecs, events, faults, signal });
    if (faults !== undefined) await faults("claim-before-commit");
    return adopted ?? {};
  };
  const claimed = await ManifestWriter.claim(store, clock, stored, signal, change);
  if (faults !== undefined) await faults("claim-after-commit");
  return claimed;
}

/** Opens a timeline that this process may write, and starts a follower on it. */
export async function startWriting(
  options: WriterOptions & { signal?: AbortSignal },
  manifest: ManifestWriter,
  source: (
    parts: { timeline: Timeline; flusher: Flusher },
  ) => Pick<FollowerOptions, "openSource" | "until" | "endOfWal">,
): Promise<Omit<Following, "connection">> {
  const { store, clock, events, faults, local, codec, encoder } = options;
  const { flushIntervalMs, checkpointDistance } = options;
  const attached = await openTimeline(manifest.manifest, {
    ...options,
    arena: encoder?.arena,
    writer: manifest,
  });
  const { timeline, reader, files } = attached;
  const state = await loadWriterState(attached, options.signal);
  const onResident = files.noteResident.bind(files);
  const flusher = new Flusher({
    timeline,
    manifest,
    store,
    clock,
    local,
    codec,
    encoder,
    flushIntervalMs,
    events,
    faults,
    onResident,
    onForgotten: (name) => {
      files.forget(name).then(() => local?.remove(name)).catch(() => {});
    },
  });
  const verifier = options.verify && new WalVerifier(reader, options.imageCodecs ?? {}, options.verify);
  const follower = new Follower({
    timeline,
    state,
    flusher,
    clock,
    events,
    faults,
    checkpointDistance,
    readDatabase: (spc, db, lsn, signal) => databaseContent(reader, spc, db, lsn, signal),
    inspect: verifier && ((signal) => verifier.stage(signal)),
    ...source({ timeline, flusher }),
  });
  return { ...attached, follower, flusher, verifier };
}

/** What to import. */
export interface ImportOptions extends WriterOptions {
  /** A base backup, or a cleanly stopped data directory. */
  base: BackupDirectory;
  /** The WAL from the backup's start on. */
  wal: SegmentDirectory;
  /** Stops at the first record end at or beyond this LSN. Default: the end of valid WAL. */
  until?: Lsn;
  onBackupProgress?(progress: { bytesDone: number; bytesTotal: number }): void;
  signal?: AbortSignal;
}

/**
 * Makes a timeline of a base backup and archived WAL, or goes on with one where its WAL ended; no server is needed.
 *
 * `follower.done` resolves when everything is durable.
 *
 * @throws {NotFoundError} If files or segments that are needed are missing. @throws {CorruptionError} If they are damaged.
 * @throws {MismatchError} If the WAL is another cluster's.
 */
export async function importTimeline(options: ImportOptions): Promise<Omit<Following, "connection">> {
  const { store, signal, base, wal } = options;
  const name = options.timeline ?? "main";
  checkTimelineName(name);
  const stored = await readManifest(store, name, signal);
  const manifest = stored === undefined
    ? await bootstrapFromFiles({ ...options, timeline: name, base, onProgress: options.onBackupProgress })
    : await takeOver(options, stored);
  const { facts, diskConsistentLsn, tli } = manifest.manifest;
  const { normalized: startLsn } = startPointAfter(diskConsistentLsn, facts.walSegmentSize);
  const archive = await openArchive({
    directory: wal,
    start: startLsn,
    tli,
    systemId: BigInt(facts.systemId),
    signal,
  });
  // Nobody waits for us: a sample is judged whole, too.
  const verify = options.verify && { waits: true, ...options.verify };
  return await startWriting({ ...options, verify }, manifest, () => ({
    until: options.until,
    endOfWal: "invalid",
    openSource: () => ({ stream: archive.stream, startLsn }),
  }));
}
