/**
 * Times to LSNs and back: which LSN to read at for a moment, a transaction, a named point; and when an LSN was.
 *
 * Read path. The semantics are those of PostgreSQL's recovery targets: recovery to a time stops before the first commit or
 * abort record whose time is greater. Times need not ascend with LSNs (backends note the time before their record gets
 * its place), so the greatest time so far is what is searched, by halving: O(log n) reads of one small value each
 * (timeline/time_values.ts). Stretches of WAL without any record are stepped over, at most 1 GiB of WAL each.
 *
 * Times are microseconds since 1970.
 *
 * @module
 */
import { LsnCollectedError, LsnNotReachedError, NotFoundError } from "../errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../lsn.ts";
import { decodeClusterState } from "../postgres/effects/cluster_state.ts";
import { fullTransactionIdBefore } from "../postgres/transaction_id.ts";
import { FAMILY_CLUSTER_STATE, type KeySpace } from "../layer/key.ts";
import type { Timeline } from "../timeline/timeline.ts";
import {
  decodeRestorePoint,
  decodeSlot,
  decodeStretch,
  lastSlotOf,
  NO_TIME,
  POSTGRES_EPOCH_MS,
  SLOT_BYTES,
  SLOTS_PER_STRETCH,
  STRETCH_BYTES,
  stretchHasSlot,
  TIME_RESTORE_POINT,
  TIME_SLOT,
  TIME_STRETCH,
  type TimeSlot,
  timeSpace,
  type TimeStretch,
  type TransactionEnd,
} from "../timeline/time_values.ts";
import type { TimelineReader } from "./get_page.ts";

/** How to look for a moment. */
export interface TimeSearch {
  /** Leave out what ended exactly then, too: PostgreSQL's `recovery_target_inclusive = off`. Default false. */
  exclusive?: boolean;
  signal?: AbortSignal;
}

/** Where a moment is. */
export interface MomentFound {
  /**
   * - `found`: history goes on behind it.
   * - `future`: nothing is known that ended later; `lsn` is the last record's end, and WAL to come may move it.
   * - `past`: before the first end of a transaction that is kept; `lsn` is where reads are possible first.
   * - `no_data`: no transaction has ended since the index begins.
   */
  readonly kind: "found" | "future" | "past" | "no_data";
  /** What to read at. */
  readonly lsn: Lsn;
  /** The last end of a transaction at or before `lsn`, if one is known. */
  readonly last?: { readonly lsn: Lsn; readonly unixMicros: number };
}

/** Microseconds since 1970 of PostgreSQL's, which count from 2000. */
export function unixMicrosOf(micros: number): number {
  return micros + POSTGRES_EPOCH_MS * 1000;
}

/**
 * The LSN as of a moment: everything that ended at or before it is there, and it is before the first end that is later.
 *
 * @param unixMicros Microseconds since 1970.
 */
export async function lsnOfTimestamp(
  reader: TimelineReader,
  unixMicros: number,
  { exclusive = false, signal }: TimeSearch = {},
): Promise<MomentFound> {
  // The first end beyond this is where to stop.
  const target = unixMicros - POSTGRES_EPOCH_MS * 1000 - (exclusive ? 1 : 0);
  const index = new TimeIndex(reader, signal);
  const { floor, last } = index;
  const newest = await index.newest();
  if (newest === undefined) return { kind: "no_data", lsn: last };
  const found = await index.firstLater(target, newest);
  if (found === undefined) {
    const end = await index.lastEnd(last);
    if (end === undefined) return { kind: "no_data", lsn: last };
    return { kind: "future", lsn: last, last: momentOf(end) };
  }
  const { end, before } = found;
  if (end.previousLsn < floor || before.micros === NO_TIME) return { kind: "past", lsn: floor };
  return { kind: "found", lsn: end.previousLsn, last: momentOf(before) };
}

/** When the last transaction at or before an LSN ended, as the server noted; undefined if none is known. */
export async function timestampOfLsn(
  reader: TimelineReader,
  lsn: Lsn,
  { signal }: { signal?: AbortSignal } = {},
): Promise<{ lsn: Lsn; unixMicros: number } | undefined> {
  const index = new TimeIndex(reader, signal);
  const { heldLsns, floorLsn } = reader.timeline.view();
  if (lsn > index.last) throw new LsnNotReachedError(lsn, index.last);
  if (lsn < floorLsn && !heldLsns.has(lsn)) throw new LsnCollectedError(lsn, floorLsn);
  const end = await index.lastEnd(lsn);
  return end && momentOf(end);
}

