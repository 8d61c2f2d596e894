/**
 * From raw WAL at a position to whole records.
 *
 * Write path, right behind the source. Takes chunks of any size and hands on batches of contiguous records. This file
 * follows the pages: it checks and removes their headers, skips what XLOG_SWITCH leaves empty, sees a record abandoned in
 * a crash; record_buffer.ts finds the records. How the input was cut into chunks makes no difference to what comes out.
 *
 * Source: PostgreSQL src/backend/access/transam/xlogreader.c (14-18).
 *
 * @module
 */
import type { ByteArena } from "../../bytes/arena.ts";
import { CorruptionError, MismatchError, ProtocolError } from "../../errors.ts";
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
import type { RecordBatch } from "./record_batch.ts";
import { RecordBuffer, SCAN_SWITCH, SCAN_ZERO } from "./record_buffer.ts";
import { isWalSegmentSize, segmentEnd } from "./segment.ts";

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
  /** Where the memory of batches comes from. Default: a buffer for each. */
  arena?: ByteArena;
}

/** Assembles records. After an error it is dead: every later call throws the same error. */
export class WalAssembler {
  readonly #identity: WalIdentity;
  readonly #segmentSize: number;
  readonly #maxTli: number;
  readonly #skipPartial: boolean;
  readonly #endOfWal: EndOfWal;
  readonly #records: RecordBuffer;

  /** Position of the next byte to be pushed, and the page that it lies on. */
  #lsn: Lsn;
  #pageLsn: Lsn;
  /** The page's header as far as it has come, until it is complete. */
  readonly #header = new Uint8Array(40);
  #headerFilled = 0;
  #headerDone: boolean;
  #lastTli = 0;
  #hasSeenPage = false;

  /** After XLOG_SWITCH: everything before this position is skipped unread. */
  #skipUntil = 0;
  /** Bytes, padding included, of a record that began before `startLsn`. */
  #skipBytes = 0;
  /** Length of the last chunk: the next one is likely as long. */
  #lastPush = 0;

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
    this.#records = new RecordBuffer(startLsn, options.verifyCrc ?? true, options.arena);
    this.#lsn = startLsn;
    this.#pageLsn = pageLsn;
    this.#headerDone = inPage > 0;
  }

  /** Position of the next byte that {@linkcode push} expects. */
  get position(): Lsn {
    return this.#lsn;
  }

  /** End of the last complete record, or the start. */
  get endLsn(): Lsn {
    return this.#records.lastEnd;
  }

  /** Bytes held of a record that is not complete yet. */
  get pendingBytes(): number {
    return this.#records.pendingBytes;
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
   * @throws {CorruptionError} If the bytes are not valid WAL.
   * @throws {MismatchError} If they are another cluster's, major's or timeline's.
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
    return this.#records.completeBytes >= holdBelow || this.#end !== null
      ? this.#records.take(this.#lastPush)
      : null;
  }

  /**
   * Hands out records that were held back.
   *
   * @throws The error that ended decoding, once all records before it have been handed out.
   */
  finish(): RecordBatch | null {
    const batch = this.#records.take(0);
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
    this.#end = { lsn: this.#records.lastEnd, reason: error.message };
  }

  #startPage(): void {
    this.#pageLsn = this.#lsn;
    this.#headerFilled = 0;
    this.#headerDone = false;
  }

  #consume(data: Uint8Array): void {
    this.#lastPush = data.length;
    this.#records.reserve(data.length);
    let at = 0;
    while (at < data.length && this.#end === null) {
      if (this.#lsn < this.#skipUntil) {
        const length = Math.min(data.length - at, this.#skipUntil - this.#lsn);
        at += length;
        this.#lsn = this.#lsn + length as Lsn;
        if (this.#lsn === this.#skipUntil) this.#startPage();
      } else if (this.#headerDone) at += this.#consumePayload(data, at);
      else at += this.#consumeHeader(data, at);
    }
  }

  /** Takes bytes of the current page from `data` and returns how many. */
  #consumePayload(data: Uint8Array, at: number): number {
    const length = Math.min(data.length - at, XLOG_BLCKSZ - (this.#lsn - this.#pageLsn));
    if (this.#skipBytes > 0) return this.#skipContinuation(length);
    this.#records.append(data, at, at + length);
    this.#lsn = this.#lsn + length as Lsn;
    const found = this.#records.scan(this.#pageLsn, this.#lsn - this.#pageLsn, this.#endOfWal !== "never");
    if (found === SCAN_ZERO) this.#end = { lsn: this.#records.lastEnd, reason: "xl_tot_len is zero" };
    else if (found === SCAN_SWITCH) this.#switchSegment();
    this.#endPage();
    return length;
  }

  /** The rest of the segment is not WAL, whatever it holds. */
  #switchSegment(): void {
    this.#skipUntil = segmentEnd(this.#records.lastEnd, this.#segmentSize);
    this.#records.extendLast(this.#skipUntil as Lsn);
  }

  #skipContinuation(available: number): number {
    const length = Math.min(available, this.#skipBytes);
    this.#skipBytes -= length;
    this.#lsn = this.#lsn + length as Lsn;
    this.#records.startAt(this.#lsn);
    this.#endPage();
    return length;
  }

  #endPage(): void {
    if (this.#lsn - this.#pageLsn === XLOG_BLCKSZ && this.#lsn >= this.#skipUntil) this.#startPage();
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
      this.#end = { lsn: this.#records.lastEnd, reason: "the page header is all zeros" };
      return;
    }
    checkPageHeader(header, this.#pageLsn, this.#identity);
    const tli = pageTli(header);
    if (tli < this.#lastTli) this.#corrupt("xlp_tli goes backwards", this.#lastTli, tli);
    if (tli > this.#maxTli) {
      throw new MismatchError(
        `Cannot decode WAL page at LSN ${
          formatLsn(this.#pageLsn)
        }: expected timeline ${this.#maxTli}, got ${tli}`,
      );
    }
    this.#lastTli = tli;
    this.#acceptContinuation(pageInfo(header), pageRemainingLength(header));
    this.#hasSeenPage = true;
  }

  /** Checks that the page goes on with the record being assembled, or with none if there is none. */
  #acceptContinuation(info: number, remaining: number): void {
    const continues = (info & XLP_FIRST_IS_CONTRECORD) !== 0;
    const overwrites = (info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) !== 0;
    if (this.#skipBytes > 0) {
      if (overwrites) this.#skipBytes = 0;
      else if (!continues || alignLsn(remaining as Lsn) !== this.#skipBytes) {
        this.#corrupt("xlp_rem_len does not go on as before", this.#skipBytes, remaining);
      }
    } else if (this.#records.pendingBytes > 0) {
      const missing = this.#records.missingBytes;
      if (overwrites) this.#records.abandon();
      else if (!continues || remaining !== missing) {
        this.#corrupt("xlp_rem_len does not fit the record that began before", missing, remaining);
      }
    } else if (continues) {
      if (this.#hasSeenPage || this.#records.hasFound || !this.#skipPartial) {
        this.#corrupt("the page goes on with a record of which there is no start", 0, remaining);
      }
      this.#skipBytes = alignLsn(remaining as Lsn);
    }
  }

  #corrupt(what: string, expected: number, got: number): never {
    throw new CorruptionError(`Cannot decode WAL page: ${what}`, { lsn: this.#pageLsn, expected, got });
  }
}
