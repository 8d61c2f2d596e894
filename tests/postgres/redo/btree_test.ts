import { getU16, getU32 } from "../../../src/bytes/little_endian.ts";
import { Page } from "../../../src/postgres/page/page.ts";
import { redoRecord } from "../../../src/postgres/redo/registry.ts";
import { fullRecordTypeName } from "../../../src/postgres/wal/describe.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_BTREE_ID } from "../../../src/postgres/wal/rmgr.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { assert, suite } from "../../support/harness.ts";
import { judgeWorkload } from "../../support/judge_workload.ts";
import { POSTGRES_MAJORS, type PostgresMajor } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import type { Verdict } from "../../support/replay_oracle.ts";
import { readControlPoints } from "../../support/wal_files.ts";
import { runBtreeWorkload } from "./btree_workload.ts";
import { collectSamples, replayMutations, type Sample } from "./record_samples.ts";

/**
 * Every block reference of every btree record, by id, and the cases that redo tells apart. Nothing is left out: a small
 * server can write them all.
 */
const KINDS = [
  ...["INSERT_LEAF 0", "INSERT_UPPER 0", "INSERT_UPPER 1", "INSERT_META 0", "INSERT_META 1", "INSERT_META 2"],
  ...["INSERT_POST 0", "DEDUP 0", "VACUUM 0", "VACUUM 0 updates", "DELETE 0", "DELETE 0 updates"],
  ...["SPLIT_L 0 leaf", "SPLIT_L 0 upper", "SPLIT_L 0 leaf posting", "SPLIT_L 0 leaf new item last"],
  ...["SPLIT_L 1 leaf", "SPLIT_L 1 upper", "SPLIT_L 2 leaf", "SPLIT_L 3 upper"],
  ...["SPLIT_R 0 leaf", "SPLIT_R 0 upper", "SPLIT_R 0 leaf posting"],
  ...["SPLIT_R 1 leaf", "SPLIT_R 1 upper", "SPLIT_R 2 leaf", "SPLIT_R 3 upper"],
  ...["MARK_PAGE_HALFDEAD 0", "MARK_PAGE_HALFDEAD 1"],
  ...["UNLINK_PAGE 0", "UNLINK_PAGE 1", "UNLINK_PAGE 2", "UNLINK_PAGE 3"],
  ...["UNLINK_PAGE_META 0", "UNLINK_PAGE_META 2", "UNLINK_PAGE_META 3", "UNLINK_PAGE_META 4"],
  ...["NEWROOT 0 empty", "NEWROOT 2 empty", "NEWROOT 0", "NEWROOT 1", "NEWROOT 2"],
  ...["META_CLEANUP 0", "REUSE_PAGE"],
];

function kindOf(record: DecodedRecord, index: number): string {
  const name = fullRecordTypeName(record.profile, record.rmid, record.info).replace("Btree/", "");
  if (index < 0) return name;
  const { bytes, mainOffset } = record;
  const id = record.blockId[index];
  let variant = "";
  if (name.startsWith("SPLIT")) {
    variant = getU32(bytes, mainOffset) === 0 ? " leaf" : " upper";
    if (id === 0 && getU16(bytes, mainOffset + 8) !== 0) variant += " posting";
    else if (
      id === 0 && name === "SPLIT_L" && getU16(bytes, mainOffset + 4) === getU16(bytes, mainOffset + 6)
    ) {
      variant += " new item last";
    }
  } else if (name === "VACUUM") variant = getU16(bytes, mainOffset + 2) > 0 ? " updates" : "";
  else if (name === "DELETE") variant = getU16(bytes, mainOffset + 6) > 0 ? " updates" : "";
  else if (name === "NEWROOT") variant = getU32(bytes, mainOffset + 4) === 0 ? " empty" : "";
  return `${name} ${id}${variant}`;
}

interface Judged {
  verdict: Verdict;
  kinds: Map<string, number>;
  samples: Sample[];
}
const runs = new Map<PostgresMajor, Promise<Judged>>();

/** One run of the workload for all tests of a major. */
function judged(major: PostgresMajor): Promise<Judged> {
  let run = runs.get(major);
  if (run === undefined) runs.set(major, run = judge(major));
  return run;
}

async function judge(major: PostgresMajor): Promise<Judged> {
  let collected: { kinds: Map<string, number>; samples: Sample[] } | undefined;
  const verdict = await judgeWorkload({
    major,
    settings: { wal_consistency_checking: "btree" },
    run: async (cluster) => {
      const start = readControlPoints(cluster.dataDir).redoLsn;
      await runBtreeWorkload(cluster);
      await cluster.stop();
      collected = collectSamples(
        `${cluster.dataDir}/pg_wal`,
        start,
        profileOfMajor(major),
        RM_BTREE_ID,
        kindOf,
      );
    },
  });
  return { verdict, ...collected! };
}

const test = suite("redo/btree");

for (const major of POSTGRES_MAJORS) {
  test(`redoBtree() makes every page as PostgreSQL ${major} does`, async () => {
    const { verdict } = await judged(major);
    const failures = verdict.total("different", "Btree/") + verdict.total("errors", "Btree/") +
      verdict.total("unsupported", "Btree/");
    assert.is(failures, 0, verdict.report("Btree/"));
    assert.ok(verdict.total("compared", "Btree/") > 10_000);
  });

  test(`redoBtree() has met every kind of block reference of PostgreSQL ${major}`, async () => {
    const { kinds } = await judged(major);
    assert.equal(KINDS.filter((kind) => !kinds.has(kind)), []);
  });

  test(`redoBtree() stamps every page of PostgreSQL ${major} with the end of its record`, async () => {
    const { samples } = await judged(major);
    const record = new DecodedRecord(profileOfMajor(major));
    for (const { record: bytes, endLsn, blockIndex, before } of samples) {
      const page = Page.from(before);
      record.decode(bytes, 0, endLsn);
      redoRecord(page, record, { blockIndex, fork: 0, block: 0 }, { hintBitsLogged: true });
      assert.is(page.lsn, endLsn);
    }
  });

  test(`redoBtree() refuses damaged records and pages of PostgreSQL ${major} with typed errors`, async () => {
    const { samples } = await judged(major);
    const outcomes = replayMutations(
      seededRandom(`redo/btree ${major}`),
      profileOfMajor(major),
      samples,
      250,
    );
    assert.ok(outcomes.corruption + outcomes.unsupported + outcomes.applied >= 10_000);
    assert.ok(outcomes.corruption > 2000 && outcomes.unsupported > 0 && outcomes.applied > 1000);
  });
}

test.run();
