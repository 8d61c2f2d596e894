/**
 * A cluster without its pages: everything that effects and SLRU redo keep, replayed in memory from a data directory at
 * rest and the WAL after it, and compared with the data directory that the server left.
 *
 * @module
 */
import { UnsupportedError } from "../../../src/errors.ts";
import type { Lsn } from "../../../src/lsn.ts";
import {
  ClusterState,
  decodeClusterState,
  encodeClusterState,
} from "../../../src/postgres/effects/cluster_state.ts";
import { recordStartLsn } from "../../../src/postgres/effects/record_start.ts";
import type { EffectSink } from "../../../src/postgres/effects/effect_sink.ts";
import { applyEffects } from "../../../src/postgres/effects/effects.ts";
import { type ControlFile, parseControlFile } from "../../../src/postgres/files/control_file.ts";
import { parseDatabaseDirectory, parseRelationPath } from "../../../src/postgres/files/relation_path.ts";
import { parseRelationMap } from "../../../src/postgres/files/relmap.ts";
import {
  parseReplicationOrigins,
  REPLORIGIN_CHECKPOINT_PATH,
} from "../../../src/postgres/files/replication_origins.ts";
import {
  decodeTwoPhaseFile,
  encodeTwoPhaseFile,
  parseTwoPhaseFileName,
  TWOPHASE_DIR,
  twoPhaseFileName,
} from "../../../src/postgres/files/two_phase.ts";
import {
  parseSlruPath,
  SLRU_DIRECTORIES,
  SLRU_KINDS,
  SLRU_PAGES_PER_SEGMENT,
  type SlruKind,
  slruMayDeleteSegment,
  slruSegmentInRange,
  slruSegmentOf,
  slruSegmentPath,
} from "../../../src/postgres/page/slru.ts";
import { redoSlruPage } from "../../../src/postgres/redo/slru.ts";
import { multiXactIdPrecedes, transactionIdPrecedes } from "../../../src/postgres/transaction_id.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_XLOG_ID } from "../../../src/postgres/wal/rmgr.ts";
import { openWalDirectory, readRecords } from "../../support/wal_files.ts";

const BLCKSZ = 8192;
/** Its end is that of its segment. */
const XLOG_SWITCH = 0x40;

/** Relative paths of all files and links below a directory, links not followed. */
function* walk(root: string, folder = ""): Generator<{ path: string; link: boolean }> {
  for (const entry of Deno.readDirSync(`${root}/${folder}`)) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* walk(root, path);
    else yield { path, link: entry.isSymlink };
  }
}

/** What of a data directory effects are about, as text and bytes by path. */
export interface Contents {
  /** Segments of SLRUs, relation maps, two-phase files: the bytes. */
  files: Map<string, Uint8Array>;
  /** `spc/db/rel` of every permanent relation with a main fork. */
  relations: Set<string>;
  /** `spc/db` of every directory of a database. */
  databases: Set<string>;
  tablespaces: Map<number, string>;
  origins: Map<number, bigint>;
}

/** Reads them from a data directory whose server does not run. */
export function readContents(dataDir: string): Contents {
  const contents: Contents = {
    files: new Map(),
    relations: new Set(),
    databases: new Set(),
    tablespaces: new Map(),
    origins: new Map(),
  };
  readFolder(dataDir, "", contents);
  for (const { path, link } of walk(dataDir, "pg_tblspc")) {
    if (!link) continue;
    contents.tablespaces.set(
      Number(path.slice("pg_tblspc/".length)),
      Deno.readLinkSync(`${dataDir}/${path}`),
    );
    readFolder(dataDir, path, contents);
  }
  const unlogged = [...contents.relations].filter((relation) => relation.endsWith("_init"));
  for (const relation of unlogged) {
    // The main fork of an unlogged relation is made without WAL; only its init fork is.
    contents.relations.delete(relation);
    contents.relations.delete(relation.replace("_init", ""));
  }
  return contents;
}

