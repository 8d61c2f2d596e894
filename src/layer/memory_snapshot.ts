/**
 * A frozen memory layer in a form that can be posted to another thread.
 *
 * Write path, inside flush: what lies in shared memory (see bytes/arena.ts) is named, not copied; the little that does
 * not is gathered into one buffer. `MemoryLayer.fromSnapshot` makes a layer of it again.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { KeySpace } from "./key.ts";
import type { BlocksInOrder } from "./key_order.ts";

/** See the module's description. Plain data: everything in it survives `structuredClone`. */
export interface MemorySnapshot extends BlocksInOrder {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly tli: number;
  readonly walBytes: number;
  readonly entryCount: number;
  /** The entries' words as the layer holds them; shared, or a copy. */
  readonly entries: Int32Array;
  /** Spaces with entries, as sorted on disk; the order of `blockCounts`. */
  readonly spaces: readonly KeySpace[];
  /** What holds the values: shared memory, and last the gathered rest. */
  readonly memory: readonly ArrayBufferLike[];
  /** For each of the layer's buffers: its memory, where it begins there, and its length. */
  readonly bufferMemory: Int32Array;
  readonly bufferOffset: Int32Array;
  readonly bufferLength: Int32Array;
}

/** Where a layer's buffers lie. */
export type BufferPlaces = Pick<MemorySnapshot, "memory" | "bufferMemory" | "bufferOffset" | "bufferLength">;

/** Names the memory of buffers; returns undefined if more than `copyMax` bytes are not shared. */
export function placeBuffers(buffers: readonly Uint8Array[], copyMax: number): BufferPlaces | undefined {
  let copied = 0;
  for (const bytes of buffers) if (!isShared(bytes)) copied += bytes.length;
  if (copied > copyMax) return undefined;
  const rest = new Uint8Array(copied);
  const memory: ArrayBufferLike[] = [];
  const known = new Map<ArrayBufferLike, number>();
  const bufferMemory = new Int32Array(buffers.length);
  const bufferOffset = new Int32Array(buffers.length);
  const bufferLength = new Int32Array(buffers.length);
  let restLength = 0;
  buffers.forEach((bytes, index) => {
    bufferLength[index] = bytes.length;
    if (!isShared(bytes)) {
      rest.set(bytes, restLength);
      bufferMemory[index] = -1;
      bufferOffset[index] = restLength;
      restLength += bytes.length;
      return;
    }
    let number = known.get(bytes.buffer);
    if (number === undefined) {
      number = memory.push(bytes.buffer) - 1;
      known.set(bytes.buffer, number);
    }
    bufferMemory[index] = number;
    bufferOffset[index] = bytes.byteOffset;
  });
  const last = memory.push(rest.buffer) - 1;
  for (let index = 0; index < buffers.length; index++) {
    if (bufferMemory[index] < 0) bufferMemory[index] = last;
  }
  return { memory, bufferMemory, bufferOffset, bufferLength };
}

/** The buffers again, as views. */
export function viewsOfBuffers(places: BufferPlaces): Uint8Array[] {
  const { memory, bufferMemory, bufferOffset, bufferLength } = places;
  const views: Uint8Array[] = new Array(bufferMemory.length);
  for (let index = 0; index < views.length; index++) {
    views[index] = new Uint8Array(memory[bufferMemory[index]], bufferOffset[index], bufferLength[index]);
  }
  return views;
}

/** Buffers of a snapshot that were made for it: they may be transferred instead of copied. */
export function transferables(snapshot: MemorySnapshot): ArrayBuffer[] {
  const { blockCounts, blocks, newest, bufferMemory, bufferOffset, bufferLength, entries } = snapshot;
  const columns = [blockCounts, blocks, newest, bufferMemory, bufferOffset, bufferLength, entries];
  const all = [...snapshot.memory, ...columns.map((column) => column.buffer)];
  return all.filter((buffer): buffer is ArrayBuffer => buffer instanceof ArrayBuffer);
}

/** Whether bytes lie in memory that other threads can see. */
export function isShared(view: ArrayBufferView): boolean {
  return typeof SharedArrayBuffer === "function" && view.buffer instanceof SharedArrayBuffer;
}
