import { CorruptionError } from "../../../src/errors.ts";
import { lsn } from "../../../src/lsn.ts";
import {
  parseTimelineHistory,
  switchPointOf,
  timelineAt,
  timelineHistoryFileName,
} from "../../../src/postgres/files/timeline_history.ts";
import { assert, suite } from "../../support/harness.ts";

const test = suite("postgres/files/timeline_history");

const TEXT =
  "# a comment\n1\t0/3000060\tno recovery target specified\n\n  3\t16/B374D848\tbefore 2026-01-01 \n";

test("parseTimelineHistory() reads ancestors, oldest first", () => {
  const history = parseTimelineHistory(TEXT, 10);
  assert.equal(history, {
    tli: 10,
    ancestors: [
      { tli: 1, switchPoint: lsn(0x3000060), reason: "no recovery target specified" },
      { tli: 3, switchPoint: lsn(0x16_b374_d848), reason: "before 2026-01-01" },
    ],
  });
  assert.equal(parseTimelineHistory("", 2), { tli: 2, ancestors: [] });
  assert.equal(parseTimelineHistory("1 0/10", 2).ancestors[0].reason, "");
});

test("switchPointOf() and timelineAt() answer from the history", () => {
  const history = parseTimelineHistory(TEXT, 10);
  assert.equal([1, 3, 10, 2].map((tli) => switchPointOf(history, tli)), [
    lsn(0x3000060),
    lsn(0x16_b374_d848),
    undefined,
    null,
  ]);
  assert.is(timelineAt(history, lsn(0x300005f)), 1);
  assert.is(timelineAt(history, lsn(0x3000060)), 3);
  assert.is(timelineAt(history, lsn(0x17_0000_0000)), 10);
  assert.is(timelineHistoryFileName(26), "0000001A.history");
});

test("parseTimelineHistory() refuses malformed and disordered lines, naming the file", () => {
  const wrong = [
    "x\t0/1\treason",
    "1\treason",
    "0\t0/1\treason",
    "1\t0/123456789\treason",
    "10\t0/1\treason",
    "3\t0/1\ta\n3\t0/2\tb",
    "3\t0/1\ta\n2\t0/2\tb",
    "1\t0/2\ta\n2\t0/1\tb",
    "99999999999\t0/1\ta",
  ];
  for (const text of wrong) {
    const error = assert.raises<CorruptionError>(() => parseTimelineHistory(text, 10), CorruptionError);
    assert.match(error.message, "0000000A.history");
  }
});

test.run();
