/**
 * `heap_page_prune_execute` and its kin: line pointers become redirects, dead or unused; tuples are frozen.
 *
 * Read path, inside replay of a heap2 record, below the files that know the records' shapes. Offset numbers are read
 * straight from the record's bytes.
 *
 * Source: PostgreSQL src/backend/access/heap/pruneheap.c, heapam.c `heap_execute_freeze_tuple` (14-18).
 *
 * @module
 */
import { getU16, getU32 } from "../../../bytes/little_endian.ts";
import { LP_DEAD, LP_REDIRECT, type Page, PD_HAS_FREE_LINES } from "../../page/page.ts";
import {
  checkedTuple,
  FrozenTransactionId,
  setCid,
  setInfomask,
  setInfomask2,
  setXmax,
} from "../../page/tuple.ts";
import { InvalidTransactionId } from "../../transaction_id.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { pageRepairFragmentation } from "../page_compaction.ts";
import { corruptRecord } from "../record_checks.ts";

const XLH_FREEZE_XVAC = 0x02;
const XLH_INVALID_XVAC = 0x04;

/** Turns line pointers into redirects; `count` pairs of offset numbers (from, to) start at `at`. */
export function setRedirects(page: Page, record: DecodedRecord, at: number, count: number): void {
  for (let index = 0; index < count; index++) {
    const from = checkedOffnum(page, record, at + 4 * index);
    const to = checkedOffnum(page, record, at + 4 * index + 2);
    page.setItemId(from, to, LP_REDIRECT, 0);
  }
}

/** Marks line pointers dead, without storage. */
export function setDead(page: Page, record: DecodedRecord, at: number, count: number): void {
  for (let index = 0; index < count; index++) {
    page.setItemId(checkedOffnum(page, record, at + 2 * index), 0, LP_DEAD, 0);
  }
}

/** Marks line pointers unused. */
export function setUnused(page: Page, record: DecodedRecord, at: number, count: number): void {
  for (let index = 0; index < count; index++) {
    page.setItemId(checkedOffnum(page, record, at + 2 * index), 0, 0, 0);
  }
}

/** `PageRepairFragmentation` as the record's major has it: 14 kept unused line pointers at the end of the array. */
export function repairFragmentation(page: Page, record: DecodedRecord): void {
  const lower = page.lower;
  pageRepairFragmentation(page);
  if (!record.profile.pruneTruncatesLinePointers && page.lower !== lower) {
    page.lower = lower;
    page.flags |= PD_HAS_FREE_LINES;
  }
}

function checkedOffnum(page: Page, record: DecodedRecord, at: number): number {
  const offnum = getU16(record.bytes, at);
  if (offnum < 1 || offnum > page.maxOffsetNumber()) {
    throw corruptRecord(record, "no such line pointer", `1..${page.maxOffsetNumber()}`, offnum);
  }
  return offnum;
}

/** Bytes of one freeze plan in memory and in the record: `sizeof(xl_heap_freeze_plan)`. */
export const SizeOfFreezePlan = 12;

/**
 * Executes freeze plans: the tuples of each plan get its xmax, infomasks and, if it says so, t_xvac.
 *
 * ```
 * plan (16 and later):  0 4 xmax   4 2 t_infomask2   6 2 t_infomask   8 1 frzflags   10 2 ntuples
 * ```
 * @param plans Where `nplans` plans lie, checked to be inside the block's data.
 * @param offsets Where the plans' offset numbers start: first all of plan 0, then all of plan 1, ...
 * @param end End of the block's data.
 * @returns The end of the offset numbers.
 */
export function executeFreezePlans(
  page: Page,
  record: DecodedRecord,
  plans: number,
  nplans: number,
  offsets: number,
  end: number,
): number {
  const bytes = record.bytes;
  for (let plan = plans; plan < plans + nplans * SizeOfFreezePlan; plan += SizeOfFreezePlan) {
    const ntuples = getU16(bytes, plan + 10);
    if (offsets + 2 * ntuples > end) {
      throw corruptRecord(record, "its offset numbers are cut off", 2 * ntuples);
    }
    for (let index = 0; index < ntuples; index++, offsets += 2) {
      const tuple = checkedTuple(page, getU16(bytes, offsets));
      const infomask2 = getU16(bytes, plan + 4);
      executeFreeze(page, tuple, getU32(bytes, plan), infomask2, getU16(bytes, plan + 6), bytes[plan + 8]);
    }
  }
  return offsets;
}

/** `heap_execute_freeze_tuple`. */
export function executeFreeze(
  page: Page,
  tuple: number,
  xmax: number,
  infomask2: number,
  infomask: number,
  frzflags: number,
): void {
  setXmax(page, tuple, xmax);
  if ((frzflags & XLH_FREEZE_XVAC) !== 0) setCid(page, tuple, FrozenTransactionId);
  if ((frzflags & XLH_INVALID_XVAC) !== 0) setCid(page, tuple, InvalidTransactionId);
  setInfomask(page, tuple, infomask);
  setInfomask2(page, tuple, infomask2);
}
