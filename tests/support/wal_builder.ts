/**
 * Writes WAL as a server would, record by record, for cases that a real server reaches only by chance: records that end
 * exactly on a page, segment switches at every position, records abandoned in a crash.
 *
 * @module
 */
import { walRecordCrc } from "../../src/bytes/crc32c.ts";
import { setU16, setU32, setU64 } from "../../src/bytes/little_endian.ts";
import { type Lsn, lsn, SIZE_OF_XLOG_LONG_PHD, SIZE_OF_XLOG_SHORT_PHD, XLOG_BLCKSZ } from "../../src/lsn.ts";
import {
  XLP_FIRST_IS_CONTRECORD,
  XLP_FIRST_IS_OVERWRITE_CONTRECORD,
  XLP_LONG_HEADER,
} from "../../src/postgres/wal/page_header.ts";
import { SizeOfXLogRecord } from "../../src/postgres/wal/record.ts";
import { RM_XLOG_ID } from "../../src/postgres/wal/rmgr.ts";
import type { VersionProfile } from "../../src/postgres/versions/profile.ts";

export const XLOG_NOOP = 0x20;
export const XLOG_SWITCH = 0x40;
export const XLOG_OVERWRITE_CONTRECORD = 0xd0;

export interface WalBuilderOptions {
  profile: VersionProfile;
  walSegmentSize: number;
  /** A page boundary. */
  startLsn: Lsn;
  systemId?: bigint;
  tli?: number;
}

export interface BuiltRecord {
  startLsn: Lsn;
  /** Rounded up to 8; of a switch, the end of its segment. */
  endLsn: Lsn;
  bytes: Uint8Array;
}

/** A stretch of WAL in the making. */
export class WalBuilder {
  readonly #options: WalBuilderOptions;
  #bytes: Uint8Array = new Uint8Array(1 << 16);
  #length = 0;
  #prev = 0;
  /** Records that a reader must find. */
  readonly records: BuiltRecord[] = [];

  constructor(options: WalBuilderOptions) {
    this.#options = options;
  }

