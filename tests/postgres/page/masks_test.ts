/** Masks: what they blank, what they keep, and pages that make no sense. */
import { CorruptionError } from "../../../src/errors.ts";
import {
  FSM_FORKNUM,
  MAIN_FORKNUM,
  managerOfPage,
  maskPage,
  VISIBILITYMAP_FORKNUM,
} from "../../../src/postgres/page/masks.ts";
import { BLCKSZ, LP_DEAD, LP_NORMAL, LP_REDIRECT, Page } from "../../../src/postgres/page/page.ts";
import { pageInit } from "../../../src/postgres/redo/page_edit.ts";
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
  RM_SPGIST_ID,
  RM_XLOG_ID,
} from "../../../src/postgres/wal/rmgr.ts";
import { lsn } from "../../../src/lsn.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, startCluster } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";

const test = suite("postgres/page/masks", { sanitize: false });

/** A page with a special space, filled with 0xaa where there is no structure. */
function makePage(specialSize: number): Page {
  const page = new Page();
  pageInit(page, specialSize);
  page.u8.fill(0xaa, page.lower, page.special);
  page.setLsn(lsn(12345));
  page.checksum = 4711;
  return page;
}

/** Adds an item of `length` bytes at the end of the items. */
function addItem(page: Page, length: number, flags = LP_NORMAL): number {
  const offnum = page.maxOffsetNumber() + 1;
  page.upper -= (length + 7) & ~7;
  page.lower += 4;
  page.setItemId(offnum, page.upper, flags, length);
  return page.upper;
}

function masked(page: Page, rmid: number, fork = MAIN_FORKNUM, block = 7): Page {
  const copy = Page.from(page.u8);
  maskPage(copy, rmid, fork, block);
  return copy;
}

test("maskPage() blanks LSN and checksum, and of managers without rules nothing else", () => {
  const page = makePage(0);
  const copy = masked(page, RM_XLOG_ID);
  assert.is(copy.lsn, 0);
  assert.is(copy.checksum, 0);
  assert.equal(copy.u8.subarray(10), page.u8.subarray(10));
});

test("maskPage() of a new page blanks LSN and checksum whatever the manager", () => {
  for (const rmid of [RM_HEAP_ID, RM_BTREE_ID, RM_GIN_ID, RM_BRIN_ID]) {
    const page = new Page();
    page.checksum = 1;
    assert.ok(masked(page, rmid).isAllZero());
  }
});

test("maskPage() of a heap page blanks hints, free space, command ids and padding", () => {
  const page = makePage(0);
  page.flags = 7;
  page.pruneXid = 99;
  const at = addItem(page, 29);
  page.u8.fill(0, at, at + 24);
  page.u32[(at + 8) >> 2] = 5; // t_cid
  page.u16[(at + 12 + 4) >> 1] = 1; // t_ctid offset
  page.u16[(at + 20) >> 1] = 0x0d02; // xmin and xmax committed, some more
  const copy = masked(page, RM_HEAP2_ID);
  assert.is(copy.flags, 0);
  assert.is(copy.pruneXid, 0);
  assert.ok(copy.u8.subarray(copy.lower, copy.upper).every((byte) => byte === 0));
  assert.is(copy.u32[(at + 8) >> 2], 0);
  assert.is(copy.u16[(at + 20) >> 1], 0x0002);
  assert.equal([...copy.u8.subarray(at + 24, at + 32)], [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0, 0]);
  assert.is(copy.u16[(at + 16) >> 1], 1, "t_ctid stays");
});

test("maskPage() of a heap page keeps that a tuple is frozen", () => {
  const page = makePage(0);
  const at = addItem(page, 24);
  page.u16[(at + 20) >> 1] = 0xffff;
  assert.is(masked(page, RM_HEAP_ID).u16[(at + 20) >> 1], 0xffff & ~0x0c00);
});

test("maskPage() of a heap page points a speculative tuple at itself", () => {
  const page = makePage(0);
  addItem(page, 24);
  const at = addItem(page, 24);
  page.u16[(at + 16) >> 1] = 0xfffe;
  const copy = masked(page, RM_HEAP_ID, MAIN_FORKNUM, 0x30005);
  assert.equal([...copy.u16.subarray((at + 12) >> 1, (at + 18) >> 1)], [3, 5, 2]);
});