function readFolder(dataDir: string, folder: string, contents: Contents): void {
  for (const { path } of walk(dataDir, folder)) {
    const directory = parseDatabaseDirectory(path.slice(0, path.lastIndexOf("/")));
    if (directory !== undefined) contents.databases.add(`${directory.spc}/${directory.db}`);
    const relation = parseRelationPath(path);
    if (relation !== undefined && relation.segment === 0 && (relation.fork === 0 || relation.fork === 3)) {
      const { spc, db, rel, fork } = relation;
      contents.relations.add(`${spc}/${db}/${rel}${fork === 3 ? "_init" : ""}`);
    }
    const isMap = directory !== undefined && path.endsWith("/pg_filenode.map");
    if (isMap || parseSlruPath(path) !== undefined || path.startsWith(`${TWOPHASE_DIR}/`)) {
      const name = isMap ? `relmap ${directory.spc}/${directory.db}` : path;
      contents.files.set(name, Deno.readFileSync(`${dataDir}/${path}`));
    }
    if (path === REPLORIGIN_CHECKPOINT_PATH) {
      contents.origins = parseReplicationOrigins(Deno.readFileSync(`${dataDir}/${path}`));
    }
  }
}

/** Reads pg_control of a data directory. */
export function readControlFile(dataDir: string, profile: VersionProfile): ControlFile {
  return parseControlFile(Deno.readFileSync(`${dataDir}/global/pg_control`), profile);
}

/** See the module's description. */
export class Replica implements EffectSink {
  readonly profile: VersionProfile;
  readonly state: ClusterState;
  /** The state as it was just before the last shutdown checkpoint's record. */
  stateBeforeShutdown: ClusterState;
  /** The value that a store would hold: saved whenever the state asks for it. */
  saved: Uint8Array;
  saves = 0;
  records = 0;
  /** Pages that were given a shorter record. */
  cuts = 0;
  commits = 0;
  aborts = 0;
  /** Records refused as unknown; there must be none. */
  unknown: string[] = [];
  /** Times at which a stored value would have been too low. */
  stale: string[] = [];
  /** How often each kind of SLRU lost a segment. */
  removedSegments = [0, 0, 0, 0];
  backupEnds: Lsn[] = [];

  readonly #slru: Map<number, Uint8Array>[] = SLRU_KINDS.map(() => new Map());
  readonly #relations: Set<string>;
  readonly #databases: Set<string>;
  readonly #tablespaces: Map<number, string>;
  readonly #relmaps = new Map<string, Uint8Array>();
  readonly #twoPhase = new Map<number, Uint8Array>();
  readonly #origins: Map<number, bigint>;
  readonly #record: DecodedRecord;
  readonly #cutRecord: DecodedRecord;
  #savedBounds;

  readonly #fuzzy: boolean;

  /** @param options.fuzzy `baseDir` was copied while the server ran: it may lack, or have already, what WAL tells. */
  constructor(baseDir: string, profile: VersionProfile, options: { fuzzy?: boolean } = {}) {
    this.#fuzzy = options.fuzzy ?? false;
    this.profile = profile;
    this.state = ClusterState.fromControlFile(readControlFile(baseDir, profile));
    this.stateBeforeShutdown = this.state.clone();
    this.#record = new DecodedRecord(profile);
    this.#cutRecord = new DecodedRecord(profile);
    const base = readContents(baseDir);
    this.#relations = base.relations;
    this.#databases = base.databases;
    this.#tablespaces = base.tablespaces;
    this.#origins = base.origins;
    for (const [id, lsn] of base.origins) this.state.origins.set(id, lsn);
    for (const [path, bytes] of base.files) this.#load(path, bytes);
    this.saved = this.#save();
    this.#savedBounds = this.state.bounds();
  }

