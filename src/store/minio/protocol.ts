/**
 * What S3's protocol says in headers: conditions of a write, and whether a range is the one that was asked for.
 *
 * Both S3 stores, whatever carries their requests.
 *
 * @module
 */
import { CorruptionError, ProtocolError } from "../../errors.ts";
import type { PutCondition } from "../../ports/object_store.ts";

/** Headers of a conditional write. */
export function conditionHeaders(condition: PutCondition | undefined): Record<string, string> {
  if (condition === undefined) return {};
  return "ifMatch" in condition ? { "if-match": `"${condition.ifMatch}"` } : { "if-none-match": "*" };
}

/** Headers of a ranged read of at least one byte. */
export function rangeHeaders(offset: number, length: number): Record<string, string> {
  return { range: `bytes=${offset}-${offset + length - 1}` };
}

/**
 * Checks the `Content-Range` of an answer to a ranged read.
 *
 * @throws {CorruptionError} If the object ends before the range does. @throws {ProtocolError} If it is another range.
 */
export function checkGivenRange(
  key: string,
  offset: number,
  length: number,
  status: number | undefined,
  range: string | null | undefined,
): void {
  const last = offset + length - 1;
  const given = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range ?? "");
  if (status !== 206 || given === null || Number(given[1]) !== offset) {
    throw new ProtocolError(`expected bytes ${offset}-${last}, got ${range ?? `status ${status}`}`);
  }
  if (Number(given[2]) < last) throw beyondEnd(key, offset, length, Number(given[2]) + 1);
}

/** A read beyond the end of an object. */
export function beyondEnd(key: string, offset: number, length: number, size: number): CorruptionError {
  return new CorruptionError(`the ${length} bytes reach beyond the object's end`, {
    object: key,
    offset,
    expected: `${offset + length} bytes`,
    got: `${size} bytes`,
  });
}
