/** Values as people type them, and as they are shown. */
import {
  blockValue,
  durationValue,
  formatBytes,
  formatDuration,
  formatRate,
  listenValue,
  lsnOr,
  relationValue,
  sizeValue,
  storeValue,
} from "../../src/cli/values.ts";
import { hexDump } from "../../src/cli/page.ts";
import { readProfile } from "../../src/cli/credentials.ts";
import { RateMeter } from "../../src/cli/progress.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("cli/values");

test("sizeValue() reads units of both kinds and refuses the rest", () => {
  assert.equal(["256MiB", "64k", "1GB", "17", "1.5 GiB"].map(sizeValue), [
    268435456,
    65536,
    1e9,
    17,
    1610612736,
  ]);
  for (const bad of ["", "MiB", "-1", "0", "1XB", "1e9", "9999999999GiB"]) {
    assert.throws(() => sizeValue(bad));
  }
});

test("durationValue() reads sums of units and refuses the rest", () => {
  assert.equal(["10m", "1h30m", "500ms", "2d", "1.5s"].map(durationValue), [6e5, 54e5, 500, 1728e5, 1500]);
  for (const bad of ["", "10", "m", "1x", "0s", "-1s", "1h 30m x", "9999d"]) {
    assert.throws(() => durationValue(bad));
  }
});

test("relationValue() reads numbers and PostgreSQL's paths", () => {
  assert.equal(relationValue("1663/5/16384"), { spc: 1663, db: 5, rel: 16384 });
  assert.equal(relationValue("base/5/16384"), { spc: 1663, db: 5, rel: 16384 });
  assert.equal(relationValue("global/1260"), { spc: 1664, db: 0, rel: 1260 });
  assert.equal(relationValue("pg_tblspc/16400/PG_17_202406281/5/16384"), { spc: 16400, db: 5, rel: 16384 });
  for (
    const bad of [
      "",
      "16384",
      "5/16384",
      "base/16384",
      "global/5/1260",
      "a/b/c",
      "1/2/3/4",
      "1663/5/4294967296",
    ]
  ) {
    assert.throws(() => relationValue(bad), /no relation/);
  }
});

test("listenValue() stays on loopback unless told otherwise", () => {
  assert.equal(listenValue("9898"), { hostname: "127.0.0.1", port: 9898 });
  assert.equal(listenValue(":0"), { hostname: "127.0.0.1", port: 0 });
  assert.equal(listenValue("0.0.0.0:80"), { hostname: "0.0.0.0", port: 80 });
  assert.equal(listenValue("[::1]:9898"), { hostname: "::1", port: 9898 });
  for (const bad of ["", "host", "host:", "host:x", "1:2:3", "host:70000"]) {
    assert.throws(() => listenValue(bad));
  }
});

test("lsnOr(), blockValue() and storeValue() say what they expected", () => {
  assert.is(lsnOr("latest")("latest"), "latest");
  assert.is(lsnOr("latest")("1/0"), 2 ** 32);
  assert.throws(() => lsnOr("latest")("soon"), /neither latest nor an LSN/);
  assert.is(blockValue("0"), 0);
  for (const bad of ["-1", "x", "1.5", "4294967295"]) assert.throws(() => blockValue(bad), /no block number/);
  assert.throws(
    () => storeValue("s3://user:secret@bucket"),
    (error: Error) => !error.message.includes("secret"),
  );
});

test("formatBytes(), formatRate() and formatDuration() keep three digits", () => {
  assert.equal([0, 999, 1024, 10e6, 3e9, 5e15].map(formatBytes), [
    "0 B",
    "999 B",
    "1.00 KiB",
    "9.54 MiB",
    "2.79 GiB",
    "4547 TiB",
  ]);
  assert.equal([0, 12.34e6, 850e6].map(formatRate), ["0.00 MB/s", "12.3 MB/s", "850 MB/s"]);
  assert.equal([5, 1500, 59_400, 200_000, 7_500_000].map(formatDuration), [
    "5 ms",
    "1.5 s",
    "59 s",
    "3 min 20 s",
    "2 h 5 min",
  ]);
});

test("RateMeter measures the last few seconds only", () => {
  const meter = new RateMeter();
  meter.add(0, 0);
  assert.is(meter.bytesPerSecond, null);
  for (let at = 0; at <= 60_000; at += 200) meter.add(at, at < 50_000 ? 0 : (at - 50_000) * 10);
  assert.ok(Math.abs(meter.bytesPerSecond! - 10_000) < 1);
});

test("hexDump() shows bytes once and repetitions as a star", () => {
  const bytes = new Uint8Array(64);
  bytes.set(new TextEncoder().encode("varve"), 48);
  assert.equal(hexDump(bytes).split("\n"), [
    "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
    "*",
    "00000030  76 61 72 76 65 00 00 00  00 00 00 00 00 00 00 00  |varve...........|",
    "00000040",
    "",
  ]);
});

test("readProfile() takes one section of an AWS credentials file", () => {
  const file =
    "[default]\naws_access_key_id = A\n\n[other]\naws_access_key_id=B\naws_secret_access_key = s=1 \n";
  assert.equal([...readProfile(file, "other")], [["aws_access_key_id", "B"], [
    "aws_secret_access_key",
    "s=1",
  ]]);
  assert.is(readProfile(file, "none").size, 0);
});

test.run();
