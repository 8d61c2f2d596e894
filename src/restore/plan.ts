/**
 * Restore, 1 of 3: what a data directory at an LSN consists of.
 *
 * Reads sizes, maps and small values of the timeline; no page. Left out on purpose:
 * - free space maps: most of their changes are not in WAL, so a map as of an LSN may promise room that is not there.
 *   PostgreSQL makes them anew, the next VACUUM fills them;
 * - main forks of unlogged relations: they are made of their init forks, as PostgreSQL does after a crash;
 * - what belongs to a running server: statistics, replication slots, snapshots, temporary files, signal files.
 *
 * @module
 */
import { CorruptionError, NotFoundError } from "../errors.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import {
  FAMILY_CLUSTER_STATE,
  FAMILY_CONTROL_FILE,
  FAMILY_DATABASE,
  FAMILY_FILE,
  FAMILY_ORIGIN,
  FAMILY_RELATION,
  FAMILY_RELMAP,
  FAMILY_SLRU,
  FAMILY_TABLESPACE,
  FAMILY_TWO_PHASE,
  type KeySpace,
} from "../layer/key.ts";
import { type ClusterState, decodeClusterState } from "../postgres/effects/cluster_state.ts";
import { type ControlFile, parseControlFile } from "../postgres/files/control_file.ts";
import {
  databaseDirectory,
  DEFAULTTABLESPACE_OID,
  GLOBALTABLESPACE_OID,
  parseDatabaseDirectory,
  relationPath,
  tablespaceVersionDirectory,
} from "../postgres/files/relation_path.ts";
import { RELMAPPER_FILENAME } from "../postgres/files/relmap.ts";
import { FSM_FORKNUM, INIT_FORKNUM, MAIN_FORKNUM } from "../postgres/page/masks.ts";
import { BLCKSZ } from "../postgres/page/page.ts";
import { type SlruKind, slruSegmentPath } from "../postgres/page/slru.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { decodeFilePiece } from "../timeline/small_files.ts";

/** Blocks in one file of a relation, `RELSEG_SIZE`. */
export const RELATION_SEGMENT_BLOCKS = 131_072;

/** A fork of a relation, or a segment of an SLRU: pages that go to files. */
export interface PlannedFork {
  readonly space: KeySpace;
  readonly blocks: number;
  /** Path of a file of it by its number, from 0; an unlogged relation's init fork has two. */
  readonly paths: readonly ((segment: number) => string)[];
}

/** A small file, whole. */
export interface PlannedFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** See the module's description. */
export interface RestorePlan {
  readonly lsn: Lsn;
  readonly profile: VersionProfile;
  /** In key order: relations, then SLRU segments. */
  readonly forks: readonly PlannedFork[];
  readonly databases: readonly { readonly spc: number; readonly db: number }[];
  /** Where each user tablespace was, by its oid. */
  readonly tablespaces: ReadonlyMap<number, string>;
  /** Of databases, and others that files lie in; parents first. */
  readonly directories: readonly string[];
  /** Relation maps, version files, configuration. */
  readonly files: readonly PlannedFile[];
  /** Contents of pg_twophase, by full transaction id. */
  readonly preparedTransactions: ReadonlyMap<number, Uint8Array>;
  readonly origins: ReadonlyMap<number, bigint>;
  readonly state: ClusterState;
  /** pg_control as it was backed up. */
  readonly controlBytes: Uint8Array;
  readonly control: ControlFile;
  readonly relations: number;
  readonly pages: number;
}

/** Bytes of pages that a plan writes. */
export function plannedBytes(plan: RestorePlan): number {
  return plan.pages * BLCKSZ;
}

/**
 * Plans a restore.
 *
 * @param database Only this one and the shared catalogs.
 * @throws {NotFoundError} If the database does not exist at that LSN.
 * @throws {LsnNotReachedError | LsnCollectedError} If the LSN cannot be read.
 */
