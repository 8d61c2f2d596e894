/**
 * Which visibility map bits a heap record clears, besides editing the pages it names.
 *
 * Both paths: ingest asks which map pages are touched, redo which bits of one. A record that changes a page with
 * PD_ALL_VISIBLE says so by a flag, and clears the bits of that heap block in the map. Servers before 18.6 and 17.11
 * never name the map page in the record; later ones do (as block 1 of INSERT, DELETE, MULTI_INSERT, LOCK and
 * LOCK_UPDATED; as blocks 2 and 3 of UPDATE), if a bit was in fact set.
 *
 * Source: PostgreSQL src/backend/access/heap/heapam_xlog.c `heap_xlog_vm_clear`, `heap_xlog_update` (18), heapam.c
 * (14-17).
 *
 * @module
 */
import {
  VISIBILITYMAP_ALL_FROZEN,
  VISIBILITYMAP_FORKNUM,
  VISIBILITYMAP_VALID_BITS,
} from "../../page/visibility_map.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { RM_HEAP_ID } from "../../wal/rmgr.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import {
  HEAP_UPDATE_BLKREF_HEAP_OLD,
  SizeOfHeapDelete,
  SizeOfHeapInsert,
  SizeOfHeapLock,
  SizeOfHeapMultiInsert,
  SizeOfHeapUpdate,
  XLH_DELETE_ALL_VISIBLE_CLEARED,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLH_LOCK_ALL_FROZEN_CLEARED,
  XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
  XLOG_HEAP2_LOCK_UPDATED,
  XLOG_HEAP2_MULTI_INSERT,
  XLOG_HEAP_DELETE,
  XLOG_HEAP_HOT_UPDATE,
  XLOG_HEAP_INSERT,
  XLOG_HEAP_LOCK,
  XLOG_HEAP_OPMASK,
  XLOG_HEAP_UPDATE,
} from "./heap_record.ts";

/** {@linkcode clearedHeapBlocks} of a record that clears nothing. */
export const CLEARS_NOTHING = 0;
/** Bits of the heap block that block id 0 names are cleared. */
export const CLEARS_NEW = 1;
/** Bits of the old tuple's heap block are cleared (UPDATE only): {@linkcode oldHeapBlock}. */
export const CLEARS_OLD = 2;

/** Whose bits a record of heap or heap2 clears: `CLEARS_*`, combined. */
export function clearedHeapBlocks(record: DecodedRecord): number {
  const opcode = record.info & XLOG_HEAP_OPMASK;
  return record.rmid === RM_HEAP_ID ? clearedByHeap(record, opcode) : clearedByHeap2(record, opcode);
}

function clearedByHeap(record: DecodedRecord, opcode: number): number {
  switch (opcode) {
    case XLOG_HEAP_INSERT:
      return flag(record, SizeOfHeapInsert, 2, XLH_INSERT_ALL_VISIBLE_CLEARED, CLEARS_NEW);
    case XLOG_HEAP_DELETE:
      return flag(record, SizeOfHeapDelete, 7, XLH_DELETE_ALL_VISIBLE_CLEARED, CLEARS_NEW);
    case XLOG_HEAP_LOCK:
      return flag(record, SizeOfHeapLock, 7, XLH_LOCK_ALL_FROZEN_CLEARED, CLEARS_NEW);
    case XLOG_HEAP_UPDATE:
    case XLOG_HEAP_HOT_UPDATE:
      return flag(record, SizeOfHeapUpdate, 7, XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED, CLEARS_OLD) |
        flag(record, SizeOfHeapUpdate, 7, XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED, CLEARS_NEW);
    default:
      return CLEARS_NOTHING;
  }
}

function clearedByHeap2(record: DecodedRecord, opcode: number): number {
  switch (opcode) {
    case XLOG_HEAP2_MULTI_INSERT:
      return flag(record, SizeOfHeapMultiInsert, 0, XLH_INSERT_ALL_VISIBLE_CLEARED, CLEARS_NEW);
    case XLOG_HEAP2_LOCK_UPDATED:
      return flag(record, SizeOfHeapLock, 7, XLH_LOCK_ALL_FROZEN_CLEARED, CLEARS_NEW);
    default:
      return CLEARS_NOTHING;
  }
}

/** `result` if the record has the flag in its `flags` byte at `offset`, else 0. Checks that block 0 is there to clear. */
function flag(record: DecodedRecord, size: number, offset: number, mask: number, result: number): number {
  const main = checkedMain(record, size);
  if ((record.bytes[main + offset] & mask) === 0) return CLEARS_NOTHING;
  if (record.blockCount === 0 || record.blockId[0] !== 0) {
    throw corruptRecord(record, "it clears visibility map bits and names no heap page");
  }
  return result;
}

/** Which of the two bits go: locking a tuple leaves its page all-visible. */
export function clearedBits(record: DecodedRecord): number {
  const opcode = record.info & XLOG_HEAP_OPMASK;
  const isLock = opcode === (record.rmid === RM_HEAP_ID ? XLOG_HEAP_LOCK : XLOG_HEAP2_LOCK_UPDATED);
  return isLock ? VISIBILITYMAP_ALL_FROZEN : VISIBILITYMAP_VALID_BITS;
}

/** Heap block of an update's old tuple: block id 1 when that is a heap page, else the new tuple's. */
export function oldHeapBlock(record: DecodedRecord): number {
  const named = record.blockCount > 1 && record.blockId[1] === HEAP_UPDATE_BLKREF_HEAP_OLD;
  return record.blockNumber[named ? 1 : 0];
}

/** Whether the record names the map pages that it clears bits on; then no other map page is touched. */
export function namesMapPages(record: DecodedRecord): boolean {
  return record.blockCount > 1 && record.blockFork[record.blockCount - 1] === VISIBILITYMAP_FORKNUM;
}
