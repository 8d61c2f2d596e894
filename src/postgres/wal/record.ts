/**
 * One WAL record, decoded in place.
 *
 * Both paths. {@linkcode DecodedRecord} is a cursor: one object that `decode` fills again and again from whole record
 * bytes (page headers already removed), holding offsets into them and never a view, so that a record costs tens of
 * nanoseconds. It promises that every offset and length it exposes lies inside the record; anything else is a
 * {@linkcode CorruptionError}. The CRC is the assembler's business, not checked here.
 *
 * Record layout (PostgreSQL src/include/access/xlogrecord.h, 14-18; little-endian, unaligned after the header):
 * ```
 *  0  4 xl_tot_len   4  4 xl_xid   8  8 xl_prev   16  1 xl_info   17  1 xl_rmid   18  2 zero   20  4 xl_crc
 * 24  headers, each by its first byte:
 *     0..32  block reference: id 1, fork_flags 1, data_length 2,
 *              [HAS_IMAGE: bimg_len 2, hole_offset 2, bimg_info 1, [compressed and HAS_HOLE: hole_length 2]],
 *              [not SAME_REL: spcOid 4, dbOid 4, relNumber 4], block number 4
 *     255    main data, length 1      254  main data, length 4
 *     253    replication origin 2     252  top-level xid 4
 * then, in order: for each block its image and its data; at the end the main data
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import { INVALID_LSN, type Lsn } from "../../lsn.ts";
import type { VersionProfile } from "../versions/profile.ts";

export const SizeOfXLogRecord = 24;
/** `XLogRecordMaxSize` (16 and later; earlier majors never wrote more either): larger lengths are corrupt. */
export const XLogRecordMaxSize = 1020 * 1024 * 1024;

export const XLR_INFO_MASK = 0x0f;
export const XLR_RMGR_INFO_MASK = 0xf0;
export const XLR_CHECK_CONSISTENCY = 0x02;
export const XLR_MAX_BLOCK_ID = 32;
export const XLR_BLOCK_ID_DATA_SHORT = 255;
export const XLR_BLOCK_ID_DATA_LONG = 254;
export const XLR_BLOCK_ID_ORIGIN = 253;
export const XLR_BLOCK_ID_TOPLEVEL_XID = 252;

export const BKPBLOCK_FORK_MASK = 0x0f;
export const BKPBLOCK_HAS_IMAGE = 0x10;
export const BKPBLOCK_HAS_DATA = 0x20;
export const BKPBLOCK_WILL_INIT = 0x40;
export const BKPBLOCK_SAME_REL = 0x80;

export const BKPIMAGE_HAS_HOLE = 0x01;

const BLCKSZ = 8192;
/** Of a record with one block reference and short main data, without an image. */
const SizeOfOneBlockHeaders = SizeOfXLogRecord + 20 + 2;
const MAX_BLOCKS = XLR_MAX_BLOCK_ID + 1;

/** A reusable cursor over one record. Arrays are indexed by position `0..blockCount-1`, not by block id. */
export class DecodedRecord {
  readonly profile: VersionProfile;

  /** Buffer that holds the record; all offsets below are into it. */
  bytes: Uint8Array = new Uint8Array(0);
  /** Where the record starts in `bytes`. */
  start = 0;
  totalLength = 0;
  xid = 0;
  prevLsn: Lsn = INVALID_LSN;
  /** `xl_info`, all 8 bits. */
  info = 0;
  rmid = 0;
  /** End of the record, 8-aligned: the LSN that keys every page version it makes. */
  endLsn: Lsn = INVALID_LSN;
  /** Replication origin id, 0 when none. */
  originId = 0;
  /** Top-level xid, 0 when not logged. */
  toplevelXid = 0;

  mainOffset = 0;
  mainLength = 0;

  blockCount = 0;
  readonly blockId: Uint8Array = new Uint8Array(MAX_BLOCKS);
  readonly blockSpc: Uint32Array = new Uint32Array(MAX_BLOCKS);
  readonly blockDb: Uint32Array = new Uint32Array(MAX_BLOCKS);
  readonly blockRel: Uint32Array = new Uint32Array(MAX_BLOCKS);
  readonly blockFork: Uint8Array = new Uint8Array(MAX_BLOCKS);
  readonly blockNumber: Uint32Array = new Uint32Array(MAX_BLOCKS);
  /** `BKPBLOCK_*` bits, fork included. */
  readonly blockFlags: Uint8Array = new Uint8Array(MAX_BLOCKS);
  readonly dataOffset: Int32Array = new Int32Array(MAX_BLOCKS);
  readonly dataLength: Int32Array = new Int32Array(MAX_BLOCKS);
  /** Image bytes; length 0 when the block has no image. */
  readonly imageOffset: Int32Array = new Int32Array(MAX_BLOCKS);
  readonly imageLength: Int32Array = new Int32Array(MAX_BLOCKS);
  readonly imageInfo: Uint8Array = new Uint8Array(MAX_BLOCKS);
  readonly holeOffset: Uint16Array = new Uint16Array(MAX_BLOCKS);
  readonly holeLength: Uint16Array = new Uint16Array(MAX_BLOCKS);
  /** Over `bytes`: one load for a word at any alignment. */
  #view: DataView = new DataView(this.bytes.buffer);

