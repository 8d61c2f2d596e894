/**
 * From raw WAL at a position to whole records.
 *
 * Write path, right behind the source. Takes chunks of any size, takes the page headers out, and hands on batches of
 * contiguous records. It promises that every record it hands on is complete, has the CRC it was written with and
 * follows the record before it; that memory grows only with bytes that have arrived, never by a length field; and that
 * how the input was cut into chunks makes no difference.
 *
 * The trick: page headers are 24 or 40 bytes and records start at multiples of 8, so page payloads laid end to end
 * keep every record contiguous and aligned. One copy per page, no copy per record.
 *
 * Source: PostgreSQL src/backend/access/transam/xlogreader.c (14-18).
 *
 * @module
 */
import { walRecordCrc } from "../../bytes/crc32c.ts";
import { getU64 } from "../../bytes/little_endian.ts";
import { CorruptionError, MismatchError, ProtocolError, type VarveError } from "../../errors.ts";
import { alignLsn, formatLsn, type Lsn, lsn, XLOG_BLCKSZ } from "../../lsn.ts";
import {
  checkPageHeader,
  isZeroPageHeader,
  pageHeaderSize,
  pageInfo,
  pageRemainingLength,
  pageTli,
  type WalIdentity,
  XLP_FIRST_IS_CONTRECORD,
  XLP_FIRST_IS_OVERWRITE_CONTRECORD,
} from "./page_header.ts";
import { SizeOfXLogRecord, XLogRecordMaxSize, XLR_BLOCK_ID_DATA_SHORT } from "./record.ts";
import type { RecordBatch } from "./record_batch.ts";
import { RM_MAX_BUILTIN_ID, RM_MIN_CUSTOM_ID, RM_XLOG_ID } from "./rmgr.ts";
import { isWalSegmentSize, segmentEnd } from "./segment.ts";

const XLOG_SWITCH = 0x40;
const XLOG_OVERWRITE_CONTRECORD = 0xd0;
/** Main data of XLOG_OVERWRITE_CONTRECORD: the LSN of the record that was abandoned, and a time. */
const SIZE_OF_XL_OVERWRITE_CONTRECORD = 16;

/**
 * What ends WAL without being an error. `never`: nothing (a stream: the server never sends behind its end). `zeros`:
 * an `xl_tot_len` of zero or a page header of zeros (an archived segment that was never filled). `invalid`: also
 * anything invalid, as crash recovery has it (`pg_wal`, where a recycled segment holds old bytes behind the end).
 */
export type EndOfWal = "never" | "zeros" | "invalid";

export interface WalAssemblerOptions extends WalIdentity {
  /** Where the first byte pushed lies: a record boundary, or a page boundary when `skipPartial` is set. */
  startLsn: Lsn;
  /** Refuses pages of a later timeline than this. */
  tli?: number;
  /** At a page boundary, skip the rest of a record that began before it instead of refusing it. Default: false. */
  skipPartial?: boolean;
  /** Default: `never`. */
  endOfWal?: EndOfWal;
  /** Off for measurements only. Default: true. */
  verifyCrc?: boolean;
}

/** Assembles records. After an error it is dead: every later call throws the same error. */
export class WalAssembler {
  readonly #identity: WalIdentity;
  readonly #segmentSize: number;
  readonly #maxTli: number;
  readonly #skipPartial: boolean;
  readonly #endOfWal: EndOfWal;
  readonly #verifyCrc: boolean;

  /** Position of the next byte to be pushed. */
  #lsn: Lsn;
  #pageLsn: Lsn;
  /** Payload bytes lie in `#buffer` such that offset `x` is page offset `x - #pageBase` of the page at `#pageLsn`. */
  #pageBase = 0;
  readonly #header = new Uint8Array(40);
  #headerFilled = 0;
  #headerDone: boolean;
  #lastTli = 0;

  /** After XLOG_SWITCH: everything before this position is skipped unread. */
  #skipUntil = 0;
  /** Bytes, padding included, of a record that began before `startLsn`. */
  #skipBytes = 0;
  #started = false;

