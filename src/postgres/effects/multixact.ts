/**
 * Effects of multixact records: pages of offsets and members, and segments that are no longer needed.
 *
 * Write path, inside ingest; `redo/slru_multixact.ts` writes the entries when a page is read.
 *
 * Since the minor releases of early 2026 a server stores, with each multixact, also the offset of the next one, and
 * initialises the next offsets page one multixact earlier. WAL of older minors is replayed the new way too: then the
 * last multixact of a page writes to a page that no record has zeroed yet, and the record that zeroes it comes after
 * and must be passed over. `ClusterState.lastOffsetsPage` and `preInitializedOffsetsPage` tell the two apart, as
 * static variables of the same purpose do in PostgreSQL.
 *
 * Layouts (access/multixact.h 14-18): zero page: page number; CREATE_ID: mid 4, moff 4, nmembers 4, then xid 4 and
 * status 4 each; TRUNCATE_ID: oldestMultiDB, startTruncOff, endTruncOff, startTruncMemb, endTruncMemb, 4 bytes each.
 *
 * Source: PostgreSQL src/backend/access/transam/multixact.c, `multixact_redo`, `RecordNewMultiXact`.
 *
 * @module
 */
import { getU32 } from "../../bytes/little_endian.ts";
import {
  MULTIXACT_MEMBERS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  slruPageOf,
  slruPagePrecedes,
  slruSegmentOf,
} from "../page/slru.ts";
import { checkedMain, corruptRecord } from "../redo/record_checks.ts";
import { nextMultiXactId, previousMultiXactId, transactionIdPrecedes } from "../transaction_id.ts";
import type { DecodedRecord } from "../wal/record.ts";
import type { ClusterState } from "./cluster_state.ts";
import type { EffectSink } from "./effect_sink.ts";
import { slruPagenoOf } from "./slru_pageno.ts";

export const XLOG_MULTIXACT_ZERO_OFF_PAGE = 0x00;
export const XLOG_MULTIXACT_ZERO_MEM_PAGE = 0x10;
export const XLOG_MULTIXACT_CREATE_ID = 0x20;
export const XLOG_MULTIXACT_TRUNCATE_ID = 0x30;

/** `SizeOfMultiXactCreate`, before the members. */
export const SizeOfMultiXactCreate = 12;
/** `sizeof(MultiXactMember)`. */
export const SizeOfMultiXactMember = 8;
const SizeOfMultiXactTruncate = 20;

/** Effects of the MultiXact manager's records. */
export function multixactEffects(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  switch (record.opInfo) {
    case XLOG_MULTIXACT_ZERO_OFF_PAGE:
      return zeroOffsetsPage(slruPagenoOf(record, SLRU_MULTIXACT_OFFSETS), state, sink);
    case XLOG_MULTIXACT_ZERO_MEM_PAGE:
      return sink.zeroSlruPage(SLRU_MULTIXACT_MEMBERS, slruPagenoOf(record, SLRU_MULTIXACT_MEMBERS));
    case XLOG_MULTIXACT_CREATE_ID:
      return createMultiXact(record, state, sink);
    case XLOG_MULTIXACT_TRUNCATE_ID:
      return truncateMultiXact(record, state, sink);
  }
}

function zeroOffsetsPage(pageno: number, state: ClusterState, sink: EffectSink): void {
  if (state.preInitializedOffsetsPage === pageno) {
    state.setOffsetsPages(state.lastOffsetsPage, -1);
    return;
  }
  sink.zeroSlruPage(SLRU_MULTIXACT_OFFSETS, pageno);
  state.setOffsetsPages(pageno, -1);
}

/** The number of members of a CREATE_ID record, checked against its length. */
export function checkedMemberCount(record: DecodedRecord): number {
  const offset = checkedMain(record, SizeOfMultiXactCreate);
  const count = getU32(record.bytes, offset + 8);
  if (count === 0 || count > (record.mainLength - SizeOfMultiXactCreate) / SizeOfMultiXactMember) {
    throw corruptRecord(
      record,
      "impossible number of members",
      `1 or more in ${record.mainLength} bytes`,
      count,
    );
  }
  return count;
}

function createMultiXact(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes, mainOffset } = record;
  const count = checkedMemberCount(record);
  const multi = getU32(bytes, mainOffset);
  const firstMember = getU32(bytes, mainOffset + 4);

  const page = slruPageOf(SLRU_MULTIXACT_OFFSETS, multi);
  const nextPage = slruPageOf(SLRU_MULTIXACT_OFFSETS, nextMultiXactId(multi));
  sink.touchSlruPage(SLRU_MULTIXACT_OFFSETS, page);
  if (nextPage !== page) {
    sink.touchSlruPage(SLRU_MULTIXACT_OFFSETS, nextPage);
    // Touching a page that does not exist makes it: an older minor's record zeroes it only later.
    if (state.lastOffsetsPage === page) state.setOffsetsPages(nextPage, nextPage);
  }

  let left = count;
  for (let member = firstMember; left > 0;) {
    const memberPage = slruPageOf(SLRU_MULTIXACT_MEMBERS, member);
    sink.touchSlruPage(SLRU_MULTIXACT_MEMBERS, memberPage);
    const pageEnd = Math.min((memberPage + 1) * MULTIXACT_MEMBERS_PER_PAGE, 0x1_0000_0000);
    left -= pageEnd - member;
    member = pageEnd >>> 0;
  }

  state.advanceNextMulti((multi + 1) >>> 0, (firstMember + count) >>> 0);
  let maxXid = record.xid;
  for (let index = 0; index < count; index++) {
    const xid = getU32(bytes, mainOffset + SizeOfMultiXactCreate + index * SizeOfMultiXactMember);
    if (transactionIdPrecedes(maxXid, xid)) maxXid = xid;
  }
  state.advanceNextXid(maxXid);
}

function truncateMultiXact(record: DecodedRecord, state: ClusterState, sink: EffectSink): void {
  const { bytes } = record;
  const offset = checkedMain(record, SizeOfMultiXactTruncate);
  const oldestMulti = getU32(bytes, offset + 8);
  state.setOldestMulti(oldestMulti, getU32(bytes, offset));
  const memberSegment = (at: number) => slruSegmentOf(slruPageOf(SLRU_MULTIXACT_MEMBERS, getU32(bytes, at)));
  const firstSegment = memberSegment(offset + 12);
  const endSegment = memberSegment(offset + 16);
  if (firstSegment !== endSegment) sink.deleteSlruSegments(SLRU_MULTIXACT_MEMBERS, firstSegment, endSegment);
  // One multixact back, so that a cutoff page exists even if oldestMulti is the next one and first on its page.
  const cutoffPage = slruPageOf(SLRU_MULTIXACT_OFFSETS, previousMultiXactId(oldestMulti));
  // SimpleLruTruncate's guard against an apparent wrap-around.
  const latestPage = Math.floor(state.nextMulti / MULTIXACT_OFFSETS_PER_PAGE);
  if (!slruPagePrecedes(SLRU_MULTIXACT_OFFSETS, latestPage, cutoffPage)) {
    sink.truncateSlru(SLRU_MULTIXACT_OFFSETS, cutoffPage);
  }
}
