/**
 * What a timeline knows about the cluster it follows; recorded at bootstrap, checked at every connection, never changed.
 *
 * @module
 */
/** Facts that must hold for as long as the timeline is followed. */
export interface ClusterFacts {
  /** `system_identifier`, decimal text of a u64. */
  readonly systemId: string;
  /** Major version, 14-18. */
  readonly major: number;
  /** Bytes of a WAL segment: a power of two, 1 MiB to 1 GiB. */
  readonly walSegmentSize: number;
  /** `BLCKSZ`; only 8192 is supported. */
  readonly blockSize: number;
  /** Whether pages carry checksums. */
  readonly dataChecksums: boolean;
  /** `wal_log_hints` at bootstrap; with it or checksums, redo sets the LSN where hint bits change. */
  readonly walLogHints: boolean;
}

/** Hint-bit changes are in WAL: PostgreSQL's `XLogHintBitIsNeeded()`. */
export function hintBitsLogged(facts: ClusterFacts): boolean {
  return facts.dataChecksums || facts.walLogHints;
}
