/**
 * What differs between PostgreSQL's majors, as data. No other folder compares major numbers: it asks the profile.
 *
 * Adding a difference: add a field here, with a comment that cites the header, and a value in each of pg14.ts .. pg18.ts.
 * A record whose shape changed is a sibling file named by the first major that wrote it, and the profile says which
 * one applies.
 *
 * @module
 */

export type Major = 14 | 15 | 16 | 17 | 18;

/** Everything that depends on the major. One frozen object per major. */
export interface VersionProfile {
  readonly major: Major;

  /** `XLOG_PAGE_MAGIC`, access/xlog_internal.h: first two bytes of each WAL page. */
  readonly xlogPageMagic: number;

  /** `BKPIMAGE_*` bits of `bimg_info`, access/xlogrecord.h. They moved in 15. */
  readonly bkpImage: {
    readonly apply: number;
    /** Any of these set: the image is compressed. */
    readonly compressedMask: number;
    readonly pglz: number;
    /** 0 where the major has no such method. */
    readonly lz4: number;
    readonly zstd: number;
  };

  /** Which shape heap pruning records have: `xl_heap_prune`/`vacuum`/`freeze_page` of 14-16, or 17's merged one. */
  readonly heapPrune: "v14" | "v16" | "v17";

  /**
   * Bytes of a page number in CLOG, CommitTs and MultiXact records: `int` until 16, `int64` from 17
   * (access/clog.h, commit_ts.h, multixact.h).
   */
  readonly slruPagenoSize: 4 | 8;

  /** `sizeof(xl_xact_stats_item)`, access/xact.h; 0 where commit records carry no dropped statistics (14). */
  readonly xactStatsItemSize: 0 | 12 | 16;

  /** `XLOG_DBASE_*`, commands/dbcommands_xlog.h. They moved in 15. */
  readonly dbase: {
    readonly createFileCopy: number;
    /** -1 where the major has no such strategy. */
    readonly createWalLog: number;
    readonly drop: number;
  };

  /** `RelMapFile`, utils/cache/relmapper.c: `MAX_MAPPINGS` and the size of the file. */
  readonly relMap: { readonly maxMappings: number; readonly fileSize: number };

  /** `CheckPoint` (catalog/pg_control.h) and `xl_end_of_recovery` carry `wal_level`: 17 and later. */
  readonly checkPointHasWalLevel: boolean;

  /** There is XLOG_CHECKPOINT_REDO (catalog/pg_control.h): 17 and later. */
  readonly hasCheckpointRedo: boolean;

  /** `PG_CONTROL_VERSION`, and whether `default_char_signedness` precedes the nonce (18). */
  readonly controlFile: { readonly version: number; readonly charSignedness: boolean };

  /**
   * `xl_xact_prepare` (access/xact.h) counts dropped statistics (15 and later); names in pg_twophase have 16 digits,
   * the epoch first, from 17 (access/transam/twophase.c).
   */
  readonly twoPhase: { readonly hasStats: boolean; readonly fileNameDigits: number };

  /**
   * Whether pruning drops unused line pointers at the end of a heap page's array (`PageRepairFragmentation`,
   * storage/page/bufpage.c). 14 does so only in the second pass of VACUUM.
   */
  readonly pruneTruncatesLinePointers: boolean;

  /** `SizeOfHeapInplace` (14-17) or `MinSizeOfHeapInplace` (18, with invalidation messages), access/heapam_xlog.h. */
  readonly sizeOfHeapInplace: number;

  /**
   * Whether XLOG_HASH_SQUEEZE_PAGE stamps its LSN on the page that takes the moved tuples even when there are none and
   * the page stays as it is (`hash_xlog_squeeze_page`, access/hash/hash_xlog.c): until 16.
   */
  readonly hashSqueezeAlwaysStampsWritePage: boolean;

  /** `SizeOfSpgxlogVacuumRedirect`, access/spgxlog.h: `isCatalogRel` is in front of the offsets from 16. */
  readonly sizeOfSpgxlogVacuumRedirect: 8 | 10;

  /** `SizeOfGistxlogDelete`, access/gistxlog.h: offset numbers follow; from 16 on isCatalogRel precedes them. */
  readonly sizeOfGistDelete: 6 | 8;

  /**
   * Shape of the replication commands (replication/repl_gram.y, walsender.c): from 15 BASE_BACKUP takes its options in
   * brackets and sends all archives in one copy, and there is READ_REPLICATION_SLOT.
   */
  readonly replicationCommands: "v14" | "v15";
}
