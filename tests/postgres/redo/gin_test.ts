import { CorruptionError } from "../../../src/errors.ts";
import { getI32, getU16, getU32, setU16 } from "../../../src/bytes/little_endian.ts";
import { maskPage } from "../../../src/postgres/page/masks.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { setTidBlock } from "../../../src/postgres/page/index_tuple.ts";
import {
  GIN_INSERT_ISDATA,
  GIN_INSERT_ISLEAF,
  GIN_SPLIT_ROOT,
  SPLIT_FLAGS,
  XLOG_GIN_INSERT,
  XLOG_GIN_SPLIT,
  XLOG_GIN_UPDATE_META_PAGE,
  XLOG_GIN_VACUUM_PAGE,
} from "../../../src/postgres/redo/gin/gin.ts";
import {
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DATA_START,
  GIN_DELETED,
  GIN_FLAGS,
  GIN_INCOMPLETE_SPLIT,
  GIN_LEAF,
  GIN_MAXOFF,
  initGinPage,
} from "../../../src/postgres/redo/gin/page_layout.ts";
import { GIN_SEGMENT_ADDITEMS, GIN_SEGMENT_INSERT } from "../../../src/postgres/redo/gin/recompress.ts";
import { redoRecord } from "../../../src/postgres/redo/registry.ts";
import { fullRecordTypeName } from "../../../src/postgres/wal/describe.ts";
import { type DecodedRecord, XLR_RMGR_INFO_MASK } from "../../../src/postgres/wal/record.ts";
import { RM_GIN_ID } from "../../../src/postgres/wal/rmgr.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { assert, suite } from "../../support/harness.ts";
import { judgeWorkload } from "../../support/judge_workload.ts";
import { POSTGRES_MAJORS, type PostgresMajor } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import type { Verdict } from "../../support/replay_oracle.ts";
import { readControlPoints } from "../../support/wal_files.ts";
import { runGinWorkload } from "./gin_workload.ts";
import { type IndexPage, indexPages, indexPaths } from "./index_files.ts";
import { collectSamples, replayMutations, type Sample } from "./record_samples.ts";
import { makeRecord, u16, u32 } from "./synthetic_record.ts";

/**
 * Every block reference of every GIN record, by id, and the cases that redo tells apart. Left out are the splits of
 * upper pages of posting trees ("SPLIT 0..3 data upper"), tested with records of our own: the first comes when a single
 * key has some 800 leaves of TIDs, six million rows of a table.
 */
const KINDS = [
  ...["CREATE_PTREE 0", "INSERT 0 entry leaf", "INSERT 0 entry leaf replace", "INSERT 0 entry upper"],
  ...["INSERT 1 entry upper", "INSERT 0 data upper", "INSERT 1 data upper"],
  ...["INSERT 0 data leaf add", "INSERT 0 data leaf insert", "INSERT 0 data leaf add+insert+replace"],
  ...["SPLIT 0 entry leaf", "SPLIT 1 entry leaf", "SPLIT 0 entry upper", "SPLIT 1 entry upper"],
  ...["SPLIT 0 entry leaf root", "SPLIT 1 entry leaf root", "SPLIT 2 entry leaf root", "SPLIT 3 entry upper"],
  ...["SPLIT 0 entry upper root", "SPLIT 1 entry upper root", "SPLIT 2 entry upper root"],
  ...["SPLIT 3 entry upper root", "SPLIT 0 data leaf", "SPLIT 1 data leaf"],
  ...["SPLIT 0 data leaf root", "SPLIT 1 data leaf root", "SPLIT 2 data leaf root"],
  ...["VACUUM_PAGE 0", "VACUUM_DATA_LEAF_PAGE 0 delete", "VACUUM_DATA_LEAF_PAGE 0 replace"],
  ...["VACUUM_DATA_LEAF_PAGE 0 delete+replace", "DELETE_PAGE 0", "DELETE_PAGE 1", "DELETE_PAGE 2"],
  ...["UPDATE_META_PAGE 0", "UPDATE_META_PAGE 0 tuples", "UPDATE_META_PAGE 1 tuples"],
  ...["UPDATE_META_PAGE 0 link", "UPDATE_META_PAGE 1 link", "INSERT_LISTPAGE 0", "INSERT_LISTPAGE 0 tail"],
  ...["DELETE_LISTPAGE 0", "DELETE_LISTPAGE 1", "DELETE_LISTPAGE 2..16"],
];

