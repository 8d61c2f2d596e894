/**
 * The live source: a stream of WAL from a PostgreSQL server, for one session or for ever.
 *
 * First stage of the write path; decode reads what comes out. Promises:
 * - WAL comes without gaps, over reconnects and switches of PostgreSQL's timeline too; a gap is an error;
 * - the server is checked at every connect against what the timeline has recorded;
 * - the queue is bounded in bytes and back-pressure reaches the socket;
 * - an abort, a cancel and an error close everything that was opened.
 *
 * Events: `source.connected`, `source.slot`, `source.streaming`, `source.caught_up`, `source.timeline`,
 * `source.flush_wanted`, `source.disconnected`, and `source.retry` with the error and how long the pause is.
 *
 * @module
 */
import { MismatchError, PostgresError, UnavailableError, VarveError } from "../../errors.ts";
import { abortReason, anySignal } from "../../flow/abort.ts";
import { Backoff } from "../../flow/backoff.ts";
import { DEFAULT_WAL_SEGMENT_SIZE, formatLsn, type Lsn } from "../../lsn.ts";
import type { FeedbackKind } from "../feedback.ts";
import {
  checkServerMatches,
  checkServerUsable,
  describeServer,
  readServerFacts,
  type RecordedServer,
  type ServerFacts,
} from "./identify.ts";
import { type LegEnd, type ReplicationPositions, runLeg } from "./replication_leg.ts";
import { openSession, type Session, type SourceAccess } from "./session.ts";
import { ensureSlot } from "./slot.ts";
import { isTransient } from "./source_errors.ts";
import { ConnectionStatusWatch } from "./status.ts";
import { planTimeline } from "./timeline_plan.ts";
import { DEFAULT_QUEUE_BYTES, startPointAfter, type WalChunk, WalOutlet } from "./wal_source.ts";

export type { ReplicationPositions } from "./replication_leg.ts";

/** What to follow, from where, and who wants to know. */
export interface ReplicationOptions extends SourceAccess {
  /** End of the last record that the timeline has; streaming begins behind it. */
  lastRecordLsn: Lsn;
  /** PostgreSQL's timeline of that record. Default: the one that the server is on. */
  tli?: number;
  positions: ReplicationPositions;
  /** What the timeline was bootstrapped with. Default: any server is taken. */
  expected?: RecordedServer;
  /** Physical replication slot; made where it is missing. Default: none, WAL may be recycled under us. */
  slot?: string;
  /** `neon` for a Neon safekeeper: no settings, slots or timelines are asked for. Default: `postgres`. */
  feedback?: FeedbackKind;
  /** Between two status messages. At most a third of the server's wal_sender_timeout is used. Default: 1 s. */
  statusIntervalMs?: number;
  /** Silence after which a connection is given up. Default: 60 s. */
  receiveTimeoutMs?: number;
  /** Default: 1 MiB. */
  queueBytes?: number;
  status?: ConnectionStatusWatch;
  /** Called with +1 for a connection made and -1 for it gone, whatever the reason. */
  onConnections?: (change: 1 | -1) => void;
  /** The server shuts down and waits until this position is durable. */
  onFlushWanted?: (position: Lsn) => void;
  signal?: AbortSignal;
}

const STATUS_INTERVAL_MS = 1000;
const RECEIVE_TIMEOUT_MS = 60_000;

/**
 * Streams WAL over one connection. The stream closes when the server shuts down, and fails when the connection does.
 *
 * Errors: UnavailableError (try again later), MismatchError (another server, diverged, wal_level), WalLostError (the server
 * has recycled WAL that is needed), PostgresError (password, privileges, ...), ProtocolError, VarveError `NO_WAL_POSITION`
 * and `TLS`, UnsupportedError, or the signal's reason.
 */
export function openReplication(options: ReplicationOptions): ReadableStream<WalChunk> {
  return new ReplicationSource(options).start(async (source, signal) => {
    while ((await source.runSession(signal)).kind === "timeline");
  });
}

/**
 * Streams WAL for ever: whatever may heal by itself is tried again after a pause of 0.1 s growing by half to 15 s, counted
 * from the start of the failed attempt, and from the beginning once WAL was processed. The stream goes on exactly
 * where it was; it ends only by an error that waiting does not heal, by `signal`, or by its reader.
 *
 * Errors as of {@linkcode openReplication}, except UnavailableError.
 */
