import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { redoXlog, XLOG_FPI, XLOG_FPI_FOR_HINT } from "../../../src/postgres/redo/xlog.ts";
import { RM_XLOG_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { makeRecord } from "./synthetic_record.ts";

/** Redo is called where no image applies. */
function replay(info: number, blockIndex = 0): Page {
  const page = new Page();
  page.u8.fill(0x5a);
  redoXlog(page, makeRecord(15, RM_XLOG_ID, info, [], [{ id: 0 }]), { blockIndex, fork: 0, block: 0 }, {
    hintBitsLogged: true,
  });
  return page;
}

const test = suite("redo/xlog");

test("redoXlog() leaves the page alone for a hint that was logged without an image", () => {
  assert.ok(replay(XLOG_FPI_FOR_HINT).u8.every((byte) => byte === 0x5a));
});

test("redoXlog() refuses a full-page image record without an image, and blocks that it does not have", () => {
  assert.raises(() => replay(XLOG_FPI), CorruptionError);
  assert.raises(() => replay(XLOG_FPI_FOR_HINT, 1), CorruptionError);
  assert.raises(() => replay(XLOG_FPI_FOR_HINT, -1), CorruptionError);
});

test("redoXlog() knows no other record that touches a page", () => {
  for (let info = 0; info < 0x100; info += 0x10) {
    if (info !== XLOG_FPI && info !== XLOG_FPI_FOR_HINT) assert.raises(() => replay(info), UnsupportedError);
  }
});

test.run();
