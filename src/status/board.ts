/**
 * What the status endpoint and the metrics look at: the timelines of this process, their store, a base backup under way.
 *
 * One board for one process. It may be made, and served, before there is anything on it: following a new server begins
 * with a base backup that takes a while. Nothing here runs by itself; every value is worked out when somebody looks.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { manifestKey } from "../timeline/object_keys.ts";
import type { BackupProgress } from "../write/source/base_backup.ts";
import { describeError, type ErrorSnapshot } from "./error_body.ts";
import { redact } from "./redact.ts";
import { snapshotTimeline, type SourceSnapshot, type TimelineSnapshot } from "./snapshot.ts";
import { StoreProbe } from "./store_probe.ts";
import { VERSION } from "./version.ts";
import { type TimelineParts, WatchedTimeline } from "./watched_timeline.ts";

export interface StatusBoardOptions {
  clock: Clock;
  /** Shown by its description, and asked for the manifest by readiness checks. Without it they leave it out. */
  store?: Pick<ObjectStore, "description" | "head">;
  /** A follower that is further behind is not ready. Default: any lag will do once it has caught up. */
  readyLagSeconds?: number;
}

/** A base backup under way. */
export interface BackupSnapshot {
  readonly bytesDone: number;
  /** The server's estimate. */
  readonly bytesTotal: number;
  readonly bytesPerSecond: number | null;
  readonly secondsLeft: number | null;
}

/** The whole process. */
export interface StatusSnapshot {
  readonly version: string;
  readonly time: string;
  readonly startTime: string;
  readonly isReady: boolean;
  /** Why it is not ready. Empty when it is. */
  readonly reasons: ErrorSnapshot[];
  readonly store: string | null;
  /** Of the first timeline that is followed. */
  readonly source: SourceSnapshot | null;
  readonly backup: BackupSnapshot | null;
  readonly timelines: TimelineSnapshot[];
}

/** See the module's description. */
export class StatusBoard {
  readonly clock: Clock;
  readonly #options: StatusBoardOptions;
  readonly #probe: StoreProbe | undefined;
  readonly #timelines = new Map<string, WatchedTimeline>();
  readonly #startedAt: number;
  #backup: { progress: BackupProgress; startedMs: number; atMs: number } | undefined;

  constructor(options: StatusBoardOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.#startedAt = options.clock.now();
    this.#probe = options.store === undefined ? undefined : new StoreProbe(options.store, options.clock);
  }

  /**
   * Shows a timeline: what `follow()` or `attachReader()` gave, or its parts. Replaces another of the same name.
   *
   * @param source Where it comes from, for people: `connection.description`. Secrets are taken out.
   */
  add(parts: TimelineParts, source?: string): void {
    this.remove(parts.timeline.name);
    this.#timelines.set(parts.timeline.name, new WatchedTimeline(parts, this.clock, source ?? null));
    this.#backup = undefined;
  }

  remove(name: string): void {
    this.#timelines.get(name)?.close();
    this.#timelines.delete(name);
  }

  /** A hook for {@linkcode FollowOptions.onBackupProgress}. Bound, so that it can be handed on as it is. */
  readonly onBackupProgress = (progress: BackupProgress): void => {
    const atMs = this.clock.monotonicMs();
    this.#backup = { progress, startedMs: this.#backup?.startedMs ?? atMs, atMs };
  };

