import { managerOfPage, maskPage } from "../../../src/postgres/page/masks.ts";
import { BLCKSZ, Page, PD_ALL_VISIBLE } from "../../../src/postgres/page/page.ts";
import { VISIBILITYMAP_FORKNUM } from "../../../src/postgres/page/visibility_map.ts";
import type { RedoTarget } from "../../../src/postgres/redo/registry.ts";
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import { fullRecordTypeName } from "../../../src/postgres/wal/describe.ts";
import type { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_HEAP2_ID, RM_HEAP_ID, RM_SEQ_ID, RM_SMGR_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { judgeWorkload } from "../../support/judge_workload.ts";
import { POSTGRES_MAJORS, type PostgresMajor } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import type { Verdict } from "../../support/replay_oracle.ts";
import { runHeapWorkload } from "./heap_workload.ts";
import { replayMutations, type Sample } from "./record_samples.ts";

/**
 * Every opcode of heap and heap2, and the cases that redo tells apart: `map` is a visibility map page whose bits the
 * record clears. Out of reach: LOCK_UPDATED on an all-frozen page (the version it locks is new, so its page is not) and
 * t_xvac (left by releases before 9.0).
 */
const KINDS = [
  ...[
    "INSERT 0",
    "INSERT map",
    "INSERT+INIT 0",
    "DELETE 0",
    "DELETE map",
    "DELETE 0 super",
    "DELETE 0 moved",
  ],
  ...[
    "UPDATE 0 same page",
    "UPDATE 0 same page prefix",
    "UPDATE 0 same page suffix",
    "UPDATE 0 same page prefix suffix",
  ],
  ...["UPDATE 0", "UPDATE 1", "UPDATE map", "UPDATE+INIT 0", "UPDATE+INIT 1"],
  ...["HOT_UPDATE 0 same page", "HOT_UPDATE 0 same page prefix", "HOT_UPDATE 0 same page suffix"],
  ...["HOT_UPDATE 0 same page prefix suffix", "HOT_UPDATE map"],
  ...["HEAP_CONFIRM 0", "LOCK 0", "LOCK map", "INPLACE 0", "TRUNCATE"],
  ...[
    "VISIBLE 0",
    "VISIBLE 1",
    "MULTI_INSERT 0",
    "MULTI_INSERT map",
    "MULTI_INSERT+INIT 0",
    "LOCK_UPDATED 0",
  ],
  ...["NEW_CID", "REWRITE"],
];
const KINDS_OF_14_TO_16 = ["PRUNE 0", "VACUUM 0", "FREEZE_PAGE 0"];
const KINDS_SINCE_17 = [
  ...[
    "PRUNE_ON_ACCESS 0 redirects dead unused",
    "PRUNE_VACUUM_SCAN 0 plans",
    "PRUNE_VACUUM_SCAN 0 plans redirects dead unused",
  ],
  ...["PRUNE_VACUUM_SCAN 0 unused", "PRUNE_VACUUM_CLEANUP 0 unused without cleanup lock"],
];

/** The flags of 17's prune record that decide what follows. */
const PRUNE_PARTS = ["plans", "redirects", "dead", "unused"];

function kindOf(record: DecodedRecord, target: RedoTarget | undefined): string {
  const name = fullRecordTypeName(record.profile, record.rmid, record.info).replace(/^Heap2?\//, "");
  if (target === undefined) return name;
  if (target.fork === VISIBILITYMAP_FORKNUM && name !== "VISIBLE") return `${name} map`;
  if (target.blockIndex < 0) return `${name} fsm`;
  return `${name} ${record.blockId[target.blockIndex]}${variantOf(record, name)}`;
}

function variantOf(record: DecodedRecord, name: string): string {
  const { bytes, mainOffset: main } = record;
  if (name === "DELETE") {
    return (bytes[main + 7] & 8) !== 0 ? " super" : (bytes[main + 7] & 16) !== 0 ? " moved" : "";
  }
  if (name.includes("UPDATE") && !name.startsWith("LOCK") && record.blockCount === 1) {
    const flags = bytes[main + 7];
    return ` same page${(flags & 0x20) !== 0 ? " prefix" : ""}${(flags & 0x40) !== 0 ? " suffix" : ""}`;
  }
  if (name.startsWith("PRUNE_")) {
    const flags = bytes[main + 1];
    const parts = PRUNE_PARTS.filter((_, bit) => (flags & (0x10 << bit)) !== 0);
    if ((flags & 4) === 0 && parts.includes("unused")) parts.push("without cleanup lock");
    return parts.map((part) => ` ${part}`).join("");
  }
  return "";
}

interface Judged {
  verdict: Verdict;
  kinds: Map<string, number>;
  /** By resource manager. */
  samples: Map<number, Sample[]>;
  /** Pages of the stopped server that differ from those replayed. */
  differing: string[];
  compared: number;
}

const SAMPLES_PER_KIND = 8;
const runs = new Map<PostgresMajor, Promise<Judged>>();

/** One run of the workload for all tests of a major. */
function judged(major: PostgresMajor): Promise<Judged> {
  let run = runs.get(major);
  if (run === undefined) runs.set(major, run = judge(major));
  return run;
}

async function judge(major: PostgresMajor): Promise<Judged> {
  const kinds = new Map<string, number>();
  const samples = new Map<number, Sample[]>(
    [RM_HEAP_ID, RM_HEAP2_ID, RM_SEQ_ID, RM_SMGR_ID].map((id) => [id, []]),
  );
  const stopped = { differing: [] as string[], compared: 0 };
  const verdict = await judgeWorkload({
    major,
    // Half of the majors with hint bits logged, half without: it decides where VISIBLE sets LSNs.
    checksums: major % 2 === 1,
    run: runHeapWorkload,
    beforeRedo: (page, record, target) => {
      const ofManager = samples.get(record.rmid);
      if (ofManager === undefined) return;
      const kind = kindOf(record, target);
      const seen = (kinds.get(kind) ?? 0) + 1;
      kinds.set(kind, seen);
      // Spread out: the first of a kind are all alike.
      if (seen > SAMPLES_PER_KIND && (seen & (seen - 1)) !== 0) return;
      const bytes = record.bytes.slice(record.start, record.start + record.totalLength);
      const { endLsn } = record;
      ofManager.push({ kind, record: bytes, endLsn, before: page.u8.slice(), ...target });
    },
    inspect: (verdict, dataDir) => compareWithStopped(verdict, dataDir, stopped),
  });
  return { verdict, kinds, samples, ...stopped };
}

/**
 * Compares the heaps and maps of the database with what replay made of them. Beyond what check images can tell, this
 * covers bits of maps that no later record names and PD_ALL_VISIBLE, which PostgreSQL masks.
 */
async function compareWithStopped(
  verdict: Verdict,
  dataDir: string,
  result: { differing: string[]; compared: number },
): Promise<void> {
  const spc = 1663;
  for await (const { name: db } of Deno.readDir(`${dataDir}/base`)) {
    for await (const { name } of Deno.readDir(`${dataDir}/base/${db}`)) {
      const match = /^(\d+)(_vm)?$/.exec(name);
      if (match === null) continue;
      const bytes = await Deno.readFile(`${dataDir}/base/${db}/${name}`);
      const fork = match[2] === undefined ? 0 : VISIBILITYMAP_FORKNUM;
      for (let block = 0; block < bytes.length / BLCKSZ; block++) {
        const expected = Page.from(bytes.subarray(block * BLCKSZ, (block + 1) * BLCKSZ));
        const got = Page.from(verdict.pages!.get(spc, Number(db), Number(match[1]), fork, block).u8);
        if (managerOfPage(expected, block) !== RM_HEAP_ID || expected.isNew() || got.isNew()) continue;
        result.compared++;
        if (!isAlike(got, expected, fork, block)) result.differing.push(`base/${db}/${name} block ${block}`);
      }
    }
  }
}

function isAlike(got: Page, expected: Page, fork: number, block: number): boolean {
  const sameFlag = ((got.flags ^ expected.flags) & PD_ALL_VISIBLE) === 0;
  maskPage(got, RM_HEAP_ID, fork, block);
  maskPage(expected, RM_HEAP_ID, fork, block);
  return sameFlag && got.u32.every((word, index) => word === expected.u32[index]);
}

const test = suite("redo/heap");

for (const major of POSTGRES_MAJORS) {
  test(`redoHeap() and redoHeap2() make every page as PostgreSQL ${major} does`, async () => {
    const { verdict } = await judged(major);
    for (const manager of ["Heap/", "Heap2/", "Sequence/", "Storage/", "XLOG/"]) {
      for (const column of ["different", "errors", "unsupported"] as const) {
        assert.is(verdict.total(column, manager), 0, verdict.report(manager));
      }
    }
    assert.ok(verdict.total("compared", "Heap") > 10_000);
    assert.ok(verdict.total("compared", "Sequence/") > 10);
  });

  test(`replay leaves heaps and visibility maps as a stopped PostgreSQL ${major} does`, async () => {
    const { differing, compared } = await judged(major);
    assert.equal(differing, []);
    assert.ok(compared > 500, `${compared} pages compared`);
  });

  test(`redoHeap() and redoHeap2() have met every case of PostgreSQL ${major}`, async () => {
    const { verdict, kinds } = await judged(major);
    const expected = [...KINDS, ...(major < 17 ? KINDS_OF_14_TO_16 : KINDS_SINCE_17)];
    const met = new Set(kinds.keys());
    for (const [name, counts] of verdict.types) {
      if (counts.blocks === 0 && counts.records > 0) met.add(name.replace(/^Heap2?\//, ""));
    }
    assert.equal(expected.filter((kind) => !met.has(kind)), [], [...met].sort().join("\n"));
  });

  test(`redo of heap, heap2, Sequence and Storage refuses damaged records and pages of PostgreSQL ${major}`, async () => {
    const { samples } = await judged(major);
    const random = seededRandom(`redo/heap ${major}`);
    for (const [rmid, ofManager] of samples) {
      const ofKinds = new Set(ofManager.map((sample) => sample.kind)).size;
      const outcomes = replayMutations(
        random,
        profileOfMajor(major),
        ofManager,
        Math.max(200, 1000 / ofKinds),
      );
      assert.ok(outcomes.corruption + outcomes.unsupported + outcomes.applied >= 1000, `manager ${rmid}`);
      assert.ok(outcomes.corruption > 100 && outcomes.applied > 100, JSON.stringify({ rmid, outcomes }));
    }
  });
}

test.run();
