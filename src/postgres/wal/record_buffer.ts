/**
 * WAL without its page headers, in which whole records are found.
 *
 * Write path, inside the assembler. Page headers are 24 or 40 bytes and records start at multiples of 8, so page
 * payloads laid end to end keep every record contiguous and aligned: one copy per page, none per record. Memory grows
 * with bytes that have arrived, never by a length field. Every record noted is complete, has the CRC it was written with
 * and names the record before it.
 *
 * @module
 */
import type { ByteArena } from "../../bytes/arena.ts";
import { rightRecordsEnd, walRecordCrc } from "../../bytes/crc32c.ts";
import { getU64 } from "../../bytes/little_endian.ts";
import { CorruptionError } from "../../errors.ts";
import { formatLsn, type Lsn } from "../../lsn.ts";
import { SizeOfXLogRecord, XLogRecordMaxSize, XLR_BLOCK_ID_DATA_SHORT } from "./record.ts";
import type { RecordBatch } from "./record_batch.ts";
import { RM_MAX_BUILTIN_ID, RM_MIN_CUSTOM_ID, RM_XLOG_ID } from "./rmgr.ts";

/** Manager and opcode as they lie in the word at offset 16 of a record: `xl_info`'s upper bits, then `xl_rmid`. */
const KIND_MASK = 0xfff0;
const XLOG_SWITCH = RM_XLOG_ID << 8 | 0x40;
const XLOG_OVERWRITE_CONTRECORD = RM_XLOG_ID << 8 | 0xd0;
/** Kinds up to here are of managers that PostgreSQL has. */
const MAX_BUILTIN_KIND = RM_MAX_BUILTIN_ID << 8 | 0xf0;
/** Main data of XLOG_OVERWRITE_CONTRECORD: the LSN of the record that was abandoned, and a time. */
const SIZE_OF_XL_OVERWRITE_CONTRECORD = 16;

/** What made {@linkcode RecordBuffer.scan} stop before the end of what there is. */
export const SCAN_DONE = 0;
/** An XLOG_SWITCH: nothing else follows in its segment. */
export const SCAN_SWITCH = 1;
/** An `xl_tot_len` of zero. */
export const SCAN_ZERO = 2;

/** Rows that columns have room for at first. */
const COLUMNS_MIN = 64;
/** Sets of columns kept: one is filled while another is read. */
const SPARE_MAX = 2;

interface RecordColumns {
  readonly offsets: Int32Array;
  readonly starts: Float64Array;
  readonly ends: Float64Array;
}

function newColumns(rows: number): RecordColumns {
  const size = Math.max(rows, COLUMNS_MIN);
  return { offsets: new Int32Array(size), starts: new Float64Array(size), ends: new Float64Array(size) };
}

/** Holds payload bytes, and columns of the records found in them that nobody has taken yet. */
export class RecordBuffer {
  readonly #verifyCrc: boolean;
  /** Where batches' memory comes from; undefined: each has a buffer of its own. */
  readonly #arena: ByteArena | undefined;
  #bytes: Uint8Array = new Uint8Array(0);
  #words: Int32Array = new Int32Array(0);
  #filled = 0;
  /** Where the first record that is not complete starts: in `#bytes`, and in WAL (-1: none of its bytes are here). */
  #recordAt = 0;
  #recordStart = -1;
  /** Start of the record before that, -1 when unknown. */
  #prevStart = -1;
  /** Start of a record that was abandoned; the next one must name it. -1: none. */
  #abandoned = -1;
  /** Where the next batch begins. */
  #batchStart: Lsn;

  #count = 0;
  #offsets: Int32Array;
  #starts: Float64Array;
  #ends: Float64Array;
  /** Columns that batches have given back. */
  readonly #spare: RecordColumns[] = [];

