/**
 * What goes wrong with S3, as varve's errors: by what the caller should do.
 *
 * @module
 */
import {
  CorruptionError,
  NotFoundError,
  PreconditionFailedError,
  ProtocolError,
  UnavailableError,
  UnsupportedError,
  VarveError,
} from "../../errors.ts";
import type { PutCondition } from "../../ports/object_store.ts";

/** What is known about a request that failed. */
export interface FailedRequest {
  /** "read object \"x\" in s3://bucket". */
  readonly doing: string;
  readonly error: unknown;
  readonly status?: number;
  readonly serverCode?: string;
  readonly condition?: PutCondition;
  readonly signal?: AbortSignal;
  /** Taken out of messages. */
  readonly secrets: readonly string[];
}

const CHECK_SERVER = "Check that the endpoint is right and that the server is up.";
const CHECK_CREDENTIALS =
  "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may use this bucket.";
const CHECK_REGION = "Check the region (`?region=` or AWS_REGION) and the endpoint of the store's URL.";

const DENIED_HINTS: Record<string, string> = {
  AuthorizationHeaderMalformed: CHECK_REGION,
  PermanentRedirect: CHECK_REGION,
  MovedPermanently: CHECK_REGION,
  TemporaryRedirect: CHECK_REGION,
  RequestTimeTooSkewed: "This machine's clock is wrong: S3 accepts 15 minutes of difference.",
  ExpiredToken: "The session token (AWS_SESSION_TOKEN) has expired: get a new one.",
};

/** Codes without a telling status, or with one that says something else. */
const RETRYABLE = new Set([
  "SlowDown",
  "RequestTimeout",
  "InternalError",
  "ServiceUnavailable",
  "Throttling",
]);
const CONFLICTS = new Set(["PreconditionFailed", "ConditionalRequestConflict"]);

/** The error to throw. Varve's own errors, the signal's reason and misuse pass as they are. */
export function s3Error(failed: FailedRequest): unknown {
  const { doing, error, status, signal } = failed;
  if (signal?.aborted) return signal.reason;
  if (
    error instanceof UnavailableError || error instanceof CorruptionError || error instanceof ProtocolError
  ) {
    return redecorated(doing, error);
  }
  if (error instanceof VarveError || error instanceof TypeError || error instanceof RangeError) return error;
  const code = failed.serverCode ?? stringOf(error, "code") ?? "";
  const cause = describe(error, code, failed);
  const message = `Cannot ${doing}: ${cause.message}`;

  if (status === 412 || CONFLICTS.has(code) || isUnmatched(failed, code)) {
    return new PreconditionFailedError(message, { cause });
  }
  if (code === "NoSuchBucket") {
    return new NotFoundError(message, {
      cause,
      hint: "Create the bucket, or check its name in the store's URL.",
    });
  }
  if (status === 404) return new NotFoundError(`Cannot ${doing}: no such object`, { cause });
  if (status === 416) {
    return new CorruptionError(`Cannot ${doing}: the range reaches beyond the object's end`);
  }
  if (status === 501) {
    return new UnsupportedError(message, { cause, hint: "This S3 server lacks a feature that varve needs." });
  }
  // Without a status, or after a good one, the connection failed.
  const isRefusal = status !== undefined && status >= 300 && status < 500;
  if (!isRefusal || status === 429 || status === 408 || status === 499 || RETRYABLE.has(code)) {
    const hint = status === undefined && !RETRYABLE.has(code) ? CHECK_SERVER : undefined;
    return new UnavailableError(message, { cause, hint });
  }
  // What is left says that the request as such is not acceptable: repeating it will not help.
  return new VarveError("STORE_DENIED", message, { cause, hint: DENIED_HINTS[code] ?? CHECK_CREDENTIALS });
}

/** A write that names a version of an object which does not exist gets 404. */
function isUnmatched({ condition, status }: FailedRequest, code: string): boolean {
  return condition !== undefined && "ifMatch" in condition && status === 404 && code !== "NoSuchBucket" &&
    code !== "NoSuchUpload";
}

/** Says in the message what we were doing. */
function redecorated(doing: string, error: VarveError): VarveError {
  error.message = `Cannot ${doing}: ${error.message}`;
  return error;
}

/**
 * An error that can be shown. The original stays behind: it carries the answer's fields, among them the access key id
 * and the string that was signed.
 */
function describe(error: unknown, code: string, { status, secrets }: FailedRequest): Error {
  const message = stringOf(error, "message") ?? String(error);
  const text = message.includes("Retryable HTTP status") ? "" : message; // minio-js has not looked into the answer
  const told = [text.includes(code) ? "" : code, text].filter((part) => part !== "").join(": ");
  const shown = told === "" ? `the server answered with status ${status}` : told;
  return new Error(secrets.reduce((shown, secret) => shown.replaceAll(secret, "***"), shown));
}

function stringOf(error: unknown, field: string): string | undefined {
  const value = (error as Record<string, unknown> | null | undefined)?.[field];
  return typeof value === "string" ? value : undefined;
}