export function followReplication(options: ReplicationOptions): ReadableStream<WalChunk> {
  const { clock, events, positions, connection } = options;
  const backoff = new Backoff(clock, { initialMs: 100, factor: 1.5, maxMs: 15_000, jitter: 0 });
  return new ReplicationSource(options).start(async (source, signal) => {
    for (;;) {
      const startedMs = clock.monotonicMs();
      const processedBefore = positions.processed();
      let failure: unknown = null;
      try {
        if ((await source.runSession(signal)).kind === "timeline") continue;
      } catch (error) {
        if (signal.aborted || !mayHeal(error, source.hasStreamed)) throw error;
        failure = error;
      }
      if (positions.processed() > processedBefore) backoff.reset();
      const waitMs = Math.max(0, backoff.next() - (clock.monotonicMs() - startedMs));
      events?.({
        level: failure === null ? "info" : "warn",
        topic: "source.retry",
        message: `Connecting to ${connection.description} again in ${Math.round(waitMs)} ms`,
        fields: { waitMs, attempt: backoff.attempts, hint: (failure as VarveError | null)?.hint ?? null },
        error: failure ?? undefined,
      });
      await clock.sleep(waitMs, signal);
    }
  });
}

/** A refused password or certificate of a source that has let us in before may be a change under way there. */
function mayHeal(error: unknown, hasStreamed: boolean): boolean {
  if (isTransient(error)) return true;
  const isRefusal = (error instanceof PostgresError && /^(28|42501)/.test(error.sqlState)) ||
    (error instanceof VarveError && error.code === "TLS");
  return hasStreamed && isRefusal;
}

/** Runs sessions one after the other and pushes what they receive into one stream. */
class ReplicationSource {
  /** Whether the server has let us stream before. */
  hasStreamed = false;
  readonly #options: ReplicationOptions;
  readonly #status: ConnectionStatusWatch;
  readonly #cancelled = new AbortController();
  readonly #outlet: WalOutlet;
  #tli: number | undefined;
  #finished: Promise<void> = Promise.resolve();

