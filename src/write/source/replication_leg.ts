/**
 * One START_REPLICATION on one connection: WAL in, feedback out, until the server ends it.
 *
 * Write path, the innermost of the live source; `replication.ts` decides where legs begin and what follows one. Promises:
 * - every message's WAL begins where the one before ended, or the leg fails with a ProtocolError;
 * - the payload is copied exactly once, into memory of its own;
 * - while the reader lags nothing is read from the socket, and status goes on being sent from a timer.
 *
 * When PostgreSQL shuts down (fast or smart), its walsender waits until the standby reports everything as flushed, and asks
 * after every answer. A standby flushes then. We answer too, at a bounded rate and never with more than is durable, and
 * tell the timeline that a flush is wanted (`WalSndDone`, src/backend/replication/walsender.c).
 *
 * @module
 */
import { ProtocolError, UnavailableError } from "../../errors.ts";
import { abortReason } from "../../flow/abort.ts";
import { formatLsn, type Lsn } from "../../lsn.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CopyControl, CopyReceiver, DriverRow } from "../../ports/postgres_driver.ts";
import {
  encodeNeonFeedback,
  encodeStandbyStatus,
  type FeedbackKind,
  type FeedbackPositions,
} from "../feedback.ts";
import { parseLsnOrUndefined, parseTli, textValue } from "./identify.ts";
import { parseReplicationMessage, XLOG_DATA_HEADER_BYTES } from "./replication_messages.ts";
import { quoteIdentifier, type Session } from "./session.ts";
import type { ConnectionStatusWatch } from "./status.ts";
import type { WalOutlet } from "./wal_source.ts";

/** How far varve is, asked whenever feedback is sent. Must be quick and not throw. */
export interface ReplicationPositions {
  /** End of the last record processed. */
  processed(): Lsn;
  /** End of WAL that is durable at the acknowledged level: the server may forget it. */
  durable(): Lsn;
  /** For a Neon safekeeper: end of WAL on the local disk. Default: `durable`. */
  diskConsistent?(): Lsn;
  /** For a Neon safekeeper: logical size of the timeline in bytes. Default: 0. */
  currentTimelineSize?(): number;
}

/** What a leg needs. */
export interface LegOptions {
  session: Session;
  clock: Clock;
  outlet: WalOutlet;
  status: ConnectionStatusWatch;
  positions: ReplicationPositions;
  /** PostgreSQL's timeline to stream. */
  tli: number;
  start: Lsn;
  /** What comes before is received, but not handed over: a page header. */
  handOverFrom: Lsn;
  slot?: string;
  feedback: FeedbackKind;
  statusIntervalMs: number;
  /** Silence after which the connection is given up. */
  receiveTimeoutMs: number;
  /** The server waits for everything up to this position to become durable. */
  onFlushWanted: (position: Lsn) => void;
  signal: AbortSignal;
}

/** How a leg ended well. */
export type LegEnd =
  /** The server shuts down; it had sent everything. */
  | { kind: "shutdown" }
  /** The server's history left this timeline here. */
  | { kind: "timeline"; tli: number; start: Lsn };

/** Least time between two answers while the server asks again and again. */
const ANSWER_INTERVAL_MS = 100;

/** Silence after which the server is asked for a sign of life. */
const ASK_AFTER_MS = 5000;

/** Runs a leg to its end. Rejects with an error of varve's or the signal's reason; the session is then still open. */
export function runLeg(options: LegOptions): Promise<LegEnd> {
  return new ReplicationLeg(options).run();
}

class ReplicationLeg implements CopyReceiver {
  readonly #options: LegOptions;
  readonly #result: Promise<LegEnd>;
  #resolve!: (end: LegEnd) => void;
  #reject!: (error: unknown) => void;
  /** Ends the status timer. */
  readonly #over = new AbortController();
  #copy: CopyControl | undefined;
  /** Received without a gap up to here. */
  #received: Lsn;
  #lastRow: (string | null)[] = [];
  #lastHeardMs: number;
  #isPaused = false;
  #isOver = false;
  #lastAnswerMs = -Infinity;
  #lastAnswer: FeedbackPositions | undefined;
  /** The server asks for a flush up to here. */
  #flushWanted: Lsn | undefined;
  /** Earlier feedback has not left yet, and nothing was heard since. */
  #isStuck = false;

