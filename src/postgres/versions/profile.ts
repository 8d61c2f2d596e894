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
}
