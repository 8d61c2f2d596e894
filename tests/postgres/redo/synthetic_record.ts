/**
 * WAL records made by hand, for what no small server writes.
 *
 * @module
 */
import { setU16, setU32 } from "../../../src/bytes/little_endian.ts";
import { lsn } from "../../../src/lsn.ts";
import type { Major } from "../../../src/postgres/versions/profile.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { BKPBLOCK_HAS_DATA, DecodedRecord } from "../../../src/postgres/wal/record.ts";

export interface SyntheticBlock {
  id: number;
  /** Default: 0. */
  block?: number;
  data?: readonly number[];
  /** `BKPBLOCK_*` besides HAS_DATA. */
  flags?: number;
}

/** Builds a record of relation 1663/5/16384 and decodes it. Block references in ascending order of their ids. */
export function makeRecord(
  major: Major,
  rmid: number,
  info: number,
  main: readonly number[],
  blocks: readonly SyntheticBlock[],
  endLsn = 0x1000,
): DecodedRecord {
  const headers: number[] = [];
  const payload: number[] = [];
  for (const { id, block = 0, data = [], flags = 0 } of blocks) {
    headers.push(id, flags | (data.length > 0 ? BKPBLOCK_HAS_DATA : 0), ...u16(data.length));
    headers.push(...u32(1663), ...u32(5), ...u32(16384), ...u32(block));
    payload.push(...data);
  }
  headers.push(254, ...u32(main.length));
  payload.push(...main);
  const bytes = new Uint8Array(24 + headers.length + payload.length);
  setU32(bytes, 0, bytes.length);
  bytes[16] = info;
  bytes[17] = rmid;
  bytes.set(headers, 24);
  bytes.set(payload, 24 + headers.length);
  const record = new DecodedRecord(profileOfMajor(major));
  record.decode(bytes, 0, lsn(endLsn));
  return record;
}

export function u16(value: number): number[] {
  const bytes = new Uint8Array(2);
  setU16(bytes, 0, value);
  return [...bytes];
}

export function u32(value: number): number[] {
  const bytes = new Uint8Array(4);
  setU32(bytes, 0, value);
  return [...bytes];
}
