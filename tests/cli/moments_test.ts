/** Moments as people type them. */
import { momentValue } from "../../src/cli/moments.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("cli/moments");

test("momentValue() reads LSNs, times with their zone, and latest", () => {
  assert.equal(momentValue("1/2A"), { lsn: 0x1_0000_002a });
  assert.is(momentValue("latest"), "latest");
  const noon = Date.UTC(2025, 5, 1, 12) * 1000;
  for (
    const text of [
      "2025-06-01T12:00:00Z",
      "2025-06-01 14:00:00+02",
      "2025-06-01 06:30-0530",
      "2025-06-01t12:00:00.0000009z",
    ]
  ) assert.equal(momentValue(text), { unixMicros: noon }, text);
  assert.equal(momentValue("2025-06-01 12:00:00.123456+00:00"), { unixMicros: noon + 123_456 });
  assert.equal(momentValue("2025-06-01 12:00:00.5Z"), { unixMicros: noon + 500_000 });
});

test("momentValue() refuses what it cannot tell for certain", () => {
  for (
    const text of ["", "now", "1/2/3", "12:00", "2025-06-01", "2025-13-01T12:00:00Z", "2025-06-01T25:00:00Z"]
  ) {
    assert.throws(() => momentValue(text), /is neither an LSN/, text);
  }
  assert.throws(() => momentValue("2025-06-01 12:00:00"), /needs its zone/);
});

test.run();