test("maskPage() of map pages keeps the maps", () => {
  const page = makePage(0);
  for (const fork of [VISIBILITYMAP_FORKNUM, FSM_FORKNUM]) {
    assert.equal(masked(page, RM_HEAP2_ID, fork).u8.subarray(24), page.u8.subarray(24));
  }
});

test("maskPage() of a btree page blanks what the leaf's readers set", () => {
  for (const isLeaf of [true, false]) {
    const page = makePage(16);
    addItem(page, 16, LP_DEAD);
    page.u16[(page.special + 12) >> 1] = 0x0060 | 0x0080 | (isLeaf ? 1 : 0);
    page.u16[(page.special + 14) >> 1] = 4242;
    const copy = masked(page, RM_BTREE_ID);
    assert.is(copy.itemFlags(1), isLeaf ? 0 : LP_DEAD);
    assert.is(copy.u16[(page.special + 12) >> 1], 0x0080 | (isLeaf ? 1 : 0));
    assert.is(copy.u16[(page.special + 14) >> 1], 0);
  }
});

test("maskPage() of a hash page: unused pages are blank, buckets lose item flags, bitmaps do not", () => {
  for (const kind of [0, 1, 2, 4]) {
    const page = makePage(16);
    addItem(page, 16, LP_DEAD);
    page.u16[(page.special + 12) >> 1] = kind | 0x80;
    const copy = masked(page, RM_HASH_ID);
    if (kind === 0) assert.ok(copy.u8.subarray(24).every((byte) => byte === 0));
    else {
      assert.is(copy.itemFlags(1), kind === 4 ? LP_DEAD : 0);
      assert.is(copy.u16[(page.special + 12) >> 1], kind);
    }
  }
});

test("maskPage() of GIN and SP-GiST pages: free space only where pd_lower says something", () => {
  const gin = makePage(8);
  assert.is(masked(gin, RM_GIN_ID).u8[1000], 0xaa, "pd_lower as initialised");
  addItem(gin, 16);
  assert.is(masked(gin, RM_GIN_ID).u8[1000], 0);
  gin.u16[(gin.special + 6) >> 1] = 4;
  assert.ok(masked(gin, RM_GIN_ID).u8.subarray(24).every((byte) => byte === 0), "a deleted page");
  const spgist = makePage(8);
  assert.is(masked(spgist, RM_SPGIST_ID).u8[1000], 0);
  spgist.lower = 0;
  assert.is(masked(spgist, RM_SPGIST_ID).u8[1000], 0xaa);
});

test("maskPage() of a GiST page blanks its NSN and what is set without WAL", () => {
  const page = makePage(16);
  addItem(page, 16, LP_DEAD);
  const at = page.special;
  page.u8.fill(0x11, at, at + 16);
  page.u16[(at + 12) >> 1] = 0x0001 | 0x0010;
  const copy = masked(page, RM_GIST_ID);
  assert.equal([...copy.u32.subarray(at >> 2, (at >> 2) + 2)], [0, 0]);
  assert.is(copy.u16[(at + 12) >> 1], 0x0001 | 0x0008);
  assert.is(copy.itemFlags(1), 0);
});

test("maskPage() of BRIN pages: free space of regular pages, nothing of the range map", () => {
  for (
    const [kind, filled, blank] of [[0xf093, false, true], [0xf092, true, false], [0xf091, false, false], [
      0xf091,
      true,
      true,
    ]] as const
  ) {
    const page = makePage(8);
    if (filled) page.lower += 24;
    page.u16[(page.special + 4) >> 1] = 3;
    page.u16[(page.special + 6) >> 1] = kind;
    const copy = masked(page, RM_BRIN_ID);
    assert.is(copy.u8[1000], blank ? 0 : 0xaa);
    assert.is(copy.u16[(page.special + 4) >> 1], 2);
  }
});

test("maskPage() of sequence and generic pages keeps flags and items", () => {
  for (const rmid of [RM_SEQ_ID, RM_GENERIC_ID]) {
    const page = makePage(8);
    addItem(page, 40, LP_REDIRECT);
    page.flags = 4;
    const copy = masked(page, rmid);
    assert.is(copy.u8[1000], 0);
    assert.is(copy.flags, 4);
    assert.is(copy.itemFlags(1), LP_REDIRECT);
  }
});