  constructor(options: ReplicationOptions) {
    this.#options = options;
    this.#status = options.status ?? new ConnectionStatusWatch();
    this.#tli = options.tli;
    this.#outlet = new WalOutlet(options.queueBytes ?? DEFAULT_QUEUE_BYTES, (reason) => {
      this.#cancelled.abort(reason);
      return this.#finished;
    });
  }

  start(run: (source: this, signal: AbortSignal) => Promise<void>): ReadableStream<WalChunk> {
    this.#finished = (async () => {
      using either = anySignal(this.#options.signal, this.#cancelled.signal);
      try {
        if (either.signal.aborted) throw abortReason(either.signal);
        await run(this, either.signal);
        this.#outlet.close();
      } catch (error) {
        this.#outlet.fail(error);
      }
    })();
    return this.#outlet.stream;
  }

  /** Connects, checks, streams, closes. */
  async runSession(signal: AbortSignal): Promise<LegEnd> {
    const { onConnections, clock, positions } = this.#options;
    const session = await openSession(this.#options, signal);
    onConnections?.(1);
    try {
      this.#status.connected(clock.now(), positions.processed());
      this.#status.identified(clock.now(), session.identity.xlogPos);
      return await this.#stream(session, signal);
    } finally {
      this.#status.processed(positions.processed());
      await session.close();
      this.#status.disconnected();
      onConnections?.(-1);
      this.#event("info", "disconnected", `Disconnected from ${session.description}`);
    }
  }

  async #stream(session: Session, signal: AbortSignal): Promise<LegEnd> {
    const options = this.#options;
    const feedback = options.feedback ?? "postgres";
    const facts = feedback === "neon" ? null : await this.#checkServer(session, signal);
    if (facts !== null && options.slot !== undefined) {
      await this.#ensureSlot(session, facts, options.slot, signal);
    }
    const { start, handOverFrom, position } = this.#startPoint(session, facts);
    if (facts === null) this.#tli = session.identity.tli;
    else this.#tli = await planTimeline(session, this.#tli, position, facts.inRecovery, signal);
    const timeoutMs = facts?.walSenderTimeoutMs ?? 0;
    const intervalMs = options.statusIntervalMs ?? STATUS_INTERVAL_MS;
    this.#event("info", "streaming", `Streaming WAL from ${formatLsn(start)} on timeline ${this.#tli}`);
    const unsubscribe = this.#tellWhenCaughtUp();
    this.#status.streaming(start);
    this.hasStreamed = true;
    const end = await runLeg({
      session,
      clock: options.clock,
      outlet: this.#outlet,
      status: this.#status,
      positions: options.positions,
      tli: this.#tli,
      start,
      handOverFrom,
      slot: feedback === "neon" ? undefined : options.slot,
      feedback,
      statusIntervalMs: timeoutMs > 0 ? Math.min(intervalMs, timeoutMs / 3) : intervalMs,
      receiveTimeoutMs: options.receiveTimeoutMs ?? RECEIVE_TIMEOUT_MS,
      onFlushWanted: (position) => this.#flushWanted(position),
      signal,
    }).finally(unsubscribe);
    if (end.kind === "timeline") {
      this.#tli = end.tli;
      this.#event(
        "info",
        "timeline",
        `The server went over to timeline ${end.tli} at ${formatLsn(end.start)}`,
      );
    }
    return end;
  }

  async #checkServer(session: Session, signal: AbortSignal): Promise<ServerFacts> {
    const facts = await readServerFacts(session, signal);
    checkServerUsable(facts, session.description);
    const { expected } = this.#options;
    if (expected !== undefined) checkServerMatches(session.identity, facts, expected, session.description);
    const encrypted = session.encrypted ? "encrypted" : "not encrypted";
    this.#event(
      "info",
      "connected",
      `Connected, ${encrypted}, to ${describeServer(session.identity, facts)}`,
    );
    return facts;
  }

  async #ensureSlot(session: Session, facts: ServerFacts, slot: string, signal: AbortSignal): Promise<void> {
    const { created } = await ensureSlot(session, facts, slot, signal);
    if (!created) return;
    this.#event("warn", "slot", `Slot ${slot} was missing and has been made: WAL from before may be gone`);
  }

  /** Where to go on: exactly behind what was received, or at first behind the last record. */
  #startPoint(
    session: Session,
    facts: ServerFacts | null,
  ): { start: Lsn; handOverFrom: Lsn; position: Lsn } {
    const { lastRecordLsn, expected } = this.#options;
    const segmentSize = facts?.walSegmentSize ?? expected?.walSegmentSize ?? DEFAULT_WAL_SEGMENT_SIZE;
    const first = startPointAfter(lastRecordLsn, segmentSize);
    const { xlogPos, tli } = session.identity;
    const handOverFrom = this.#outlet.end ?? first.normalized;
    // A server that has written nothing behind a page boundary refuses to start behind the header it has yet to write.
    const isUnwritten = this.#outlet.end === undefined && xlogPos < first.normalized;
    const start = isUnwritten ? first.aligned : handOverFrom;
    if (facts !== null && xlogPos < start && (this.#tli ?? tli) === tli) {
      throw this.#isBehind(session, facts, start);
    }
    // A history that leaves a timeline at a page boundary names the boundary, not the end of the header behind it.
    return { start, handOverFrom, position: this.#outlet.end ?? first.aligned };
  }

  #isBehind(session: Session, facts: ServerFacts, start: Lsn): VarveError {
    const message =
      `Cannot follow ${session.description}: its WAL ends at ${formatLsn(session.identity.xlogPos)}, ` +
      `varve already has WAL up to ${formatLsn(start)}`;
    if (facts.inRecovery) {
      return new UnavailableError(message, { hint: "The standby lags behind; varve waits for it." });
    }
    return new MismatchError(message, {
      hint:
        "The server has lost WAL that it had sent (restored from a copy?): follow under a new timeline name.",
    });
  }

  /** Once for each connection. Returns how to stop waiting for it. */
  #tellWhenCaughtUp(): () => void {
    const unsubscribe = this.#status.subscribe(({ caughtUp, streamingLsn }) => {
      if (!caughtUp) return;
      unsubscribe();
      const at = streamingLsn === null ? "" : ` at ${formatLsn(streamingLsn)}`;
      this.#event("info", "caught_up", `Received all WAL that the server had when we connected${at}`);
    });
    return unsubscribe;
  }

  #flushWanted(position: Lsn): void {
    this.#event("info", "flush_wanted", `The server waits until WAL up to ${formatLsn(position)} is durable`);
    this.#options.onFlushWanted?.(position);
  }

  #event(level: "info" | "warn", topic: string, message: string): void {
    this.#options.events?.({ level, topic: `source.${topic}`, message });
  }
}
