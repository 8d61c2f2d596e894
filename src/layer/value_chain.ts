/**
 * The values of one key that a read has collected, newest first.
 *
 * Read path, between locate and replay. Columns in plain arrays, reused for many reads; values are ranges of buffers
 * that are kept alive by being referenced here.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";

/** See the module's description. */
export class ValueChain {
  readonly lsns: Lsn[] = [];
  readonly flags: number[] = [];
  readonly buffers: Uint8Array[] = [];
  readonly offsets: number[] = [];
  readonly lengths: number[] = [];
  /** Full-page images: hole offset in the low, hole length in the high 16 bits. */
  readonly holes: number[] = [];

  get length(): number {
    return this.lsns.length;
  }

  push(lsn: Lsn, flags: number, buffer: Uint8Array, offset: number, length: number, hole: number): void {
    this.lsns.push(lsn);
    this.flags.push(flags);
    this.buffers.push(buffer);
    this.offsets.push(offset);
    this.lengths.push(length);
    this.holes.push(hole);
  }

  /** LSN of the oldest value collected so far, or undefined. */
  oldestLsn(): Lsn | undefined {
    return this.lsns.at(-1);
  }

  clear(): void {
    this.lsns.length = this.flags.length = this.buffers.length = 0;
    this.offsets.length = this.lengths.length = this.holes.length = 0;
  }
}