function kindOf(record: DecodedRecord, index: number): string {
  const name = fullRecordTypeName(record.profile, record.rmid, record.info).replace("Gin/", "");
  if (index < 0) return name;
  const { bytes, mainOffset } = record;
  const id = record.blockId[index];
  const kind = `${name} ${id}`;
  const opcode = record.info & XLR_RMGR_INFO_MASK;
  if (opcode === XLOG_GIN_INSERT) return `${kind} ${insertVariant(record, index)}`;
  if (opcode === XLOG_GIN_SPLIT) return `${kind} ${treeName(getU16(bytes, mainOffset + SPLIT_FLAGS))}`;
  if (name === "VACUUM_DATA_LEAF_PAGE") return `${kind} ${actionNames(record, index)}`;
  if (name === "INSERT_LISTPAGE") return kind + (getU32(bytes, mainOffset) === 0xffffffff ? " tail" : "");
  if (name === "DELETE_LISTPAGE") return id > 1 ? `${name} 2..16` : kind;
  if (opcode !== XLOG_GIN_UPDATE_META_PAGE) return kind;
  if (getI32(bytes, mainOffset + 80) > 0) return `${kind} tuples`;
  return kind + (getU32(bytes, mainOffset + 72) !== 0xffffffff ? " link" : "");
}

function treeName(flags: number): string {
  const tree = (flags & GIN_INSERT_ISDATA) !== 0 ? "data" : "entry";
  const level = (flags & GIN_INSERT_ISLEAF) !== 0 ? "leaf" : "upper";
  return `${tree} ${level}${(flags & GIN_SPLIT_ROOT) !== 0 ? " root" : ""}`;
}

function insertVariant(record: DecodedRecord, index: number): string {
  const name = treeName(getU16(record.bytes, record.mainOffset));
  if (name === "data leaf") return `${name} ${actionNames(record, index)}`;
  return name === "entry leaf" && record.bytes[record.dataOffset[index] + 2] !== 0 ? `${name} replace` : name;
}

/** Which actions on segments the data has. */
function actionNames(record: DecodedRecord, index: number): string {
  const { bytes } = record;
  const names = new Set<string>();
  let at = record.dataOffset[index] + 2;
  for (let left = getU16(bytes, at - 2); left > 0; left--) {
    const name = ["?", "delete", "insert", "replace", "add"][bytes[at + 1]];
    names.add(name);
    at += 2;
    if (name === "add") at += 2 + 6 * getU16(bytes, at);
    else if (name !== "delete") at += 8 + ((getU16(bytes, at + 6) + 1) & ~1);
  }
  return [...names].sort().join("+");
}

interface Judged {
  verdict: Verdict;
  kinds: Map<string, number>;
  samples: Sample[];
  pages: IndexPage[];
}
const runs = new Map<PostgresMajor, Promise<Judged>>();

/** One run of the workload for all tests of a major. */
function judged(major: PostgresMajor): Promise<Judged> {
  let run = runs.get(major);
  if (run === undefined) runs.set(major, run = judge(major));
  return run;
}

async function judge(major: PostgresMajor): Promise<Judged> {
  let collected: { kinds: Map<string, number>; samples: Sample[] } | undefined;
  let paths = new Map<string, string>();
  let pages: IndexPage[] = [];
  const verdict = await judgeWorkload({
    major,
    settings: { wal_consistency_checking: "gin" },
    run: async (cluster) => {
      const start = readControlPoints(cluster.dataDir).redoLsn;
      await runGinWorkload(cluster);
      paths = await indexPaths(cluster, "gin");
      await cluster.stop();
      const walDir = `${cluster.dataDir}/pg_wal`;
      collected = collectSamples(walDir, start, profileOfMajor(major), RM_GIN_ID, kindOf);
    },
    inspect: (verdict, dataDir) => {
      pages = [...indexPages(verdict, dataDir, paths)];
    },
  });
  return { verdict, ...collected!, pages };
}

const test = suite("redo/gin");