  constructor(startLsn: Lsn, verifyCrc: boolean, arena?: ByteArena) {
    this.#batchStart = startLsn;
    this.#verifyCrc = verifyCrc;
    this.#arena = arena;
    ({ offsets: this.#offsets, starts: this.#starts, ends: this.#ends } = newColumns(COLUMNS_MIN));
  }

  /** End of the last complete record, or where it all began. */
  get lastEnd(): Lsn {
    return this.#count === 0 ? this.#batchStart : this.#ends[this.#count - 1] as Lsn;
  }

  /** Bytes held of a record that is not complete. */
  get pendingBytes(): number {
    return this.#filled - this.#recordAt;
  }

  /** Bytes of complete records that nobody has taken yet. */
  get completeBytes(): number {
    return this.#recordAt;
  }

  /** Bytes that the record being assembled still lacks. Asked at a page's end, where at least 8 of its bytes are here. */
  get missingBytes(): number {
    return this.#words[this.#recordAt >> 2] - this.pendingBytes;
  }

  /** Whether any record has been found yet. */
  get hasFound(): boolean {
    return this.#prevStart >= 0;
  }

  /** The first record begins here, later than was said. */
  startAt(startLsn: Lsn): void {
    this.#batchStart = startLsn;
  }

  /** Makes room for `length` more bytes. While one record outgrows its chunks it doubles, so that copies stay few. */
  reserve(length: number): void {
    const needed = this.#filled + length;
    if (needed <= this.#bytes.length) return;
    const capacity = this.#filled > length ? Math.max(needed, 2 * this.#bytes.length) : needed;
    const content = this.#bytes.subarray(0, this.#filled);
    this.#arena?.trim(this.#bytes, 0);
    this.#allocate(capacity, content);
  }

  /** Appends `data[from, to)`, for which there is room. */
  append(data: Uint8Array, from: number, to: number): void {
    this.#bytes.set(from === 0 && to === data.length ? data : data.subarray(from, to), this.#filled);
    this.#filled += to - from;
  }

  /** Drops the record being assembled: the server crashed while writing it and has gone on with something else. */
  abandon(): void {
    this.#abandoned = this.#recordStart;
    this.#recordStart = -1;
    this.#filled = this.#recordAt;
  }

  /**
   * Notes every record that is complete. All of them end on the page whose bytes were appended last.
   *
   * @param pageLsn That page.
   * @param inPage Offset on it of the end of the buffer.
   * @param zeroEnds Whether an `xl_tot_len` of zero is reported instead of refused.
   * @returns One of the `SCAN_` values.
   * @throws {CorruptionError} If a record is invalid. Those before it have been noted.
   */
  scan(pageLsn: Lsn, inPage: number, zeroEnds: boolean): number {
    // Once per record: state lives in variables, and goes back to the fields before anything that reads them or throws.
    const base = this.#filled - inPage;
    const bytes = this.#bytes;
    const words = this.#words;
    const filled = this.#filled;
    let at = this.#recordAt;
    // Records before it have the right CRC; those from there on are looked at one by one.
    let verified = this.#verifyCrc ? 0 : Infinity;
    if (filled - at >= SizeOfXLogRecord && verified === 0) {
      verified = rightRecordsEnd(bytes, words, at, filled);
    }
    let start = this.#recordStart;
    let prev = this.#prevStart;
    let found = SCAN_DONE;
    while (filled - at >= 8 && found === SCAN_DONE) {
      if (start < 0) start = pageLsn + (at - base);
      const word = at >> 2;
      const total = words[word];
      // Rounding down what there is, instead of the length up: that could wrap around.
      if (total < SizeOfXLogRecord || total > (filled - at & ~7)) {
        this.#leaveAt(at, start, prev);
        if (total === 0 && zeroEnds) return SCAN_ZERO;
        this.#checkIncomplete(word, start);
        return SCAN_DONE;
      }
      const kind = words[word + 4] & KIND_MASK;
      const prevLink = (words[word + 3] >>> 0) * 0x1_0000_0000 + (words[word + 2] >>> 0);
      if (prevLink !== prev || kind > MAX_BUILTIN_KIND || this.#abandoned >= 0) {
        this.#leaveAt(at, start, prev);
        this.#checkHeader(word, start);
        if (this.#abandoned >= 0) this.#checkOverwrite(at, kind, start);
      }
      if (at >= verified && walRecordCrc(bytes, words, at, total) !== words[word + 5]) {
        this.#leaveAt(at, start, prev);
        this.#failCrc(at, total, start);
      }
      const index = this.#count;
      if (index === this.#offsets.length) this.#growColumns();
      this.#offsets[index] = at;
      at += total + 7 & ~7;
      this.#starts[index] = prev = start;
      this.#ends[index] = pageLsn + (at - base);
      this.#count = index + 1;
      start = -1;
      if (kind === XLOG_SWITCH) found = SCAN_SWITCH;
    }
    this.#leaveAt(at, start, prev);
    if (found === SCAN_SWITCH) this.#filled = at;
    return found;
  }

  #leaveAt(at: number, start: number, prev: number): void {
    this.#recordAt = at;
    this.#recordStart = start;
    this.#prevStart = prev;
  }

  /** Moves the last record's end: an XLOG_SWITCH ends where its segment does. */
  extendLast(end: Lsn): void {
    this.#ends[this.#count - 1] = end;
  }

  /**
   * Takes the complete records out; what is there of the next one begins a new buffer.
   *
   * @param expected How many bytes will probably come next.
   */
  take(expected: number): RecordBatch | null {
    const count = this.#count;
    if (count === 0) return null;
    const used = this.#recordAt;
    const bytes = this.#bytes;
    const tail = bytes.subarray(used, this.#filled);
    const spare = bytes.length - used;
    // The batch's memory will be kept for long: do not let it hold much more than its records.
    const wasteful = this.#arena === undefined && spare > 65536 && spare > used >> 2;
    const batch = {
      ...this.#takeColumns(),
      bytes: wasteful ? bytes.slice(0, used) : bytes.subarray(0, used),
      count,
      startLsn: this.#batchStart,
      endLsn: this.lastEnd,
    };
    ({ offsets: this.#offsets, starts: this.#starts, ends: this.#ends } = this.#spare.pop() ??
      newColumns(count));
    this.#batchStart = batch.endLsn;
    // An arena's next piece probably begins at the tail, which then stays where it is.
    this.#arena?.trim(bytes, used);
    this.#allocate(tail.length + expected, tail);
    this.#filled = tail.length;
    this.#recordAt = 0;
    this.#count = 0;
    return batch;
  }

  /** The columns, cut to length, and how they come back. */
  #takeColumns(): Pick<RecordBatch, "offsets" | "startLsns" | "endLsns" | "release"> {
    const columns = { offsets: this.#offsets, starts: this.#starts, ends: this.#ends };
    const spare = this.#spare;
    const count = this.#count;
    let isReleased = false;
    return {
      offsets: columns.offsets.subarray(0, count),
      startLsns: columns.starts.subarray(0, count),
      endLsns: columns.ends.subarray(0, count),
      release() {
        if (!isReleased && spare.length < SPARE_MAX) spare.push(columns);
        isReleased = true;
      },
    };
  }

  #allocate(capacity: number, content: Uint8Array): void {
    const length = capacity + 7 & ~7;
    const bytes = this.#arena === undefined ? new Uint8Array(length) : this.#arena.allocate(length);
    const isThere = bytes.buffer === content.buffer && bytes.byteOffset === content.byteOffset;
    if (!isThere) bytes.set(content);
    this.#bytes = bytes;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, length >> 2);
  }

  #growColumns(): void {
    const length = 2 * this.#offsets.length;
    const [offsets, starts, ends] = [this.#offsets, this.#starts, this.#ends];
    this.#offsets = new Int32Array(length);
    this.#starts = new Float64Array(length);
    this.#ends = new Float64Array(length);
    this.#offsets.set(offsets);
    this.#starts.set(starts);
    this.#ends.set(ends);
  }

  /** Checks what is here of a record whose end has not arrived: a bad length would have us wait for it. */
  #checkIncomplete(word: number, start: number): void {
    const total = this.#words[word];
    if (total < SizeOfXLogRecord || total > XLogRecordMaxSize) {
      corrupt("impossible xl_tot_len", start, `${SizeOfXLogRecord}..${XLogRecordMaxSize}`, total >>> 0);
    }
    if (this.pendingBytes >= SizeOfXLogRecord) this.#checkHeader(word, start);
  }

  /** Checks `xl_rmid` and `xl_prev`. */
  #checkHeader(word: number, start: number): void {
    const words = this.#words;
    const rmid = words[word + 4] >>> 8 & 0xff;
    if (rmid > RM_MAX_BUILTIN_ID && rmid < RM_MIN_CUSTOM_ID) {
      corrupt("impossible xl_rmid", start, `0..${RM_MAX_BUILTIN_ID} or ${RM_MIN_CUSTOM_ID}..255`, rmid);
    }
    const prev = (words[word + 3] >>> 0) * 0x1_0000_0000 + (words[word + 2] >>> 0);
    if (prev === this.#prevStart) return;
    const got = formatLsn(prev as Lsn);
    if (this.#prevStart >= 0) {
      corrupt("xl_prev does not name the record before", start, formatLsn(this.#prevStart as Lsn), got);
    }
    if (prev >= start) corrupt("xl_prev lies ahead", start, `less than ${formatLsn(start as Lsn)}`, got);
  }

  #failCrc(at: number, total: number, start: number): never {
    const got = walRecordCrc(this.#bytes, this.#words, at, total);
    corrupt("CRC-32C does not match", start, hex(this.#words[(at >> 2) + 5]), hex(got));
  }

  /** After an abandoned record there must be XLOG_OVERWRITE_CONTRECORD, naming it. */
  #checkOverwrite(at: number, kind: number, start: number): void {
    const main = at + SizeOfXLogRecord;
    const fits = kind === XLOG_OVERWRITE_CONTRECORD &&
      this.#words[at >> 2] === SizeOfXLogRecord + 2 + SIZE_OF_XL_OVERWRITE_CONTRECORD &&
      this.#bytes[main] === XLR_BLOCK_ID_DATA_SHORT && getU64(this.#bytes, main + 2) === this.#abandoned;
    if (!fits) {
      const expected = `XLOG_OVERWRITE_CONTRECORD of ${formatLsn(this.#abandoned as Lsn)}`;
      corrupt("a record was abandoned, and what follows does not say so", start, expected);
    }
    this.#abandoned = -1;
  }
}

function corrupt(what: string, lsn: number, expected?: string | number, got?: string | number): never {
  throw new CorruptionError(`Cannot decode WAL: ${what}`, { lsn: lsn as Lsn, expected, got });
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16).padStart(8, "0")}`;
}
