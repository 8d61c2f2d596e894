/**
 * Restore beside PostgreSQL's own ways, on one TPC-B-like history:
 * - time to a started server as of an LSN in the middle of WAL: `restore()` against a copied base backup whose archived
 *   WAL is replayed to `recovery_target_lsn`;
 * - bytes per second of a whole directory: `restore()` as of the end against `pg_basebackup` of a server with the same data.
 *
 * `deno run -A tests/bench/restore_bench.ts [--scale 10] [--transactions 1000000] [--rounds 3] [--disk]`
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import { attachReader } from "../../src/read/attach.ts";
import { restore } from "../../src/restore/restore.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { FilesStore } from "../../src/store/files.ts";
import { restoreDirectory } from "../../src/store/restore_directory.ts";
import { importTimeline } from "../../src/varve.ts";
import { startCluster } from "../support/postgres.ts";
import { debianPostgres } from "../support/postgres_debian.ts";
import { postgresBinaries } from "../support/postgres_binaries.ts";
import { runCommand } from "../support/processes.ts";
import { removeTree, scratchDirectory } from "../support/temp.ts";
import { walCorpus } from "./wal_corpus.ts";

/** An odd number: the LSN in the middle is not one at which images were made. */
const UPKEEP_ROUNDS = 5;

function option(name: string, fallback: number): number {
  const at = Deno.args.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(Deno.args[at + 1]);
}

const ROUNDS = option("rounds", 3);
const transactions = option("transactions", 1_000_000);
const scale = option("scale", 10);
const corpus = await walCorpus({ scale, transactions });
const { major } = corpus.profile;
const root = await Deno.realPath(
  await Deno.makeTempDir({
    prefix: "varve-restore-bench-",
    dir: Deno.args.includes("--disk") ? undefined : await scratchDirectory(),
  }),
);
try {
  await Deno.chmod(root, 0o755);
  await main();
} finally {
  await removeTree(root);
}

async function main(): Promise<void> {
  const walBytes = corpus.endLsn - corpus.startLsn;
  const middle = Math.floor((corpus.startLsn + walBytes / 2) / 8) * 8 as Lsn;
  console.log(
    `PostgreSQL ${major} scale ${scale}, ${(walBytes / 2 ** 20).toFixed(0)} MiB of WAL; LSN ${
      formatLsn(middle)
    } in its middle`,
  );
  // The server's user may read it.
  await runCommand("/bin/sh", [
    "-c",
    `cp -r '${corpus.wal.path}' '${root}/archive' && chmod -R a+rX '${root}/archive'`,
  ]);
  const raw = await makeStore("raw", 0);
  const store = await makeStore("kept", UPKEEP_ROUNDS);
  const [plain, ours, theirs, rates, backups]: number[][] = [[], [], [], [], []];
  for (let round = 0; round < ROUNDS; round++) {
    plain.push(await timeRestored(raw, middle));
    ours.push(await timeRestored(store, middle));
    theirs.push(await timeRecovered(middle));
  }
  await raw.close();
  report("to a started server, varve restore, no upkeep", plain, "s");
  report("to a started server, varve restore", ours, "s");
  report("to a started server, base backup and WAL", theirs, "s");
  console.log(
    `  ratio ${(best(theirs) / best(ours)).toFixed(2)} (2 wanted), without upkeep ${
      (best(theirs) / best(plain)).toFixed(2)
    }`,
  );
  await upkeep("all");
  for (let round = 0; round < ROUNDS; round++) rates.push(await rateOfRestore(store));
  backups.push(...await ratesOfBaseBackup(store));
  report("whole directory, varve restore", rates, "MB/s");
  report("whole directory, pg_basebackup", backups, "MB/s");
  if (backups.length > 0) {
    console.log(`  ratio ${(Math.max(...rates) / Math.max(...backups)).toFixed(2)} (0.8 wanted)`);
  }
  await store.close();
}

function best(values: number[]): number {
  return Math.min(...values);
}

function report(what: string, values: number[], unit: string): void {
  const shown = values.length === 0
    ? "not measured"
    : values.map((value) => value.toFixed(unit === "s" ? 2 : 0)).join(", ");
  console.log(`  ${what.padEnd(46)} ${shown} ${unit}`);
}

