/**
 * What a timeline looks like at this moment, as plain values for JSON. Pure: it only looks.
 *
 * LSNs are texts (`0/16B3748`), times ISO 8601 in UTC, sizes bytes, durations seconds. Null: not known, or not there.
 *
 * @module
 */
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { recoverableWindow } from "../restore/window.ts";
import type { WalVerifySummary } from "../upkeep/verify_wal.ts";
import type { ConnectionStatus } from "../write/source/status.ts";
import { describeError, type ErrorSnapshot } from "./error_body.ts";
import { redact } from "./redact.ts";
import type { TimelineParts, TimelineState, WatchedTimeline } from "./watched_timeline.ts";

/** The server that is followed, and the connection to it. */
export interface SourceSnapshot {
  /** Where it is and as whom we connect, without password. */
  readonly description: string | null;
  readonly isConnected: boolean;
  /** Whether WAL was received and processed without errors on this connection. */
  readonly hasProcessedWal: boolean;
  /** When the connection was made, or its latest message came. */
  readonly latestConnectionUpdate: string | null;
  readonly latestWalUpdate: string | null;
  /** Up to where WAL was received on this connection. */
  readonly streamingLsn: string | null;
  /** How far the server's WAL reaches, as it said last. */
  readonly commitLsn: string | null;
  /** Whether all WAL was received that the server had when this connection was made. */
  readonly caughtUp: boolean;
  readonly lastReceivedMessageLsn: string | null;
  readonly lastReceivedMessageTime: string | null;
  /** The server's WAL that has not been taken in: bytes, and the age of the oldest of it. */
  readonly lagBytes: number | null;
  readonly lagSeconds: number | null;
}

/** Layer files by kind and place. `resident + remote = count`. */
export interface LayerCounts {
  readonly count: number;
  readonly delta: number;
  readonly image: number;
  readonly resident: number;
  readonly remote: number;
}

/** What can be restored as of now, of what is durable in the store; both ends included. Null: nothing yet. */
export interface WindowSnapshot {
  readonly fromLsn: string | null;
  readonly toLsn: string | null;
  readonly walBytes: number;
  /** Why it ends there, or why there is none. */
  readonly reason: string;
}

/** A timeline in this process. */
export interface TimelineSnapshot {
  readonly name: string;
  readonly state: TimelineState;
  /** Why following ended, when it did not end in order. */
  readonly failure: ErrorSnapshot | null;
  readonly systemId: string;
  /** Major version of PostgreSQL. */
  readonly major: number;
  /** PostgreSQL's timeline of the last record. */
  readonly tli: number;
  readonly walSegmentSizeBytes: number;
  readonly dataChecksums: boolean;
  /** Start of the base backup. */
  readonly startLsn: string;
  /** The earliest LSN that can be read: the end of the base backup. */
  readonly consistentLsn: string;
  /** The latest LSN that can be read. */
  readonly lastRecordLsn: string;
  readonly diskConsistentLsn: string;
  /** All WAL up to here is in the store. */
  readonly remoteConsistentLsn: string;
  readonly recoverable: WindowSnapshot;
  /** Main forks of all relations, now. Null for who only reads. */
  readonly logicalSizeBytes: number | null;
  /** Layer files with a local copy. */
  readonly residentPhysicalSizeBytes: number;
  /** All layer files, wherever they are. */
  readonly currentPhysicalSizeBytes: number;
  /** Layer files in the store that the manifest names. */
  readonly remotePhysicalSizeBytes: number;
  readonly layers: LayerCounts;
  /** Of layers that are not files yet. */
  readonly memoryBytes: number;
  /** Memory layers that wait for their flush. */
  readonly frozenLayers: number;
  /** Taken in by this process. */
  readonly walRecords: number;
  readonly walBytes: number;
  /** Records of kinds that are kept but not understood. */
  readonly unsupportedRecords: number;
  /** What judging redo has found so far; null where it is not judged. */
  readonly verification: WalVerifySummary | null;
  readonly source: SourceSnapshot | null;
}

/** A layer file. */
export interface LayerSnapshot {
  readonly name: string;
  readonly kind: "delta" | "image";
  /** `[lsnStart, lsnEnd)` of a delta layer; an image layer holds pages as of `lsnStart`. */
  readonly lsnStart: string;
  readonly lsnEnd: string;
  readonly sizeBytes: number;
  readonly location: "resident" | "remote";
  /** When it was read here last, by range or from its copy; null if it was not. */
  readonly lastAccess: string | null;
}

/** Differences of verification that are shown; all are counted. */
const DIFFERENCES_SHOWN = 10;

