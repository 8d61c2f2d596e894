/**
 * Every opcode of every resource manager of every major: written by a real server, replayed, and judged by the check images
 * that PostgreSQL puts behind each record. Then samples of each, damaged in a thousand ways: redo refuses them or not, and
 * never touches a byte outside its page.
 *
 * @module
 */
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { replayMutations, type Sample } from "../postgres/redo/record_samples.ts";
import { SampleHarvest } from "../postgres/redo/sample_harvest.ts";
import { assert, suite } from "../support/harness.ts";
import { judgeWorkload } from "../support/judge_workload.ts";
import { OPCODE_SETTINGS, prepareEveryOpcode, runEveryOpcode } from "../support/opcode_workload.ts";
import { OpcodeTable, UNREACHABLE } from "../support/opcodes.ts";
import { POSTGRES_MAJORS, type PostgresMajor } from "../support/postgres.ts";
import { seededRandom } from "../support/random.ts";
import { readControlPoints } from "../support/wal_files.ts";

const test = suite("system/opcodes", { sanitize: false, timeoutMs: 300_000 });

/** Damaged versions of each kind of record and page. */
const MUTATIONS = 1000;
/** Pairs of an opcode and a page that it edits. */
const MIN_KINDS = 150;

const table = new OpcodeTable();
const samples = new Map<PostgresMajor, Sample[]>();

for (const major of POSTGRES_MAJORS) {
  test(`redoRecord() leaves the pages that PostgreSQL ${major} leaves, opcode by opcode`, async () => {
    let checkpointLsn = 0;
    const harvest = new SampleHarvest();
    const verdict = await judgeWorkload({
      major,
      settings: OPCODE_SETTINGS,
      prepare: prepareEveryOpcode,
      run: runEveryOpcode,
      beforeRedo: harvest.beforeRedo,
      onRecord: harvest.onRecord,
      inspect: (_, dataDir) => {
        checkpointLsn = readControlPoints(dataDir).checkpointLsn;
      },
    });
    samples.set(major, harvest.samples);
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

  test(`redo of every record type of PostgreSQL ${major} survives ${MUTATIONS} mutations of each`, () => {
    const ours = samples.get(major) ?? [];
    samples.delete(major);
    const kinds = new Set(ours.map((sample) => sample.kind));
    const random = seededRandom(`opcodes of ${major}`);
    const outcomes = replayMutations(random, profileOfMajor(major), ours, MUTATIONS);
    console.log(
      `PostgreSQL ${major}: ${ours.length} samples of ${kinds.size} kinds, mutated: ${outcomes.corruption} refused as ` +
        `corrupt, ${outcomes.unsupported} as unknown, ${outcomes.applied} applied`,
    );
    const mutated = outcomes.applied + outcomes.corruption + outcomes.unsupported;
    assert.is(mutated, kinds.size * MUTATIONS);
    assert.ok(kinds.size > MIN_KINDS, `${kinds.size} kinds`);
    assert.ok(outcomes.corruption > mutated / 10, "damage shows");
  });
}

test("every opcode was reached in every major, or is listed with the reason why it cannot be", () => {
  console.log(table.format());
  for (const major of POSTGRES_MAJORS) {
    assert.equal(table.unreached(major).sort(), [...UNREACHABLE.keys()].sort(), `PostgreSQL ${major}`);
  }
});

test.run();
