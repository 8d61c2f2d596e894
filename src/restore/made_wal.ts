/**
 * The WAL that a restored cluster starts on, made here: what a server writes when it shuts down in order.
 *
 * Pure. The checkpoint record that pg_control names must be in pg_wal; nothing after it is. It goes to the start of the
 * first segment at or after the restored LSN, so that no record of the old history can follow it:
 * ```
 * segment of the LSN (only on a new timeline number, unless the LSN is at a segment's start)
 *   ... zeros | page header | zeros | XLOG_SWITCH at the LSN | zeros
 * next segment
 *   long page header | XLOG_CHECKPOINT_SHUTDOWN | zeros
 * ```
 * With the first one the new timeline has WAL from the very LSN on where it left the old one, without a hole, for those
 * who follow or archive it.
 *
 * Source: PostgreSQL src/backend/access/transam/xlog.c `BootStrapXLOG`, `CreateCheckPoint`, `ReserveXLogSwitch` (14-18);
 * layouts in postgres/wal/{page_header,record}.ts and postgres/files/check_point.ts.
 *
 * @module
 */
import { walRecordCrc } from "../bytes/crc32c.ts";
import { setU16, setU32, setU64 } from "../bytes/little_endian.ts";
import { alignLsn, type Lsn, SIZE_OF_XLOG_LONG_PHD, XLOG_BLCKSZ } from "../lsn.ts";
import { type CheckPoint, encodeCheckPoint, SizeOfCheckPoint } from "../postgres/files/check_point.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import { pageHeaderSize, XLP_FIRST_IS_CONTRECORD, XLP_LONG_HEADER } from "../postgres/wal/page_header.ts";
import { SizeOfXLogRecord, XLR_BLOCK_ID_DATA_SHORT } from "../postgres/wal/record.ts";
import { RM_XLOG_ID } from "../postgres/wal/rmgr.ts";
import { segmentEnd, segmentFileName, segmentNumber, segmentStart } from "../postgres/wal/segment.ts";

const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
const XLOG_SWITCH = 0x40;

/** What the WAL is for. */
export interface MadeWalOptions {
  readonly profile: VersionProfile;
  readonly systemId: bigint;
  readonly walSegmentSize: number;
  readonly tli: number;
  /** Where the old history was left. */
  readonly lsn: Lsn;
  /** Start of some record before it: what the first record says comes before it. */
  readonly previousRecord: Lsn;
  /** All but where it is. */
  readonly checkPoint: Omit<CheckPoint, "redo">;
  /** Also makes the segment of the LSN. */
  readonly fromLsn: boolean;
}

/** A segment file: its first bytes; zeros follow up to the segment's size. */
export interface MadeSegment {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** See the module's description. */
export interface MadeWal {
  readonly segments: MadeSegment[];
  /** With its `redo`, which of a shutdown checkpoint is its own start. */
  readonly checkPoint: CheckPoint;
  /** Where the checkpoint record starts. */
  readonly checkPointLsn: Lsn;
}

/** Makes the WAL of a clean shutdown after `lsn`. */
export function makeShutdownWal(options: MadeWalOptions): MadeWal {
  const { profile, walSegmentSize, lsn } = options;
  const wal = new WalPages(options);
  let position = alignLsn(lsn);
  let previous = options.previousRecord;
  if (options.fromLsn && position % walSegmentSize !== 0) {
    const start = wal.recordStart(position);
    position = wal.put(start, makeRecord(XLOG_SWITCH, previous, new Uint8Array(0)));
    previous = start;
  }
  const start = segmentEnd(position, walSegmentSize) + SIZE_OF_XLOG_LONG_PHD as Lsn;
  const checkPoint: CheckPoint = { ...options.checkPoint, redo: start };
  const body = new Uint8Array(SizeOfCheckPoint);
  encodeCheckPoint(body, 0, checkPoint, profile);
  wal.put(start, makeRecord(XLOG_CHECKPOINT_SHUTDOWN, previous, body));
  return { segments: wal.segments(), checkPoint, checkPointLsn: start };
}

/** A record of the XLOG manager with up to 255 bytes of main data. */
function makeRecord(info: number, previous: Lsn, main: Uint8Array): Uint8Array {
  const header = main.length === 0 ? SizeOfXLogRecord : SizeOfXLogRecord + 2;
  const length = header + main.length;
  // Room for the words that the CRC is computed over.
  const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
  setU32(bytes, 0, length);
  setU64(bytes, 8, previous);
  bytes[16] = info;
  bytes[17] = RM_XLOG_ID;
  if (main.length > 0) {
    bytes[SizeOfXLogRecord] = XLR_BLOCK_ID_DATA_SHORT;
    bytes[SizeOfXLogRecord + 1] = main.length;
    bytes.set(main, header);
  }
  setU32(bytes, 20, walRecordCrc(bytes, new Int32Array(bytes.buffer), 0, length));
  return bytes.subarray(0, length);
}

/** Pages of WAL, those that are touched; all others are zeros. */
class WalPages {
  readonly #options: MadeWalOptions;
  readonly #pages = new Map<number, Uint8Array>();