export async function planRestore(
  reader: TimelineReader,
  lsn: Lsn,
  options: { database?: number; signal?: AbortSignal } = {},
): Promise<RestorePlan> {
  const { database, signal } = options;
  const profile = profileOfMajor(reader.timeline.facts.major);
  const state = decodeClusterState(await required(reader, FAMILY_CLUSTER_STATE, lsn, signal));
  const controlBytes = await required(reader, FAMILY_CONTROL_FILE, lsn, signal);
  const control = parseControlFile(controlBytes, profile);
  const versionDirectory = tablespaceVersionDirectory(profile.major, control.catalogVersion);
  const isWanted = (db: number) => database === undefined || db === 0 || db === database;
  const list = (family: number) => reader.listValues(family, lsn, { signal });

  const tablespaces = new Map(
    (await list(FAMILY_TABLESPACE)).map(({ space, bytes }) => [space.a, new TextDecoder().decode(bytes)]),
  );
  const isThere = (spc: number) =>
    spc === DEFAULTTABLESPACE_OID || spc === GLOBALTABLESPACE_OID || tablespaces.has(spc);
  const relations = (await reader.listSizes(FAMILY_RELATION, lsn, { signal })).filter(({ space }) =>
    isWanted(space.b) && isThere(space.a)
  );
  const forks = [
    ...planRelations(relations, versionDirectory),
    ...(await reader.listSizes(FAMILY_SLRU, lsn, { signal })).map(({ space, blocks = 0 }) => ({
      space,
      blocks,
      paths: [() => slruSegmentPath(space.a as SlruKind, space.c)],
    })),
  ];
  // What lay in a tablespace that is gone went with it.
  const maps = (await list(FAMILY_RELMAP)).filter(({ space }) => isWanted(space.b) && isThere(space.a));
  const databases = listDatabases(
    [...(await list(FAMILY_DATABASE)).map(({ space }) => space), ...relations.map(({ space }) => space)]
      .filter(({ a, b }) => isWanted(b) && isThere(a)),
  );
  if (database !== undefined && !databases.some(({ db }) => db === database)) {
    throw new NotFoundError(
      `Cannot restore database ${database}: it does not exist at LSN ${formatLsn(lsn)}`,
    );
  }
  const databaseDirectories = databases.map(({ spc, db }) => databaseDirectory(spc, db, versionDirectory));
  const files = [
    ...maps.flatMap(({ space, bytes }) => mapFiles(space, bytes, versionDirectory, profile)),
    ...smallFiles(await list(FAMILY_FILE)),
  ];
  return {
    lsn,
    profile,
    forks,
    databases,
    tablespaces,
    directories: withParents([
      ...[...tablespaces.keys()].map((oid) => `pg_tblspc/${oid}/${versionDirectory}`),
      ...databaseDirectories,
      ...files.map(({ path }) => path.slice(0, Math.max(path.lastIndexOf("/"), 0))),
    ]),
    files,
    preparedTransactions: new Map(
      (await list(FAMILY_TWO_PHASE)).map(({ space, bytes }) => [space.a * 0x1_0000_0000 + space.b, bytes]),
    ),
    origins: new Map(
      (await list(FAMILY_ORIGIN)).map(({ space, bytes }) => [
        space.a,
        new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true),
      ]),
    ),
    state,
    controlBytes,
    control,
    relations:
      forks.filter(({ space }) => space.family === FAMILY_RELATION && space.d === MAIN_FORKNUM).length,
    pages: forks.reduce((sum, { blocks, paths }) => sum + blocks * paths.length, 0),
  };
}

async function required(
  reader: TimelineReader,
  family: number,
  lsn: Lsn,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const bytes = await reader.getValue({ family, a: 0, b: 0, c: 0, d: 0 }, 0, lsn, { signal });
  if (bytes !== undefined) return bytes;
  const what = family === FAMILY_CONTROL_FILE ? "control file" : "cluster state";
  throw new CorruptionError(`Cannot restore: timeline "${reader.timeline.name}" has no ${what}`, { lsn });
}

