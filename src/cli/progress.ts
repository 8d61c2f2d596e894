/**
 * How far a base backup is, and how following goes: a line that is redrawn on a terminal, plain or JSON lines elsewhere.
 *
 * @module
 */
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { ConnectionStatus } from "../write/source/status.ts";
import type { Reporter } from "./reporter.ts";
import type { Terminal } from "./terminal.ts";
import { formatBytes, formatDuration, formatRate, plural } from "./values.ts";

/** Between two redraws, and between two lines where nothing can be redrawn. */
const REDRAW_MS = 200;
const LINE_MS = 5000;
/** The stretch that rates are measured over. */
const RATE_WINDOW_MS = 5000;
/** A rate over a shorter stretch says nothing. */
const RATE_LEAST_MS = 250;

/** Bytes per second over the last few seconds. */
export class RateMeter {
  readonly #samples: { atMs: number; total: number }[] = [];

  /** @param total Bytes so far, never fewer than before. */
  add(atMs: number, total: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && atMs - last.atMs < RATE_WINDOW_MS / 50) last.total = total;
    else this.#samples.push({ atMs, total });
    while (this.#samples.length > 2 && atMs - this.#samples[1].atMs >= RATE_WINDOW_MS) this.#samples.shift();
  }

  /** Null while there is too little to tell. */
  get bytesPerSecond(): number | null {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.atMs - first.atMs < RATE_LEAST_MS) return null;
    return (last.total - first.total) / (last.atMs - first.atMs) * 1000;
  }
}

/** Where progress goes. */
export interface ProgressOutlets {
  terminal: Terminal;
  reporter: Reporter;
  clock: Clock;
}

/** Tells of bytes done out of a total. */
export class BytesProgress {
  readonly #outlets: ProgressOutlets;
  readonly #topic: string;
  readonly #what: string;
  readonly #rate = new RateMeter();
  #toldMs = -Infinity;

  /** @param what For people: `base backup`. @param topic For JSON lines. */
  constructor(outlets: ProgressOutlets, topic: string, what: string) {
    this.#outlets = outlets;
    this.#topic = topic;
    this.#what = what;
  }

  /** A hook, bound. */
  readonly update = (progress: { bytesDone: number; bytesTotal: number }): void => {
    const { terminal, reporter, clock } = this.#outlets;
    const { bytesDone, bytesTotal } = progress;
    const now = clock.monotonicMs();
    this.#rate.add(now, bytesDone);
    const redraws = terminal.redraws && !reporter.json;
    if (now - this.#toldMs < (redraws ? REDRAW_MS : reporter.json ? LINE_MS / 5 : LINE_MS)) return;
    this.#toldMs = now;
    const bytesPerSecond = this.#rate.bytesPerSecond;
    const left = Math.max(0, bytesTotal - bytesDone);
    const secondsLeft = bytesPerSecond === null || bytesPerSecond <= 0 ? null : left / bytesPerSecond;
    const message = `${this.#what} ` + bytesLine(bytesDone, bytesTotal, bytesPerSecond, secondsLeft);
    if (redraws) terminal.status(message);
    else reporter.progress(this.#topic, message, { bytesDone, bytesTotal, bytesPerSecond, secondsLeft });
  };

  /** Removes the line. */
  end(): void {
    this.#outlets.terminal.status("");
  }
}

/** `512 MiB of 1.20 GiB, 42%, 85.0 MB/s, 12 s left`; without a total that is beyond what is done, `512 MiB, 85.0 MB/s`. */
export function bytesLine(
  done: number,
  total: number,
  bytesPerSecond: number | null,
  secondsLeft: number | null,
): string {
  const isKnown = total > done;
  const parts = isKnown
    ? [`${formatBytes(done)} of ${formatBytes(total)}`, `${Math.floor(done / total * 100)}%`]
    : [formatBytes(done)];
  if (bytesPerSecond !== null) parts.push(formatRate(bytesPerSecond));
  if (isKnown && secondsLeft !== null) parts.push(`${formatDuration(secondsLeft * 1000)} left`);
  return parts.join(", ");
}

/** What a status line of following is made of. */
export interface FollowingParts {
  timeline: Timeline;
  /** Absent: no server, an import. */
  connection?: { readonly current: ConnectionStatus };
}

/** Shows how following goes, until it is ended. */
export class FollowingProgress {
  readonly #outlets: ProgressOutlets;
  readonly #parts: FollowingParts;
  readonly #rate = new RateMeter();
  readonly #ended = new AbortController();
  #told = { lsn: -1, caughtUp: false };

  constructor(outlets: ProgressOutlets, parts: FollowingParts) {
    this.#outlets = outlets;
    this.#parts = parts;
    this.#run();
  }

  /** Removes the line and tells no more. */
  end(): void {
    this.#ended.abort();
    this.#outlets.terminal.status("");
  }

  async #run(): Promise<void> {
    const { terminal, reporter, clock } = this.#outlets;
    const redraws = terminal.redraws && !reporter.json;
    try {
      for (;;) {
        this.#rate.add(clock.monotonicMs(), this.#parts.timeline.walBytes);
        if (redraws) terminal.status(this.#line());
        await clock.sleep(redraws ? REDRAW_MS : LINE_MS, this.#ended.signal);
        if (!redraws) this.#tellChange();
      }
    } catch {
      // Ended.
    }
  }

  /** A line where something has changed: who follows an idle server does not fill a log with that. */
  #tellChange(): void {
    const { lastRecordLsn } = this.#parts.timeline;
    const caughtUp = this.#parts.connection?.current.caughtUp ?? false;
    if (lastRecordLsn === this.#told.lsn && caughtUp === this.#told.caughtUp) return;
    this.#told = { lsn: lastRecordLsn, caughtUp };
    this.#outlets.reporter.progress("follow.progress", this.#line(), this.#fields());
  }

  #fields() {
    const { timeline, connection } = this.#parts;
    return {
      lastRecordLsn: formatLsn(timeline.lastRecordLsn),
      durableLsn: formatLsn(timeline.remoteConsistentLsn),
      lagBytes: this.#lagBytes(),
      bytesPerSecond: this.#rate.bytesPerSecond,
      walBytes: timeline.walBytes,
      layers: timeline.layers.count,
      isConnected: connection?.current.isConnected ?? null,
      caughtUp: connection?.current.caughtUp ?? null,
    };
  }

  #lagBytes(): number | null {
    const commitLsn: Lsn | null = this.#parts.connection?.current.commitLsn ?? null;
    return commitLsn === null ? null : Math.max(0, commitLsn - this.#parts.timeline.lastRecordLsn);
  }

  #line(): string {
    const { timeline, connection } = this.#parts;
    const parts = [formatLsn(timeline.lastRecordLsn)];
    if (connection !== undefined && !connection.current.isConnected) parts.push("not connected");
    const lag = this.#lagBytes();
    if (lag !== null) parts.push(`lag ${formatBytes(lag)}`);
    parts.push(formatRate(this.#rate.bytesPerSecond ?? 0), plural(timeline.layers.count, "layer"));
    parts.push(`durable ${formatLsn(timeline.remoteConsistentLsn)}`);
    return `at ${parts.join(", ")}`;
  }
}
