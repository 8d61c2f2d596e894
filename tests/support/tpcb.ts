/**
 * A load like pgbench's TPC-B: accounts changed at random, tellers, branches, a history that grows.
 *
 * Runs inside the server, a transaction each, so that the machine's time goes to WAL and not to round trips.
 *
 * @module
 */
import type { Cluster } from "./postgres.ts";

export const ACCOUNTS_PER_SCALE = 100_000;

/** Makes the tables. 15 MiB for each step of the scale. */
export async function createTpcb(cluster: Cluster, scale: number): Promise<void> {
  const sql = cluster.sql();
  await sql.unsafe(`
    CREATE TABLE branches (bid int PRIMARY KEY, balance int, filler char(88)) WITH (fillfactor = 90);
    CREATE TABLE tellers (tid int PRIMARY KEY, bid int, balance int, filler char(84)) WITH (fillfactor = 90);
    CREATE TABLE accounts (aid int PRIMARY KEY, bid int, balance int, filler char(84));
    CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    INSERT INTO branches SELECT i, 0, '' FROM generate_series(1, ${scale}) i;
    INSERT INTO tellers SELECT i, 1 + (i - 1) / 10, 0, '' FROM generate_series(1, ${scale * 10}) i;
    INSERT INTO accounts SELECT i, 1, 0, '' FROM generate_series(1, ${scale * ACCOUNTS_PER_SCALE}) i;
    CREATE PROCEDURE work(transactions int) LANGUAGE plpgsql AS $$
    DECLARE a int; t int; d int;
    BEGIN
      FOR n IN 1..transactions LOOP
        a := 1 + floor(random() * ${scale * ACCOUNTS_PER_SCALE});
        t := 1 + floor(random() * ${scale * 10});
        d := floor(random() * 10000) - 5000;
        UPDATE accounts SET balance = balance + d WHERE aid = a;
        UPDATE tellers SET balance = balance + d WHERE tid = t;
        UPDATE branches SET balance = balance + d WHERE bid = 1 + (t - 1) / 10;
        INSERT INTO history VALUES (t, 1 + (t - 1) / 10, a, d, now(), '');
        COMMIT;
      END LOOP;
    END $$`);
}

/** Works until so many bytes of WAL have been written, with a checkpoint after each `checkpointBytes`; returns how many. */
export async function runTpcb(
  cluster: Cluster,
  walBytes: number,
  checkpointBytes: number,
  signal?: AbortSignal,
): Promise<number> {
  const sql = cluster.sql();
  const written = async (since: string) => {
    const [{ bytes }] =
      await sql`SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), ${since})::float8 AS bytes`;
    return bytes as number;
  };
  const [{ lsn }] = await sql`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
  let checkpointAt = checkpointBytes;
  for (;;) {
    const bytes = await written(lsn);
    if (bytes >= walBytes || signal?.aborted === true) return bytes;
    if (bytes >= checkpointAt) {
      await sql`CHECKPOINT`;
      checkpointAt = bytes + checkpointBytes;
    }
    await sql`CALL work(500)`;
  }
}
