import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { redoSequence, SEQ_MAGIC } from "../../../src/postgres/redo/sequence.ts";
import type { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_SEQ_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { makeRecord, u32 } from "./synthetic_record.ts";

const RELATION = [...u32(1663), ...u32(5), ...u32(16384)];
const TUPLE = Array.from({ length: 41 }, (_, index) => index);
const TARGET = { blockIndex: 0, fork: 0, block: 0 };

function replay(record: DecodedRecord, page = new Page()): Page {
  redoSequence(page, record, TARGET, { hintBitsLogged: true });
  return page;
}

const test = suite("redo/sequence");

test("redoSequence() lays the page out anew with the record's tuple, whatever was there", () => {
  const record = makeRecord(16, RM_SEQ_ID, 0x00, [...RELATION, ...TUPLE], [{ id: 0 }]);
  const page = new Page();
  page.u8.fill(0xff);
  replay(record, page);
  assert.equal([page.lower, page.upper, page.special, page.lsn], [28, 8192 - 8 - 48, 8184, record.endLsn]);
  assert.equal([page.itemOffset(1), page.itemLength(1)], [page.upper, 41]);
  assert.equal([...page.u8.subarray(page.upper, page.upper + 41)], TUPLE);
  assert.equal([page.u32[8184 / 4], page.u32[8188 / 4]], [SEQ_MAGIC, 0]);
});

test("redoSequence() refuses records without a tuple, with a tuple too large, or without their page", () => {
  const blocks = [{ id: 0 }];
  assert.raises(() => replay(makeRecord(16, RM_SEQ_ID, 0x00, RELATION, blocks)), CorruptionError);
  const large = [...RELATION, ...new Array<number>(9000).fill(1)];
  assert.raises(() => replay(makeRecord(16, RM_SEQ_ID, 0x00, large, blocks)), CorruptionError);
  assert.raises(() => replay(makeRecord(16, RM_SEQ_ID, 0x00, [...RELATION, ...TUPLE], [])), CorruptionError);
  assert.raises(
    () => replay(makeRecord(16, RM_SEQ_ID, 0x10, [...RELATION, ...TUPLE], blocks)),
    UnsupportedError,
  );
});

test.run();
