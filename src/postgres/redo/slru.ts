/**
 * Redo on pages of the SLRUs: transaction status, multixacts, commit timestamps.
 *
 * Read path, inside replay. Such a page is the 8192 bytes themselves: no header, no LSN, so replay applies every record
 * between the base and the LSN asked for, in order, and records are such that applying one twice changes nothing.
 *
 * @module
 */
import { UnsupportedError } from "../../errors.ts";
import { formatLsn } from "../../lsn.ts";
import { XLOG_MULTIXACT_CREATE_ID } from "../effects/multixact.ts";
import {
  XLOG_XACT_ABORT,
  XLOG_XACT_ABORT_PREPARED,
  XLOG_XACT_COMMIT,
  XLOG_XACT_COMMIT_PREPARED,
  XLOG_XACT_OPMASK,
} from "../effects/xact_record.ts";
import { BLCKSZ } from "../page/page.ts";
import {
  SLRU_COMMIT_TS,
  SLRU_DIRECTORIES,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_XACT,
  type SlruKind,
} from "../page/slru.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { RM_MULTIXACT_ID, RM_XACT_ID, rmgrName } from "../wal/rmgr.ts";
import { redoMultiXactMembers, redoMultiXactOffsets } from "./slru_multixact.ts";
import { redoCommitTimestamp, redoXactStatus } from "./slru_xact.ts";

/** The records that change entries of these SLRUs; pages are zeroed and removed by effects, not by redo. */
function endsTransaction(record: DecodedRecord): boolean {
  if (record.rmid !== RM_XACT_ID) return false;
  const op = record.info & XLOG_XACT_OPMASK;
  return op === XLOG_XACT_COMMIT || op === XLOG_XACT_COMMIT_PREPARED ||
    op === XLOG_XACT_ABORT || op === XLOG_XACT_ABORT_PREPARED;
}

/**
 * Edits a page of an SLRU as the record says: every entry of the record that lies on it.
 *
 * @param page 8192 bytes.
 * @throws {RangeError} If `page` has another length.
 * @throws {CorruptionError} If the record does not hold what its opcode needs.
 * @throws {UnsupportedError} If it is no record that changes entries of this kind.
 */
export function redoSlruPage(page: Uint8Array, kind: SlruKind, pageno: number, record: DecodedRecord): void {
  if (page.length !== BLCKSZ) throw new RangeError(`Cannot edit an SLRU page of ${page.length} bytes`);
  if (endsTransaction(record)) {
    if (kind === SLRU_XACT) return redoXactStatus(page, pageno, record);
    if (kind === SLRU_COMMIT_TS) return redoCommitTimestamp(page, pageno, record);
  }
  if (record.rmid === RM_MULTIXACT_ID && record.opInfo === XLOG_MULTIXACT_CREATE_ID) {
    if (kind === SLRU_MULTIXACT_OFFSETS) return redoMultiXactOffsets(page, pageno, record);
    if (kind === SLRU_MULTIXACT_MEMBERS) return redoMultiXactMembers(page, pageno, record);
  }
  throw new UnsupportedError(
    `Cannot replay ${rmgrName(record.rmid)} record with info 0x${record.opInfo.toString(16)} ending at LSN ` +
      `${formatLsn(record.endLsn)} on a page of ${SLRU_DIRECTORIES[kind]}: it does not change entries there`,
  );
}
