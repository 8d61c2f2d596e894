/**
 * The file system's error codes as varve's errors.
 *
 * @module
 */
import { NotFoundError, UnavailableError, VarveError } from "../../errors.ts";

/** The code of a file system error, `ENOENT` for example; undefined for other errors. */
export function fsCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return error instanceof Error && !(error instanceof VarveError) && typeof code === "string"
    ? code
    : undefined;
}

/** Whether `error` has one of these codes. */
export function isFsError(error: unknown, ...codes: string[]): boolean {
  const code = fsCode(error);
  return code !== undefined && codes.includes(code);
}

const HINTS: Record<string, string> = {
  ENOSPC: "The disk is full: free some space or move the store.",
  EDQUOT: "The disk quota is used up: free some space or raise it.",
  EMFILE: "The process has too many files open: raise its limit (`ulimit -n`).",
  ENFILE: "The system has too many files open.",
  EACCES: "The user who runs this needs the right to read and write the store's directory.",
  EPERM: "The user who runs this needs the right to read and write the store's directory.",
  EROFS: "The file system is mounted read-only.",
  EXDEV: "The store's directory must be one file system: no mount points below it.",
  ENOTDIR: "In a directory store an object's key cannot also be the folder of other objects.",
  EISDIR: "In a directory store an object's key cannot also be the folder of other objects.",
};

const DENIED = new Set(["EACCES", "EPERM", "EROFS", "EXDEV", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "EFBIG"]);

/**
 * `error` in varve's words, for an operation described as "write object \"x\" in file:///y". Errors that are not the
 * file system's (aborts, misuse, varve's own) pass unchanged.
 */
export function fsError(doing: string, error: unknown): unknown {
  const code = fsCode(error);
  if (code === undefined || !code.startsWith("E") || error instanceof TypeError) return error;
  const hint = HINTS[code];
  const message = `Cannot ${doing}: ${(error as Error).message}`;
  if (code === "ENOENT") return new NotFoundError(message, { cause: error });
  if (DENIED.has(code)) return new VarveError("STORE_DENIED", message, { cause: error, hint });
  return new UnavailableError(message, { cause: error, hint });
}
