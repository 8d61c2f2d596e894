/**
 * The index of times as its writer sees it: the open slot and stretch, and what was before them.
 *
 * Write path, inside ingest: once per record a comparison, once per end of a transaction some ten bytes; values are made
 * once per batch. Part of the timeline's current state, loaded when a writer attaches. time_values.ts has the format.
 *
 * @module
 */
import { getU32, setU32, setU64 } from "../bytes/little_endian.ts";
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import { FAMILY_TIME, type KeySpace, VALUE_RAW } from "../layer/key.ts";
import type { ModificationBuilder } from "../layer/modification.ts";
import type { SpaceTable } from "../layer/space_table.ts";
import { setVarint, VARINT_LENGTH_MAX } from "../layer/varint.ts";
import {
  decodeSlot,
  decodeStretch,
  ENTRY_ABORTED,
  ENTRY_TIME_BACK,
  ENTRY_XID_BACK,
  MICROS_LIMIT,
  NO_TIME,
  RESTORE_POINT_HEADER_BYTES,
  setBefore,
  setMicros,
  SLOT_BYTES,
  SLOT_HEADER_BYTES,
  SLOTS_PER_STRETCH,
  STRETCH_BYTES,
  STRETCH_VALUE_BYTES,
  TIME_RESTORE_POINT,
  TIME_SLOT,
  TIME_STRETCH,
  type TimeBefore,
  timeSpace,
} from "./time_values.ts";

/** Most bytes of an entry. */
const ENTRY_BYTES_MAX = 4 * VARINT_LENGTH_MAX;

/** The greatest time so far; time and LSN of the last end. */
const MAX_MICROS = 0;
const LAST_MICROS = 1;
const LAST_LSN = 2;
/** What the next entry's numbers count from. */
const ENTRY_LSN = 3;
const ENTRY_MICROS = 4;
const ENTRY_XID = 5;
const NUMBER_COUNT = 6;

/** What a timeline holds of the index at its last record. */
export interface StoredTimes {
  /** The value of the stretch that it lies in; may know of slots and ends beyond. */
  readonly stretch: Uint8Array | undefined;
  /** The last of its slots up to that of the last record that has a list. */
  readonly slot: { readonly number: number; readonly bytes: Uint8Array } | undefined;
  readonly restorePointLsn: Lsn;
  /** The last checkpoint's time, microseconds since 2000. */
  readonly checkPointMicros: number;
}

/** See the module's description. */
export class TimeTable {
  /** A record that ends here or beyond lies in another slot than the open one. */
  slotEnd = 0;
  #slot = -1;
  #stretch = -1;
  /** Numbers that change with every end, in place: fields would be boxed anew each time. See {@linkcode MAX_MICROS} and on. */
  readonly #numbers = new Float64Array(NUMBER_COUNT);
  #restorePointLsn = INVALID_LSN;
  #firstLsn: Lsn | undefined;
  readonly #stretchValue = new Uint8Array(STRETCH_VALUE_BYTES);
  /** The open slot's value so far. */
  #slotValue = new Uint8Array(1024);
  #slotLength = SLOT_HEADER_BYTES;
  #isSlotChanged = false;
  #isStretchChanged = false;
  /** Was loaded: what readers find may be a version of the parent's that lacks its last slots. */
  #isStretchLoaded = false;

  constructor() {
    this.#setBefore({ maxMicros: NO_TIME, lastMicros: NO_TIME, lastLsn: INVALID_LSN });
  }

  /** Whether there is something that {@linkcode write} would write. */
  get isChanged(): boolean {
    return this.#isSlotChanged || this.#isStretchChanged;
  }

