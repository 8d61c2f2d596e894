/**
 * What to restore, and what was restored.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";

/**
 * What the directory is for: `primary` starts at once, as after a clean shutdown; `standby` goes on replaying the
 * primary's WAL from its last checkpoint before the LSN.
 */
export type RestoreRole = "primary" | "standby";

export interface RestoreOptions {
  clock: Clock;
  /** Default `primary`. */
  as?: RestoreRole;
  /** PostgreSQL's timeline number of the restored cluster: a number, or the one that the LSN is on. Default: a fresh one. */
  tli?: number | "keep";
  /** Only this database and the shared catalogs, by its oid. Default: all. */
  database?: number;
  /** Checks every page's header and LSN before it is written. Default true; it costs little. */
  checkPages?: boolean;
  /** Bytes of layers to hold in memory while they are walked. Default 128 MiB. */
  memoryBytes?: number;
  events?: EventSink;
  onProgress?(progress: RestoreProgress): void;
  signal?: AbortSignal;
}

export interface RestoreProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

/** What a restore will write, or has written. */
export interface RestoreSummary {
  readonly lsn: Lsn;
  readonly role: RestoreRole;
  readonly major: number;
  readonly systemId: string;
  /** Of the restored cluster, and of the history that it comes from. */
  readonly tli: number;
  readonly parentTli: number;
  /** Where its checkpoint record starts; a standby's is that of the primary. */
  readonly checkPointLsn: Lsn;
  readonly databases: number;
  readonly tablespaces: number;
  readonly relations: number;
  readonly files: number;
  readonly pages: number;
  /** Of `pages`, those of transaction status and its like, which have no header. */
  readonly slruPages: number;
  readonly bytes: number;
  readonly preparedTransactions: number;
}
