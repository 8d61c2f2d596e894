/**
 * One timeline that the status endpoint watches: its running parts, and what must be remembered between two looks (how
 * following ended, when the server told what, the last logical size).
 *
 * The parts are structural: a {@linkcode Following}, an {@linkcode AttachedTimeline}, or parts of one's own making.
 *
 * @module
 */
import { FencedError } from "../errors.ts";
import { FAMILY_RELATION } from "../layer/key.ts";
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { DownloadTask } from "../read/download_all.ts";
import type { LayerFetcher } from "../read/fetch.ts";
import type { LayerFiles } from "../read/layer_files.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { CollectionTask } from "../upkeep/collection_task.ts";
import type { WalVerifier } from "../upkeep/verify_wal.ts";
import type { UpkeepLoop } from "../upkeep/upkeep_loop.ts";
import type { Follower } from "../write/follower.ts";
import type { ConnectionStatus, ConnectionStatusWatch } from "../write/source/status.ts";
import { LagMeter } from "./lag.ts";

/** What is looked at. Everything but the timeline may be missing, and shows as null then. */
export interface TimelineParts {
  readonly timeline: Pick<
    Timeline,
    | "name"
    | "facts"
    | "tli"
    | "startLsn"
    | "consistentLsn"
    | "floorLsn"
    | "lastRecordLsn"
    | "remoteConsistentLsn"
    | "layers"
    | "spaces"
    | "sizes"
    | "memoryBytes"
    | "frozen"
    | "recordCount"
    | "walBytes"
  >;
  readonly files?:
    & Pick<LayerFiles, "residentBytes" | "residentCount" | "isResident" | "counters">
    & Partial<Pick<LayerFiles, "lastUsedMs" | "download" | "evict" | "downloading">>;
  readonly fetcher?:
    & Pick<LayerFetcher, "counters" | "cachedBytes">
    & Partial<Pick<LayerFetcher, "layersPerRead" | "requestsPerRead" | "waitSeconds">>;
  /** Of whom is being followed. */
  readonly connection?: Pick<ConnectionStatusWatch, "current" | "subscribe">;
  /** Who compacts and makes images here. */
  readonly upkeep?: Pick<UpkeepLoop, "counters" | "writeAmplification">;
  /** Who collects what is not kept any more. */
  readonly collection?: Pick<CollectionTask, "counters">;
  /** Who writes; its absence makes the timeline one that is only read here. */
  readonly follower?: Pick<Follower, "counters" | "done">;
  /** Who judges redo beside it. */
  readonly verifier?: Pick<WalVerifier, "report" | "passedBytes" | "summary">;
}

/** What a timeline is doing in this process. `ended`: in order or broken off by us. */
export type TimelineState = "attached" | "following" | "ended" | "fenced" | "failed";

/** Bytes of a page, `BLCKSZ`. */
const BLOCK_SIZE = 8192;
/** How old a logical size may be, in times that it took to add it up: so it takes a twentieth of the time at most. */
const LOGICAL_SIZE_AGE = 20;

/** See the module's description. */
export class WatchedTimeline {
  readonly parts: TimelineParts;
  /** The source, without secrets; null where nothing is followed or nobody told. */
  readonly source: string | null;
  readonly #clock: Clock;
  readonly #lag = new LagMeter();
  readonly #unsubscribe: () => void;
  #state: TimelineState;
  #failure: unknown;
  /** The download of all layers that was started last. */
  downloadTask: DownloadTask | undefined;
  #logicalSize: { bytes: number; lsn: Lsn; goodUntilMs: number } | undefined;

  constructor(parts: TimelineParts, clock: Clock, source: string | null = null) {
    this.parts = parts;
    this.source = source;
    this.#clock = clock;
    const { follower, connection } = parts;
    this.#state = follower === undefined ? "attached" : "following";
    follower?.done.then(() => this.#state = "ended", (error) => this.#fail(error));
    this.#unsubscribe = connection?.subscribe((status) => this.#observe(status)) ?? (() => {});
    if (connection !== undefined) this.#observe(connection.current);
  }

  get name(): string {
    return this.parts.timeline.name;
  }
  get state(): TimelineState {
    return this.#state;
  }
  /** Why following has failed or was fenced. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Bytes of the server's WAL that have not been taken in; null while the server has not told its position. */
  get lagBytes(): number | null {
    const walEnd = this.parts.connection?.current.commitLsn ?? null;
    return walEnd === null ? null : Math.max(0, walEnd - this.parts.timeline.lastRecordLsn);
  }

  /**
   * Seconds that what can be read here is behind the server, as far as it told; null before the first connection. It
   * grows while there is no connection: nobody knows then what the server has written.
   */
  get lagSeconds(): number | null {
    const status = this.parts.connection?.current;
    if (status === undefined || status.latestConnectionUpdate === 0) return null;
    const now = this.#clock.now();
    const known = this.#lag.seconds(now, this.parts.timeline.lastRecordLsn);
    return status.isConnected ? known : Math.max(known, (now - status.latestConnectionUpdate) / 1000);
  }

  /**
   * Bytes of the main forks of all relations in all databases, now; null for one who only reads, who does not know them
   * without reading layers. With very many relations it may be some tenths of a second old.
   */
  get logicalSizeBytes(): number | null {
    const { follower, timeline } = this.parts;
    if (follower === undefined) return null;
    const startedMs = this.#clock.monotonicMs();
    const lsn = timeline.lastRecordLsn;
    const known = this.#logicalSize;
    if (known !== undefined && (known.lsn === lsn || startedMs < known.goodUntilMs)) return known.bytes;
    const bytes = mainForkBlocks(timeline) * BLOCK_SIZE;
    const endedMs = this.#clock.monotonicMs();
    this.#logicalSize = { bytes, lsn, goodUntilMs: endedMs + (endedMs - startedMs) * LOGICAL_SIZE_AGE };
    return bytes;
  }

  /** Ends watching. */
  close(): void {
    this.downloadTask?.cancel();
    this.#unsubscribe();
  }

  #observe(status: ConnectionStatus): void {
    if (status.commitLsn === null) return;
    this.#lag.observe(status.latestConnectionUpdate, status.commitLsn, this.parts.timeline.lastRecordLsn);
  }

  #fail(error: unknown): void {
    const brokenOff = error instanceof DOMException && error.name === "AbortError";
    this.#state = brokenOff ? "ended" : error instanceof FencedError ? "fenced" : "failed";
    if (!brokenOff) this.#failure = error;
  }
}

function mainForkBlocks({ spaces, sizes }: Pick<Timeline, "spaces" | "sizes">): number {
  let sum = 0;
  for (let id = 0; id < spaces.count; id++) {
    const blocks = spaces.familyOf(id) === FAMILY_RELATION ? sizes.get(id) : 0;
    if (blocks > 0 && spaces.get(id).d === 0) sum += blocks;
  }
  return sum;
}
