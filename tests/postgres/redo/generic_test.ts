import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { pageInit } from "../../../src/postgres/redo/page_edit.ts";
import { redoRecord } from "../../../src/postgres/redo/registry.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_GENERIC_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { POSTGRES_MAJORS } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import { runGenericWorkload } from "./generic_workload.ts";
import { judgedOnce } from "./judged_manager.ts";
import { replayMutations } from "./record_samples.ts";
import { makeRecord, u16 } from "./synthetic_record.ts";

/** What bloom writes: deltas for one page, deltas beside an image of another page, and images. */
const KINDS = ["1 page, delta", "2 pages, delta", "1 page, image", "2 pages, image"];

function kindOf(record: DecodedRecord, index: number): string {
  const pages = record.blockCount === 1 ? "1 page" : `${record.blockCount} pages`;
  return `${pages}, ${index >= 0 && record.imageApplies(index) ? "image" : "delta"}`;
}

const judged = judgedOnce({
  rmid: RM_GENERIC_ID,
  checking: "generic",
  run: runGenericWorkload,
  kindOf,
  pageIds: [0xff83, 0xff83],
});
const test = suite("redo/generic");

for (const major of POSTGRES_MAJORS) {
  test(`redoGeneric() makes every page as PostgreSQL ${major} does`, async () => {
    const { verdict } = await judged(major);
    const failures = verdict.total("different", "Generic/") + verdict.total("errors", "Generic/") +
      verdict.total("unsupported", "Generic/");
    assert.is(failures, 0, verdict.report("Generic/"));
    assert.ok(verdict.total("compared", "Generic/") > 5000);
  });

  test(`redoGeneric() leaves what the files of a stopped PostgreSQL ${major} hold`, async () => {
    const { stopped } = await judged(major);
    assert.equal(stopped.differences, []);
    assert.ok(stopped.compared > 200, `${stopped.compared} pages`);
  });

  test(`redoGeneric() has met every kind of page of PostgreSQL ${major}`, async () => {
    const { kinds } = await judged(major);
    assert.equal(KINDS.filter((kind) => !kinds.has(kind)), []);
    assert.equal([...kinds.keys()].filter((kind) => !KINDS.includes(kind)), []);
  });

  test(`redoGeneric() stamps every page of PostgreSQL ${major} with the end of its record`, async () => {
    const { samples } = await judged(major);
    const record = new DecodedRecord(profileOfMajor(major));
    assert.ok(samples.length > 10);
    for (const { record: bytes, endLsn, blockIndex, before } of samples) {
      const page = Page.from(before);
      record.decode(bytes, 0, endLsn);
      redoRecord(page, record, { blockIndex, fork: 0, block: 0 }, { hintBitsLogged: true });
      assert.is(page.lsn, endLsn);
    }
  });

  test(`redoGeneric() refuses damaged records and pages of PostgreSQL ${major} with typed errors`, async () => {
    const { samples } = await judged(major);
    const random = seededRandom(`redo/generic ${major}`);
    const outcomes = replayMutations(random, profileOfMajor(major), samples, 2000);
    assert.ok(outcomes.corruption + outcomes.unsupported + outcomes.applied >= 4000);
    assert.ok(outcomes.corruption > 500 && outcomes.unsupported > 0 && outcomes.applied > 500);
  });
}

const END_LSN = 0x2000;

function redo(page: Page, data: number[], info = 0): void {
  const record = makeRecord(17, RM_GENERIC_ID, info, [], [{ id: 0, data }], END_LSN);
  redoRecord(page, record, { blockIndex: 0, fork: 0, block: 0 }, { hintBitsLogged: true });
}

function makePage(): Page {
  const page = new Page();
  pageInit(page, 8);
  page.u8.fill(0xee, 24, 8184);
  return page;
}

test("redoGeneric() applies deltas in order and leaves zeros between lower and upper", () => {
  const page = makePage();
  const lower = [...u16(12), ...u16(4), ...u16(32), ...u16(8176)];
  redo(page, [...lower, ...u16(8190), ...u16(2), 1, 2, ...u16(8191), ...u16(1), 3, ...u16(8192), ...u16(0)]);
  assert.equal([...page.u8.subarray(24, 32)], new Array(8).fill(0xee));
  assert.ok(page.u8.subarray(32, 8176).every((byte) => byte === 0));
  assert.equal([...page.u8.subarray(8176, 8184)], new Array(8).fill(0xee));
  assert.equal([...page.u8.subarray(8190)], [1, 3]);
  assert.is(page.lsn, END_LSN);
});

test("redoGeneric() refuses deltas that leave the page or the record, and pages turned inside out", () => {
  for (
    const data of [
      [...u16(8191), ...u16(2), 1, 2],
      [...u16(100), ...u16(2), 1],
      [...u16(100), ...u16(1), 1, 0],
      [...u16(12), ...u16(2), ...u16(8186)],
      [...u16(14), ...u16(2), ...u16(8200)],
    ]
  ) {
    assert.raises(() => redo(makePage(), data), CorruptionError);
  }
  assert.raises(() => redo(makePage(), [...u16(100), ...u16(1), 1], 0x10), UnsupportedError);
});

test.run();