  constructor(profile: VersionProfile) {
    this.profile = profile;
  }

  /** `xl_info` without the four low bits: the manager's opcode and flags. */
  get opInfo(): number {
    return this.info & XLR_RMGR_INFO_MASK;
  }

  /** Whether the block's image is the page after the record (otherwise it is only there to check redo). */
  imageApplies(index: number): boolean {
    return this.imageLength[index] > 0 && (this.imageInfo[index] & this.profile.bkpImage.apply) !== 0;
  }

  hasImage(index: number): boolean {
    return (this.blockFlags[index] & BKPBLOCK_HAS_IMAGE) !== 0;
  }

  willInit(index: number): boolean {
    return (this.blockFlags[index] & BKPBLOCK_WILL_INIT) !== 0;
  }

  /** Position of the block reference with this id, or -1. */
  findBlock(id: number): number {
    for (let index = 0; index < this.blockCount; index++) if (this.blockId[index] === id) return index;
    return -1;
  }

  /**
   * Fills the cursor from the record that starts at `start`.
   *
   * @param endLsn The record's end, 8-aligned.
   * @throws {CorruptionError} If any header, length or count is impossible.
   */
  decode(bytes: Uint8Array, start: number, endLsn: Lsn): void {
    if (start < 0 || start + SizeOfXLogRecord > bytes.length) this.#fail("header is cut off", start);
    // Records of a batch lie in the same bytes.
    if (bytes !== this.bytes) this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const view = this.#view;
    this.bytes = bytes;
    const totalLength = view.getUint32(start, true);
    if (totalLength < SizeOfXLogRecord || totalLength > bytes.length - start) {
      throw new CorruptionError("Cannot decode WAL record: impossible xl_tot_len", {
        lsn: endLsn,
        expected: `${SizeOfXLogRecord}..${bytes.length - start}`,
        got: totalLength,
      });
    }
    this.start = start;
    this.endLsn = endLsn;
    this.totalLength = totalLength;
    this.xid = view.getUint32(start + 4, true);
    this.prevLsn = view.getUint32(start + 12, true) * 0x1_0000_0000 + view.getUint32(start + 8, true) as Lsn;
    this.info = bytes[start + 16];
    this.rmid = bytes[start + 17];
    this.originId = 0;
    this.toplevelXid = 0;
    if (totalLength >= SizeOfOneBlockHeaders && this.#decodeOneBlock(bytes, start, totalLength)) return;
    this.mainLength = 0;
    this.blockCount = 0;
    this.#decodeHeaders(bytes, start + SizeOfXLogRecord, start + totalLength);
  }

  /** Most records: block 0 without an image, then short main data. False: another shape, or impossible. */
  #decodeOneBlock(bytes: Uint8Array, start: number, totalLength: number): boolean {
    const view = this.#view;
    const flags = bytes[start + 25];
    const dataLength = view.getUint16(start + 26, true);
    const mainLength = bytes[start + 45];
    const isOne = bytes[start + 24] === 0 && (flags & (BKPBLOCK_HAS_IMAGE | BKPBLOCK_SAME_REL)) === 0 &&
      bytes[start + 44] === XLR_BLOCK_ID_DATA_SHORT &&
      SizeOfOneBlockHeaders + dataLength + mainLength === totalLength &&
      (flags & BKPBLOCK_HAS_DATA) !== 0 === dataLength > 0;
    if (!isOne) return false;
    this.blockCount = 1;
    this.blockId[0] = 0;
    this.blockFlags[0] = flags;
    this.blockFork[0] = flags & BKPBLOCK_FORK_MASK;
    this.blockSpc[0] = view.getUint32(start + 28, true);
    this.blockDb[0] = view.getUint32(start + 32, true);
    this.blockRel[0] = view.getUint32(start + 36, true);
    this.blockNumber[0] = view.getUint32(start + 40, true);
    this.imageLength[0] =
      this.imageInfo[0] =
      this.holeOffset[0] =
      this.holeLength[0] =
        0;
    this.imageOffset[0] = this.dataOffset[0] = start + SizeOfOneBlockHeaders;
    this.dataLength[0] = dataLength;
    this.mainOffset = start + SizeOfOneBlockHeaders + dataLength;
    this.mainLength = mainLength;
    return true;
  }