/** Forks that are written, each to its files. `sizes` are in key order, so that forks of a relation are neighbours. */
function planRelations(
  sizes: readonly { space: KeySpace; blocks: number | undefined }[],
  versionDirectory: string,
): PlannedFork[] {
  const unlogged = new Set(
    sizes.filter(({ space }) => space.d === INIT_FORKNUM).map(({ space }) => relationName(space)),
  );
  const path = ({ a, b, c }: KeySpace, fork: number) => (segment: number) =>
    relationPath({ spc: a, db: b, rel: c, fork, segment }, versionDirectory);
  const forks: PlannedFork[] = [];
  for (const { space, blocks = 0 } of sizes) {
    if (space.d === FSM_FORKNUM) continue;
    if (space.d === INIT_FORKNUM) {
      forks.push({ space, blocks, paths: [path(space, INIT_FORKNUM), path(space, MAIN_FORKNUM)] });
    } else if (!unlogged.has(relationName(space))) {
      forks.push({ space, blocks, paths: [path(space, space.d)] });
    }
  }
  return forks;
}

function relationName({ a, b, c }: KeySpace): string {
  return `${a}/${b}/${c}`;
}

/** Directories of databases, each once. */
function listDatabases(spaces: readonly KeySpace[]): { spc: number; db: number }[] {
  const found = new Map<string, { spc: number; db: number }>();
  for (const { a: spc, b: db } of spaces) if (db !== 0) found.set(`${spc}/${db}`, { spc, db });
  return [...found.values()];
}

/** A database's map, and beside it the version file that makes its directory one. */
function mapFiles(
  { a: spc, b: db }: KeySpace,
  bytes: Uint8Array,
  versionDirectory: string,
  profile: VersionProfile,
): PlannedFile[] {
  const directory = databaseDirectory(spc, db, versionDirectory);
  const map = { path: `${directory}/${RELMAPPER_FILENAME}`, bytes };
  if (spc === GLOBALTABLESPACE_OID) return [map];
  return [map, { path: `${directory}/PG_VERSION`, bytes: new TextEncoder().encode(`${profile.major}\n`) }];
}

/** Of a running server, or of the backup, or made by restore itself. */
const NOT_RESTORED =
  /^(?:pg_logical\/(?:snapshots|mappings)\/|pg_(?:wal|stat|stat_tmp|replslot|twophase)\/|current_logfiles|(?:recovery|standby)\.signal$|(?:backup_label|tablespace_map|recovery\.done)|postmaster\.|postgresql\.auto\.conf\.tmp$)/;

/** Small files in whole, those in databases' directories left out: their version files come with their maps. */
function smallFiles(values: readonly { bytes: Uint8Array }[]): PlannedFile[] {
  const pieces = new Map<string, { total: number; parts: Uint8Array[] }>();
  for (const value of values) {
    const { path, pieces: total, bytes } = decodeFilePiece(value.bytes);
    const directory = path.slice(0, Math.max(path.lastIndexOf("/"), 0));
    if (
      NOT_RESTORED.test(path) || (directory !== "global" && parseDatabaseDirectory(directory) !== undefined)
    ) {
      continue;
    }
    const file = pieces.get(path) ?? { total, parts: [] };
    file.parts.push(bytes);
    pieces.set(path, file);
  }
  return [...pieces].map(([path, { total, parts }]) => {
    if (parts.length !== total) {
      throw new CorruptionError("Cannot restore a file: pieces of it are missing", {
        object: path,
        expected: total,
        got: parts.length,
      });
    }
    return { path, bytes: concat(parts) };
  });
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Directories and all above them, parents first, each once; those of tablespaces begin below their links. */
function withParents(directories: readonly string[]): string[] {
  const found = new Set<string>();
  for (const directory of directories) {
    const names = directory.split("/");
    for (let depth = 1; depth <= names.length; depth++) found.add(names.slice(0, depth).join("/"));
  }
  found.delete("");
  return [...found].filter((path) => !/^pg_tblspc(?:\/\d+)?$/.test(path)).sort();
}
