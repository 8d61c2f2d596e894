/**
 * Paths in a data directory and the relations they belong to, in both directions.
 *
 * Bootstrap turns the backup's files into relations, restore relations into files (`GetRelationPath`,
 * common/relpath.c; `parse_filename_for_nontemp_relation`, storage/file/reinit.c; 14-18):
 * ```
 * global/<rel>                                         tablespace 1664, database 0
 * base/<db>/<rel>                                      tablespace 1663
 * pg_tblspc/<spc>/PG_<major>_<catalog version>/<db>/<rel>
 * ```
 * A relation's name goes on with `_fsm`, `_vm` or `_init` for forks other than the main one, then with `.<n>` for
 * its files after the first (1 GiB each by default). `t<n>_<rel>` are temporary relations, which no WAL mentions.
 *
 * @module
 */

import { MAIN_FORKNUM } from "../page/masks.ts";

export const DEFAULTTABLESPACE_OID = 1663;
export const GLOBALTABLESPACE_OID = 1664;

/** `forkNames`, common/relpath.c; varve's own texts use the same words. */
export const FORK_NAMES: readonly string[] = ["main", "fsm", "vm", "init"];

/** One file of one fork of a relation. */
export interface RelationFile {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  /** `*_FORKNUM`. */
  readonly fork: number;
  /** Which file of the fork, from 0. */
  readonly segment: number;
}

/** A directory that holds relations: a database in a tablespace, or the shared catalogs (1664, 0). */
export interface DatabaseDirectory {
  readonly spc: number;
  readonly db: number;
}

const OID = "[1-9][0-9]{0,9}";
const DIRECTORY = new RegExp(`^(?:global|base/(${OID})|pg_tblspc/(${OID})/PG_[0-9]+_[0-9]+/(${OID}))$`);
const FILE_NAME = new RegExp(`^(${OID})(?:_(fsm|vm|init))?(?:\\.(${OID}))?$`);

/**
 * The database whose directory this is.
 *
 * @param path Relative to the data directory, with slashes.
 * @returns Undefined when it is no directory of relations.
 */
export function parseDatabaseDirectory(path: string): DatabaseDirectory | undefined {
  const match = DIRECTORY.exec(path);
  if (match === null) return undefined;
  if (match[1] !== undefined) return withValidOids({ spc: DEFAULTTABLESPACE_OID, db: Number(match[1]) });
  if (match[2] !== undefined) return withValidOids({ spc: Number(match[2]), db: Number(match[3]) });
  return { spc: GLOBALTABLESPACE_OID, db: 0 };
}

function withValidOids(directory: DatabaseDirectory): DatabaseDirectory | undefined {
  return directory.spc <= 0xffffffff && directory.db <= 0xffffffff ? directory : undefined;
}

/**
 * The relation file that has this path.
 *
 * @param path Relative to the data directory, with slashes.
 * @returns Undefined when it is none: another file, or one of a temporary relation.
 */
export function parseRelationPath(path: string): RelationFile | undefined {
  const slash = path.lastIndexOf("/");
  const directory = parseDatabaseDirectory(path.slice(0, Math.max(slash, 0)));
  const match = FILE_NAME.exec(path.slice(slash + 1));
  if (directory === undefined || match === null) return undefined;
  const rel = Number(match[1]);
  const segment = match[3] === undefined ? 0 : Number(match[3]);
  if (rel > 0xffffffff || segment > 0xffffffff) return undefined;
  return {
    ...directory,
    rel,
    fork: match[2] === undefined ? MAIN_FORKNUM : FORK_NAMES.indexOf(match[2]),
    segment,
  };
}

/** Whether a file name is that of a temporary relation: `t3_16384`, `t3_16384_fsm`. Such files are not kept. */
export function isTemporaryRelationName(name: string): boolean {
  return /^t[0-9]+_[1-9][0-9]*(?:_(?:fsm|vm|init))?(?:\.[1-9][0-9]*)?$/.test(name);
}

/** `TABLESPACE_VERSION_DIRECTORY`: the directory inside a tablespace that a major has to itself. */
export function tablespaceVersionDirectory(major: number, catalogVersion: number): string {
  return `PG_${major}_${catalogVersion}`;
}

/**
 * The path of a database's directory.
 *
 * @param versionDirectory See {@linkcode tablespaceVersionDirectory}; used for user tablespaces.
 */
export function databaseDirectory(spc: number, db: number, versionDirectory: string): string {
  if (spc === GLOBALTABLESPACE_OID) return "global";
  return spc === DEFAULTTABLESPACE_OID ? `base/${db}` : `pg_tblspc/${spc}/${versionDirectory}/${db}`;
}

/** The path of a relation's file. */
export function relationPath(file: RelationFile, versionDirectory: string): string {
  const fork = file.fork === MAIN_FORKNUM ? "" : `_${FORK_NAMES[file.fork]}`;
  const segment = file.segment === 0 ? "" : `.${file.segment}`;
  return `${databaseDirectory(file.spc, file.db, versionDirectory)}/${file.rel}${fork}${segment}`;
}