  #load(path: string, bytes: Uint8Array): void {
    const segment = parseSlruPath(path);
    if (segment !== undefined) {
      for (let at = 0; at < bytes.length; at += BLCKSZ) {
        const pageno = segment.segno * SLRU_PAGES_PER_SEGMENT + at / BLCKSZ;
        this.#slru[segment.kind].set(pageno, bytes.slice(at, at + BLCKSZ));
      }
    } else if (path.startsWith("relmap ")) this.#relmaps.set(path, bytes);
    else {
      const fullXid = parseTwoPhaseFileName(
        path.slice(TWOPHASE_DIR.length + 1),
        this.state.nextXid,
        this.profile,
      );
      this.#twoPhase.set(fullXid!, decodeTwoPhaseFile(bytes, this.profile).slice());
    }
  }

  /** Replays all WAL of a directory from `startLsn` on. */
  replay(walDir: string, startLsn: Lsn): void {
    for (const batch of readRecords(openWalDirectory(walDir), startLsn, this.profile)) {
      for (let index = 0; index < batch.count; index++) {
        this.#record.decode(batch.bytes, batch.offsets[index], batch.endLsns[index] as Lsn);
        this.apply(this.#record, batch.startLsns[index] as Lsn);
      }
    }
  }

  apply(record: DecodedRecord, startLsn: Lsn): void {
    const { state } = this;
    this.records++;
    if (record.rmid === RM_XLOG_ID && record.opInfo === 0x00) this.stateBeforeShutdown = state.clone();
    for (let index = 0; index < record.blockCount; index++) {
      if (record.blockFork[index] !== 0) continue;
      this.#relations.add(`${record.blockSpc[index]}/${record.blockDb[index]}/${record.blockRel[index]}`);
    }
    try {
      applyEffects(record, state, this);
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error;
      this.unknown.push(error.message);
    }
    const isSwitch = record.rmid === RM_XLOG_ID && record.opInfo === XLOG_SWITCH;
    if (!isSwitch && recordStartLsn(record, state.walSegmentSize) !== startLsn) {
      this.unknown.push(`start of the record that ends at ${record.endLsn}: ${startLsn}`);
    }
    if (state.needsSave()) this.saved = this.#save();
    this.#checkSaved(startLsn);
  }

  #save(): Uint8Array {
    this.saves++;
    const value = encodeClusterState(this.state);
    this.state.markSaved();
    this.#savedBounds = decodeClusterState(value).bounds();
    return value;
  }

  #checkSaved(lsn: Lsn): void {
    const { nextXid, nextMulti, nextMultiOffset, newestCommitTsXid } = this.state;
    const saved = this.#savedBounds;
    const behind = saved.nextXid < nextXid || multiXactIdPrecedes(saved.nextMulti, nextMulti) ||
      multiXactIdPrecedes(saved.nextMultiOffset, nextMultiOffset) ||
      transactionIdPrecedes(saved.newestCommitTsXid, newestCommitTsXid);
    if (behind && this.stale.length < 5) this.stale.push(`at ${lsn}: ${JSON.stringify(saved)} is behind`);
  }

  /** Everything as the server would leave it in its data directory. */
  contents(): Contents {
    const files = new Map<string, Uint8Array>(this.#relmaps);
    for (const kind of SLRU_KINDS) {
      for (const segno of new Set([...this.#slru[kind].keys()].map(slruSegmentOf))) {
        files.set(slruSegmentPath(kind, segno), this.#segment(kind, segno));
      }
    }
    for (const [fullXid, content] of this.#twoPhase) {
      files.set(`${TWOPHASE_DIR}/${twoPhaseFileName(fullXid, this.profile)}`, encodeTwoPhaseFile(content));
    }
    return {
      files,
      relations: new Set(
        [...this.#relations].filter((relation) =>
          !relation.endsWith("_init") && !this.#relations.has(`${relation}_init`)
        ),
      ),
      databases: this.#databases,
      tablespaces: this.#tablespaces,
      origins: this.#origins,
    };
  }

  #segment(kind: SlruKind, segno: number): Uint8Array {
    const first = segno * SLRU_PAGES_PER_SEGMENT;
    let count = SLRU_PAGES_PER_SEGMENT;
    while (!this.#slru[kind].has(first + count - 1)) count--;
    const bytes = new Uint8Array(count * BLCKSZ);
    for (let index = 0; index < count; index++) {
      const page = this.#slru[kind].get(first + index);
      if (page !== undefined) bytes.set(page, index * BLCKSZ);
    }
    return bytes;
  }

  touchBlock(): void {}

  touchSlruPage(kind: SlruKind, pageno: number, cut?: Uint8Array): void {
    let page = this.#slru[kind].get(pageno);
    if (page === undefined) this.#slru[kind].set(pageno, page = new Uint8Array(BLCKSZ));
    if (cut === undefined) return redoSlruPage(page, kind, pageno, this.#record);
    this.cuts++;
    this.#cutRecord.decode(cut, 0, this.#record.endLsn);
    redoSlruPage(page, kind, pageno, this.#cutRecord);
  }

  zeroSlruPage(kind: SlruKind, pageno: number): void {
    this.#slru[kind].set(pageno, new Uint8Array(BLCKSZ));
  }

  truncateSlru(kind: SlruKind, cutoffPage: number): void {
    this.#removeSegments(kind, (segno) => slruMayDeleteSegment(kind, segno, cutoffPage));
  }

  deleteSlruSegments(kind: SlruKind, firstSegno: number, endSegno: number): void {
    this.#removeSegments(kind, (segno) => slruSegmentInRange(segno, firstSegno, endSegno));
  }

  clearSlru(kind: SlruKind): void {
    this.#removeSegments(kind, () => true);
  }

  #removeSegments(kind: SlruKind, isDoomed: (segno: number) => boolean): void {
    for (const segno of new Set([...this.#slru[kind].keys()].map(slruSegmentOf))) {
      if (!isDoomed(segno)) continue;
      this.removedSegments[kind]++;
      for (let index = 0; index < SLRU_PAGES_PER_SEGMENT; index++) {
        this.#slru[kind].delete(segno * SLRU_PAGES_PER_SEGMENT + index);
      }
    }
  }

  createFork(spc: number, db: number, rel: number, fork: number): void {
    if (fork === 0 || fork === 3) this.#relations.add(`${spc}/${db}/${rel}${fork === 3 ? "_init" : ""}`);
    this.#databases.add(`${spc}/${db}`);
  }

  truncateFork(): void {}

  dropRelation(spc: number, db: number, rel: number): void {
    this.#relations.delete(`${spc}/${db}/${rel}`);
    this.#relations.delete(`${spc}/${db}/${rel}_init`);
  }

  copyDatabase(spc: number, db: number, sourceSpc: number, sourceDb: number): void {
    this.dropDatabase(spc, db);
    this.createDatabase(spc, db);
    const source = `${sourceSpc}/${sourceDb}/`;
    for (const relation of [...this.#relations]) {
      if (relation.startsWith(source)) this.#relations.add(`${spc}/${db}/${relation.slice(source.length)}`);
    }
    const map = this.#relmaps.get(`relmap ${sourceSpc}/${sourceDb}`);
    if (map !== undefined) this.#relmaps.set(`relmap ${spc}/${db}`, map);
  }

  createDatabase(spc: number, db: number): void {
    this.#databases.add(`${spc}/${db}`);
  }

  dropDatabase(spc: number, db: number): void {
    this.#databases.delete(`${spc}/${db}`);
    this.#relmaps.delete(`relmap ${spc}/${db}`);
    for (const relation of [...this.#relations]) {
      if (relation.startsWith(`${spc}/${db}/`)) this.#relations.delete(relation);
    }
  }

  createTablespace(spc: number, path: string): void {
    this.#tablespaces.set(spc, path);
  }

  dropTablespace(spc: number): void {
    this.#tablespaces.delete(spc);
    for (const database of [...this.#databases]) {
      if (database.startsWith(`${spc}/`)) this.#databases.delete(database);
    }
  }

  putRelmap(spc: number, db: number, bytes: Uint8Array): void {
    parseRelationMap(bytes, this.profile);
    this.#relmaps.set(`relmap ${spc}/${db}`, bytes);
  }

  putTwoPhase(fullXid: number, bytes: Uint8Array): void {
    this.#twoPhase.set(fullXid, bytes);
  }

  dropTwoPhase(fullXid: number): void {
    if (!this.#twoPhase.delete(fullXid) && !this.#fuzzy) {
      this.unknown.push(`no prepared transaction ${fullXid}`);
    }
  }

  setOrigin(originId: number, remoteLsn: bigint): void {
    this.#origins.set(originId, remoteLsn);
  }

  dropOrigin(originId: number): void {
    this.#origins.delete(originId);
  }

  transactionEnd(committed: boolean, timestampMicros: number): void {
    if (committed) this.commits++;
    else this.aborts++;
    if (!(timestampMicros > 0 && timestampMicros < 3e15)) this.unknown.push(`time ${timestampMicros}`);
  }

  restorePoint(name: string): void {
    if (name === "") this.unknown.push("restore point without name");
  }

  backupEnd(startLsn: Lsn): void {
    this.backupEnds.push(startLsn);
  }
}

/** Where two contents differ, a line each; nothing when they are equal. */
export function differences(replayed: Contents, server: Contents): string[] {
  const found: string[] = [];
  compareKeys("file", replayed.files, server.files, found);
  compareKeys("relation", replayed.relations, server.relations, found);
  compareKeys("database", replayed.databases, server.databases, found);
  compareKeys("tablespace", replayed.tablespaces, server.tablespaces, found);
  compareKeys("origin", replayed.origins, server.origins, found);
  for (const [path, bytes] of server.files) {
    const mine = replayed.files.get(path);
    if (mine !== undefined) found.push(...compareBytes(path, mine, bytes));
  }
  for (const [spc, path] of server.tablespaces) {
    if (replayed.tablespaces.get(spc) !== path) {
      found.push(`tablespace ${spc}: ${replayed.tablespaces.get(spc)}, server ${path}`);
    }
  }
  for (const [id, lsn] of server.origins) {
    if (replayed.origins.get(id) !== lsn) {
      found.push(`origin ${id}: ${replayed.origins.get(id)}, server ${lsn}`);
    }
  }
  return found;
}

interface Keyed {
  has(key: never): boolean;
  keys(): Iterable<unknown>;
}

function compareKeys(what: string, replayed: Keyed, server: Keyed, found: string[]): void {
  for (const key of server.keys()) if (!replayed.has(key as never)) found.push(`${what} ${key} is missing`);
  for (const key of replayed.keys()) {
    if (!server.has(key as never)) found.push(`${what} ${key} should not be`);
  }
}

function compareBytes(path: string, replayed: Uint8Array, server: Uint8Array): string[] {
  if (replayed.length !== server.length) {
    return [`${path}: ${replayed.length} bytes, server ${server.length}`];
  }
  let count = 0;
  let first = -1;
  for (let at = 0; at < server.length; at++) {
    if (replayed[at] === server[at]) continue;
    if (count++ === 0) first = at;
  }
  if (count === 0) return [];
  const hex = (bytes: Uint8Array) =>
    Array.from(bytes.subarray(first & ~3, (first & ~3) + 16), (byte) => byte.toString(16).padStart(2, "0"))
      .join("");
  return [`${path}: ${count} bytes differ, first at ${first}: ${hex(replayed)}, server ${hex(server)}`];
}

/** Bytes of all SLRU segments, for a report. */
export function slruBytes(contents: Contents): number[] {
  return SLRU_KINDS.map((kind) => {
    let sum = 0;
    for (const [path, bytes] of contents.files) {
      if (path.startsWith(`${SLRU_DIRECTORIES[kind]}/`)) sum += bytes.length;
    }
    return sum;
  });
}
