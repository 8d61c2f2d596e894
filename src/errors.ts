/**
 * Every error class of varve, grouped by what the caller should do.
 *
 * A leaf. All of them extend {@linkcode VarveError}; misuse of an API throws TypeError or RangeError instead.
 * Messages say what was being done, where, expected and got; `hint` says what to do next.
 *
 * @module
 */
import { formatLsn, type Lsn } from "./lsn.ts";

/** What every error may carry besides its message. */
export interface VarveErrorOptions {
  /** The error underneath. */
  cause?: unknown;
  /** One sentence: what the reader of the message can do about it. */
  hint?: string;
}

/** The base of every error that varve throws on purpose. */
export class VarveError extends Error {
  override name = "VarveError";
  /** A stable machine-readable word, upper snake case. */
  readonly code: string;
  /** What to do next, where we know. */
  readonly hint?: string;

  constructor(code: string, message: string, options: VarveErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.hint = options.hint;
  }
}

/** Something outside did not answer or refused for now: retrying later may work. */
export class UnavailableError extends VarveError {
  override name = "UnavailableError";
  constructor(message: string, options: VarveErrorOptions = {}, code = "UNAVAILABLE") {
    super(code, message, options);
  }
}

/** Another writer has taken over this timeline: stop, acknowledge nothing more. */
export class FencedError extends VarveError {
  override name = "FencedError";
  constructor(message: string, options: VarveErrorOptions = {}) {
    super("FENCED", message, options);
  }
}

/** A conditional write found the object in another state than it named. */
export class PreconditionFailedError extends VarveError {
  override name = "PreconditionFailedError";
  constructor(message: string, options: VarveErrorOptions = {}) {
    super("PRECONDITION_FAILED", message, options);
  }
}

/** The thing asked for (object, relation, timeline, block) does not exist. */
export class NotFoundError extends VarveError {
  override name = "NotFoundError";
  constructor(message: string, options: VarveErrorOptions = {}, code = "NOT_FOUND") {
    super(code, message, options);
  }
}

/** The LSN asked for has not been received yet: wait, or ask for an earlier one. */
export class LsnNotReachedError extends VarveError {
  override name = "LsnNotReachedError";
  readonly requested: Lsn;
  readonly reached: Lsn;
  constructor(requested: Lsn, reached: Lsn, options: VarveErrorOptions = {}) {
    super(
      "LSN_NOT_REACHED",
      `Cannot read at LSN ${formatLsn(requested)}: the timeline has reached ${formatLsn(reached)}`,
      {
        hint: "Wait until the follower has caught up, or ask for an LSN at or before the last record.",
        ...options,
      },
    );
    this.requested = requested;
    this.reached = reached;
  }
}

/** The LSN asked for lies before what the timeline keeps: too late. */
export class LsnCollectedError extends VarveError {
  override name = "LsnCollectedError";
  readonly requested: Lsn;
  readonly earliest: Lsn;
  constructor(requested: Lsn, earliest: Lsn, options: VarveErrorOptions = {}) {
    super(
      "LSN_COLLECTED",
      `Cannot read at LSN ${formatLsn(requested)}: history starts at ${formatLsn(earliest)}`,
      { hint: "Ask for an LSN inside the recoverable window; `varve info` shows it.", ...options },
    );
    this.requested = requested;
    this.earliest = earliest;
  }
}

/** Where a corruption was met; each field is given when it is known. */
export interface CorruptionPosition {
  /** Object or file name. */
  object?: string;
  /** Byte offset inside `object` or inside the buffer in question. */
  offset?: number;
  lsn?: Lsn;
  expected?: string | number;
  got?: string | number;
}

/** Bytes are not what they must be. Carries where, and expected and got. */
export class CorruptionError extends VarveError {
  override name = "CorruptionError";
  readonly position: CorruptionPosition;
  constructor(message: string, position: CorruptionPosition = {}, options: VarveErrorOptions = {}) {
    super("CORRUPTION", message + describePosition(position), options);
    this.position = position;
  }
}

function describePosition(position: CorruptionPosition): string {
  const parts: string[] = [];
  if (position.object !== undefined) parts.push(`in ${position.object}`);
  if (position.offset !== undefined) parts.push(`at offset ${position.offset}`);
  if (position.lsn !== undefined) parts.push(`at LSN ${formatLsn(position.lsn)}`);
  if (position.expected !== undefined) parts.push(`expected ${position.expected}`);
  if (position.got !== undefined) parts.push(`got ${position.got}`);
  return parts.length === 0 ? "" : `: ${parts.join(", ")}`;
}

/** A valid input that this build cannot handle: names major, resource manager and opcode where they apply. */
export class UnsupportedError extends VarveError {
  override name = "UnsupportedError";
  constructor(message: string, options: VarveErrorOptions = {}) {
    super("UNSUPPORTED", message, options);
  }
}

/** A peer broke its protocol (a gap in the LSN sequence, an unknown message, an impossible answer). */
export class ProtocolError extends VarveError {
  override name = "ProtocolError";
  constructor(message: string, options: VarveErrorOptions = {}) {
    super("PROTOCOL", message, options);
  }
}

/** PostgreSQL answered with an error. */
export class PostgresError extends VarveError {
  override name = "PostgresError";
  /** Five-character SQLSTATE, for example `28P01`. */
  readonly sqlState: string;
  constructor(sqlState: string, message: string, options: VarveErrorOptions = {}) {
    super("POSTGRES", message, options);
    this.sqlState = sqlState;
  }
}

/** The server, timeline and options do not fit together (system identifier, major, wal_level, ...). */
export class MismatchError extends VarveError {
  override name = "MismatchError";
  constructor(message: string, options: VarveErrorOptions = {}) {
    super("MISMATCH", message, options);
  }
}

/** WAL that is still needed is gone from the server: this timeline cannot go on from it, bootstrap another. */
export class WalLostError extends VarveError {
  override name = "WalLostError";
  constructor(message: string, options: VarveErrorOptions = {}) {
    super("WAL_LOST", message, {
      hint:
        "Follow under a new timeline name (a new base backup), with a replication slot that keeps WAL until it is stored.",
      ...options,
    });
  }
}
