/**
 * Redo of SP-GiST records: which edit belongs to which block reference of which opcode.
 *
 * Read path, inside replay. The main data holds all that happens; what of it concerns a page depends on the reference.
 *
 * Source: PostgreSQL src/backend/access/spgist/spgxlog.c, access/spgxlog.h (14-18). Blocks by id (I: made from the
 * record alone when its main data says so):
 * ```
 *                  0              1               2               3
 * ADD_LEAF         leaf page I    parent
 * MOVE_LEAFS       source         destination I   parent
 * ADD_NODE         inner tuple    where it goes I parent
 * SPLIT_TUPLE      prefix tuple   postfix tuple I
 * PICKSPLIT        source I       destination I   inner tuple I   parent
 * VACUUM_LEAF      leaf page
 * VACUUM_ROOT      root
 * VACUUM_REDIRECT  any page
 * ```
 *
 * @module
 */
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { checkedBlockId, unexpectedBlock } from "../record_checks.ts";
import { type RedoContext, type RedoTarget, unsupportedRecord } from "../registry.ts";
import { redoAddNode, redoSplitTuple } from "./inner.ts";
import { redoAddLeaf, redoMoveLeafs } from "./leafs.ts";
import { redoPickSplit } from "./picksplit.ts";
import { redoVacuumLeaf, redoVacuumRedirect, redoVacuumRoot } from "./vacuum.ts";

export const XLOG_SPGIST_ADD_LEAF = 0x10;
export const XLOG_SPGIST_MOVE_LEAFS = 0x20;
export const XLOG_SPGIST_ADD_NODE = 0x30;
export const XLOG_SPGIST_SPLIT_TUPLE = 0x40;
export const XLOG_SPGIST_PICKSPLIT = 0x50;
export const XLOG_SPGIST_VACUUM_LEAF = 0x60;
export const XLOG_SPGIST_VACUUM_ROOT = 0x70;
export const XLOG_SPGIST_VACUUM_REDIRECT = 0x80;

/** Replays one SP-GiST record on one page. See `RedoFunction`. */
export function redoSpgist(
  page: Page,
  record: DecodedRecord,
  target: RedoTarget,
  _context: RedoContext,
): void {
  const id = checkedBlockId(record, target.blockIndex);
  switch (record.opInfo) {
    case XLOG_SPGIST_ADD_LEAF:
      redoAddLeaf(page, record, id);
      break;
    case XLOG_SPGIST_MOVE_LEAFS:
      redoMoveLeafs(page, record, id);
      break;
    case XLOG_SPGIST_ADD_NODE:
      redoAddNode(page, record, id);
      break;
    case XLOG_SPGIST_SPLIT_TUPLE:
      redoSplitTuple(page, record, id);
      break;
    case XLOG_SPGIST_PICKSPLIT:
      redoPickSplit(page, record, id);
      break;
    case XLOG_SPGIST_VACUUM_LEAF:
      if (id !== 0) throw unexpectedBlock(record, id);
      redoVacuumLeaf(page, record);
      break;
    case XLOG_SPGIST_VACUUM_ROOT:
      if (id !== 0) throw unexpectedBlock(record, id);
      redoVacuumRoot(page, record);
      break;
    case XLOG_SPGIST_VACUUM_REDIRECT:
      if (id !== 0) throw unexpectedBlock(record, id);
      redoVacuumRedirect(page, record);
      break;
    default:
      throw unsupportedRecord(record);
  }
  page.setLsn(record.endLsn);
}
