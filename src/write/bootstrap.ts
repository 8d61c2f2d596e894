/**
 * Write path, before the stream: the files of a base backup become the first layers of a timeline.
 *
 * Files come in any order, in pieces, once: relations as pages, SLRU segments, relation maps, prepared transactions,
 * control data, and small files whole. All values are keyed by the backup's start LSN; the backup is fuzzy, so reads are
 * right only from its end on, when all WAL between has been taken in (DESIGN 7). Nothing touches a local disk.
 *
 * @module
 */
import { CorruptionError, ProtocolError, UnsupportedError } from "../errors.ts";
import {
  FAMILY_CLUSTER_STATE,
  FAMILY_CONTROL_FILE,
  FAMILY_DATABASE,
  FAMILY_ORIGIN,
  FAMILY_RELATION,
  FAMILY_RELMAP,
  FAMILY_SLRU,
  FAMILY_TABLESPACE,
  FAMILY_TWO_PHASE,
  sizeFamily,
  VALUE_RAW,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import type { SpaceTable } from "../layer/space_table.ts";
import { ClusterState, encodeClusterState } from "../postgres/effects/cluster_state.ts";
import { CONTROL_FILE_PATH, type ControlFile, parseControlFile } from "../postgres/files/control_file.ts";
import { parseDatabaseDirectory, parseRelationPath } from "../postgres/files/relation_path.ts";
import { parseRelationMap, RELMAPPER_FILENAME } from "../postgres/files/relmap.ts";
import {
  parseReplicationOrigins,
  REPLORIGIN_CHECKPOINT_PATH,
} from "../postgres/files/replication_origins.ts";
import { decodeTwoPhaseFile, parseTwoPhaseFileName, TWOPHASE_DIR } from "../postgres/files/two_phase.ts";
import { BLCKSZ, MaxBlockNumber } from "../postgres/page/page.ts";
import { parseSlruPath } from "../postgres/page/slru.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import { encodeSize } from "../timeline/sizes.ts";
import { encodeFilePieces, fileSpace } from "../timeline/small_files.ts";
import type { ImageBuffer } from "./image_buffer.ts";

/** Files that are kept whole may be this long; anything longer is no configuration file. */
const SMALL_FILE_BYTES_MAX = 64 * 1024 * 1024;
const NO_BYTES = new Uint8Array(0);
/** Blocks in one file of a relation, `RELSEG_SIZE`. */
const RELATION_SEGMENT_BLOCKS = 131_072;
const NO_FILE = -1;

/** What a backup turned out to contain. */
export interface BootstrapResult {
  control: ControlFile;
  state: ClusterState;
  /** Files and bytes taken in. */
  files: number;
  bytes: number;
  pages: number;
  /** Files that were too long to be kept whole: none of PostgreSQL's own. */
  skipped: string[];
}

/** Takes in the files of one backup; see the module's description. */
export class BootstrapImporter {
  readonly #profile: VersionProfile;
  readonly #spaces: SpaceTable;
  readonly #buffer: ImageBuffer;
  /** Blocks of every fork and SLRU segment seen, file by file. */
  readonly #blocks = new Map<number, number[]>();
  /** Files that make sense only together with pg_control, which comes last. */
  readonly #later: { path: string; bytes: Uint8Array }[] = [];
  #open: OpenFile | undefined;
  #control: Uint8Array | undefined;
  #files = 0;
  #bytes = 0;
  #pages = 0;
  readonly #skipped: string[] = [];

  constructor(profile: VersionProfile, spaces: SpaceTable, buffer: ImageBuffer) {
    this.#profile = profile;
    this.#spaces = spaces;
    this.#buffer = buffer;
  }

  /** Notes a user tablespace. */
  addTablespace(oid: number, path: string): void {
    this.#put(FAMILY_TABLESPACE, oid, 0, new TextEncoder().encode(path));
  }

  /** Notes a directory of the backup: one of a database makes the database exist. */
  addDirectory(path: string): void {
    const directory = parseDatabaseDirectory(path);
    if (directory !== undefined && directory.db !== 0) this.#addDatabase(directory.spc, directory.db);
  }
  readonly #databases = new Set<string>();
  #addDatabase(spc: number, db: number): void {
    const name = `${spc}/${db}`;
    if (this.#databases.has(name)) return;
    this.#databases.add(name);
    this.#put(FAMILY_DATABASE, spc, db, new Uint8Array(0));
  }

  /**
   * Begins a file.
   *
   * @param path Relative to the data directory; files of user tablespaces as `pg_tblspc/<oid>/...`.
   * @param size Its bytes.
   */
  beginFile(path: string, size: number): void {
    this.#files++;
    const relation = parseRelationPath(path);
    const slru = relation === undefined ? parseSlruPath(path) : undefined;
    if (relation !== undefined) {
      const { spc, db, rel, fork, segment } = relation;
      const space = this.#spaces.intern(FAMILY_RELATION, spc, db, rel, fork);
      if (db !== 0) this.#addDatabase(spc, db);
      this.#open = this.#pageFile(path, space, segment, size);
    } else if (slru !== undefined) {
      this.#open = this.#pageFile(
        path,
        this.#spaces.intern(FAMILY_SLRU, slru.kind, 0, slru.segno, 0),
        0,
        size,
      );
    } else if (size > SMALL_FILE_BYTES_MAX) {
      // A server log or a core dump that lies in the data directory.
      this.#skipped.push(path);
      this.#open = { path, size, seen: 0, skipped: true };
    } else this.#open = { path, size, seen: 0, whole: new Uint8Array(size) };
  }

  /** @param segment Number of the relation's file; 0 for SLRU segments. */
  #pageFile(path: string, space: number, segment: number, size: number): OpenFile {
    const firstBlock = segment * RELATION_SEGMENT_BLOCKS;
    const blocks = Math.ceil(size / BLCKSZ);
    if (blocks > RELATION_SEGMENT_BLOCKS || firstBlock + blocks > MaxBlockNumber + 1) {
      throw new CorruptionError("Cannot take in a file of the base backup: it holds impossible blocks", {
        object: path,
        got: `${size} bytes`,
      });
    }
    this.#blocks.set(space, withFile(this.#blocks.get(space) ?? [], segment, blocks));
    return {
      path,
      size,
      seen: 0,
      space,
      block: firstBlock,
      partial: new Uint8Array(BLCKSZ),
      partialLength: 0,
    };
  }

  /** Takes in the next bytes of the file; copies what it keeps. */
  data(chunk: Uint8Array): void {
    const file = this.#open;
    if (file === undefined || file.seen + chunk.length > file.size) {
      throw new ProtocolError(`Cannot take in base backup: more bytes than announced for "${file?.path}"`);
    }
    if (file.whole !== undefined) file.whole.set(chunk, file.seen);
    else if (file.skipped !== true) this.#addPages(file, chunk);
    file.seen += chunk.length;
    this.#bytes += chunk.length;
  }

  /** Ends the file. */
  endFile(): void {
    const file = this.#open;
    if (file === undefined || file.seen !== file.size) {
      throw new ProtocolError(
        `Cannot take in base backup: "${file?.path}" ended after ${file?.seen} of ${file?.size} bytes`,
      );
    }
    this.#open = undefined;
    if (file.skipped === true) return;
    // A file whose last page is incomplete was being extended; the rest of the page is zeros until WAL says otherwise.
    if (file.whole === undefined && file.partialLength > 0) {
      file.partial.fill(0, file.partialLength);
      this.#addPage(file.space, file.block, file.partial, 0);
    } else if (file.whole !== undefined) this.#addWholeFile(file.path, file.whole);
  }

  /** Makes a layer when enough has come together; call it between pieces. */
  async drain(): Promise<void> {
    if (this.#buffer.isFull) await this.#buffer.write();
  }

  /**
   * Writes the last layers: sizes, control data and all that waited for pg_control.
   *
   * @param edit Adjusts the state of pg_control's checkpoint to where the backup starts.
   */
  async finish(edit: (state: ClusterState) => void): Promise<BootstrapResult> {
    if (this.#control === undefined) {
      throw new CorruptionError("Cannot bootstrap: the base backup has no pg_control", {
        object: CONTROL_FILE_PATH,
      });
    }
    const control = parseControlFile(this.#control, this.#profile);
    if (control.relationSegmentBlocks !== RELATION_SEGMENT_BLOCKS) {
      throw new UnsupportedError(
        `Cannot bootstrap: the server was built with ${control.relationSegmentBlocks} blocks per relation file, supported are ${RELATION_SEGMENT_BLOCKS}`,
      );
    }
    const state = ClusterState.fromControlFile(control);
    edit(state);
    for (const { path, bytes } of this.#later) this.#addLater(path, bytes, state);
    this.#put(FAMILY_CONTROL_FILE, 0, 0, this.#control);
    this.#put(FAMILY_CLUSTER_STATE, 0, 0, encodeClusterState(state));
    state.markSaved();
    for (const [space, files] of this.#blocks) {
      const { family, a, b, c, d } = this.#spaces.get(space);
      const { blocks, highWater } = lengthOf(files);
      const size = encodeSize(blocks, highWater);
      this.#buffer.add(this.#spaces.intern(sizeFamily(family), a, b, c, d), 0, VALUE_RAW, size);
    }
    await this.#buffer.write();
    const skipped = this.#skipped;
    return { control, state, files: this.#files, bytes: this.#bytes, pages: this.#pages, skipped };
  }

  #put(family: number, a: number, b: number, bytes: Uint8Array): void {
    this.#buffer.add(this.#spaces.intern(family, a, b, 0, 0), 0, VALUE_RAW, bytes);
  }

  #addPages(file: PageFile, chunk: Uint8Array): void {
    let at = 0;
    if (file.partialLength > 0) {
      at = Math.min(BLCKSZ - file.partialLength, chunk.length);
      file.partial.set(chunk.subarray(0, at), file.partialLength);
      file.partialLength += at;
      if (file.partialLength < BLCKSZ) return;
      this.#addPage(file.space, file.block++, file.partial, 0);
      file.partialLength = 0;
    }
    for (; at + BLCKSZ <= chunk.length; at += BLCKSZ) this.#addPage(file.space, file.block++, chunk, at);
    file.partial.set(chunk.subarray(at));
    file.partialLength = chunk.length - at;
  }

  #addPage(space: number, block: number, bytes: Uint8Array, offset: number): void {
    this.#pages++;
    // Said outright, so that a record that needs the page before it finds one.
    if (isZero(bytes, offset, BLCKSZ)) this.#buffer.add(space, block, VALUE_RAW | VALUE_ZERO_PAGE, NO_BYTES);
    else this.#buffer.add(space, block, VALUE_RAW, bytes, offset, BLCKSZ);
  }

  #addWholeFile(path: string, bytes: Uint8Array): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (path === CONTROL_FILE_PATH) this.#control = bytes;
    else if (path.startsWith(`${TWOPHASE_DIR}/`) || path === REPLORIGIN_CHECKPOINT_PATH) {
      this.#later.push({ path, bytes });
    } else if (name === RELMAPPER_FILENAME) {
      const directory = parseDatabaseDirectory(path.slice(0, path.length - name.length - 1));
      if (directory === undefined) throw new CorruptionError("Cannot place a relation map", { object: path });
      parseRelationMap(bytes, this.#profile, path);
      this.#put(FAMILY_RELMAP, directory.spc, directory.db, bytes);
    } else {
      for (const [piece, value] of encodeFilePieces(path, bytes).entries()) {
        this.#buffer.add(this.#spaces.internSpace(fileSpace(path)), piece, VALUE_RAW, value);
      }
    }
  }

  #addLater(path: string, bytes: Uint8Array, state: ClusterState): void {
    if (path === REPLORIGIN_CHECKPOINT_PATH) {
      for (const [id, position] of parseReplicationOrigins(bytes)) {
        state.origins.set(id, position);
        const value = new Uint8Array(8);
        new DataView(value.buffer).setBigUint64(0, position, true);
        this.#put(FAMILY_ORIGIN, id, 0, value);
      }
      return;
    }
    const name = path.slice(TWOPHASE_DIR.length + 1);
    const fullXid = parseTwoPhaseFileName(name, state.nextXid, this.#profile);
    if (fullXid === undefined) {
      throw new CorruptionError("Cannot place a prepared transaction", { object: path });
    }
    this.#put(
      FAMILY_TWO_PHASE,
      Math.floor(fullXid / 0x1_0000_0000),
      fullXid >>> 0,
      decodeTwoPhaseFile(bytes, this.#profile, path),
    );
  }
}

