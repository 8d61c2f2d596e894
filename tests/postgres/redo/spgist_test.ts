import { setU16, setU32 } from "../../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { Page, SizeOfPageHeaderData } from "../../../src/postgres/page/page.ts";
import { pageAddItem } from "../../../src/postgres/redo/page_edit.ts";
import { redoRecord } from "../../../src/postgres/redo/registry.ts";
import {
  initSpgistPage,
  SPGIST_FLAGS,
  SPGIST_LEAF,
  SPGIST_N_PLACEHOLDER,
  SPGIST_N_REDIRECTION,
  SPGIST_NULLS,
  SPGIST_PAGE_ID,
} from "../../../src/postgres/redo/spgist/page_layout.ts";
import {
  XLOG_SPGIST_ADD_LEAF,
  XLOG_SPGIST_ADD_NODE,
  XLOG_SPGIST_MOVE_LEAFS,
  XLOG_SPGIST_VACUUM_REDIRECT,
} from "../../../src/postgres/redo/spgist/spgist.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_SPGIST_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { POSTGRES_MAJORS } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import { judgedOnce } from "./judged_manager.ts";
import { replayMutations } from "./record_samples.ts";
import { spgistKind } from "./spgist_kinds.ts";
import { runSpgistWorkload } from "./spgist_workload.ts";
import { makeRecord, u16, u32 } from "./synthetic_record.ts";

/**
 * Every block reference of every SP-GiST record, by id, and the cases that redo tells apart. Left out, and tested with
 * records of our own:
 * - ADD_NODE 1 with the parent on the page that the tuple goes to: an insertion has its parent's page locked, and
 *   SpGistGetBuffer() never takes a page that is;
 * - ADD_LEAF 0 on a new page for nulls: a split of nulls leaves no node without tuples;
 * - records of an index build (isBuild): PostgreSQL logs an index that it builds as whole pages.
 */
const KINDS = [
  ...["ADD_LEAF 0", "ADD_LEAF 0 new", "ADD_LEAF 0 dead", "ADD_LEAF 0 chained", "ADD_LEAF 1"],
  ...["ADD_LEAF 0 nulls", "ADD_LEAF 0 chained nulls"],
  ...["MOVE_LEAFS 0", "MOVE_LEAFS 1", "MOVE_LEAFS 1 new", "MOVE_LEAFS 2"],
  ...["MOVE_LEAFS 0 dead", "MOVE_LEAFS 1 dead"],
  ...["MOVE_LEAFS 0 nulls", "MOVE_LEAFS 1 nulls", "MOVE_LEAFS 1 new nulls", "MOVE_LEAFS 2 nulls"],
  ...["ADD_NODE 0 in place", "ADD_NODE 0", "ADD_NODE 0 parent", "ADD_NODE 1", "ADD_NODE 1 new"],
  "ADD_NODE 2 parent",
  ...["SPLIT_TUPLE 0", "SPLIT_TUPLE 0 both", "SPLIT_TUPLE 1", "SPLIT_TUPLE 1 new"],
  ...["PICKSPLIT 0", "PICKSPLIT 0 new", "PICKSPLIT 1", "PICKSPLIT 1 new"],
  ...["PICKSPLIT 2", "PICKSPLIT 2 new", "PICKSPLIT 2 new root", "PICKSPLIT 2 parent", "PICKSPLIT 3"],
  ...["PICKSPLIT 0 nulls", "PICKSPLIT 1 new nulls", "PICKSPLIT 2 new root nulls", "PICKSPLIT 3 nulls"],
  ...["VACUUM_LEAF 0 dead placeholders", "VACUUM_LEAF 0 placeholders links"],
  ...["VACUUM_LEAF 0 placeholders moves links", "VACUUM_LEAF 0 dead placeholders moves links"],
  "VACUUM_ROOT 0",
  ...["VACUUM_REDIRECT 0 redirections", "VACUUM_REDIRECT 0 placeholders"],
  "VACUUM_REDIRECT 0 redirections placeholders",
];

const judged = judgedOnce({
  rmid: RM_SPGIST_ID,
  checking: "spgist",
  run: runSpgistWorkload,
  kindOf: spgistKind,
  pageIds: [SPGIST_PAGE_ID, SPGIST_PAGE_ID],
  // SpGistMetaPageData: 4 magicNumber, then the cache of pages with room, which is never logged.
  blank: (page, block) => {
    if (block === 0) page.u8.fill(0, SizeOfPageHeaderData + 4, page.lower);
  },
});
const test = suite("redo/spgist");

