/**
 * Errors as the status endpoint shows them: `{ error: { code, message, hint } }`, redacted.
 *
 * @module
 */
import { NotFoundError, UnavailableError, VarveError } from "../errors.ts";
import { redact } from "./redact.ts";

/** What cannot be done as things are here, and is no failure. */
const CONFLICTS = new Set(["NO_LOCAL_COPIES", "NO_ROOM"]);

/** An error for a client. `hint` is null where there is nothing to advise. */
export interface ErrorSnapshot {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

/** What a person may see of an error: code, message and hint; never its cause, stack or fields. */
export function describeError(error: unknown): ErrorSnapshot {
  if (error instanceof VarveError) {
    const hint = error.hint === undefined ? null : redact(error.hint);
    return { code: error.code, message: redact(error.message), hint };
  }
  if (error instanceof Error) return { code: "ERROR", message: redact(error.message), hint: null };
  return { code: "ERROR", message: redact(String(error)), hint: null };
}

/** The answer to a request that failed. What is no error of varve's says nothing of the inside. */
export function errorResponse(
  error: unknown,
): { status: 404 | 409 | 500 | 503; body: { error: ErrorSnapshot } } {
  if (error instanceof NotFoundError) return { status: 404, body: { error: describeError(error) } };
  if (error instanceof UnavailableError) return { status: 503, body: { error: describeError(error) } };
  if (error instanceof VarveError && CONFLICTS.has(error.code)) {
    return { status: 409, body: { error: describeError(error) } };
  }
  if (error instanceof VarveError) return { status: 500, body: { error: describeError(error) } };
  return {
    status: 500,
    body: { error: { code: "INTERNAL", message: "Cannot answer: something failed inside", hint: null } },
  };
}
