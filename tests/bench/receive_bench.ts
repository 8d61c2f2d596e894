/**
 * Receiving WAL from a running server: varve's source beside pg_receivewal, one after the other on the same server.
 *
 * @module
 */
import { postgresSource } from "../../src/deps/postgres_source.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { DEFAULT_WAL_SEGMENT_SIZE, type Lsn, parseLsn } from "../../src/lsn.ts";
import { resolveConnection } from "../../src/write/source/connection_options.ts";
import { openReplication } from "../../src/write/source/replication.ts";
import { startCluster } from "../support/postgres.ts";
import { debianPostgres } from "../support/postgres_debian.ts";
import { runCommand } from "../support/processes.ts";
import { temporaryDirectory } from "../support/temp.ts";

const MIB = 1024 * 1024;
const RUNS = 3;

/** Prints MiB/s of both and their ratio. */
export async function receiveBench(megabytes = 400): Promise<void> {
  const programs = await debianPostgres(15);
  if (programs === undefined) {
    return console.log("receive: skipped, needs Debian's postgresql-15 for pg_receivewal");
  }
  await using directory = await temporaryDirectory("receive-bench");
  await using cluster = await startCluster({
    major: 15,
    checksums: false,
    settings: { wal_keep_size: "8GB", max_wal_size: "8GB" },
  });
  const sql = cluster.sql();
  await sql`SELECT pg_switch_wal()`;
  // One slot a run: pg_receivewal begins at the start of the segment that its slot holds.
  // The first run warms up the disk and does not count.
  for (let run = 0; run <= RUNS; run++) {
    await sql`SELECT pg_create_physical_replication_slot(${`run${run}`}, true)`;
  }
  const [{ start }] = await sql`SELECT min(restart_lsn)::text AS start FROM pg_replication_slots`;
  for (let chunk = 0; chunk < megabytes / 4; chunk++) {
    await sql`SELECT pg_logical_emit_message(false, 'bench', repeat('x', 4000000))`;
  }
  const [{ end }] = await sql`SELECT pg_switch_wal(), pg_current_wal_flush_lsn()::text AS end`;
  const endLsn = parseLsn(end);
  const startLsn = parseLsn(start) - parseLsn(start) % DEFAULT_WAL_SEGMENT_SIZE as Lsn;
  const connection = await resolveConnection({ url: cluster.replicationUrl });
  const ratios: number[] = [];
  // The first run warms up the disk and does not count.
  for (let run = 0; run <= RUNS; run++) {
    const theirs = await timed(() =>
      runCommand(programs.program("pg_receivewal"), [
        "-D",
        directory.path,
        "-h",
        cluster.host,
        "-p",
        String(cluster.port),
        "-U",
        cluster.user,
        "--endpos",
        end,
        "--no-sync",
        "--no-loop",
        "--slot",
        `run${run}`,
      ])
    );
    for await (const entry of Deno.readDir(directory.path)) {
      await Deno.remove(`${directory.path}/${entry.name}`);
    }
    const ours = await timed(async () => {
      let received: Lsn = startLsn;
      const abort = new AbortController();
      const stream = openReplication({
        ...postgresSource,
        connection,
        clock: systemClock,
        lastRecordLsn: startLsn,
        positions: { processed: () => received, durable: () => received },
        signal: abort.signal,
      });
      for await (const chunk of stream) {
        received = chunk.startLsn + chunk.data.length as Lsn;
        if (received >= endLsn) break;
      }
    });
    const bytes = endLsn - startLsn;
    console.log(
      `pg_receivewal ${(bytes / MIB / theirs).toFixed(0)} MiB/s, varve ${
        (bytes / MIB / ours).toFixed(0)
      } MiB/s`,
    );
    if (run > 0) ratios.push(theirs / ours);
  }
  ratios.sort((left, right) => left - right);
  console.log(
    `receive, varve / pg_receivewal: ${
      ratios.map((ratio) => ratio.toFixed(2)).join(", ")
    } (pg_receivewal also writes files, unsynced)`,
  );
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
}

if (import.meta.main) await receiveBench();
