/** What verification has found, on the status endpoint and in the metrics. */
import type { Lsn } from "../../src/lsn.ts";
import { type VerifyDifference, VerifyReport } from "../../src/upkeep/verify_report.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { VarveMetrics } from "../../src/status/metrics.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { parsePrometheus, sampleOf, someFollowing } from "./status_support.ts";

const test = suite("status/verification");

function difference(lsn: number): VerifyDifference {
  return {
    lsn: lsn as Lsn,
    type: "Heap/INSERT",
    record: "a record",
    block: "1663/5/1 blk 7",
    message: "differs",
  };
}

test("snapshot() and metrics() show what a follower's verifier has found", async () => {
  const board = new StatusBoard({ clock: new ManualClock() });
  const metrics = new VarveMetrics(board);
  const report = new VerifyReport(0.5);
  const verifier = {
    report,
    passedBytes: 77,
    summary: (max?: number) => ({ ...report.summary(max), passedBytes: 77 }),
  };
  const { parts } = someFollowing();
  board.add(parts);
  assert.is((await board.snapshot()).timelines[0].verification, null);
  board.add({ ...parts, verifier });
  Object.assign(report.counts("Heap/INSERT"), { records: 30, pages: 20, positions: 9 });
  report.counts("Btree/VACUUM").positions = 4;
  for (let lsn = 8; lsn <= 160; lsn += 8) report.add(difference(lsn));
  report.advance(0 as Lsn, 160 as Lsn);
  const { verification } = (await board.snapshot()).timelines[0];
  assert.is(verification!.rate, 0.5);
  assert.is(verification!.positions, 13);
  assert.is(verification!.differences, 20);
  assert.is(verification!.passedBytes, 77);
  assert.is(verification!.firstDifferences.length, 10);
  assert.is(verification!.firstDifferences[0].lsn, "0/8");
  assert.is(verification!.types["Heap/INSERT"].pages, 20);
  const samples = parsePrometheus(await metrics.metrics());
  const inserts = { type: "Heap/INSERT", timeline: "main" };
  assert.is(sampleOf(samples, "varve_verify_pages_total", inserts), 20);
  assert.is(sampleOf(samples, "varve_verify_differences_total", inserts), 20);
  assert.is(sampleOf(samples, "varve_verify_positions_total", { type: "Btree/VACUUM" }), 4);
  assert.is(sampleOf(samples, "varve_verify_passed_bytes_total"), 77);
});

test.run();
