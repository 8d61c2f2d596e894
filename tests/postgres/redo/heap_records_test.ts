/** Heap records that the servers of the other tests do not write, or write without showing what redo decides. */
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { heapVisibilityEffects } from "../../../src/postgres/effects/heap_visibility.ts";
import type { EffectSink } from "../../../src/postgres/effects/effect_sink.ts";
import { Page, PD_ALL_VISIBLE } from "../../../src/postgres/page/page.ts";
import {
  getCtidBlock,
  getCtidOffnum,
  getInfomask,
  getXmax,
  getXmin,
  HEAP_COMBOCID,
  setCid,
  setCtid,
  setInfomask,
} from "../../../src/postgres/page/tuple.ts";
import {
  HEAPBLOCKS_PER_PAGE,
  VISIBILITYMAP_ALL_VISIBLE,
  VISIBILITYMAP_FORKNUM,
  VISIBILITYMAP_VALID_BITS,
  visibilityMapGet,
  visibilityMapSet,
} from "../../../src/postgres/page/visibility_map.ts";
import { redoHeap, redoHeap2 } from "../../../src/postgres/redo/heap/heap.ts";
import { XLH_INSERT_ALL_FROZEN_SET } from "../../../src/postgres/redo/heap/heap_record.ts";
import { pageInit } from "../../../src/postgres/redo/page_edit.ts";
import type { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_HEAP2_ID, RM_HEAP_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { seededRandom } from "../../support/random.ts";
import { makeRecord, type SyntheticBlock, u16, u32 } from "./synthetic_record.ts";

const [INSERT, DELETE, UPDATE, CONFIRM, LOCK] = [0x00, 0x10, 0x20, 0x50, 0x60];
const [VISIBLE, MULTI_INSERT, LOCK_UPDATED] = [0x40, 0x50, 0x60];
const INIT_PAGE = 0x80;
const HINTS = { hintBitsLogged: true };
const NO_HINTS = { hintBitsLogged: false };
const HEAP_TARGET = { blockIndex: 0, fork: 0, block: 7 };

/** Heap blocks that map pages 0 and 1 describe. */
const ON_MAP_0 = 70;
const ALSO_ON_MAP_0 = HEAPBLOCKS_PER_PAGE - 1;
const ON_MAP_1 = HEAPBLOCKS_PER_PAGE;

/** xl_heap_delete, xl_heap_lock and xl_heap_lock_updated. */
const change = (flags: number) => [...u32(700), ...u16(1), 0, flags];
/** xl_heap_update; flags 1: the old page was all-visible, 2: the new one was. */
const update = (flags: number) => [...u32(700), ...u16(1), 0, flags, ...u32(0), ...u16(2)];
const TUPLE = [...u16(1), ...u16(0x0800), 24, 0, 1, 2, 3, 4];

function heapAt(id: number, block: number): SyntheticBlock {
  return { id, block };
}
function mapAt(id: number, block: number): SyntheticBlock {
  return { id, block, flags: VISIBILITYMAP_FORKNUM };
}

/** The map pages that a record touches without naming them, as `spc/db/rel/fork/block`. */
function touched(record: DecodedRecord): string[] {
  const names: string[] = [];
  const sink = { touchBlock: (...name: number[]) => names.push(name.join("/")) };
  heapVisibilityEffects(record, sink as unknown as EffectSink);
  return names;
}

/** Replays a record on a map page with all bits of these blocks set, and says which bits are left, and whether its LSN moved. */
function replayOnMap(
  record: DecodedRecord,
  blockIndex: number,
  block: number,
  heapBlocks: number[],
): { left: number[]; lsnMoved: boolean } {
  const page = new Page();
  pageInit(page, 0);
  for (const heapBlock of heapBlocks) visibilityMapSet(page, heapBlock, VISIBILITYMAP_VALID_BITS);
  const redo = record.rmid === RM_HEAP_ID ? redoHeap : redoHeap2;
  redo(page, record, { blockIndex, fork: VISIBILITYMAP_FORKNUM, block }, HINTS);
  return {
    left: heapBlocks.map((heapBlock) => visibilityMapGet(page, heapBlock)),
    lsnMoved: page.lsn === record.endLsn,
  };
}

const test = suite("redo/heap records");

const CLEARING: [string, number, number, number[], number][] = [
  ["INSERT", RM_HEAP_ID, INSERT, [...u16(1), 0x01], 0],
  ["DELETE", RM_HEAP_ID, DELETE, change(0x01), 0],
  ["LOCK", RM_HEAP_ID, LOCK, change(0x01), VISIBILITYMAP_ALL_VISIBLE],
  ["MULTI_INSERT", RM_HEAP2_ID, MULTI_INSERT, [0x01, 0, ...u16(1), ...u16(1)], 0],
  ["LOCK_UPDATED", RM_HEAP2_ID, LOCK_UPDATED, change(0x01), VISIBILITYMAP_ALL_VISIBLE],
];

for (const [name, rmid, info, main, left] of CLEARING) {
  test(`${name} clears bits of a map page that it does not name, and leaves its LSN`, () => {
    const record = makeRecord(17, rmid, info, main, [heapAt(0, ON_MAP_1)]);
    assert.equal(touched(record), ["1663/5/16384/2/1"]);
    assert.equal(replayOnMap(record, -1, 1, [ON_MAP_1]), { left: [left], lsnMoved: false });
    assert.raises(() => replayOnMap(record, -1, 0, [ON_MAP_0]), CorruptionError);
  });

  test(`${name} clears bits of a map page that it names, and sets its LSN if there were any`, () => {
    const record = makeRecord(18, rmid, info, main, [heapAt(0, ON_MAP_0), mapAt(1, 0)]);
    assert.equal(touched(record), []);
    const others = [ON_MAP_0 - 1, ON_MAP_0, ON_MAP_0 + 1];
    assert.equal(replayOnMap(record, 1, 0, others), { left: [3, left, 3], lsnMoved: true });
    assert.equal(replayOnMap(record, 1, 0, []), { left: [], lsnMoved: false });
  });

  test(`${name} without its flag clears nothing, and is refused on a map page`, () => {
    const flagAt = name === "INSERT" ? 2 : name === "MULTI_INSERT" ? 0 : 7;
    const record = makeRecord(17, rmid, info, main.with(flagAt, 0xfe), [heapAt(0, ON_MAP_0)]);
    assert.equal(touched(record), []);
    assert.raises(() => replayOnMap(record, -1, 0, [ON_MAP_0]), CorruptionError);
  });
}

test("UPDATE clears bits of both its pages, on one map page or two", () => {
  const blocks = [heapAt(0, ON_MAP_1), heapAt(1, ON_MAP_0)];
  const both = makeRecord(15, RM_HEAP_ID, UPDATE, update(3), blocks);
  assert.equal(touched(both), ["1663/5/16384/2/1", "1663/5/16384/2/0"]);
  assert.equal(replayOnMap(both, -1, 1, [ON_MAP_1]).left, [0]);
  assert.equal(replayOnMap(both, -1, 0, [ON_MAP_0, ALSO_ON_MAP_0]).left, [0, 3]);
  assert.equal(touched(makeRecord(15, RM_HEAP_ID, UPDATE, update(1), blocks)), ["1663/5/16384/2/0"]);
  assert.equal(touched(makeRecord(15, RM_HEAP_ID, UPDATE, update(2), blocks)), ["1663/5/16384/2/1"]);

  const together = makeRecord(15, RM_HEAP_ID, UPDATE, update(3), [
    heapAt(0, ON_MAP_0),
    heapAt(1, ALSO_ON_MAP_0),
  ]);
  assert.equal(touched(together), ["1663/5/16384/2/0"]);
  assert.equal(replayOnMap(together, -1, 0, [ON_MAP_0, ALSO_ON_MAP_0]).left, [0, 0]);

  const samePage = makeRecord(15, RM_HEAP_ID, UPDATE, update(1), [heapAt(0, ON_MAP_0)]);
  assert.equal(replayOnMap(samePage, -1, 0, [ON_MAP_0]), { left: [0], lsnMoved: false });
});

test("UPDATE that names map pages clears them as blocks 2 and 3", () => {
  const heaps = [heapAt(0, ON_MAP_1), heapAt(1, ON_MAP_0)];
  const two = makeRecord(17, RM_HEAP_ID, UPDATE, update(3), [...heaps, mapAt(2, 1), mapAt(3, 0)]);
  assert.equal(touched(two), []);
  assert.equal(replayOnMap(two, 2, 1, [ON_MAP_1]), { left: [0], lsnMoved: true });
  assert.equal(replayOnMap(two, 3, 0, [ON_MAP_0]), { left: [0], lsnMoved: true });

  // One page for both blocks.
  const near = [heapAt(0, ON_MAP_0), heapAt(1, ALSO_ON_MAP_0)];
  const one = makeRecord(17, RM_HEAP_ID, UPDATE, update(3), [...near, mapAt(2, 0)]);
  assert.equal(replayOnMap(one, 2, 0, [ON_MAP_0, ALSO_ON_MAP_0]), { left: [0, 0], lsnMoved: true });
  assert.equal(replayOnMap(one, 2, 0, [ALSO_ON_MAP_0]), { left: [0], lsnMoved: true });

  // The new page's bits were clear already: only the old page's map page is named.
  const old = makeRecord(17, RM_HEAP_ID, UPDATE, update(3), [...heaps, mapAt(3, 0)]);
  assert.equal(touched(old), []);
  assert.equal(replayOnMap(old, 2, 0, [ON_MAP_0]), { left: [0], lsnMoved: true });
});

test("a map page that was never written stays so when bits are cleared", () => {
  const record = makeRecord(15, RM_HEAP_ID, DELETE, change(0x01), [heapAt(0, ON_MAP_0)]);
  const page = new Page();
  redoHeap(page, record, { blockIndex: -1, fork: VISIBILITYMAP_FORKNUM, block: 0 }, HINTS);
  assert.ok(page.isAllZero());
});

test("VISIBLE sets bits on a new map page, and moves the heap page's LSN only where hint bits are logged", () => {
  const main = [...u32(700), VISIBILITYMAP_VALID_BITS | 0x04];
  const record = makeRecord(17, RM_HEAP2_ID, VISIBLE, main, [mapAt(0, 1), heapAt(1, ON_MAP_1)]);
  const map = new Page();
  redoHeap2(map, record, { blockIndex: 0, fork: VISIBILITYMAP_FORKNUM, block: 1 }, NO_HINTS);
  assert.is(visibilityMapGet(map, ON_MAP_1), VISIBILITYMAP_VALID_BITS);
  assert.equal([map.lower, map.upper, map.special, map.lsn], [24, 8192, 8192, record.endLsn]);
  for (const [context, lsn] of [[HINTS, record.endLsn], [NO_HINTS, 0]] as const) {
    const heap = new Page();
    pageInit(heap, 0);
    redoHeap2(heap, record, { blockIndex: 1, fork: 0, block: ON_MAP_1 }, context);
    assert.equal([heap.flags, heap.lsn], [PD_ALL_VISIBLE, lsn]);
  }
  const wrong = makeRecord(17, RM_HEAP2_ID, VISIBLE, main, [mapAt(0, 0), heapAt(1, ON_MAP_1)]);
  assert.raises(
    () => redoHeap2(map, wrong, { blockIndex: 0, fork: VISIBILITYMAP_FORKNUM, block: 0 }, HINTS),
    CorruptionError,
  );
});

/** A page with one tuple, as INSERT+INIT leaves it. */
function insertedPage(block: number): Page {
  const record = makeRecord(17, RM_HEAP_ID, INSERT | INIT_PAGE, [...u16(1), 0], [{
    ...heapAt(0, block),
    data: TUPLE,
  }]);
  record.xid = 900;
  const page = new Page();
  page.u8.fill(0xff);
  redoHeap(page, record, { blockIndex: 0, fork: 0, block }, HINTS);
  return page;
}

test("INSERT+INIT lays the page out anew and numbers the tuple by block and offset", () => {
  const page = insertedPage(0x12345);
  assert.equal([page.lower, page.upper, page.special, page.flags], [28, 8192 - 32, 8192, 0]);
  const tuple = page.itemOffset(1);
  assert.equal([page.itemLength(1), getXmin(page, tuple), getXmax(page, tuple)], [28, 900, 0]);
  assert.equal([getCtidBlock(page, tuple), getCtidOffnum(page, tuple)], [0x12345, 1]);
  assert.equal([...page.u8.subarray(tuple + 22, tuple + 28)], [24, 0, 1, 2, 3, 4]);
});

test("CONFIRM makes the t_ctid of an image with a speculative token point at the tuple itself", () => {
  const page = insertedPage(7);
  setCtid(page, page.itemOffset(1), 4711, 0xfffe);
  redoHeap(page, makeRecord(17, RM_HEAP_ID, CONFIRM, u16(1), [heapAt(0, 7)]), HEAP_TARGET, HINTS);
  assert.equal([getCtidBlock(page, page.itemOffset(1)), getCtidOffnum(page, page.itemOffset(1))], [7, 1]);
});

test("DELETE, LOCK and UPDATE forget the combo command id of an image", () => {
  const records = [
    makeRecord(17, RM_HEAP_ID, DELETE, change(0), [heapAt(0, 7)]),
    makeRecord(17, RM_HEAP_ID, LOCK, change(0), [heapAt(0, 7)]),
    makeRecord(17, RM_HEAP_ID, UPDATE, update(0), [{ ...heapAt(0, 7), data: TUPLE }]),
  ];
  for (const record of records) {
    const page = insertedPage(7);
    const tuple = page.itemOffset(1);
    setCid(page, tuple, 5);
    setInfomask(page, tuple, getInfomask(page, tuple) | HEAP_COMBOCID);
    redoHeap(page, record, HEAP_TARGET, HINTS);
    assert.equal([page.u32[(tuple + 8) / 4], getInfomask(page, tuple) & HEAP_COMBOCID], [0, 0]);
  }
});

test("MULTI_INSERT of frozen tuples makes its page all-visible", () => {
  const main = [XLH_INSERT_ALL_FROZEN_SET, 0, ...u16(1)];
  const data = [...u16(5), ...u16(1), ...u16(0x0b00), 24, 0, 1, 2, 3, 4];
  const record = makeRecord(17, RM_HEAP2_ID, MULTI_INSERT | INIT_PAGE, main, [{ ...heapAt(0, 7), data }]);
  const page = new Page();
  redoHeap2(page, record, HEAP_TARGET, HINTS);
  assert.equal([page.flags, page.maxOffsetNumber(), page.itemLength(1)], [PD_ALL_VISIBLE, 1, 28]);
});

test("UPDATE refuses to borrow more of the old tuple than there is, or from another page", () => {
  const borrow = (prefix: number, suffix: number, blocks: SyntheticBlock[] = []) =>
    makeRecord(17, RM_HEAP_ID, UPDATE, update(0x60), [
      { ...heapAt(0, 7), data: [...u16(prefix), ...u16(suffix), ...TUPLE] },
      ...blocks,
    ]);
  const replay = (record: DecodedRecord) => redoHeap(insertedPage(7), record, HEAP_TARGET, HINTS);
  replay(borrow(4, 4));
  for (const record of [borrow(5, 0), borrow(0, 29), borrow(65535, 65535), borrow(1, 1, [heapAt(1, 8)])]) {
    assert.raises(() => replay(record), CorruptionError);
  }
});

test("heapVisibilityEffects() and redo on maps answer records of noise with CorruptionError alone", () => {
  const random = seededRandom("heap records");
  let answered = 0;
  for (let time = 0; time < 4000; time++) {
    const main = [...random.bytes(random.int(0, 16))];
    const blocks = [0, 1, 2, 3].filter(() => random.chance(0.6)).map((id) => ({
      id,
      block: random.pick([0, ON_MAP_0, ON_MAP_1, 0xffffffff, random.uint32()]),
      flags: random.pick([0, VISIBILITYMAP_FORKNUM]),
    }));
    const [rmid, redo] = random.pick([[RM_HEAP_ID, redoHeap], [RM_HEAP2_ID, redoHeap2]] as const);
    const record = makeRecord(random.pick([14, 15, 16, 17, 18]), rmid, random.int(0, 15) << 4, main, blocks);
    const target = {
      blockIndex: random.int(-1, blocks.length),
      fork: VISIBILITYMAP_FORKNUM,
      block: random.int(0, 2),
    };
    const page = new Page();
    pageInit(page, 0);
    for (const run of [() => touched(record), () => redo(page, record, target, HINTS)]) {
      try {
        run();
        answered++;
      } catch (error) {
        if (!(error instanceof CorruptionError || error instanceof UnsupportedError)) throw error;
      }
    }
  }
  assert.ok(answered > 1000, `${answered} answered`);
});

test.run();