/** Looks at a timeline. */
export function snapshotTimeline(watched: WatchedTimeline): TimelineSnapshot {
  const { timeline, files, follower, verifier } = watched.parts;
  const { facts, layers } = timeline;
  // A flush has a local copy a moment before the layer is in the map.
  const resident = Math.min(files?.residentCount ?? 0, layers.count);
  const remoteConsistentLsn = formatLsn(timeline.remoteConsistentLsn);
  return {
    name: timeline.name,
    state: watched.state,
    failure: watched.failure === undefined ? null : describeError(watched.failure),
    systemId: facts.systemId,
    major: facts.major,
    tli: timeline.tli,
    walSegmentSizeBytes: facts.walSegmentSize,
    dataChecksums: facts.dataChecksums,
    startLsn: formatLsn(timeline.startLsn),
    consistentLsn: formatLsn(timeline.consistentLsn),
    lastRecordLsn: formatLsn(timeline.lastRecordLsn),
    // A flush counts once the store's manifest names its layer: the two go together.
    diskConsistentLsn: remoteConsistentLsn,
    remoteConsistentLsn,
    recoverable: snapshotWindow(watched),
    logicalSizeBytes: watched.logicalSizeBytes,
    residentPhysicalSizeBytes: files?.residentBytes ?? 0,
    currentPhysicalSizeBytes: layers.totalBytes,
    // A layer is in the map from the moment on at which the manifest names its object.
    remotePhysicalSizeBytes: layers.totalBytes,
    layers: {
      count: layers.count,
      delta: layers.deltaCount,
      image: layers.imageCount,
      resident,
      remote: layers.count - resident,
    },
    memoryBytes: timeline.memoryBytes,
    frozenLayers: timeline.frozen.length,
    walRecords: timeline.recordCount,
    walBytes: timeline.walBytes,
    unsupportedRecords: follower?.counters.unsupportedRecords ?? 0,
    verification: verifier?.summary(DIFFERENCES_SHOWN) ?? null,
    source: snapshotSource(watched),
  };
}

function snapshotWindow({ parts: { timeline } }: WatchedTimeline): WindowSnapshot {
  const { consistentLsn, remoteConsistentLsn, floorLsn } = timeline;
  const { from, to, reason } = recoverableWindow({
    consistentLsn,
    cutoffLsn: floorLsn,
    diskConsistentLsn: remoteConsistentLsn,
  });
  return {
    fromLsn: position(from ?? null),
    toLsn: position(to ?? null),
    walBytes: from === undefined || to === undefined ? 0 : to - from,
    reason,
  };
}

/** The layers of a timeline, newest first, from `offset` on. */
export function snapshotLayers(watched: WatchedTimeline, offset: number, limit: number): LayerSnapshot[] {
  const { timeline, files } = watched.parts;
  const layers = timeline.layers.layers().slice(offset, offset + limit);
  return layers.map((layer) => snapshotLayer(layer, files));
}

/** One layer. */
export function snapshotLayer(layer: LayerDescriptor, files: TimelineParts["files"]): LayerSnapshot {
  return {
    name: layer.name,
    kind: layer.kind,
    lsnStart: formatLsn(layer.lsnStart),
    lsnEnd: formatLsn(layer.lsnEnd),
    sizeBytes: layer.size,
    location: files?.isResident(layer.name) ? "resident" : "remote",
    lastAccess: time(files?.lastUsedMs?.(layer.name) ?? null),
  };
}

function snapshotSource(watched: WatchedTimeline): SourceSnapshot | null {
  const status: ConnectionStatus | undefined = watched.parts.connection?.current;
  if (status === undefined) return null;
  return {
    description: watched.source === null ? null : redact(watched.source),
    isConnected: status.isConnected,
    hasProcessedWal: status.hasProcessedWal,
    latestConnectionUpdate: time(status.latestConnectionUpdate),
    latestWalUpdate: time(status.latestWalUpdate),
    streamingLsn: position(status.streamingLsn),
    commitLsn: position(status.commitLsn),
    caughtUp: status.caughtUp,
    lastReceivedMessageLsn: position(status.lastReceivedMessageLsn),
    lastReceivedMessageTime: time(status.lastReceivedMessageTime),
    lagBytes: watched.lagBytes,
    lagSeconds: watched.lagSeconds,
  };
}

function position(lsn: Lsn | null): string | null {
  return lsn === null ? null : formatLsn(lsn);
}

/** Milliseconds since the epoch as text; 0 stands for never. */
function time(ms: number | null): string | null {
  return ms === null || ms === 0 ? null : new Date(ms).toISOString();
}