  #buffer: Uint8Array = new Uint8Array(0);
  #words = new Int32Array(0);
  #filled = 0;
  /** Where the record being assembled starts in `#buffer`, and in WAL (-1: none of its bytes are there). */
  #recordAt = 0;
  #recordStart = -1;
  /** Length of the last chunk: the next one is likely as long. */
  #lastPush = 0;
  /** Start of the record before, -1 when unknown. */
  #prevStart = -1;
  /** Start of a record that was abandoned; the next one must name it. -1: none. */
  #abandoned = -1;

  #count = 0;
  #offsets = new Int32Array(1024);
  #starts = new Float64Array(1024);
  #ends = new Float64Array(1024);
  #batchStart: Lsn;
  #recordsEnd: Lsn;

  #failure: unknown = undefined;
  #end: { lsn: Lsn; reason: string } | null = null;

  /**
   * @throws {RangeError} If `startLsn` cannot be the start of a record or page, or the segment size is impossible.
   */
  constructor(options: WalAssemblerOptions) {
    const { startLsn, walSegmentSize } = options;
    if (!isWalSegmentSize(walSegmentSize)) {
      throw new RangeError(`Cannot decode WAL: ${walSegmentSize} is no WAL segment size`);
    }
    const inPage = startLsn % XLOG_BLCKSZ;
    const pageLsn = lsn(startLsn) - inPage as Lsn;
    if (inPage % 8 !== 0 || (inPage > 0 && inPage < pageHeaderSize(pageLsn, walSegmentSize))) {
      throw new RangeError(
        `Cannot decode WAL from LSN ${formatLsn(startLsn)}: no record or page can start there`,
      );
    }
    this.#identity = options;
    this.#segmentSize = walSegmentSize;
    this.#maxTli = options.tli ?? 0xffffffff;
    this.#skipPartial = options.skipPartial ?? false;
    this.#endOfWal = options.endOfWal ?? "never";
    this.#verifyCrc = options.verifyCrc ?? true;
    this.#lsn = this.#batchStart = this.#recordsEnd = startLsn;
    this.#pageLsn = pageLsn;
    this.#headerDone = inPage > 0;
  }

  /** Position of the next byte that {@linkcode push} expects. */
  get position(): Lsn {
    return this.#lsn;
  }

  /** End of the last complete record, or the start. */
  get endLsn(): Lsn {
    return this.#recordsEnd;
  }

  /** Bytes held of a record that is not complete yet. */
  get pendingBytes(): number {
    return this.#filled - this.#recordAt;
  }

  /** Set when WAL has ended by the rule of `endOfWal`: where, and what was there. Later chunks are ignored. */
  get atEnd(): { readonly lsn: Lsn; readonly reason: string } | null {
    return this.#end;
  }

  /** The error that the next call will throw: a chunk's good records are handed out before its error is thrown. */
  get failure(): unknown {
    return this.#failure;
  }

  /**
   * Takes the next bytes of WAL. `data` is copied, not kept.
   *
   * @param position The LSN of `data[0]`; must continue the chunk before. After XLOG_SWITCH it may also be the end of
   * the segment.
   * @param holdBelow Keep complete records until they make up this many bytes. Default: hand out what there is.
   * @returns Records completed, or null.
   * @throws {ProtocolError} If bytes are missing or repeated between chunks.
   * @throws {CorruptionError} If the bytes are not valid WAL; {@linkcode MismatchError} if they are another cluster's.
   */
  push(position: Lsn, data: Uint8Array, holdBelow = 0): RecordBatch | null {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#end !== null) return null;
    try {
      if (position !== this.#lsn) this.#jump(position);
      lsn(position + data.length);
      this.#consume(data);
    } catch (error) {
      this.#failure = error;
      this.#endIfAllowed();
      return this.finish();
    }
    return this.#recordAt >= holdBelow || this.#end !== null ? this.#take() : null;
  }

  /**
   * Hands out records that were held back.
   *
   * @throws The error that ended decoding, once all records before it have been handed out.
   */
  finish(): RecordBatch | null {
    const batch = this.#take();
    if (batch === null && this.#failure !== undefined) throw this.#failure;
    return batch;
  }

  #jump(position: Lsn): void {
    if (position !== this.#skipUntil || position < this.#lsn) {
      throw new ProtocolError(
        `Cannot continue WAL: expected bytes at LSN ${formatLsn(this.#lsn)}, got bytes at ${
          formatLsn(position)
        }`,
      );
    }
    this.#lsn = position;
    this.#startPage();
  }

  #endIfAllowed(): void {
    const error = this.#failure;
    if (
      this.#endOfWal !== "invalid" || !(error instanceof CorruptionError || error instanceof MismatchError)
    ) return;
    this.#failure = undefined;
    this.#end = { lsn: this.#recordsEnd, reason: (error as VarveError).message };
  }

