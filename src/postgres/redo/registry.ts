/**
 * Which redo function replays a record on a page.
 *
 * Read path, inside replay (and verification). A redo function gets one page, one record and which of the pages that
 * the record touches is meant; it edits that page exactly as PostgreSQL's redo would, sets its LSN where PostgreSQL
 * does, and looks at nothing else. The caller has already done what `XLogReadBufferForRedo` does: restored an image
 * that applies (then redo is not called), skipped a record that the page has already (`record.endLsn <= page.lsn`).
 *
 * @module
 */
import { UnsupportedError } from "../../errors.ts";
import { formatLsn } from "../../lsn.ts";
import type { Page } from "../page/page.ts";
import type { DecodedRecord } from "../wal/record.ts";
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_GENERIC_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_SEQ_ID,
  RM_SMGR_ID,
  RM_SPGIST_ID,
  RM_XLOG_ID,
  rmgrName,
} from "../wal/rmgr.ts";
import { redoBrin } from "./brin.ts";
import { redoBtree } from "./btree/btree.ts";
import { redoGeneric } from "./generic.ts";
import { redoGin } from "./gin/gin.ts";
import { redoGist } from "./gist/gist.ts";
import { redoHash } from "./hash/hash.ts";
import { redoHeap, redoHeap2 } from "./heap/heap.ts";
import { redoSequence } from "./sequence.ts";
import { redoSmgr } from "./smgr.ts";
import { redoSpgist } from "./spgist/spgist.ts";
import { redoXlog } from "./xlog.ts";

/** Facts of the cluster that redo depends on. */
export interface RedoContext {
  /** `XLogHintBitIsNeeded()`: data checksums or wal_log_hints are on. */
  readonly hintBitsLogged: boolean;
}

/** Which page of those that a record touches is to be edited. Reused from call to call. */
export interface RedoTarget {
  /**
   * Position in the record's block references (an index, not a block id), or -1 when the record touches the page
   * without naming it (visibility map bits cleared by heap records, map pages cut by a truncation).
   */
  blockIndex: number;
  /** The page's fork and block number. */
  fork: number;
  block: number;
}

/**
 * Edits `page` as the record says.
 *
 * @throws {CorruptionError} If page and record do not fit together; the page may then be half edited and must be
 * thrown away, but no byte outside it has changed.
 * @throws {UnsupportedError} If the manager or opcode is unknown.
 */
export type RedoFunction = (
  page: Page,
  record: DecodedRecord,
  target: RedoTarget,
  context: RedoContext,
) => void;

const REGISTRY: (RedoFunction | undefined)[] = [];
REGISTRY[RM_XLOG_ID] = redoXlog;
REGISTRY[RM_SMGR_ID] = redoSmgr;
REGISTRY[RM_HEAP2_ID] = redoHeap2;
REGISTRY[RM_HEAP_ID] = redoHeap;
REGISTRY[RM_BTREE_ID] = redoBtree;
REGISTRY[RM_HASH_ID] = redoHash;
REGISTRY[RM_GIN_ID] = redoGin;
REGISTRY[RM_GIST_ID] = redoGist;
REGISTRY[RM_SEQ_ID] = redoSequence;
REGISTRY[RM_SPGIST_ID] = redoSpgist;
REGISTRY[RM_BRIN_ID] = redoBrin;
REGISTRY[RM_GENERIC_ID] = redoGeneric;

/** Replays one record on one page of a relation. See {@linkcode RedoFunction}. */
export function redoRecord(
  page: Page,
  record: DecodedRecord,
  target: RedoTarget,
  context: RedoContext,
): void {
  const redo = REGISTRY[record.rmid];
  if (redo === undefined) throw unsupportedRecord(record);
  redo(page, record, target, context);
}

/** Whether records of this manager can be replayed at all. */
export function canRedo(rmid: number): boolean {
  return REGISTRY[rmid] !== undefined;
}

/** The error for a manager or opcode that this build cannot replay. */
export function unsupportedRecord(record: DecodedRecord): UnsupportedError {
  return new UnsupportedError(
    `Cannot replay ${rmgrName(record.rmid)} record with info 0x${record.opInfo.toString(16)} of PostgreSQL ` +
      `${record.profile.major} ending at LSN ${formatLsn(record.endLsn)}: no redo for it`,
    { hint: "The record's bytes are kept; a later version of varve can replay them." },
  );
}
