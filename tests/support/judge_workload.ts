/**
 * Runs a workload on a real server that puts check images behind every record, then has redo judged by them.
 *
 * @module
 */
import { type JudgeOptions, judgeRedo, type Verdict } from "./replay_oracle.ts";
import { type Cluster, type PostgresMajor, type Settings, startCluster } from "./postgres.ts";
import { runCommand } from "./processes.ts";
import { temporaryDirectory } from "./temp.ts";

export interface JudgeWorkloadOptions {
  major: PostgresMajor;
  /** What the server is to do. It may restart the server, not more. */
  run: (cluster: Cluster) => Promise<void>;
  /** Changes the data directory before anything is replayed on it. */
  prepare?: (cluster: Cluster) => Promise<void>;
  /** Data checksums. Default: true. */
  checksums?: boolean;
  settings?: Settings;
  walSegmentSizeMb?: number;
  /** Differences kept per record type. Default: 3. */
  keep?: number;
  /** See `JudgeOptions`. */
  beforeRedo?: JudgeOptions["beforeRedo"];
  onRecord?: JudgeOptions["onRecord"];
  /** Sees the verdict and the stopped server's data directory before that is removed. */
  inspect?: (verdict: Verdict, dataDir: string) => void | Promise<void>;
  /** Keeps a copy of WAL and base directory here, for a closer look. */
  saveTo?: string;
}

/**
 * Settings that make a server testify: check images everywhere, and with full-page writes off none that spare redo its
 * work; all WAL is kept, and nothing runs that the workload did not ask for.
 */
export const JUDGE_SETTINGS: Settings = {
  wal_consistency_checking: "all",
  full_page_writes: "off",
  wal_keep_size: "100GB",
  max_wal_size: "50GB",
  checkpoint_timeout: "1h",
  autovacuum: "off",
};

/** Runs the workload and judges all of its WAL. */
export async function judgeWorkload(options: JudgeWorkloadOptions): Promise<Verdict> {
  await using scratch = await temporaryDirectory("judge");
  await using cluster = await startCluster({
    major: options.major,
    checksums: options.checksums,
    walSegmentSizeMb: options.walSegmentSizeMb,
    settings: { ...JUDGE_SETTINGS, ...options.settings },
    start: false,
  });
  await options.prepare?.(cluster);
  const baseDir = scratch.join("base");
  await runCommand("cp", ["-R", cluster.dataDir, baseDir]);
  await cluster.start();
  await options.run(cluster);
  await cluster.stop();
  const walDir = `${cluster.dataDir}/pg_wal`;
  if (options.saveTo !== undefined) {
    await Deno.mkdir(options.saveTo, { recursive: true });
    await runCommand("cp", ["-R", baseDir, walDir, options.saveTo]);
  }
  const hintBitsLogged = (options.checksums ?? true) || options.settings?.wal_log_hints === "on";
  const verdict = judgeRedo({
    walDir,
    baseDir,
    hintBitsLogged,
    keep: options.keep,
    beforeRedo: options.beforeRedo,
    onRecord: options.onRecord,
  });
  await options.inspect?.(verdict, cluster.dataDir);
  return verdict;
}