  constructor(options: LegOptions) {
    this.#options = options;
    this.#result = new Promise((resolve, reject) => [this.#resolve, this.#reject] = [resolve, reject]);
    this.#received = options.start;
    this.#lastHeardMs = options.clock.monotonicMs();
  }

  async run(): Promise<LegEnd> {
    const { session, slot, start, tli, signal, outlet, feedback } = this.#options;
    if (signal.aborted) throw abortReason(signal);
    const onAbort = () => this.#fail(abortReason(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    outlet.onDemand = () => this.#resume();
    try {
      // A safekeeper knows no timelines of PostgreSQL's.
      const timeline = feedback === "neon" ? "" : ` TIMELINE ${tli}`;
      const named = slot === undefined ? "" : `SLOT ${quoteIdentifier(slot)} `;
      const command = `START_REPLICATION ${named}PHYSICAL ${formatLsn(start)}${timeline}`;
      this.#copy = session.copy(command, `stream WAL at ${formatLsn(start)}`, this);
      this.#sendStatusFromTimer();
      return await this.#result;
    } finally {
      this.#isOver = true;
      this.#over.abort();
      outlet.onDemand = () => {};
      signal.removeEventListener("abort", onAbort);
      this.#sendStatus(false); // so that the server knows the latest even when we leave
    }
  }

  begin(): void {
    this.#sendStatus(false);
  }

  row(row: DriverRow): void {
    this.#lastRow = row.map(textValue);
  }

  /** The server has sent this timeline to its end; it tells the next one after our CopyDone. */
  end(): void {
    this.#sendStatus(false);
    this.#copy?.finish();
  }