  #startPage(): void {
    this.#pageLsn = this.#lsn;
    this.#headerFilled = 0;
    this.#headerDone = false;
  }

  #consume(data: Uint8Array): void {
    this.#lastPush = data.length;
    this.#reserve(data.length);
    let at = 0;
    while (at < data.length && this.#end === null) {
      const left = data.length - at;
      if (this.#lsn < this.#skipUntil) {
        const skipped = Math.min(left, this.#skipUntil - this.#lsn);
        at += skipped;
        this.#lsn = this.#lsn + skipped as Lsn;
        if (this.#lsn === this.#skipUntil) this.#startPage();
        continue;
      }
      if (!this.#headerDone) {
        at += this.#consumeHeader(data, at);
        continue;
      }
      const inPage = this.#lsn - this.#pageLsn;
      let length = Math.min(left, XLOG_BLCKSZ - inPage);
      if (this.#skipBytes > 0) {
        length = Math.min(length, this.#skipBytes);
        this.#skipBytes -= length;
        this.#lsn = this.#lsn + length as Lsn;
        this.#batchStart = this.#recordsEnd = this.#lsn;
      } else {
        this.#pageBase = this.#filled - inPage;
        this.#buffer.set(length === data.length ? data : data.subarray(at, at + length), this.#filled);
        this.#filled += length;
        this.#lsn = this.#lsn + length as Lsn;
        this.#parse();
      }
      at += length;
      if (this.#lsn - this.#pageLsn === XLOG_BLCKSZ && this.#lsn >= this.#skipUntil) this.#startPage();
    }
  }

  /** Makes room for `length` more bytes; doubles while one record outgrows its chunks, so that it is copied O(1) times. */
  #reserve(length: number): void {
    const needed = this.#filled + length;
    if (needed <= this.#buffer.length) return;
    const capacity = this.#filled > length ? Math.max(needed, 2 * this.#buffer.length) : needed;
    this.#setBuffer(capacity, this.#buffer.subarray(0, this.#filled));
  }

  #setBuffer(capacity: number, content: Uint8Array): void {
    const buffer = new ArrayBuffer(capacity + 7 & ~7);
    const bytes = new Uint8Array(buffer);
    bytes.set(content);
    this.#buffer = bytes;
    this.#words = new Int32Array(buffer);
  }

  /** Takes header bytes from `data`, checks the header once it is complete, and returns how many were taken. */
  #consumeHeader(data: Uint8Array, at: number): number {
    const size = pageHeaderSize(this.#pageLsn, this.#segmentSize);
    const taken = Math.min(size - this.#headerFilled, data.length - at);
    for (let index = 0; index < taken; index++) this.#header[this.#headerFilled + index] = data[at + index];
    this.#headerFilled += taken;
    this.#lsn = this.#lsn + taken as Lsn;
    if (this.#headerFilled === size) {
      this.#headerDone = true;
      this.#acceptHeader(size);
    }
    return taken;
  }

  #acceptHeader(size: number): void {
    const header = this.#header;
    if (this.#endOfWal !== "never" && isZeroPageHeader(header, size)) {
      this.#end = { lsn: this.#recordsEnd, reason: "the page header is all zeros" };
      return;
    }
    checkPageHeader(header, this.#pageLsn, this.#identity);
    const tli = pageTli(header);
    if (tli < this.#lastTli) this.#corrupt("xlp_tli goes backwards", this.#pageLsn, this.#lastTli, tli);
    if (tli > this.#maxTli) {
      throw new MismatchError(
        `Cannot decode WAL page at LSN ${
          formatLsn(this.#pageLsn)
        }: expected timeline ${this.#maxTli}, got ${tli}`,
      );
    }
    this.#lastTli = tli;
    this.#acceptContinuation(pageInfo(header), pageRemainingLength(header));
    this.#started = true;
  }

  /** Checks that the page goes on with the record being assembled, or with none if there is none. */
  #acceptContinuation(info: number, remaining: number): void {
    const continues = (info & XLP_FIRST_IS_CONTRECORD) !== 0;
    const overwrites = (info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) !== 0;
    if (this.#skipBytes > 0) {
      if (overwrites) this.#skipBytes = 0;
      else if (!continues || this.#aligned(remaining) !== this.#skipBytes) {
        this.#corrupt("xlp_rem_len does not go on as before", this.#pageLsn, this.#skipBytes, remaining);
      }
      return;
    }
    const held = this.#filled - this.#recordAt;
    if (held > 0) {
      // Pages end aligned, so at least 8 bytes of the record are here, and xl_tot_len has been checked.
      const missing = this.#words[this.#recordAt >> 2] - held;
      if (overwrites) this.#abandon();
      else if (!continues || remaining !== missing) {
        this.#corrupt("the record before does not go on in xlp_rem_len", this.#pageLsn, missing, remaining);
      }
    } else if (continues) {
      if (this.#started || this.#prevStart >= 0 || !this.#skipPartial) {
        this.#corrupt(
          "the page goes on with a record of which there is no start",
          this.#pageLsn,
          0,
          remaining,
        );
      }
      this.#skipBytes = this.#aligned(remaining);
    }
  }

  #aligned(length: number): number {
    return alignLsn(length as Lsn);
  }

  /** Drops the record being assembled: the server crashed while writing it and has gone on with something else. */
  #abandon(): void {
    this.#abandoned = this.#recordStart;
    this.#filled = this.#recordAt;
    this.#recordStart = -1;
  }

  /** Takes note of every record that is complete in the buffer. All of them end on the current page. */
  #parse(): void {
    const pageLsn = this.#pageLsn;
    const base = this.#pageBase;
    const words = this.#words;
    let at = this.#recordAt;
    let filled = this.#filled;
    while (filled - at >= 8) {
      if (this.#recordStart < 0) this.#recordStart = pageLsn + (at - base);
      const start = this.#recordStart;
      const total = words[at >> 2];
      if (total < SizeOfXLogRecord || total > XLogRecordMaxSize) {
        if (total === 0 && this.#endOfWal !== "never") {
          this.#end = { lsn: this.#recordsEnd, reason: "xl_tot_len is zero" };
          filled = at;
          break;
        }
        this.#recordAt = at;
        this.#corrupt(
          "impossible xl_tot_len",
          start,
          `${SizeOfXLogRecord}..${XLogRecordMaxSize}`,
          total >>> 0,
        );
      }
      const held = filled - at;
      const aligned = total + 7 & ~7;
      if (held < SizeOfXLogRecord) break;
      this.#recordAt = at;
      this.#checkHeader(at, start);
      if (held < aligned) break;
      if (this.#verifyCrc && walRecordCrc(this.#buffer, at, total) !== words[(at >> 2) + 5]) {
        this.#corrupt(
          "CRC-32C does not match",
          start,
          hex(walRecordCrc(this.#buffer, at, total)),
          hex(words[(at >> 2) + 5]),
        );
      }
      let end = pageLsn + (at + aligned - base);
      const kind = words[(at >> 2) + 4] & 0xfff0;
      if (kind === (RM_XLOG_ID << 8 | XLOG_SWITCH)) {
        end = segmentEnd(end as Lsn, this.#segmentSize);
        this.#skipUntil = end;
        filled = at + aligned;
      }
      if (this.#abandoned >= 0) this.#checkOverwrite(at, kind, start);
      this.#note(at, start, end);
      at += aligned;
    }
    this.#recordAt = at;
    this.#filled = filled;
  }

  #note(at: number, start: number, end: number): void {
    const index = this.#count++;
    if (index === this.#offsets.length) this.#growColumns();
    this.#offsets[index] = at;
    this.#starts[index] = start;
    this.#ends[index] = end;
    this.#prevStart = start;
    this.#recordStart = -1;
    this.#recordsEnd = end as Lsn;
  }

  #growColumns(): void {
    const grow = <T extends Int32Array | Float64Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    const length = 2 * this.#offsets.length;
    this.#offsets = grow(new Int32Array(length), this.#offsets);
    this.#starts = grow(new Float64Array(length), this.#starts);
    this.#ends = grow(new Float64Array(length), this.#ends);
  }

  /** Checks what of a record's header can be checked before the rest has arrived: `xl_rmid` and `xl_prev`. */
  #checkHeader(at: number, start: number): void {
    const words = this.#words;
    const rmid = words[(at >> 2) + 4] >>> 8 & 0xff;
    if (rmid > RM_MAX_BUILTIN_ID && rmid < RM_MIN_CUSTOM_ID) {
      this.#corrupt("impossible xl_rmid", start, undefined, rmid);
    }
    const prev = (words[(at >> 2) + 3] >>> 0) * 0x1_0000_0000 + (words[(at >> 2) + 2] >>> 0);
    if (this.#prevStart >= 0 ? prev !== this.#prevStart : prev >= start) {
      const expected = this.#prevStart >= 0
        ? formatLsn(this.#prevStart as Lsn)
        : `less than ${formatLsn(start as Lsn)}`;
      this.#corrupt("xl_prev does not name the record before", start, expected, formatLsn(prev as Lsn));
    }
  }

  /** After an abandoned record there must be XLOG_OVERWRITE_CONTRECORD, naming it. */
  #checkOverwrite(at: number, kind: number, start: number): void {
    const main = at + SizeOfXLogRecord;
    const fits = kind === (RM_XLOG_ID << 8 | XLOG_OVERWRITE_CONTRECORD) &&
      this.#words[at >> 2] === SizeOfXLogRecord + 2 + SIZE_OF_XL_OVERWRITE_CONTRECORD &&
      this.#buffer[main] === XLR_BLOCK_ID_DATA_SHORT && getU64(this.#buffer, main + 2) === this.#abandoned;
    if (!fits) {
      const expected = `XLOG_OVERWRITE_CONTRECORD of ${formatLsn(this.#abandoned as Lsn)}`;
      this.#corrupt("a record was abandoned, and what follows does not say so", start, expected);
    }
    this.#abandoned = -1;
  }

  /** Takes what is complete out of the buffer; the rest begins a new one. */
  #take(): RecordBatch | null {
    const count = this.#count;
    if (count === 0) return null;
    const used = this.#recordAt;
    const buffer = this.#buffer;
    const tail = buffer.subarray(used, this.#filled);
    const wasteful = buffer.length - used > 65536 && buffer.length - used > used >> 2;
    const batch = {
      bytes: wasteful ? buffer.slice(0, used) : buffer.subarray(0, used),
      count,
      offsets: this.#offsets.slice(0, count),
      startLsns: this.#starts.slice(0, count),
      endLsns: this.#ends.slice(0, count),
      startLsn: this.#batchStart,
      endLsn: this.#recordsEnd,
    };
    this.#setBuffer(tail.length + this.#lastPush, tail);
    this.#filled = tail.length;
    this.#recordAt = 0;
    this.#pageBase -= used;
    this.#count = 0;
    this.#batchStart = this.#recordsEnd;
    return batch;
  }

  #corrupt(what: string, position: number, expected?: string | number, got?: string | number): never {
    throw new CorruptionError(`Cannot decode WAL: ${what}`, { lsn: position as Lsn, expected, got });
  }
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16).padStart(8, "0")}`;
}