  /** Position behind what has been written. */
  get position(): Lsn {
    return lsn(this.#options.startLsn + this.#length);
  }

  /** All bytes from `startLsn` on. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Bytes from the next record's start to the end of the page that it starts on. */
  get roomOnPage(): number {
    const inPage = this.position % XLOG_BLCKSZ;
    return inPage === 0 ? XLOG_BLCKSZ - this.#headerSize() : XLOG_BLCKSZ - inPage;
  }

  /** A record of `size` bytes, 24 or at least 27, in all. Its main data count up from `seed`. */
  record(size: number, seed = 0, rmid = RM_XLOG_ID, info = XLOG_NOOP): BuiltRecord {
    const bytes = this.#makeRecord(size, rmid, info);
    const dataAt = SizeOfXLogRecord + (size - SizeOfXLogRecord - 2 <= 255 ? 2 : 5);
    for (let at = dataAt; at < size; at++) bytes[at] = seed + at;
    return this.#append(bytes);
  }

  /** A record made elsewhere; its `xl_prev` and `xl_crc` are written here. */
  add(bytes: Uint8Array): BuiltRecord {
    return this.#append(bytes);
  }

  /** A record behind which exactly `room` bytes of a page are left, a multiple of 8. None if that is so already. */
  fillPage(room: number): void {
    let size = this.roomOnPage - room;
    if (size === 0) return;
    // Too few bytes for a record: it goes on to the next page.
    if (size < SizeOfXLogRecord) {
      const next = Math.floor(this.position / XLOG_BLCKSZ + 1) * XLOG_BLCKSZ;
      size += XLOG_BLCKSZ -
        (next % this.#options.walSegmentSize === 0 ? SIZE_OF_XLOG_LONG_PHD : SIZE_OF_XLOG_SHORT_PHD);
    }
    this.record(size);
  }

  /** XLOG_SWITCH; the rest of the segment is filled with `filler`. */
  switchSegment(filler = 0): BuiltRecord {
    const record = this.#append(this.#makeRecord(SizeOfXLogRecord, RM_XLOG_ID, XLOG_SWITCH));
    const { walSegmentSize } = this.#options;
    const end = Math.ceil(this.position / walSegmentSize) * walSegmentSize;
    const rest = end - this.position;
    this.#reserve(rest);
    this.#bytes.fill(filler, this.#length, this.#length + rest);
    this.#length += rest;
    record.endLsn = lsn(end);
    return record;
  }

  /**
   * The first part of a record that reaches over `pages` page boundaries, then what the server writes after a crash there:
   * a page that says so, and a record that names the abandoned one.
   */
  abandonRecord(size: number, pages = 1): BuiltRecord {
    const start = this.#recordStart();
    const abandoned = this.#makeRecord(size, RM_XLOG_ID, XLOG_NOOP);
    setU64(abandoned, 8, this.#prev);
    let written = 0;
    for (let page = 0; page < pages; page++) {
      if (this.position % XLOG_BLCKSZ === 0) {
        this.#header(page === 0 ? 0 : XLP_FIRST_IS_CONTRECORD, size - written);
      }
      const part = Math.min(this.roomOnPage, size - written);
      this.#write(abandoned, written, written + part);
      written += part;
    }
    if (written >= size || this.position % XLOG_BLCKSZ !== 0) {
      throw new RangeError("The record is too short for that");
    }
    this.#header(XLP_FIRST_IS_OVERWRITE_CONTRECORD, 0);
    const record = this.#makeRecord(SizeOfXLogRecord + 2 + 16, RM_XLOG_ID, XLOG_OVERWRITE_CONTRECORD);
    setU64(record, SizeOfXLogRecord + 2, start);
    return this.#append(record);
  }

  #makeRecord(size: number, rmid: number, info: number): Uint8Array {
    const bytes = new Uint8Array(size);
    const dataLength = size - SizeOfXLogRecord - 2;
    if (dataLength === 0 || dataLength === -1 || dataLength < -2) {
      throw new RangeError(`No record has ${size} bytes`);
    }
    setU32(bytes, 0, size);
    bytes[16] = info;
    bytes[17] = rmid;
    if (dataLength > 255) {
      bytes[SizeOfXLogRecord] = 254;
      setU32(bytes, SizeOfXLogRecord + 1, dataLength - 3);
    } else if (dataLength > 0) {
      bytes[SizeOfXLogRecord] = 255;
      bytes[SizeOfXLogRecord + 1] = dataLength;
    }
    return bytes;
  }

  /** Writes a whole record with its `xl_prev` and `xl_crc`, and the padding behind it. */
  #append(bytes: Uint8Array): BuiltRecord {
    const startLsn = this.#recordStart();
    setU64(bytes, 8, this.#prev);
    sealRecord(bytes);
    let written = 0;
    while (written < bytes.length) {
      if (this.position % XLOG_BLCKSZ === 0) {
        this.#header(written === 0 ? 0 : XLP_FIRST_IS_CONTRECORD, written === 0 ? 0 : bytes.length - written);
      }
      const part = Math.min(this.roomOnPage, bytes.length - written);
      this.#write(bytes, written, written + part);
      written += part;
    }
    this.#write(new Uint8Array(7), 0, -this.#length & 7);
    this.#prev = startLsn;
    const record = { startLsn, endLsn: this.position, bytes };
    this.records.push(record);
    return record;
  }

  #recordStart(): Lsn {
    const at = this.position;
    return lsn(at % XLOG_BLCKSZ === 0 ? at + this.#headerSize() : at);
  }

  #headerSize(): number {
    return this.position % this.#options.walSegmentSize === 0
      ? SIZE_OF_XLOG_LONG_PHD
      : SIZE_OF_XLOG_SHORT_PHD;
  }

  #header(info: number, remaining: number): void {
    const { profile, tli = 1, systemId = 1n, walSegmentSize } = this.#options;
    const size = this.#headerSize();
    const header = new Uint8Array(size);
    setU16(header, 0, profile.xlogPageMagic);
    setU16(header, 2, info | (size === SIZE_OF_XLOG_LONG_PHD ? XLP_LONG_HEADER : 0));
    setU32(header, 4, tli);
    setU64(header, 8, this.position);
    setU32(header, 16, (info & XLP_FIRST_IS_CONTRECORD) === 0 ? 0 : remaining);
    if (size === SIZE_OF_XLOG_LONG_PHD) {
      new DataView(header.buffer).setBigUint64(24, systemId, true);
      setU32(header, 32, walSegmentSize);
      setU32(header, 36, XLOG_BLCKSZ);
    }
    this.#write(header, 0, size);
  }

  #write(bytes: Uint8Array, from: number, to: number): void {
    this.#reserve(to - from);
    this.#bytes.set(bytes.subarray(from, to), this.#length);
    this.#length += to - from;
  }

  #reserve(length: number): void {
    if (this.#length + length <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + length));
    larger.set(this.bytes);
    this.#bytes = larger;
  }
}

/** Writes the CRC of a record that stands alone in `bytes`. */
export function sealRecord(bytes: Uint8Array): void {
  const padded = new Uint8Array((bytes.length + 7) & ~7);
  padded.set(bytes);
  setU32(bytes, 20, walRecordCrc(padded, new Int32Array(padded.buffer), 0, bytes.length));
}