/**
 * Where a transaction ended.
 *
 * @param xid Its id: 32 bits as `recovery_target_xid` takes them, the newest of that number; or with its epoch.
 * @returns The end of its commit or abort record, and of the record before.
 * @throws {NotFoundError} If it has not ended within the history that is kept.
 */
export async function lsnOfXid(
  reader: TimelineReader,
  xid: number,
  { signal }: { signal?: AbortSignal } = {},
): Promise<TransactionEnd> {
  const index = new TimeIndex(reader, signal);
  const fullXid = xid > 0xffff_ffff ? xid : fullTransactionIdBefore(await nextXidOf(reader, signal), xid);
  const found = await index.endOf(fullXid);
  if (found === undefined) {
    throw new NotFoundError(
      `Cannot find the end of transaction ${xid}: it has not ended between ${formatLsn(index.floor)} and ${
        formatLsn(index.last)
      }`,
    );
  }
  return found;
}

/**
 * The end of the record that `pg_create_restore_point` wrote: the first of that name within the history that is kept, which
 * is where PostgreSQL's recovery stops.
 *
 * @throws {NotFoundError} If there is none.
 */
export async function lsnOfRestorePoint(
  reader: TimelineReader,
  name: string,
  { signal }: { signal?: AbortSignal } = {},
): Promise<Lsn> {
  const named = (await restorePoints(reader, { signal })).filter((point) => point.name === name);
  if (named.length > 0) return named[0].lsn;
  throw new NotFoundError(
    `Cannot find restore point "${name}": the history that is kept has none of that name`,
  );
}

/** All restore points within the history that is kept, oldest first. */
export async function restorePoints(
  reader: TimelineReader,
  { signal }: { signal?: AbortSignal } = {},
): Promise<{ name: string; lsn: Lsn; unixMicros: number }[]> {
  const { floor, last } = new TimeIndex(reader, signal);
  const found: { name: string; lsn: Lsn; unixMicros: number }[] = [];
  for (let at = last; at >= floor;) {
    const bytes = await readValue(reader, timeSpace(TIME_RESTORE_POINT, 0), at, signal);
    if (bytes === undefined) break;
    const { name, micros, lsn, previousLsn } = decodeRestorePoint(bytes);
    if (lsn < floor) break;
    found.push({ name, lsn, unixMicros: unixMicrosOf(micros) });
    if (previousLsn === INVALID_LSN || previousLsn >= lsn) break;
    at = previousLsn;
  }
  return found.reverse();
}

/**
 * Loads what a writer must know of the index of times at the timeline's last record.
 *
 * @param checkPointSeconds When the last checkpoint was: where the index begins, everything before ended by then.
 */
export async function loadTimes(
  timeline: Timeline,
  reader: TimelineReader,
  checkPointSeconds: number,
  signal?: AbortSignal,
): Promise<void> {
  const lsn = timeline.lastRecordLsn;
  // Values have a version for each batch. Where a branch leaves its parent inside one, the next version tells the rest.
  const isFreshBranch = timeline.ancestors[0]?.lsn === lsn;
  const read = async (kind: number, number: number, bytes: number) => {
    const { space, block } = timeSpace(kind, number);
    const end = (number + 1) * bytes - 1 as Lsn;
    return isFreshBranch
      ? await reader.getAncestorValue(space, block, end, { signal })
      : await readValue(reader, { space, block }, lsn, signal);
  };
  const number = Math.floor(lsn / STRETCH_BYTES);
  const stretch = await read(TIME_STRETCH, number, STRETCH_BYTES);
  const current = Math.floor(lsn / SLOT_BYTES);
  const index = stretch === undefined ? -1 : lastSlotOf(decodeStretch(stretch), current % SLOTS_PER_STRETCH);
  const slot = number * SLOTS_PER_STRETCH + index;
  const bytes = index < 0 ? undefined : await read(TIME_SLOT, slot, SLOT_BYTES);
  const point = await readValue(reader, timeSpace(TIME_RESTORE_POINT, 0), lsn, signal);
  timeline.times.load(lsn, {
    stretch,
    slot: bytes && { number: slot, bytes },
    restorePointLsn: point === undefined ? INVALID_LSN : decodeRestorePoint(point).lsn,
    checkPointMicros: (checkPointSeconds * 1000 - POSTGRES_EPOCH_MS) * 1000,
  });
}

