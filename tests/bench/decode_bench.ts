/**
 * Decoding beside `pg_waldump --stats=record`, on the same WAL, taking turns in one run:
 *
 * ```
 * deno run -A tests/bench/decode_bench.ts [--transactions 200000] [--runs 7] [--chunk 131072]
 * ```
 *
 * Both read the segments from files (in the page cache), check every CRC, decode every record's headers and count
 * records, lengths and images by type; the counts must be equal. One thread each. pg_waldump is a process of its own, and
 * its start is part of its time, as ours is not: a few milliseconds.
 *
 * @module
 */
import { parseArgs } from "node:util";
import process from "node:process";
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import { WalAssembler } from "../../src/postgres/wal/assembler.ts";
import { DecodedRecord } from "../../src/postgres/wal/record.ts";
import { WalStatistics } from "../../src/postgres/wal/statistics.ts";
import { type DebianPostgres, debianPostgres } from "../support/postgres_debian.ts";
import { readWalReusing } from "../support/wal_files.ts";
import { type WalCorpus, walCorpus } from "./wal_corpus.ts";

const MIB = 1024 * 1024;

interface DecodeOptions {
  verifyCrc: boolean;
  chunk: number;
}

/** Decodes the whole corpus as decode and ingest do, and returns pg_waldump's table. */
function decode(corpus: WalCorpus, { verifyCrc, chunk }: DecodeOptions): string {
  const { profile, startLsn, wal } = corpus;
  const assembler = new WalAssembler({
    startLsn,
    profile,
    walSegmentSize: wal.walSegmentSize,
    endOfWal: "invalid",
    verifyCrc,
  });
  const record = new DecodedRecord(profile);
  const statistics = new WalStatistics(profile);
  let first = 0;
  for (const piece of readWalReusing(wal, startLsn, chunk)) {
    const batch = assembler.push(piece.startLsn, piece.data);
    if (batch === null) continue;
    if (first === 0) first = batch.startLsns[0];
    for (let index = 0; index < batch.count; index++) {
      record.decode(batch.bytes, batch.offsets[index], batch.endLsns[index] as Lsn);
      statistics.add(record);
    }
    if (assembler.atEnd !== null) break;
  }
  return statistics.format(first as Lsn, assembler.endLsn, true);
}

async function waldump(corpus: WalCorpus, debian: DebianPostgres): Promise<string> {
  const { stdout } = await debian.run("pg_waldump", [
    "--stats=record",
    `--path=${corpus.wal.path}`,
    `--start=${formatLsn(corpus.startLsn)}`,
    `--end=${formatLsn(corpus.endLsn)}`,
  ]);
  return stdout;
}

/** Elapsed milliseconds, and for our own work those on a processor: what counts where others use the machine too. */
interface Timing {
  elapsed: number[];
  cpu: number[];
}

async function timed<T>(timing: Timing, run: () => T | Promise<T>): Promise<T> {
  const began = performance.now();
  const before = process.cpuUsage();
  const result = await run();
  timing.elapsed.push(performance.now() - began);
  const { user, system } = process.cpuUsage(before);
  timing.cpu.push((user + system) / 1000);
  return result;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

const { values: options } = parseArgs({
  options: {
    transactions: { type: "string", default: "200000" },
    runs: { type: "string", default: "7" },
    chunk: { type: "string", default: "131072" },
  },
});
const runs = Number(options.runs);
const chunk = Number(options.chunk);
const corpus = await walCorpus({ transactions: Number(options.transactions) });
const debian = await debianPostgres();
if (debian === undefined) console.log("pg_waldump is not installed: varve runs alone");

const bytes = corpus.endLsn - corpus.startLsn;
console.log(
  `${corpus.records} records, ${(bytes / MIB).toFixed(0)} MiB of WAL, chunks of ${chunk} bytes, ${runs} runs`,
);

const timings: Record<string, Timing> = {};
const timing = (name: string) => timings[name] ??= { elapsed: [], cpu: [] };
for (let run = -1; run < runs; run++) {
  // The first round warms caches and the compiler.
  const at = (name: string) => run < 0 ? { elapsed: [], cpu: [] } : timing(name);
  const theirs = debian && await timed(at("pg_waldump --stats=record"), () => waldump(corpus, debian));
  const ours = await timed(at("varve"), () => decode(corpus, { verifyCrc: true, chunk }));
  await timed(at("varve, CRC unchecked"), () => decode(corpus, { verifyCrc: false, chunk }));
  if (theirs !== undefined && theirs !== ours) throw new Error(`The counts differ:\n${theirs}\n${ours}`);
}

const reference = timings["pg_waldump --stats=record"];
console.log(
  "".padEnd(28) +
    ["ms", "best ms", "cpu ms", "MiB/s", "M rec/s", "ratio"].map((head) => head.padStart(10)).join(""),
);
for (const [name, { elapsed, cpu }] of Object.entries(timings)) {
  const ms = median(elapsed);
  const cells = [
    ms.toFixed(0),
    Math.min(...elapsed).toFixed(0),
    name.startsWith("varve") ? median(cpu).toFixed(0) : "",
    (bytes / MIB / ms * 1000).toFixed(0),
    (corpus.records / ms / 1000).toFixed(2),
    reference === undefined ? "" : `${(median(reference.elapsed) / ms).toFixed(2)}x`,
  ];
  console.log(name.padEnd(28) + cells.map((cell) => cell.padStart(10)).join(""));
}
if (debian !== undefined) {
  console.log("The counts by record type are equal. ratio: speed relative to pg_waldump's.");
}
