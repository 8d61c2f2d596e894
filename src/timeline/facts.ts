/**
 * What a timeline knows about the cluster it follows; recorded at bootstrap, checked at every connection, never changed.
 *
 * @module
 */
import { MismatchError } from "../errors.ts";

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

/** The facts that a server shows again at every connection. */
export type ServerFacts = Pick<ClusterFacts, "systemId" | "major" | "walSegmentSize" | "blockSize">;

/**
 * Refuses a server that is not the one the timeline was made from.
 *
 * @throws {MismatchError} Naming the first fact that differs, with both values.
 */
export function checkSameCluster(recorded: ServerFacts, server: ServerFacts): void {
  const checks: [keyof ServerFacts, string, string][] = [
    ["systemId", "system identifier", "This is another cluster: follow it into a timeline of its own."],
    ["major", "PostgreSQL major version", "After an upgrade the cluster needs a new timeline."],
    [
      "walSegmentSize",
      "WAL segment size",
      "The segment size cannot change within a timeline: start a new one.",
    ],
    ["blockSize", "block size", "The block size cannot change within a timeline: start a new one."],
  ];
  for (const [field, what, hint] of checks) {
    if (recorded[field] !== server[field]) {
      throw new MismatchError(
        `Cannot follow this server: its ${what} is ${server[field]}, the timeline's is ${recorded[field]}`,
        { hint },
      );
    }
  }
}
