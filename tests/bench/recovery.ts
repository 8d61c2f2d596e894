/**
 * PostgreSQL's own crash recovery of a corpus, timed: what varve's ingest and redo are measured against.
 *
 * The corpus's base is a cleanly stopped directory; its control file is changed to say that the server was running, and
 * the WAL is put into its pg_wal, so that starting the server replays all of it.
 *
 * @module
 */
import {
  CONTROL_FILE_PATH,
  DB_IN_PRODUCTION,
  patchControlFile,
} from "../../src/postgres/files/control_file.ts";
import { startCluster } from "../support/postgres.ts";
import { runCommand } from "../support/processes.ts";
import { scratchDirectory, temporaryDirectory } from "../support/temp.ts";
import type { WalCorpus } from "./wal_corpus.ts";

/** What the server's log said of its redo. */
export interface RecoveryResult {
  elapsedSeconds: number;
  userSeconds: number;
  /** User and system time of the process that replays. */
  cpuSeconds: number;
}

/**
 * Replays the corpus with PostgreSQL; fsync off and 1 GiB of buffers, so that it is the replay that is measured.
 *
 * @param inspect Looks at the data directory as recovery left it, before it is removed.
 */
export async function timeRecovery(
  corpus: WalCorpus,
  inspect?: (dataDir: string) => void,
): Promise<RecoveryResult> {
  await using directory = await temporaryDirectory("recovery");
  const root = await scratchDirectory() === undefined
    ? directory.path
    : await Deno.makeTempDir({ dir: await scratchDirectory() });
  const dataDir = `${root}/adopt`;
  await runCommand("/bin/cp", ["-a", corpus.baseDir, dataDir]);
  await runCommand("/bin/sh", [
    "-c",
    `rm -rf '${dataDir}/pg_wal'; cp -a '${corpus.wal.path}' '${dataDir}/pg_wal'; mkdir -p '${dataDir}/pg_wal/archive_status'`,
  ]);
  const control = await Deno.readFile(`${dataDir}/${CONTROL_FILE_PATH}`);
  await Deno.writeFile(
    `${dataDir}/${CONTROL_FILE_PATH}`,
    patchControlFile(control, { state: DB_IN_PRODUCTION }, corpus.profile),
  );
  await using cluster = await startCluster({
    major: corpus.profile.major,
    dataDir,
    settings: { shared_buffers: "1GB", fsync: "off", max_wal_size: "16GB", checkpoint_timeout: "1h" },
  });
  const log = cluster.logTail(200);
  await cluster.stop("immediate");
  inspect?.(cluster.dataDir);
  await Deno.remove(root, { recursive: true }).catch(() => {});
  const match = /redo done at .*system usage: CPU: user: ([\d.]+) s, system: ([\d.]+) s, elapsed: ([\d.]+) s/
    .exec(log);
  if (match === null) throw new Error(`Cannot find the end of redo in the server's log: ${log}`);
  const [user, system, elapsed] = match.slice(1).map(Number);
  return { elapsedSeconds: elapsed, userSeconds: user, cpuSeconds: user + system };
}