/** The newest version of a value at or below an LSN. */
async function readValue(
  reader: TimelineReader,
  { space, block }: { space: KeySpace; block: number },
  at: Lsn,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  return await reader.getValue(space, block, at, { signal, evenInconsistent: true });
}

async function nextXidOf(reader: TimelineReader, signal?: AbortSignal): Promise<number> {
  const space = { family: FAMILY_CLUSTER_STATE, a: 0, b: 0, c: 0, d: 0 };
  const lsn = reader.timeline.lastRecordLsn;
  const bytes = await reader.getValue(space, 0, lsn, { signal, evenInconsistent: true });
  if (bytes === undefined) {
    throw new NotFoundError("Cannot tell the epoch of a transaction: no cluster state");
  }
  return decodeClusterState(bytes).nextXid;
}

/** The end of a transaction as far as a moment goes. */
type End = Pick<TransactionEnd, "lsn" | "micros">;

function momentOf({ lsn, micros }: End): { lsn: Lsn; unixMicros: number } {
  return { lsn, unixMicros: unixMicrosOf(micros) };
}

/** The values of the index, read where they are found at once. */
class TimeIndex {
  /** Nothing below can be read. */
  readonly floor: Lsn;
  readonly last: Lsn;
  readonly #reader: TimelineReader;
  /** A branch without anything of its own: see {@linkcode loadTimes}. */
  readonly #isFreshBranch: boolean;
  readonly #signal: AbortSignal | undefined;

  constructor(reader: TimelineReader, signal: AbortSignal | undefined) {
    this.#reader = reader;
    this.#signal = signal;
    this.floor = reader.timeline.view().floorLsn;
    this.last = reader.timeline.lastRecordLsn;
    this.#isFreshBranch = reader.timeline.ancestors[0]?.lsn === this.last;
  }

  /** The value of the last record's stretch. */
  newest(): Promise<TimeStretch | undefined> {
    return this.#stretch(Math.floor(this.last / STRETCH_BYTES));
  }