  done(error: unknown): void {
    if (this.#options.session.copyCompleted && error !== null) this.#resolve({ kind: "shutdown" });
    else if (error !== null) this.#fail(error);
    else this.#endOfTimeline();
  }

  data(message: Uint8Array): void {
    if (this.#isOver) return;
    try {
      this.#receive(message);
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(message: Uint8Array): void {
    const { clock, status, positions } = this.#options;
    const parsed = parseReplicationMessage(message);
    this.#lastHeardMs = clock.monotonicMs();
    this.#isStuck = false;
    const now = clock.now();
    if (parsed.kind === "keepalive") {
      status.keepaliveReceived(now, parsed.walEnd, parsed.replyRequested ? positions.processed() : undefined);
      if (parsed.replyRequested) this.#answer(parsed.walEnd);
    } else {
      const length = message.length - XLOG_DATA_HEADER_BYTES;
      if (parsed.startLsn !== this.#received) {
        throw new ProtocolError(
          `Cannot take WAL from ${this.#options.session.description}: expected it to go on at ` +
            `${formatLsn(this.#received)}, got ${formatLsn(parsed.startLsn)}`,
        );
      }
      status.walReceived(now, parsed.startLsn, length, parsed.walEnd);
      if (length > 0) this.#handOver(message, parsed.startLsn, parsed.walEnd, parsed.sentAtMs);
    }
    status.processed(positions.processed());
  }

  #handOver(message: Uint8Array, startLsn: Lsn, serverWalEnd: Lsn, sentAtMs: number): void {
    this.#received = startLsn + message.length - XLOG_DATA_HEADER_BYTES as Lsn;
    const skipped = Math.max(0, this.#options.handOverFrom - startLsn);
    if (startLsn + skipped >= this.#received) return;
    const data = new Uint8Array(this.#received - startLsn - skipped);
    data.set(message.subarray(XLOG_DATA_HEADER_BYTES + skipped));
    const hasRoom = this.#options.outlet.push({
      startLsn: startLsn + skipped as Lsn,
      data,
      tli: this.#options.tli,
      serverWalEnd,
      sentAtMs,
    });
    if (!hasRoom && !this.#isPaused) {
      this.#isPaused = true;
      this.#copy?.pause();
    }
  }

  #resume(): void {
    this.#options.status.processed(this.#options.positions.processed());
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#lastHeardMs = this.#options.clock.monotonicMs();
    this.#copy?.resume();
  }

  /** The server wants to hear from us: at once, unless it asks again right after an answer that still holds. */
  #answer(walEnd: Lsn): void {
    const { clock, onFlushWanted } = this.#options;
    const positions = this.#positions();
    if (walEnd <= this.#received && positions.flushed < walEnd && this.#flushWanted !== walEnd) {
      this.#flushWanted = walEnd;
      onFlushWanted(walEnd);
    }
    const isNews = positions.received !== this.#lastAnswer?.received ||
      positions.flushed !== this.#lastAnswer?.flushed || positions.applied !== this.#lastAnswer?.applied;
    if (isNews || clock.monotonicMs() - this.#lastAnswerMs >= ANSWER_INTERVAL_MS) this.#sendStatus(false);
  }

  #positions(): FeedbackPositions {
    const { positions, feedback } = this.#options;
    const durable = positions.durable();
    const flushed = feedback === "neon" ? positions.diskConsistent?.() ?? durable : durable;
    return { received: this.#received, flushed, applied: durable };
  }

  #sendStatus(replyRequested: boolean): void {
    const { clock, positions, feedback } = this.#options;
    if (this.#copy === undefined || this.#isStuck) return;
    const now = clock.now();
    const told = this.#lastAnswer = this.#positions();
    this.#lastAnswerMs = clock.monotonicMs();
    if (this.#flushWanted !== undefined && told.flushed >= this.#flushWanted) this.#flushWanted = undefined;
    const message = feedback === "neon"
      ? encodeNeonFeedback(told, now, positions.currentTimelineSize?.() ?? 0)
      : encodeStandbyStatus(told, now, replyRequested);
    this.#isStuck = !this.#copy.write(message);
  }

  async #sendStatusFromTimer(): Promise<void> {
    const { clock, statusIntervalMs, receiveTimeoutMs, positions, status, session } = this.#options;
    try {
      for (;;) {
        // While the server waits for our flush, it shall learn of it soon.
        const wait = this.#flushWanted === undefined ? statusIntervalMs : ANSWER_INTERVAL_MS;
        await clock.sleep(Math.min(wait, statusIntervalMs), this.#over.signal);
        status.processed(positions.processed());
        const silenceMs = this.#isPaused ? 0 : clock.monotonicMs() - this.#lastHeardMs;
        if (silenceMs > receiveTimeoutMs) {
          const what = `stream WAL from ${session.description}: nothing heard for ${
            Math.round(silenceMs)
          } ms`;
          throw new UnavailableError(`Cannot ${what}`, {}, "TIMEOUT");
        }
        // Hearing from us, PostgreSQL sees no reason to speak while there is no WAL, unless we ask.
        this.#sendStatus(silenceMs > Math.min(receiveTimeoutMs / 2, ASK_AFTER_MS));
      }
    } catch (error) {
      if (!this.#isOver) this.#fail(error);
    }
  }

  #endOfTimeline(): void {
    const tli = parseTli(this.#lastRow[0]);
    const start = parseLsnOrUndefined(this.#lastRow[1]);
    if (tli === undefined || start !== this.#received) {
      this.#fail(
        new ProtocolError(
          `Cannot follow ${this.#options.session.description}: it ended timeline ${this.#options.tli} at ` +
            `${formatLsn(this.#received)}, and names as next "${this.#lastRow.join(" ")}"`,
        ),
      );
    } else {
      this.#resolve({ kind: "timeline", tli, start });
    }
  }

  #fail(error: unknown): void {
    this.#isOver = true;
    this.#reject(error);
  }
}
