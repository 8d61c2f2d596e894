/**
 * Layer files in memory, for tests and benches.
 *
 * @module
 */
import type { LayerSource } from "../../src/layer/layer_reader.ts";

/** Chunks of a writer as one file. */
export function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const file = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    file.set(chunk, at);
    at += chunk.length;
  }
  return file;
}

/** A source over bytes, which remembers the ranges read. A range beyond the end comes back short. */
export class MemorySource implements LayerSource {
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly ranges: { offset: number; length: number }[] = [];

  constructor(bytes: Uint8Array, size: number = bytes.length) {
    this.bytes = bytes;
    this.size = size;
  }

  readRange(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    this.ranges.push({ offset, length });
    return Promise.resolve(this.bytes.subarray(offset, offset + length));
  }
}

export function memorySource(bytes: Uint8Array): MemorySource {
  return new MemorySource(bytes);
}
