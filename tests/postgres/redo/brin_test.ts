import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import {
  XLOG_BRIN_CREATE_INDEX,
  XLOG_BRIN_DESUMMARIZE,
  XLOG_BRIN_INIT_PAGE,
  XLOG_BRIN_INSERT,
  XLOG_BRIN_REVMAP_EXTEND,
} from "../../../src/postgres/redo/brin.ts";
import { redoRecord } from "../../../src/postgres/redo/registry.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { fullRecordTypeName } from "../../../src/postgres/wal/describe.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_BRIN_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { POSTGRES_MAJORS } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import { runBrinWorkload } from "./brin_workload.ts";
import { judgedOnce } from "./judged_manager.ts";
import { replayMutations } from "./record_samples.ts";
import { makeRecord, u16, u32 } from "./synthetic_record.ts";

/** Every block reference of every BRIN record, by id. */
const KINDS = [
  ...["CREATE_INDEX 0", "INSERT 0", "INSERT 1", "INSERT+INIT 0", "INSERT+INIT 1"],
  ...["UPDATE 0", "UPDATE 1", "UPDATE 2", "UPDATE+INIT 0", "UPDATE+INIT 1", "UPDATE+INIT 2"],
  ...["SAMEPAGE_UPDATE 0", "REVMAP_EXTEND 0", "REVMAP_EXTEND 1", "DESUMMARIZE 0", "DESUMMARIZE 1"],
];

function kindOf(record: DecodedRecord, index: number): string {
  const name = fullRecordTypeName(record.profile, record.rmid, record.info).replace("BRIN/", "");
  return index < 0 ? name : `${name} ${record.blockId[index]}`;
}

const judged = judgedOnce({
  rmid: RM_BRIN_ID,
  checking: "brin",
  run: runBrinWorkload,
  kindOf,
  pageIds: [0xf091, 0xf093],
});
const test = suite("redo/brin");

for (const major of POSTGRES_MAJORS) {
  test(`redoBrin() makes every page as PostgreSQL ${major} does`, async () => {
    const { verdict } = await judged(major);
    const failures = verdict.total("different", "BRIN/") + verdict.total("errors", "BRIN/") +
      verdict.total("unsupported", "BRIN/");
    assert.is(failures, 0, verdict.report("BRIN/"));
    assert.ok(verdict.total("compared", "BRIN/") > 5000);
  });

  test(`redoBrin() leaves what the files of a stopped PostgreSQL ${major} hold`, async () => {
    const { stopped } = await judged(major);
    assert.equal(stopped.differences, []);
    assert.ok(stopped.compared > 40, `${stopped.compared} pages`);
  });

  test(`redoBrin() has met every kind of block reference of PostgreSQL ${major}`, async () => {
    const { kinds } = await judged(major);
    assert.equal(KINDS.filter((kind) => !kinds.has(kind)), []);
    assert.equal([...kinds.keys()].filter((kind) => !KINDS.includes(kind)), []);
  });

  test(`redoBrin() stamps every page of PostgreSQL ${major} with the end of its record`, async () => {
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

  test(`redoBrin() refuses damaged records and pages of PostgreSQL ${major} with typed errors`, async () => {
    const { samples } = await judged(major);
    const outcomes = replayMutations(seededRandom(`redo/brin ${major}`), profileOfMajor(major), samples, 400);
    assert.ok(outcomes.corruption + outcomes.unsupported + outcomes.applied >= 400 * KINDS.length);
    assert.ok(outcomes.corruption > 1000 && outcomes.unsupported > 0 && outcomes.applied > 1000);
  });
}

const END_LSN = 0x2000;

function redo(page: Page, record: DecodedRecord, id: number): void {
  redoRecord(page, record, { blockIndex: record.findBlock(id), fork: 0, block: 0 }, { hintBitsLogged: true });
}

function makeRevmap(): Page {
  const page = new Page();
  redo(
    page,
    makeRecord(17, RM_BRIN_ID, XLOG_BRIN_REVMAP_EXTEND, u32(1), [{ id: 0 }, { id: 1, block: 1 }]),
    1,
  );
  return page;
}

test("redoBrin() puts the last range of a revmap page just before the special space", () => {
  const page = makeRevmap();
  const main = [...u32(2 * 1359 + 1), ...u32(2), ...u16(7)];
  redo(
    page,
    makeRecord(17, RM_BRIN_ID, XLOG_BRIN_INSERT, main, [{ id: 0, block: 0x12345 }, { id: 1 }], END_LSN),
    1,
  );
  assert.equal([...page.u8.subarray(8178, 8184)], [1, 0, 0x45, 0x23, 7, 0]);
  assert.is(page.lsn, END_LSN);
  const lost = [...u32(2), ...u32(2 * (1360 + 1359)), ...u16(7)];
  redo(page, makeRecord(17, RM_BRIN_ID, XLOG_BRIN_DESUMMARIZE, lost, [{ id: 0 }, { id: 1 }], END_LSN), 0);
  assert.equal([...page.u8.subarray(8178, 8184)], [255, 255, 255, 255, 0, 0]);
});

test("redoBrin() refuses ranges of no pages, pages of another type, and flags without a meaning", () => {
  const blocks = [{ id: 0, data: [1, 2, 3, 4] }, { id: 1 }];
  const noPages = makeRecord(17, RM_BRIN_ID, XLOG_BRIN_INSERT, [...u32(5), ...u32(0), ...u16(1)], blocks);
  assert.raises(() => redo(makeRevmap(), noPages, 1), CorruptionError);
  const insert = makeRecord(17, RM_BRIN_ID, XLOG_BRIN_INSERT, [...u32(5), ...u32(1), ...u16(1)], blocks);
  assert.raises(() => redo(makeRevmap(), insert, 0), CorruptionError);
  const flagged = XLOG_BRIN_CREATE_INDEX | XLOG_BRIN_INIT_PAGE;
  const create = makeRecord(17, RM_BRIN_ID, flagged, [...u32(128), ...u16(1)], [{ id: 0 }]);
  assert.raises(() => redo(new Page(), create, 0), UnsupportedError);
});

test.run();
