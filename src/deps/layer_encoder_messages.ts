/**
 * What a layer encoder and its worker say to each other.
 *
 * Each run has a number. The worker posts a chunk for every credit it was given and then waits, so that a slow store
 * does not fill memory with chunks.
 *
 * @module
 */
import { type BlockCodec, CODEC_LZ4, CODEC_ZSTD } from "../bytes/block_codec.ts";
import { LZ4_CODEC } from "../bytes/portable_codecs.ts";
import { CorruptionError, type CorruptionPosition, UnsupportedError, VarveError } from "../errors.ts";
import type { LayerSummary } from "../layer/layer_writer.ts";
import type { MemorySnapshot } from "../layer/memory_snapshot.ts";
import { nodeZstdCodec } from "./node_zstd.ts";

/** The codec of a number, the same on both sides; undefined: there is none here. */
export function threadCodec(id: number): BlockCodec | undefined {
  if (id === CODEC_LZ4) return LZ4_CODEC;
  return id === CODEC_ZSTD ? nodeZstdCodec() : undefined;
}

/** To the worker. */
export type EncoderRequest =
  | { kind: "encode"; run: number; snapshot: MemorySnapshot; major: number; codec?: number; credit: number }
  /** One more chunk may be made. */
  | { kind: "credit"; run: number }
  /** Nobody wants the rest. */
  | { kind: "end"; run: number };

/** From the worker. */
export type EncoderAnswer =
  | { kind: "chunk"; run: number; chunk: Uint8Array }
  | { kind: "done"; run: number; summary: LayerSummary }
  | { kind: "failed"; run: number; error: PostedError };

/** An error as it is posted: cloning would lose its class. */
export interface PostedError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly position?: CorruptionPosition;
  readonly stack?: string;
}

export function postedError(error: unknown): PostedError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message, stack } = error;
  if (error instanceof CorruptionError) {
    return { name, message, stack, code: error.code, hint: error.hint, position: error.position };
  }
  if (error instanceof VarveError) return { name, message, stack, code: error.code, hint: error.hint };
  return { name, message, stack };
}

/** The error again, of the class that it was. */
export function revivedError(posted: PostedError): Error {
  const { message, hint, code, stack, position } = posted;
  const error = revived();
  // The message is already whole; the stack is that of the other thread, which is where to look.
  error.message = message;
  if (stack !== undefined) error.stack = stack;
  return error;

  function revived(): Error {
    if (position !== undefined) return new CorruptionError(message, position, { hint });
    if (posted.name === "UnsupportedError") return new UnsupportedError(message, { hint });
    if (code !== undefined) return new VarveError(code, message, { hint });
    if (posted.name === "RangeError") return new RangeError(message);
    if (posted.name === "TypeError") return new TypeError(message);
    return new Error(message);
  }
}
