/**
 * A ledger of transactions: rows that say which transaction wrote them, and, from WAL, where each of those committed.
 *
 * For who asks whether a cluster as of an LSN shows exactly what was committed by then.
 *
 * @module
 */
import { decodeWal } from "../../src/write/decode.ts";
import { openArchive } from "../../src/write/source/archive.ts";
import type { Lsn } from "../../src/lsn.ts";
import { RM_XACT_ID } from "../../src/postgres/wal/rmgr.ts";
import { DecodedRecord, XLR_RMGR_INFO_MASK } from "../../src/postgres/wal/record.ts";
import { XLOG_XACT_COMMIT, XLOG_XACT_OPMASK } from "../../src/postgres/effects/xact_record.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { segmentDirectory } from "../../src/store/directory_files.ts";
import type { Cluster } from "./postgres.ts";
import { SeededRandom } from "./random.ts";

/** Makes the ledger's table. */
export async function makeLedger(cluster: Cluster): Promise<void> {
  await cluster.exec("CREATE TABLE ledger (xid text, n int); CREATE INDEX ON ledger (xid, n)");
}

/** Writes transactions of several rows, some rolled back, until the signal fires. */
export async function keepLedger(cluster: Cluster, seed: number, signal: AbortSignal): Promise<void> {
  const writers = [0, 1].map(async (writer) => {
    const random = new SeededRandom(seed + writer);
    const session = await cluster.sql().reserve();
    try {
      while (!signal.aborted) {
        await session.unsafe("BEGIN");
        for (let rows = random.int(1, 4); rows > 0; rows--) {
          await session.unsafe(
            `INSERT INTO ledger SELECT pg_current_xact_id()::text, generate_series(1, ${random.int(1, 20)})`,
          );
        }
        await session.unsafe(random.chance(0.2) ? "ROLLBACK" : "COMMIT");
      }
    } finally {
      session.release();
    }
  });
  await Promise.all(writers);
}

/** Transactions whose rows can be seen, as text of their full ids, sorted. */
export async function ledgerOf(cluster: Cluster): Promise<string[]> {
  const rows = await cluster.exec("SELECT DISTINCT xid FROM ledger ORDER BY xid");
  return rows.map((row) => String(row.xid)).sort();
}

/** Where transactions committed, and where records end. */
export interface CommitLog {
  /** End of each commit record, by full transaction id (of epoch 0). */
  readonly commits: ReadonlyMap<string, Lsn>;
  readonly recordEnds: readonly Lsn[];
}

/** Reads the WAL in a stopped server's pg_wal from `start`, a record's start or end, on. */
export async function readCommits(cluster: Cluster, start: Lsn, systemId: string): Promise<CommitLog> {
  const profile = profileOfMajor(cluster.major);
  const commits = new Map<string, Lsn>();
  const recordEnds: Lsn[] = [];
  const { stream, walSegmentSize } = await openArchive({
    directory: segmentDirectory(`${cluster.dataDir}/pg_wal`),
    start,
    tli: 1,
    systemId: BigInt(systemId),
  });
  const record = new DecodedRecord(profile);
  const batches = stream.pipeThrough(
    decodeWal({ profile, walSegmentSize, startLsn: start, endOfWal: "invalid" }),
  );
  for await (const { bytes, count, offsets, endLsns } of batches) {
    for (let index = 0; index < count; index++) {
      const end = endLsns[index] as Lsn;
      recordEnds.push(end);
      record.decode(bytes, offsets[index], end);
      if (
        record.rmid !== RM_XACT_ID ||
        (record.info & XLR_RMGR_INFO_MASK & XLOG_XACT_OPMASK) !== XLOG_XACT_COMMIT
      ) continue;
      commits.set(String(record.xid), end);
    }
  }
  return { commits, recordEnds };
}
