/**
 * Bodies of objects on their way into a store, held to the size they announce, if any: a store must never keep an
 * object that is shorter or longer than its writer meant.
 *
 * @module
 */
import { abortReason } from "../flow/abort.ts";
import type { ObjectBody } from "../ports/object_store.ts";

/** Announced size in bytes, undefined where none is. Throws RangeError when it is no size. */
export function bodySize(body: ObjectBody): number | undefined {
  if (body instanceof Uint8Array) return body.length;
  const { size } = body;
  if (size === undefined || (Number.isSafeInteger(size) && size >= 0)) return size;
  throw new RangeError(`Cannot write an object: its size must be a non-negative integer, got ${size}`);
}

/**
 * The body in pieces, none empty. Throws RangeError as soon as it turns out longer, or at its end shorter, than
 * announced; rejects with the signal's reason between pieces. Pieces of bytes at hand are views of at most `pieceSize`.
 */
export async function* bodyPieces(
  body: ObjectBody,
  signal?: AbortSignal,
  pieceSize = 1 << 20,
): AsyncGenerator<Uint8Array, void, void> {
  if (body instanceof Uint8Array) {
    for (let at = 0; at < body.length; at += pieceSize) {
      if (signal?.aborted) throw abortReason(signal);
      yield body.subarray(at, at + pieceSize);
    }
    return;
  }
  const size = bodySize(body);
  let seen = 0;
  for await (const piece of body.open()) {
    if (signal?.aborted) throw abortReason(signal);
    if (piece.length === 0) continue;
    seen += piece.length;
    if (size !== undefined && seen > size) throw wrongSize(size, `at least ${seen}`);
    yield piece;
  }
  if (size !== undefined && seen < size) throw wrongSize(size, `${seen}`);
}

/** The whole body in memory of its own: the caller's buffer may change afterwards. */
export async function readBody(body: ObjectBody, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  if (body instanceof Uint8Array) return new Uint8Array(body);
  const pieces: Uint8Array[] = [];
  for await (const piece of bodyPieces(body, signal)) pieces.push(piece.slice());
  return concatenate(pieces);
}

/** One array of many. */
export function concatenate(pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** A body that has ended. */
export function emptyBody(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}

function wrongSize(expected: number, got: string): RangeError {
  return new RangeError(
    `Cannot write an object: its body must have the ${expected} bytes announced, got ${got}`,
  );
}