  /** The value of stretch `number`, as of its end. */
  async #stretch(number: number): Promise<TimeStretch | undefined> {
    const bytes = await this.#read(TIME_STRETCH, number, this.#endOf(number, STRETCH_BYTES));
    return bytes && decodeStretch(bytes);
  }

  async #slotAt(slot: number): Promise<TimeSlot | undefined> {
    const bytes = await this.#read(TIME_SLOT, slot, this.#endOf(slot, SLOT_BYTES));
    return bytes && decodeSlot(bytes, slot);
  }

  async #read(kind: number, number: number, lsn: Lsn): Promise<Uint8Array | undefined> {
    if (!this.#isFreshBranch) {
      return await readValue(this.#reader, timeSpace(kind, number), lsn, this.#signal);
    }
    const { space, block } = timeSpace(kind, number);
    const end = (number + 1) * (kind === TIME_SLOT ? SLOT_BYTES : STRETCH_BYTES) - 1 as Lsn;
    return await this.#reader.getAncestorValue(space, block, end, { signal: this.#signal });
  }

  /** The last LSN of slot or stretch `number` that can be read; at the floor for those before it. */
  #endOf(number: number, bytes: number): Lsn {
    return Math.max(this.floor, Math.min((number + 1) * bytes - 1, this.last)) as Lsn;
  }

  /** The first end whose time is greater than `target`, and the one before; undefined if there is none. */
  async firstLater(
    target: number,
    newest: TimeStretch,
  ): Promise<{ end: TransactionEnd; before: End } | undefined> {
    const from = await this.#lastStretch(newest, (stretch) => stretch.maxMicros <= target);
    const to = Math.floor(this.last / STRETCH_BYTES);
    for (let at = from; at <= to; at++) {
      for await (const slot of this.#slotsOf(at)) {
        // Even what was before the first one is later.
        if (slot.maxMicros > target) return { end: slot.ends[0], before: NO_END };
        let before: End = { lsn: slot.lastLsn, micros: slot.lastMicros };
        for (const end of slot.ends) {
          if (end.lsn > this.last) return undefined;
          if (end.micros > target) return { end, before };
          before = end;
        }
      }
    }
    return undefined;
  }

  /** Where a transaction ended, given its id with epoch. */
  async endOf(fullXid: number): Promise<TransactionEnd | undefined> {
    const newest = await this.newest();
    if (newest === undefined) return undefined;
    const xid = fullXid % 0x1_0000_0000;
    const to = Math.floor(this.last / STRETCH_BYTES);
    for (let at = await this.#lastStretch(newest, ({ nextXid }) => nextXid <= fullXid); at <= to; at++) {
      for await (const slot of this.#slotsOf(at)) {
        const end = slot.ends.find(({ xid: each, lsn }) =>
          each === xid && lsn >= this.floor && lsn <= this.last
        );
        if (end !== undefined) return end;
      }
    }
    return undefined;
  }

  /** The last end at or before an LSN. Values have a version for each batch, so the newest one is read and cut. */
  async lastEnd(lsn: Lsn): Promise<End | undefined> {
    const number = Math.floor(lsn / STRETCH_BYTES);
    const stretch = await this.#stretch(number);
    if (stretch === undefined) return await this.#lastEndBeforeGap(number + 1);
    const first = number * SLOTS_PER_STRETCH;
    for (let slot = Math.floor(lsn / SLOT_BYTES); slot >= first; slot--) {
      if (!stretchHasSlot(stretch, slot - first)) continue;
      const value = await this.#slotAt(slot);
      const end = value?.ends.findLast((end) => end.lsn <= lsn);
      if (end !== undefined) return end;
      if (value !== undefined) return known({ lsn: value.lastLsn, micros: value.lastMicros });
    }
    return known({ lsn: stretch.lastLsn, micros: stretch.lastMicros });
  }

  /** No record ends in the stretch before: what the next one that has a value says was before it. */
  async #lastEndBeforeGap(next: number): Promise<End | undefined> {
    const to = Math.floor(this.last / STRETCH_BYTES);
    for (let at = next; at <= to; at++) {
      const stretch = await this.#stretch(at);
      if (stretch !== undefined) return known({ lsn: stretch.lastLsn, micros: stretch.lastMicros });
    }
    return undefined;
  }

  /** The slots of a stretch that have ends, in order; each has at least one. */
  async *#slotsOf(number: number): AsyncGenerator<TimeSlot> {
    const stretch = await this.#stretch(number);
    if (stretch === undefined) return;
    for (let index = 0; index < SLOTS_PER_STRETCH; index++) {
      const slot = number * SLOTS_PER_STRETCH + index;
      if (slot * SLOT_BYTES > this.last) return;
      if (!stretchHasSlot(stretch, index)) continue;
      const value = await this.#slotAt(slot);
      if (value !== undefined && value.ends.length > 0) yield value;
    }
  }

  /**
   * The last stretch of which something holds that held for all before it; else the first one that is known.
   *
   * @param newest The last record's.
   */
  async #lastStretch(newest: TimeStretch, holds: (stretch: TimeStretch) => boolean): Promise<number> {
    let low = Math.floor(Math.max(this.floor, newest.firstLsn) / STRETCH_BYTES);
    let high = Math.floor(this.last / STRETCH_BYTES);
    if (holds(newest)) return high;
    // `low` is the answer unless a later one is; from `high` on it does not hold.
    while (high - low > 1) {
      const middle = low + Math.floor((high - low) / 2);
      let at = middle;
      let stretch = await this.#stretch(at);
      while (stretch === undefined && ++at < high) stretch = await this.#stretch(at);
      if (stretch !== undefined && holds(stretch)) low = at;
      else high = middle;
    }
    return low;
  }
}

const NO_END: End = { lsn: INVALID_LSN, micros: NO_TIME };

function known(end: End): End | undefined {
  return end.micros === NO_TIME ? undefined : end;
}