/** Imports the corpus; in equal parts, with upkeep after each, as a follower does it along the way. */
async function makeStore(name: string, upkeepRounds: number): Promise<FilesStore> {
  const store = await FilesStore.open({ path: `${root}/${name}`, fsync: false });
  const parts = Math.max(1, upkeepRounds);
  for (let part = 1; part <= parts; part++) {
    const importing = await importTimeline({
      store,
      clock: systemClock,
      base: backupDirectory(corpus.baseDir),
      wal: segmentDirectory(corpus.wal.path),
      checkpointDistance: 256 * 2 ** 20,
      until: part === parts
        ? undefined
        : Math.floor(corpus.startLsn + (corpus.endLsn - corpus.startLsn) * part / parts) as Lsn,
    });
    await importing.follower.done;
    await importing.close();
    if (upkeepRounds > 0) await upkeep("due");
  }
  return store;
}

async function upkeep(images: "due" | "all"): Promise<void> {
  const cli = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  await runCommand(Deno.execPath(), [
    ...["run", "-A", "--no-check", cli, "compact"],
    ...["--store", `file://${root}/kept`],
    ...["--images", images, "--compress", "none"],
  ]);
}

function elapsed(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}

async function restoreTo(store: FilesStore, lsn: Lsn | "latest", path: string) {
  const { user } = await postgresBinaries(major);
  const owner = user.uid === undefined ? undefined : { uid: user.uid, gid: user.gid ?? 0 };
  const attached = await attachReader({ store, clock: systemClock });
  const target = await restoreDirectory(path, { fsync: false, owner });
  const at = lsn === "latest" ? attached.timeline.lastRecordLsn : lsn;
  const summary = await restore(attached, at, target, { clock: systemClock, store });
  await attached.close();
  return summary;
}

async function timeRestored(store: FilesStore, lsn: Lsn): Promise<number> {
  const startMs = performance.now();
  await restoreTo(store, lsn, `${root}/restored`);
  await using cluster = await startCluster({ major, dataDir: `${root}/restored` });
  await cluster.exec("SELECT count(*) FROM branches");
  return elapsed(startMs);
}

/** PostgreSQL's point-in-time recovery, with as much memory as is sensible and no fsync. */
async function timeRecovered(lsn: Lsn): Promise<number> {
  const startMs = performance.now();
  const dataDir = `${root}/recovered`;
  await runCommand("/bin/cp", ["-a", corpus.baseDir, dataDir]);
  await runCommand("/bin/sh", [
    "-c",
    `rm -rf '${dataDir}/pg_wal'; mkdir -p '${dataDir}/pg_wal/archive_status'`,
  ]);
  await Deno.writeTextFile(`${dataDir}/recovery.signal`, "");
  await using cluster = await startCluster({
    major,
    dataDir,
    settings: {
      shared_buffers: "1GB",
      fsync: "off",
      max_wal_size: "16GB",
      checkpoint_timeout: "1h",
      restore_command: `cp ${root}/archive/%f %p 2>/dev/null`,
      recovery_target_lsn: formatLsn(lsn),
      recovery_target_action: "promote",
    },
  });
  for (;;) {
    const [{ recovering }] = await cluster.exec("SELECT pg_is_in_recovery() AS recovering");
    if (!recovering) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await cluster.exec("SELECT count(*) FROM branches");
  return elapsed(startMs);
}

async function rateOfRestore(store: FilesStore): Promise<number> {
  const startMs = performance.now();
  const summary = await restoreTo(store, "latest", `${root}/restored`);
  const rate = summary.bytes / 1e6 / elapsed(startMs);
  await removeTree(`${root}/restored`);
  return rate;
}

/** Of a server on the restored directory, with the data in its page cache as varve's layers are. */
async function ratesOfBaseBackup(store: FilesStore): Promise<number[]> {
  const debian = await debianPostgres(major);
  if (debian === undefined) return [];
  const summary = await restoreTo(store, "latest", `${root}/restored`);
  await using cluster = await startCluster({ major, dataDir: `${root}/restored` });
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now();
    await debian.run("pg_basebackup", [
      ...["-h", cluster.host, "-p", String(cluster.port), "-U", cluster.user],
      ...["-D", `${root}/backup`, "-X", "none", "--checkpoint=fast", "--no-sync"],
    ]);
    rates.push(summary.pages * 8192 / 1e6 / elapsed(startMs));
    await removeTree(`${root}/backup`);
  }
  return rates;
}
