/**
 * One judged run of a resource manager's workload for each major, shared by all tests of a file.
 *
 * @module
 */
import { profileOfMajor } from "../../../src/postgres/versions/all.ts";
import type { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { judgeWorkload } from "../../support/judge_workload.ts";
import type { Cluster, PostgresMajor } from "../../support/postgres.ts";
import type { Verdict } from "../../support/replay_oracle.ts";
import { readControlPoints } from "../../support/wal_files.ts";
import { collectSamples, type Sample } from "./record_samples.ts";

export interface ManagerWorkload {
  rmid: number;
  /** Its name in `wal_consistency_checking`. */
  checking: string;
  run: (cluster: Cluster) => Promise<void>;
  /** Names a block reference's case; -1 for a record without any. */
  kindOf: (record: DecodedRecord, blockIndex: number) => string;
}

export interface Judged {
  verdict: Verdict;
  kinds: Map<string, number>;
  samples: Sample[];
}

/** A function that runs the workload on a major's server the first time, and keeps the verdict. */
export function judgedOnce(workload: ManagerWorkload): (major: PostgresMajor) => Promise<Judged> {
  const runs = new Map<PostgresMajor, Promise<Judged>>();
  return (major) => {
    let run = runs.get(major);
    if (run === undefined) runs.set(major, run = judge(major, workload));
    return run;
  };
}

async function judge(
  major: PostgresMajor,
  { rmid, checking, run, kindOf }: ManagerWorkload,
): Promise<Judged> {
  let collected: { kinds: Map<string, number>; samples: Sample[] } | undefined;
  const verdict = await judgeWorkload({
    major,
    settings: { wal_consistency_checking: checking },
    run: async (cluster) => {
      const start = readControlPoints(cluster.dataDir).redoLsn;
      await run(cluster);
      await cluster.stop();
      collected = collectSamples(`${cluster.dataDir}/pg_wal`, start, profileOfMajor(major), rmid, kindOf);
    },
  });
  return { verdict, ...collected! };
}