for (const major of POSTGRES_MAJORS) {
  test(`redoSpgist() makes every page as PostgreSQL ${major} does`, async () => {
    const { verdict } = await judged(major);
    const failures = verdict.total("different", "SPGist/") + verdict.total("errors", "SPGist/") +
      verdict.total("unsupported", "SPGist/");
    assert.is(failures, 0, verdict.report("SPGist/"));
    assert.ok(verdict.total("compared", "SPGist/") > 50_000);
  });

  test(`redoSpgist() leaves what the files of a stopped PostgreSQL ${major} hold`, async () => {
    const { stopped } = await judged(major);
    assert.equal(stopped.differences, []);
    assert.ok(stopped.compared > 500, `${stopped.compared} pages`);
  });

  test(`redoSpgist() has met every kind of block reference of PostgreSQL ${major}`, async () => {
    const { kinds } = await judged(major);
    assert.equal(KINDS.filter((kind) => !kinds.has(kind)), []);
  });

  test(`redoSpgist() stamps every page of PostgreSQL ${major} with the end of its record`, async () => {
    const { samples } = await judged(major);
    const record = new DecodedRecord(profileOfMajor(major));
    assert.ok(samples.length >= KINDS.length);
    for (const { record: bytes, endLsn, blockIndex, before } of samples) {
      const page = Page.from(before);
      record.decode(bytes, 0, endLsn);
      redoRecord(page, record, { blockIndex, fork: 0, block: 0 }, { hintBitsLogged: true });
      assert.is(page.lsn, endLsn);
    }
  });

  test(`redoSpgist() refuses damaged records and pages of PostgreSQL ${major} with typed errors`, async () => {
    const { samples } = await judged(major);
    const random = seededRandom(`redo/spgist ${major}`);
    const outcomes = replayMutations(random, profileOfMajor(major), samples, 250);
    assert.ok(outcomes.corruption + outcomes.unsupported + outcomes.applied >= 250 * KINDS.length);
    assert.ok(outcomes.corruption > 2000 && outcomes.unsupported > 0 && outcomes.applied > 1000);
  });
}

const END_LSN = 0x2000;

function redo(page: Page, record: DecodedRecord, id: number): void {
  redoRecord(page, record, { blockIndex: record.findBlock(id), fork: 0, block: 0 }, { hintBitsLogged: true });
}

/** A leaf tuple of 16 bytes. */
function leafTuple(heapBlock: number, next = 0): number[] {
  return [...u32(16 << 2), ...u16(next), ...u16(0), ...u16(heapBlock), ...u16(1), ...u32(0)];
}

/** An inner tuple of nodes without labels, all links unset. */
function innerTuple(nodes: number): number[] {
  const bytes = new Uint8Array(8 + nodes * 8);
  setU32(bytes, 0, nodes << 3);
  setU16(bytes, 4, bytes.length);
  for (let node = 0; node < nodes; node++) setU16(bytes, 8 + node * 8 + 6, 8);
  return [...bytes];
}

function makePage(flags: number, ...tuples: number[][]): Page {
  const page = new Page();
  initSpgistPage(page, flags);
  tuples.forEach((tuple, index) => {
    pageAddItem(page, new Uint8Array(tuple), 0, tuple.length, index + 1, false);
  });
  return page;
}

function tupleBytes(page: Page, offnum: number): number[] {
  const at = page.itemOffset(offnum);
  return [...page.u8.subarray(at, at + page.itemLength(offnum))];
}

/** What stands where a tuple was that went without a redirection. */
const PLACEHOLDER = [...u32(3 | 16 << 2), ...u16(0), ...u16(0xffff), ...u16(0xffff), ...u16(0), ...u32(0)];

function addNode(parentBlk: number, isBuild: number): DecodedRecord {
  const main = [...u16(1), ...u16(2), 0, parentBlk, ...u16(1), ...u16(1), 0, 0, ...u32(99), isBuild, 0, 0, 0];
  const blocks = [{ id: 0, block: 4 }, { id: 1, block: 0x20007 }];
  return makeRecord(17, RM_SPGIST_ID, XLOG_SPGIST_ADD_NODE, [...main, ...innerTuple(3)], blocks, END_LSN);
}

test("redoSpgist() links a moved inner tuple from its parent on the page that it goes to", () => {
  const page = makePage(0, innerTuple(2));
  redo(page, addNode(1, 0), 1);
  assert.equal(tupleBytes(page, 2), innerTuple(3));
  assert.equal(tupleBytes(page, 1).slice(8 + 8, 8 + 14), [...u16(2), ...u16(7), ...u16(2)]);
  assert.is(page.lsn, END_LSN);
});

