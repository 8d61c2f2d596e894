/**
 * Redo of what VACUUM does to an SP-GiST index.
 *
 * Read path, inside replay. Each record is about one page.
 *
 * Source: PostgreSQL src/backend/access/spgist/spgxlog.c, access/spgxlog.h (14-18). Main data, then offset numbers:
 * ```
 * spgxlogVacuumLeaf      0 2 nDead  2 2 nPlaceholder  4 2 nMove  6 2 nChain  8 8 spgxlogState
 *                       16 to become dead, to become placeholders, to move from, to move to, to link from, to link to
 * spgxlogVacuumRoot      0 2 nDelete  4 8 spgxlogState  12 to delete
 * spgxlogVacuumRedirect  0 2 nToPlaceholder  2 2 firstPlaceholder  4 4 snapshotConflictHorizon  [8 1 isCatalogRel]
 *                        8 or 10 redirections to become placeholders
 * ```
 *
 * @module
 */
import { getU16 } from "../../../bytes/little_endian.ts";
import { setTidBlock, setTidOffset } from "../../page/index_tuple.ts";
import type { Page } from "../../page/page.ts";
import type { DecodedRecord } from "../../wal/record.ts";
import { checkedMain, corruptRecord } from "../record_checks.ts";
import {
  checkSpgistPage,
  SGDTSIZE,
  SPGIST_DEAD,
  SPGIST_N_PLACEHOLDER,
  SPGIST_N_REDIRECTION,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
  SPGIST_TUPSTATE_MASK,
} from "./page_layout.ts";
import { deleteListed, deletePlaceholdersFrom, replaceListedByDeadTuples, setNextOffset } from "./tuples.ts";

const SizeOfSpgxlogVacuumLeaf = 16;
const SizeOfSpgxlogVacuumRoot = 12;

const InvalidBlockNumber = 0xffffffff;
const InvalidOffsetNumber = 0;

/** `spgRedoVacuumLeaf`. */
export function redoVacuumLeaf(page: Page, record: DecodedRecord): void {
  const { bytes } = record;
  const main = checkedMain(record, SizeOfSpgxlogVacuumLeaf);
  const [dead, placeholders] = [getU16(bytes, main), getU16(bytes, main + 2)];
  const [moves, links] = [getU16(bytes, main + 4), getU16(bytes, main + 6)];
  checkedMain(record, SizeOfSpgxlogVacuumLeaf + (dead + placeholders + 2 * moves + 2 * links) * 2);
  checkSpgistPage(page);
  const toDead = main + SizeOfSpgxlogVacuumLeaf;
  const toPlaceholder = toDead + dead * 2;
  const moveSrc = toPlaceholder + placeholders * 2;
  const moveDest = moveSrc + moves * 2;
  const chainSrc = moveDest + moves * 2;
  const chainDest = chainSrc + links * 2;

  replaceListedByDeadTuples(page, record, toDead, dead, SPGIST_DEAD, SPGIST_DEAD);
  replaceListedByDeadTuples(
    page,
    record,
    toPlaceholder,
    placeholders,
    SPGIST_PLACEHOLDER,
    SPGIST_PLACEHOLDER,
  );
  for (let at = 0; at < moves * 2; at += 2) {
    swapLinePointers(page, record, getU16(bytes, moveSrc + at), getU16(bytes, moveDest + at));
  }
  replaceListedByDeadTuples(page, record, moveSrc, moves, SPGIST_PLACEHOLDER, SPGIST_PLACEHOLDER);
  for (let at = 0; at < links * 2; at += 2) {
    setNextOffset(page, getU16(bytes, chainSrc + at), getU16(bytes, chainDest + at));
  }
}

/** A tuple moves to the head of its chain, whose own tuple goes: their line pointers change places. */
function swapLinePointers(page: Page, record: DecodedRecord, source: number, destination: number): void {
  const max = page.maxOffsetNumber();
  if (source < 1 || source > max || destination < 1 || destination > max) {
    throw corruptRecord(record, "SP-GiST tuples to move", `1..${max}`, `${source} to ${destination}`);
  }
  const word = page.itemId(source);
  page.u32[5 + source] = page.itemId(destination);
  page.u32[5 + destination] = word;
}

/** `spgRedoVacuumRoot`: the root while it is a leaf page; nothing links to its tuples, they just go. */
export function redoVacuumRoot(page: Page, record: DecodedRecord): void {
  const main = checkedMain(record, SizeOfSpgxlogVacuumRoot);
  const count = getU16(record.bytes, main);
  checkedMain(record, SizeOfSpgxlogVacuumRoot + count * 2);
  checkSpgistPage(page);
  deleteListed(page, record, main + SizeOfSpgxlogVacuumRoot, count);
}

/** `spgRedoVacuumRedirect`: redirections that nobody follows any more, and placeholders at the end of the page. */
export function redoVacuumRedirect(page: Page, record: DecodedRecord): void {
  const { bytes } = record;
  const header = record.profile.sizeOfSpgxlogVacuumRedirect;
  const main = checkedMain(record, header);
  const count = getU16(bytes, main);
  const firstPlaceholder = getU16(bytes, main + 2);
  checkedMain(record, header + count * 2);
  checkSpgistPage(page);
  if (count > page.u16[SPGIST_N_REDIRECTION]) {
    throw corruptRecord(record, "SP-GiST redirections", `at most ${page.u16[SPGIST_N_REDIRECTION]}`, count);
  }
  for (let index = 0; index < count; index++) {
    const offnum = getU16(bytes, main + header + index * 2);
    const at = page.checkedItem(offnum, SGDTSIZE);
    const state = page.u8[at] & SPGIST_TUPSTATE_MASK;
    if (state !== SPGIST_REDIRECT) {
      throw corruptRecord(record, `state of SP-GiST tuple ${offnum}`, SPGIST_REDIRECT, state);
    }
    page.u8[at] |= SPGIST_PLACEHOLDER;
    setTidBlock(page.u8, at + 6, InvalidBlockNumber);
    setTidOffset(page.u8, at + 6, InvalidOffsetNumber);
  }
  page.u16[SPGIST_N_REDIRECTION] -= count;
  page.u16[SPGIST_N_PLACEHOLDER] += count;
  if (firstPlaceholder !== InvalidOffsetNumber) deletePlaceholdersFrom(page, record, firstPlaceholder);
}
