/**
 * WAL to measure on: a TPC-B-like load as pgbench has it, run inside a real server, kept in the cache.
 *
 * The transactions are pgbench's (three updates, one select, one insert), called from a procedure that commits each, so
 * that no client program is needed and generating takes seconds. Checkpoints are left to the server's defaults but for
 * the size of WAL: each page's first change is a page image, more than half of all bytes.
 *
 * @module
 */
import type { Lsn } from "../../src/lsn.ts";
import type { VersionProfile } from "../../src/postgres/versions/profile.ts";
import { segmentFileName, segmentNumber } from "../../src/postgres/wal/segment.ts";
import { cached, sharedCacheDirectory } from "../support/cache.ts";
import { type PostgresMajor, type Settings, startCluster } from "../support/postgres.ts";
import { runCommand } from "../support/processes.ts";
import {
  openWalDirectory,
  profileOfDataDirectory,
  readControlPoints,
  readRecords,
  type WalDirectory,
} from "../support/wal_files.ts";

export interface CorpusOptions {
  /** Default: 15, whose pg_waldump Debian has. */
  major?: PostgresMajor;
  /** Branches; each has 100,000 accounts (13 MB). Default: 10. */
  scale?: number;
  /** Concurrent sessions. Default: 4. */
  sessions?: number;
  /** Transactions of all sessions. Default: 200,000 (about 200 MB of WAL). */
  transactions?: number;
  /** Further settings; part of the corpus's identity. */
  settings?: Settings;
  checksums?: boolean;
}

/** A corpus on disk. Nobody writes to it. */
export interface WalCorpus {
  /** The data directory at rest, right before the WAL begins. */
  baseDir: string;
  wal: WalDirectory;
  profile: VersionProfile;
  /** Start of the first record: replay of `baseDir` begins here. */
  startLsn: Lsn;
  /** End of the last record. */
  endLsn: Lsn;
  records: number;
  /** Data checksums are on. */
  hintBitsLogged: boolean;
}

const SCHEMA = `
  CREATE TABLE branches (bid int PRIMARY KEY, bbalance int, filler char(88));
  CREATE TABLE tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
  CREATE TABLE accounts (aid int, bid int, abalance int, filler char(84)) WITH (fillfactor = 100);
  CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
  CREATE PROCEDURE tpcb(scale int, transactions int) LANGUAGE plpgsql AS $body$
  DECLARE a int; b int; t int; d int; balance int;
  BEGIN
    FOR i IN 1..transactions LOOP
      a := 1 + floor(random() * 100000 * scale);
      b := 1 + floor(random() * scale);
      t := 1 + floor(random() * 10 * scale);
      d := floor(random() * 10000) - 5000;
      UPDATE accounts SET abalance = abalance + d WHERE aid = a;
      SELECT abalance INTO balance FROM accounts WHERE aid = a;
      UPDATE tellers SET tbalance = tbalance + d WHERE tid = t;
      UPDATE branches SET bbalance = bbalance + d WHERE bid = b;
      INSERT INTO history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, now());
      COMMIT;
    END LOOP;
  END $body$`;

/** Finds or generates the corpus with these options. */
export async function walCorpus(options: CorpusOptions = {}): Promise<WalCorpus> {
  const { major = 15, scale = 10, sessions = 4, transactions = 200_000, settings = {}, checksums = false } =
    options;
  const extra = Object.entries(settings).map(([name, value]) => `-${name}_${value}`).join("").replace(
    /[^\w-]/g,
    "",
  );
  const name = `tpcb-${major}-${scale}x${transactions}-${sessions}${checksums ? "-sums" : ""}${extra}`;
  const path = await cached(`${sharedCacheDirectory()}/wal/${name}`, async (directory) => {
    await generate(directory, { major, scale, sessions, transactions, settings, checksums });
  });
  return openCorpus(path, checksums);
}

export function openCorpus(path: string, hintBitsLogged: boolean): WalCorpus {
  const baseDir = `${path}/base`;
  const wal = openWalDirectory(`${path}/pg_wal`);
  const profile = profileOfDataDirectory(baseDir);
  const startLsn = readControlPoints(baseDir).redoLsn;
  const { endLsn, records } = JSON.parse(Deno.readTextFileSync(`${path}/corpus.json`));
  return { baseDir, wal, profile, startLsn, endLsn, records, hintBitsLogged };
}

async function generate(directory: string, options: Required<CorpusOptions>): Promise<void> {
  const { major, scale, sessions, transactions, settings, checksums } = options;
  await using cluster = await startCluster({
    major,
    checksums,
    onDisk: true,
    settings: {
      shared_buffers: "256MB",
      max_wal_size: "100GB",
      wal_keep_size: "100GB",
      wal_recycle: "off",
      synchronous_commit: "off",
      ...settings,
    },
  });
  await cluster.exec(SCHEMA);
  await cluster.exec(`
    INSERT INTO branches SELECT i, 0, '' FROM generate_series(1, ${scale}) i;
    INSERT INTO tellers SELECT i, (i - 1) / 10 + 1, 0, '' FROM generate_series(1, 10 * ${scale}) i;
    INSERT INTO accounts SELECT i, (i - 1) / 100000 + 1, 0, '' FROM generate_series(1, 100000 * ${scale}) i;
    ALTER TABLE accounts ADD PRIMARY KEY (aid)`);
  await cluster.exec("VACUUM ANALYZE");
  await cluster.stop();
  await runCommand("cp", ["-R", cluster.dataDir, `${directory}/base`]);
  await Deno.remove(`${directory}/base/pg_wal`, { recursive: true });
  await cluster.start();
  const share = Math.ceil(transactions / sessions);
  await Promise.all(Array.from({ length: sessions }, () => cluster.exec(`CALL tpcb(${scale}, ${share})`)));
  await cluster.stop();
  const startLsn = readControlPoints(`${directory}/base`).redoLsn;
  await keepSegmentsFrom(`${cluster.dataDir}/pg_wal`, `${directory}/pg_wal`, startLsn);
  let [endLsn, records] = [0, 0];
  const profile = profileOfDataDirectory(`${directory}/base`);
  for (const batch of readRecords(openWalDirectory(`${directory}/pg_wal`), startLsn, profile)) {
    endLsn = batch.endLsn;
    records += batch.count;
  }
  await Deno.writeTextFile(`${directory}/corpus.json`, JSON.stringify({ endLsn, records }));
}

/** Copies the segments that hold WAL from `startLsn` on. */
export async function keepSegmentsFrom(from: string, to: string, startLsn: Lsn): Promise<void> {
  await Deno.mkdir(to);
  const { walSegmentSize } = openWalDirectory(from);
  const first = segmentFileName(1, segmentNumber(startLsn, walSegmentSize), walSegmentSize);
  for (const { name } of Deno.readDirSync(from)) {
    if (/^[0-9A-F]{24}$/.test(name) && name >= first) await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
  }
}

if (import.meta.main) {
  const began = performance.now();
  const corpus = await walCorpus({ transactions: Number(Deno.args[0] ?? 200_000) });
  console.log(
    corpus.wal.path,
    corpus.records,
    "records",
    corpus.endLsn - corpus.startLsn,
    "bytes",
    Math.round(performance.now() - began),
    "ms",
  );
}