for (const major of POSTGRES_MAJORS) {
  test(`redoGin() makes every page as PostgreSQL ${major} does`, async () => {
    const { verdict } = await judged(major);
    const failures = verdict.total("different", "Gin/") + verdict.total("errors", "Gin/") +
      verdict.total("unsupported", "Gin/");
    assert.is(failures, 0, verdict.report("Gin/"));
    assert.ok(verdict.total("compared", "Gin/") > 10_000);
  });

  test(`redoGin() has met every kind of block reference of PostgreSQL ${major}`, async () => {
    const { kinds } = await judged(major);
    assert.equal(KINDS.filter((kind) => !kinds.has(kind)), []);
  });

  test(`redoGin() leaves LSNs and deletion xids as the files of PostgreSQL ${major} have them`, async () => {
    const { pages } = await judged(major);
    let deleted = 0;
    for (const { index, block, replayed, file } of pages) {
      const where = `${index} block ${block}`;
      assert.is(replayed.lsn, file.lsn, where);
      assert.is(replayed.pruneXid, file.pruneXid, where);
      if ((file.u16[GIN_FLAGS] & GIN_DELETED) !== 0 && file.pruneXid !== 0) deleted++;
      const [ours, theirs] = [Page.from(replayed.u8), Page.from(file.u8)];
      maskPage(ours, RM_GIN_ID, 0, block);
      maskPage(theirs, RM_GIN_ID, 0, block);
      assert.ok(ours.u32.every((word, at) => word === theirs.u32[at]), where);
    }
    assert.ok(pages.length > 100 && deleted > 0);
  });

  test(`redoGin() refuses damaged records and pages of PostgreSQL ${major} with typed errors`, async () => {
    const { samples } = await judged(major);
    const outcomes = replayMutations(seededRandom(`redo/gin ${major}`), profileOfMajor(major), samples, 400);
    assert.ok(outcomes.corruption + outcomes.unsupported + outcomes.applied >= 9000);
    assert.ok(outcomes.corruption > 1500 && outcomes.unsupported > 0 && outcomes.applied > 1000);
  });
}

const END_LSN = 0x2000;

function redo(page: Page, record: DecodedRecord, id: number): void {
  redoRecord(page, record, { blockIndex: record.findBlock(id), fork: 0, block: 0 }, { hintBitsLogged: true });
}

/** A TID's six bytes; TIDs as numbers are block * 2048 + offset. */
function tidBytes(tid: number): number[] {
  const bytes = new Uint8Array(6);
  setTidBlock(bytes, 0, Math.floor(tid / 2048));
  setU16(bytes, 4, tid % 2048);
  return [...bytes];
}

/** A posting list, packed the slow way. */
function packSlowly(tids: readonly number[]): number[] {
  const bytes: number[] = [];
  for (let index = 1; index < tids.length; index++) {
    let delta = BigInt(tids[index]) - BigInt(tids[index - 1]);
    for (; delta > 0x7fn; delta >>= 7n) bytes.push(Number(0x80n | (delta & 0x7fn)));
    bytes.push(Number(delta));
  }
  return [...tidBytes(tids[0]), ...u16(bytes.length), ...bytes, ...(bytes.length % 2 === 1 ? [0] : [])];
}

