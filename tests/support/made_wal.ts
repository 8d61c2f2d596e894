/**
 * Records of any shape, made by hand, and batches of them: for tests of ingest and of what follows it.
 *
 * Records that change a page are generic ones (bytes put at an offset), whose redo needs nothing of the page.
 *
 * @module
 */
import { setU16, setU32 } from "../../src/bytes/little_endian.ts";
import type { Lsn } from "../../src/lsn.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import {
  BKPBLOCK_HAS_DATA,
  BKPBLOCK_HAS_IMAGE,
  BKPBLOCK_WILL_INIT,
  BKPIMAGE_HAS_HOLE,
  SizeOfXLogRecord,
} from "../../src/postgres/wal/record.ts";
import type { RecordBatch } from "../../src/postgres/wal/record_batch.ts";
import { RM_GENERIC_ID, RM_SMGR_ID, RM_XLOG_ID } from "../../src/postgres/wal/rmgr.ts";

export const TEST_MAJOR = 17;
export const SPC = 1663;
export const DB = 5;
const PAGE_BYTES = 8192;
const XLOG_FPI = 0xb0;
const SMGR_CREATE = 0x10;
const SMGR_TRUNCATE = 0x20;

/** One block reference. */
export interface MadeBlock {
  block: number;
  rel?: number;
  spc?: number;
  db?: number;
  fork?: number;
  /** Bytes that redo puts at offset 100 of the page, or at `at`. */
  put?: number[];
  at?: number;
  /** The record makes the page from nothing. */
  init?: boolean;
  /** The page after the record. */
  image?: Uint8Array;
  /** Where the image's zeros begin that the record leaves out; they end with the page. */
  holeAt?: number;
}

/** A record with block references and main data. */
export function recordOf(
  rmid: number,
  info: number,
  blocks: readonly MadeBlock[],
  main: Uint8Array,
): Uint8Array {
  const headers: number[] = [];
  const payload: number[] = [];
  const { apply } = profileOfMajor(TEST_MAJOR).bkpImage;
  for (const [id, made] of blocks.entries()) {
    const { block, rel = 16384, spc = SPC, db = DB, fork = 0, put, at = 100, init, image, holeAt } = made;
    const data = put === undefined ? [] : [...u16(at), ...u16(put.length), ...put];
    const flags = fork | (data.length > 0 ? BKPBLOCK_HAS_DATA : 0) | (init ? BKPBLOCK_WILL_INIT : 0) |
      (image === undefined ? 0 : BKPBLOCK_HAS_IMAGE);
    headers.push(id, flags, ...u16(data.length));
    if (image !== undefined) {
      const length = holeAt ?? PAGE_BYTES;
      headers.push(
        ...u16(length),
        ...u16(holeAt ?? 0),
        holeAt === undefined ? apply : apply | BKPIMAGE_HAS_HOLE,
      );
      payload.push(...image.subarray(0, length));
    }
    headers.push(...u32(spc), ...u32(db), ...u32(rel), ...u32(block));
    payload.push(...data);
  }
  if (main.length > 0) headers.push(254, ...u32(main.length));
  payload.push(...main);
  const bytes = new Uint8Array(SizeOfXLogRecord + headers.length + payload.length);
  setU32(bytes, 0, bytes.length);
  bytes[16] = info;
  bytes[17] = rmid;
  bytes.set(headers, SizeOfXLogRecord);
  bytes.set(payload, SizeOfXLogRecord + headers.length);
  return bytes;
}

/** A record that puts bytes on pages, or images in their place. */
export function pageRecord(...blocks: MadeBlock[]): Uint8Array {
  return recordOf(RM_GENERIC_ID, 0, blocks, new Uint8Array(0));
}

/** XLOG_FPI. */
export function imageRecord(...blocks: MadeBlock[]): Uint8Array {
  return recordOf(RM_XLOG_ID, XLOG_FPI, blocks, new Uint8Array(0));
}

/** SMGR_TRUNCATE of a relation of {@linkcode DB}, all forks. */
export function truncateRecord(rel: number, blocks: number): Uint8Array {
  return recordOf(RM_SMGR_ID, SMGR_TRUNCATE, [], words(blocks, SPC, DB, rel, 7));
}

export function createRecord(rel: number, fork = 0, db = DB): Uint8Array {
  return recordOf(RM_SMGR_ID, SMGR_CREATE, [], words(SPC, db, rel, fork));
}

/** `CREATE DATABASE ... STRATEGY file_copy`. */
export function copyDatabaseRecord(db: number, sourceDb: number, spc = SPC, sourceSpc = SPC): Uint8Array {
  const { dbase } = profileOfMajor(TEST_MAJOR);
  return recordOf(4, dbase.createFileCopy, [], words(db, spc, sourceDb, sourceSpc));
}

export function dropDatabaseRecord(db: number, spc = SPC): Uint8Array {
  const { dbase } = profileOfMajor(TEST_MAJOR);
  return recordOf(4, dbase.drop, [], words(db, 1, spc));
}

/** A page all of one byte. */
export function filledPage(byte: number): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES).fill(byte);
  // A header that says that nothing is free: no hole.
  page.fill(0, 0, 24);
  setU16(page, 12, 24);
  setU16(page, 14, 24);
  setU16(page, 18, PAGE_BYTES | 4);
  return page;
}

/** Records one after the other as a batch; ends every one at a multiple of 8. */
export function batchOf(startLsn: Lsn, records: readonly Uint8Array[]): RecordBatch {
  const padded = records.map((record) => (record.length + 7) & ~7);
  const total = padded.reduce((sum, length) => sum + length, 0);
  const bytes = new Uint8Array(total);
  const offsets = new Int32Array(records.length);
  const startLsns = new Float64Array(records.length);
  const endLsns = new Float64Array(records.length);
  let at = 0;
  for (const [index, record] of records.entries()) {
    bytes.set(record, at);
    offsets[index] = at;
    startLsns[index] = startLsn + at;
    at += padded[index];
    endLsns[index] = startLsn + at;
  }
  return {
    bytes,
    count: records.length,
    offsets,
    startLsns,
    endLsns,
    startLsn,
    endLsn: startLsn + at as Lsn,
  };
}

export function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  values.forEach((value, index) => setU32(bytes, index * 4, value));
  return bytes;
}

function u16(value: number): number[] {
  return [value & 0xff, value >>> 8];
}

function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