  constructor(options: MadeWalOptions) {
    this.#options = options;
  }

  /** Where a record that comes next at `position` starts: never in the header of its page. */
  recordStart(position: Lsn): Lsn {
    const page = position - position % XLOG_BLCKSZ as Lsn;
    return Math.max(position, page + pageHeaderSize(page, this.#options.walSegmentSize)) as Lsn;
  }

  /** Writes a record, over page ends if need be; returns where it ends, aligned. */
  put(start: Lsn, record: Uint8Array): Lsn {
    let at: number = start;
    for (let done = 0; done < record.length;) {
      const pageLsn = Math.floor(at / XLOG_BLCKSZ) * XLOG_BLCKSZ as Lsn;
      const page = this.#page(pageLsn, done === 0 ? 0 : record.length - done);
      if (at === pageLsn) at += pageHeaderSize(pageLsn, this.#options.walSegmentSize);
      const part = Math.min(pageLsn + XLOG_BLCKSZ - at, record.length - done);
      page.set(record.subarray(done, done + part), at - pageLsn);
      done += part;
      at += part;
    }
    return alignLsn(at as Lsn);
  }

  /** The page at `lsn`, with its header; `remaining` bytes of a record go on in it. */
  #page(lsn: Lsn, remaining: number): Uint8Array {
    const known = this.#pages.get(lsn);
    if (known !== undefined) return known;
    const { profile, tli, systemId, walSegmentSize } = this.#options;
    const page = new Uint8Array(XLOG_BLCKSZ);
    const isFirst = lsn % walSegmentSize === 0;
    setU16(page, 0, profile.xlogPageMagic);
    setU16(page, 2, (isFirst ? XLP_LONG_HEADER : 0) | (remaining > 0 ? XLP_FIRST_IS_CONTRECORD : 0));
    setU32(page, 4, tli);
    setU64(page, 8, lsn);
    setU32(page, 16, remaining);
    if (isFirst) {
      new DataView(page.buffer).setBigUint64(24, systemId, true);
      setU32(page, 32, walSegmentSize);
      setU32(page, 36, XLOG_BLCKSZ);
    }
    this.#pages.set(lsn, page);
    return page;
  }

  /** The segments that have pages, each up to its last one. A segment's first page always has its header. */
  segments(): MadeSegment[] {
    const { tli, walSegmentSize } = this.#options;
    const numbers = new Set([...this.#pages.keys()].map((lsn) => segmentNumber(lsn as Lsn, walSegmentSize)));
    return [...numbers].sort((left, right) => left - right).map((segno) => {
      const start = segmentStart(segno, walSegmentSize);
      this.#page(start, 0);
      const pages = [...this.#pages].filter(([lsn]) => segmentNumber(lsn as Lsn, walSegmentSize) === segno);
      const end = Math.max(...pages.map(([lsn]) => lsn)) + XLOG_BLCKSZ;
      const bytes = new Uint8Array(end - start);
      for (const [lsn, page] of pages) bytes.set(page, lsn - start);
      return { name: segmentFileName(tli, segno, walSegmentSize), bytes };
    });
  }
}