interface PageFile {
  path: string;
  size: number;
  seen: number;
  whole?: undefined;
  skipped?: undefined;
  space: number;
  /** Next block. */
  block: number;
  /** Start of the next page, when a chunk ended inside it. */
  partial: Uint8Array;
  partialLength: number;
}

interface WholeFile {
  path: string;
  size: number;
  seen: number;
  whole: Uint8Array;
  skipped?: undefined;
}

interface SkippedFile {
  path: string;
  size: number;
  seen: number;
  whole?: undefined;
  skipped: true;
}

type OpenFile = PageFile | WholeFile | SkippedFile;

/** Blocks of a fork's files by number; what is not known is a file that is not there. */
function withFile(files: number[], segment: number, blocks: number): number[] {
  while (files.length < segment) files.push(NO_FILE);
  files[segment] = blocks;
  return files;
}

/**
 * How long a fork is, as `mdnblocks` finds: up to its first file that is not full. Files behind it are what a truncation
 * left (empty then), or came while the backup was taken; blocks of those are counted as an earlier life.
 */
function lengthOf(files: readonly number[]): { blocks: number; highWater: number } {
  let full = 0;
  while (files[full] === RELATION_SEGMENT_BLOCKS) full++;
  const blocks = full * RELATION_SEGMENT_BLOCKS + Math.max(files[full] ?? 0, 0);
  const last = files.length - 1;
  return { blocks, highWater: Math.max(blocks, last * RELATION_SEGMENT_BLOCKS + Math.max(files[last], 0)) };
}

function isZero(bytes: Uint8Array, offset: number, length: number): boolean {
  for (let index = offset; index < offset + length; index++) if (bytes[index] !== 0) return false;
  return true;
}
