import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { FSM_FORKNUM, fsmGetAvail, SlotsPerFSMPage } from "../../../src/postgres/page/free_space_map.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import {
  HEAPBLOCKS_PER_PAGE,
  VISIBILITYMAP_FORKNUM,
  visibilityMapGet,
} from "../../../src/postgres/page/visibility_map.ts";
import { pageInit } from "../../../src/postgres/redo/page_edit.ts";
import { redoSmgr } from "../../../src/postgres/redo/smgr.ts";
import { RM_SMGR_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { makeRecord, u32 } from "./synthetic_record.ts";

const [CREATE, TRUNCATE] = [0x10, 0x20];
const ALL = 7;

/** Replays a truncation to `blocks` on a page of ones. */
function replay(blocks: number, flags: number, fork: number, block: number, info = TRUNCATE): Page {
  const page = new Page();
  pageInit(page, 0);
  page.u8.fill(0xff, 24);
  const main = [...u32(blocks), ...u32(1663), ...u32(5), ...u32(16384), ...u32(flags)];
  redoSmgr(page, makeRecord(17, RM_SMGR_ID, info, main, []), { blockIndex: -1, fork, block }, {
    hintBitsLogged: true,
  });
  return page;
}

const test = suite("redo/smgr");

test("redoSmgr() clears the bits of truncated heap blocks on a map page, and leaves its LSN", () => {
  for (const blocks of [1, 2, 3, 4, 5, 1000, HEAPBLOCKS_PER_PAGE - 1]) {
    const page = replay(HEAPBLOCKS_PER_PAGE + blocks, ALL, VISIBILITYMAP_FORKNUM, 1);
    const bits = Array.from({ length: HEAPBLOCKS_PER_PAGE }, (_, at) => visibilityMapGet(page, at));
    assert.ok(bits.every((two, at) => two === (at < blocks ? 3 : 0)), `cut to ${blocks}`);
    assert.is(page.lsn, 0);
  }
});

test("redoSmgr() clears the slots of truncated heap blocks on a free space map page, and leaves its LSN", () => {
  const blocks = SlotsPerFSMPage + 17;
  const page = replay(blocks, ALL, FSM_FORKNUM, 3);
  assert.equal([fsmGetAvail(page, blocks - 1), fsmGetAvail(page, blocks), page.lsn], [255, 0, 0]);
  assert.is(fsmGetAvail(page, 2 * SlotsPerFSMPage - 1), 0);
});

test("redoSmgr() leaves pages alone that were never written", () => {
  const main = [...u32(3), ...u32(1663), ...u32(5), ...u32(16384), ...u32(ALL)];
  for (const [fork, block] of [[VISIBILITYMAP_FORKNUM, 0], [FSM_FORKNUM, 2]]) {
    const page = new Page();
    redoSmgr(page, makeRecord(14, RM_SMGR_ID, TRUNCATE, main, []), { blockIndex: -1, fork, block }, {
      hintBitsLogged: false,
    });
    assert.ok(page.isAllZero());
  }
});

test("redoSmgr() refuses pages that the truncation does not cut, and records that are cut off", () => {
  assert.raises(() => replay(HEAPBLOCKS_PER_PAGE, ALL, VISIBILITYMAP_FORKNUM, 1), CorruptionError);
  assert.raises(() => replay(70, ALL, VISIBILITYMAP_FORKNUM, 1), CorruptionError);
  assert.raises(() => replay(70, ALL & ~2, VISIBILITYMAP_FORKNUM, 0), CorruptionError);
  assert.raises(() => replay(70, ALL & ~4, FSM_FORKNUM, 2), CorruptionError);
  assert.raises(() => replay(70, ALL, FSM_FORKNUM, 0), CorruptionError);
  assert.raises(() => replay(70, ALL, 0, 0), CorruptionError);
  assert.raises(() => replay(70, ALL, FSM_FORKNUM, 2, CREATE), UnsupportedError);
  const short = makeRecord(17, RM_SMGR_ID, TRUNCATE, [1, 0, 0, 0], []);
  const target = { blockIndex: -1, fork: FSM_FORKNUM, block: 2 };
  assert.raises(() => redoSmgr(new Page(), short, target, { hintBitsLogged: true }), CorruptionError);
});

test.run();
