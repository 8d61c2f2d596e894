/**
 * One 8 KiB page and its header.
 *
 * Shared by redo, masks and readers. A {@linkcode Page} owns typed-array views of exactly its own 8192 bytes, so that
 * whatever an edit does it can never reach a neighbour in an arena; wrong offsets must still be refused by checks,
 * because a typed array silently drops a write that lies outside.
 *
 * Page layout (PostgreSQL src/include/storage/bufpage.h, 14-18; little-endian):
 * ```
 * offset width name
 *      0     4 pd_lsn.xlogid        upper half of the LSN
 *      4     4 pd_lsn.xrecoff       lower half
 *      8     2 pd_checksum
 *     10     2 pd_flags             PD_HAS_FREE_LINES 1, PD_PAGE_FULL 2, PD_ALL_VISIBLE 4
 *     12     2 pd_lower             end of line pointers
 *     14     2 pd_upper             start of tuple space; 0 = page is new
 *     16     2 pd_special           start of special space
 *     18     2 pd_pagesize_version  8192 | 4
 *     20     4 pd_prune_xid
 *     24   4*n pd_linp              line pointers: lp_off 15 bits, lp_flags 2, lp_len 15
 * ```
 *
 * @module
 */
import type { Lsn } from "../../lsn.ts";
import { CorruptionError } from "../../errors.ts";

export const BLCKSZ = 8192;
/** The last block number that there is (PostgreSQL src/include/storage/block.h). */
export const MaxBlockNumber = 0xffff_fffe;
export const SizeOfPageHeaderData = 24;
export const PG_PAGE_LAYOUT_VERSION = 4;

export const PD_HAS_FREE_LINES = 0x0001;
export const PD_PAGE_FULL = 0x0002;
export const PD_ALL_VISIBLE = 0x0004;

/** Line pointer states, `lp_flags`. */
export const LP_UNUSED = 0;
export const LP_NORMAL = 1;
export const LP_REDIRECT = 2;
export const LP_DEAD = 3;

/** The first valid offset number: line pointers count from 1. */
export const FirstOffsetNumber = 1;
export const InvalidOffsetNumber = 0;

/** Bytes of one line pointer. */
export const SizeOfItemId = 4;

/** Rounds up to the platform's maximum alignment, 8. */
export function MAXALIGN(length: number): number {
  return (length + 7) & ~7;
}

/** A page with its header fields. All numbers are unsigned; offsets are bytes from the page's start. */
export class Page {
  /** The 8192 bytes. */
  readonly u8: Uint8Array;
  /** The same bytes as 4096 aligned 16-bit words. */
  readonly u16: Uint16Array;
  /** The same bytes as 2048 aligned 32-bit words. */
  readonly u32: Uint32Array;

  /**
   * @param buffer Memory that holds the page; a fresh zeroed one by default.
   * @param byteOffset Where the page starts in it; a multiple of 8.
   * @throws {RangeError} If the page does not fit at that offset or the offset is unaligned.
   */
  constructor(buffer: ArrayBufferLike = new ArrayBuffer(BLCKSZ), byteOffset = 0) {
    this.u8 = new Uint8Array(buffer, byteOffset, BLCKSZ);
    this.u16 = new Uint16Array(buffer, byteOffset, BLCKSZ / 2);
    this.u32 = new Uint32Array(buffer, byteOffset, BLCKSZ / 4);
  }

  /** A page over a copy of `bytes`, which must be exactly 8192 long. */
  static from(bytes: Uint8Array): Page {
    if (bytes.length !== BLCKSZ) {
      throw new RangeError(`Cannot make a page: expected ${BLCKSZ} bytes, got ${bytes.length}`);
    }
    const page = new Page();
    page.u8.set(bytes);
    return page;
  }

  /** `pd_lsn`: end of the last record that changed this page. Beyond 2^53 only on corrupt pages. */
  get lsn(): Lsn {
    return this.u32[0] * 0x1_0000_0000 + this.u32[1] as Lsn;
  }
  setLsn(value: Lsn): void {
    // The stores cut off what is above 32 bits, and fractions.
    this.u32[0] = value / 0x1_0000_0000;
    this.u32[1] = value;
  }