test("maskPage() refuses pages that make no sense for their manager", () => {
  const noSpecial = makePage(0);
  for (const rmid of [RM_BTREE_ID, RM_HASH_ID, RM_GIN_ID, RM_GIST_ID, RM_BRIN_ID]) {
    assert.raises(() => masked(noSpecial, rmid), CorruptionError);
  }
  const badPointers = makePage(0);
  badPointers.lower = 9000;
  assert.raises(() => masked(badPointers, RM_HEAP_ID), CorruptionError);
  const badItem = makePage(0);
  addItem(badItem, 24);
  badItem.setItemId(1, 8184, LP_NORMAL, 24);
  assert.raises(() => masked(badItem, RM_HEAP_ID), CorruptionError);
  const shortTuple = makePage(0);
  addItem(shortTuple, 16);
  assert.raises(() => masked(shortTuple, RM_HEAP_ID), CorruptionError);
});

test("maskPage() survives 50,000 random pages, and stays inside them", () => {
  const random = seededRandom("postgres/page/masks");
  const memory = new Uint8Array(3 * BLCKSZ).fill(0x5a);
  const page = new Page(memory.buffer, BLCKSZ);
  const bytes = random.bytes(BLCKSZ);
  let refused = 0;
  for (let round = 0; round < 50_000; round++) {
    page.u8.set(bytes);
    page.lower = random.int(0, 400);
    page.upper = random.int(300, BLCKSZ);
    page.special = random.pick([BLCKSZ, BLCKSZ - 8, BLCKSZ - 16, random.int(0, 65535)]);
    page.u8[random.int(24, BLCKSZ - 1)] = random.uint32();
    try {
      maskPage(page, random.int(0, 21), 0, round);
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      refused++;
    }
  }
  assert.ok(refused > 1000 && refused < 50_000, `${refused} were refused`);
  assert.ok(memory.subarray(0, BLCKSZ).every((byte) => byte === 0x5a));
  assert.ok(memory.subarray(2 * BLCKSZ).every((byte) => byte === 0x5a));
});

/** Path of a relation's file, and its pages once the server has stopped. */
async function pagesOf(cluster: Cluster, paths: string[]): Promise<Page[][]> {
  await cluster.stop();
  return paths.map((path) => {
    const bytes = Deno.readFileSync(`${cluster.dataDir}/${path}`);
    return Array.from(
      { length: bytes.length / BLCKSZ },
      (_, n) => Page.from(bytes.subarray(n * BLCKSZ, (n + 1) * BLCKSZ)),
    );
  });
}

test("managerOfPage() recognises the pages of real relations of every kind", async () => {
  await using cluster = await startCluster({ major: 17 });
  await cluster.exec(`
    CREATE TABLE t (id int, v text, a int[], p point);
    CREATE SEQUENCE s;
    CREATE INDEX i_btree ON t (id); CREATE INDEX i_hash ON t USING hash (v); CREATE INDEX i_gin ON t USING gin (a);
    CREATE INDEX i_gist ON t USING gist (p); CREATE INDEX i_spgist ON t USING spgist (v);
    CREATE INDEX i_brin ON t USING brin (id);
    INSERT INTO t SELECT i, md5(i::text), ARRAY[i, i % 9], point(i, i) FROM generate_series(1, 3000) i`);
  const kinds: [string, number][] = [
    ["t", RM_HEAP_ID],
    ["s", RM_SEQ_ID],
    ["i_btree", RM_BTREE_ID],
    ["i_hash", RM_HASH_ID],
    ["i_gin", RM_GIN_ID],
    ["i_gist", RM_GIST_ID],
    ["i_spgist", RM_SPGIST_ID],
    ["i_brin", RM_BRIN_ID],
  ];
  const paths: string[] = [];
  for (const [name] of kinds) {
    paths.push((await cluster.exec(`SELECT pg_relation_filepath('${name}') AS path`))[0].path);
  }
  const relations = await pagesOf(cluster, paths);
  kinds.forEach(([name, rmid], index) => {
    const pages = relations[index].map((page, block) => page.isNew() ? rmid : managerOfPage(page, block));
    assert.equal([...new Set(pages)], [rmid], name);
    relations[index].forEach((page, block) => maskPage(page, rmid, MAIN_FORKNUM, block));
  });
});

test.run();