  /**
   * Goes on where a timeline's last record ended.
   *
   * @throws {CorruptionError} If they are damaged.
   */
  load(lastRecordLsn: Lsn, stored: StoredTimes): void {
    const { stretch: stretchBytes } = stored;
    this.#restorePointLsn = stored.restorePointLsn;
    if (stretchBytes === undefined) {
      // The index begins here. What ended before had done so when the last checkpoint was made, or a little later.
      this.#setBefore({
        maxMicros: stored.checkPointMicros,
        lastMicros: stored.checkPointMicros,
        lastLsn: lastRecordLsn,
      });
      return;
    }
    const stretch = decodeStretch(stretchBytes);
    this.#firstLsn = stretch.firstLsn;
    this.#slot = Math.floor(lastRecordLsn / SLOT_BYTES);
    this.#stretch = Math.floor(this.#slot / SLOTS_PER_STRETCH);
    this.slotEnd = (this.#slot + 1) * SLOT_BYTES;
    this.#isStretchLoaded = true;
    this.#stretchValue.set(stretchBytes);
    setU32(this.#stretchValue, 40, stretch.slots & ((1 << this.#slot % SLOTS_PER_STRETCH) - 1));
    const slot = stored.slot && decodeSlot(stored.slot.bytes, stored.slot.number);
    this.#setBefore(slot ?? stretch);
    const ends = slot?.ends.filter(({ lsn }) => lsn <= lastRecordLsn) ?? [];
    if (stored.slot?.number === this.#slot) {
      this.#beginSlot();
      for (const { lsn, previousLsn, micros, xid, committed } of ends) {
        this.add(lsn, previousLsn, micros, xid, committed);
      }
      // It is written with the next end in this slot; those behind it begin with its sums.
      this.#isSlotChanged = this.#isStretchChanged = false;
      this.#isStretchLoaded = true;
    } else {
      for (const { lsn, micros, xid } of ends) this.#note(lsn, micros, xid);
      this.#beginSlot();
    }
  }

  /** Opens the slot of a record that ends beyond the open one. What that had must have been written. */
  open(recordEnd: Lsn, nextXid: number): void {
    this.#slot = Math.floor(recordEnd / SLOT_BYTES);
    this.slotEnd = (this.#slot + 1) * SLOT_BYTES;
    const stretch = Math.floor(this.#slot / SLOTS_PER_STRETCH);
    if (stretch !== this.#stretch) {
      this.#stretch = stretch;
      this.#firstLsn ??= recordEnd;
      const value = this.#stretchValue.fill(0);
      setBefore(value, this.#before());
      setU64(value, 24, nextXid);
      setU64(value, 32, this.#firstLsn);
      this.#isStretchChanged = true;
    } else if (this.#isStretchLoaded) this.#isStretchChanged = true;
    this.#isStretchLoaded = false;
    this.#beginSlot();
  }

  /** Notes the end of a transaction. Its record must lie in the open slot. */
  add(lsn: Lsn, previousLsn: Lsn, micros: number, xid: number, committed: boolean): void {
    const time = Math.max(-MICROS_LIMIT, Math.min(micros, MICROS_LIMIT));
    this.#reserve(this.#slotLength + ENTRY_BYTES_MAX);
    const bytes = this.#slotValue;
    const numbers = this.#numbers;
    const microsChange = time - numbers[ENTRY_MICROS];
    const xidChange = xid - numbers[ENTRY_XID];
    const flags = (committed ? 0 : ENTRY_ABORTED) | (microsChange < 0 ? ENTRY_TIME_BACK : 0) |
      (xidChange < 0 ? ENTRY_XID_BACK : 0);
    let at = setVarint(bytes, this.#slotLength, (lsn - numbers[ENTRY_LSN]) / 8);
    at = setVarint(bytes, at, lsn - previousLsn + flags);
    at = setVarint(bytes, at, Math.abs(microsChange));
    this.#slotLength = setVarint(bytes, at, Math.abs(xidChange));
    this.#note(lsn, time, xid);
    if (!this.#isSlotChanged) {
      this.#isSlotChanged = true;
      this.#markSlot(this.#slot % SLOTS_PER_STRETCH);
    }
  }

  /**
   * Adds what has changed to a modification, at the last record's end.
   *
   * @param next Where the record behind it ends: the stretch's value can wait as long as that lies in it. Default: not.
   */
  write(builder: ModificationBuilder, spaces: SpaceTable, lsn: Lsn, next = Infinity): void {
    if (this.#isStretchChanged && next >= (this.#stretch + 1) * STRETCH_BYTES) {
      put(builder, spaces, timeSpace(TIME_STRETCH, this.#stretch), lsn, this.#stretchValue);
      this.#isStretchChanged = false;
    }
    if (this.#isSlotChanged) {
      const bytes = this.#slotValue.subarray(0, this.#slotLength);
      put(builder, spaces, timeSpace(TIME_SLOT, this.#slot), lsn, bytes);
    }
    this.#isSlotChanged = false;
  }

  /** Adds a restore point, at its record's end. */
  writeRestorePoint(
    builder: ModificationBuilder,
    spaces: SpaceTable,
    lsn: Lsn,
    name: string,
    micros: number,
  ): void {
    const text = new TextEncoder().encode(name);
    const bytes = new Uint8Array(RESTORE_POINT_HEADER_BYTES + text.length);
    setU64(bytes, 0, lsn);
    setU64(bytes, 8, this.#restorePointLsn);
    setMicros(bytes, 16, micros);
    bytes.set(text, RESTORE_POINT_HEADER_BYTES);
    put(builder, spaces, timeSpace(TIME_RESTORE_POINT, 0), lsn, bytes);
    this.#restorePointLsn = lsn;
  }

  #before(): TimeBefore {
    const numbers = this.#numbers;
    return {
      maxMicros: numbers[MAX_MICROS],
      lastMicros: numbers[LAST_MICROS],
      lastLsn: numbers[LAST_LSN] as Lsn,
    };
  }

  #setBefore({ maxMicros, lastMicros, lastLsn }: TimeBefore): void {
    this.#numbers[MAX_MICROS] = maxMicros;
    this.#numbers[LAST_MICROS] = lastMicros;
    this.#numbers[LAST_LSN] = lastLsn;
  }

  #beginSlot(): void {
    setBefore(this.#slotValue, this.#before());
    this.#slotLength = SLOT_HEADER_BYTES;
    this.#countFrom(this.#slot);
  }

  #countFrom(slot: number): void {
    const numbers = this.#numbers;
    numbers[ENTRY_LSN] = slot * SLOT_BYTES;
    numbers[ENTRY_MICROS] = numbers[LAST_MICROS] === NO_TIME ? 0 : numbers[LAST_MICROS];
    numbers[ENTRY_XID] = 0;
  }

  #note(lsn: Lsn, micros: number, xid: number): void {
    const numbers = this.#numbers;
    numbers[ENTRY_LSN] = numbers[LAST_LSN] = lsn;
    numbers[ENTRY_MICROS] = numbers[LAST_MICROS] = micros;
    numbers[ENTRY_XID] = xid;
    if (micros > numbers[MAX_MICROS]) numbers[MAX_MICROS] = micros;
  }

  #markSlot(index: number): void {
    const before = getU32(this.#stretchValue, 40);
    const after = (before | (1 << index)) >>> 0;
    if (after === before && !this.#isStretchLoaded) return;
    this.#isStretchLoaded = false;
    setU32(this.#stretchValue, 40, after);
    this.#isStretchChanged = true;
  }

  #reserve(length: number): void {
    if (length <= this.#slotValue.length) return;
    const grown = new Uint8Array(Math.max(length, this.#slotValue.length * 2));
    grown.set(this.#slotValue);
    this.#slotValue = grown;
  }
}

function put(
  builder: ModificationBuilder,
  spaces: SpaceTable,
  { space, block }: { space: KeySpace; block: number },
  lsn: Lsn,
  bytes: Uint8Array,
): void {
  builder.addMade(spaces.intern(FAMILY_TIME, space.a, space.b, 0, 0), block, lsn, VALUE_RAW, bytes);
}
