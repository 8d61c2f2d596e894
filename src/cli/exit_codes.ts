/**
 * What varve's process ends with, by what its caller should do next. Stable: scripts and supervisors rely on it.
 *
 * @module
 */
import {
  CorruptionError,
  FencedError,
  LsnCollectedError,
  LsnNotReachedError,
  MismatchError,
  NotFoundError,
  PostgresError,
  ProtocolError,
  UnavailableError,
  UnsupportedError,
  VarveError,
  WalLostError,
} from "../errors.ts";

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_UNAVAILABLE = 3;
export const EXIT_FENCED = 4;
export const EXIT_NOT_FOUND = 5;
export const EXIT_CORRUPTION = 6;
export const EXIT_UNSUPPORTED = 7;
export const EXIT_SOURCE_REFUSED = 8;
export const EXIT_STORE_REFUSED = 9;
export const EXIT_WAL_LOST = 10;
/** Plus the signal's number, as shells have it: 130 and 143. */
export const EXIT_SIGNAL = 128;

/** As `varve --help` shows them. */
export const EXIT_CODES: readonly (readonly [code: number | string, meaning: string])[] = [
  [EXIT_OK, "done, or stopped in order by a signal"],
  [EXIT_FAILED, "verification found differences; or failed in a way that has no code of its own"],
  [EXIT_USAGE, "the command line or environment is not right"],
  [EXIT_UNAVAILABLE, "source or store did not answer; trying again later may work"],
  [EXIT_FENCED, "another writer has taken the timeline over"],
  [EXIT_NOT_FOUND, "no such timeline, relation, block or file; LSN outside the window"],
  [EXIT_CORRUPTION, "bytes that were read are damaged"],
  [EXIT_UNSUPPORTED, "valid, but more than this version can do"],
  [EXIT_SOURCE_REFUSED, "the server refused (password, privilege, TLS), or is not the timeline's"],
  [EXIT_STORE_REFUSED, "the store refuses writes, or cannot keep two writers apart"],
  [EXIT_WAL_LOST, "the server no longer has WAL that is needed: follow under a new timeline name"],
  ["130, 143", "broken off by SIGINT or SIGTERM before there was anything to keep"],
];

/** A command line or environment that is not right. */
export class UsageError extends VarveError {
  override name = "UsageError";
  constructor(message: string, hint?: string) {
    super("USAGE", message, { hint });
  }
}

type ErrorClass = abstract new (...args: never[]) => Error;

const BY_CLASS: readonly (readonly [ErrorClass, number])[] = [
  [FencedError, EXIT_FENCED],
  [UnavailableError, EXIT_UNAVAILABLE],
  [NotFoundError, EXIT_NOT_FOUND],
  [LsnNotReachedError, EXIT_NOT_FOUND],
  [LsnCollectedError, EXIT_NOT_FOUND],
  [CorruptionError, EXIT_CORRUPTION],
  [UnsupportedError, EXIT_UNSUPPORTED],
  [WalLostError, EXIT_WAL_LOST],
  [MismatchError, EXIT_SOURCE_REFUSED],
  [PostgresError, EXIT_SOURCE_REFUSED],
  [ProtocolError, EXIT_SOURCE_REFUSED],
];

const BY_CODE: Readonly<Record<string, number>> = {
  USAGE: EXIT_USAGE,
  TLS: EXIT_SOURCE_REFUSED,
  NO_WAL_POSITION: EXIT_SOURCE_REFUSED,
  STORE_DENIED: EXIT_STORE_REFUSED,
  STORE_UNSAFE: EXIT_STORE_REFUSED,
};

/** The exit code that an error stands for. */
export function exitCodeOf(error: unknown): number {
  for (const [errorClass, code] of BY_CLASS) if (error instanceof errorClass) return code;
  return error instanceof VarveError ? BY_CODE[error.code] ?? EXIT_FAILED : EXIT_FAILED;
}