  #decodeHeaders(bytes: Uint8Array, offset: number, end: number): void {
    const view = this.#view;
    // Bytes promised by the headers so far; when the rest of the record is exactly these, headers are over.
    let promised = 0;
    let maxBlockId = -1;
    while (end - offset > promised) {
      const id = bytes[offset];
      if (id <= XLR_MAX_BLOCK_ID) {
        if (id <= maxBlockId) this.#fail(`block id ${id} is out of order`, offset);
        maxBlockId = id;
        const index = this.blockCount;
        offset = this.#decodeBlockHeader(bytes, offset, end, index);
        promised += this.dataLength[index] + this.imageLength[index];
        this.blockCount = index + 1;
      } else if (id === XLR_BLOCK_ID_DATA_SHORT) {
        if (offset + 2 > end) this.#fail("main data header is cut off", offset);
        this.mainLength = bytes[offset + 1];
        promised += this.mainLength;
        offset += 2;
        break; // by convention the main data header is the last one
      } else if (id === XLR_BLOCK_ID_DATA_LONG) {
        if (offset + 5 > end) this.#fail("main data header is cut off", offset);
        this.mainLength = view.getUint32(offset + 1, true);
        promised += this.mainLength;
        offset += 5;
        break;
      } else if (id === XLR_BLOCK_ID_ORIGIN) {
        if (offset + 3 > end) this.#fail("origin is cut off", offset);
        this.originId = view.getUint16(offset + 1, true);
        offset += 3;
      } else if (id === XLR_BLOCK_ID_TOPLEVEL_XID) {
        if (offset + 5 > end) this.#fail("top-level xid is cut off", offset);
        this.toplevelXid = view.getUint32(offset + 1, true);
        offset += 5;
      } else this.#fail(`unknown block id ${id}`, offset);
    }
    if (end - offset !== promised) {
      this.#fail(`headers promise ${promised} bytes, ${end - offset} follow`, offset);
    }
    for (let index = 0; index < this.blockCount; index++) {
      this.imageOffset[index] = offset;
      offset += this.imageLength[index];
      this.dataOffset[index] = offset;
      offset += this.dataLength[index];
    }
    this.mainOffset = offset;
  }

  #decodeBlockHeader(bytes: Uint8Array, offset: number, end: number, index: number): number {
    if (offset + 4 > end) this.#fail("block header is cut off", offset);
    const view = this.#view;
    const flags = bytes[offset + 1];
    const dataLength = view.getUint16(offset + 2, true);
    this.blockId[index] = bytes[offset];
    this.blockFlags[index] = flags;
    this.blockFork[index] = flags & BKPBLOCK_FORK_MASK;
    this.dataLength[index] = dataLength;
    if (((flags & BKPBLOCK_HAS_DATA) !== 0) !== (dataLength > 0)) {
      this.#fail(`BKPBLOCK_HAS_DATA and a data length of ${dataLength} contradict each other`, offset);
    }
    offset += 4;
    if ((flags & BKPBLOCK_HAS_IMAGE) !== 0) offset = this.#decodeImageHeader(bytes, offset, end, index);
    else {this.imageLength[index] =
        this.imageInfo[index] =
        this.holeOffset[index] =
        this.holeLength[index] =
          0;}
    if ((flags & BKPBLOCK_SAME_REL) === 0) {
      if (offset + 16 > end) this.#fail("block reference is cut off", offset);
      this.blockSpc[index] = view.getUint32(offset, true);
      this.blockDb[index] = view.getUint32(offset + 4, true);
      this.blockRel[index] = view.getUint32(offset + 8, true);
      offset += 12;
    } else {
      if (index === 0) this.#fail("BKPBLOCK_SAME_REL without a previous relation", offset);
      if (offset + 4 > end) this.#fail("block reference is cut off", offset);
      this.blockSpc[index] = this.blockSpc[index - 1];
      this.blockDb[index] = this.blockDb[index - 1];
      this.blockRel[index] = this.blockRel[index - 1];
    }
    this.blockNumber[index] = view.getUint32(offset, true);
    return offset + 4;
  }

  #decodeImageHeader(bytes: Uint8Array, offset: number, end: number, index: number): number {
    if (offset + 5 > end) this.#fail("image header is cut off", offset);
    const view = this.#view;
    const imageLength = view.getUint16(offset, true);
    const holeOffset = view.getUint16(offset + 2, true);
    const info = bytes[offset + 4];
    const compressed = (info & this.profile.bkpImage.compressedMask) !== 0;
    const hasHole = (info & BKPIMAGE_HAS_HOLE) !== 0;
    let next = offset + 5;
    let holeLength = 0;
    if (compressed && hasHole) {
      if (next + 2 > end) this.#fail("hole length is cut off", next);
      holeLength = view.getUint16(next, true);
      next += 2;
    } else if (!compressed) holeLength = BLCKSZ - imageLength;
    const badHole = hasHole
      ? holeOffset === 0 || holeLength <= 0 || imageLength === BLCKSZ || holeOffset + holeLength > BLCKSZ
      : holeOffset !== 0 || (compressed ? imageLength >= BLCKSZ : imageLength !== BLCKSZ);
    if (badHole || imageLength === 0) {
      this.#fail(
        `image of ${imageLength} bytes with hole ${holeOffset}+${holeLength} and flags ${info} is impossible`,
        offset,
      );
    }
    this.imageLength[index] = imageLength;
    this.imageInfo[index] = info;
    this.holeOffset[index] = holeOffset;
    this.holeLength[index] = holeLength;
    return next;
  }

  #fail(what: string, offset: number): never {
    throw new CorruptionError(`Cannot decode WAL record: ${what}`, {
      offset: offset - this.start,
      lsn: this.endLsn,
    });
  }
}
