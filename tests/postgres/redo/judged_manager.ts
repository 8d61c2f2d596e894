/**
 * One judged run of a resource manager's workload for each major, shared by all tests of a file.
 *
 * Two judges: the check image behind every record, and at the end the stopped server's files.
 *
 * @module
 */
import { maskPage } from "../../../src/postgres/page/masks.ts";
import { BLCKSZ, Page } from "../../../src/postgres/page/page.ts";
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
  /** The first and last of the ids that its pages end with. */
  pageIds: readonly [number, number];
  /** Blanks what of a page the server changes without WAL, beyond PostgreSQL's own masks. */
  blank?: (page: Page, block: number) => void;
}

export interface Judged {
  verdict: Verdict;
  kinds: Map<string, number>;
  samples: Sample[];
  stopped: { compared: number; differences: string[] };
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

async function judge(major: PostgresMajor, workload: ManagerWorkload): Promise<Judged> {
  let collected: { kinds: Map<string, number>; samples: Sample[] } | undefined;
  let stopped: Judged["stopped"] | undefined;
  const verdict = await judgeWorkload({
    major,
    settings: { wal_consistency_checking: workload.checking },
    run: async (cluster) => {
      const start = readControlPoints(cluster.dataDir).redoLsn;
      await workload.run(cluster);
      await cluster.stop();
      const walDir = `${cluster.dataDir}/pg_wal`;
      collected = collectSamples(walDir, start, profileOfMajor(major), workload.rmid, workload.kindOf);
    },
    inspect: (verdict, dataDir) => {
      stopped = compareWithFiles(verdict, dataDir, workload);
    },
  });
  return { verdict, ...collected!, stopped: stopped! };
}

/** Every page of the manager in the stopped server's files, but for unlogged relations, against what replay left. */
function compareWithFiles(verdict: Verdict, dataDir: string, workload: ManagerWorkload): Judged["stopped"] {
  const result: Judged["stopped"] = { compared: 0, differences: [] };
  const pages = verdict.pages!;
  for (const { name: db } of Deno.readDirSync(`${dataDir}/base`)) {
    if (!/^\d+$/.test(db)) continue;
    const names = new Set([...Deno.readDirSync(`${dataDir}/base/${db}`)].map((entry) => entry.name));
    for (const rel of names) {
      if (!/^\d+$/.test(rel) || names.has(`${rel}_init`)) continue;
      const bytes = Deno.readFileSync(`${dataDir}/base/${db}/${rel}`);
      for (let block = 0; (block + 1) * BLCKSZ <= bytes.length; block++) {
        const expected = Page.from(bytes.subarray(block * BLCKSZ, (block + 1) * BLCKSZ));
        const id = expected.u16[BLCKSZ / 2 - 1];
        const isOwn = expected.specialSize() === 8 && id >= workload.pageIds[0] && id <= workload.pageIds[1];
        if (!isOwn) continue;
        const got = Page.from(pages.get(DEFAULTTABLESPACE_OID, Number(db), Number(rel), 0, block).u8);
        for (const page of [got, expected]) {
          maskPage(page, workload.rmid, 0, block);
          workload.blank?.(page, block);
        }
        const at = expected.u8.findIndex((byte, offset) => byte !== got.u8[offset]);
        if (at >= 0) result.differences.push(`${db}/${rel} block ${block} at ${at}`);
        result.compared++;
      }
    }
  }
  return result;
}

const DEFAULTTABLESPACE_OID = 1663;
