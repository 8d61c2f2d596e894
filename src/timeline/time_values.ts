/**
 * The index of times: when which transaction ended, by LSN. Its values and their keys.
 *
 * Where the paths meet: time_table.ts writes them, read/time.ts searches them. The WAL is cut into slots of 32 KiB and
 * stretches of 1 MiB, 32 slots each. A slot's value lists the ends of transactions whose record ends in it; a stretch's
 * says which of its slots have a list. Both begin with what was so before them, above all the greatest time of any
 * transaction so far: that never falls, so that it can be searched by halving, while times themselves may go back.
 *
 * A value is written again when something is added to it, at the LSN of the record that did: the newest version at an
 * LSN is whole, and nothing but the newest is ever needed (so images and compaction need not know what it is). Its LSN
 * lies inside its slot or stretch, so that a read at the end of either finds it at once. Stretches in which no record
 * ends (a switched segment, a record of more than 1 MiB) have no value.
 * ```
 * stretch  family TIME, a = 1, b and block: number of the stretch, see timeSpace()
 *   offset width name
 *        0     8 maxMicros     greatest time before the stretch, NO_TIME if none          i64, microseconds since 2000
 *        8     8 lastMicros    time of the last end before it, NO_TIME if none            i64
 *       16     8 lastLsn       where that one's record ends                               u64
 *       24     8 nextXid       the next transaction id before it, with its epoch          u64
 *       32     8 firstLsn      where the index begins: earlier ends are unknown           u64
 *       40     4 slots         bit n: slot n has a list                                   u32
 * slot     family TIME, a = 0
 *        0    24 maxMicros, lastMicros, lastLsn as above, before the slot
 *       24       entries, varints:
 *                  (LSN - that of the entry before, or the slot's beginning) / 8
 *                  LSN - end of the record before, plus ABORTED, TIME_BACK, XID_BACK
 *                  |time - that of the entry before, or lastMicros, or 0|
 *                  |xid - that of the entry before, or 0|
 * point    family TIME, a = 2, b = 0, block 0: the newest restore point; those before are found one by one
 *        0     8 lsn           where its record ends                                    u64
 *        8     8 previousLsn   where the record of the one before ends, 0 if none         u64
 *       16     8 micros                                                                   i64
 *       24       name, UTF-8
 * ```
 *
 * @module
 */
import { getI32, getU32, getU64, setU32, setU64 } from "../bytes/little_endian.ts";
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { FAMILY_TIME, type KeySpace } from "../layer/key.ts";
import { VarintReader } from "../layer/varint.ts";

export const SLOT_BYTES = 32 * 1024;
export const SLOTS_PER_STRETCH = 32;
export const STRETCH_BYTES = SLOT_BYTES * SLOTS_PER_STRETCH;

/** Kinds of keys: their `a`. */
export const TIME_SLOT = 0;
export const TIME_STRETCH = 1;
export const TIME_RESTORE_POINT = 2;

/** Bytes before a slot's entries. */
export const SLOT_HEADER_BYTES = 24;
export const STRETCH_VALUE_BYTES = 44;
export const RESTORE_POINT_HEADER_BYTES = 24;

/** Flags in an entry's second varint: its LSNs are multiples of 8. */
export const ENTRY_ABORTED = 1;
export const ENTRY_TIME_BACK = 2;
export const ENTRY_XID_BACK = 4;

/** No transaction had ended yet. */
export const NO_TIME = -Infinity;
/** Times are kept to within 142 years of 2000, so that their differences are exact. */
export const MICROS_LIMIT = 2 ** 52;
/** Bounds the arrays of a space's blocks in memory. */
const BLOCKS_PER_SPACE = 65536;

/** 2000-01-01 in milliseconds since 1970: PostgreSQL's epoch in everybody else's. */
export const POSTGRES_EPOCH_MS = 946_684_800_000;

/** The end of a transaction. */
export interface TransactionEnd {
  /** Where its record ends: it is visible from here on. */
  readonly lsn: Lsn;
  /** Where the record before ends: the last moment without it. */
  readonly previousLsn: Lsn;
  /** Microseconds since 2000-01-01 UTC. */
  readonly micros: number;
  /** Without epoch. */
  readonly xid: number;
  readonly committed: boolean;
}

/** What was so before a slot or stretch. */
export interface TimeBefore {
  readonly maxMicros: number;
  readonly lastMicros: number;
  readonly lastLsn: Lsn;
}

/** A stretch's value. */
export interface TimeStretch extends TimeBefore {
  readonly nextXid: number;
  readonly firstLsn: Lsn;
  /** Bit n: slot n has a list. */
  readonly slots: number;
}

/** A slot's value. */
export interface TimeSlot extends TimeBefore {
  readonly ends: readonly TransactionEnd[];
}

/** A restore point, as `pg_create_restore_point` made it. */
export interface RestorePoint {
  readonly name: string;
  readonly micros: number;
  /** Where its record ends. */
  readonly lsn: Lsn;
  /** Where the record of the one before ends, 0 if there is none. */
  readonly previousLsn: Lsn;
}

