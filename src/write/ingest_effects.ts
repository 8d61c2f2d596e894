/**
 * Write path, inside ingest: effects of records become versioned values.
 *
 * The {@linkcode EffectSink} of ingest. It knows the current sizes of all forks and SLRU segments (the timeline's size
 * table), keeps them current, and writes each change as a value at the record's end LSN. Where a fork grows over blocks
 * that no record writes, it says that they are pages of zeros, so that a read never finds what was there in an earlier
 * life, and a record that changes one later finds where to begin.
 *
 * @module
 */
import { setU32 } from "../bytes/little_endian.ts";
import { MismatchError, UnsupportedError } from "../errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../lsn.ts";
import {
  FAMILY_CLUSTER_STATE,
  FAMILY_DATABASE,
  FAMILY_ORIGIN,
  FAMILY_RELATION,
  FAMILY_RELATION_SIZE,
  FAMILY_RELMAP,
  FAMILY_SLRU,
  FAMILY_SLRU_SIZE,
  FAMILY_TABLESPACE,
  FAMILY_TWO_PHASE,
  sizeFamily,
  VALUE_CARRIES_IMAGES,
  VALUE_DROPPED,
  VALUE_FROM_ZERO,
  VALUE_RAW,
  VALUE_RECORD,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import type { ModificationBuilder } from "../layer/modification.ts";
import { NO_SPACE } from "../layer/space_table.ts";
import { type ClusterState, encodeClusterState } from "../postgres/effects/cluster_state.ts";
import type { EffectSink } from "../postgres/effects/effect_sink.ts";
import {
  SLRU_PAGES_PER_SEGMENT,
  type SlruKind,
  slruMayDeleteSegment,
  slruSegmentInRange,
} from "../postgres/page/slru.ts";
import type { DecodedRecord } from "../postgres/wal/record.ts";
import { ABSENT, encodeSize } from "../timeline/sizes.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { CopiedPage, DatabaseContent } from "./ingest.ts";
import { carriesImages } from "./ingest_blocks.ts";

/** A database to be copied page by page after its record. */
export interface DatabaseCopy {
  spc: number;
  db: number;
  sourceSpc: number;
  sourceDb: number;
  /** Read the source as of here: the end of the record before. */
  readLsn: Lsn;
}

/** Most blocks that one record covers with zeros (8 GiB). */
const GAP_BLOCKS_MAX = 1 << 20;
const LAST_FORK = 3;
const WAL_LEVEL_MINIMAL = 0;
const NO_BYTES = new Uint8Array(0);

/** See the module's description. */
export class IngestEffects implements EffectSink {
  readonly #timeline: Timeline;
  #builder!: ModificationBuilder;
  #record!: DecodedRecord;
  #lsn: Lsn = INVALID_LSN;
  #previousLsn: Lsn;
  /** The next transaction id after the last record. */
  #nextXid: number;
  /** First entry of the current record. */
  #firstEntry = 0;
  /** Spaces whose size changed in the current record. */
  #resized: number[] = [];
  /** Their lengths before it. */
  #blocksBefore: number[] = [];
  #copies: DatabaseCopy[] = [];
  /** End of a base backup whose start was named, as far as seen. */
  onBackupEnd?: (startLsn: Lsn, endLsn: Lsn) => void;

  constructor(timeline: Timeline, nextXid: number) {
    this.#timeline = timeline;
    this.#nextXid = nextXid;
    this.#previousLsn = timeline.lastRecordLsn;
  }

  /** Values go here from now on. */
  begin(builder: ModificationBuilder): void {
    this.#builder = builder;
  }

  beginRecord(lsn: Lsn, record: DecodedRecord): void {
    if (lsn >= this.#timeline.times.slotEnd) this.#openTimeSlot(lsn);
    this.#lsn = lsn;
    this.#record = record;
    this.#firstEntry = this.#builder.count;
  }

  /** Writes what is known only at the record's end: sizes, and the cluster's state if it changed. */
  endRecord(state: ClusterState): void {
    if (this.#resized.length > 0) this.#writeSizes();
    if (state.walLevel === WAL_LEVEL_MINIMAL) {
      throw new MismatchError(
        `Cannot go on at LSN ${
          formatLsn(this.#lsn)
        }: WAL was written with wal_level = minimal, so it lacks changes`,
        {
          hint: "Set wal_level = replica again and follow into a new timeline.",
        },
      );
    }
    if (state.needsSave()) {
      this.#put(FAMILY_CLUSTER_STATE, 0, 0, encodeClusterState(state));
      state.markSaved();
    }
    this.#previousLsn = this.#lsn;
    this.#nextXid = state.nextXid;
  }

  #openTimeSlot(lsn: Lsn): void {
    const { times, spaces } = this.#timeline;
    if (times.isChanged) times.write(this.#builder, spaces, this.#lsn, lsn);
    times.open(lsn, this.#nextXid);
  }

  /** Writes what is known only at a batch's end: when transactions ended. */
  endBatch(): void {
    const { times, spaces } = this.#timeline;
    if (times.isChanged) times.write(this.#builder, spaces, this.#lsn);
  }

  /** Copies asked for since the last call. */
  takeCopies(): DatabaseCopy[] {
    const copies = this.#copies;
    this.#copies = [];
    return copies;
  }

  /** Makes a space at least `blocks` long. */
  growTo(space: number, blocks: number): void {
    const { sizes } = this.#timeline;
    const current = sizes.get(space);
    if (blocks <= current) return;
    const length = Math.max(current, 0);
    let gapEnd = blocks - 1;
    if (gapEnd - length > GAP_BLOCKS_MAX) {
      // What had no earlier life reads as zeros even if nothing says so.
      gapEnd = Math.min(gapEnd, sizes.highWater(space));
      if (gapEnd - length > GAP_BLOCKS_MAX) {
        throw new UnsupportedError(
          `Cannot ingest the record ending at ${
            formatLsn(this.#lsn)
          }: a fork grows from ${length} to ${blocks} blocks at once`,
        );
      }
    }
    for (let block = length; block < gapEnd; block++) {
      this.#builder.addMade(space, block, this.#lsn, VALUE_RAW | VALUE_ZERO_PAGE, NO_BYTES);
    }
    this.#resize(space, blocks);
  }

  /** Blocks that a space had before the current record. */
  blocksBefore(space: number): number {
    const index = this.#resized.indexOf(space);
    return index < 0 ? this.#timeline.sizes.get(space) : this.#blocksBefore[index];
  }

  #resize(space: number, blocks: number): void {
    const { sizes } = this.#timeline;
    if (!this.#resized.includes(space)) {
      this.#resized.push(space);
      this.#blocksBefore.push(sizes.get(space));
    }
    sizes.set(space, blocks);
  }

  #writeSizes(): void {
    const { spaces, sizes } = this.#timeline;
    for (const space of this.#resized) {
      const { family, a, b, c, d } = spaces.get(space);
      const sizeSpace = spaces.intern(sizeFamily(family), a, b, c, d);
      const blocks = sizes.get(space);
      const value = encodeSize(Math.max(blocks, 0), sizes.highWater(space));
      this.#builder.addMade(sizeSpace, 0, this.#lsn, blocks === ABSENT ? VALUE_DROPPED : VALUE_RAW, value);
    }
    this.#resized.length = this.#blocksBefore.length = 0;
  }

  /** A value of a family that has one value per (a, b). */
  #put(family: number, a: number, b: number, bytes: Uint8Array, flags = VALUE_RAW): void {
    const space = this.#timeline.spaces.intern(family, a, b, 0, 0);
    this.#builder.addMade(space, 0, this.#lsn, flags, bytes);
  }

  #touch(space: number, block: number, flags: number): void {
    if (this.#builder.hasSince(this.#firstEntry, space, block)) return;
    const carried = carriesImages(this.#record) ? VALUE_CARRIES_IMAGES : 0;
    this.#builder.addRange(
      space,
      block,
      this.#lsn,
      flags | carried,
      this.#record.start,
      this.#record.totalLength,
      0,
    );
  }

  touchBlock(spc: number, db: number, rel: number, fork: number, block: number): void {
    const space = this.#timeline.spaces.find(FAMILY_RELATION, spc, db, rel, fork);
    // A map page that does not exist has no bits to clear.
    if (space === NO_SPACE || block >= this.#timeline.sizes.get(space)) return;
    this.#touch(space, block, VALUE_RECORD);
  }

  touchSlruPage(kind: SlruKind, pageno: number, cut?: Uint8Array): void {
    const space = this.#slruSpace(kind, pageno);
    const block = pageno % SLRU_PAGES_PER_SEGMENT;
    this.growTo(space, block + 1);
    const isNew = block >= this.blocksBefore(space);
    const flags = isNew ? VALUE_RECORD | VALUE_FROM_ZERO : VALUE_RECORD;
    if (cut === undefined) this.#touch(space, block, flags);
    else if (!this.#builder.hasSince(this.#firstEntry, space, block)) {
      this.#builder.addMade(space, block, this.#lsn, flags, cut);
    }
  }

  zeroSlruPage(kind: SlruKind, pageno: number): void {
    const space = this.#slruSpace(kind, pageno);
    const block = pageno % SLRU_PAGES_PER_SEGMENT;
    this.growTo(space, block + 1);
    this.#builder.addMade(space, block, this.#lsn, VALUE_RAW | VALUE_ZERO_PAGE, NO_BYTES);
  }

  #slruSpace(kind: SlruKind, pageno: number): number {
    return this.#timeline.spaces.intern(FAMILY_SLRU, kind, 0, Math.floor(pageno / SLRU_PAGES_PER_SEGMENT), 0);
  }

  truncateSlru(kind: SlruKind, cutoffPage: number): void {
    this.#forEachSlruSegment(kind, (space, segno) => {
      if (slruMayDeleteSegment(kind, segno, cutoffPage)) this.#resize(space, ABSENT);
    });
  }

  deleteSlruSegments(kind: SlruKind, firstSegno: number, endSegno: number): void {
    this.#forEachSlruSegment(kind, (space, segno) => {
      if (slruSegmentInRange(segno, firstSegno, endSegno)) this.#resize(space, ABSENT);
    });
  }

  clearSlru(kind: SlruKind): void {
    this.#forEachSlruSegment(kind, (space) => this.#resize(space, ABSENT));
  }

  #forEachSlruSegment(kind: SlruKind, visit: (space: number, segno: number) => void): void {
    const { spaces, sizes } = this.#timeline;
    for (let id = 0; id < spaces.count; id++) {
      if (spaces.familyOf(id) !== FAMILY_SLRU || sizes.get(id) === ABSENT) continue;
      const { a, c } = spaces.get(id);
      if (a === kind) visit(id, c);
    }
  }

  createFork(spc: number, db: number, rel: number, fork: number): void {
    const space = this.#timeline.spaces.intern(FAMILY_RELATION, spc, db, rel, fork);
    if (this.#timeline.sizes.get(space) === ABSENT) this.#resize(space, 0);
  }

  truncateFork(spc: number, db: number, rel: number, fork: number, nblocks: number): void {
    const space = this.#timeline.spaces.find(FAMILY_RELATION, spc, db, rel, fork);
    if (space !== NO_SPACE && this.#timeline.sizes.get(space) > nblocks) this.#resize(space, nblocks);
  }

  dropRelation(spc: number, db: number, rel: number): void {
    const { spaces, sizes } = this.#timeline;
    for (let fork = 0; fork <= LAST_FORK; fork++) {
      const space = spaces.find(FAMILY_RELATION, spc, db, rel, fork);
      if (space !== NO_SPACE && sizes.get(space) !== ABSENT) this.#resize(space, ABSENT);
    }
  }

  createDatabase(spc: number, db: number): void {
    this.#put(FAMILY_DATABASE, spc, db, NO_BYTES);
  }

  copyDatabase(spc: number, db: number, sourceSpc: number, sourceDb: number): void {
    this.createDatabase(spc, db);
    this.#copies.push({ spc, db, sourceSpc, sourceDb, readLsn: this.#previousLsn });
  }

  #dropForks(spc: number, db: number): void {
    const { spaces, sizes } = this.#timeline;
    for (let id = 0; id < spaces.count; id++) {
      if (spaces.isInDatabase(id, FAMILY_RELATION, spc, db) && sizes.get(id) !== ABSENT) {
        this.#resize(id, ABSENT);
      }
    }
  }

  dropDatabase(spc: number, db: number): void {
    this.#dropForks(spc, db);
    this.#put(FAMILY_RELMAP, spc, db, NO_BYTES, VALUE_DROPPED);
    this.#put(FAMILY_DATABASE, spc, db, NO_BYTES, VALUE_DROPPED);
  }

  /**
   * Sizes and map of a copied database. What an earlier database of the same oids left behind goes here too, not with the
   * record itself: modifications of one record may end up in different layers, where nothing orders two values of one
   * key and LSN.
   */
  addCopiedDatabase(copy: DatabaseCopy, content: DatabaseContent): void {
    this.#dropForks(copy.spc, copy.db);
    for (const { rel, fork, blocks } of content.forks) {
      this.#resize(this.#timeline.spaces.intern(FAMILY_RELATION, copy.spc, copy.db, rel, fork), blocks);
    }
    this.#writeSizes();
    if (content.relmap !== undefined) this.putRelmap(copy.spc, copy.db, content.relmap);
  }

  addCopiedPage(copy: DatabaseCopy, page: CopiedPage): void {
    const space = this.#timeline.spaces.intern(FAMILY_RELATION, copy.spc, copy.db, page.rel, page.fork);
    if (page.bytes === "unsupported") {
      // The record that copied it stands for it: a read says that it cannot be replayed.
      const { bytes, start, totalLength } = this.#record;
      const record = bytes.subarray(start, start + totalLength);
      this.#builder.addMade(space, page.block, this.#lsn, VALUE_RECORD | VALUE_FROM_ZERO, record);
      return;
    }
    const flags = page.bytes === "zeros" ? VALUE_RAW | VALUE_ZERO_PAGE : VALUE_RAW;
    this.#builder.addMade(
      space,
      page.block,
      this.#lsn,
      flags,
      page.bytes === "zeros" ? NO_BYTES : page.bytes,
    );
  }

  createTablespace(spc: number, path: string): void {
    this.#put(FAMILY_TABLESPACE, spc, 0, new TextEncoder().encode(path));
  }

  dropTablespace(spc: number): void {
    this.#put(FAMILY_TABLESPACE, spc, 0, NO_BYTES, VALUE_DROPPED);
  }

  putRelmap(spc: number, db: number, bytes: Uint8Array): void {
    this.#put(FAMILY_RELMAP, spc, db, bytes);
  }

  putTwoPhase(xid: number, bytes: Uint8Array): void {
    this.#put(FAMILY_TWO_PHASE, Math.floor(xid / 0x1_0000_0000), xid >>> 0, bytes);
  }

  dropTwoPhase(xid: number): void {
    this.#put(FAMILY_TWO_PHASE, Math.floor(xid / 0x1_0000_0000), xid >>> 0, NO_BYTES, VALUE_DROPPED);
  }

  setOrigin(originId: number, remoteLsn: bigint): void {
    const bytes = new Uint8Array(8);
    setU32(bytes, 0, Number(remoteLsn & 0xffff_ffffn));
    setU32(bytes, 4, Number(remoteLsn >> 32n));
    this.#put(FAMILY_ORIGIN, originId, 0, bytes);
  }

  dropOrigin(originId: number): void {
    this.#put(FAMILY_ORIGIN, originId, 0, NO_BYTES, VALUE_DROPPED);
  }

  transactionEnd(committed: boolean, timestampMicros: number, xid: number): void {
    this.#timeline.times.add(this.#lsn, this.#previousLsn, timestampMicros, xid, committed);
  }

  restorePoint(name: string, timestampMicros: number): void {
    const { times, spaces } = this.#timeline;
    times.writeRestorePoint(this.#builder, spaces, this.#lsn, name, timestampMicros);
  }

  backupEnd(startLsn: Lsn): void {
    this.onBackupEnd?.(startLsn, this.#lsn);
  }
}

// The families that ingest writes with their sizes: a size is always one family above what it measures.
if (sizeFamily(FAMILY_RELATION) !== FAMILY_RELATION_SIZE || sizeFamily(FAMILY_SLRU) !== FAMILY_SLRU_SIZE) {
  throw new RangeError("Cannot load ingest: families of sizes are not where they belong");
}
