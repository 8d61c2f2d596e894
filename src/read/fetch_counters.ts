/**
 * What reading layers costs, counted by who asked for it: for metrics and tests.
 *
 * @module
 */

/**
 * Why bytes of a layer are fetched: somebody reads, ingest needs an older value, compaction rewrites, or nobody waits for
 * them yet.
 */
export type FetchCause = "read" | "ingest" | "compaction" | "prefetch";

export const FETCH_CAUSES: readonly FetchCause[] = ["read", "ingest", "compaction", "prefetch"];

/** What went over the wire for one cause. */
export interface TransferCounters {
  /** Layers downloaded whole, and their bytes. */
  downloads: number;
  downloadedBytes: number;
  /** Ranges of layers read from the store, and their bytes. */
  rangeRequests: number;
  rangeBytes: number;
}

/** What was done for reads. The sums stand beside their parts. */
export interface LayerFilesCounters extends TransferCounters {
  readonly byCause: Readonly<Record<FetchCause, TransferCounters>>;
  /** Attempts to download a layer whole that failed. */
  failedDownloads: number;
  /** Local copies removed to make room or on request, and their bytes. */
  evictions: number;
  evictedBytes: number;
  /** Local copies found damaged, cut or gone. */
  damagedCopies: number;
  /** Downloads not made because what is there is read more often. */
  notAdmitted: number;
}

/** Counters at zero. */
export function newLayerFilesCounters(): LayerFilesCounters {
  const none = (): TransferCounters => ({
    downloads: 0,
    downloadedBytes: 0,
    rangeRequests: 0,
    rangeBytes: 0,
  });
  return {
    ...none(),
    byCause: { read: none(), ingest: none(), compaction: none(), prefetch: none() },
    failedDownloads: 0,
    evictions: 0,
    evictedBytes: 0,
    damagedCopies: 0,
    notAdmitted: 0,
  };
}

export function countRange(counters: LayerFilesCounters, cause: FetchCause, bytes: number): void {
  countRequest(counters, cause);
  countRangeBytes(counters, cause, bytes);
}

/** A request for a long range, of which nobody knows how much will be taken. */
export function countRequest(counters: LayerFilesCounters, cause: FetchCause): void {
  counters.rangeRequests++;
  counters.byCause[cause].rangeRequests++;
}

export function countRangeBytes(counters: LayerFilesCounters, cause: FetchCause, bytes: number): void {
  counters.rangeBytes += bytes;
  counters.byCause[cause].rangeBytes += bytes;
}

export function countDownload(counters: LayerFilesCounters, cause: FetchCause, bytes: number): void {
  for (const each of [counters, counters.byCause[cause]]) {
    each.downloads++;
    each.downloadedBytes += bytes;
  }
}
