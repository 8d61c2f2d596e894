/**
 * Every opcode of every resource manager of every major: written by a real server, replayed, and judged by the check images
 * that PostgreSQL puts behind each record.
 *
 * @module
 */
import { assert, suite } from "../support/harness.ts";
import { judgeWorkload } from "../support/judge_workload.ts";
import { OPCODE_SETTINGS, runEveryOpcode } from "../support/opcode_workload.ts";
import { OpcodeTable, UNREACHABLE } from "../support/opcodes.ts";
import { POSTGRES_MAJORS } from "../support/postgres.ts";
import { readControlPoints } from "../support/wal_files.ts";

const test = suite("system/opcodes", { sanitize: false, timeoutMs: 300_000 });

const table = new OpcodeTable();

for (const major of POSTGRES_MAJORS) {
  test(`redoRecord() leaves the pages that PostgreSQL ${major} leaves, opcode by opcode`, async () => {
    let checkpointLsn = 0;
    const verdict = await judgeWorkload({
      major,
      settings: OPCODE_SETTINGS,
      run: runEveryOpcode,
      inspect: (_, dataDir) => {
        checkpointLsn = readControlPoints(dataDir).checkpointLsn;
      },
    });
    for (const [name, { records }] of verdict.types) table.add(major, name, records);
    console.log(
      `PostgreSQL ${major}: ${verdict.records} records, ${verdict.total("replayed")} replayed, ` +
        `${verdict.total("compared")} compared, ${verdict.total("different")} differ`,
    );
    assert.ok(verdict.endLsn > checkpointLsn, "WAL was read to the shutdown checkpoint");
    assert.is(verdict.total("different"), 0, verdict.report());
    assert.is(verdict.total("errors"), 0, verdict.report());
    assert.is(verdict.total("unsupported"), 0, verdict.report());
    const missed = table.unreached(major).filter((name) => !UNREACHABLE.has(name));
    assert.equal(missed, [], `opcodes of PostgreSQL ${major} that no workload reached`);
  });
}

test("every opcode was reached in every major, or is listed with the reason why it cannot be", () => {
  console.log(table.format());
  for (const major of POSTGRES_MAJORS) {
    assert.equal(table.unreached(major).sort(), [...UNREACHABLE.keys()].sort(), `PostgreSQL ${major}`);
  }
});

test.run();
