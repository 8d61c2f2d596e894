/**
 * Both oracles under settings that change what WAL looks like: checksums, compression of page images, no page images at all,
 * logged hint bits, logical WAL, commit timestamps, sizes of WAL segments. Each server combines some of them, so that few
 * servers see most pairs; all run several sessions at once over unlogged tables, tablespaces, rows of 42 columns, keys of
 * 1600 bytes, tuples that fill a page.
 *
 * @module
 */
import { followCluster, judgeStoppedCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type ClusterOptions, type Settings, startCluster } from "../support/postgres.ts";
import { debianPostgresOrSkip, debianServer } from "../support/postgres_debian.ts";
import { runCommand } from "../support/processes.ts";
import { seededRandom } from "../support/random.ts";
import { judgeRedo } from "../support/replay_oracle.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { mixedWorkload } from "../support/workload.ts";

const test = suite("system/variants", { timeoutMs: 180_000, sanitize: false });

/** Seconds of workload per variant. */
const WORKLOAD_SECONDS = 3;

/** What every variant has: WAL that can be judged from its beginning. */
const SETTINGS: Settings = {
  max_prepared_transactions: 20,
  wal_consistency_checking: "all",
  wal_keep_size: "100GB",
  max_wal_size: "10GB",
};

/** Check images double as images to decompress. PostgreSQL 14 knows `on`, which is pglz. */
const VARIANTS: [name: string, options: ClusterOptions][] = [
  ["pglz, wal_level = logical, segments of 1 MiB, checksums", {
    major: 14,
    checksums: true,
    walSegmentSizeMb: 1,
    settings: { wal_compression: "on", wal_level: "logical" },
  }],
  ["pglz, commit timestamps, segments of 1 MiB", {
    major: 16,
    checksums: false,
    walSegmentSizeMb: 1,
    settings: { wal_compression: "pglz", track_commit_timestamp: "on" },
  }],
  ["wal_log_hints = on, wal_level = logical, commit timestamps, segments of 64 MiB", {
    major: 17,
    checksums: false,
    walSegmentSizeMb: 64,
    settings: { wal_log_hints: "on", wal_level: "logical", track_commit_timestamp: "on" },
  }],
  ["pglz, wal_log_hints = on, segments of 64 MiB, checksums", {
    major: 18,
    checksums: true,
    walSegmentSizeMb: 64,
    settings: { wal_compression: "pglz", wal_log_hints: "on" },
  }],
  ["full_page_writes = off, commit timestamps, without check images", {
    major: 18,
    checksums: false,
    settings: { full_page_writes: "off", track_commit_timestamp: "on", wal_consistency_checking: "" },
  }],
];

/** What only a build with these libraries offers. */
const DEBIAN_VARIANTS: [name: string, options: ClusterOptions][] = [
  ["lz4, wal_log_hints = on, commit timestamps, segments of 1 MiB", {
    major: 15,
    checksums: false,
    walSegmentSizeMb: 1,
    settings: { wal_compression: "lz4", wal_log_hints: "on", track_commit_timestamp: "on" },
  }],
  ["zstd, wal_level = logical, segments of 64 MiB, checksums", {
    major: 15,
    checksums: true,
    walSegmentSizeMb: 64,
    settings: { wal_compression: "zstd", wal_level: "logical" },
  }],
];

async function judge(name: string, options: ClusterOptions): Promise<void> {
  const random = seededRandom(`variant ${name}`);
  await using directory = await temporaryDirectory("variant");
  const settings = { ...SETTINGS, ...options.settings };
  await using cluster = await startCluster({ ...options, settings, start: false });
  const baseDir = directory.join("base");
  await runCommand("cp", ["-R", cluster.dataDir, baseDir]);
  await cluster.start();
  const store = await testStore(directory.join("store"));
  const following = await followCluster(cluster, store);
  await mixedWorkload(cluster, { seed: random.seed, seconds: WORKLOAD_SECONDS });
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const result = await judgeStoppedCluster(cluster, store, name);
  assert.is(result.differenceCount, 0);
  assert.is(result.unsupported, 0);
  await store.close();

  const hintBitsLogged = options.checksums === true || settings.wal_log_hints === "on";
  const verdict = judgeRedo({ walDir: `${cluster.dataDir}/pg_wal`, baseDir, hintBitsLogged });
  console.log(
    `${name}: ${verdict.records} records, ${verdict.total("replayed")} replayed, ${
      verdict.total("images")
    } images, ` +
      `${verdict.total("compared")} compared, ${verdict.total("different")} differ`,
  );
  for (const column of ["different", "errors", "unsupported"] as const) {
    assert.is(verdict.total(column), 0, verdict.report());
  }
  if (settings.wal_consistency_checking === "all") assert.ok(verdict.total("compared") > 1000);
}

for (const [name, options] of VARIANTS) {
  test(`both oracles find no difference on PostgreSQL ${options.major}: ${name}`, () => judge(name, options));
}

const debian = await debianPostgresOrSkip((reason) => test.skip(`lz4 and zstd: ${reason}`));
if (debian !== undefined) {
  for (const [name, options] of DEBIAN_VARIANTS) {
    test(`both oracles find no difference on PostgreSQL ${options.major}: ${name}`, () =>
      judge(name, { ...options, server: debianServer(debian) }));
  }
}

test.run();