function dataLeaf(segments: readonly number[][]): Page {
  const page = new Page();
  initGinPage(page, GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  const bytes = segments.flat();
  page.u8.set(bytes, GIN_DATA_START);
  page.lower = GIN_DATA_START + bytes.length;
  return page;
}

function leafRecord(actions: readonly number[][]): DecodedRecord {
  const main = u16(GIN_INSERT_ISDATA | GIN_INSERT_ISLEAF);
  const data = [...u16(actions.length), ...actions.flat()];
  return makeRecord(17, RM_GIN_ID, XLOG_GIN_INSERT, main, [{ id: 0, block: 5, data }], END_LSN);
}

function addItems(segno: number, tids: readonly number[]): number[] {
  return [segno, GIN_SEGMENT_ADDITEMS, ...u16(tids.length), ...tids.flatMap(tidBytes)];
}

function listOf(page: Page): number[] {
  return [...page.u8.subarray(GIN_DATA_START, page.lower)];
}

test("redoGin() adds TIDs to posting lists with differences of any size", () => {
  const random = seededRandom("redo/gin lists");
  let longest = 0;
  for (let round = 0; round < 2000; round++) {
    const bits = random.int(8, 43);
    const drawn = new Set<number>();
    for (let count = random.int(2, 60); count > 0; count--) {
      const tid = Math.floor((random.uint32() * 2048 + random.int(0, 2047)) / 2 ** (43 - bits));
      if (tid % 2048 !== 0) drawn.add(tid);
    }
    const all = [...drawn].sort((a, b) => a - b);
    if (all.length < 2) continue;
    const added = all.filter(() => random.chance(0.3));
    const kept = all.filter((tid) => !added.includes(tid));
    if (kept.length === 0 || added.length === 0) continue;
    const other = packSlowly([1, 5000, 2 ** 40]);
    const page = dataLeaf([other, packSlowly(kept), other]);
    redo(page, leafRecord([addItems(1, added)]), 0);
    assert.equal(listOf(page), [...other, ...packSlowly(all), ...other]);
    longest = Math.max(longest, ...all.map((tid, at) => at > 0 ? tid - all[at - 1] : 0));
  }
  assert.ok(longest > 2 ** 41);
});

test("redoGin() refuses TIDs that are in the list already, are out of order or make it too long", () => {
  const list = packSlowly([10, 20, 3000]);
  for (const tids of [[20], [10], [3000], [30, 15], [5, 10], [2048], [4, 4]]) {
    assert.raises(() => redo(dataLeaf([list]), leafRecord([addItems(0, tids)]), 0), CorruptionError);
  }
  const full = packSlowly(Array.from({ length: 8100 }, (_, index) => index * 4 + 1));
  const page = dataLeaf([full]);
  const many = Array.from({ length: 60 }, (_, index) => index * 4 + 2);
  assert.raises(() => redo(page, leafRecord([addItems(0, many)]), 0), CorruptionError);
});

test("redoGin() compresses a leaf written before 9.4", () => {
  const tids = Array.from({ length: 500 }, (_, index) => index * 7000 + 1);
  const page = dataLeaf([tids.flatMap(tidBytes)]);
  page.u16[GIN_FLAGS] &= ~GIN_COMPRESSED;
  page.u16[GIN_MAXOFF] = tids.length;
  page.lower = 24;
  const segment = packSlowly([4_000_001, 4_000_003]);
  redo(page, leafRecord([addItems(0, [2]), [1, GIN_SEGMENT_INSERT, ...segment]]), 0);
  assert.equal(listOf(page), [...packSlowly([1, 2, ...tids.slice(1)]), ...segment]);
  assert.is(page.u16[GIN_FLAGS], GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  assert.is(page.u16[GIN_MAXOFF], 0);

  const empty = dataLeaf([]);
  empty.u16[GIN_FLAGS] &= ~GIN_COMPRESSED;
  redo(empty, leafRecord([[0, GIN_SEGMENT_INSERT, ...segment]]), 0);
  assert.equal(listOf(empty), segment);
});

test("redoGin() ends a split of an upper page of a posting tree on the left child", () => {
  const main = [...new Uint8Array(SPLIT_FLAGS), ...u16(GIN_INSERT_ISDATA), ...u16(0)];
  const blocks = [0, 1, 3].map((id) => ({ id, block: id + 4 }));
  const record = makeRecord(17, RM_GIN_ID, XLOG_GIN_SPLIT, main, blocks, END_LSN);
  const page = dataLeaf([packSlowly([1, 2])]);
  page.u16[GIN_FLAGS] |= GIN_INCOMPLETE_SPLIT;
  redo(page, record, 3);
  assert.is(page.u16[GIN_FLAGS], GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  assert.is(page.lsn, END_LSN);
  assert.raises(() => redo(page, record, 0), CorruptionError);
  assert.raises(() => redo(page, record, 1), CorruptionError);
});

test("redoGin() refuses a vacuumed entry page without its image", () => {
  const record = makeRecord(17, RM_GIN_ID, XLOG_GIN_VACUUM_PAGE, [], [{ id: 0, data: u32(0) }]);
  assert.raises(() => redo(dataLeaf([]), record, 0), CorruptionError);
});

test.run();