test("redoSpgist() leaves a redirection behind, and a placeholder in an index that is being built", () => {
  const redirected = makePage(0, innerTuple(3), innerTuple(2));
  redo(redirected, addNode(1, 0), 0);
  const redirection = [...u32(1 | 16 << 2), ...u16(0), ...u16(2), ...u16(7), ...u16(2), ...u32(99)];
  assert.equal(tupleBytes(redirected, 1), redirection);
  assert.equal([redirected.u16[SPGIST_N_REDIRECTION], redirected.u16[SPGIST_N_PLACEHOLDER]], [1, 0]);
  const built = makePage(0, innerTuple(3), innerTuple(2));
  redo(built, addNode(1, 1), 0);
  assert.equal(tupleBytes(built, 1), PLACEHOLDER);
  assert.equal([built.u16[SPGIST_N_REDIRECTION], built.u16[SPGIST_N_PLACEHOLDER]], [0, 1]);
});

test("redoSpgist() moves leaf tuples of an index that is being built without a redirection", () => {
  const main = [...u16(2), 0, 0, 0, 0, ...u16(1), ...u16(0), 0, 0, ...u32(99), 1, 0, 0, 0];
  const lists = [...u16(3), ...u16(1), ...u16(1), ...u16(2), ...u16(3)];
  const tuples = [...leafTuple(3), ...leafTuple(1, 1), ...leafTuple(9, 2)];
  const blocks = [{ id: 0, block: 4 }, { id: 1, block: 5 }, { id: 2, block: 6 }];
  const record = makeRecord(17, RM_SPGIST_ID, XLOG_SPGIST_MOVE_LEAFS, [...main, ...lists, ...tuples], blocks);
  const source = makePage(SPGIST_LEAF, leafTuple(1, 3), leafTuple(2), leafTuple(3));
  redo(source, record, 0);
  assert.equal([1, 2, 3].map((offnum) => tupleBytes(source, offnum)), [
    PLACEHOLDER,
    leafTuple(2),
    PLACEHOLDER,
  ]);
  assert.is(source.u16[SPGIST_N_PLACEHOLDER], 2);
});

test("redoSpgist() makes a leaf page for nulls", () => {
  const main = [1, 1, ...u16(1), ...u16(0), ...u16(1), ...u16(0), ...leafTuple(5)];
  const page = makePage(0, innerTuple(2));
  redo(page, makeRecord(17, RM_SPGIST_ID, XLOG_SPGIST_ADD_LEAF, main, [{ id: 0 }, { id: 1 }]), 0);
  assert.is(page.u16[SPGIST_FLAGS], SPGIST_LEAF | SPGIST_NULLS);
  assert.equal(tupleBytes(page, 1), leafTuple(5));
});

test("redoSpgist() finds the redirections of VACUUM_REDIRECT where each major has them", () => {
  for (const major of POSTGRES_MAJORS) {
    const redirection = [...u32(1 | 16 << 2), ...u16(0), ...u16(0), ...u16(7), ...u16(2), ...u32(99)];
    const page = makePage(SPGIST_LEAF, redirection, leafTuple(5));
    page.u16[SPGIST_N_REDIRECTION] = 1;
    const main = [...u16(1), ...u16(0), ...u32(99), ...(major < 16 ? [] : [0, 0]), ...u16(1)];
    redo(page, makeRecord(major, RM_SPGIST_ID, XLOG_SPGIST_VACUUM_REDIRECT, main, [{ id: 0 }]), 0);
    assert.equal(tupleBytes(page, 1), [...PLACEHOLDER.slice(0, 12), ...u32(99)]);
    assert.equal([page.u16[SPGIST_N_REDIRECTION], page.u16[SPGIST_N_PLACEHOLDER]], [0, 1]);
  }
});

test("redoSpgist() refuses tuples that are taken, nodes that are not there, and opcodes it does not know", () => {
  const taken = makePage(SPGIST_LEAF, leafTuple(1), leafTuple(2));
  const main = [0, 0, ...u16(2), ...u16(0), ...u16(0), ...u16(0), ...leafTuple(5)];
  const record = makeRecord(17, RM_SPGIST_ID, XLOG_SPGIST_ADD_LEAF, main, [{ id: 0 }]);
  assert.raises(() => redo(taken, record, 0), CorruptionError);
  assert.raises(() => redo(makePage(0, innerTuple(1)), addNode(1, 0), 1), CorruptionError);
  const unknown = makeRecord(17, RM_SPGIST_ID, 0x00, [], [{ id: 0 }]);
  assert.raises(() => redo(new Page(), unknown, 0), UnsupportedError);
});

test.run();
