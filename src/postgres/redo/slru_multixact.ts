/**
 * Redo of multixact records on pages of pg_multixact/offsets and pg_multixact/members.
 *
 * Read path, inside replay. A page of offsets has 4 bytes per multixact: where its members begin. A page of members has
 * 409 groups of 20 bytes: one flag byte for each of four members (their `MultiXactStatus`), then their four xids.
 *
 * Source: PostgreSQL src/backend/access/transam/multixact.c (14.21, 15.16, 16.12, 17.8, 18.2 and later; older minors did
 * not set the next multixact's offset, but recovery by a newer one does), `RecordNewMultiXact`.
 *
 * @module
 */
import { getU32, setU32 } from "../../bytes/little_endian.ts";
import { checkedMemberCount, SizeOfMultiXactCreate, SizeOfMultiXactMember } from "../effects/multixact.ts";
import { MULTIXACT_MEMBERS_PER_PAGE, MULTIXACT_OFFSETS_PER_PAGE } from "../page/slru.ts";
import { nextMultiXactId } from "../transaction_id.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { corruptRecord } from "./record_checks.ts";

const MULTIXACT_MEMBERS_PER_MEMBERGROUP = 4;
const MULTIXACT_FLAGBYTES_PER_GROUP = 4;
const MULTIXACT_MEMBERGROUP_SIZE = 20;
/** `MultiXactStatusUpdate`, the greatest status. */
const MultiXactStatusUpdate = 5;

/** Writes where a new multixact's members begin, and where those of the next one will. */
export function redoMultiXactOffsets(page: Uint8Array, pageno: number, record: DecodedRecord): void {
  const count = checkedMemberCount(record);
  const multi = getU32(record.bytes, record.mainOffset);
  const firstMember = getU32(record.bytes, record.mainOffset + 4);
  setOffset(page, pageno, multi, firstMember);
  // 0 is never the start of a multixact.
  setOffset(page, pageno, nextMultiXactId(multi), ((firstMember + count) >>> 0) || 1);
}

function setOffset(page: Uint8Array, pageno: number, multi: number, value: number): void {
  const index = multi - pageno * MULTIXACT_OFFSETS_PER_PAGE;
  if (index >= 0 && index < MULTIXACT_OFFSETS_PER_PAGE) setU32(page, index * 4, value);
}

/** Writes those of a new multixact's members that lie on this page. */
export function redoMultiXactMembers(page: Uint8Array, pageno: number, record: DecodedRecord): void {
  const { bytes, mainOffset } = record;
  const count = checkedMemberCount(record);
  const firstMember = getU32(bytes, mainOffset + 4);
  for (let number = 0; number < count; number++) {
    const index = ((firstMember + number) >>> 0) - pageno * MULTIXACT_MEMBERS_PER_PAGE;
    if (index < 0 || index >= MULTIXACT_MEMBERS_PER_PAGE) continue;
    const offset = mainOffset + SizeOfMultiXactCreate + number * SizeOfMultiXactMember;
    const status = getU32(bytes, offset + 4);
    if (status > MultiXactStatusUpdate) {
      throw corruptRecord(record, "unknown member status", `0..${MultiXactStatusUpdate}`, status);
    }
    const group = Math.floor(index / MULTIXACT_MEMBERS_PER_MEMBERGROUP) * MULTIXACT_MEMBERGROUP_SIZE;
    const inGroup = index % MULTIXACT_MEMBERS_PER_MEMBERGROUP;
    page[group + inGroup] = status;
    setU32(page, group + MULTIXACT_FLAGBYTES_PER_GROUP + inGroup * 4, getU32(bytes, offset));
  }
}