  /** All timelines, in the order in which they came. */
  timelines(): WatchedTimeline[] {
    return [...this.#timelines.values()];
  }

  /** @throws {NotFoundError} If this process has none of that name. */
  timeline(name: string): WatchedTimeline {
    const watched = this.#timelines.get(name);
    if (watched !== undefined) return watched;
    throw new NotFoundError(`Cannot show timeline "${name}": this process has none of that name`, {
      hint: "GET /v1/timelines lists those that it has.",
    });
  }

  /** Everything at once. */
  async snapshot(): Promise<StatusSnapshot> {
    const reasons = await this.reasonsNotReady();
    const timelines = this.timelines().map((watched) => snapshotTimeline(watched));
    const { store } = this.#options;
    return {
      version: VERSION,
      time: new Date(this.clock.now()).toISOString(),
      startTime: new Date(this.#startedAt).toISOString(),
      isReady: reasons.length === 0,
      reasons,
      store: store === undefined ? null : redact(store.description),
      source: timelines.find((timeline) => timeline.source !== null)?.source ?? null,
      backup: this.#backupSnapshot(),
      timelines,
    };
  }

  /**
   * Why this process cannot serve what is asked of it: starting, not connected, catching up, too far behind, fenced,
   * failed, ended, or the store does not answer. Empty when it is ready.
   */
  async reasonsNotReady(): Promise<ErrorSnapshot[]> {
    const reasons: ErrorSnapshot[] = [];
    if (this.#timelines.size === 0) reasons.push(this.#starting());
    // A follower that has just ended says so in a microtask.
    await Promise.resolve();
    for (const watched of this.#timelines.values()) reasons.push(...this.#followingReasons(watched));
    const probed = this.timelines().map((watched) => this.#storeReason(watched.name));
    for (const reason of await Promise.all(probed)) if (reason !== undefined) reasons.push(reason);
    return reasons;
  }

  #starting(): ErrorSnapshot {
    const message = this.#backup === undefined ? "No timeline is open yet" : "A base backup is being taken";
    return { code: "STARTING", message, hint: "Wait: the timeline opens when this is done." };
  }

  #followingReasons(watched: WatchedTimeline): ErrorSnapshot[] {
    const { name, state, failure, parts, lagSeconds } = watched;
    const of = `Timeline "${name}"`;
    if (state === "fenced" || state === "failed") {
      const { code, message, hint } = describeError(failure);
      return [{ code, message: `${of} is not followed any more: ${message}`, hint }];
    }
    if (state === "ended") return [{ code: "ENDED", message: `${of} is not followed any more`, hint: null }];
    const status = parts.connection?.current;
    if (status === undefined) return [];
    if (!status.isConnected) {
      return [{
        code: "NOT_CONNECTED",
        message: `${of} has no connection to its source`,
        hint: "It connects again by itself; the log says what is in the way.",
      }];
    }
    if (!status.caughtUp) {
      const behind = watched.lagBytes === null ? "" : `: ${watched.lagBytes} bytes to go`;
      return [{ code: "CATCHING_UP", message: `${of} is catching up${behind}`, hint: "Wait." }];
    }
    const { readyLagSeconds = Infinity } = this.#options;
    if (lagSeconds === null || lagSeconds <= readyLagSeconds) return [];
    const message = `${of} is ${lagSeconds} s behind, more than ${readyLagSeconds} s`;
    return [{ code: "LAGGING", message, hint: null }];
  }

  async #storeReason(timeline: string): Promise<ErrorSnapshot | undefined> {
    const failure = await this.#probe?.failure(manifestKey(timeline));
    if (failure === undefined) return undefined;
    const { message, hint } = describeError(failure);
    return { code: "STORE_UNAVAILABLE", message: `The store does not give the manifest: ${message}`, hint };
  }

  #backupSnapshot(): BackupSnapshot | null {
    if (this.#backup === undefined) return null;
    const { progress: { bytesDone, bytesTotal }, startedMs, atMs } = this.#backup;
    const seconds = (atMs - startedMs) / 1000;
    const bytesPerSecond = seconds > 0 ? bytesDone / seconds : null;
    const left = Math.max(0, bytesTotal - bytesDone);
    const secondsLeft = bytesPerSecond === null || bytesPerSecond === 0 ? null : left / bytesPerSecond;
    return { bytesDone, bytesTotal, bytesPerSecond, secondsLeft };
  }
}