  get checksum(): number {
    return this.u16[4];
  }
  set checksum(value: number) {
    this.u16[4] = value;
  }
  get flags(): number {
    return this.u16[5];
  }
  set flags(value: number) {
    this.u16[5] = value;
  }
  get lower(): number {
    return this.u16[6];
  }
  set lower(value: number) {
    this.u16[6] = value;
  }
  get upper(): number {
    return this.u16[7];
  }
  set upper(value: number) {
    this.u16[7] = value;
  }
  get special(): number {
    return this.u16[8];
  }
  set special(value: number) {
    this.u16[8] = value;
  }
  get pagesizeVersion(): number {
    return this.u16[9];
  }
  set pagesizeVersion(value: number) {
    this.u16[9] = value;
  }
  get pruneXid(): number {
    return this.u32[5];
  }
  set pruneXid(value: number) {
    this.u32[5] = value;
  }

  /** `PageIsNew`: never initialised (`pd_upper == 0`). */
  isNew(): boolean {
    return this.u16[7] === 0;
  }

  /** `PageGetMaxOffsetNumber`: number of line pointers, 0 on an empty or new page. */
  maxOffsetNumber(): number {
    const lower = this.u16[6];
    return lower <= SizeOfPageHeaderData ? 0 : (lower - SizeOfPageHeaderData) >> 2;
  }

  /** `PageGetSpecialSize`. */
  specialSize(): number {
    return BLCKSZ - this.u16[8];
  }

  /** The raw 32 bits of a line pointer. Callers have checked `1 <= offnum <= maxOffsetNumber()` or mean to write there. */
  itemId(offnum: number): number {
    return this.u32[5 + offnum];
  }
  setItemId(offnum: number, off: number, flags: number, length: number): void {
    this.u32[5 + offnum] = (off | (flags << 15) | (length << 17)) >>> 0;
  }

  /** `lp_off`: start of the item on the page (for LP_REDIRECT: the offset number it points at). */
  itemOffset(offnum: number): number {
    return this.u32[5 + offnum] & 0x7fff;
  }
  itemFlags(offnum: number): number {
    return (this.u32[5 + offnum] >>> 15) & 3;
  }
  itemLength(offnum: number): number {
    return this.u32[5 + offnum] >>> 17;
  }
  setItemFlags(offnum: number, flags: number): void {
    this.u32[5 + offnum] = (this.u32[5 + offnum] & ~(3 << 15) | (flags << 15)) >>> 0;
  }

  /**
   * Start of a normal item's bytes, after checking that the offset number exists, that the item has storage and that
   * it lies between `pd_upper` and `pd_special`.
   *
   * @throws {CorruptionError} If any of that does not hold.
   */
  checkedItem(offnum: number, minLength = 0): number {
    if (offnum < FirstOffsetNumber || offnum > this.maxOffsetNumber()) {
      throw new CorruptionError(`Cannot find line pointer ${offnum} on the page`, {
        expected: `1..${this.maxOffsetNumber()}`,
        got: offnum,
      });
    }
    const word = this.u32[5 + offnum];
    const off = word & 0x7fff;
    const length = word >>> 17;
    if (
      ((word >>> 15) & 3) !== LP_NORMAL || length < minLength || off < SizeOfPageHeaderData ||
      off + length > BLCKSZ
    ) {
      throw new CorruptionError(
        `Cannot use line pointer ${offnum}: flags ${
          (word >>> 15) & 3
        }, offset ${off}, length ${length} (at least ${minLength} needed)`,
      );
    }
    return off;
  }

  /** All zero, as a page that was added to its relation but never written. */
  isAllZero(): boolean {
    const words = this.u32;
    for (let index = 0; index < words.length; index++) if (words[index] !== 0) return false;
    return true;
  }

  /** Refuses a header whose pointers are out of order, as `PageAddItem` and its kin do before they move bytes. */
  checkPointers(): void {
    const { lower, upper, special } = this;
    if (
      lower < SizeOfPageHeaderData || lower > upper || upper > special || special > BLCKSZ ||
      (special & 7) !== 0
    ) {
      throw new CorruptionError(
        `Cannot edit a page with bad pointers: lower ${lower}, upper ${upper}, special ${special}`,
      );
    }
  }
}

/** The pages that fill a stretch of memory, one behind the other. */
export function pagesIn(memory: ArrayBufferLike): Page[] {
  return Array.from({ length: memory.byteLength / BLCKSZ }, (_, index) => new Page(memory, index * BLCKSZ));
}
