/**
 * The values of one key that a read has collected, newest first.
 *
 * Read path, between locate and replay. Columns in plain arrays, reused for many reads: they may be longer than the
 * chain. Values are ranges of buffers that are kept alive by being referenced here.
 *
 * @module
 */
import { getU32 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { endsChain, VALUE_FULL_PAGE_IMAGE, VALUE_KIND_MASK } from "./key.ts";
import type { DecodedBlock } from "./layer_block.ts";

const NO_BYTES = new Uint8Array(0);

/** See the module's description. */
export class ValueChain {
  readonly lsns: Lsn[] = [];
  readonly flags: number[] = [];
  readonly buffers: Uint8Array[] = [];
  readonly offsets: number[] = [];
  readonly lengths: number[] = [];
  /** Full-page images: hole offset in the low, hole length in the high 16 bits. */
  readonly holes: number[] = [];

  #length = 0;

  /** How many values there are. */
  get length(): number {
    return this.#length;
  }

  push(lsn: Lsn, flags: number, buffer: Uint8Array, offset: number, length: number, hole: number): void {
    const index = this.#length++;
    this.lsns[index] = lsn;
    this.flags[index] = flags;
    this.buffers[index] = buffer;
    this.offsets[index] = offset;
    this.lengths[index] = length;
    this.holes[index] = hole;
  }

  /**
   * Adds an entry of a layer's block.
   *
   * @throws {CorruptionError} If it is too short to be what its flags say.
   */
  pushEntry(block: DecodedBlock, entry: number): void {
    const lsn = block.lsns[entry] as Lsn;
    const flags = block.flags[entry];
    let offset = block.valueOffsets[entry];
    let length = block.valueLengths[entry];
    let hole = 0;
    if ((flags & VALUE_KIND_MASK) === VALUE_FULL_PAGE_IMAGE) {
      if (length < 4) throw new CorruptionError("Cannot read a page image: too short", { lsn, got: length });
      hole = getU32(block.bytes, offset);
      offset += 4;
      length -= 4;
    }
    this.push(lsn, flags, block.bytes, offset, length, hole);
  }

  /**
   * Adds the values of several chains, newest first and each LSN once, until one that ends the chain; returns whether
   * one did.
   */
  pushMerged(parts: readonly ValueChain[]): boolean {
    const next = parts.map(() => 0);
    for (;;) {
      let newest = -1;
      for (let part = 0; part < parts.length; part++) {
        if (next[part] === parts[part].length) continue;
        const lsn = parts[part].lsns[next[part]];
        if (newest < 0 || lsn > parts[newest].lsns[next[newest]]) newest = part;
      }
      if (newest < 0) return false;
      const { lsns, flags, buffers, offsets, lengths, holes } = parts[newest];
      const index = next[newest]++;
      const oldest = this.oldestLsn();
      if (oldest !== undefined && lsns[index] >= oldest) continue;
      this.push(lsns[index], flags[index], buffers[index], offsets[index], lengths[index], holes[index]);
      if (endsChain(flags[index])) return true;
    }
  }

  /** LSN of the oldest value collected so far, or undefined. */
  oldestLsn(): Lsn | undefined {
    return this.#length === 0 ? undefined : this.lsns[this.#length - 1];
  }

  clear(): void {
    this.cut(0);
  }

  /** Takes away all but the first `length` values. The columns stay as they are: they would have to be made anew. */
  cut(length: number): void {
    while (this.#length > length) this.buffers[--this.#length] = NO_BYTES;
  }
}