/** The key of slot, stretch or point number `number`. */
export function timeSpace(kind: number, number: number): { space: KeySpace; block: number } {
  const b = Math.floor(number / BLOCKS_PER_SPACE);
  return { space: { family: FAMILY_TIME, a: kind, b, c: 0, d: 0 }, block: number % BLOCKS_PER_SPACE };
}

/** Whether a stretch has a list for its slot `index`. */
export function stretchHasSlot(stretch: TimeStretch, index: number): boolean {
  return ((stretch.slots >>> index) & 1) !== 0;
}

/** The last slot of a stretch, up to number `index`, that has a list, or -1. */
export function lastSlotOf(stretch: TimeStretch, index: number): number {
  return 31 - Math.clz32(stretch.slots & (-1 >>> (31 - index)));
}

export function setMicros(bytes: Uint8Array, at: number, micros: number): void {
  const high = micros === NO_TIME ? -0x8000_0000 : Math.floor(micros / 0x1_0000_0000);
  setU32(bytes, at, micros === NO_TIME ? 0 : micros - high * 0x1_0000_0000);
  setU32(bytes, at + 4, high);
}

function getMicros(bytes: Uint8Array, at: number): number {
  const high = getI32(bytes, at + 4);
  return high === -0x8000_0000 ? NO_TIME : high * 0x1_0000_0000 + getU32(bytes, at);
}

/** Writes the 24 bytes with which slots and stretches begin. */
export function setBefore(bytes: Uint8Array, before: TimeBefore): void {
  setMicros(bytes, 0, before.maxMicros);
  setMicros(bytes, 8, before.lastMicros);
  setU64(bytes, 16, before.lastLsn);
}

function getBefore(bytes: Uint8Array): TimeBefore {
  return {
    maxMicros: getMicros(bytes, 0),
    lastMicros: getMicros(bytes, 8),
    lastLsn: getU64(bytes, 16) as Lsn,
  };
}

/** @throws {CorruptionError} If the value has another length. */
export function decodeStretch(bytes: Uint8Array): TimeStretch {
  if (bytes.length !== STRETCH_VALUE_BYTES) {
    throw new CorruptionError("Cannot read the index of times", {
      expected: STRETCH_VALUE_BYTES,
      got: bytes.length,
    });
  }
  return {
    ...getBefore(bytes),
    nextXid: getU64(bytes, 24),
    firstLsn: getU64(bytes, 32) as Lsn,
    slots: getU32(bytes, 40),
  };
}

/**
 * Reads a slot's list.
 *
 * @param slot Its number.
 * @throws {CorruptionError} If the value is not one.
 */
export function decodeSlot(bytes: Uint8Array, slot: number): TimeSlot {
  const fail = (at: number): never => {
    throw new CorruptionError("Cannot read the index of times: a list is damaged", { offset: at });
  };
  if (bytes.length < SLOT_HEADER_BYTES) fail(0);
  const before = getBefore(bytes);
  const ends: TransactionEnd[] = [];
  const reader = new VarintReader(bytes, SLOT_HEADER_BYTES);
  let lsn = slot * SLOT_BYTES;
  let micros = before.lastMicros === NO_TIME ? 0 : before.lastMicros;
  let xid = 0;
  while (reader.at < bytes.length) {
    const at = reader.at;
    const eighths = reader.next();
    const lengthAndFlags = reader.next();
    const microsChange = reader.next();
    const xidChange = reader.next();
    if (eighths < 0 || lengthAndFlags < 0 || microsChange < 0 || xidChange < 0) fail(at);
    const flags = lengthAndFlags % 8;
    lsn += eighths * 8;
    micros += (flags & ENTRY_TIME_BACK) === 0 ? microsChange : -microsChange;
    xid += (flags & ENTRY_XID_BACK) === 0 ? xidChange : -xidChange;
    const previousLsn = lsn - (lengthAndFlags - flags);
    if (lsn >= (slot + 1) * SLOT_BYTES || previousLsn < 0 || !(xid >= 0 && xid <= 0xffff_ffff)) fail(at);
    ends.push({
      lsn: lsn as Lsn,
      previousLsn: previousLsn as Lsn,
      micros,
      xid,
      committed: (flags & ENTRY_ABORTED) === 0,
    });
  }
  if (reader.at !== bytes.length) fail(bytes.length);
  return { ...before, ends };
}

/** @throws {CorruptionError} If the value is too short. */
export function decodeRestorePoint(bytes: Uint8Array): RestorePoint {
  if (bytes.length < RESTORE_POINT_HEADER_BYTES) {
    throw new CorruptionError("Cannot read a restore point", {
      expected: RESTORE_POINT_HEADER_BYTES,
      got: bytes.length,
    });
  }
  return {
    lsn: getU64(bytes, 0) as Lsn,
    previousLsn: getU64(bytes, 8) as Lsn,
    micros: getMicros(bytes, 16),
    name: new TextDecoder().decode(bytes.subarray(RESTORE_POINT_HEADER_BYTES)),
  };
}
