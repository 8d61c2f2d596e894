/**
 * The manifest: the one mutable object of a timeline, and the authority on what it consists of.
 *
 * Both paths. A layer exists when the manifest names it; WAL up to `diskConsistentLsn` is in those layers; anything else
 * in the store is an orphan and anything newer must be streamed again. JSON, so that people can read it.
 *
 * Ordering (DESIGN 8): layer objects first, then the manifest that names them. Nothing counts as durable before.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { ClusterFacts } from "./facts.ts";

/**
 * The format that this build writes; each number says what it added.
 * 1: first. 2: layers' levels, cut-off, retention, pins, branches, ancestor, removed layers.
 */
export const MANIFEST_FORMAT = 2;

/** One layer as the manifest names it; key and LSN ranges are in the name. */
export interface ManifestLayer {
  readonly name: string;
  /** Bytes of the object. */
  readonly size: number;
  /** CRC-32C of the file's footer, which stands for the whole file. */
  readonly checksum: number;
  /** Image layers: absence of a key in it proves that the key does not exist (false for base backups). */
  readonly complete: boolean;
  /** 0: as the flush or the base backup wrote it; 1: made by compaction. */
  readonly level: number;
}

/** How much history is kept behind the newest; what both allow may be collected. Absent: kept for ever. */
export interface RetentionPolicy {
  /** Milliseconds. */
  readonly keepMs?: number;
  /** Bytes of WAL. */
  readonly keepWalBytes?: number;
}

/** Holds history: pages stay readable at exactly this LSN, also when the cut-off has passed it. */
export interface ManifestPin {
  readonly name: string;
  readonly lsn: Lsn;
  /** Milliseconds since the epoch; absent: until it is removed. */
  readonly expiresAtMs?: number;
}

/** Another timeline, and where its history leaves this one's. */
export interface BranchPoint {
  readonly timeline: string;
  /** The child begins with what its parent held at this LSN. */
  readonly lsn: Lsn;
}

/** A layer that the manifest no longer names; its object stays for a while, for readers that hold an older manifest. */
export interface RemovedLayer {
  readonly name: string;
  readonly size: number;
  /** When it was removed, milliseconds since the epoch. */
  readonly atMs: number;
}

/** See the module's description. Immutable: changes make a new one. */
export interface Manifest {
  readonly timeline: string;
  readonly facts: ClusterFacts;
  /** Writer epoch: grows with every writer that takes over. */
  readonly epoch: number;
  /** Nonce of the commit, so that a writer can tell whether a commit whose answer was lost was its own. */
  readonly commitId: string;
  /**
   * The commit by which this epoch's writer claimed the timeline, whoever has committed since: epochs are counted, and two
   * claims may mean the same one. Absent: a build that knows no claims has written.
   */
  readonly claimId?: string;
  /** PostgreSQL's timeline number that `diskConsistentLsn` is on. */
  readonly tli: number;
  /** Where history begins: the redo start of the base backup. */
  readonly startLsn: Lsn;
  /** Reads are right from here on: the end of the base backup. */
  readonly consistentLsn: Lsn;
  /** All WAL up to this record end is in the layers named here. */
  readonly diskConsistentLsn: Lsn;
  readonly layers: readonly ManifestLayer[];
  /**
   * History below is collected, or being collected: no read below is answered but at the LSNs of pins and branches. At
   * least `consistentLsn`, and never lower than it was.
   */
  readonly cutoffLsn: Lsn;
  readonly retention: RetentionPolicy;
  readonly pins: readonly ManifestPin[];
  /** Children: they need what this timeline held at their LSN. */
  readonly branches: readonly BranchPoint[];
  /** The parent, if this timeline began as a branch: what is not found here is read there, at or below that LSN. */
  readonly ancestor?: BranchPoint;
  /** Oldest first. Their objects are deleted first, then their lines. */
  readonly removed: readonly RemovedLayer[];
  /** When this was committed, milliseconds since the epoch. */
  readonly committedAtMs: number;
}

/** What a new timeline's manifest must say; the rest has defaults. */
export type ManifestStart =
  & Pick<
    Manifest,
    "timeline" | "facts" | "tli" | "startLsn" | "consistentLsn" | "diskConsistentLsn" | "layers"
  >
  & Partial<Pick<Manifest, "cutoffLsn" | "retention" | "ancestor">>;

/** A new timeline's first manifest, before its first commit gives it an epoch. */
export function startManifest(start: ManifestStart): Omit<Manifest, "epoch" | "commitId" | "committedAtMs"> {
  return { cutoffLsn: start.consistentLsn, retention: {}, pins: [], branches: [], removed: [], ...start };
}

/** What the manifest says of a layer. */
export function manifestLayer(descriptor: LayerDescriptor): ManifestLayer {
  const { name, size, checksum, complete, level } = descriptor;
  return { name, size, checksum, complete, level };
}

/**
 * The layer that a manifest's line stands for.
 *
 * @throws {CorruptionError} If the name is none.
 */
export function describeManifestLayer(layer: ManifestLayer, object: string): LayerDescriptor {
  const parsed = parseLayerName(layer.name);
  if (parsed === undefined) {
    throw new CorruptionError(`Cannot read the manifest: "${layer.name}" is no layer name`, { object });
  }
  const { kind, keyMin, keyMax, lsnStart, lsnEnd, epoch } = parsed;
  return { ...layer, kind, keyMin, keyMax, lsnStart, lsnEnd, epoch };
}
